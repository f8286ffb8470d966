# SPDX-License-Identifier: GPL-2.0
# Trees and repositories for the tests of tools/series/; sourced after lib.sh, never run. The script sets $out, which is
# emptied.
# shellcheck shell=bash disable=SC2154

rm -rf "$out"
mkdir -p "$out"
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=$out/gitconfig
git config --global user.name Tester
git config --global user.email tester@example.org

# plain DIR: make a kernel tree with the files that the series concerns
plain() {
	rm -rf "$1"
	base_tree "$1"
	(cd "$pristine" && cp -r --parents -t "$1" fs/fuse include/trace/events/sched.h)
}

# tree DIR: likewise, as a git tree
tree() {
	plain "$1"
	git -C "$1" init -q
	git -C "$1" add -A -f
	git -C "$1" commit -q -m "Linux $(version "$1")"
}

# state DIR: print everything in DIR that must not change
state() {
	(cd "$1" && find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
	[ ! -e "$1/.git" ] || git -C "$1" log -1 --format=%H
	[ ! -e "$1/.git" ] || git -C "$1" status
}

# repository DIR: copy this project, with a separate build/
repository() {
	mkdir -p "$1/build"
	(cd "$top" && { git ls-files -co --exclude-standard 2>/dev/null || find . -path ./build -prune -o -type f -print; } |
		while read -r f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done | xargs -0 cp --parents -t "$1")
	ln -s "$pristine" "$pristine.stamp" "$1/build/"
	git -C "$1" init -q
	git -C "$1" add -A
	git -C "$1" commit -q -m "as it is"
}

# refused DIR WORD COMMAND...: COMMAND fails with one line that contains WORD, and leaves the tree unchanged
refused() {
	local dir=$1 word=$2 before status=0 said
	shift 2
	before=$(state "$dir")
	said=$("$@" 2>&1) || status=$?
	say "it said: $said"
	[ "$status" != 0 ]
	[ "$(wc -l <<<"$said")" = 1 ]
	grep -qF "$word" <<<"$said"
	diff <(say "$before") <(state "$dir")
}

# Make a repository with an additional series for a small Linux 2.6, $out/other. The series removes that kernel's own
# passthrough, a file with the name of one of ours and another file, and adds a file of ours, a file for that kernel, a hook
# and the section of MAINTAINERS. The source is minimal, and marked as unpacked from the package of git.
other_kernel() {
	local dir=$out/other patches=$out/other/patches/linux-2.6 source=$out/other/build/linux-2.6
	repository "$dir"
	mkdir -p "$patches" "$source"/{fs/fuse,include/uapi/linux}
	cp "$pristine/.gitattributes" "$source/"
	cp "$pristine/fs/fuse/Kconfig" "$source/fs/fuse/"
	say "#define FUSE_PASSTHROUGH (1ULL << 37)" >"$source/include/uapi/linux/fuse.h"
	printf '%s\n' "/* theirs */" "int theirs;" | tee "$source/fs/fuse/passthrough.c" >"$source/fs/fuse/iomode.c"
	printf '%s = %s\n' VERSION 2 PATCHLEVEL 6 SUBLEVEL 1 >"$source/Makefile"
	printf '%s\n' FIRST "" SECOND >"$source/MAINTAINERS"
	dpkg-query -W -f='${Version}' git >"$source.stamp"

	cat >"$patches/series.conf" <<-END
		source_package=git
		tarball=/none
		packaged=none
		fuse=y
		maintainers_next=SECOND
		subject_prefix='PATCH 2.6.y'
	END
	printf '%s\n' "Subject: three" "" "They are few." >"$patches/cover-letter"
	say "/* of 2.6 */" >"$patches/kernel.h"
	cat >"$patches/0001-out.patch" <<-END
		# SPDX-License-Identifier: GPL-2.0
		Subject: out

		Take theirs out.

		---
		$(cd "$source" && for f in fs/fuse/{iomode,passthrough}.c; do
			git diff --no-index "$f" /dev/null | sed '/^index /d; s|^diff --git .*|diff --git a/'"$f b/$f|" || true
		done)
	END
	cat >"$patches/0002-engine.patch" <<-END
		# SPDX-License-Identifier: GPL-2.0
		Subject: engine

		Add it.

		Whole: fs/fuse/kernel.h
		Whole: fs/fuse/passthrough.c
		---
		$(awk '/^diff /{ hook = /Kconfig$/ } hook' "$top/patches/linux-$K"/*.patch)
	END
	cat >"$patches/0003-MAINTAINERS.patch" <<-END
		# SPDX-License-Identifier: GPL-2.0
		Subject: MAINTAINERS

		Add us.

		Section: MAINTAINERS
		---
	END
	git -C "$dir" add -A
	git -C "$dir" commit -q -m other
}

# other_tree DIR: make a git tree of that kernel
other_tree() {
	rm -rf "$1"
	cp -r "$out/other/build/linux-2.6" "$1"
	git -C "$1" init -q
	git -C "$1" add -A -f
	git -C "$1" commit -q -m "Linux 2.6.1"
}

# of_other SCRIPT ARGUMENT...: run a script of that repository's tools/series/, which selects the kernel itself
of_other() {
	local script=$1
	shift
	env -u K "$out/other/tools/series/$script" "$@"
}
