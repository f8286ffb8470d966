// SPDX-License-Identifier: GPL-2.0
/*
 * Operations that can be attached to an inode: combinations, and conditions on
 * the connection.
 */
#define _GNU_SOURCE
#include <string.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define GET	OP(GETATTR)

FIXTURE(inode_ops) {
	struct fuse_server s;
};

FIXTURE_SETUP(inode_ops)
{
	self->s.permissions = true;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, mkdirat(self->s.dirfd, "d", 0755));
	ASSERT_EQ(0, symlinkat("f", self->s.dirfd, "l"));
}

FIXTURE_TEARDOWN(inode_ops)
{
	fuse_server_stop(&self->s);
}

/* Operations that require default_permissions and GETATTR */
#define OPS_CHECKED	(OP(OPEN) | OP(OPENDIR) | OP(READDIR) | OP(SETATTR) | \
			 OP(GETXATTR) | OP(SETXATTR) | OP(REMOVEXATTR))

/* An operation together with those that it requires, except GETATTR */
static uint64_t with(unsigned int bit)
{
	uint64_t ops = 1ULL << bit;

	if (ops & (OP(OPENDIR) | OP(READDIR) | OP(FSYNCDIR)))
		ops |= OP(OPENDIR) | OP(READDIR);
	return ops;
}

static const struct { const char *name; uint64_t ops; } types[] = {
	{ "f", OPS_FILE }, { "d", OPS_DIR }, { "l", OPS_LINK },
};

/*
 * Of the 64 bits each type of inode accepts those that make sense for
 * it.  Without GETATTR an inode accepts only operations that need no permission
 * check.
 */
TEST_F_TIMEOUT(inode_ops, each_bit, IO_TIMEOUT)
{
	unsigned int bit, i, get;
	int want;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		ASSERT_EQ(0, lookup(&self->s, types[i].name));
		for (bit = 0; bit < 64; bit++) {
			for (get = 0; get < 2; get++) {
				uint64_t ops = with(bit) | (get ? GET : 0);

				want = (ops & ~types[i].ops) ||
					((ops & OPS_CHECKED) && !(ops & GET)) ?
					EINVAL : 0;
				EXPECT_EQ(want, inode_attach(&self->s,
							     types[i].name, ops))
					TH_LOG("%s, bit %u, get %u", types[i].name,
					       bit, get);
				EXPECT_EQ(!want, inodes_attached(&self->s));
				EXPECT_EQ(want ? ENOENT : 0,
					  inode_detach(&self->s, types[i].name));
			}
		}
		EXPECT_EQ(0, inode_attach(&self->s, types[i].name, types[i].ops));
		EXPECT_EQ(0, inode_detach(&self->s, types[i].name));
	}
}

/* FUSE_PASSTHROUGH_RDONLY can be combined with all operations that do not write. */
TEST_F_TIMEOUT(inode_ops, rdonly, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = {
		.flags = FUSE_PASSTHROUGH_RDONLY,
		.ops = OPS_FILE & ~(OP(SETATTR) | OP(SETXATTR) | OP(REMOVEXATTR) |
				    OP(FALLOCATE)),
	};

	ASSERT_EQ(0, lookup(&self->s, "f"));
	in.nodeid = fuse_server_nodeid(&self->s, "f");
	in.fd = lower_opath(&self->s, "f");
	EXPECT_EQ(0, inode_ioctl(self->s.dev, &in));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	close(in.fd);
}

/*
 * A lower file without a write operation can have GETATTR attached, and OPEN
 * together with FUSE_PASSTHROUGH_RDONLY.
 */
TEST_F_TIMEOUT(inode_ops, read_only, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = {
		.fd = squashfs_file(O_RDONLY),
		.flags = FUSE_PASSTHROUGH_RDONLY,
		.ops = GET | OP(OPEN),
	};

	if (in.fd < 0)
		SKIP(return, "no squashfs, or no loop devices");
	ASSERT_EQ(0, lookup(&self->s, "f"));
	EXPECT_EQ(0, inode_attach_fd(&self->s, "f", in.fd, GET));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(0, inode_detach(&self->s, "f"));
	in.nodeid = fuse_server_nodeid(&self->s, "f");
	EXPECT_EQ(0, inode_ioctl(self->s.dev, &in));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	close(in.fd);
}

/* What the server negotiates, and the results of attaches on such a connection */
FIXTURE(inode_conn) {
	struct fuse_server s;
};

FIXTURE_VARIANT(inode_conn) {
	bool permissions, off, locks, flocks;
	int want_getattr, want_open, want_fsync;
};

FIXTURE_VARIANT_ADD(inode_conn, permissions) { .permissions = true };

FIXTURE_VARIANT_ADD(inode_conn, off) {
	.permissions = true, .off = true,
	.want_getattr = EPERM, .want_open = EPERM, .want_fsync = EPERM,
};

FIXTURE_VARIANT_ADD(inode_conn, no_permissions) { .want_open = EINVAL };

FIXTURE_VARIANT_ADD(inode_conn, locks) {
	.permissions = true, .locks = true, .want_open = EINVAL
};

FIXTURE_VARIANT_ADD(inode_conn, flocks) {
	.permissions = true, .flocks = true, .want_open = EINVAL
};

static void init_as_asked(struct fuse_server *s, struct fuse_init_out *out)
{
	const FIXTURE_VARIANT(inode_conn) *variant = s->arg;

	if (variant->off)
		out->flags2 &= ~(FUSE_PASSTHROUGH >> 32);
	if (variant->locks)
		out->flags |= FUSE_POSIX_LOCKS;
	if (variant->flocks)
		out->flags |= FUSE_FLOCK_LOCKS;
}

FIXTURE_SETUP(inode_conn)
{
	self->s.permissions = variant->permissions;
	self->s.init = init_as_asked;
	self->s.arg = (void *)variant;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lookup(&self->s, "f"));
}

FIXTURE_TEARDOWN(inode_conn)
{
	fuse_server_stop(&self->s);
}

/*
 * Without FUSE_PASSTHROUGH each attach is EPERM.  Operations that FUSE has to
 * check require default_permissions; OPEN requires that the server handles no
 * locks.
 */
TEST_F_TIMEOUT(inode_conn, negotiated, IO_TIMEOUT)
{
	static const uint64_t checked[] = {
		OP(SETATTR), OP(GETXATTR), OP(SETXATTR), OP(REMOVEXATTR),
	};
	static const uint64_t unchecked[] = {
		OP(FSYNC), OP(FALLOCATE), OP(LSEEK), OP(COPY_FILE_RANGE), OP(LISTXATTR),
	};
	unsigned int i;
	int want;

	EXPECT_EQ(variant->want_getattr, inode_attach(&self->s, "f", GET));
	inode_detach(&self->s, "f");
	EXPECT_EQ(variant->want_open, inode_attach(&self->s, "f", GET | OP(OPEN)));
	inode_detach(&self->s, "f");
	want = variant->off ? EPERM : variant->permissions ? 0 : EINVAL;
	for (i = 0; i < ARRAY_SIZE(checked); i++) {
		EXPECT_EQ(want, inode_attach(&self->s, "f", GET | checked[i]))
			TH_LOG("case %u", i);
		inode_detach(&self->s, "f");
	}
	for (i = 0; i < ARRAY_SIZE(unchecked); i++) {
		EXPECT_EQ(variant->want_fsync, inode_attach(&self->s, "f", unchecked[i]))
			TH_LOG("case %u", i);
		inode_detach(&self->s, "f");
	}
}

TEST_HARNESS_MAIN
