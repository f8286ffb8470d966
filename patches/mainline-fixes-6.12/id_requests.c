// SPDX-License-Identifier: GPL-2.0
/* What a write that passes through by backing id asks of the server. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "id_server.h"
#include "../../kselftest_harness.h"

#define WRITES	10
#define CAPS	"security.capability"

FIXTURE(id_requests) {
	struct id_server s;
	int fd;
};

FIXTURE_VARIANT(id_requests) { uint32_t handles; };
FIXTURE_VARIANT_ADD(id_requests, none) { .handles = 0 };
FIXTURE_VARIANT_ADD(id_requests, killpriv_v2) {
	.handles = FUSE_HANDLE_KILLPRIV_V2
};

FIXTURE_SETUP(id_requests)
{
	self->s.handles = variant->handles;
	ASSERT_EQ(0, id_server_start(&self->s));
	self->fd = open(self->s.file, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(id_requests)
{
	EXPECT_EQ(0, id_server_count(&self->s, FUSE_WRITE));
	close(self->fd);
	id_server_stop(&self->s);
}

/* A write to a file without setuid and setgid sends no request. */
TEST_F(id_requests, write)
{
	unsigned long before = id_server_total(&self->s);
	char buf[WRITES + 1] = "";
	int i;

	for (i = 0; i < WRITES; i++)
		ASSERT_EQ(1, pwrite(self->fd, "x", 1, i));
	EXPECT_EQ(before, id_server_total(&self->s));

	/* They did reach the lower file. */
	EXPECT_EQ(WRITES, pread(self->s.lower, buf, WRITES, 0));
	EXPECT_STREQ("xxxxxxxxxx", buf);
}

/* Nor does one between two stats, each of which asks for attributes. */
TEST_F(id_requests, write_and_stat)
{
	unsigned long before = id_server_count(&self->s, FUSE_GETXATTR);
	struct stat st;
	int i;

	for (i = 0; i < WRITES; i++) {
		ASSERT_EQ(1, pwrite(self->fd, "x", 1, i));
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_EQ(i + 1, st.st_size);
	}
	EXPECT_EQ(before, id_server_count(&self->s, FUSE_GETXATTR));
}

/* Nor does a splice. */
TEST_F(id_requests, splice)
{
	unsigned long before = id_server_total(&self->s);
	char c = 0;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, write(p[1], "s", 1));
	ASSERT_EQ(1, splice(p[0], NULL, self->fd, NULL, 1, 0));
	EXPECT_EQ(before, id_server_total(&self->s));
	EXPECT_EQ(1, pread(self->s.lower, &c, 1, 0));
	EXPECT_EQ('s', c);
	close(p[0]);
	close(p[1]);
}

/* Nor does one that keeps setuid, by a client that may. */
TEST_F(id_requests, setuid_stays)
{
	unsigned long before;
	struct stat st;

	ASSERT_EQ(0, fchmod(self->fd, 04777));
	before = id_server_total(&self->s);
	ASSERT_EQ(1, pwrite(self->fd, "x", 1, 0));
	EXPECT_EQ(before, id_server_total(&self->s));
	ASSERT_EQ(0, fstat(self->s.lower, &st));
	EXPECT_EQ(04777, st.st_mode & 07777);
}

/* File capabilities of the lower file fall all the same. */
TEST_F(id_requests, capabilities_fall)
{
	struct vfs_cap_data caps = {
		.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
		.data[0].permitted = 1 << CAP_CHOWN,
	};

	if (fsetxattr(self->s.lower, CAPS, &caps, sizeof(caps), 0) &&
	    errno == EOPNOTSUPP)
		SKIP(return, "the lower file system has no file capabilities");
	ASSERT_LT(0, fgetxattr(self->s.lower, CAPS, NULL, 0));
	ASSERT_EQ(1, pwrite(self->fd, "x", 1, 0));
	EXPECT_EQ(-1, fgetxattr(self->s.lower, CAPS, NULL, 0));
	EXPECT_EQ(ENODATA, errno);
}

TEST_HARNESS_MAIN
