# SPDX-License-Identifier: GPL-2.0
# Functions for the tests of daemon-*.sh. Sourced by daemon.
# shellcheck shell=bash
#
# Mounts have names: NAME mirrors /lower/NAME at /mnt/NAME. $M is the directory that most tests use, and $L its lower
# directory. The ordinary user has a separate directory there.

M=/mnt/all L=/lower/all
[ "$UID" = 0 ] || M+=/user L+=/user

# start NAME [OPTION]...: mount NAME; the daemon runs in the background. It attaches opens, but inodes only with --inodes:
# otherwise most tests would get no requests to count.
start() {
	local name=$1
	shift
	mkdir -p "/lower/$name" "/mnt/$name"
	passthroughfs --stats="/run/$name.json" --inodes=none "$@" "/lower/$name" "/mnt/$name"
	pgrep -f -- "^passthroughfs --stats=/run/$name.json" >"/run/$name.pid"
}

# dump NAME: make the daemon write new statistics. This starts no process, because processes start slowly in a guest.
dump() {
	local until=$((SECONDS + 60))
	: >"/run/$1.json"
	kill -USR1 "$(<"/run/$1.pid")"
	until [ -s "/run/$1.json" ]; do
		[ $SECONDS -lt $until ] || return 1
	done
}

# read_number NAME KEY: print a number from the last statistics: of requests with the opcode KEY, or of files that were
# "attached" or "refused"
read_number() {
	local json
	json=$(<"/run/$1.json")
	[[ $json =~ \"$2\":\ ([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

# number NAME KEY: likewise, from new statistics
number() {
	dump "$1"
	read_number "$1" "$2"
}

# passed_through NAME: the daemon got no READ and no WRITE, attached files, and had no attach refused. Only root can request
# statistics: for an ordinary user this does nothing, and root's test checks again.
passed_through() {
	local said
	[ "$UID" = 0 ] || return 0
	dump "$1"
	said="$(read_number "$1" READ) $(read_number "$1" WRITE) $(read_number "$1" refused)"
	[ "$(read_number "$1" attached)" -gt 0 ] && same "$said" '0 0 0'
}

# same GOT WANTED
same() {
	[ "$1" = "$2" ] || {
		echo "got '$1', wanted '$2'"
		return 1
	}
}

# refuses ERROR COMMAND...: COMMAND fails, and its message contains ERROR
refuses() {
	local want=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "succeeded: $*"
		return 1
	fi
	case $said in *"$want"*) ;; *) echo "said: $said"; return 1 ;; esac
}

# as_user COMMAND...: run COMMAND as the ordinary user
as_user() {
	setpriv --reuid 1000 --regid 1000 --groups 1000,2000 "$@"
}

# other COMMAND...: run COMMAND as another ordinary user
other() {
	setpriv --reuid 1001 --regid 1001 --clear-groups "$@"
}

# ended FILE: wait until the unmounted daemon has written its statistics to FILE
ended() {
	local until=$((SECONDS + 60))
	until [ -e "$1" ]; do
		[ $SECONDS -lt $until ] || return 1
	done
}

# gone PID: wait until that process has ended
gone() {
	while kill -0 "$1" 2>/dev/null; do :; done
}
