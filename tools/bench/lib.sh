# SPDX-License-Identifier: GPL-2.0
# What the scripts of the benchmarks share on the host; sourced after tools/lib.sh, never run.
# shellcheck shell=bash disable=SC2034

# The disk of ext4 is memory whose requests end in a softirq: it has asynchronous I/O, and nothing waits for the host. On
# the kernel's command line, so that it is the same where the driver is a module and where it is built in.
memory_disk=$(printf 'null_blk.%s ' nr_devices=1 gb=1 memory_backed=1 queue_mode=2 irqmode=1 submit_queues=1)
