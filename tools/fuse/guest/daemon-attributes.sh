# SPDX-License-Identifier: GPL-2.0
# Attributes and permissions: owners, modes, times, extended attributes, ACLs, inode flags. Sourced by daemon.
# shellcheck shell=bash disable=SC2086,SC2164
# No path here has a space in it, and daemon stops at the first error.

# setfattr and getfattr act on the lower files, directories and symbolic links.
t_xattrs() {
	touch $M/x
	setfattr -n user.one -v 1 $M/x
	setfattr -n trusted.two -v 2 $M/x
	same "$(getfattr --only-values -n user.one $L/x)" 1
	same "$(getfattr --absolute-names -m - $M/x | grep -c =)" 0
	same "$(getfattr --absolute-names -m - $M/x | grep -cE '^(user.one|trusted.two)$')" 2
	setfattr -x user.one $M/x
	refuses 'No such attribute' getfattr -n user.one $M/x
	ln -s x $M/xs
	setfattr -h -n trusted.link -v 3 $M/xs
	same "$(getfattr -h --only-values -n trusted.link $L/xs)" 3
	refuses 'No such attribute' getfattr -n trusted.link $L/x
	setfattr -n user.dir -v 4 $M
	same "$(getfattr --only-values -n user.dir $L)" 4
}

# The ACLs of the lower file system are in force, and are inherited as there.
t_acls() {
	mkdir -m 750 $M/acl
	setfacl -m u:1000:rwx -d -m u:1000:rw-,m::rwx $M/acl
	echo secret >$M/acl/f
	same "$(getfacl -cEp $M/acl/f | head -n 2 | tail -n 1)" 'user:user:rw-'
	same "$(getfacl -cEp $M/acl/f)" "$(getfacl -cEp $L/acl/f)"
	same "$(as_user cat $M/acl/f)" secret
	refuses 'Permission denied' other cat $M/acl/f
	setfacl -x u:1000 $M/acl/f
	refuses 'Permission denied' as_user cat $M/acl/f
	passed_through all
}

# A new file has the user, group and umask of its client, even in a directory that only a supplementary group may write.
t_owners() {
	mkdir -m 777 $M/own
	as_user sh -c "umask 027; cd $M/own; echo x >f; mkdir d; ln -s f s; mkfifo p; sleep 0 >>f"
	same "$(cd $L/own; stat -c '%n %u %g %a' d f p s | tr '\n' ' ')" \
		'd 1000 1000 750 f 1000 1000 640 p 1000 1000 640 s 1000 1000 777 '
	mkdir $M/own/g
	chgrp 2000 $M/own/g
	chmod 2770 $M/own/g
	as_user touch $M/own/g/f
	as_user mkdir $M/own/g/d
	same "$(stat -c '%u %g %a' $L/own/g/d)" '1000 2000 2755'
	same "$(stat -c '%u %g' $L/own/g/f)" '1000 2000'
	refuses 'Permission denied' other touch $M/own/g/no
	echo root >$M/own/r
	chmod 600 $M/own/r
	refuses 'Permission denied' as_user cat $M/own/r
	refuses 'not permitted' as_user chmod 666 $M/own/r
}

# A file that was created below is not opened for a client without permission, although the kernel sends CREATE for it.
t_create_existing() {
	refuses 'No such file' cat /mnt/slow/late
	(umask 077; echo root >/lower/slow/late)
	chmod 777 /lower/slow
	refuses 'Permission denied' as_user sh -c 'echo user >>/mnt/slow/late'
	same "$(cat /lower/slow/late)" root
	refuses 'No such file' cat /mnt/slow/late2
	echo old >/lower/slow/late2
	chmod 666 /lower/slow/late2
	as_user sh -c 'echo new >/mnt/slow/late2'
	same "$(cat /lower/slow/late2) $(stat -c %u /lower/slow/late2)" 'new 0'
}

# Another user's write or truncate, and a chown, drop setuid and setgid bits.
t_setuid() {
	touch $M/suid
	chmod 6777 $M/suid
	as_user sh -c "echo x >>$M/suid"
	same "$(stat -c %a $M/suid) $(stat -c %a $L/suid)" '777 777'
	chmod 6777 $M/suid
	as_user truncate -s 0 $M/suid
	same "$(stat -c %a $L/suid)" 777
	chmod 6777 $M/suid
	as_user sh -c ": >$M/suid"
	same "$(stat -c %a $L/suid)" 777
	chmod 4711 $M/suid
	chown 1000 $M/suid
	same "$(stat -c '%a %u' $L/suid)" '711 1000'
	passed_through all
}

# With --killpriv-v2 each write and truncate drops setuid, setgid and capabilities, even root's, with and without
# passthrough.
t_killpriv() {
	local f who how
	for f in passes.pt plain; do
		for who in as_user env; do
			for how in 'echo x >>' 'echo x >' 'truncate -s 1' 'fallocate -l 8192'; do
				touch /mnt/kill/$f
				chmod 6777 /mnt/kill/$f
				setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 /mnt/kill/$f
				same "$(stat -c %a /lower/kill/$f)" 6777
				$who sh -c "$how /mnt/kill/$f"
				same "$who, $how $f: $(stat -c '%a' /lower/kill/$f)" "$who, $how $f: 777"
				refuses 'No such attribute' getfattr -n security.capability /lower/kill/$f
				rm /mnt/kill/$f
			done
		done
	done
	[ "$(number kill attached)" -gt 0 ]
}

# With --killpriv-v2 no write sends GETXATTR first, and chmod, chown and setfacl keep the modes and owners that they set.
t_killpriv_keeps() {
	local before
	echo x >/mnt/kill/asked
	before=$(number kill GETXATTR)
	dd if=/dev/zero of=/mnt/kill/asked bs=1 count=50 conv=notrunc status=none
	[ $(($(number kill GETXATTR) - before)) -lt 5 ]
	chown 1000:1000 /mnt/kill/asked
	chmod 2755 /mnt/kill/asked
	same "$(stat -c %a /lower/kill/asked)" 2755
	setfacl -m u:1001:r-x /mnt/kill/asked
	same "$(stat -c %a /lower/kill/asked)" 2755
	chmod 2644 /mnt/kill/asked
	chown 1001 /mnt/kill/asked
	same "$(stat -c '%a %u' /lower/kill/asked)" '2644 1001'
}

# Times, modes and sizes that are set through the mount are set on the lower file.
t_attributes() {
	echo 123456 >$M/at
	touch -d '2001-02-03 04:05:06.789' $M/at
	same "$(stat -c %y $L/at | cut -c 1-23)" '2001-02-03 04:05:06.789'
	touch -a -d '2002-01-01' $M/at
	same "$(stat -c %y $L/at | cut -c 1-4) $(stat -c %x $L/at | cut -c 1-4)" '2001 2002'
	ln -s at $M/ats
	touch -h -d '2003-01-01' $M/ats
	same "$(stat -c %y $L/ats | cut -c 1-4)" 2003
	chown -h 1000:2000 $M/ats
	same "$(stat -c '%u %g' $L/ats) $(stat -c %u $L/at)" '1000 2000 0'
	chmod 1640 $M/at
	same "$(stat -c %a $L/at)" 1640
	truncate -s 3 $M/at
	same "$(cat $L/at)" 123
	same "$(stat -c '%i %s %b %Y' $M/at)" "$(stat -c '%i %s %b %Y' $L/at)"
}

# statfs() returns the values of the lower file system.
t_statfs() {
	same "$(stat -f -c '%s %S %b %c %l' $M)" "$(stat -f -c '%s %S %b %c %l' $L)"
}

# Inode flags can be read and set, and are in force: an append-only file can only be appended to.
t_flags() {
	echo 1 >$M/fl
	chattr +a $M/fl
	case $(lsattr $L/fl) in *-a-*) ;; *) return 1 ;; esac
	same "$(lsattr $M/fl | cut -d ' ' -f 1)" "$(lsattr $L/fl | cut -d ' ' -f 1)"
	echo 2 >>$M/fl
	refuses 'not permitted' sh -c "echo 3 >$M/fl"
	chattr -a $M/fl
	same "$(tr '\n' ' ' <$L/fl)" '1 2 '
	refuses 'not permitted' as_user chattr +i $M/fl
	mkdir $M/fld
	chattr +d $M/fld
	same "$(lsattr -d $M/fld | cut -d ' ' -f 1)" "$(lsattr -d $L/fld | cut -d ' ' -f 1)"
}
