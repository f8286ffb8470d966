/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Lower files of all kinds, most of which are refused, and lower file systems
 * that only a test uses, in addition to io_test.h.
 */
#ifndef _SELFTESTS_FUSE_LOWER_TEST_H
#define _SELFTESTS_FUSE_LOWER_TEST_H

#include "io_test.h"

/* Descriptors of the lower file "other" */
int other(struct fuse_server *s);
int other_rdonly(struct fuse_server *s);
int other_wronly(struct fuse_server *s);
int other_path(struct fuse_server *s);

/* Numbers that are no open descriptor */
int closed(struct fuse_server *s);
int minus_one(struct fuse_server *s);
int minus_two(struct fuse_server *s);

/* Descriptors of files that cannot be lower files of an open, or -1 */
int directory(struct fuse_server *s);
int pipe_end(struct fuse_server *s);
int unix_socket(struct fuse_server *s);
int char_device(struct fuse_server *s);
int event_fd(struct fuse_server *s);
int fifo_path(struct fuse_server *s);
int memfd(struct fuse_server *s);
int huge_memfd(struct fuse_server *s);
int huge_file(struct fuse_server *s);
int sysctl_file(struct fuse_server *s);

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

/* A lower file system that can be unmounted unless something pins it */
struct own_fs {
	char dir[64];
	char path[96];	/* of a file with OWN_FS_LEN bytes of pattern OWN_FS_SEED */
};

#define OWN_FS_LEN	10000
#define OWN_FS_SEED	3

bool own_fs_mount(struct own_fs *fs);
/* Unmount it, and mount a new one there.  Returns false if it is busy. */
bool own_fs_free(struct own_fs *fs);
bool own_fs_busy(struct own_fs *fs);
void own_fs_end(struct own_fs *fs);

/*
 * Mount the directory at @at; files of user and group @from belong to @to
 * there.  Returns 0, or an errno if the file system has no idmapped mounts.
 */
int idmapped(int dirfd, const char *at, uid_t from, uid_t to);

#endif /* _SELFTESTS_FUSE_LOWER_TEST_H */
