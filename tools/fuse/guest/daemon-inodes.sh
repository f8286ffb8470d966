# SPDX-License-Identifier: GPL-2.0
# Attached inodes: requests that the daemon does not get, which inodes are attached, and how that ends. Sourced by daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

# asked NAME: print how many requests the daemon has got, except forgets and statfs
asked() {
	local n op
	dump "$1"
	n=$(read_number "$1" total)
	for op in FORGET BATCH_FORGET STATFS; do
		n=$((n - $(read_number "$1" $op)))
	done
	echo "$n"
}

# control MOUNT: print the path of the connection's file that has the number of attached inodes
control() {
	echo "/sys/fs/fuse/connections/$(mountpoint -d "$1" | cut -d : -f 2)/passthrough_inodes"
}

# held MOUNT: print the number of attached inodes
held() {
	cat "$(control "$1")"
}

# shows NAME FILE: the mount shows the attributes of the lower FILE
shows() {
	local f='%F %s %a %u %g %h %X %Y'
	same "$(stat -c "$f" "/mnt/$1/$2")" "$(stat -c "$f" "/lower/$1/$2")"
}

# Without --inodes a mount attaches all inodes: once a name is known, no stat, open, change or read of a file, a directory
# or a symbolic link sends a request.
t_inodes() {
	local N=/mnt/inodes L=/lower/inodes before
	mkdir -p $N $L
	passthroughfs --timeout=3600 --stats=/run/inodes.json $L $N
	pgrep -f stats=/run/inodes.json >/run/inodes.pid
	mkdir $N/d
	echo one >$N/d/f
	: >$N/d/g
	ln -s f $N/d/s
	# The root, d and the three files in it
	same "$(held $N) $(number inodes inodes)" '5 5'
	before=$(asked inodes)
	echo two >>$N/d/f
	same "$(tr '\n' ' ' <$N/d/s)" 'one two '
	chmod 640 $N/d/f
	chown 1000:2000 $N/d/f $N/d
	touch -d '2001-02-03 04:05:06.789' $N/d/f $N/d
	touch -h -d 2002-03-04 $N/d/s
	setfattr -n user.one -v 1 $N/d/f
	setfattr -n user.two -v 2 $N/d
	setfacl -m u:1001:r $N/d/f
	same "$(getfattr --absolute-names -m 'user\.' $N/d/f $N/d | grep -c '^user')" 2
	same "$(getfacl -cEp $N/d/f)" "$(getfacl -cEp $L/d/f)"
	truncate -s 100 $N/d/f
	fallocate -l 64K $N/d/f
	sync $N/d/f
	cp $N/d/f $N/d/g
	cmp $L/d/f $L/d/g
	same "$(readlink $N/d/s)" f
	: >$N/d/g
	shows inodes d
	shows inodes d/f
	shows inodes d/g
	same "$(stat -c '%a %u %g %s' $L/d/f)" '640 1000 2000 65536'
	same "$(as_user cat $N/d/f | head -n 1)" one
	refuses 'Permission denied' as_user sh -c "echo no >>$N/d/g"
	same "$(asked inodes)" "$before"
	same "$(read_number inodes attached) $(read_number inodes refused)" '0 0'
	same "$(held $N)" 5
	# Listing names still sends requests.
	same "$(echo $N/d/*)" "$(echo $N/d/{f,g,s})"
	[ "$(number inodes OPENDIR)" -gt 0 ]
	umount $N
}

# Changes of lower files by others show at once, even if attributes may be cached for an hour.
t_inodes_fresh() {
	local L=/lower/fresh before
	start fresh --inodes=all --timeout=3600
	mkdir /mnt/fresh/d
	echo short >/mnt/fresh/d/f
	before=$(asked fresh)
	echo longer >>$L/d/f
	chmod 604 $L/d/f
	chown 1001:1002 $L/d/f
	touch -d 2003-04-05 $L/d/f
	shows fresh d/f
	same "$(tr '\n' ' ' </mnt/fresh/d/f)" 'short longer '
	touch -d 2004-05-06 $L/d
	chmod 711 $L/d
	shows fresh d
	same "$(asked fresh)" "$before"
	umount /mnt/fresh
}

# A file that CREATE or TMPFILE makes is opened by the kernel too: the daemon has no descriptor of the file and gets no
# RELEASE. O_EXCL still works without the LOOKUP before it.
t_inodes_created() {
	local m=/mnt/made
	start made --inodes=all
	exec 3>$m/f
	echo data >&3
	grep 'passthrough-attach:.inode' /proc/$BASHPID/fdinfo/3
	refuses '' sh -c "ls -l /proc/$(</run/made.pid)/fd | grep lower/made/f"
	exec 3>&-
	same "$(cat /lower/made/f)" data
	/share/unnamed $m $m/named
	same "$(cat /lower/made/named)" data
	same "$(number made CREATE) $(number made TMPFILE) $(number made RELEASE) $(number made attached)" '1 1 0 0'
	echo below >/lower/made/below
	refuses 'File exists' dd if=/dev/null of=$m/below conv=excl
	same "$(number made CREATE) $(cat $m/below)" '2 below'
	umount $m
}

# --inodes=files attaches no directory and no symbolic link.
t_inodes_files() {
	start files --inodes=files
	mkdir /mnt/files/d
	echo data >/mnt/files/d/f
	ln -s f /mnt/files/d/s
	stat /mnt/files /mnt/files/d /mnt/files/d/s
	same "$(cat /mnt/files/d/s) $(held /mnt/files)" 'data 1'
	umount /mnt/files
}

# The name of a file decides about a pattern: a rename, in the mount or below, attaches and detaches.
t_inodes_pattern() {
	local m=/mnt/match
	start match '--inodes=*.db' --timeout=0
	echo x >$m/x.db
	echo y >$m/y.txt
	same "$(held $m)" 1
	same "$(cat $m/x.db)" x
	same "$(number match OPEN)" 0
	same "$(cat $m/y.txt)" y
	same "$(number match OPEN)" 1
	mv $m/y.txt $m/y.db
	same "$(cat $m/y.db)" y
	same "$(held $m) $(number match OPEN)" '2 1'
	mv $m/x.db $m/x.txt
	same "$(held $m)" 1
	same "$(cat $m/x.txt)" x
	same "$(number match OPEN)" 2
	mv /lower/match/y.db /lower/match/y.txt
	same "$(cat $m/y.txt)" y
	same "$(held $m) $(number match OPEN)" '0 3'
	umount $m
}

# A file that --passthrough does not match is not attached: its data goes through the daemon.
t_inodes_passthrough() {
	start through --inodes=all '--passthrough=*.db'
	echo x >/mnt/through/x.db
	same "$(number through WRITE)" 0
	echo y >/mnt/through/y
	[ "$(number through WRITE)" -gt 0 ]
	umount /mnt/through
}

# The daemon serves requests on opens that it has not seen.
t_inodes_unseen() {
	local m=/mnt/unseen op
	start unseen '--inodes=*.db' --readdir
	echo other >$m/other
	: >$m/f.db
	/share/unseen $m/f.db $m/f $m/other
	same "$(cat /lower/unseen/f)" datadata
	for op in FALLOCATE LSEEK FSYNC COPY_FILE_RANGE; do
		[ "$(number unseen $op)" -gt 0 ]
	done
	mkdir $m/d.db
	stat $m/d.db
	/share/unseen $m/d.db $m/d
	same "$(number unseen OPENDIR) $(number unseen FSYNCDIR)" '1 1'
	echo still >$m/f
	same "$(cat $m/f)" still
	umount $m
}

# With --readdir directories are listed without a request.
t_inodes_readdir() {
	local m=/mnt/list before
	start list --inodes=all --readdir --timeout=3600
	mkdir $m/d
	touch $m/d/{1..60}
	before=$(asked list)
	same "$(find $m/d -mindepth 1 -printf '%f\n' | sort)" "$(find /lower/list/d -mindepth 1 -printf '%f\n' | sort)"
	sync $m/d
	rm /lower/list/d/7
	same "$(find $m/d -type f | wc -l)" 59
	same "$(asked list)" "$before"
	umount $m
}

# After a rename over a name, in the mount or below, the name shows the new file at once. A process that has the old file
# open keeps it, and the last close releases it.
t_inodes_rename_over() {
	local m=/mnt/over how
	start over --inodes=all --timeout=0
	for how in $m /lower/over; do
		echo old >$m/f
		exec 3<$m/f
		echo newer >$how/g
		stat $m/f $m/g
		mv $how/g $how/f
		same "$(cat $m/f) $(stat -c %s $m/f)" 'newer 6'
		same "$(cat <&3) $(stat -L -c '%s %h' /proc/$BASHPID/fd/3)" 'old 4 0'
		exec 3<&-
		# The root and "f"
		until [ "$(held $m)" = 2 ]; do :; done
		rm $how/f
		mkdir $how/f
		same "$(stat -c %F $m/f)" directory
		rmdir $how/f
	done
	umount $m
}

# A kernel that cannot attach inodes gets one attempt; a kernel that refuses an inode gets one for each inode. The daemon
# serves all requests.
t_inodes_refused() {
	local error
	# Number of attempts that see each error: one, or one each for the root, the directory and the file
	local -A often=([ENOTTY]=1 [EINVAL]=3)
	mkdir -p /lower/without /mnt/without
	for error in ENOTTY EINVAL; do
		rm -f /tmp/refused
		REFUSE=$error REFUSED=/tmp/refused LD_PRELOAD=/share/refuse.so \
			ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 \
			passthroughfs -f --inodes=all --stats=/run/without.json /lower/without /mnt/without 2>/tmp/without.err &
		until grep -q ' /mnt/without ' /proc/mounts; do kill -0 $!; done
		stat /mnt/without
		mkdir /mnt/without/d
		echo data >/mnt/without/d/f
		chmod 640 /mnt/without/d/f
		same "$(cat /mnt/without/d/f) $(stat -c '%a %s' /mnt/without/d/f)" 'data 640 5'
		rm -r /mnt/without/d
		umount /mnt/without
		wait $!
		cat /tmp/without.err
		same "$error $(stat -c %s /tmp/refused)" "$error ${often[$error]}"
		same "$(grep -c 'inodes are not attached' /tmp/without.err)" 1
		grep '"READ": 0, "WRITE": 0,' /run/without.json
		grep '"attached": 2, "refused": 0, "inodes": 0' /run/without.json
	done
}

# A killed daemon does not pin the lower file system, even while its mount exists and its names are cached. An open file
# still works until it is closed.
t_inodes_killed() {
	local count until=$((SECONDS + 60))
	mkdir -p /lower/own
	mount -t tmpfs own /lower/own
	start own --inodes=all --timeout=3600
	mkdir /mnt/own/d
	echo data >/mnt/own/d/f
	exec 3<>/mnt/own/d/f
	count=$(control /mnt/own)
	[ "$(<$count)" = 3 ]
	kill -KILL "$(</run/own.pid)"
	gone "$(</run/own.pid)"
	refuses 'not connected' stat /mnt/own/d/f
	echo more >&3
	same "$(cat /lower/own/d/f)" more
	refuses busy umount /lower/own
	exec 3>&-
	until umount /lower/own; do [ $SECONDS -lt $until ]; done
	same "$(<$count)" 0
	umount /mnt/own
}

# A user's daemon attaches without privilege, and gives the user no permission that the user lacks below.
t_inodes_unprivileged() {
	mkdir -p /lower/mine /tmp/mine
	chown 1000:1000 /lower/mine /tmp/mine
	(umask 077; echo root >/lower/mine/root)
	as_user passthroughfs --stats=/tmp/mine.json /lower/mine /tmp/mine
	as_user sh -c 'echo data >/tmp/mine/f; cat /tmp/mine/f; chmod 600 /tmp/mine/f; mkdir /tmp/mine/d; stat /tmp/mine/f /tmp/mine/d'
	same "$(stat -c '%a %u' /lower/mine/f)" '600 1000'
	# The open that creates a file may do what the mode of the new file does not permit.
	as_user sh -c 'umask 777; echo once >/tmp/mine/g'
	same "$(cat /lower/mine/g) $(stat -c %a /lower/mine/g)" 'once 0'
	refuses 'Permission denied' as_user cat /tmp/mine/root
	refuses 'not permitted' as_user chmod 666 /tmp/mine/root
	refuses 'Permission denied' stat /tmp/mine/f
	as_user fusermount3 -u /tmp/mine
	ended /tmp/mine.json
	grep '"CREATE": 2,' /tmp/mine.json
	grep '"RELEASE": 0,' /tmp/mine.json
	grep '"SETATTR": 0,' /tmp/mine.json
	same "$(stat -c %a /lower/mine/root)" 600
}

# On a noatime mount reads do not change access times, because the daemon opens the files.
t_inodes_noatime() {
	start quiet --inodes=all -o noatime
	echo data >/mnt/quiet/f
	touch -a -d 2001-02-03 /lower/quiet/f
	same "$(cat /mnt/quiet/f) $(stat -c %x /lower/quiet/f | cut -c 1-10)" 'data 2001-02-03'
	[ "$(number quiet OPEN)" -gt 0 ] && [ "$(held /mnt/quiet)" -gt 0 ]
	same "$(number quiet READ)" 0
	umount /mnt/quiet
}

# On overlayfs an open for writing copies the file up, and the inode then uses the copy.
t_inodes_overlay() {
	mkdir -p /lower/ovi/{lower,upper,work,merged} /mnt/ovi
	echo low >/lower/ovi/lower/f
	mount -t overlay -o lowerdir=/lower/ovi/lower,upperdir=/lower/ovi/upper,workdir=/lower/ovi/work ovi /lower/ovi/merged
	passthroughfs --stats=/run/ovi.json --timeout=3600 /lower/ovi/merged /mnt/ovi
	pgrep -f stats=/run/ovi.json >/run/ovi.pid
	same "$(cat /mnt/ovi/f)" low
	chmod 640 /mnt/ovi/f
	echo up >>/mnt/ovi/f
	same "$(tr '\n' ' ' </mnt/ovi/f) $(stat -c '%s %a' /mnt/ovi/f)" 'low up  7 640'
	same "$(tr '\n' ' ' </lower/ovi/upper/f) $(stat -c %a /lower/ovi/upper/f)" 'low up  640'
	same "$(number ovi OPEN) $(number ovi SETATTR)" '0 0'
	umount /mnt/ovi
	gone "$(</run/ovi.pid)"
	umount /lower/ovi/merged
}

# policy.c filters private files. It has no write handler, and gets no requests for other files.
t_policy() {
	local p=/mnt/policy
	mkdir -p $p /lower/policy
	echo 'call 555 0123' >/lower/policy/x.private
	/share/policy /lower/policy $p
	same "$(cat $p/x.private)" 'call ### ####'
	same "$(dd if=$p/x.private bs=1 skip=4 count=3 status=none)" ' ##'
	same "$(stat -c '%s %a %Y' $p/x.private)" "$(stat -c '%s %a %Y' /lower/policy/x.private)"
	refuses 'Permission denied' sh -c "echo 1 >>$p/x.private"
	refuses 'Permission denied' sh -c "echo 1 >$p/y.private"
	echo 'call 555 0123' >$p/plain
	same "$(cat $p/plain)" 'call 555 0123'
	echo more >>$p/plain
	cmp $p/plain /lower/policy/plain
	chmod 640 $p/plain
	same "$(stat -c '%a %s' /lower/policy/plain)" '640 19'
	same "$(echo $p/*)" "$p/plain $p/x.private"
	exec 3<$p/plain 4<$p/x.private
	grep 'passthrough-attach:.inode' /proc/$BASHPID/fdinfo/3
	refuses '' grep passthrough /proc/$BASHPID/fdinfo/4
	exec 3<&- 4<&-
	# The root, which is attached by nodeid, and both files
	same "$(held $p)" 3
	rm $p/plain
	umount $p
}
