# SPDX-License-Identifier: GPL-2.0
# Mounts: their users, their options, a mount under load, and the end of the daemon. Sourced by daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

# These tests pass for an ordinary user's files on root's mount, which has allow_other.
t_ordinary_user() {
	local t
	mkdir $M/user
	chown 1000:1000 $M/user
	for t in read_write mmap append hard_links renames unlink_open rmdir_cwd locks readdir_plain; do
		echo "$t"
		as_user "$0" --one $t
	done
	same "$(find $L/user ! -user 1000 | wc -l)" 0
	passed_through all
}

# A user's own daemon passes through without any privilege.
t_unprivileged() {
	mkdir -p /lower/user /tmp/user
	chown 1000:1000 /lower/user /tmp/user
	as_user passthroughfs --inodes=none --stats=/tmp/user.json /lower/user /tmp/user
	as_user sh -c 'dd if=/dev/urandom of=/tmp/user/f bs=4k count=20 status=none; mkdir /tmp/user/d; cat /tmp/user/f >/tmp/user/d/g'
	cmp /lower/user/f /lower/user/d/g
	refuses 'Permission denied' cat /tmp/user/f
	as_user fusermount3 -u /tmp/user
	ended /tmp/user.json
	grep '"READ": 0, "WRITE": 0,' /tmp/user.json
	grep '"attached": 3, "refused": 0' /tmp/user.json
}

# If the administrator permits allow_other, other users can use a user's mount as the modes permit.
t_allow_other() {
	mkdir -p /lower/shared /tmp/shared
	chown 1000:1000 /lower/shared /tmp/shared
	refuses user_allow_other as_user passthroughfs -o allow_other /lower/shared /tmp/shared
	echo user_allow_other >>/etc/fuse.conf
	as_user passthroughfs --stats=/tmp/shared.json -o allow_other /lower/shared /tmp/shared
	as_user sh -c 'echo data >/tmp/shared/f; umask 077; echo own >/tmp/shared/own'
	same "$(other cat /tmp/shared/f)" data
	refuses 'Permission denied' other sh -c 'echo more >>/tmp/shared/f'
	refuses 'Permission denied' other cat /tmp/shared/own
	chmod 666 /lower/shared/f
	until other sh -c 'echo more >>/tmp/shared/f'; do :; done
	same "$(tr '\n' ' ' </lower/shared/f)" 'data more '
	as_user fusermount3 -u /tmp/shared
	ended /tmp/shared.json
	grep '"READ": 0, "WRITE": 0,' /tmp/shared.json
	grep '"refused": 0' /tmp/shared.json
}

# stress-ng --verify finds no error in data, locks or attributes.
t_stress() {
	local s args=()
	for s in aio chmod dentry flock getdent hdd iomix lockf readahead rename seek utime xattr; do
		args+=("--$s" 1)
	done
	mkdir $M/stress
	stress-ng --verify --timeout 20 --temp-path $M/stress --dentries 50 --hdd-bytes 8M --iomix-bytes 8M \
		--readahead-bytes 8M --seek-size 4M "${args[@]}"
	rmdir $M/stress
	passed_through all
}

# Reads on a noatime mount change no access time of lower files, even after a remount.
t_noatime() {
	local f now
	start atime -o noatime
	echo data >/lower/atime/f
	cp /bin/true /lower/atime/true
	mkdir /lower/atime/d
	for now in noatime strictatime atime,nodiratime noatime; do
		mount -i -o remount,bind,$now /mnt/atime
		touch -a -d 2001-02-03 /lower/atime/{f,true,d}
		same "$(cat /mnt/atime/f)" data
		/mnt/atime/true
		ls /mnt/atime/d
		for f in f true d; do
			case $now$f in
			noatime* | *nodiratimed) same "$now $f $(stat -c %x /lower/atime/$f | cut -c 1-10)" "$now $f 2001-02-03" ;;
			*) same "$now $f $(stat -c %x /lower/atime/$f | grep -c 2001-02-03 || true)" "$now $f 0" ;;
			esac
		done
	done
	echo new >/mnt/atime/new
	passed_through atime
	umount /mnt/atime
	# An unprivileged daemon may not use O_NOATIME for files of other users. They can still be read.
	mkdir /mnt/atime2
	chown 1000:1000 /mnt/atime2
	as_user passthroughfs --stats=/tmp/atime2.json -o noatime /lower/atime /mnt/atime2
	same "$(as_user cat /mnt/atime2/f)" data
	as_user fusermount3 -u /mnt/atime2
}

# mount(8) mounts passthroughfs, with the options after -o.
t_mount() {
	mkdir -p /lower/fstab /mnt/fstab
	# Debian's package installs this link too.
	ln -sf mount.fuse3 /usr/sbin/mount.fuse
	mount -t fuse.passthroughfs -o passthrough=none,stats=/run/fstab.json,noatime /lower/fstab /mnt/fstab
	grep '/lower/fstab /mnt/fstab fuse.passthroughfs .*noatime.*default_permissions.*allow_other' /proc/mounts
	echo x >/mnt/fstab/f
	umount /mnt/fstab
	ended /run/fstab.json
	grep '"attached": 0' /run/fstab.json
}

# A signal ends the daemon: it unmounts, writes its statistics with mode 644, and exits with 0 and without a message.
t_signal() {
	local s
	mkdir -p /lower/signal /mnt/signal
	for s in TERM HUP; do
		rm -f /run/signal.json
		(exec passthroughfs -f --stats=/run/signal.json /lower/signal /mnt/signal 2>/tmp/signal.err) &
		until grep -q ' /mnt/signal ' /proc/mounts; do kill -0 $!; done
		echo x >/mnt/signal/f
		kill -$s $!
		wait $!
		refuses '' grep ' /mnt/signal ' /proc/mounts
		grep '"CREATE": 1' /run/signal.json
		rm /lower/signal/f
		same "$(stat -c %a /run/signal.json)" 644
		same "$(cat /tmp/signal.err)" ''
	done
}

# Bad arguments give one line and a failure; --help and --version work.
t_arguments() {
	refuses 'give the directory' passthroughfs
	refuses 'cannot mirror' passthroughfs /nowhere /mnt/none
	refuses 'not a directory' passthroughfs /etc/passwd /mnt/none
	refuses 'attach is' passthroughfs --attach=x /lower /tmp
	refuses 'needs a value' passthroughfs /lower /tmp --stats
	refuses 'not a regular file' passthroughfs --stats=/dev/null /lower /tmp
	refuses 'No such file' passthroughfs --stats=/nowhere/x /lower /tmp
	refuses 'not less than 0' passthroughfs --timeout=-1 /lower /tmp
	refuses 'not less than 0' passthroughfs --timeout=nan /lower /tmp
	refuses 'timeout=soon' passthroughfs --timeout=soon /lower /tmp
	refuses 'nowhere' passthroughfs /lower /nowhere
	refuses '--readdir goes with' passthroughfs --readdir --inodes=none /lower /tmp
	refuses '--readdir goes with' passthroughfs --readdir --inodes files /lower /tmp
	refuses 'needs a value' passthroughfs /lower /tmp --inodes
	refuses 'not go with --writeback' passthroughfs --killpriv-v2 --writeback /lower /tmp
	refuses 'bogus' passthroughfs --bogus /lower /tmp
	refuses 'three' passthroughfs /lower /tmp three
	[ -c /dev/null ]
	refuses '' grep ' /tmp fuse' /proc/mounts
	passthroughfs --help | grep -- --passthrough=
	passthroughfs --version | grep libfuse
}

# After umount the daemon ends; its statistics have the last request.
t_end() {
	local pid created
	dump all
	pid=$(</run/all.pid)
	created=$(read_number all CREATE)
	rm /run/all.json
	echo x >$M/last
	umount $M
	ended /run/all.json
	gone "$pid"
	same "$(read_number all CREATE)" $((created + 1))
	refuses '' grep " $M " /proc/mounts
	cp /run/all.json /out/
}
