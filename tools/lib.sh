# SPDX-License-Identifier: GPL-2.0
# What every script here shares; sourced, never run. A script sets -euo pipefail and sources it first.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
logs=$build/log
me=${0##*/}
export LC_ALL=C
# An ordinary user of Debian has no modprobe, depmod or mkfs on the path.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }

warn() { printf '%s: %s\n' "$me" "$*" >&2; }

# One line that says what is wrong and what to do about it, then a non-zero exit.
die() {
	warn "$*"
	exit 1
}

# strict COMMAND...: run it, a function of the caller for one, in a shell of its own that stops at the first error.
# Within a condition, where most is called from, bash ignores set -e, and a function would go on.
strict() {
	bash <(declare -p | sed '/^declare -[a-z]*r/d'
		declare -f
		echo 'set -euo pipefail'
		echo '"$@"') "$@"
}

# step NAME WHAT COMMAND...: run COMMAND with its output in build/log/NAME.log, behind one tidy line
# that ends with the time it took. A failure shows the end of the log and where the rest is.
step() {
	local name=$1 what=$2 began=$SECONDS
	shift 2
	mkdir -p "$logs"
	printf '%-58s ' "$what ..."
	if strict "$@" </dev/null >"$logs/$name.log" 2>&1; then
		printf 'ok %4d s\n' $((SECONDS - began))
		return 0
	fi
	printf 'FAILED after %d s\n' $((SECONDS - began))
	tail -n 20 "$logs/$name.log" | sed 's/^/    /' >&2
	warn "$what: the whole log is in ${logs#"$top"/}/$name.log"
	return 1
}

# space GIB: refuse to begin what the disk cannot hold.
space() {
	local free
	mkdir -p "$build"
	free=$(df --output=avail -k "$build" | tail -n 1)
	[ "$free" -ge $(($1 * 1024 * 1024)) ] ||
		die "build/ needs $1 GiB free and has $((free / 1024 / 1024)): free some space and try again"
}

# need PACKAGE...: install the Debian packages that are missing, saying so; root, or sudo, for that alone.
need() {
	local missing=() p sudo=()
	for p; do
		dpkg-query -W -f='${Status}\n' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "this needs the Debian packages: ${missing[*]}"
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null ||
			die "as root, run: apt-get install ${missing[*]}"
		say "sudo is used to install: ${missing[*]}"
		sudo=(sudo)
	fi
	# Two runs at once would fight for apt's lock.
	mkdir -p "$build"
	(
		flock 9
		if [ -z "$(find "$build/.apt.updated" -mmin -60 2>/dev/null)" ] &&
			step apt-update "updating the package lists" "${sudo[@]}" apt-get update -q; then
			touch "$build/.apt.updated"
		fi
		step apt-install "installing ${#missing[@]} packages" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
			apt-get install -q -y --no-install-recommends "${missing[@]}"
	) 9>"$build/.apt.lock" ||
		die "could not install: ${missing[*]} (is the network there?)"
}
