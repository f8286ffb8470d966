// SPDX-License-Identifier: GPL-2.0
/* setuid and setgid at writes that pass through by backing id. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "id_server.h"
#include "../../kselftest_harness.h"

#define USER	1000

FIXTURE(id_setuid) {
	struct id_server s;
	int fd;
};

FIXTURE_VARIANT(id_setuid) { uint32_t handles; };
FIXTURE_VARIANT_ADD(id_setuid, none) { .handles = 0 };
FIXTURE_VARIANT_ADD(id_setuid, killpriv) { .handles = FUSE_HANDLE_KILLPRIV };
FIXTURE_VARIANT_ADD(id_setuid, killpriv_v2) {
	.handles = FUSE_HANDLE_KILLPRIV_V2
};

FIXTURE_SETUP(id_setuid)
{
	struct stat st;

	self->s.handles = variant->handles;
	ASSERT_EQ(0, id_server_start(&self->s));
	self->fd = open(self->s.file, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fchmod(self->fd, 06777));
	ASSERT_EQ(0, fstat(self->s.lower, &st));
	ASSERT_EQ(06777, st.st_mode & 07777);
}

FIXTURE_TEARDOWN(id_setuid)
{
	EXPECT_EQ(0, id_server_count(&self->s, FUSE_WRITE));
	close(self->fd);
	id_server_stop(&self->s);
}

static int do_write(int fd)
{
	return pwrite(fd, "x", 1, 0);
}

static int do_splice(int fd)
{
	int p[2];

	if (pipe(p) || write(p[1], "x", 1) != 1)
		return -1;
	return splice(p[0], NULL, fd, NULL, 1, 0);
}

/* The mode of the lower file after a client without privilege changed it. */
static mode_t mode_after(struct id_server *s, int fd, int (*change)(int fd))
{
	struct stat st;
	int status = -1;
	pid_t pid;

	pid = fork();
	if (!pid) {
		if (setresgid(USER, USER, USER) || setresuid(USER, USER, USER))
			_exit(1);
		_exit(change(fd) != 1);
	}
	if (waitpid(pid, &status, 0) != pid || status || fstat(s->lower, &st))
		return -1;
	return st.st_mode & 07777;
}

/*
 * They fall by the write of a client without privilege, although the server has
 * CAP_FSETID, whatever it has promised to do about them at WRITE.
 */
TEST_F(id_setuid, write)
{
	EXPECT_EQ(0777, mode_after(&self->s, self->fd, do_write));
}

/* And by a splice. */
TEST_F(id_setuid, splice)
{
	EXPECT_EQ(0777, mode_after(&self->s, self->fd, do_splice));
}

TEST_HARNESS_MAIN
