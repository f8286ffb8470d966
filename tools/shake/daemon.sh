# SPDX-License-Identifier: GPL-2.0
# Shared by the scripts of tools/shake, which run in a guest: results, and passthroughfs as the daemon. Sourced, never run.
# shellcheck shell=bash
shake=${0%/*}
# shellcheck source=tools/tap.sh
. "$shake/../tap.sh"

mnt=/tmp/mnt
daemon='' worker=''

# is_mounted: succeed if a FUSE file system is mounted there, with a daemon or without
is_mounted() { grep -q " $mnt fuse" /proc/mounts; }

# leave: end what a test that failed has left
leave() {
	local pid
	for pid in $worker $daemon; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	while is_mounted; do
		umount -l "$mnt"
	done
}

# fails COMMAND...: succeed if COMMAND fails
fails() { if "$@"; then return 1; fi; }

# until_true SECONDS COMMAND...: run COMMAND until it succeeds; fail when the time is over
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
	done
}

# serve WAY DIRECTORY [COMMAND...]: mount it at $mnt, attached by request, id or inode, by passthroughfs, which COMMAND starts;
# sets $daemon and $connection. A test calls this: what it leaves ends with its subshell.
serve() {
	local options=(--inodes=none "--attach=$1")
	[ "$1" != inode ] || options=(--inodes=all)
	trap leave EXIT
	mkdir -p "$mnt"
	"${@:3}" passthroughfs -f "${options[@]}" "$2" "$mnt" &
	daemon=$!
	until_true 60 is_mounted
	# shellcheck disable=SC2034
	connection=/sys/fs/fuse/connections/$(mountpoint -d "$mnt" | cut -d : -f 2)
}

# served: unmount; the daemon ends
served() {
	umount "$mnt"
	wait "$daemon"
	[ ! -e "$connection" ]
}

# work DIRECTORY: start workers on $mnt, which are on DIRECTORY below; sets $worker
work() {
	"$shake/work" --seed "$seed" "$mnt" "$1" >/tmp/work &
	worker=$!
	until_true 60 grep -qx ready /tmp/work || {
		cat /tmp/work
		return 1
	}
}

# worked: end the workers, which compare all data
worked() {
	local status=0
	kill -TERM "$worker"
	wait "$worker" || status=$?
	tail -n 3 /tmp/work
	return $status
}

# arguments ROUNDS ARGUMENT...: sets $seed and $rounds, by default ROUNDS
# shellcheck disable=SC2034
arguments() {
	seed=1 rounds=$1
	shift
	while [ $# -gt 0 ]; do
		case $1 in
		--seed) seed=$2 ;;
		--rounds) rounds=$2 ;;
		*) return 2 ;;
		esac
		shift 2
	done
	RANDOM=$seed
	echo "# ${0##*/}: seed $seed"
}
