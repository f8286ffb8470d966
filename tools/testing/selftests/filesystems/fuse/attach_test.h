/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the tests of attaching lower files, in addition to io_test.h. */
#ifndef _SELFTESTS_FUSE_ATTACH_TEST_H
#define _SELFTESTS_FUSE_ATTACH_TEST_H

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "io_test.h"

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

/* Descriptors of files that cannot be lower files, or -1 */
int directory(struct fuse_server *s);
int pipe_end(struct fuse_server *s);
int unix_socket(struct fuse_server *s);
int char_device(struct fuse_server *s);
int memfd(struct fuse_server *s);

/*
 * Open a file of a new file system of type @type, in which the directory @sub
 * was made, if given.  Closing the file removes both.  Returns an fd or -1.
 */
int file_on(const char *type, const char *sub, const char *name, int flags);

/* Can the file be opened with O_DIRECT?  tmpfs: from Linux 6.6 on. */
bool can_direct(int fd);

/* A readable and writable configfs attribute of null_blk, or -1. */
int configfs_file(int flags);

#define SQUASHFS_LEN	64
#define SQUASHFS_SEED	4

/*
 * A file without a write operation, with SQUASHFS_LEN bytes of pattern
 * SQUASHFS_SEED, or -1
 */
int squashfs_file(int flags);

/*
 * Read @len bytes of pattern @seed through @fd: the server gets no READ if
 * @passthrough, and at least one otherwise.
 */
bool reads_pattern(struct fuse_server *s, int fd, size_t len, unsigned int seed,
		   bool passthrough);
/*
 * The same for a write of @len bytes of pattern @seed to the lower file @name
 */
bool writes_pattern(struct fuse_server *s, int fd, const char *name, size_t len,
		    unsigned int seed, bool passthrough);

/* Send a descriptor and a text through a Unix socket. */
bool send_fd(int sock, int fd, const char *text);
/* Returns the received descriptor or -1. */
int receive_fd(int sock, char *text, size_t len);

bool write_file(const char *path, const char *text);

/*
 * Mount the directory at @at, with @from's files as @to's.  Returns 0, or an errno
 * if this file system cannot.
 */
int idmapped(int dirfd, const char *at, uid_t from, uid_t to);

#endif /* _SELFTESTS_FUSE_ATTACH_TEST_H */
