# SPDX-License-Identifier: GPL-2.0
# Functions that the scripts of the series share; sourced after tools/lib.sh, never run.
# shellcheck shell=bash disable=SC2034,SC2154
#
# A patch of the series, patches/linux-K/NNNN-name.patch, has
#
#	# SPDX line
#	Subject: of the commit
#
#	Message of the commit.
#
#	Whole: path             a whole file that this patch adds; it has the same path here, or is in patches/linux-K/ if
#	                        a file of this name is there; path/ for all files of a directory
#	Section: MAINTAINERS    this patch adds our section of that file
#	---
#	diff --git ...          changes to the kernel's files, without index lines; optional. A later patch may add a
#	                        removed file again, as a whole file

choose_kernel "${asked[0]}"

# choose_by VERSION: choose the kernel of that version, if it is one of those in K=
choose_by() {
	local k
	for k in "${asked[@]}"; do
		case $1 in
		"$k" | "$k".*)
			choose_kernel "$k"
			return
			;;
		esac
	done
	return 1
}

# The author of the series: the first maintainer in our section
author=$(sed -n 's/^M:[[:space:]]*//p;T;q' "$top/MAINTAINERS")

# field NAME PATCH...: print the values of the headers NAME:
field() {
	local name=$1 p
	shift
	for p; do
		sed -n "/^---\$/q; s/^$name: //p" "$p"
	done
}

# message PATCH: print the commit message, subject first
message() {
	sed -n '/^---$/q; /^# /d; /^\(Whole\|Section\): /d; s/^Subject: //; p' "$1" | git stripspace
}

# ours_in DIRECTORY: print the files of DIRECTORY, without ignored ones
ours_in() {
	cd "$top" || return
	git ls-files -co --exclude-standard -- "$1" 2>/dev/null || find "$1" -type f
}

# wholes PATCH...: print the paths that the whole files have in the kernel
wholes() {
	field Whole "$@" | while read -r path; do
		case $path in
		*/) (ours_in "$path" | sort) ;;
		*) printf '%s\n' "$path" ;;
		esac
	done
}

# whole_file PATH: print the path of that whole file in this repository
whole_file() {
	local own=${patches#"$top"/}/${1##*/}
	if [ -e "$top/$own" ]; then
		printf '%s\n' "$own"
	else
		printf '%s\n' "$1"
	fi
}

# hooked PATCH...: print the kernel files that the patches change
hooked() {
	{
		sed -n 's/^diff --git a\/\(.*\) b\/.*/\1/p' "$@"
		field Section "$@"
	} | sort -u
}

# removed PATCH...: print the kernel files that the patches remove
removed() {
	awk '/^diff --git a\// { f = substr($3, 3) } /^deleted file / { print f }' "$@"
}

# among PATH GLOB...: succeed if PATH matches a GLOB, or if there are none
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

# splice FILE: insert our section into the kernel's MAINTAINERS, in alphabetical order
splice() {
	section=$(grep -v '^#' "$top/MAINTAINERS") awk -v after="$maintainers_next" '
		$0 == after { print ENVIRON["section"] "\n"; put = 1 }
		{ print }
		END { exit !put }' "$1" >"$1.part"
	mv "$1.part" "$1"
}

# put DIR PATCH [GLOB...]: apply one patch to the kernel tree in DIR, or only the files that match; without fuzz, and
# without overwriting a file of the kernel
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
	# Without the ceiling git takes DIR for a part of an outer repository, and skips files that are not in it.
	if [ ${#changes[@]} -gt 0 ]; then
		(cd "$dir" && GIT_CEILING_DIRECTORIES=${dir%/*} git apply --whitespace=nowarn "${changes[@]}" "$patch")
	fi
	while read -r f; do
		among "$f" "$@" || continue
		[ ! -e "$dir/$f" ] || die "$f is in $dir already"
		mkdir -p "$dir/${f%/*}"
		cp "$top/$(whole_file "$f")" "$dir/$f"
	done < <(wholes "$patch")
}

# base_files DIR: print the files that the series changes and that the kernel tree in DIR has. A patch may also change a
# file that an earlier patch adds.
base_files() {
	local f
	hooked "${series[@]}" | while read -r f; do
		[ ! -e "$1/$f" ] || printf '%s\n' "$f"
	done
}

# base_tree DIR: copy the pristine files that the series changes, and the files with the version, to DIR
base_tree() {
	local files
	mapfile -t files < <(base_files "$pristine")
	mkdir -p "$1"
	(cd "$pristine" && cp --parents -t "$1" Makefile .gitattributes "${files[@]}")
}

# inputs [GLOB...]: print a digest of the series, with all whole files or those that match
inputs() {
	(cd "$top" && {
		cat MAINTAINERS "${series[@]}"
		wholes "${series[@]}" | while read -r f; do
			! among "$f" "$@" || sha256sum "$(whole_file "$f")"
		done
	} | sha256sum | cut -d ' ' -f 1)
}

# version DIR: print the version of a kernel tree, or nothing
version() {
	sed -n 's/^VERSION = //p; s/^PATCHLEVEL = /./p; s/^SUBLEVEL = /./p' "$1/Makefile" 2>/dev/null | head -n 3 | tr -d '\n'
}

# module_tree DIR PATCH...: copy the pristine source that a module build needs to DIR, and apply these patches
module_tree() {
	local dir=$1 p changed
	shift
	mkdir -p "$dir"
	mapfile -t changed < <(base_files "$pristine" | grep '^\(fs\|include\)/')
	(cd "$pristine" && cp -r --parents -t "$dir" fs/fuse include/uapi/linux/fuse.h && cp --parents -t "$dir" "${changed[@]}")
	for p; do
		put "$dir" "$p" 'fs/*' 'include/*'
	done
}

# module_build KVER DIR y|n [ARGUMENT...]: build the modules in DIR, with the option on or off. The arguments are for make,
# such as a single object to build. The tree's own headers come before those of the kernel, whose configuration may lack the
# option, or have it on. If FUSE is built in, only the objects are built: modules would export the symbols of the kernel.
module_build() {
	local headers dir=$2 option=$3 set='#undef CONFIG_FUSE_PASSTHROUGH' goals=(modules)
	headers=$(headers "$1")
	shift 3
	[ "$option" = n ] || set+=$'\n#define CONFIG_FUSE_PASSTHROUGH 1'
	[ "$fuse" = m ] || goals=(fuse.o cuse.o virtiofs.o)
	[[ "$*" != *.o ]] || goals=()
	[ "$fuse" = m ] || goals+=(CONFIG_{FUSE_FS,CUSE,VIRTIO_FS}"=m")
	mkdir -p "$dir/inc/linux"
	cp -p "$dir/include/uapi/linux/fuse.h" "$dir/inc/linux/"
	[ "$(cat "$dir/inc/option.h" 2>/dev/null)" = "$set" ] || say "$set" >"$dir/inc/option.h"
	make -C "$headers" M="$dir/fs/fuse" -j"$(nproc)" CONFIG_FUSE_PASSTHROUGH="$option" \
		NOSTDINC_FLAGS="-nostdinc -I$dir/inc -I$dir/include -I$dir/include/uapi" \
		KCFLAGS="-include $dir/inc/option.h" "$@" "${goals[@]}"
}

# headers KVER: print the directory of the kernel's headers, from Debian's package or from the kernel's own modules_install
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

# need_headers KVER: install the headers if they are missing, and check that the kernel has FUSE as series.conf says
need_headers() {
	if ! headers "$1" >/dev/null; then
		[ -n "$(apt-cache show "linux-headers-$1" 2>/dev/null)" ] ||
			die "there are no headers of $1 here or in the archive: give KVER= of installed ones, or none for the newest"
		need "linux-headers-$1"
	fi
	grep -qx "CONFIG_FUSE_FS=$fuse" "$(headers "$1")/include/config/auto.conf" ||
		die "$1 is not configured with CONFIG_FUSE_FS=$fuse: take a kernel that is, or make apply and build one"
}

# new_warnings LOG: print the warnings of the compiler and of sparse in LOG, except kernel-doc warnings about the pristine
# files
new_warnings() {
	grep -E "(warning|error):" "$1" | sed "s/^[^ ]*: //" |
		grep -vxFf <(cd "$pristine" && scripts/kernel-doc -none fs/fuse/*.[ch] 2>&1 | sed "s/^[^ ]*: //") || true
}
