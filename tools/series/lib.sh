# SPDX-License-Identifier: GPL-2.0
# What the scripts of the series share; sourced after tools/lib.sh, never run.
# shellcheck shell=bash disable=SC2034,SC2154
#
# A patch of the series, patches/linux-6.1/NNNN-name.patch, has
#
#	# SPDX line
#	Subject: of the commit
#
#	Message of the commit.
#
#	Whole: path             a file that rides in this patch; path/ for all files of a directory
#	Section: MAINTAINERS    our section of that file rides in this patch
#	---
#	diff --git ...          changes to the kernel's files, without index lines; there may be none

patches=$top/patches/linux-6.1
tarball=/usr/src/linux-source-6.1.tar.xz
pristine=$build/linux-6.1

shopt -s nullglob
series=("$patches"/[0-9]*.patch)
shopt -u nullglob

# Who the series is from: the first maintainer in our section.
author=$(sed -n 's/^M:[[:space:]]*//p;T;q' "$top/MAINTAINERS")

# field NAME PATCH...: what follows NAME: in the headers
field() {
	local name=$1 p
	shift
	for p; do
		sed -n "/^---\$/q; s/^$name: //p" "$p"
	done
}

# message PATCH: the commit message, subject first
message() {
	sed -n '/^---$/q; /^# /d; /^\(Whole\|Section\): /d; s/^Subject: //; p' "$1" | git stripspace
}

# ours_in DIRECTORY: its files, without what git ignores
ours_in() {
	cd "$top" || return
	git ls-files -co --exclude-standard -- "$1" 2>/dev/null || find "$1" -type f
}

# wholes PATCH...: the whole files, relative to the top
wholes() {
	field Whole "$@" | while read -r path; do
		case $path in
		*/) (ours_in "$path" | sort) ;;
		*) printf '%s\n' "$path" ;;
		esac
	done
}

# hooked PATCH...: the kernel's files that are changed
hooked() {
	{
		sed -n 's/^diff --git a\/\(.*\) b\/.*/\1/p' "$@"
		field Section "$@"
	} | sort -u
}

# among PATH GLOB...: PATH matches one of them, or there are none
among() {
	local path=$1 glob
	shift
	[ $# -gt 0 ] || return 0
	for glob; do
		# shellcheck disable=SC2053
		[[ $path != $glob ]] || return 0
	done
	return 1
}

# splice FILE: put our section into the kernel's MAINTAINERS, before FUSE's own, which is the next in the alphabet
splice() {
	section=$(grep -v '^#' "$top/MAINTAINERS") awk '
		$0 == "FUSE: FILESYSTEM IN USERSPACE" { print ENVIRON["section"] "\n"; put = 1 }
		{ print }
		END { exit !put }' "$1" >"$1.part"
	mv "$1.part" "$1"
}

# put DIR PATCH [GLOB...]: apply one patch, or what of it matches, to the kernel tree in DIR; no fuzz
put() {
	local dir patch=$2 f changes=()
	dir=$(realpath "$1")
	shift 2
	while read -r f; do
		if ! among "$f" "$@"; then
			continue
		elif [ "$f" = MAINTAINERS ]; then
			splice "$dir/$f"
		else
			changes+=("--include=$f")
		fi
	done < <(hooked "$patch")
	# Without the ceiling git takes DIR for a part of a repository around it, and skips what is not there.
	if [ ${#changes[@]} -gt 0 ]; then
		(cd "$dir" && GIT_CEILING_DIRECTORIES=${dir%/*} git apply --whitespace=nowarn "${changes[@]}" "$patch")
	fi
	while read -r f; do
		if among "$f" "$@"; then
			mkdir -p "$dir/${f%/*}"
			cp --remove-destination "$top/$f" "$dir/$f"
		fi
	done < <(wholes "$patch")
}

# base_tree DIR: the pristine files that the series changes, and what tells the version
base_tree() {
	local files
	mapfile -t files < <(hooked "${series[@]}")
	mkdir -p "$1"
	(cd "$pristine" && cp --parents -t "$1" Makefile .gitattributes "${files[@]}")
}

# inputs [GLOB...]: a digest of the series; of the whole files, those that match
inputs() {
	(cd "$top" && {
		cat MAINTAINERS "${series[@]}"
		wholes "${series[@]}" | while read -r f; do
			! among "$f" "$@" || sha256sum "$f"
		done
	} | sha256sum | cut -d ' ' -f 1)
}

# version DIR: the version of a kernel tree, or nothing
version() {
	sed -n 's/^VERSION = //p; s/^PATCHLEVEL = /./p; s/^SUBLEVEL = /./p' "$1/Makefile" 2>/dev/null | head -n 3 | tr -d '\n'
}

# module_tree DIR PATCH...: what a module build needs of the pristine source, with these patches
module_tree() {
	local dir=$1 p
	shift
	mkdir -p "$dir"
	(cd "$pristine" && cp -r --parents -t "$dir" fs/fuse include/uapi/linux/fuse.h)
	for p; do
		put "$dir" "$p" 'fs/*' 'include/*'
	done
}

# module_build KVER DIR y|n [ARGUMENT...]: build the modules there, with the option on or off; arguments are for make.
# The tree's own headers come before those of the kernel, whose configuration does not know the option.
module_build() {
	local headers dir=$2 option=$3 flags=
	headers=$(headers "$1")
	shift 3
	[ "$option" = n ] || flags=-DCONFIG_FUSE_PASSTHROUGH=1
	mkdir -p "$dir/inc/linux"
	cp -p "$dir/include/uapi/linux/fuse.h" "$dir/inc/linux/"
	make -C "$headers" M="$dir/fs/fuse" -j"$(nproc)" CONFIG_FUSE_PASSTHROUGH="$option" \
		NOSTDINC_FLAGS="-nostdinc -I$dir/inc -I$dir/include -I$dir/include/uapi" \
		KCFLAGS="$flags" "${@:-modules}"
}

# headers KVER: the directory of its headers, from Debian's package or from a kernel's own modules_install
headers() {
	local dir
	for dir in "/usr/src/linux-headers-$1" "/lib/modules/$1/build"; do
		if [ -e "$dir/include/config/auto.conf" ]; then
			printf '%s\n' "$dir"
			return
		fi
	done
	return 1
}

# need_headers KVER: have them, installed if need be, and fit for a module
need_headers() {
	if ! headers "$1" >/dev/null; then
		[ -n "$(apt-cache show "linux-headers-$1" 2>/dev/null)" ] ||
			die "there are no headers of $1 here or in the archive: give KVER= of installed ones, or none for the newest"
		need "linux-headers-$1"
	fi
	grep -qx CONFIG_FUSE_FS=m "$(headers "$1")/include/config/auto.conf" ||
		die "$1 does not have FUSE as a module: take a kernel with CONFIG_FUSE_FS=m, or make apply and build one"
}

# newest_headers: the newest kernel of Debian 12's cloud flavour whose headers apt knows
newest_headers() {
	local kver
	kver=$(apt-cache search --names-only '^linux-headers-6\.1\.0-[0-9]+-cloud-amd64$' |
		sed 's/^linux-headers-//; s/ .*//' | sort -V | tail -n 1)
	[ -n "$kver" ] || die "no linux-headers-6.1.0-*-cloud-amd64 is known to apt: run apt-get update"
	printf '%s\n' "$kver"
}

passed=0
failed=0
skipped=0

# check WHAT COMMAND...: one test, which shows what WHAT says
check() {
	local what=$1 log=$logs/${me}-check.log
	shift
	mkdir -p "$logs"
	if strict "$@" </dev/null >"$log" 2>&1; then
		say "ok - $what"
		passed=$((passed + 1))
	else
		say "not ok - $what"
		tail -n 30 "$log" | sed 's/^/# /'
		failed=$((failed + 1))
	fi
}

# verdict: the line that ends a script of tests, and its status
verdict() {
	say "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
}
