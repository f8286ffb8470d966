/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the tests of lower files of inodes, in addition to attach_test.h. */
#ifndef _SELFTESTS_FUSE_INODE_TEST_H
#define _SELFTESTS_FUSE_INODE_TEST_H

#include "attach_test.h"

#define OP(name)	FUSE_PASSTHROUGH_OP(FUSE_##name)

/* Whatever may be attached to any inode, to a file, a directory, a symlink. */
#define OPS_XATTR	(OP(GETXATTR) | OP(LISTXATTR) | OP(SETXATTR) | OP(REMOVEXATTR))
#define OPS_ANY		(OP(GETATTR) | OP(SETATTR) | OPS_XATTR)
#define OPS_FILE	(OPS_ANY | OP(OPEN) | OP(FSYNC) | OP(FALLOCATE) | OP(LSEEK) | \
			 OP(COPY_FILE_RANGE))
#define OPS_DIR		(OPS_ANY | OP(OPENDIR) | OP(READDIR) | OP(FSYNCDIR))
#define OPS_LINK	(OPS_ANY | OP(READLINK))

/* FUSE_DEV_IOC_PASSTHROUGH_INODE.  0 or a positive errno. */
int inode_ioctl(int dev, const struct fuse_passthrough_inode *in);
/* A request() that makes an attempt with it */
bool try_inode(struct fuse_server *s, const struct fuse_in_header *in);
/* By nodeid: attach the lower file @name, or another one, by its descriptor. */
int inode_attach(struct fuse_server *s, const char *name, uint64_t ops);
int inode_attach_fd(struct fuse_server *s, const char *name, int fd, uint64_t ops);
int inode_detach(struct fuse_server *s, const char *name);
int inode_detach_all(struct fuse_server *s);

/* The same by a server that is user and group @id, and nothing more. */
int inode_attach_as(struct fuse_server *s, const char *name, uid_t id, uint64_t ops);
/* The same through another mount of the lower file system, by a path of that. */
int inode_attach_path(struct fuse_server *s, const char *name, const char *path,
		      uint64_t ops);

/* How many inodes have something attached, as the control file system tells in: */
const char *inodes_control(struct fuse_server *s);
int inodes_attached(struct fuse_server *s);
/* The same of open files that have a lower file. */
int files_attached(struct fuse_server *s);

/* Descriptor of a lower file, symlinks included, that allows nothing but to attach. */
int lower_opath(struct fuse_server *s, const char *name);

/*
 * Start a server with default_permissions that lets all users in, and attach
 * GETATTR to the root.  Returns 0 or a negative errno.
 */
int serve_inodes(struct fuse_server *s);
/*
 * The same, with GETATTR attached to "f" of pattern 1, "d", "d/g" of pattern 2
 * and "l", a link to "f".  New nodes have it, too.
 */
int serve_tree(struct fuse_server *s, size_t len);
/* Negotiate FUSE_POSIX_ACL. */
void init_acl(struct fuse_server *s, struct fuse_init_out *out);

/* Open "f" through the mount. */
int open_f(struct fuse_server *s, int flags);
/* errno of such an open, or 0. */
int try_open(struct fuse_server *s, int flags);

/* Requests of this kind that a stat of @name costs, however fresh it is asked for. */
unsigned long stat_costs(struct fuse_server *s, const char *name, int opcode);

#define USER	1000
#define OTHER	1001
#define GROUP	1500

/* Who does something: root, the owner (of the group, or not), a member of it, or none. */
enum client { ROOT, OWNER, OWNER_MEMBER, MEMBER, STRANGER, CLIENTS };

void client_become(enum client client);

/* Can this user open the file, and does the server hear of it only then? */
int open_by(struct fuse_server *s, const char *name, uid_t uid, gid_t gid,
	    int flags);
/* May this user, by effective ids, as with an open? */
int access_by(struct fuse_server *s, const char *name, uid_t uid, int mode);

/*
 * "f" through the mount and "peer" beside it below are alike from here on: what is
 * done to one and to the other, by the same client, is to end alike.
 */
bool pair_make(struct fuse_server *s, mode_t mode, uid_t uid, gid_t gid);
bool pair_alike(struct fuse_server *s);

/* A call that waits for the lock of the lower "f", for race(). */
struct queued {
	void (*call)(struct queued *q);
	struct fuse_server *s;
	enum client client;	/* for call() */
	int what;		/* the same */
	int err;		/* result of it */
	struct blocker b;
};

/* Whoever came second may get the lock first: try again so often. */
#define TRIES	20

/*
 * Make the administrator's call and then the client's while a write has the
 * lock of the lower "f", and let both go on.  Returns false if they cannot be
 * made to wait.
 */
bool race(struct fuse_server *s, struct queued *below, struct queued *client);

/* FS_APPEND_FL and the like, on a lower file.  0 or an errno. */
int lower_flags(struct fuse_server *s, const char *name, int flags);

#define ACL	"system.posix_acl_access"

/* An access control list in which @uid may do all, of others the mode says @other. */
size_t acl_of(void *buf, uid_t uid, int other);
/* Set one that names OTHER.  0 or an errno. */
int set_acl(const char *path);

/* Of the calling thread alone; the C library would do it for all. */
void thread_become(uid_t uid, gid_t gid);
void thread_become_root(void);

#endif /* _SELFTESTS_FUSE_INODE_TEST_H */
