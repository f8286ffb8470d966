# SPDX-License-Identifier: GPL-2.0
# A group of bars for each workload, a bar for each peer. Set by the caller: format, data, image, heading, unit.
if (format eq 'svg') set terminal svg size 1000,500 background 'white'; else set terminal pngcairo size 1000,500
set output image
set title heading
set ylabel unit
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set key outside right top noenhanced
set xtics rotate by -30 noenhanced
set grid ytics
set datafile missing '-'
set datafile separator '\t'
# What is added ranges from tens to a hundred thousand instructions.
if (unit eq 'added instructions per op') set logscale y; set yrange [10:*]; else set yrange [0:*]
plot for [i=2:6] data using i:xtic(1) title columnheader(i)
