# SPDX-License-Identifier: GPL-2.0
# Attaches: by request and by id, refused lower files, lower files on overlayfs, and other programs that are built with the
# patched libfuse. Sourced by daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

# With --attach=request files pass through.
t_by_request() {
	start request --attach=request
	echo one >/mnt/request/f
	echo two >>/mnt/request/f
	same "$(tr '\n' ' ' </mnt/request/f)" 'one two '
	passed_through request
	umount /mnt/request
}

# With --attach=id files pass through, even if a file is open several times.
t_by_id() {
	dd if=/dev/urandom of=/mnt/id/f bs=4k count=20 status=none
	exec 3</mnt/id/f
	cmp /mnt/id/f /lower/id/f
	echo x >>/mnt/id/f
	same "$(tail -c 2 /mnt/id/f)" x
	exec 3<&-
	cmp /mnt/id/f /lower/id/f
	passed_through id
}

# An ordinary user's daemon cannot attach by id: it counts the refusals, reports the first one, and serves the data.
t_refused_id() {
	mkdir -p /lower/user2 /tmp/user2
	chown 1000:1000 /lower/user2 /tmp/user2
	as_user passthroughfs -f --inodes=none --attach=id --stats=/tmp/user2.json /lower/user2 /tmp/user2 2>/tmp/user2.err &
	until grep -q ' /tmp/user2 ' /proc/mounts; do kill -0 $!; done
	as_user sh -c 'echo data >/tmp/user2/f; cat /tmp/user2/f'
	same "$(cat /lower/user2/f)" data
	as_user fusermount3 -u /tmp/user2
	wait $!
	cat /tmp/user2.err
	grep '"attached": 0, "refused": 2' /tmp/user2.json
	same "$(grep -c 'was refused' /tmp/user2.err)" 1
}

# A lower file on FUSE is refused, and the daemon serves its data.
t_refused_fuse() {
	mkdir -p $M/again /mnt/twice
	passthroughfs --stats=/run/twice.json $M/again /mnt/twice
	pgrep -f stats=/run/twice.json >/run/twice.pid
	echo data >/mnt/twice/f
	same "$(cat /mnt/twice/f) $(cat $L/again/f)" 'data data'
	same "$(number twice attached) $(number twice refused)" '0 2'
	[ "$(number twice WRITE)" -gt 0 ]
	umount /mnt/twice
	passed_through all
}

# Files on overlayfs pass through; the daemon sets the stacking depth itself.
t_overlay() {
	mkdir -p /lower/ov/{lower,upper,work,merged} /mnt/ov
	echo low >/lower/ov/lower/f
	mount -t overlay -o lowerdir=/lower/ov/lower,upperdir=/lower/ov/upper,workdir=/lower/ov/work ov /lower/ov/merged
	passthroughfs --inodes=none --stats=/run/ov.json --timeout=0 /lower/ov/merged /mnt/ov
	pgrep -f stats=/run/ov.json >/run/ov.pid
	same "$(cat /mnt/ov/f)" low
	echo up >>/mnt/ov/f
	same "$(tr '\n' ' ' </lower/ov/upper/f)" 'low up '
	passed_through ov
	# After the copy-up by the first writer, earlier opens still see the file as the same inode.
	echo low >/lower/ov/lower/g
	exec 3</mnt/ov/g
	flock -s 3
	echo up >>/mnt/ov/g
	if flock -n -x /mnt/ov/g true; then return 1; fi
	exec 3<&-
	same "$(stat -c %i /mnt/ov/g)" "$(stat -c %i /lower/ov/merged/g)"
	passed_through ov
	umount /mnt/ov
	gone "$(</run/ov.pid)"
	umount /lower/ov/merged
}

# A mount with passthrough can be the lower layer of an overlay.
t_under_overlay() {
	mkdir -p /lower/top/{upper,work} /mnt/top $M/base
	echo base >$M/base/f
	mount -t overlay -o lowerdir=$M/base,upperdir=/lower/top/upper,workdir=/lower/top/work top /mnt/top
	same "$(cat /mnt/top/f)" base
	umount /mnt/top
	passed_through all
}

# The examples by-*.c have no read and no write handler, and by-inode has no open handler: the kernel alone serves their
# file.
t_examples() {
	local form
	mkdir -p /mnt/example
	for form in request id inode; do
		echo one >/lower/example
		"/share/example-$form" /lower/example /mnt/example
		echo two >>/mnt/example/f
		same "$(tr '\n' ' ' </mnt/example/f)" 'one two '
		same "$(tr '\n' ' ' </lower/example)" 'one two '
		umount /mnt/example
	done
}

# libfuse clears flags that would make the kernel fail an open by id, and warns once.
t_keep_cache() {
	mkdir -p /mnt/keep
	echo one >/lower/keep
	/share/example-keep /lower/keep /mnt/keep 2>/tmp/keep.err &
	until grep -q ' /mnt/keep ' /proc/mounts; do kill -0 $!; done
	echo two >>/mnt/keep/f
	same "$(tr '\n' ' ' </mnt/keep/f)" 'one two '
	same "$(tr '\n' ' ' </lower/keep)" 'one two '
	umount /mnt/keep
	wait $!
	same "$(grep -c 'opcode: OPEN' /tmp/keep.err)" 2
	same "$(grep -c 'open_flags=0x6 do not go with a backing id' /tmp/keep.err)" 1
}

# A daemon written for libfuse 3.17 and compiled with this libfuse passes through by id, without READ and WRITE.
t_newer_source() {
	local how
	mkdir -p /mnt/hp
	for how in '' '--nocache --clone-fd --num-threads=4'; do
		rm -rf /lower/hp
		mkdir /lower/hp
		# shellcheck disable=SC2086
		/share/passthrough_hp --foreground --debug-fuse --debug $how /lower/hp /mnt/hp >/tmp/hp.log 2>&1 &
		until grep -q ' /mnt/hp ' /proc/mounts; do kill -0 $!; done
		dd if=/dev/urandom of=/mnt/hp/f bs=4k count=20 status=none
		cmp /mnt/hp/f /lower/hp/f
		echo x >>/mnt/hp/f
		same "$(tail -c 2 /mnt/hp/f)" x
		cmp /mnt/hp/f /lower/hp/f
		/share/unnamed /mnt/hp /mnt/hp/named
		same "$(cat /mnt/hp/named)" data
		umount /mnt/hp
		wait $!
		grep 'setup shared backing file' /tmp/hp.log
		grep 'opcode: TMPFILE' /tmp/hp.log
		refuses '' grep 'opcode: READ (\|opcode: WRITE (\|opcode: INTERRUPT\|passthrough_open failed' /tmp/hp.log
	done
}
