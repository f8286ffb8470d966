// SPDX-License-Identifier: GPL-2.0
/*
 * opcost: the cost of one file operation, many times over.
 *
 * In a guest that counts a nanosecond for each instruction (tools/vm/run
 * --icount) the times are instructions.  Each repeat does the same operations
 * at the same offsets, after one pass over them that is not measured.
 */

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 32
#define PAGE 4096
/* Faults map this much around the page, if it is cached. */
#define FAULT_AROUND 65536
#define SKIP 77
#define XATTR "trusted.opcost"	/* tmpfs has no user.* xattrs before 6.6 */

static struct {
	const char *file;
	char *directory;	/* directory of the file */
	char *sibling;		/* a name in that directory that does not exist */
	const char *stats;	/* statistics of the daemon */
	pid_t daemon;
	unsigned int repeats;
	uint64_t budget;	/* nanoseconds for one repeat */
	uint64_t seed;
} config = { .repeats = 5, .budget = 6000000, .seed = 1 };

/* The measured operation, as given by its name */
static struct {
	bool write, random, append, direct;
	size_t size;
	unsigned int depth;
	int (*open)(void);
	void (*batch)(unsigned int n);
} work = { .depth = 1 };

static int fd = -1;
static off_t length;	/* length of the part of the file that is used */
static off_t position;
static uint64_t random_state;
static char *buffer[DEPTH_MAX];
static char *mapping;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void rewind_offsets(void)
{
	position = 0;
	random_state = config.seed;
}

static off_t next_offset(void)
{
	off_t at = position;

	if (work.random) {
		random_state ^= random_state << 13;
		random_state ^= random_state >> 7;
		random_state ^= random_state << 17;
		return random_state % (length / work.size) * work.size;
	}
	position += work.size;
	if (position == length)
		position = 0;
	return at;
}

static void expect(ssize_t got, size_t wanted)
{
	if (got < 0) {
		errno = -got;
		err(errno == EINVAL || errno == ENOSYS || errno == EPERM ?
		    SKIP : 1, "I/O");
	}
	if ((size_t)got != wanted)
		errx(1, "%zd instead of %zu bytes", got, wanted);
}

static int open_file(void)
{
	int flags = O_RDWR | (work.append ? O_APPEND : 0) |
		(work.direct ? O_DIRECT : 0);
	int file = open(config.file, flags);

	if (file == -1)
		err(errno == EINVAL ? SKIP : 1, "%s", config.file);
	return file;
}

/* Operations of one system call each */

static void batch_sync(unsigned int n)
{
	while (n--) {
		off_t at = next_offset();
		ssize_t got;

		if (work.append)
			got = write(fd, buffer[0], work.size);
		else if (work.write)
			got = pwrite(fd, buffer[0], work.size, at);
		else
			got = pread(fd, buffer[0], work.size, at);
		expect(got < 0 ? -errno : got, work.size);
	}
}

static void batch_fstat(unsigned int n)
{
	struct stat st;

	while (n--) {
		if (pwrite(fd, buffer[0], PAGE, next_offset()) != PAGE ||
		    fstat(fd, &st))
			err(1, "write and fstat");
	}
}

static void batch_open(unsigned int n)
{
	while (n--)
		close(open_file());
}

static void batch_stat(unsigned int n)
{
	struct stat st;

	while (n--) {
		if (stat(config.file, &st))
			err(1, "stat");
	}
}

static int open_with_xattr(void)
{
	int file = open_file();

	if (fsetxattr(file, XATTR, "value", 5, 0))
		err(errno == EOPNOTSUPP ? SKIP : 1, "fsetxattr");
	return file;
}

static void batch_getxattr(unsigned int n)
{
	char value[16];

	while (n--) {
		if (fgetxattr(fd, XATTR, value, sizeof(value)) != 5)
			err(1, "fgetxattr");
	}
}

/* List to the end, including the call that reports the end. */
static void batch_list(unsigned int n)
{
	char names[PAGE];

	while (n--) {
		int dir = open(config.directory, O_RDONLY | O_DIRECTORY);
		long got;

		if (dir == -1)
			err(1, "%s", config.directory);
		do {
			got = syscall(SYS_getdents64, dir, names, sizeof(names));
		} while (got > 0);
		if (got)
			err(1, "getdents64");
		close(dir);
	}
}

static void batch_create(unsigned int n)
{
	while (n--) {
		int file = open(config.sibling, O_RDWR | O_CREAT | O_EXCL, 0644);

		if (file == -1 || close(file) || unlink(config.sibling))
			err(1, "%s", config.sibling);
	}
}

/* libaio, without the library */

static aio_context_t aio_context;

static int open_libaio(void)
{
	if (syscall(SYS_io_setup, work.depth, &aio_context))
		err(1, "io_setup");
	return open_file();
}

static void batch_libaio(unsigned int n)
{
	struct iocb iocb[DEPTH_MAX], *list[DEPTH_MAX];
	struct io_event event[DEPTH_MAX];

	for (; n >= work.depth; n -= work.depth) {
		unsigned int i;

		for (i = 0; i < work.depth; i++) {
			iocb[i] = (struct iocb){
				.aio_lio_opcode = work.write ? IOCB_CMD_PWRITE :
					IOCB_CMD_PREAD,
				.aio_fildes = fd,
				.aio_buf = (uintptr_t)buffer[i],
				.aio_nbytes = work.size,
				.aio_offset = next_offset(),
			};
			list[i] = &iocb[i];
		}
		if (syscall(SYS_io_submit, aio_context, work.depth, list) !=
		    work.depth)
			err(errno == EINVAL ? SKIP : 1, "io_submit");
		if (syscall(SYS_io_getevents, aio_context, work.depth,
			    work.depth, event, NULL) != work.depth)
			err(1, "io_getevents");
		for (i = 0; i < work.depth; i++)
			expect(event[i].res, work.size);
	}
}

/* io_uring, without the library */

static struct {
	int fd;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	unsigned int *sq_tail, *sq_mask, *sq_array;
	unsigned int *cq_head, *cq_tail, *cq_mask;
} ring;

static int open_uring(void)
{
	struct io_uring_params p = { 0 };
	char *rings;
	size_t size;

	ring.fd = syscall(SYS_io_uring_setup, work.depth, &p);
	if (ring.fd == -1)
		err(errno == ENOSYS || errno == EPERM ? SKIP : 1, "io_uring");
	if (!(p.features & IORING_FEAT_SINGLE_MMAP))
		errx(SKIP, "io_uring is too old");

	size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
	ring.sqe = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe),
			PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			ring.fd, IORING_OFF_SQES);
	if (rings == MAP_FAILED || ring.sqe == MAP_FAILED)
		err(1, "io_uring");

	ring.sq_tail = (unsigned int *)(rings + p.sq_off.tail);
	ring.sq_mask = (unsigned int *)(rings + p.sq_off.ring_mask);
	ring.sq_array = (unsigned int *)(rings + p.sq_off.array);
	ring.cq_head = (unsigned int *)(rings + p.cq_off.head);
	ring.cq_tail = (unsigned int *)(rings + p.cq_off.tail);
	ring.cq_mask = (unsigned int *)(rings + p.cq_off.ring_mask);
	ring.cqe = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
	return open_file();
}

static void batch_uring(unsigned int n)
{
	for (; n >= work.depth; n -= work.depth) {
		unsigned int tail = *ring.sq_tail, head, i;

		for (i = 0; i < work.depth; i++, tail++) {
			unsigned int at = tail & *ring.sq_mask;

			ring.sqe[at] = (struct io_uring_sqe){
				.opcode = work.write ? IORING_OP_WRITE :
					IORING_OP_READ,
				.fd = fd,
				.addr = (uintptr_t)buffer[i],
				.len = work.size,
				.off = next_offset(),
			};
			ring.sq_array[at] = at;
		}
		__atomic_store_n(ring.sq_tail, tail, __ATOMIC_RELEASE);
		if (syscall(SYS_io_uring_enter, ring.fd, work.depth, work.depth,
			    IORING_ENTER_GETEVENTS, NULL, 0) != work.depth)
			err(1, "io_uring_enter");

		head = *ring.cq_head;
		for (i = 0; i < work.depth; i++, head++) {
			if (head == __atomic_load_n(ring.cq_tail,
						    __ATOMIC_ACQUIRE))
				errx(1, "an io_uring completion is missing");
			expect(ring.cqe[head & *ring.cq_mask].res, work.size);
		}
		__atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
	}
}

/* Mappings */

static void map(void)
{
	mapping = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED)
		err(1, "mmap");
}

static void batch_mmap(unsigned int n)
{
	while (n--) {
		map();
		munmap(mapping, length);
	}
}

/* Touch pages of the mapping that no operation has touched; see reset() */
static void batch_fault(unsigned int n)
{
	off_t at = 0;

	for (; n--; at += FAULT_AROUND) {
		volatile char *p = mapping + at;

		if (work.write)
			*p = 1;
		else
			(void)*p;
	}
}

/* Names */

static const struct engine {
	const char *name;
	int (*open)(void);
	void (*batch)(unsigned int n);
} engines[] = {
	{ "sync", open_file, batch_sync },
	{ "libaio", open_libaio, batch_libaio },
	{ "io_uring", open_uring, batch_uring },
};

static const struct {
	const char *name;
	void (*batch)(unsigned int n);
	bool write;
} others[] = {
	{ "mmap-fault", batch_fault, false },
	{ "mmap-write-fault", batch_fault, true },
	{ "mmap-munmap", batch_mmap, false },
	{ "open-close", batch_open, false },
	{ "write-4k-fstat", batch_fstat, true },
	{ "stat-path", batch_stat, false },
	{ "getxattr", batch_getxattr, false },
	{ "dir-list", batch_list, false },
	{ "create-close-unlink", batch_create, false },
};

/* Is @word the next part of a name with dashes?  If so, go past it. */
static bool is_next(char **rest, const char *word)
{
	size_t n = strlen(word);

	if (!*rest || strncmp(*rest, word, n) ||
	    ((*rest)[n] && (*rest)[n] != '-'))
		return false;
	*rest = (*rest)[n] ? *rest + n + 1 : NULL;
	return true;
}

static bool parse_io(char *rest)
{
	static const struct {
		const char *name;
		size_t size;
	} sizes[] = {
		{ "512", 512 }, { "4k", 4096 }, { "64k", 65536 }, { "1m", 1 << 20 },
	};
	size_t i;

	if (is_next(&rest, "append"))
		work.append = work.write = true;
	else if (is_next(&rest, "write"))
		work.write = true;
	else if (is_next(&rest, "randread"))
		work.random = true;
	else if (is_next(&rest, "randwrite"))
		work.write = work.random = true;
	else if (!is_next(&rest, "read"))
		return false;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (is_next(&rest, sizes[i].name))
			work.size = sizes[i].size;
	}
	for (i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		if (is_next(&rest, engines[i].name)) {
			work.open = engines[i].open;
			work.batch = engines[i].batch;
		}
	}
	work.direct = is_next(&rest, "direct");
	if (is_next(&rest, "qd32"))
		work.depth = 32;
	else
		is_next(&rest, "qd1");
	return work.size && work.batch && !rest;
}

static bool parse(char *name)
{
	size_t i;

	length = 1 << 20;
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (strcmp(name, others[i].name))
			continue;
		work.size = PAGE;
		work.open = open_file;
		work.batch = others[i].batch;
		work.write = others[i].write;
		if (work.batch == batch_getxattr)
			work.open = open_with_xattr;
		if (work.batch == batch_fault)
			length = 16 << 20;
		if (work.batch == batch_mmap)
			config.budget *= 10;
		return true;
	}
	if (!parse_io(name))
		return false;
	if (length < 4 * (off_t)work.size)
		length = 4 * work.size;
	return true;
}

/*
 * Make the file: all blocks allocated and cached, and no dirty data that
 * writeback could write during a measurement.
 */
static void make_file(void)
{
	char *zeroes = calloc(1, 1 << 20);
	int file = open(config.file, O_RDWR | O_CREAT | O_TRUNC, 0644);
	off_t done;

	if (file == -1 || !zeroes)
		err(1, "%s", config.file);
	for (done = 0; done < length; done += 1 << 20) {
		if (write(file, zeroes, 1 << 20) != 1 << 20)
			err(1, "%s", config.file);
	}
	if (fsync(file) || close(file))
		err(1, "%s", config.file);
	free(zeroes);
}

/* Restore the same state before every repeat. */
static void reset(void)
{
	rewind_offsets();
	if (work.append && ftruncate(fd, 0))
		err(1, "ftruncate");
	if (work.batch == batch_fault) {
		if (mapping)
			munmap(mapping, length);
		map();
	}
}

/* Operations of one repeat: as many as fit into the budget, in whole batches */
static unsigned int operations(void)
{
	unsigned int n = 2 * work.depth, limit = 4096;
	uint64_t began;

	if (work.batch == batch_fault)
		limit = length / FAULT_AROUND;
	else if (work.append)
		limit = (64 << 20) / work.size < limit ? (64 << 20) / work.size : limit;

	reset();
	work.batch(n);
	reset();
	began = now();
	work.batch(n);
	n = config.budget * n / (now() - began + 1);
	if (n < 64)
		n = 64;
	if (n > limit)
		n = limit;
	return n / work.depth * work.depth;
}

/* Number of requests that the daemon has got so far; -1 without a daemon */
static long requests(void)
{
	char text[4096], *total;
	FILE *f = NULL;
	size_t n;

	if (!config.stats)
		return -1;
	unlink(config.stats);
	if (kill(config.daemon, SIGUSR1))
		err(1, "the daemon");
	while (!(f = fopen(config.stats, "r")))
		sched_yield();
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	total = strstr(text, "\"total\": ");
	if (!total)
		errx(1, "%s has no total", config.stats);
	return strtol(total + strlen("\"total\": "), NULL, 10);
}

/* Number of context switches of all tasks so far, including the daemon */
static long switches(void)
{
	FILE *f = fopen("/proc/stat", "r");
	char line[4096];
	long n = -1;

	while (f && n == -1 && fgets(line, sizeof(line), f))
		sscanf(line, "ctxt %ld", &n);
	if (n == -1)
		err(1, "/proc/stat");
	fclose(f);
	return n;
}

static void measure(void)
{
	unsigned int n = operations(), i;
	double took[config.repeats];
	long asked = 0, switched = 0;

	reset();
	work.batch(n);
	for (i = 0; i < config.repeats; i++) {
		long before, s;
		uint64_t began;

		reset();
		before = requests();
		s = switches();
		began = now();
		work.batch(n);
		took[i] = (double)(now() - began) / n;
		switched += switches() - s;
		asked += requests() - before;
	}
	printf("%u\t", n);
	if (config.stats)
		printf("%.4g", (double)asked / n / config.repeats);
	else
		printf("-");
	printf("\t%.4g\t", (double)switched / n / config.repeats);
	for (i = 0; i < config.repeats; i++)
		printf("%s%.1f", i ? " " : "", took[i]);
	printf("\n");
}

static void usage(void)
{
	fprintf(stderr,
		"usage: opcost [-r REPEATS] [-s SEED] [-b BUDGET] [-d PID -j STATS] WORKLOAD FILE\n"
		"\n"
		"Prints: operations of a repeat, daemon requests per operation (- without -d),\n"
		"context switches of all tasks per operation, ns per operation of each repeat.\n"
		"BUDGET is what a repeat takes, in us.  FILE is made anew.  PID is a passthroughfs\n"
		"whose --stats is STATS.  Ends with 77 where FILE cannot do it.\n"
		"\n"
		"WORKLOAD: {read,write,randread,randwrite,append}-{512,4k,64k,1m}-ENGINE, ENGINE\n"
		"being sync, libaio or io_uring, then [-direct][-qd32]; or mmap-fault,\n"
		"mmap-write-fault, mmap-munmap, open-close, write-4k-fstat, stat-path,\n"
		"getxattr, dir-list (of the directory of FILE), create-close-unlink\n");
	exit(2);
}

int main(int argc, char **argv)
{
	int c;
	size_t i;

	while ((c = getopt(argc, argv, "r:s:b:d:j:")) != -1) {
		switch (c) {
		case 'r':
			config.repeats = atoi(optarg);
			break;
		case 's':
			config.seed = strtoull(optarg, NULL, 0);
			break;
		case 'b':
			config.budget = strtoull(optarg, NULL, 0) * 1000;
			break;
		case 'd':
			config.daemon = atoi(optarg);
			break;
		case 'j':
			config.stats = optarg;
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2 || !config.repeats || !config.seed ||
	    !config.daemon != !config.stats || !parse(argv[optind]))
		usage();
	config.file = argv[optind + 1];
	config.directory = strdup(config.file);
	if (!config.directory || asprintf(&config.sibling, "%s.new", config.file) == -1)
		err(1, "memory");
	config.directory = dirname(config.directory);

	for (i = 0; i < work.depth; i++) {
		buffer[i] = aligned_alloc(PAGE, work.size < PAGE ? PAGE : work.size);
		if (!buffer[i])
			err(1, "memory");
		memset(buffer[i], 1, work.size);
	}
	make_file();
	fd = work.open();
	measure();
	return 0;
}
