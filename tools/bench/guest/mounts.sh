# SPDX-License-Identifier: GPL-2.0
# What the guest's benchmarks share: passthroughfs mounts, what their daemons were asked, cold caches. Sourced.
# shellcheck shell=bash

stats=/run/bench
mkdir -p "$stats"

# mirror NAME SOURCE DIR OPTION...: passthroughfs of SOURCE on DIR; it is mounted when this returns
mirror() {
	local name=$1 source=$2 dir=$3
	shift 3
	mkdir -p "$dir"
	passthroughfs --stats="$stats/$name.json" "$@" "$source" "$dir"
	mountpoint -q "$dir"
	pgrep -n passthroughfs >"$stats/$name.pid"
}

# asked NAME FILE: the daemon's counts so far, into FILE
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

# All that is dirty is written first, or it would stay.
cold() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# progress TEXT: one line that replaces the last; only where PROGRESS=1 says that somebody looks
progress() {
	[ "${PROGRESS:-0}" = 0 ] || printf '\r\033[K%s' "$*" >&2
}
