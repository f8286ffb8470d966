# SPDX-License-Identifier: GPL-2.0
# Functions of the guest's benchmarks: passthroughfs mounts, requests of their daemons, cold caches. Sourced.
# shellcheck shell=bash

stats=/run/bench
mkdir -p "$stats"

# mirror NAME SOURCE DIR OPTION...: mount passthroughfs of SOURCE on DIR; without --inodes it attaches opens only
mirror() {
	local name=$1 source=$2 dir=$3
	shift 3
	mkdir -p "$dir"
	passthroughfs --stats="$stats/$name.json" --inodes=none "$@" "$source" "$dir"
	mountpoint -q "$dir"
	pgrep -n passthroughfs >"$stats/$name.pid"
}

# asked NAME FILE: write the current counts of the daemon to FILE
asked() {
	local tries=0
	rm -f "$stats/$1.json"
	kill -USR1 "$(cat "$stats/$1.pid")"
	until [ -e "$stats/$1.json" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 1000 ] || { echo "the daemon of $1 does not answer" >&2; return 1; }
		read -r -t 0.01 <> <(:) || true
	done
	mv "$stats/$1.json" "$2"
}

# Write dirty pages back first: drop_caches keeps them.
cold() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# progress TEXT: replace the last progress line, if PROGRESS=1 asks for progress
progress() {
	[ "${PROGRESS:-0}" = 0 ] || printf '\r\033[K%s' "$*" >&2
}
