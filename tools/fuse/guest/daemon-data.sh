# SPDX-License-Identifier: GPL-2.0
# Data: which opens pass through, and what clients read and write. Sourced by daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

# Data written through the mount is in the lower file at once, and vice versa, without READ and WRITE.
t_read_write() {
	dd if=/dev/urandom of=$M/data bs=4k count=200 status=none
	cmp $M/data $L/data
	dd if=/dev/zero of=$L/data bs=4k seek=7 count=1 conv=notrunc status=none
	cmp $M/data $L/data
	echo more >>$M/data
	same "$(tail -c 5 $M/data)" more
	same "$(stat -c %s $M/data)" $((200 * 4096 + 5))
	echo short >$M/data
	same "$(cat $L/data)" short
	passed_through all
}

# A shared mapping of a passthrough open maps the lower file.
t_mmap() {
	truncate -s 8192 $M/map
	xfs_io -c 'mmap -rw 0 8192' -c 'mwrite -S 0x61 4096 10' -c 'msync -s 0 8192' $M/map
	same "$(dd if=$L/map bs=1 skip=4096 count=10 status=none)" aaaaaaaaaa
	passed_through all
}

# Two processes that append with O_APPEND lose no data.
t_append() {
	(for i in $(seq 100); do echo "a$i"; done >>$M/log) &
	for i in $(seq 100); do echo "b$i"; done >>$M/log
	wait $!
	same "$(wc -l <$M/log)" 200
	passed_through all
}

# Without passthrough the same data goes through READ and WRITE.
t_none() {
	dd if=/dev/urandom of=/mnt/none/data bs=4k count=50 status=none
	cmp /mnt/none/data /lower/none/data
	echo more >>/mnt/none/data
	same "$(tail -c 5 /lower/none/data)" more
	[ "$(number none READ)" -gt 0 ] && [ "$(number none WRITE)" -gt 0 ] && [ "$(number none attached)" = 0 ]
}

# Without passthrough O_APPEND writes go to the end of the lower file, even if another process has extended it.
t_none_append() {
	exec 3>>/mnt/none/grows
	echo one >&3
	echo two >>/lower/none/grows
	echo three >&3
	exec 3>&-
	same "$(tr '\n' ' ' </lower/none/grows)" 'one two three '
}

# close() sends a FLUSH, but not for a passthrough open: its lower file system, ext4, has no ->flush.
t_flush() {
	local before
	before=$(number all FLUSH)
	echo data >$M/flushed
	same "$(number all FLUSH)" "$before"
	before=$(number none FLUSH)
	echo data >/mnt/none/flushed
	[ "$(number none FLUSH)" -gt "$before" ]
	passed_through all
}

# A pattern without a slash matches the name.
t_pattern() {
	mkdir /mnt/pattern/sub
	echo yes >/mnt/pattern/sub/x.db
	same "$(cat /mnt/pattern/sub/x.db)" yes
	same "$(number pattern READ) $(number pattern WRITE) $(number pattern attached)" '0 0 2'
	echo no >/mnt/pattern/sub/x.txt
	same "$(cat /mnt/pattern/sub/x.txt)" no
	[ "$(number pattern WRITE)" -gt 0 ]
	same "$(number pattern attached)" 2
	mv /mnt/pattern/sub/x.txt /mnt/pattern/sub/y.db
	cat /mnt/pattern/sub/y.db
	same "$(number pattern attached)" 3
}

# A pattern with a slash matches the path below the source.
t_pattern_path() {
	mkdir /mnt/path/in /mnt/path/out
	echo yes >/mnt/path/in/x.db
	same "$(number path attached)" 1
	echo no >/mnt/path/out/x.db
	same "$(number path attached)" 1
}

# fallocate() allocates and frees space in the lower file.
t_fallocate() {
	fallocate -l 1M $M/fa
	same "$(stat -c '%s' $M/fa)" 1048576
	[ "$(stat -c %b $L/fa)" -ge 2048 ]
	fallocate -n -o 1M -l 64K $M/fa
	same "$(stat -c %s $M/fa)" 1048576
	fallocate -p -o 0 -l 512K $M/fa
	[ "$(stat -c %b $L/fa)" -lt 2048 ]
	[ "$(number all FALLOCATE)" = 3 ]
	passed_through all
}

# copy_file_range() sends COPY_FILE_RANGE, and the daemon copies on the lower file system.
t_copy_file_range() {
	local before
	dd if=/dev/urandom of=$M/c1 bs=64k count=4 status=none
	before=$(number all COPY_FILE_RANGE)
	xfs_io -f -c "copy_range -s 0 -d 0 -l 262144 $M/c1" $M/c2
	cmp $L/c1 $L/c2
	[ "$(number all COPY_FILE_RANGE)" -gt "$before" ]
	passed_through all
}

# SEEK_DATA and SEEK_HOLE find the data and the holes of the lower file.
t_lseek() {
	truncate -s 1M $M/holes
	dd if=/dev/urandom of=$M/holes bs=4k seek=100 count=1 conv=notrunc status=none
	sync $L/holes
	same "$(xfs_io -r -c 'seek -a -r 0' $M/holes)" "$(xfs_io -r -c 'seek -a -r 0' $L/holes)"
	same "$(xfs_io -r -c 'seek -d 0' $M/holes | tail -n 1 | tr '\t' ' ')" 'DATA 409600'
	[ "$(number all LSEEK)" -gt 0 ]
	passed_through all
}

# A lock excludes other processes, and ends with the open.
t_locks() {
	touch $M/lock
	exec 3<>$M/lock
	flock -x 3
	if flock -n -x $M/lock true; then return 1; fi
	exec 3>&-
	flock -n -x $M/lock true
}

# With the write-back cache passthrough files send no READ and no WRITE; other files are complete after a sync.
t_writeback() {
	dd if=/dev/urandom of=/mnt/wb/f.pt bs=4k count=20 status=none
	cmp /mnt/wb/f.pt /lower/wb/f.pt
	same "$(number wb READ) $(number wb WRITE)" '0 0'
	printf 12345 >/mnt/wb/plain
	printf 678 >>/mnt/wb/plain
	sync /mnt/wb/plain
	same "$(cat /lower/wb/plain)" 12345678
	[ "$(number wb WRITE)" -gt 0 ]
}
