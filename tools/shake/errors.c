// SPDX-License-Identifier: GPL-2.0
/*
 * errors: one operation on an open file while its disk fails.
 *
 *	errors --list | --pattern
 *	errors OPERATION FILE TABLE [PID]
 *
 * --list prints the operations, --pattern the content of FILE.
 *
 * Opens FILE, prepares, runs the command "TABLE reads" or "TABLE writes", which
 * makes these fail, and prints what each call of the operation returns.  Then it
 * runs "TABLE ok", and fails if a block of the file has data that was never
 * written to it.  The operation with a daemon kills PID first.
 */
#include "common.h"
#include "async_test.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/uio.h>

#define LEN	(128 * KIB)	/* of FILE, pattern 1 */
#define FAR	(1 << 20)
#define OLD	1
#define NEW	2

static int fd, other, pipes[2];
static char *buf;
static const char *table, *daemon_pid;
static sigjmp_buf on_sigbus;

/* Print the result of a call. */
static void ret(long n)
{
	if (n < 0)
		printf(" %s", strerrorname_np(errno));
	else
		printf(" %ld", n);
}

/* The result of a call that returns a negative errno */
static void ret_errno(long n)
{
	if (n < 0)
		errno = -n;
	ret(n);
}

static void disk(const char *what)
{
	char command[300];

	snprintf(command, sizeof(command), "%s %s", table, what);
	if (system(command)) {
		fprintf(stderr, "errors: '%s' failed\n", command);
		exit(2);
	}
}

static void reads(void)
{
	disk("reads");
}

static void writes(void)
{
	pattern(buf, LEN, 2 * BLOCK, NEW);
	disk("writes");
}

static void size(void)
{
	ret(size_of(fd));
}

static void op_read(void)
{
	reads();
	ret(pread(fd, buf, BLOCK, 2 * BLOCK));
	ret(pread(fd, buf, 2 * BLOCK, LEN - BLOCK));
}

/* The first block is cached. */
static void op_read_part(void)
{
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	pread(fd, buf, BLOCK, 0);
	reads();
	ret(pread(fd, buf, 4 * BLOCK, 0));
}

static void op_read_aio(void)
{
	reads();
	ret_errno(aio_once(IOCB_CMD_PREAD, fd, buf, 2 * BLOCK, 2 * BLOCK));
}

static void op_read_uring(void)
{
	reads();
	ret_errno(uring_once(IORING_OP_READ, fd, buf, 2 * BLOCK, 2 * BLOCK));
}

static void op_splice(void)
{
	loff_t off = 0;

	reads();
	ret(splice(fd, &off, pipes[1], NULL, 2 * BLOCK, 0));
}

static void sigbus(int sig)
{
	siglongjmp(on_sigbus, 1);
}

static void op_read_mmap(void)
{
	volatile char *map = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);

	signal(SIGBUS, sigbus);
	reads();
	if (sigsetjmp(on_sigbus, 1))
		printf(" SIGBUS");
	else
		printf(" %d", map[2 * BLOCK]);
}

/* A write of a part of a block reads it first. */
static void op_write_part(void)
{
	pattern(buf, BLOCK, 2 * BLOCK + 100, NEW);
	reads();
	ret(pwrite(fd, buf, 100, 2 * BLOCK + 100));
}

static void dirty(void)
{
	pattern(buf, LEN, 2 * BLOCK, NEW);
	ret(pwrite(fd, buf, 2 * BLOCK, 2 * BLOCK));
}

/* Each open file tells of the error once. */
static void op_fsync(void)
{
	dirty();
	writes();
	ret(fsync(fd));
	ret(fsync(fd));
	ret(fsync(other));
}

static void op_fsync_dead(void)
{
	dirty();
	if (*daemon_pid) {
		kill(atoi(daemon_pid), SIGKILL);
		while (task_state(atoi(daemon_pid)) && task_state(atoi(daemon_pid)) != 'Z')
			sched_yield();
	}
	writes();
	ret(fsync(fd));
	ret(fsync(other));
}

static void op_fdatasync(void)
{
	dirty();
	writes();
	ret(fdatasync(fd));
	ret(pread(fd, buf, 100, 2 * BLOCK));
}

static void op_close(void)
{
	dirty();
	writes();
	sync();
	ret(close(fd));
	fd = dup(other);
	ret(fsync(other));
}

static void op_write(void)
{
	writes();
	ret(pwrite(fd, buf, 2 * BLOCK, 2 * BLOCK));
	ret(pwrite(fd, buf, 2 * BLOCK, 2 * BLOCK));
	size();
}

static void op_append(void)
{
	fcntl(fd, F_SETFL, O_APPEND | O_SYNC);
	writes();
	pattern(buf, BLOCK, LEN, NEW);
	ret(write(fd, buf, BLOCK));
	size();
	ret(lseek(fd, 0, SEEK_CUR));
}

static void op_extend(void)
{
	writes();
	pattern(buf, 2 * BLOCK, FAR, NEW);
	ret(pwrite(fd, buf, 2 * BLOCK, FAR));
	size();
}

static void op_write_aio(void)
{
	writes();
	ret_errno(aio_once(IOCB_CMD_PWRITE, fd, buf, 2 * BLOCK, 2 * BLOCK));
}

static void op_extend_aio(void)
{
	writes();
	pattern(buf, 2 * BLOCK, FAR, NEW);
	ret_errno(aio_once(IOCB_CMD_PWRITE, fd, buf, 2 * BLOCK, FAR));
	size();
}

static void op_write_uring(void)
{
	writes();
	ret_errno(uring_once(IORING_OP_WRITE, fd, buf, 2 * BLOCK, 2 * BLOCK));
}

static void op_dsync(void)
{
	struct iovec iov = { buf, 2 * BLOCK };

	writes();
	ret(pwritev2(fd, &iov, 1, 2 * BLOCK, RWF_DSYNC));
}

static void op_msync(void)
{
	char *map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	pattern(map + 2 * BLOCK, BLOCK, 2 * BLOCK, NEW);
	writes();
	ret(msync(map, LEN, MS_SYNC));
	ret(fsync(fd));
}

/* The file system goes read-only, or shuts down. */
static void op_journal(void)
{
	writes();
	ret(ftruncate(fd, LEN / 2));
	ret(fsync(fd));
	sync();
	ret(pwrite(fd, buf, 100, 2 * BLOCK));
	ret(pread(fd, buf, 100, 0));
	ret(fsync(fd));
}

static const struct op {
	const char *name;
	void (*call)(void);
	int flags;
} ops[] = {
	{ "read", op_read },
	{ "read-direct", op_read, O_DIRECT },
	{ "read-part", op_read_part },
	{ "read-aio", op_read_aio },
	{ "read-aio-direct", op_read_aio, O_DIRECT },
	{ "read-uring", op_read_uring },
	{ "read-uring-direct", op_read_uring, O_DIRECT },
	{ "read-mmap", op_read_mmap },
	{ "splice", op_splice },
	{ "write-part", op_write_part },
	{ "write-sync", op_write, O_SYNC },
	{ "write-direct", op_write, O_DIRECT },
	{ "write-aio-direct", op_write_aio, O_DIRECT },
	{ "write-uring-direct", op_write_uring, O_DIRECT },
	{ "write-dsync", op_dsync },
	{ "append-sync", op_append },
	{ "extend-direct", op_extend, O_DIRECT },
	{ "extend-aio-direct", op_extend_aio, O_DIRECT },
	{ "fsync", op_fsync },
	{ "fsync-dead", op_fsync_dead },
	{ "fdatasync", op_fdatasync },
	{ "msync", op_msync },
	{ "close", op_close },
	{ "journal", op_journal },
};

/* Each byte is old, new, or that of a hole. */
static bool own_data(void)
{
	off_t off, end = size_of(fd);
	unsigned char c;
	char *block = pages(BLOCK);
	ssize_t n, i;

	for (off = 0; off < end; off += BLOCK) {
		n = pread(fd, block, BLOCK, off);
		for (i = 0; i < n; i++) {
			c = block[i];
			if (c && c != pattern_at(off + i, OLD) && c != pattern_at(off + i, NEW))
				return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	const struct op *op;
	off_t off;

	if (argc == 2 && !strcmp(argv[1], "--pattern")) {
		for (off = 0; off < LEN; off++)
			putchar(pattern_at(off, OLD));
		return 0;
	}
	for (op = ops; argc == 2 && op < ops + ARRAY_SIZE(ops); op++)
		puts(op->name);
	if (argc == 2)
		return 0;
	for (op = ops; argc >= 4 && op < ops + ARRAY_SIZE(ops); op++)
		if (!strcmp(op->name, argv[1]))
			break;
	if (argc < 4 || op == ops + ARRAY_SIZE(ops)) {
		fprintf(stderr, "usage: errors --list, or errors OPERATION FILE TABLE [PID]\n");
		return 2;
	}
	table = argv[3];
	daemon_pid = argc > 4 ? argv[4] : "";
	fd = open(argv[2], O_RDWR | O_CLOEXEC | op->flags);
	other = open(argv[2], O_RDWR | O_CLOEXEC);
	buf = pages(LEN);
	if (fd < 0 || other < 0 || pipe(pipes)) {
		fprintf(stderr, "errors: %s: %m\n", argv[2]);
		return 2;
	}
	memset(buf, 0xee, LEN);
	op->call();
	printf("\n");
	disk("ok");
	fcntl(fd, F_SETFL, 0);
	if (!own_data()) {
		printf("data of others\n");
		return 1;
	}
	return 0;
}
