// SPDX-License-Identifier: GPL-2.0
/*
 * setuid and setgid bits after a request has changed data: allocate, punch,
 * zero, truncate, copy, and a write without passthrough
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/sendfile.h>

#include "attach_test.h"
#include "../../kselftest_harness.h"

#define USER	1000
#define GROUP	2000
#define LEN	(4 * BLOCK)

enum op {
	OP_ALLOCATE, OP_ALLOCATE_KEEP, OP_PUNCH, OP_ZERO,
	OP_FTRUNCATE, OP_TRUNCATE, OP_OPEN_TRUNC, OP_COPY, OP_WRITE, OPS
};

enum who { STRANGER, MEMBER, ROOT, WHOS };

/* Called in a child; cannot be undone. */
static void become(enum who who)
{
	gid_t group = GROUP;

	if (who == ROOT)
		return;
	if (setgroups(who == MEMBER, &group) || setresgid(USER, USER, USER) ||
	    setresuid(USER, USER, USER))
		_exit(100);
}

/* The @size bytes of the file stay the same, except for the last block. */
static int change(const char *dir, const char *name, enum op op, off_t size)
{
	char path[256], from[256], buf[16];
	int flags = O_RDWR | O_CLOEXEC;
	off_t in = 0, out = size;
	int fd, src;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(from, sizeof(from), "%s/from", dir);
	if (op == OP_TRUNCATE)
		return truncate(path, size);
	if (op == OP_OPEN_TRUNC)
		flags |= O_TRUNC;
	fd = open(path, flags);
	if (fd < 0)
		return -1;
	switch (op) {
	case OP_ALLOCATE:
		return fallocate(fd, 0, 0, size + BLOCK);
	case OP_ALLOCATE_KEEP:
		return fallocate(fd, FALLOC_FL_KEEP_SIZE, size, BLOCK);
	case OP_PUNCH:
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 size - BLOCK, BLOCK);
	case OP_ZERO:
		return fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				 size - BLOCK, BLOCK);
	case OP_FTRUNCATE:
		return ftruncate(fd, size);
	case OP_COPY:
		src = open(from, O_RDONLY | O_CLOEXEC);
		return copy_file_range(src, &in, fd, &out, BLOCK, 0) == BLOCK ?
			0 : -1;
	case OP_WRITE:
		if (pread(fd, buf, sizeof(buf), 0) != sizeof(buf))
			return -1;
		return pwrite(fd, buf, sizeof(buf), 0) == sizeof(buf) ? 0 : -1;
	default:
		return 0;
	}
}

/* Run in a child as @who. Returns 0 or its errno. */
static int change_as(enum who who, const char *dir, const char *name,
		     enum op op, off_t size)
{
	pid_t pid = fork();

	if (!pid) {
		become(who);
		_exit(change(dir, name, op, size) ? errno : 0);
	}
	return child_status(pid);
}

/* The mode that exec sees; exec checks X_OK before it reads the mode. */
static mode_t exec_mode(struct fuse_server *s, const char *name)
{
	struct statx stx;

	if (access(fuse_path(s, name), X_OK) ||
	    statx(AT_FDCWD, fuse_path(s, name), AT_STATX_DONT_SYNC, STATX_MODE,
		  &stx))
		return 0;
	return stx.stx_mode & 07777;
}

/* --- The kernel drops the bits, by SETATTR --- */

FIXTURE(killpriv) {
	struct fuse_server s;
};

FIXTURE_VARIANTS_HOW(killpriv);

FIXTURE_SETUP(killpriv)
{
	static const char * const names[] = { "f", "low", "from" };
	unsigned int i;

	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, fchmod(self->s.dirfd, 0755));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		ASSERT_EQ(0, lower_make(&self->s, names[i], LEN, i));
		ASSERT_EQ(0, fchownat(self->s.dirfd, names[i], 0, GROUP, 0));
	}
	self->s.how = variant->how;
}

FIXTURE_TEARDOWN(killpriv)
{
	fuse_server_stop(&self->s);
}

/* A passthrough write sends no request; a direct write leaves the bits to the server. */
static bool is_request(enum op op, enum fuse_server_open how)
{
	return op != OP_WRITE || how == OPEN_CACHED;
}

/* btrfs drops no bits if the punched range is a hole already. */
static int fill_last_block(struct fuse_server *s, const char *name)
{
	int fd = lower_open(s, name, O_WRONLY);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = pwrite(fd, "data", 4, LEN - BLOCK);
	close(fd);
	return n == 4 ? 0 : -1;
}

/* tmpfs of 6.1 drops no bits when it allocates or punches. */
static int change_lower(struct fuse_server *s, enum who who, enum op op)
{
	int err = change_as(who, s->lower, "low", op, LEN);

	if (!err && lower_is(s, TMPFS_MAGIC) && op <= OP_ZERO)
		err = change_as(who, s->lower, "low", OP_FTRUNCATE, LEN);
	return err;
}

/*
 * The server has CAP_FSETID and negotiated no killpriv flag.  An operation drops
 * the bits that the same operation of the same client drops on the lower file
 * system, with and without group-exec, for members of the group and for others.
 */
TEST_F_TIMEOUT(killpriv, as_on_the_lower_file_system, IO_TIMEOUT)
{
	static const mode_t modes[] = { 02666, 06666, 02777, 06777, 04666 };
	unsigned int i;
	enum who who;
	enum op op;
	int err;

	for (op = 0; op < OPS; op++) {
		if (!is_request(op, variant->how))
			continue;
		for (who = 0; who < WHOS; who++) {
			for (i = 0; i < ARRAY_SIZE(modes); i++) {
				ASSERT_EQ(0, fill_last_block(&self->s, "low"));
				ASSERT_EQ(0, fill_last_block(&self->s, "f"));
				ASSERT_EQ(0, fchmodat(self->s.dirfd, "low",
						      modes[i], 0));
				ASSERT_EQ(0, chmod(fuse_path(&self->s, "f"),
						   modes[i]));
				ASSERT_EQ(modes[i], lower_mode(&self->s, "f"));
				err = change_lower(&self->s, who, op);
				ASSERT_EQ(err, change_as(who, self->s.mnt, "f",
							 op, LEN))
					TH_LOG("op %d, who %d", op, who);
				if (err)
					break;
				EXPECT_EQ(lower_mode(&self->s, "low"),
					  lower_mode(&self->s, "f"))
					TH_LOG("op %d, who %d, mode %o -> %o",
					       op, who, modes[i],
					       lower_mode(&self->s, "f"));
			}
			if (err)
				break;
		}
		/* The lower file system may lack OP_ZERO alone. */
		if (op != OP_ZERO) {
			EXPECT_EQ(0, err) TH_LOG("op %d", op);
		}
	}
}

/* --- The server drops the bits --- */

FIXTURE(killpriv_v2) {
	struct fuse_server s;
	off_t size;
};

FIXTURE_VARIANTS_HOW(killpriv_v2);

/* A server that negotiated FUSE_HANDLE_KILLPRIV_V2 drops the bits, for each client. */
static void killpriv_v2(struct fuse_server *s, struct fuse_init_out *out)
{
	struct __user_cap_header_struct h = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct d[2];

	out->flags |= FUSE_HANDLE_KILLPRIV_V2 | FUSE_ATOMIC_O_TRUNC;
	/* The raw system call changes this thread only. */
	if (syscall(SYS_capget, &h, d))
		abort();
	d[0].effective &= ~(1 << CAP_FSETID);
	if (syscall(SYS_capset, &h, d))
		abort();
}

/* Make the lower file @name, a program followed by one more block. */
static off_t make_program(struct fuse_server *s, const char *name)
{
	int in = open("/usr/bin/id", O_RDONLY | O_CLOEXEC);
	int out = lower_open(s, name, O_WRONLY | O_CREAT | O_TRUNC);
	off_t size = in < 0 ? 0 : size_of(in);
	static const char block[BLOCK];

	if (size <= 0 || sendfile(out, in, NULL, size) != size ||
	    pwrite(out, block, BLOCK, size) != BLOCK)
		size = -BLOCK;
	close(in);
	close(out);
	return size + BLOCK;
}

FIXTURE_SETUP(killpriv_v2)
{
	self->s.init = killpriv_v2;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	/* Without "nosuid". */
	ASSERT_EQ(0, mount(NULL, self->s.mnt, NULL, MS_REMOUNT | MS_BIND, NULL));
	self->size = make_program(&self->s, "id");
	ASSERT_LT(BLOCK, self->size);
	ASSERT_EQ(0, lower_make(&self->s, "from", LEN, 1));
	self->s.how = variant->how;
}

FIXTURE_TEARDOWN(killpriv_v2)
{
	fuse_server_stop(&self->s);
}

/* User id of "id" when a stranger executes it */
static int uid_of_exec(struct fuse_server *s)
{
	char buf[16] = "";
	int p[2], status;
	pid_t pid;

	if (pipe(p))
		return -1;
	pid = fork();
	if (!pid) {
		become(STRANGER);
		dup2(p[1], 1);
		execl(fuse_path(s, "id"), "id", "-u", NULL);
		_exit(errno);
	}
	close(p[1]);
	if (read(p[0], buf, sizeof(buf) - 1) <= 0)
		strcpy(buf, "-2");
	close(p[0]);
	status = child_status(pid);
	return status ? -1000 - status : atoi(buf);
}

/*
 * After a stranger has changed a file whose bits the server drops, exec of the
 * file runs with the stranger's user id, even with long-cached attributes.
 */
TEST_F_TIMEOUT(killpriv_v2, exec_sees_it, IO_TIMEOUT)
{
	enum op op;
	int err;

	for (op = 0; op < OPS; op++) {
		if (op == OP_OPEN_TRUNC)
			continue;
		ASSERT_EQ(self->size, make_program(&self->s, "id"));
		ASSERT_EQ(0, chmod(fuse_path(&self->s, "id"), 06777));
		ASSERT_EQ(0, truncate(fuse_path(&self->s, "id"), self->size));
		ASSERT_EQ(0, chmod(fuse_path(&self->s, "id"), 06777));
		/* The bits are in force. */
		EXPECT_EQ(0, uid_of_exec(&self->s));
		err = change_as(STRANGER, self->s.mnt, "id", op, self->size);
		if (err) {
			EXPECT_EQ(EOPNOTSUPP, err) TH_LOG("op %d", op);
			EXPECT_EQ(OP_ZERO, op);
			continue;
		}
		if (lower_is(&self->s, TMPFS_MAGIC) && op <= OP_ZERO)
			continue;
		EXPECT_EQ(0777, lower_mode(&self->s, "id")) TH_LOG("op %d", op);
		EXPECT_EQ(USER, uid_of_exec(&self->s)) TH_LOG("op %d", op);
	}
}

/* Likewise for the mode that exec sees, and for O_TRUNC in the OPEN */
TEST_F_TIMEOUT(killpriv_v2, mode_is_fresh, IO_TIMEOUT)
{
	enum who who;
	enum op op;
	int err;

	for (who = 0; who < WHOS; who++) {
		for (op = 0; op < OPS; op++) {
			ASSERT_EQ(0, chmod(fuse_path(&self->s, "id"), 06777));
			ASSERT_EQ(06777, exec_mode(&self->s, "id"));
			err = change_as(who, self->s.mnt, "id", op, self->size);
			if (err) {
				EXPECT_EQ(EOPNOTSUPP, err) TH_LOG("op %d", op);
				EXPECT_EQ(OP_ZERO, op);
				continue;
			}
			EXPECT_EQ(lower_mode(&self->s, "id"),
				  exec_mode(&self->s, "id"))
				TH_LOG("op %d, who %d", op, who);
		}
	}
}

TEST_HARNESS_MAIN
