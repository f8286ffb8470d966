// SPDX-License-Identifier: GPL-2.0
/* Acting as the client: in Linux each thread has its own credentials. */

#include "passthroughfs.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The daemon's own credentials, read at start-up. */
static struct {
	bool privileged;	/* may act as the client */
	gid_t *groups;
	int group_count;
	struct __user_cap_data_struct caps[2];
} self;

/* One umask per thread.  A default ACL of the lower directory overrides it. */
static void use_umask(mode_t mask)
{
	static __thread bool own;

	if (!config.own_umask)
		return;
	if (!own)
		own = unshare(CLONE_FS) == 0;
	umask(mask);
}

static void take_caps(bool fsetid)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct caps[2] = { self.caps[0], self.caps[1] };

	if (!fsetid)
		caps[0].effective &= ~(1U << CAP_FSETID);
	syscall(SYS_capset, &head, caps);
}

/*
 * With --killpriv-v2 the lower file system clears setuid and setgid on every
 * write and truncation, so the daemon runs without CAP_FSETID.  That would also
 * clear bits that the client's kernel has decided to keep.
 */
void keep_bits(bool keep)
{
	if (config.killpriv_v2)
		take_caps(keep);
}

/* Drops CAP_FSETID again, which setfsuid() to root may have raised. */
void act_as_self(enum part part)
{
	int error = errno;

	if (self.privileged) {
		setfsuid(geteuid());
		setfsgid(getegid());
		if (part == CLIENT)
			syscall(SYS_setgroups, self.group_count, self.groups);
	}
	keep_bits(false);
	errno = error;
}

static void use_client_groups(fuse_req_t req)
{
	gid_t groups[256];
	int max = sizeof(groups) / sizeof(*groups);
	int n = fuse_req_getgroups(req, max, groups);

	/* A client that has exited or has too many groups gets no groups. */
	syscall(SYS_setgroups, n > 0 && n <= max ? n : 0, groups);
}

/* Returns 0, or an errno with the daemon's own credentials in effect. */
int act_as(fuse_req_t req, enum part part)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	use_umask(ctx->umask);
	if (!self.privileged)
		return 0;

	if (part == CLIENT)
		use_client_groups(req);
	setfsgid(ctx->gid);
	setfsuid(ctx->uid);
	if ((gid_t)setfsgid(-1) != ctx->gid || (uid_t)setfsuid(-1) != ctx->uid) {
		act_as_self(part);
		return EPERM;
	}
	if (part == MAKER)
		take_caps(true);
	return 0;
}

void prepare_privilege(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	const unsigned int needed = 1U << CAP_SETUID | 1U << CAP_SETGID;

	if (syscall(SYS_capget, &head, self.caps) == -1) {
		config.killpriv_v2 = 0;
		return;
	}
	config.own_umask = unshare(CLONE_FS) == 0;
	self.group_count = getgroups(0, NULL);
	if (self.group_count > 0)
		self.groups = calloc(self.group_count, sizeof(gid_t));
	if (self.groups)
		self.group_count = getgroups(self.group_count, self.groups);
	if (!self.groups || self.group_count < 0)
		self.group_count = 0;
	self.privileged = geteuid() == 0 &&
		(self.caps[0].effective & needed) == needed;
	keep_bits(false);
}
