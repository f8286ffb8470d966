/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the tests of lower files of inodes, in addition to attach_test.h. */
#ifndef _SELFTESTS_FUSE_INODE_TEST_H
#define _SELFTESTS_FUSE_INODE_TEST_H

#include "attach_test.h"

#define OP(name)	FUSE_PASSTHROUGH_OP(FUSE_##name)

/* All operations that can be attached: to any inode, a file, a directory, a symlink */
#define OPS_XATTR	(OP(GETXATTR) | OP(LISTXATTR) | OP(SETXATTR) | OP(REMOVEXATTR))
#define OPS_ANY		(OP(GETATTR) | OP(SETATTR) | OPS_XATTR)
#define OPS_FILE	(OPS_ANY | OP(OPEN) | OP(FSYNC) | OP(FALLOCATE) | OP(LSEEK) | \
			 OP(COPY_FILE_RANGE))
#define OPS_DIR		(OPS_ANY | OP(OPENDIR) | OP(READDIR) | OP(FSYNCDIR))
#define OPS_LINK	(OPS_ANY | OP(READLINK))

/* FUSE_DEV_IOC_PASSTHROUGH_INODE.  Returns 0 or a positive errno. */
int inode_ioctl(int dev, const struct fuse_passthrough_inode *in);
/* A request() that attempts it */
bool try_inode(struct fuse_server *s, const struct fuse_in_header *in);
/* By nodeid: attach the lower file of that name, or the file of a descriptor. */
int inode_attach(struct fuse_server *s, const char *name, uint64_t ops);
int inode_attach_fd(struct fuse_server *s, const char *name, int fd, uint64_t ops);
int inode_detach(struct fuse_server *s, const char *name);
int inode_detach_all(struct fuse_server *s);

/* Likewise, with the credentials of user and group @id and no other group */
int inode_attach_as(struct fuse_server *s, const char *name, uid_t id, uint64_t ops);
/* Likewise, with the lower file at @path, which may be on another mount */
int inode_attach_path(struct fuse_server *s, const char *name, const char *path,
		      uint64_t ops);

/* Path and value of the count of attached inodes in the control file system */
const char *inodes_control(struct fuse_server *s);
int inodes_attached(struct fuse_server *s);
/* Likewise, the number of open files that have a lower file */
int files_attached(struct fuse_server *s);

/* An O_PATH descriptor of a lower file or symlink */
int lower_opath(struct fuse_server *s, const char *name);

/*
 * Start a server with default_permissions, let all users in, and attach GETATTR
 * to the root.  Returns 0 or a negative errno.
 */
int serve_inodes(struct fuse_server *s);
/*
 * Likewise, with "f" of pattern 1, "d", "d/g" of pattern 2 and "l", a symlink
 * to "f".  All of them, and new nodes, have GETATTR attached.
 */
int serve_tree(struct fuse_server *s, size_t len);
/* An init() that negotiates FUSE_POSIX_ACL */
void init_acl(struct fuse_server *s, struct fuse_init_out *out);

/* Open "f" through the mount. */
int open_f(struct fuse_server *s, int flags);
/* Returns 0 or the errno of such an open. */
int try_open(struct fuse_server *s, int flags);

/* Number of requests with this opcode that a stat of @name sends */
unsigned long stat_costs(struct fuse_server *s, const char *name, int opcode);

#define USER	1000
#define OTHER	1001
#define GROUP	1500

/* Users: root, the owner (outside and in the file's group), a group member, a stranger */
enum client { ROOT, OWNER, OWNER_MEMBER, MEMBER, STRANGER, CLIENTS };

void client_become(enum client client);

/*
 * Open the file as this user.  Returns 0 or an errno; -1 unless the server gets
 * an OPEN exactly if the open succeeds.
 */
int open_by(struct fuse_server *s, const char *name, uid_t uid, gid_t gid,
	    int flags);
/* Likewise for access, with effective ids.  Returns 0 or an errno. */
int access_by(struct fuse_server *s, const char *name, uid_t uid, int mode);

/*
 * Make the lower files "f" and "peer" alike.  The same client makes the same
 * change through the mount to "f", and below to "peer": they have to stay
 * alike.
 */
bool pair_make(struct fuse_server *s, mode_t mode, uid_t uid, gid_t gid);
bool pair_alike(struct fuse_server *s);

/* For race(): a call that waits for the lock of the lower "f" */
struct queued {
	void (*call)(struct queued *q);
	struct fuse_server *s;
	enum client client;	/* for call() */
	int what;		/* for call() */
	int err;		/* result of call() */
	struct blocker b;
};

/* The second caller may get the lock first: number of attempts */
#define TRIES	20

/*
 * While a write holds the lock of the lower "f", start the administrator's call
 * and then the client's; then let the write end.  Returns false if the write or
 * a call does not block.
 */
bool race(struct fuse_server *s, struct queued *below, struct queued *client);
/* The administrator's call: root becomes the owner of the lower "f". */
void chown_queued(struct queued *q);

/* Set FS_APPEND_FL and FS_IMMUTABLE_FL of a lower file.  Returns 0 or an errno. */
int lower_flags(struct fuse_server *s, const char *name, int flags);

#define ACL	"system.posix_acl_access"

/* An ACL that permits all to @uid and @other to others.  Returns its size. */
size_t acl_of(void *buf, uid_t uid, int other);
/* Set an ACL with an entry for OTHER.  Returns 0 or an errno. */
int set_acl(const char *path);

/* These change the calling thread only; the C library would change all threads. */
void thread_become(uid_t uid, gid_t gid);
void thread_become_root(void);

#endif /* _SELFTESTS_FUSE_INODE_TEST_H */
