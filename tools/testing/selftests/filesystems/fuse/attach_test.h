/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the tests of attaching lower files, in addition to io_test.h. */
#ifndef _SELFTESTS_FUSE_ATTACH_TEST_H
#define _SELFTESTS_FUSE_ATTACH_TEST_H

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "lower_test.h"

/* Returns 0 or a positive errno. */
int ioctl_errno(int dev, unsigned long cmd, const void *arg);
/*
 * Likewise, with pointers from which @len bytes cannot be read.  Returns EFAULT,
 * unless one of them gives another result.
 */
int ioctl_unreadable(int dev, unsigned long cmd, const void *arg, size_t len);

/* FUSE_DEV_IOC_PASSTHROUGH_OPEN. Returns 0 or a positive errno. */
int attach_out(int dev, const struct fuse_passthrough_out *out);
int attach(int dev, uint64_t unique, int fd);

/* Answer an OPEN. The server has no file for its handle: plain I/O fails. */
int reply_open(struct fuse_server *s, uint64_t unique);
/* Answer a CREATE or TMPFILE in the same way. */
int reply_create(struct fuse_server *s, uint64_t unique, uint64_t nodeid,
		 mode_t mode);

/*
 * Open in the mount so that the server gets FUSE_OPEN of "f", FUSE_CREATE of
 * "new" or FUSE_TMPFILE.  Returns an fd or -1.
 */
int open_as(struct fuse_server *s, int opcode);

/* A second descriptor of the same connection, or -1. */
int clone_dev(int dev);

/* What to attach while a request waits for its answer, and the expected result */
struct trial {
	const char *what;
	int want;			/* 0 or an errno */
	int (*lower)(struct fuse_server *s);
	int flags;			/* of the client's open */
	/* @unique is added to that of the request; lower() opens fd */
	union {
		struct fuse_passthrough_out out;
		struct fuse_passthrough_inode in;
	};
};

struct attempt {
	const struct trial *t;
	int opcode;			/* of the request */
	int got;
	int dev;			/* to attach at; -1: the server's */
	int fd;
	int given;			/* descriptor that lower() may return */
	struct own_fs *fs;		/* file system that lower() may use */
	uint64_t last;			/* unique of the last request */
};

/*
 * Start a server for the attempts of @a, with the lower files "f" of pattern 1
 * and "other" of pattern 2.  Returns 0 or a negative errno.
 */
int serve_attempts(struct fuse_server *s, struct attempt *a, size_t len,
		   size_t other_len);
int attempt_dev(struct fuse_server *s);
/* A request() that makes the attempt by FUSE_DEV_IOC_PASSTHROUGH_OPEN */
bool try_attach(struct fuse_server *s, const struct fuse_in_header *in);
/* Did lower() fail to open the file of this trial? */
bool lower_missing(const struct trial *t, int fd);
/* Answer this request, and read the next one from the other device. */
void switch_dev(struct fuse_server *s, const struct fuse_in_header *in);

/*
 * Read @len bytes of pattern @seed through @fd: the server gets no READ if
 * @passthrough, and at least one otherwise.
 */
bool reads_pattern(struct fuse_server *s, int fd, size_t len, unsigned int seed,
		   bool passthrough);
/* Likewise for a write of @len bytes of pattern @seed to the lower file @name */
bool writes_pattern(struct fuse_server *s, int fd, const char *name, size_t len,
		    unsigned int seed, bool passthrough);

/* Send a descriptor and a text through a Unix socket. */
bool send_fd(int sock, int fd, const char *text);
/* Returns the received descriptor or -1. */
int receive_fd(int sock, char *text, size_t len);

/* Close the server's last device in the server thread, which then ends. */
void close_device(struct fuse_server *s);
void wait_for_close(void);
/* A request() that does this at STATFS */
bool die_at_statfs(struct fuse_server *s, const struct fuse_in_header *in);

#endif /* _SELFTESTS_FUSE_ATTACH_TEST_H */
