# SPDX-License-Identifier: GPL-2.0
# passthroughfs --check: its output about lower file systems, users, mounts and kernels. Sourced by daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

done_well='yes: a file was attached, written and read without a request'

# left: print everything that the check could leave behind
left() {
	cat /proc/self/mounts
	ls -AR /tmp
	ls -AR /lower/check* || true
}

# checks STATUS COMMAND...: the check ends with STATUS, puts its output into $said, and leaves no mount and no file
checks() {
	local want=$1 status=0 before
	shift
	before=$(left)
	said=$("$@" 2>&1) || status=$?
	echo "$said"
	same $status "$want"
	[ "$(wc -l <<<"$said")" -le 24 ]
	same "$(left)" "$before"
}

# says LINE...: the output of the check has these lines, which are regular expressions
says() {
	local l
	for l; do
		grep -x -- "$l" <<<"$said" || {
			echo "it does not say '$l'"
			return 1
		}
	done
}

# On a suitable lower file system all ways to attach work for root, and the directory stays unchanged.
t_check_fit() {
	local before
	mkdir -p /lower/check
	before=$(stat -c '%y %z' /lower/check)
	checks 0 passthroughfs --check /lower/check
	says 'kernel     Linux .*, FUSE 7\.[0-9]*: offers passthrough' 'privilege  uid 0, with CAP_SYS_ADMIN' \
		'lower      /lower/check: ext4 of /dev/.*, rw,relatime' '           O_DIRECT works' 'stacking   depth 0: fine' \
		"by request $done_well" "by id      $done_well" "by inode   $done_well"
	same "$(stat -c '%y %z' /lower/check)" "$before"
}

# Files on tmpfs pass through; the line about O_DIRECT agrees with an open with O_DIRECT.
t_check_tmpfs() {
	local direct='does not work, nor will it through passthrough'
	mkdir -p /run/check
	echo data >/run/check/f
	! dd if=/run/check/f iflag=direct of=/dev/null 2>/dev/null || direct='works'
	checks 0 passthroughfs --check=/run/check
	says 'lower      /run/check: tmpfs of tmpfs, rw,relatime' "           O_DIRECT $direct" "by request $done_well" \
		"by inode   $done_well"
}

# If the path is a file, or a directory without write access, the check attaches an existing file, and keeps its access
# time.
t_check_read_only() {
	local before p options=rw
	mkdir -p /run/check-ro
	echo data >/run/check-ro/f
	touch -a -d 2001-02-03 /run/check-ro/f
	before=$(stat -c %x /run/check-ro/f)
	mount --bind /run/check-ro /run/check-ro
	for p in /run/check-ro/f /run/check-ro; do
		checks 0 passthroughfs --check $p
		says "lower      $p: tmpfs of tmpfs, $options,relatime" \
			'by request yes: a file that is there was attached, and not touched' \
			'by id      yes: a file that is there was attached, and not touched' \
			'by inode   yes: a file that is there was attached, and not touched'
		same "$(stat -c %x /run/check-ro/f)" "$before"
		mount -o remount,bind,ro /run/check-ro
		options=ro
	done
	umount /run/check-ro
	mkdir /run/check-ro/none
	mount -t tmpfs -o ro none /run/check-ro/none
	checks 1 passthroughfs --check /run/check-ro/none
	says '           has no regular file to try with: give the path of one' 'by request not tried'
	umount /run/check-ro/none
}

# A pseudo file system is refused as no storage.
t_check_pseudo() {
	checks 1 passthroughfs --check /proc
	says 'lower      /proc: proc of .*' 'stacking   not stacked' 'by request no: no storage (.*) (EINVAL)' \
		'by id      no: no storage (.*' 'by inode   no: no storage (.*) (EINVAL)'
}

# The check refuses a FUSE file system as the source.
t_check_on_fuse() {
	start check-fuse
	mkdir /lower/check-fuse/d
	checks 1 passthroughfs --check /mnt/check-fuse/d
	says 'lower      /mnt/check-fuse/d: fuse.passthroughfs of /lower/check-fuse, .*' \
		'stacking   on FUSE, where a daemon may wait for another' 'by request no: on FUSE: mirror what is below that (EINVAL)' \
		'by inode   no: on FUSE: mirror what is below that (EINVAL)'
	umount /mnt/check-fuse
}

# An overlay passes through at depth 1, which the daemon has to ask for; an overlay on top of it does not. overlayfs of 6.1
# cannot make a file without a name.
t_check_overlay() {
	mkdir -p /lower/check-ov/{lower,upper,work,upper2,work2,merged,merged2}
	echo data >/lower/check-ov/lower/f
	mount -t overlay -o lowerdir=/lower/check-ov/lower,upperdir=/lower/check-ov/upper,workdir=/lower/check-ov/work ov \
		/lower/check-ov/merged
	checks 0 passthroughfs --check /lower/check-ov/merged
	says 'stacking   depth 1: the daemon has to ask for it, as passthroughfs does' 'by request yes: .*' 'by id      yes: .*' \
		'by inode   yes: .*'
	same "$(ls /lower/check-ov/upper)" ''
	mount -t overlay \
		-o lowerdir=/lower/check-ov/merged,upperdir=/lower/check-ov/upper2,workdir=/lower/check-ov/work2 ov2 \
		/lower/check-ov/merged2
	checks 1 passthroughfs --check /lower/check-ov/merged2
	says 'stacking   stacked: it may be a lower file system at depth 1, not deeper' \
		'by request no: stacked too deep: mirror a layer of it (EINVAL)'
	umount /lower/check-ov/merged2 /lower/check-ov/merged
}

# own_directory: make /lower/check-user, which belongs to the ordinary user
own_directory() {
	mkdir -p /lower/check-user
	chown 1000:1000 /lower/check-user
}

# The check tells an unprivileged user that attaching by request and by inode works, and by id does not.
t_check_unprivileged() {
	own_directory
	checks 0 as_user passthroughfs --check /lower/check-user
	says 'privilege  uid 1000, without CAP_SYS_ADMIN' '           only by id needs it, outside user namespaces' \
		"by request $done_well" 'by id      no: needs CAP_SYS_ADMIN, .*: attach by request (EPERM)' "by inode   $done_well"
}

# Root of a user namespace can attach by request and by inode, but not by id.
t_check_user_namespace() {
	own_directory
	checks 0 as_user unshare -Urm passthroughfs --check /lower/check-user
	says 'privilege  uid 0, with CAP_SYS_ADMIN, in a user namespace of its own' "by request $done_well" \
		'by id      no: needs CAP_SYS_ADMIN, .* (EPERM)' "by inode   $done_well"
}

# The check names what the attempt lacks: the device, permission to open it, or fusermount3.
t_check_missing() {
	own_directory
	chmod 600 /dev/fuse
	checks 1 as_user passthroughfs --check /lower/check-user
	chmod 666 /dev/fuse
	says 'kernel     Linux .*: /dev/fuse: Permission denied: its mode should be 666' 'by request not tried'
	mv /dev/fuse /dev/fuse.away
	checks 1 passthroughfs --check /lower/check-user
	mv /dev/fuse.away /dev/fuse
	says 'kernel     Linux .*: /dev/fuse: No such file or directory: run modprobe fuse'
	mount --bind /dev/null "$(command -v fusermount3)"
	checks 1 as_user passthroughfs --check /lower/check-user
	umount "$(command -v fusermount3)"
	says '           a user needs fusermount3, setuid root (package fuse3)' 'by request not tried'
}

# For a mount point the check lists the files that pass through, and checks the source.
t_check_mount_point() {
	start check-on
	echo data >/lower/check-on/f
	checks 0 passthroughfs --check /mnt/check-on
	says '           no file is open with passthrough, no inode is attached' 'lower      /lower/check-on: ext4 of .*'
	exec 3</mnt/check-on/f
	checks 0 passthroughfs --check /mnt/check-on
	says 'mount      /mnt/check-on: fuse.passthroughfs of /lower/check-on, connection [0-9]*' \
		'           passthrough is on: 1 files open, 0 inodes attached' \
		"             /lower/check-on/f (r, by request, process $BASHPID)" "by request $done_well"
	checks 0 as_user passthroughfs --check /mnt/check-on
	says '           only its owner and root can see whether passthrough is on' \
		'by request yes: a file that is there was attached, and not touched'
	exec 3<&-
	umount /mnt/check-on
}

# The check takes one argument, an existing path: otherwise it exits with 2 and prints one line.
t_check_usage() {
	local usage='usage: passthroughfs --check MOUNTPOINT-or-SOURCE'
	checks 2 passthroughfs --check
	says "$usage"
	checks 2 passthroughfs --check=
	says "$usage"
	checks 2 passthroughfs --check /lower /tmp
	says "$usage"
	checks 2 passthroughfs --check /nowhere
	says 'passthroughfs: cannot check /nowhere: No such file or directory'
}

# With Debian's own module the check says that there is no passthrough, and what to install.
t_check_other_module() {
	local old
	old=$(sha256sum /sys/module/fuse/notes/.note.gnu.build-id)
	umount -a -t fuse.passthroughfs
	umount /sys/fs/fuse/connections
	until rmmod fuse; do :; done
	modprobe fuse
	if [ "$(sha256sum /sys/module/fuse/notes/.note.gnu.build-id)" = "$old" ]; then return 1; fi
	chmod 666 /dev/fuse
	checks 1 passthroughfs --check /lower
	says 'kernel     Linux .*, FUSE 7\.[0-9]*: does not offer passthrough' \
		'           install fuse-passthrough-dkms and reboot, or another kernel' \
		'by request no: the kernel does not offer passthrough' 'by inode   no: the kernel does not offer passthrough'
}
