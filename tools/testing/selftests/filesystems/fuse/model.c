// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on one file by several handles, each opened in another way,
 * are compared with a model in memory, as fsx does for a local file system.
 *
 * FUSE_TEST_OPS: the number of operations, of all variants together.
 * FUSE_TEST_SEED: the same seed gives the same operations.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "model.h"
#include "../../kselftest_harness.h"

#define MODEL_OPS	200000
#define MODEL_TIMEOUT	3600
#define MODEL_EVERY	256		/* operations until a full check */

#define WITH_CACHE	(BIT(BY_REQUEST) | BIT(BY_ID) | BIT(CACHED) | BIT(KEEP_CACHE))
#define WITH_ALL	(WITH_CACHE | BIT(BY_ID_DIRECT) | BIT(DIRECT))

static void on_sigbus(int sig)
{
	siglongjmp(no_page, sig);
}

/* An attached inode shows the attributes of the lower file. */
static void look_below(struct client *c, const char *what, const struct stat *st)
{
	struct stat low;

	if (fstat(c->lower, &low))
		fail(c, -1, "fstat of the lower file: %m");
	if (st->st_mode != low.st_mode || st->st_nlink != low.st_nlink ||
	    memcmp(&st->st_mtim, &low.st_mtim, sizeof(low.st_mtim)) ||
	    memcmp(&st->st_ctim, &low.st_ctim, sizeof(low.st_ctim)))
		fail(c, -1, "%s: mode %o, mtime %lld.%09ld, of the lower file %o, %lld.%09ld",
		     what, st->st_mode, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
		     low.st_mode, (long long)low.st_mtim.tv_sec, low.st_mtim.tv_nsec);
}

static void look_by_stat(struct client *c, const char *what, int ret,
			 const struct stat *st)
{
	if (ret)
		fail(c, -1, "%s: %m", what);
	if (st->st_size != c->size)
		fail(c, -1, "%s has size 0x%jx", what, (uintmax_t)st->st_size);
	if (c->attached)
		look_below(c, what, st);
}

/*
 * Compare the size after each operation, by a random handle and by the
 * name.  Each way to get the size may refresh what the next way returns.
 */
static void look(struct client *c)
{
	unsigned int i = rnd(c, MODEL_HANDLES), way = rnd(c, 3), n;
	struct stat st;
	char what[32];
	off_t end;

	snprintf(what, sizeof(what), "fstat of %u (%s)", i, kinds[c->h[i].kind].name);
	for (n = 0; n < 3; n++, way = (way + 1) % 3) {
		switch (way) {
		case 0:
			end = lseek(c->h[i].fd, 0, SEEK_END);
			if (end != c->size)
				fail(c, -1, "SEEK_END of %u (%s) is 0x%jx", i,
				     kinds[c->h[i].kind].name, (uintmax_t)end);
			break;
		case 1:
			look_by_stat(c, what, fstat(c->h[i].fd, &st), &st);
			break;
		case 2:
			look_by_stat(c, "stat", stat(fuse_path(&c->shared->s, "f"), &st),
				     &st);
		}
	}
}

static void look_by(struct client *c, const char *what, int fd)
{
	ssize_t n = pread(fd, c->buf, MODEL_MAX + BLOCK, 0);

	if (n != c->size)
		fail(c, -1, "the whole file by %s: %zd: %s", what, n,
		     n < 0 ? strerror(errno) : "not its size");
	compare(c, what, c->buf, 0, n);
}

/* Compare the whole file through every handle and mapping, and the lower file. */
static void look_at_all(struct client *c)
{
	unsigned int i;
	struct stat st;
	char name[64];

	for (i = 0; i < MODEL_HANDLES; i++) {
		if (!can(&c->h[i], O_RDONLY))
			continue;
		before(c, &c->h[i]);
		snprintf(name, sizeof(name), "handle %u, %s", i,
			 kinds[c->h[i].kind].name);
		look_by(c, name, c->h[i].fd);
	}
	write_back(c);
	drop_stale(c);
	for (i = 0; i < MODEL_MAPPINGS; i++) {
		if (!c->m[i].p)
			continue;
		if (sigsetjmp(no_page, 1))
			fail(c, -1, "SIGBUS of mapping %u", i);
		memcpy(c->buf, c->m[i].p, c->size);
		compare(c, "mapping", c->buf, 0, c->size);
	}
	look_by(c, "the lower file", c->lower);
	if (fstat(c->lower, &st) || st.st_size != c->size)
		fail(c, -1, "the lower file has size 0x%jx", (uintmax_t)st.st_size);
}

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : otherwise;
}

static void client_init(struct client *c)
{
	struct stat st;
	unsigned int i;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, on_sigbus);
	c->log = calloc(MODEL_LOG, sizeof(*c->log));
	c->image = pages(MODEL_MAX + MODEL_SPARE);
	c->buf = pages(MODEL_MAX + MODEL_SPARE);
	begin(c, "open");
	c->mem = memfd_create("model", MFD_CLOEXEC);
	c->lower = lower_open(&c->shared->s, "f", O_RDONLY);
	c->xfs = lower_is(&c->shared->s, XFS_SUPER_MAGIC);
	if (!c->log || !c->image || !c->buf || c->mem < 0 || c->lower < 0 ||
	    pipe2(c->pipe, O_CLOEXEC) ||
	    fcntl(c->pipe[0], F_SETPIPE_SZ, 1 << 20) < 0 ||
	    aio_setup(MODEL_AIO, &c->aio) ||
	    stat(fuse_path(&c->shared->s, "f"), &st))
		fail(c, -1, "set-up: %m");
	c->nodeid = st.st_ino;
	fd = lower_open(&c->shared->s, "f", O_RDONLY | O_DIRECT);
	c->odirect = fd >= 0;
	close(fd);
	for (i = 0; i < MODEL_HANDLES; i++)
		open_handle(c, i);
}

static void __attribute__((noreturn)) client(struct client *c, unsigned long nr)
{
	random_begin(c);
	client_init(c);
	for (c->nr = 1; c->nr <= nr; c->nr++) {
		operate(c);
		look(c);
		if (c->nr % MODEL_EVERY == 0 || c->nr == nr)
			look_at_all(c);
	}
	_exit(0);
}

/*
 * Note which fh pass through.  Count stray requests: READs and WRITEs of these
 * fh, and OPENs of a file that is opened by inode.
 */
static bool watch(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct shared *shared = s->arg;
	const struct fuse_read_in *io = (const void *)(in + 1);	/* a WRITE has its fh there too */
	int fd;

	switch (in->opcode) {
	case FUSE_OPEN:
		shared->stray += s->how == OPEN_BY_INODE;
		/* The lower file will get the lowest free descriptor. */
		fd = dup(s->dev);
		close(fd);
		if (fd >= 0 && fd < MODEL_FDS)
			shared->passes[fd] = (s->how == OPEN_PASSTHROUGH ||
					      s->how == OPEN_BACKING_ID) &&
				!(s->open_flags & FOPEN_DIRECT_IO);
		break;
	case FUSE_READ:
	case FUSE_WRITE:
		if (io->fh >= MODEL_FDS || shared->passes[io->fh])
			shared->stray++;
		break;
	}
	return false;
}

FIXTURE(model) {
	struct shared *shared;
};

FIXTURE_VARIANT(model) { unsigned int kinds; bool writeback; };
FIXTURE_VARIANT_ADD(model, passthrough) { BIT(BY_REQUEST) | BIT(BY_ID), false };
FIXTURE_VARIANT_ADD(model, cached) { WITH_CACHE, false };
FIXTURE_VARIANT_ADD(model, all) { WITH_ALL, false };
FIXTURE_VARIANT_ADD(model, writeback) { WITH_CACHE, true };
FIXTURE_VARIANT_ADD(model, writeback_all) { WITH_ALL, true };
FIXTURE_VARIANT_ADD(model, inode) { BIT(BY_INODE) | BIT(BY_REQUEST), false };
FIXTURE_VARIANT_ADD(model, inode_all) { BIT(BY_INODE) | WITH_ALL, false };
FIXTURE_VARIANT_ADD(model, inode_writeback) { BIT(BY_INODE) | WITH_ALL, true };
#define MODEL_VARIANTS	8

FIXTURE_SETUP(model)
{
	cpu_set_t one;

	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
	/*
	 * On one CPU server and client are faster, and vary less, than on two.
	 */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	self->shared->s.writeback = variant->writeback;
	self->shared->s.permissions = variant->kinds & BIT(BY_INODE);
	/* fh of opens that the server has not seen */
	self->shared->passes[0] = true;
	self->shared->s.request = watch;
	self->shared->s.arg = self->shared;
	ASSERT_EQ(0, fuse_server_start(&self->shared->s));
	/* The client attaches and detaches by nodeid; answers do not attach. */
	self->shared->s.attach_in = 0;
	ASSERT_EQ(0, lower_make(&self->shared->s, "f", 0, 1));
	/* The first lookup also waits for the end of INIT. */
	ASSERT_EQ(0, access(fuse_path(&self->shared->s, "f"), F_OK));
	ASSERT_EQ(variant->writeback,
		  !!(self->shared->s.init_flags & FUSE_WRITEBACK_CACHE));
}

FIXTURE_TEARDOWN(model)
{
	fuse_server_stop(&self->shared->s);
}

/*
 * Every handle sees every operation of every other handle, and no passthrough
 * handle causes a READ or WRITE.  The client is a separate process, because
 * mmap() waits for the server with the mmap lock of its process held.
 */
TEST_F_TIMEOUT(model, random, MODEL_TIMEOUT)
{
	struct client c = {
		.shared = self->shared,
		.kinds = variant->kinds,
		.seed = number("FUSE_TEST_SEED", 1),
	};
	unsigned long nr = number("FUSE_TEST_OPS", MODEL_OPS) / MODEL_VARIANTS;
	int status;
	pid_t pid;

	printf("# seed %llu, %lu operations\n", (unsigned long long)c.seed, nr);
	fflush(stdout);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		client(&c, nr);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, self->shared->stray);
	if (variant->kinds & BIT(CACHED)) {
		EXPECT_LT(0, server_io(&self->shared->s));
	}
}

TEST_HARNESS_MAIN
