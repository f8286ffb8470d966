# SPDX-License-Identifier: GPL-2.0
# Every entry point of the project. `make` alone prints what there is.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.SUFFIXES:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Each target is one script; what is up to date is the script's own affair. K=, of make's command line, is in the
# environment of all of them.
kernels := $(or $(K),$(sort $(patsubst patches/linux-%/,%,$(dir $(wildcard patches/linux-*/0*.patch)))))

run: ## the main job: V9's benchmark in a Debian guest, on three mounts (build/run/results.json)
	@tools/bench/demo
check: ## every test of every kernel, or of K=6.1, with the minutes of each job; T=name for one; KERNEL=debug: with KASAN on 6.12 too
	@tools/vm/check $(if $(T),--only "$(T)") $(if $(KERNEL),--kernel "$(KERNEL)")
check-quick: ## the kselftests on the stock kernel only
	@tools/vm/check --quick $(if $(T),--only "$(T)")
check-lower: ## the kselftests on xfs, btrfs, tmpfs and overlayfs as lower file systems, on the stock kernel
	@tools/vm/check --quick --lower "xfs btrfs tmpfs overlayfs" $(if $(T),--only "$(T)")
check-fixes: ## the fixes for mainline's own passthrough of 6.12, on two kernels with that: patches/mainline-fixes-6.12/
	@tools/vm/fixes
check-packages: ## the packages of make deb and make kernel, in guests: apt installs them, they boot, files pass through
	@tools/vm/packages
check-daemons: ## Debian 12's FUSE daemons on the stock kernel, and fuse-overlayfs with passthrough; SOURCE= as below
	@tools/vm/daemons $(if $(SOURCE),--source "$(SOURCE)")
compare: ## what mainline's passthrough of 6.12 lacks: a table, with the command that shows each row on two kernels
	@tools/vm/compare
soak: ## the model test for longer: make soak OPS=10000000 LOWER=xfs KERNEL=debug SEED=1, or K=6.12; the fuzzer: FUZZ=1000000; SHAKE=death, or races, disk, load, oom, unload, freeze; data races: KERNEL=kcsan
	@tools/vm/soak $(if $(OPS),--ops "$(OPS)") $(if $(FUZZ),--fuzz "$(FUZZ)") $(if $(SHAKE),--shake "$(SHAKE)") \
		$(if $(LOWER),--lower "$(LOWER)") $(if $(KERNEL),--kernel "$(KERNEL)") $(if $(SEED),--seed "$(SEED)")
shell: ## an interactive guest with everything in place
	@tools/vm/run --shell
lint: ## checkpatch, kernel-doc, sparse, W=1, shellcheck, SPDX; of every series, or of that of K=6.1
	@$(foreach k,$(kernels),K=$k tools/series/lint &&) :
series: ## compose the mailable series, each or that of K=6.1, in build/series/linux-6.1/
	@$(foreach k,$(kernels),K=$k tools/series/compose &&) :
	@$(foreach k,$(filter $(kernels),$(patsubst mainline-fixes-%,%,$(notdir $(wildcard patches/mainline-fixes-*)))),\
		SERIES=mainline-fixes K=$k tools/series/compose &&) :
apply: ## apply the series to a kernel tree: make apply KDIR=/path/to/linux
	@tools/series/apply "$(KDIR)"
refresh: ## take an edited kernel git tree back into whole files and hook patches: KDIR=...
	@tools/series/refresh "$(KDIR)" $(BASE)
bump: ## try each series, or that of K=6.1, on the newest kernels of Debian 12 and 13; TEST=y runs the kselftests too
	@tools/series/bump $(if $(TEST),--test)
release: ## all series and patches as a tarball, with notes and checksums, in build/release/: VERSION=1.0
	@tools/series/release "$(VERSION)"
module: ## fuse.ko, cuse.ko, virtiofs.ko for Debian's newest kernel, of K=6.1, or for KVER=..., in build/module/
	@tools/series/module $(KVER)
kernel: ## Debian packages of Linux 6.12 with the series, in build/kernel-package/; FLAVOUR=cloud-amd64, or CONFIG=FILE
	@tools/series/kernel $(if $(FLAVOUR),--flavour "$(FLAVOUR)") $(if $(CONFIG),--config "$(CONFIG)")
libfuse: ## Debian 12's libfuse with the passthrough patches in build/libfuse/
	@tools/fuse/build-libfuse
fuse-overlayfs: ## passthrough for Debian 12's fuse-overlayfs, in build/fuse-overlayfs/; SOURCE=DIR builds that, patched
	@$(if $(SOURCE),tools/fuse/patch-fuse-overlayfs "$(SOURCE)",tools/fuse/build-fuse-overlayfs)
daemon: ## passthroughfs in build/fuse/
	@tools/fuse/build
deb: ## Debian 12's packages in build/deb/: fuse-passthrough-dkms, libfuse3-3, fuse3, passthroughfs, ...
	@tools/deb/build
kselftest: ## the kselftest programs for the first kernel, or for K=6.1, in build/kselftest/
	@tools/series/kselftest
kernel-debug: ## the debug kernel with the series built in, in build/kernel/
	@tools/vm/kernel debug
bench: ## measured speed, as tables and plots in build/bench/; W=workload P=peer for one, or patterns
	@tools/bench/bench $(if $(W),--workload "$(W)") $(if $(P),--peer "$(P)")
profile: ## instructions by function, with passthrough and without: W=read-4k-sync LOWER=ext4 P=passthrough-inode
	@tools/bench/profile "$(W)" "$(or $(LOWER),tmpfs)" $(P)
clean: ## remove build/
	@rm -rf build

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))
