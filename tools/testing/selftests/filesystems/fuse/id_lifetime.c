// SPDX-License-Identifier: GPL-2.0
/* What pins the lower file of a backing id: in races, and with many ids */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "id_test.h"
#include "../../kselftest_harness.h"

FIXTURE(id_lifetime) {
	struct fuse_server s;
	struct id_answer a;
	struct own_fs fs;
};

FIXTURE_SETUP(id_lifetime)
{
	ASSERT_EQ(0, serve_ids(&self->s, &self->a, &self->fs));
}

FIXTURE_TEARDOWN(id_lifetime)
{
	fuse_server_stop(&self->s);
	/* Ids end with the connection. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

/* An id pins its lower file until it is closed, and so does each open by it. */
TEST_F_TIMEOUT(id_lifetime, pins_until_closed, IO_TIMEOUT)
{
	int fd, id = id_of_path(&self->s, self->fs.path, O_RDWR);
	int again = id_of_path(&self->s, self->fs.path, O_RDWR);
	char *map;

	ASSERT_LT(0, id);
	ASSERT_LT(0, again);
	EXPECT_NE(id, again);
	EXPECT_TRUE(own_fs_busy(&self->fs));
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	map = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, id_close(self->s.dev, again));
	EXPECT_EQ(0, id_close(self->s.dev, id));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	close(fd);
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_EQ(-1, pattern_differs(map, LEN, 0, OWN_FS_SEED));
	munmap(map, LEN);
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/*
 * An id that is not closed lives as long as the connection, not only as the
 * process.
 */
TEST_F_TIMEOUT(id_lifetime, pins_until_the_end, IO_TIMEOUT)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(id_of_path(&self->s, self->fs.path, O_RDWR) < 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_TRUE(own_fs_busy(&self->fs));
	fuse_server_die(&self->s);
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/* After an abort, ids can still be closed, and opens by id still work. */
TEST_F_TIMEOUT(id_lifetime, aborted, IO_TIMEOUT)
{
	int id = id_of_path(&self->s, self->fs.path, O_RDWR);
	int fd = client_open(&self->s, id, O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, umount2(self->s.mnt, MNT_FORCE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	EXPECT_EQ(0, id_close(self->s.dev, id));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, id));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	close(fd);
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/* Wait until the server thread has served all earlier requests. */
static void settle(struct fuse_server *s)
{
	struct statfs st;

	statfs(s->mnt, &st);
}

static bool fleeting(struct fuse_server *s, const struct fuse_in_header *in)
{
	static unsigned int round;
	struct id_answer *a = s->arg;
	unsigned int i;

	if (in->opcode != FUSE_OPEN)
		return false;
	a->id = id_of_path(s, lower_path(s, "link"), O_RDWR);
	by_id(s, in);
	for (i = 0; i < round % 20 * 4; i++)
		getppid();
	round++;
	if (id_close(s->dev, a->id))
		abort();
	return true;
}

struct opener {
	struct fuse_server *s;
	pthread_t thread;
	int opened, refused, wrong;
};

static void *open_often(void *arg)
{
	struct opener *o = arg;
	char path[256];
	char buf[LEN];
	int i, fd;

	snprintf(path, sizeof(path), "%s/f", o->s->mnt);
	for (i = 0; i < 300; i++) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			if (errno == EIO)
				o->refused++;
			else
				o->wrong++;
			continue;
		}
		o->opened++;
		if (pread(fd, buf, LEN, 0) != LEN ||
		    pattern_differs(buf, LEN, 0, OWN_FS_SEED) != -1)
			o->wrong++;
		close(fd);
	}
	return NULL;
}

/*
 * An id is closed while opens by it are in flight: each open has the lower file
 * of the id or fails with EIO, and nothing stays pinned.
 */
TEST_F_TIMEOUT(id_lifetime, close_races_with_open, IO_TIMEOUT)
{
	struct opener o[3] = {};
	int i, opened = 0, refused = 0;

	ASSERT_EQ(0, symlink(self->fs.path, lower_path(&self->s, "link")));
	self->s.request = fleeting;
	for (i = 0; i < 3; i++) {
		o[i].s = &self->s;
		pthread_create(&o[i].thread, NULL, open_often, &o[i]);
	}
	for (i = 0; i < 3; i++) {
		pthread_join(o[i].thread, NULL);
		EXPECT_EQ(0, o[i].wrong);
		opened += o[i].opened;
		refused += o[i].refused;
	}
	TH_LOG("%d opened, %d refused", opened, refused);
	EXPECT_EQ(900, opened + refused);
	EXPECT_LT(0, opened);
	EXPECT_EQ(0, server_io(&self->s));
	settle(&self->s);
	EXPECT_TRUE(own_fs_free(&self->fs));
}

#define THREADS	8
#define EACH	1000

struct worker {
	struct fuse_server *s;
	pthread_t thread;
	int nr, kept, id[EACH], wrong;
};

static void *register_often(void *arg)
{
	struct worker *w = arg;
	char name[16];
	int i, fd;

	snprintf(name, sizeof(name), "t%d", w->nr);
	fd = lower_open(w->s, name, O_PATH);
	for (i = 0; i < 2 * EACH; i++) {
		int id = id_open(w->s->dev, fd);

		if (id <= 0)
			w->wrong++;
		else if (i % 2)
			w->id[w->kept++] = id;
		else
			w->wrong += !!id_close(w->s->dev, id);
	}
	close(fd);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/*
 * Ids that many threads register at once are distinct, and each selects its own
 * file.
 */
TEST_F_TIMEOUT(id_lifetime, threads, IO_TIMEOUT)
{
	static struct worker w[THREADS];
	static int all[THREADS * EACH];
	char name[16];
	int i, fd;

	for (i = 0; i < THREADS; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		ASSERT_EQ(0, lower_make(&self->s, name, LEN, 10 + i));
		w[i].s = &self->s;
		w[i].nr = i;
		pthread_create(&w[i].thread, NULL, register_often, &w[i]);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].wrong);
		ASSERT_EQ(EACH, w[i].kept);
		memcpy(all + i * EACH, w[i].id, sizeof(w[i].id));
	}
	for (i = 0; i < THREADS * 10; i++) {
		struct worker *t = &w[i % THREADS];

		fd = client_open(&self->s, t->id[i * 7 % EACH], O_RDONLY);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 10 + t->nr, true));
		close(fd);
	}
	qsort(all, THREADS * EACH, sizeof(int), compare);
	for (i = 1; i < THREADS * EACH; i++)
		ASSERT_LT(all[i - 1], all[i]);
	for (i = 0; i < THREADS * EACH; i++)
		ASSERT_EQ(0, id_close(self->s.dev, all[i]));
	EXPECT_EQ(0, server_io(&self->s));
}

struct rusher {
	int dev, fd;
	bool stop;
	pthread_t thread;
	unsigned long ids;
};

static void *rush(void *arg)
{
	struct rusher *r = arg;
	int id;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		id = id_open(r->dev, r->fd);
		if (id > 0 && ++r->ids % 2)
			id_close(r->dev, id);
	}
	return NULL;
}

/* Registering and closing in a race with an abort leave nothing pinned. */
TEST_F_TIMEOUT(id_lifetime, races_with_abort, IO_TIMEOUT)
{
	struct rusher r[4] = {};
	int i, fd;

	fd = client_open(&self->s, id_of_path(&self->s, self->fs.path, O_RDWR),
			 O_RDWR);
	ASSERT_LE(0, fd);
	for (i = 0; i < 4; i++) {
		r[i].dev = self->s.dev;
		r[i].fd = open(self->fs.path, O_RDWR | O_CLOEXEC);
		pthread_create(&r[i].thread, NULL, rush, &r[i]);
	}
	for (i = 0; i < 100; i++)
		settle(&self->s);
	for (i = 0; i < 4; i++)
		while (!__atomic_load_n(&r[i].ids, __ATOMIC_ACQUIRE))
			sched_yield();
	umount2(self->s.mnt, MNT_FORCE);
	close(fd);
	for (i = 0; i < 4; i++) {
		__atomic_store_n(&r[i].stop, true, __ATOMIC_RELEASE);
		pthread_join(r[i].thread, NULL);
		EXPECT_LT(0, r[i].ids);
		close(r[i].fd);
	}
	EXPECT_TRUE(own_fs_busy(&self->fs));
	fuse_server_die(&self->s);
	EXPECT_TRUE(own_fs_free(&self->fs));
}

#define FILES	1000

/* Number of ids in the large tests; FUSE_TEST_IDS limits it on slow kernels. */
static int many(int otherwise)
{
	const char *e = getenv("FUSE_TEST_IDS");

	return e && atoi(e) < otherwise ? atoi(e) : otherwise;
}

static int open_files(const char *dir, int *fd)
{
	struct rlimit lim = { 2 * FILES, 2 * FILES };
	char path[128];
	int i;

	setrlimit(RLIMIT_NOFILE, &lim);
	for (i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/%d", dir, i);
		fd[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd[i] < 0 || write(fd[i], &i, sizeof(i)) != sizeof(i))
			return -1;
	}
	return 0;
}

/*
 * A million ids of 1,000 files: each leads to its file.  Half are closed, the
 * others end with the connection.  An id needs little memory.
 */
TEST_F_TIMEOUT(id_lifetime, million, 3 * IO_TIMEOUT)
{
	int i, n = many(1000000), fd[FILES];
	int *id = malloc(n * sizeof(*id));
	long before, bytes;

	ASSERT_NE(NULL, id);
	memset(id, 0, n * sizeof(*id));
	ASSERT_EQ(0, open_files(self->fs.dir, fd));
	before = number_in("/proc/meminfo", "Slab: %ld kB");
	for (i = 0; i < n; i++) {
		id[i] = id_open(self->s.dev, fd[i % FILES]);
		ASSERT_LT(0, id[i]) TH_LOG("after %d", i);
	}
	bytes = (number_in("/proc/meminfo", "Slab: %ld kB") - before) * 1024;
	TH_LOG("%d ids, %ld bytes of slab each", n, bytes / n);
	for (i = 0; i < FILES; i++)
		close(fd[i]);

	for (i = 0; i < n; i += n / 50 + 1) {
		int c, seen = -1;

		c = client_open(&self->s, id[i], O_RDONLY);
		ASSERT_LE(0, c);
		EXPECT_EQ(sizeof(seen), pread(c, &seen, sizeof(seen), 0));
		EXPECT_EQ(i % FILES, seen);
		close(c);
	}
	EXPECT_EQ(0, server_io(&self->s));
	for (i = 0; i < n; i += 2)
		ASSERT_EQ(0, id_close(self->s.dev, id[i]));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, id[0]));
	free(id);
	EXPECT_TRUE(own_fs_busy(&self->fs));
	fuse_server_die(&self->s);
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/*
 * An abort with 100,000 ids, some of them in use, ends, and then all are free.
 */
TEST_F_TIMEOUT(id_lifetime, abort_with_many, 3 * IO_TIMEOUT)
{
	int i, n = many(100000), fd[FILES], c[16], id;

	ASSERT_EQ(0, open_files(self->fs.dir, fd));
	for (i = 0; i < n; i++) {
		id = id_open(self->s.dev, fd[i % FILES]);
		ASSERT_LT(0, id);
		if (i < 16) {
			c[i] = client_open(&self->s, id, O_RDWR);
			ASSERT_LE(0, c[i]);
		}
	}
	for (i = 0; i < FILES; i++)
		close(fd[i]);

	ASSERT_EQ(0, umount2(self->s.mnt, MNT_FORCE | MNT_DETACH));
	fuse_server_die(&self->s);
	for (i = 0; i < 16; i++) {
		int seen = -1;

		EXPECT_TRUE(own_fs_busy(&self->fs));
		EXPECT_EQ(sizeof(seen), pread(c[i], &seen, sizeof(seen), 0));
		EXPECT_EQ(i, seen);
		EXPECT_EQ(sizeof(i), pwrite(c[i], &i, sizeof(i), 4096));
		close(c[i]);
	}
	EXPECT_TRUE(own_fs_free(&self->fs));
}

TEST_HARNESS_MAIN
