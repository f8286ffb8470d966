/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A FUSE server in a thread, on /dev/fuse itself.  It serves the files of one
 * directory, answers each open as the test asks, and counts requests by opcode.
 */
#ifndef _SELFTESTS_FUSE_SERVER_H
#define _SELFTESTS_FUSE_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/fuse.h>

#define FUSE_SERVER_OPCODES	64
#define FUSE_SERVER_NODES	256
#define FUSE_SERVER_HELD	64
#define FUSE_SERVER_BUF		(1 << 20)

enum fuse_server_open {
	OPEN_CACHED,
	OPEN_DIRECT,
	OPEN_PASSTHROUGH,	/* FUSE_DEV_IOC_PASSTHROUGH_OPEN */
	OPEN_BACKING_ID,	/* FUSE_DEV_IOC_BACKING_OPEN */
	/*
	 * FUSE_DEV_IOC_PASSTHROUGH_INODE, with the first answer about a file:
	 * set before the kernel knows the file, on a mount with
	 * default_permissions.
	 */
	OPEN_BY_INODE,
};

/* Operations that OPEN_BY_INODE attaches to a regular file */
#define FUSE_SERVER_BY_INODE					\
	(FUSE_PASSTHROUGH_OP(FUSE_GETATTR) |			\
	 FUSE_PASSTHROUGH_OP(FUSE_SETATTR) |			\
	 FUSE_PASSTHROUGH_OP(FUSE_OPEN) |			\
	 FUSE_PASSTHROUGH_OP(FUSE_FSYNC) |			\
	 FUSE_PASSTHROUGH_OP(FUSE_FALLOCATE) |			\
	 FUSE_PASSTHROUGH_OP(FUSE_LSEEK) |			\
	 FUSE_PASSTHROUGH_OP(FUSE_COPY_FILE_RANGE))

/* A name that an answer has mentioned, and what answers attach to its inode */
struct fuse_server_node {
	char *name;		/* path below the served directory */
	/* FUSE_PASSTHROUGH_OP(); with 0 only OPEN_BY_INODE attaches */
	uint64_t ops;
	uint32_t flags;		/* FUSE_PASSTHROUGH_RDONLY */
	const char *lower;	/* name of the lower file; NULL: the same */
};

struct fuse_server {
	/* Set before fuse_server_start(). */
	bool writeback;			/* negotiate FUSE_WRITEBACK_CACHE */
	bool xattrs;			/* serve extended attributes */
	unsigned int attr_valid;	/* seconds, of attributes and entries */
	bool entries_expire;		/* names expire at once, attributes do not */
	bool owner_only;		/* mount without allow_other */
	bool permissions;		/* mount with default_permissions */
	/* May be NULL; may change the answer to INIT */
	void (*init)(struct fuse_server *s, struct fuse_init_out *out);

	/* Mount point and served directory */
	char mnt[64];
	char lower[128];
	int dirfd;
	int dev;
	uint64_t init_flags;		/* negotiated flags */

	/* How the next opens are answered */
	enum fuse_server_open how;
	uint32_t open_flags;		/* further FOPEN_* flags */
	int open_mode;			/* of the lower file; -1: the client's */
	const char *open_lower;		/* name of the lower file; NULL: the same */

	/*
	 * Requests, as FUSE_PASSTHROUGH_OP(), whose answers attach what the
	 * node of the inode says; by default all
	 */
	uint64_t attach_in;
	uint64_t new_ops;		/* ops of new nodes */

	/*
	 * request() sees each request first, in the server thread.  It returns
	 * true if the request has been answered, or will be by
	 * fuse_server_reply().
	 */
	bool (*request)(struct fuse_server *s, const struct fuse_in_header *in);
	void *arg;			/* for init() and request() */

	/* For the functions below */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t change;
	unsigned long count[FUSE_SERVER_OPCODES];
	int open_error;			/* errno of the last failed attach */
	int inode_error;		/* errno of the last failed attach to an inode */
	bool hold;
	unsigned char hold_last;
	unsigned int nr_held;
	void *held[FUSE_SERVER_HELD];
	struct fuse_server_node nodes[FUSE_SERVER_NODES];
};

/* Mount in a new mount namespace. Returns 0 or a negative errno. */
int fuse_server_start(struct fuse_server *s);
/* Unmount, end the thread, remove both directories and their contents. */
void fuse_server_stop(struct fuse_server *s);
/* Abort the connection: the server is gone, the mount stays. */
void fuse_server_die(struct fuse_server *s);

/*
 * @error is 0 or a negative errno.  Returns 0 or the negative errno of the
 * write.
 */
int fuse_server_reply(struct fuse_server *s, uint64_t unique, int error,
		      const void *out, size_t len);
/* Fill in the attributes of a lower file. Returns 0 or a negative errno. */
int fuse_server_attr(struct fuse_server *s, uint64_t nodeid, const char *name,
		     struct fuse_attr *a);

/* Returns the node id of a name, and makes a node if there is none.  "." is the root. */
uint64_t fuse_server_nodeid(struct fuse_server *s, const char *name);
/* Returns the node of a name, which says what answers attach to its inode. */
struct fuse_server_node *fuse_server_node(struct fuse_server *s, const char *name);

unsigned long fuse_server_count(struct fuse_server *s, int opcode);
/* Number of all requests except FORGET and INTERRUPT */
unsigned long fuse_server_requests(struct fuse_server *s);
/* Wait until the server has got @count of these requests. */
void fuse_server_wait(struct fuse_server *s, int opcode, unsigned long count);

/*
 * Hold WRITE requests whose last byte is @last, until fuse_server_release().
 * Writeback may begin while a page is still being filled: such a WRITE is not
 * held.
 */
void fuse_server_hold(struct fuse_server *s, unsigned char last);
void fuse_server_wait_held(struct fuse_server *s, unsigned int nr);
void fuse_server_release(struct fuse_server *s);

#endif /* _SELFTESTS_FUSE_SERVER_H */
