# SPDX-License-Identifier: GPL-2.0
# Shared by the scripts of the benchmarks on the host; sourced after tools/lib.sh, never run.
# shellcheck shell=bash disable=SC2034

# The disk of ext4 is memory whose requests end in a softirq: I/O is asynchronous, and does not wait for the host. The
# options are on the kernel's command line, so that they hold for a module and for a built-in driver.
memory_disk=$(printf 'null_blk.%s ' nr_devices=1 gb=1 memory_backed=1 queue_mode=2 irqmode=1 submit_queues=1)
