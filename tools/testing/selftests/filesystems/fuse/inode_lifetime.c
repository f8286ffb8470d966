// SPDX-License-Identifier: GPL-2.0
/*
 * The lifetime of the lower file of an inode: counts, detach, eviction, end of
 * the connection, races.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/statfs.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define GET	OP(GETATTR)
#define RACES	200

FIXTURE(inode_lifetime) {
	struct fuse_server s;
	struct own_fs fs;
};

FIXTURE_SETUP(inode_lifetime)
{
	self->s.permissions = true;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, mkdirat(self->s.dirfd, "d", 0755));
	ASSERT_EQ(0, symlinkat("f", self->s.dirfd, "l"));
	ASSERT_TRUE(own_fs_mount(&self->fs));
	ASSERT_EQ(0, lookup(&self->s, "."));
	ASSERT_TRUE(self->s.init_flags & FUSE_PASSTHROUGH);
}

FIXTURE_TEARDOWN(inode_lifetime)
{
	fuse_server_stop(&self->s);
	/* No test leaves a reference to the lower file system. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

/* Make "f" known to the kernel, and attach a file on its own file system. */
static int attach_own(FIXTURE_DATA(inode_lifetime) *self)
{
	int fd, err;

	if (lookup(&self->s, "f"))
		return -1;
	fd = open(self->fs.path, O_RDWR | O_CLOEXEC);
	err = inode_attach_fd(&self->s, "f", fd, GET);
	close(fd);
	return err;
}

/*
 * Attached inodes are counted.  They pin the lower file system until they are
 * detached, one by one or all at once.
 */
TEST_F_TIMEOUT(inode_lifetime, detach, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	EXPECT_EQ(0, inodes_attached(s));
	ASSERT_EQ(0, attach_own(self));
	EXPECT_EQ(1, inodes_attached(s));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_EQ(0, inode_detach(s, "f"));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_EQ(1, stat_costs(s, "f", FUSE_GETATTR));

	ASSERT_EQ(0, attach_own(self));
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, lookup(s, "l"));
	EXPECT_EQ(0, inode_attach(s, "d", GET));
	EXPECT_EQ(0, inode_attach(s, "l", GET));
	EXPECT_EQ(0, inode_attach(s, ".", GET));
	EXPECT_EQ(4, inodes_attached(s));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_EQ(0, inode_detach_all(s));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_LT(0, stat_costs(s, "f", FUSE_GETATTR));
	EXPECT_LT(0, stat_costs(s, "d", FUSE_GETATTR));
	EXPECT_LT(0, stat_costs(s, "l", FUSE_GETATTR));
	EXPECT_LT(0, stat_costs(s, ".", FUSE_GETATTR));
	/* An attach after a detach succeeds. */
	ASSERT_EQ(0, attach_own(self));
	EXPECT_EQ(0, inode_detach_all(s));
}

/* Only the owner can read the count. */
TEST_F_TIMEOUT(inode_lifetime, count_mode, IO_TIMEOUT)
{
	struct stat st;

	ASSERT_EQ(0, inodes_attached(&self->s));
	ASSERT_EQ(0, stat(inodes_control(&self->s), &st));
	EXPECT_EQ(S_IFREG | 0400, st.st_mode);
	EXPECT_EQ(1, st.st_nlink);
}

/* Eviction of an inode drops its lower file. */
TEST_F_TIMEOUT(inode_lifetime, eviction, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	ASSERT_EQ(0, attach_own(self));
	ASSERT_EQ(0, forget_dentry(s, "f"));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_EQ(1, stat_costs(s, "f", FUSE_GETATTR));
}

/* Answer that "f" is another file, which has got its nodeid. */
static bool reuse_nodeid(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct fuse_entry_out e = {
		.nodeid = fuse_server_nodeid(s, "f"), .generation = 1,
		.entry_valid = 3600, .attr_valid = 3600,
	};

	if (in->opcode != FUSE_LOOKUP || strcmp((const char *)(in + 1), "f"))
		return false;
	fuse_server_attr(s, e.nodeid, "f", &e.attr);
	fuse_server_reply(s, in->unique, 0, &e, sizeof(e));
	return true;
}

/*
 * An inode with the same nodeid and another generation does not have the lower
 * file of the earlier one, which is EIO, and keeps its lower file until it is
 * closed.
 */
TEST_F_TIMEOUT(inode_lifetime, new_generation, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct stat st;
	int old;

	ASSERT_EQ(0, attach_own(self));
	EXPECT_EQ(0, stat_costs(s, "f", FUSE_GETATTR));
	old = open(fuse_path(s, "f"), O_PATH | O_CLOEXEC);
	ASSERT_LE(0, old);
	s->request = reuse_nodeid;
	ASSERT_EQ(0, forget_dentry(s, "f"));
	EXPECT_EQ(1, stat_costs(s, "f", FUSE_GETATTR));
	EXPECT_EQ(-1, fstat(old, &st));
	EXPECT_EQ(EIO, errno);
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_EQ(1, inodes_attached(s));
	EXPECT_EQ(0, inode_attach(s, "f", GET));
	EXPECT_EQ(0, stat_costs(s, "f", FUSE_GETATTR));
	EXPECT_EQ(2, inodes_attached(s));
	close(old);
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_EQ(1, inodes_attached(s));
}

#define CGROUP	"/sys/fs/cgroup"
#define NAMED	4000	/* inodes without a node of the server */
#define NAMED_ID	1000	/* nodeid of the first one */

/* Answer that a file named by a number exists. */
static bool find_number(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct fuse_entry_out e = {
		.nodeid = NAMED_ID + atoi((const char *)(in + 1)), .entry_valid = 3600,
		.attr_valid = 3600, .attr.mode = S_IFREG | 0644, .attr.nlink = 1,
	};

	if (in->opcode != FUSE_LOOKUP)
		return false;
	e.attr.ino = e.nodeid;
	fuse_server_reply(s, in->unique, 0, &e, sizeof(e));
	return true;
}

/* Kernel memory of the cgroup, in bytes */
static long cgroup_slab(void)
{
	return number_in(CGROUP "/fuse-test/memory.stat", "slab_unreclaimable %ld");
}

/* Attach to all of them in the cgroup. */
static int attach_in_cgroup(struct fuse_server *s, int fd)
{
	struct fuse_passthrough_inode in = { .fd = fd, .ops = GET };
	const struct timespec tick = { .tv_nsec = 100000000 };
	long before;
	int i;

	if (!write_file(CGROUP "/fuse-test/cgroup.procs", "0"))
		return 1;
	before = cgroup_slab();
	for (i = 0; i < NAMED; i++) {
		in.nodeid = NAMED_ID + i;
		if (inode_ioctl(s->dev, &in))
			return 2;
	}
	/*
	 * A path, credentials, a list entry and counts are more than 64 bytes.
	 * The kernel publishes small changes every two seconds.
	 */
	for (i = 0; i < 100 && cgroup_slab() - before < NAMED * 64; i++)
		nanosleep(&tick, NULL);
	return before < 0 || cgroup_slab() - before < NAMED * 64 ? 3 : 0;
}

/* The memory for a lower file is accounted to the cgroup of the task that attaches. */
TEST_F_TIMEOUT(inode_lifetime, memory, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char name[16];
	struct stat st;
	pid_t pid;
	int i, fd;

	if (!write_file(CGROUP "/cgroup.subtree_control", "+memory"))
		SKIP(return, "memory");
	/* A run that failed may have left it. */
	rmdir(CGROUP "/fuse-test");
	ASSERT_EQ(0, mkdir(CGROUP "/fuse-test", 0755));
	s->request = find_number;
	for (i = 0; i < NAMED; i++) {
		snprintf(name, sizeof(name), "%d", i);
		ASSERT_EQ(0, stat(fuse_path(s, name), &st));
	}
	fd = lower_opath(s, "f");
	pid = fork();
	if (!pid)
		_exit(attach_in_cgroup(s, fd));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(NAMED, inodes_attached(s));
	close(fd);
	EXPECT_EQ(0, inode_detach_all(s));
	EXPECT_EQ(0, rmdir(CGROUP "/fuse-test"));
}

/* An unmount drops all lower files. */
TEST_F_TIMEOUT(inode_lifetime, unmounted, IO_TIMEOUT)
{
	ASSERT_EQ(0, attach_own(self));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	ASSERT_EQ(0, umount(self->s.mnt));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/*
 * An attached inode holds a path, not an open file: it does not prevent a
 * lease, exec or a read-only remount of the lower file system.
 */
TEST_F_TIMEOUT(inode_lifetime, pins_no_file, IO_TIMEOUT)
{
	char *argv[] = { "x", NULL };
	int fd, status;
	pid_t pid;

	ASSERT_EQ(0, attach_own(self));
	fd = open(self->fs.path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_WRLCK));
	close(fd);
	ASSERT_EQ(0, chmod(self->fs.path, 0755));
	pid = fork();
	if (!pid) {
		/* The file is executable, but no program. */
		execv(self->fs.path, argv);
		_exit(errno);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(ENOEXEC, WEXITSTATUS(status));
	EXPECT_EQ(0, mount(NULL, self->fs.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_EQ(0, mount(NULL, self->fs.dir, NULL, MS_REMOUNT, NULL));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
}

/* An abort detaches every inode: the count is 0, and the lower file system is not pinned. */
TEST_F_TIMEOUT(inode_lifetime, aborted, IO_TIMEOUT)
{
	int busy = open(self->s.mnt, O_PATH | O_CLOEXEC);
	int held;

	ASSERT_EQ(0, attach_own(self));
	held = open(fuse_path(&self->s, "f"), O_PATH | O_CLOEXEC);
	ASSERT_LE(0, busy);
	ASSERT_LE(0, held);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(-1, umount2(self->s.mnt, MNT_FORCE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	close(held);
	close(busy);
}

/* The close of the last device detaches every inode too. */
TEST_F_TIMEOUT(inode_lifetime, device_closed, IO_TIMEOUT)
{
	struct statfs st;
	int clone;

	clone = clone_dev(self->s.dev);
	ASSERT_LE(0, clone);
	ASSERT_EQ(0, attach_own(self));
	self->s.request = die_at_statfs;
	close(clone);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(-1, statfs(self->s.mnt, &st));
	EXPECT_EQ(ECONNABORTED, errno);
	wait_for_close();
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/* After an abort an attach fails. */
TEST_F_TIMEOUT(inode_lifetime, attach_after_death, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .nodeid = FUSE_ROOT_ID, .ops = GET };
	int busy = open(self->s.mnt, O_PATH | O_CLOEXEC);
	int dev = clone_dev(self->s.dev);

	ASSERT_LE(0, dev);
	ASSERT_LE(0, busy);
	fuse_server_die(&self->s);
	in.fd = open(self->fs.dir, O_PATH | O_CLOEXEC);
	EXPECT_NE(0, inode_ioctl(dev, &in));
	close(in.fd);
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	close(dev);
	close(busy);
}

/*
 * A daemon is killed while names are cached and its mount stays: the lower file
 * system can be unmounted, and the inodes are ENOTCONN.
 */
TEST_F_TIMEOUT(inode_lifetime, daemon_killed, IO_TIMEOUT)
{
	struct fuse_server *s;
	int status, ns, p[2];
	char path[64], c;
	struct stat st;
	pid_t pid;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(s != MAP_FAILED);
	ASSERT_EQ(0, pipe(p));
	pid = fork();
	if (!pid) {
		s->permissions = true;
		if (fuse_server_start(s) || stat(s->mnt, &st) ||
		    lower_make(s, "f", LEN, 1))
			_exit(1);
		fuse_server_node(s, "f")->ops = GET;
		fuse_server_node(s, "f")->lower = self->fs.path;
		if (stat_costs(s, "f", FUSE_GETATTR) || inodes_attached(s) != 1 ||
		    write(p[1], "", 1) != 1)
			_exit(2);
		pause();
	}
	close(p[1]);
	ASSERT_EQ(1, read(p[0], &c, 1));
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	/*
	 * A task that shares its fs_struct with other threads cannot change its
	 * mount namespace.
	 */
	ASSERT_EQ(0, unshare(CLONE_FS));
	ASSERT_EQ(0, setns(ns, CLONE_NEWNS));
	EXPECT_EQ(1, inodes_attached(s));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	/* The daemon has closed its last device by now. */
	EXPECT_EQ(0, read(p[0], &c, 1));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_EQ(0, umount(self->fs.dir));
	EXPECT_EQ(-1, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(ENOTCONN, errno);
	umount2(s->mnt, MNT_DETACH);
	rmdir(s->mnt);
	unlink(lower_path(s, "f"));
	rmdir(s->lower);
	/* The teardown unmounts this directory in the current namespace. */
	ASSERT_EQ(0, mount("lower", self->fs.dir, "tmpfs", 0, NULL));
}

struct racer {
	char *path;
	int stop, bad;
	int err;			/* errno of the last failed stat, or minus a wrong size */
	pthread_t thread;
};

static void *stat_often(void *arg)
{
	struct racer *r = arg;
	struct stat st;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		if (stat(r->path, &st)) {
			r->bad++;
			r->err = errno;
		} else if (st.st_size != OWN_FS_LEN) {
			r->bad++;
			r->err = -st.st_size;
		}
	}
	return NULL;
}

/* Attaches and detaches race with stats: each stat is right, and no reference is left. */
TEST_F_TIMEOUT(inode_lifetime, races_with_stat, IO_TIMEOUT)
{
	/* fuse_path() has one buffer for all threads. */
	struct racer r = { .path = strdup(fuse_path(&self->s, "f")) };
	int i, errors = 0;

	ASSERT_EQ(0, attach_own(self));
	pthread_create(&r.thread, NULL, stat_often, &r);
	for (i = 0; i < RACES; i++) {
		errors += !!inode_detach_all(&self->s);
		errors += !!inode_attach(&self->s, "f", GET);
		errors += !!inode_detach(&self->s, "f");
		errors += !!attach_own(self);
	}
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELEASE);
	pthread_join(r.thread, NULL);
	EXPECT_EQ(0, r.bad) TH_LOG("%d", r.err);
	EXPECT_EQ(0, errors);
	EXPECT_EQ(0, inode_detach(&self->s, "f"));
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

struct attacher {
	FIXTURE_DATA(inode_lifetime) *self;
	pthread_t thread;
	int fd, got;
};

static int race_go;

static void *attach_once(void *arg)
{
	struct attacher *r = arg;

	while (!__atomic_load_n(&race_go, __ATOMIC_ACQUIRE))
		sched_yield();
	r->got = inode_attach_fd(&r->self->s, "f", r->fd, GET);
	close(r->fd);
	return NULL;
}

/* Of two concurrent attaches one is EBUSY, and leaves no reference to its lower file. */
TEST_F_TIMEOUT(inode_lifetime, races_with_attach, IO_TIMEOUT)
{
	struct attacher r[2];
	int i, j;

	ASSERT_EQ(0, lookup(&self->s, "f"));
	for (i = 0; i < RACES; i++) {
		__atomic_store_n(&race_go, 0, __ATOMIC_RELEASE);
		for (j = 0; j < 2; j++) {
			r[j] = (struct attacher) { .self = self };
			r[j].fd = open(self->fs.path, O_PATH | O_CLOEXEC);
			pthread_create(&r[j].thread, NULL, attach_once, &r[j]);
		}
		__atomic_store_n(&race_go, 1, __ATOMIC_RELEASE);
		for (j = 0; j < 2; j++)
			pthread_join(r[j].thread, NULL);
		ASSERT_EQ(EBUSY, r[0].got + r[1].got);
		ASSERT_EQ(1, inodes_attached(&self->s));
		ASSERT_EQ(0, inode_detach(&self->s, "f"));
		ASSERT_TRUE(own_fs_free(&self->fs));
	}
}

/* Attaches race with an abort: no reference is left, whichever comes first. */
TEST_F_TIMEOUT(inode_lifetime, races_with_abort, IO_TIMEOUT)
{
	volatile int spin;
	int i;

	for (i = 0; i < RACES / 8; i++) {
		FIXTURE_DATA(inode_lifetime) own = { .s = { .permissions = true } };
		struct attacher r = { .self = &own };
		int busy;

		ASSERT_EQ(0, fuse_server_start(&own.s));
		ASSERT_EQ(0, lower_make(&own.s, "f", LEN, 9));
		ASSERT_EQ(0, lookup(&own.s, "f"));
		busy = open(own.s.mnt, O_PATH | O_CLOEXEC);
		r.fd = open(self->fs.path, O_PATH | O_CLOEXEC);
		__atomic_store_n(&race_go, 0, __ATOMIC_RELEASE);
		pthread_create(&r.thread, NULL, attach_once, &r);
		__atomic_store_n(&race_go, 1, __ATOMIC_RELEASE);
		for (spin = 0; spin < i * 200; spin++)
			;
		umount2(own.s.mnt, MNT_FORCE);
		pthread_join(r.thread, NULL);
		EXPECT_EQ(0, inodes_attached(&own.s)) TH_LOG("round %d", i);
		ASSERT_TRUE(own_fs_free(&self->fs)) TH_LOG("round %d", i);
		close(busy);
		fuse_server_stop(&own.s);
	}
}

TEST_HARNESS_MAIN
