# SPDX-License-Identifier: GPL-2.0
# Draw a group of bars for each workload, with a bar for each peer. The caller sets format, data, image, heading and metric.
# The first line of data names the columns: workload, then the peers that were measured.
header = system("head -n 1 ".data)
peers = words(header) - 1
groups = int(system("wc -l <".data)) - 1
added = (metric eq 'added_instructions_per_op')

bars = groups * peers
width = 300 + 18 * bars + 40 * groups
if (width < 700) width = 700
if (width > 1500) width = 1500
if (format eq 'svg') set terminal svg size width,540 font 'sans,13' background 'white'; \
else set terminal pngcairo size width,540 font 'sans,10'
set output image

# A peer has the same colour everywhere.
colour(p) = p eq 'overlayfs' ? '#7f8fa6' : p eq 'fuse' ? '#e1812c' : p eq 'fuse-writeback' ? '#f5c28c' : \
	p eq 'passthrough' ? '#2a9d4a' : p eq 'passthrough-inode' ? '#1f6f8b' : '#8e5ea2'
# Added instructions range from hundreds to a hundred thousand: use a logarithmic axis, on which no bar is below 11.
drawn(v) = added && v < 11 ? 11 : v
said(v) = !added ? sprintf('%.2f', v) : abs(v) >= 10000 ? sprintf('%.0fk', v / 1000) : sprintf('%.0f', v)
at(i) = (i - (peers + 1) / 2.0) / (peers + 1)

set title heading noenhanced
set style data histograms
set style histogram clustered gap 1
set style fill solid 1 noborder
set key outside top center horizontal noenhanced autotitle columnheader
set xtics rotate by -35 noenhanced scale 0
set xrange [-0.6:groups - 0.4]
# Leave room for the names, which gnuplot does not reserve by itself.
set bmargin 10
set rmargin 16
set grid ytics
set border 3
set tics nomirror
set datafile missing '?'
set datafile separator '\t'
if (added) {
	set logscale y
	set yrange [10:*]
	set offsets 0, 0, graph 0.1, 0
	set ylabel 'instructions per operation (logarithmic)'
} else {
	set yrange [0:*]
	set offsets 0, 0, graph 0.1, 0
	set ylabel 'part of the speed of the lower file system'
	set arrow from graph 0, first 1 to graph 1, first 1 nohead dashtype 2 linewidth 1 linecolor 'black'
}
plot for [i = 1:peers] data using (drawn(column(i + 1))):xtic(1) linecolor rgb colour(word(header, i + 1)) title word(header, i + 1), \
	for [i = 1:peers] data using ($0 + at(i)):(drawn(column(i + 1))):(said(column(i + 1))) \
		with labels rotate by 90 left offset 0,0.3 font ',9' notitle
