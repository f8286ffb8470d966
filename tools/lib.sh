# SPDX-License-Identifier: GPL-2.0
# Shared by all scripts. Sourced first, after set -euo pipefail; never run.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
logs=$build/log
me=${0##*/}
export LC_ALL=C
# The path of an ordinary user of Debian lacks modprobe, depmod and mkfs.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }

warn() { printf '%s: %s\n' "$me" "$*" >&2; }

# die MESSAGE: print one line, which says what is wrong and what to do about it, and exit with 1
die() {
	warn "$*"
	exit 1
}

# strict COMMAND...: run COMMAND, such as a function of the caller, in a new shell that stops at the first error. Most
# callers are in a condition, where bash ignores set -e.
strict() {
	bash <(declare -p | sed '/^declare -[a-z]*r/d'
		declare -f
		echo 'set -euo pipefail'
		echo '"$@"') "$@"
}

# step NAME WHAT COMMAND...: run COMMAND with its output in build/log/NAME.log, and print one line, which ends with the time
# it took. After a failure print the end of the log and where the rest is.
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

# space GIB: exit if the disk has less free space
space() {
	local free
	mkdir -p "$build"
	free=$(df --output=avail -k "$build" | tail -n 1)
	[ "$free" -ge $(($1 * 1024 * 1024)) ] ||
		die "build/ needs $1 GiB free and has $((free / 1024 / 1024)): free some space and try again"
}

# as_root WHAT: set $sudo to the prefix for a command that needs root, or exit with the advice to do WHAT
as_root() {
	sudo=()
	[ "$(id -u)" != 0 ] || return 0
	command -v sudo >/dev/null || die "as root, run: $1"
	sudo=(sudo)
}

# apt_update: update the package lists, unless they were updated within the hour
apt_update() {
	local sudo
	[ -z "$(find "$build/.apt.updated" -mmin -60 2>/dev/null)" ] || return 0
	as_root "apt-get update"
	step apt-update "updating the package lists" "${sudo[@]}" apt-get update -q || return
	touch "$build/.apt.updated"
}

# apt_install PACKAGE...: install the packages, or their newest versions, as root or by sudo, and say so
apt_install() {
	local sudo
	command -v apt-get >/dev/null || die "this needs the Debian packages: $*"
	as_root "apt-get install $*"
	[ ${#sudo[@]} = 0 ] || say "sudo is used to install: $*"
	# Two concurrent runs would compete for apt's lock.
	mkdir -p "$build"
	(
		flock 9
		apt_update || true
		step apt-install "installing $# packages" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
			apt-get install -q -y --no-install-recommends "$@"
	) 9>"$build/.apt.lock" ||
		die "could not install: $* (is the network there?)"
}

# need PACKAGE...: install the packages that are missing
need() {
	local missing=() p
	for p; do
		dpkg-query -W -f='${Status}\n' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
	done
	[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# A script makes OUT, a file or a directory. OUT.stamp holds WANT, a digest of all its inputs:
#
#	stale OUT WANT || exit 0
#	commands that make OUT.part
#	made OUT WANT

# made_of OUT: print the digest of what OUT was made of, or nothing
made_of() {
	[ ! -e "$1" ] || cat "$1.stamp" 2>/dev/null || true
}

# stale OUT WANT: succeed if OUT has to be made, because it is missing or was not made of WANT. If two processes ask at
# once, the second one waits for the first, and then finds OUT made.
stale() {
	[ "$(made_of "$1")" != "$2" ] || return 1
	mkdir -p "${1%/*}"
	exec 9>"$1.lock"
	flock 9
	[ "$(made_of "$1")" != "$2" ] || return 1
	rm -rf "$1.part"
}

# made OUT WANT: rename OUT.part to OUT, and record WANT
made() {
	rm -rf "$1" "$1.stamp"
	mv "$1.part" "$1"
	printf '%s\n' "$2" >"$1.stamp"
}

# apt_sources SUITE TYPE...: print lines of a sources.list, of types deb and deb-src, for SUITE: the host's Debian 12
# sources under that name. Sources of other releases are left out.
apt_sources() {
	local suite=$1 type
	shift
	for type; do
		apt-get indextargets --format '$(CODENAME) $(REPO_URI) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
			sed -n "s/^bookworm\(-updates\|-security\)\? \([^ ]*\) /$type \2 $suite\1 /p"
	done | sort -u
}

# separate_apt SUITE DIR TYPE...: make an apt that knows nothing but SUITE, with all its state in DIR, and get its lists. The
# host's apt may have no source entries, or none for that release. APT_CONFIG=DIR/apt.conf selects the one made here.
separate_apt() {
	local suite=$1 dir=$2
	shift 2
	mkdir -p "$dir"/{lists,cache/archives}/partial
	apt_sources "$suite" "$@" >"$dir/sources.list"
	[ -s "$dir/sources.list" ] || die "the host's apt has no Debian bookworm sources: add them and run apt-get update"
	touch "$dir/status"
	printf 'Dir::%s "%s";\n' Etc::SourceList "$dir/sources.list" Etc::SourceParts - State::Lists "$dir/lists" \
		State::Status "$dir/status" Cache "$dir/cache" >"$dir/apt.conf"
	APT_CONFIG=$dir/apt.conf apt-get -q --error-on=any update
}

# apt_options: print options that give mmdebstrap the proxies and checks of the host's apt
apt_options() {
	apt-config dump |
		sed -n 's/^\(Acquire::https\?::Proxy .*\|Acquire::Check-\(Date\|Valid-Until\) .*\)$/--aptopt=\1/p'
}

# kernels: print the kernels that have a series, oldest first
kernels() {
	(cd "$top/patches" && printf '%s\n' linux-*/0*.patch) | sed 's|^linux-||; s|/.*||' | sort -uV
}

# The kernels in K=, or all. A script that works on one kernel takes the first.
# shellcheck disable=SC2034
mapfile -t asked < <(say "${K:-$(kernels)}")

# choose_kernel VERSION: set K, and the settings of patches/linux-K/series.conf. SERIES= selects another series for that
# kernel, in patches/SERIES-K/ instead of patches/linux-K/.
choose_kernel() {
	K=$1
	# shellcheck disable=SC2034
	series_name=${SERIES:-linux}-$K
	patches=$top/patches/$series_name
	# shellcheck disable=SC2034
	pristine=$build/linux-$K
	[ -f "$patches/series.conf" ] || die "there is no patches/$series_name/series.conf: K= is one of $(kernels | paste -sd ' ')"
	# shellcheck source=patches/linux-6.1/series.conf
	. "$patches/series.conf"
	shopt -s nullglob
	# shellcheck disable=SC2034
	series=("$patches"/[0-9]*.patch)
	shopt -u nullglob
}

# choose_guest NAME: set kernel to NAME, or if that is empty to the kernel that guests boot when nobody asks for another: stock,
# Debian's own with our module, or the one for tests of a kernel that has FUSE built in
choose_guest() {
	kernel=$1
	if [ "$fuse" = m ]; then
		: "${kernel:=stock}"
		return
	fi
	: "${kernel:=$check_kernel}"
	[ "$kernel" != stock ] ||
		die "Debian's own Linux $K has FUSE built in, and so cannot have the series: take the kernel locks or debug, not stock"
}

# newest_release: print the newest release of kernel K whose image and headers are packaged, as far as apt knows
newest_release() {
	local release
	release=$(apt-cache pkgnames linux- | sed -nE "s/^linux-(image|headers)-($packaged)\$/\2/p" | sort -V | uniq -d | tail -n 1)
	[ -n "$release" ] || die "apt knows no packages of a kernel like $packaged: run apt-get update"
	printf '%s\n' "$release"
}
