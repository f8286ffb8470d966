# SPDX-License-Identifier: GPL-2.0
# Names: links, renames, directories, special files, files without a name, and how the daemon finds inodes. Sourced by
# daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

# Two hard links are one inode, and one of them can be removed.
t_hard_links() {
	echo one >$M/h1
	ln $M/h1 $M/h2
	same "$(stat -c '%i %h' $M/h1)" "$(stat -c '%i %h' $M/h2)"
	same "$(stat -c %h $M/h2)" 2
	echo two >$M/h2
	same "$(cat $M/h1)" two
	rm $M/h1
	same "$(cat $M/h2)" two
	same "$(stat -c %h $M/h2)" 1
	ln -s target $M/hs
	ln -P $M/hs $M/hs2
	same "$(readlink $M/hs2)" target
	mv $M/h2 $M/h1
	same "$(cat $M/h1)" two
	passed_through all
}

# An open file can be read, written and found while it and its directory are renamed.
t_renames() {
	mkdir -p $M/d1/d2
	echo begin >$M/d1/d2/f
	exec 3<>$M/d1/d2/f
	mv $M/d1/d2/f $M/d1/d2/g
	mv $M/d1 $M/d9
	echo moved >&3
	exec 3>&-
	same "$(cat $M/d9/d2/g)" moved
	echo other >$M/d9/other
	exec 3<$M/d9/other
	mv $M/d9/d2/g $M/d9/other
	same "$(cat <&3)" other
	exec 3<&-
	same "$(cat $M/d9/other)" moved
	refuses 'No such file' cat $M/d9/d2/g
	mkdir $M/d9/full && touch $M/d9/full/x
	refuses 'not empty' mv -T $M/d9/d2 $M/d9/full
	passed_through all
}

# An open file that is unlinked can still be read, written, opened again, and have its attributes read and changed.
t_unlink_open() {
	echo gone >$M/u
	exec 3<>$M/u
	rm $M/u
	refuses 'No such file' stat $M/u
	same "$(cat /proc/self/fd/3)" gone
	echo again >&3
	same "$(cat /proc/$BASHPID/fd/3)" again
	chmod 600 /proc/$BASHPID/fd/3
	same "$(stat -L -c '%a %h %s' /proc/$BASHPID/fd/3)" '600 0 6'
	truncate -s 2 /proc/$BASHPID/fd/3
	same "$(stat -L -c %s /proc/$BASHPID/fd/3)" 2
	# A new file of the same name is a different file.
	echo new >$M/u
	same "$(stat -L -c %s /proc/$BASHPID/fd/3) $(cat $M/u)" '2 new'
	exec 3>&-
	passed_through all
}

# A directory can be read in many steps, and while its files are removed.
t_readdir_plain() {
	mkdir $M/some
	(cd $M/some && seq -f 'a-name-that-takes-up-room-%g' 60 | xargs touch)
	same "$(find $M/some -type f | sort -u | wc -l) $(find $M/some | wc -l)" '60 61'
	rm -r $M/some
	refuses 'No such file' ls $M/some
}

# The working directory can be removed.
t_rmdir_cwd() {
	mkdir $M/cwd
	cd $M/cwd
	rmdir $M/cwd
	same "$(stat -c %h .)" 0
	refuses 'No such file' touch x
}

# Devices and pipes can be made and used; a long symbolic link is complete.
t_nodes() {
	mknod $M/null c 1 3
	same "$(stat -c '%F %t %T' $L/null)" 'character special file 1 3'
	mkfifo $M/fifo
	echo through >$M/fifo &
	same "$(cat $M/fifo)" through
	wait $!
	ln -s "$(printf %01000d 0)" $M/long
	same "$(readlink $M/long)" "$(readlink $L/long)"
}

# A directory of many entries lists each of them once, with its attributes.
t_readdir() {
	mkdir $M/many
	(cd $L/many && seq 250 | xargs touch && mkdir sub)
	same "$(find $M/many | wc -l)" 252
	same "$(cd $M/many && find . -mindepth 1 -printf '%i %m %u %s %n %T@ %f\n' | sort)" \
		"$(cd $L/many && find . -mindepth 1 -printf '%i %m %u %s %n %T@ %f\n' | sort)"
	[ "$(number all READDIRPLUS)" -gt 0 ]
	rm -r $M/many
	refuses 'No such file' stat $L/many
}

# Changes below the mount show: a file that is replaced, and a directory that is moved.
t_changed_below() {
	mkdir -p /mnt/now/d/e
	echo first >/mnt/now/d/e/f
	cat /mnt/now/d/e/f
	echo second >/lower/now/d/e/f2
	mv /lower/now/d/e/f2 /lower/now/d/e/f
	same "$(cat /mnt/now/d/e/f)" second
	mv /lower/now/d /lower/now/x
	same "$(cat /mnt/now/x/e/f)" second
	refuses 'No such file' cat /mnt/now/d/e/f
	rm /lower/now/x/e/f
	mkdir /lower/now/x/e/f
	same "$(stat -c %F /mnt/now/x/e/f)" directory
}

# A directory that seems to be below itself is refused, and other directories still work.
t_loop() {
	mkdir -p $M/loop/a/b
	mount --bind $L/loop $L/loop/a/b
	refuses 'Too many levels' stat $M/loop/a/b/a
	umount $L/loop/a/b
	until same "$(stat -c %F $M/loop/a/b)" directory; do :; done
	mkdir -p /mnt/now/l1/l2
	cd /mnt/now/l1/l2
	mv /lower/now/l1/l2 /lower/now/l2
	mv /lower/now/l1 /lower/now/l2/l1
	refuses 'Too many levels' stat l1
	same "$(stat -c %F /mnt/now/l2/l1)" directory
	stat l1
}

# Names deep in a tree are found with little stack, even if directories on the way have lost their descriptors.
t_deep() {
	local d
	d=$(printf 'd/%.0s' {1..300})
	mkdir -p "/lower/few/deep/$d" /lower/few/wide/{1..40}
	echo down >"/lower/few/deep/${d}f"
	cd "/mnt/few/deep/$d"
	find /mnt/few/wide | wc -l
	same "$(cat f)" down
	cd /
	rm -r /lower/few/deep /lower/few/wide
	passed_through few
}

# With few descriptors many files can be found and read; too many open files give an error, and later opens succeed.
t_descriptors() {
	local d
	for d in $(seq 15); do
		mkdir -p /lower/few/"$d"/a/b
		echo "$d" | tee /lower/few/"$d"/a/b/{1,2,3,4,5,6,7,8} >/lower/few/"$d"/x
	done
	same "$(find /mnt/few -type f | wc -l)" 135
	same "$(cat /mnt/few/*/a/b/[1-8] | sort -n | uniq -c | awk '$1 == 8' | wc -l)" 15
	[ "$(find "/proc/$(</run/few.pid)/fd" | wc -l)" -le 65 ]
	(
		# shellcheck disable=SC2034
		for d in $(seq 3 100); do
			exec {fd}<"/mnt/few/$((d % 15 + 1))/x" || exit
		done
	) 2>/tmp/few && return 1
	grep 'Too many open files' /tmp/few
	same "$(cat /mnt/few/*/x | wc -l)" 15
	mv /mnt/few/1 /mnt/few/one
	same "$(cat /mnt/few/one/a/b/1)" 1
	rm -r /mnt/few/[2-9]*
	passed_through few
}

# Files on another file system that is mounted in the source have distinct inode numbers.
t_submount() {
	mkdir $L/sub
	mount -t tmpfs tmpfs $L/sub
	echo x >$M/sub/x
	same "$(cat $L/sub/x)" x
	same "$(find $M -xdev -printf '%i\n' | sort | uniq -d | xargs -I{} find $M -inum {} -links 1 ! -type d | wc -l)" 0
	umount -l $L/sub
	passed_through all
}

# Processes that concurrently make, move, link and remove files leave the right files.
t_together() {
	local i
	mkdir $M/many
	for i in 1 2 3 4; do
		(
			cd $M/many
			for _ in $(seq 6); do
				mkdir "$i"
				echo "$i" >"$i/f"
				ln -f "$i/f" "shared"
				mv "$i/f" "f$i"
				echo x >>"f$i"
				rmdir "$i"
				[ -s "f$i" ]
			done
		) || touch /tmp/together &
	done
	wait
	[ ! -e /tmp/together ]
	same "$(echo $M/many/*)" "$(echo $M/many/{f1,f2,f3,f4,shared})"
	same "$(echo $L/many/*)" "$(echo $L/many/{f1,f2,f3,f4,shared})"
	passed_through all
}

# An O_TMPFILE file has the user and the umask of its creator, passes through, and can get a name.
t_unnamed() {
	local before how
	before=$(number all TMPFILE)
	mkdir -m 777 $M/unnamed
	for how in '' -p; do
		same "$(umask 022; /share/unnamed $how $M/unnamed "$M/unnamed/root$how")" '0 0 100644 0 4'
		same "$(cat $M/unnamed/root$how)" data
		cmp $M/unnamed/root$how $L/unnamed/root$how
	done
	same "$(as_user sh -c "umask 027; /share/unnamed -p $M/unnamed $M/unnamed/user")" '1000 1000 100640 0 4'
	same "$(stat -c '%u %g %a %h' $L/unnamed/user)" '1000 1000 640 1'
	same "$(stat -c '%u %g %a %h %i' $M/unnamed/user)" "$(stat -c '%u %g %a %h %i' $L/unnamed/user)"
	# From then on the file is like any other.
	mv $M/unnamed/user $M/unnamed/moved
	echo more >>$M/unnamed/moved
	same "$(cat $L/unnamed/moved)" datamore
	rm $M/unnamed/moved
	setfacl -d -m u:1000:rw-,m::rw- $M/unnamed
	/share/unnamed $M/unnamed $M/unnamed/acl
	same "$(getfacl -cEp $M/unnamed/acl | sed -n 2p)" 'user:user:rw-'
	same "$(getfacl -cEp $M/unnamed/acl)" "$(getfacl -cEp $L/unnamed/acl)"
	same "$(($(number all TMPFILE) - before))" 4
	passed_through all
}

# An O_TMPFILE file with O_EXCL cannot get a name; a client that may not write to the directory makes no file.
t_unnamed_refused() {
	mkdir -m 755 $M/unnamed2
	refuses 'linkat: No such file' /share/unnamed -x $M/unnamed2 $M/unnamed2/f
	refuses 'linkat: No such file' /share/unnamed -x -p $M/unnamed2 $M/unnamed2/f
	refuses 'open: Permission denied' as_user /share/unnamed -p $M/unnamed2 $M/unnamed2/f
	same "$(ls -A $L/unnamed2)" ''
	passed_through all
}

# Many O_TMPFILE files, one after the other, leave no lower inodes, and no descriptors in the daemon.
t_unnamed_many() {
	local before fds
	fds=/proc/$(</run/all.pid)/fd
	mkdir $M/unnamed3
	before=$(df --output=iused $L | tail -n 1)
	xfs_io -T -c 'pwrite 0 4096' $M/unnamed3 >/dev/null
	for _ in $(seq 5); do
		xfs_io -T -c 'pwrite -q 0 4096' $M/unnamed3
	done
	until [ "$(df --output=iused $L | tail -n 1)" = "$before" ]; do :; done
	refuses '' sh -c "ls -l $fds | grep 'unnamed3/#.*deleted'"
	passed_through all
}
