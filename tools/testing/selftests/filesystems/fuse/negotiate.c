// SPDX-License-Identifier: GPL-2.0
/* Passthrough as it is negotiated by INIT */
#define _GNU_SOURCE
#include "attach_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000

FIXTURE(negotiate) {
	struct fuse_server s;
};

FIXTURE_VARIANT(negotiate) {
	bool off, no_ext;
	uint32_t depth;
	int want;
};

FIXTURE_VARIANT_ADD(negotiate, off) { .off = true, .depth = 1, .want = EPERM };
FIXTURE_VARIANT_ADD(negotiate, no_init_ext) { .no_ext = true, .depth = 1, .want = EPERM };
FIXTURE_VARIANT_ADD(negotiate, depth_0) { .depth = 0, .want = 0 };
FIXTURE_VARIANT_ADD(negotiate, depth_1) { .depth = 1, .want = 0 };
FIXTURE_VARIANT_ADD(negotiate, depth_2) { .depth = 2, .want = 0 };
FIXTURE_VARIANT_ADD(negotiate, depth_3) { .depth = 3, .want = EPERM };
FIXTURE_VARIANT_ADD(negotiate, depth_max) { .depth = UINT32_MAX, .want = EPERM };

static void init_as_asked(struct fuse_server *s, struct fuse_init_out *out)
{
	const FIXTURE_VARIANT(negotiate) *variant = s->arg;

	if (variant->off)
		out->flags2 &= ~(FUSE_PASSTHROUGH >> 32);
	if (variant->no_ext)
		out->flags &= ~FUSE_INIT_EXT;
	out->max_stack_depth = variant->depth;
}

FIXTURE_SETUP(negotiate)
{
	self->s.init = init_as_asked;
	self->s.arg = (void *)variant;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
}

FIXTURE_TEARDOWN(negotiate)
{
	fuse_server_stop(&self->s);
}

/*
 * Passthrough is on if the server asked for it in a form that the kernel knows.
 * If it is off, each passthrough ioctl is EPERM, and opens are plain.
 */
TEST_F_TIMEOUT(negotiate, negotiate, IO_TIMEOUT)
{
	struct fuse_backing_map map = {};
	bool on = !variant->want;
	uint32_t id;
	int fd, ret;

	if (on && variant->depth < 2 && lower_is(&self->s, OVERLAYFS_SUPER_MAGIC))
		SKIP(return, "the lower file system is stacked itself");
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	if (on) {
		ASSERT_LE(0, fd);
	} else {
		ASSERT_EQ(-1, fd);
		EXPECT_EQ(EPERM, errno);
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
	}
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, on));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, 2, on));
	close(fd);

	map.fd = lower_open(&self->s, "f", O_RDWR);
	ASSERT_LE(0, map.fd);
	ret = ioctl(self->s.dev, FUSE_DEV_IOC_BACKING_OPEN, &map);
	id = ret;
	if (on) {
		EXPECT_LT(0, ret);
		EXPECT_EQ(0, ioctl(self->s.dev, FUSE_DEV_IOC_BACKING_CLOSE, &id));
	} else {
		EXPECT_EQ(-1, ret);
		EXPECT_EQ(EPERM, errno);
		id = 1;
		EXPECT_EQ(-1, ioctl(self->s.dev, FUSE_DEV_IOC_BACKING_CLOSE, &id));
		EXPECT_EQ(EPERM, errno);
		/*
		 * Passthrough is not negotiated: these have no effect, even
		 * with an id.
		 */
		self->s.open_flags = 1 << 7;
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, false));
		close(fd);
	}
	close(map.fd);
}

TEST_HARNESS_MAIN
