/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the server, each of which answers some requests */
#ifndef _SELFTESTS_FUSE_SERVER_I_H
#define _SELFTESTS_FUSE_SERVER_I_H

#include <limits.h>

#include "fuse_server.h"

struct request {
	struct fuse_in_header h;
	char body[];
};

typedef void (*answer_fn)(struct fuse_server *s, const struct request *rq,
			  char *buf);

void server_reply(struct fuse_server *s, const struct request *rq, int error,
		  const void *out, size_t len);
/* Reply to a request that a call executed; the call returned @ret and set errno. */
void server_reply_call(struct fuse_server *s, const struct request *rq, int ret);
void server_reply_attr(struct fuse_server *s, const struct request *rq);

/* Path of the request's node in the lower directory */
const char *server_name(struct fuse_server *s, const struct request *rq);
/* Likewise the path of @name in the request's directory */
struct server_path { char s[PATH_MAX]; };
const char *server_child(struct fuse_server *s, const struct request *rq,
			 const char *name, struct server_path *path);

/* Fill in an entry.  Returns 0 or a negative errno. */
int server_entry(struct fuse_server *s, const struct request *rq,
		 const char *name, struct fuse_entry_out *e);
/* Attach what the node says to its inode, which the answer to @rq is about. */
void server_attach(struct fuse_server *s, const struct request *rq,
		   uint64_t nodeid);

/* server_attr.c */
void server_getattr(struct fuse_server *s, const struct request *rq, char *buf);
void server_setattr(struct fuse_server *s, const struct request *rq, char *buf);
void server_getxattr(struct fuse_server *s, const struct request *rq, char *buf);
void server_setxattr(struct fuse_server *s, const struct request *rq, char *buf);
void server_removexattr(struct fuse_server *s, const struct request *rq, char *buf);
void server_statfs(struct fuse_server *s, const struct request *rq, char *buf);

/* server_file.c */
void server_open(struct fuse_server *s, const struct request *rq, char *buf);
void server_create(struct fuse_server *s, const struct request *rq, char *buf);
void server_tmpfile(struct fuse_server *s, const struct request *rq, char *buf);
void server_read(struct fuse_server *s, const struct request *rq, char *buf);
void server_write(struct fuse_server *s, const struct request *rq, char *buf);
void server_lseek(struct fuse_server *s, const struct request *rq, char *buf);
void server_fallocate(struct fuse_server *s, const struct request *rq, char *buf);
void server_copy(struct fuse_server *s, const struct request *rq, char *buf);
void server_fsync(struct fuse_server *s, const struct request *rq, char *buf);
void server_release(struct fuse_server *s, const struct request *rq, char *buf);
void server_opendir(struct fuse_server *s, const struct request *rq, char *buf);
void server_readdir(struct fuse_server *s, const struct request *rq, char *buf);

/* server_name.c */
void server_lookup(struct fuse_server *s, const struct request *rq, char *buf);
void server_mknod(struct fuse_server *s, const struct request *rq, char *buf);
void server_mkdir(struct fuse_server *s, const struct request *rq, char *buf);
void server_symlink(struct fuse_server *s, const struct request *rq, char *buf);
void server_link(struct fuse_server *s, const struct request *rq, char *buf);
void server_readlink(struct fuse_server *s, const struct request *rq, char *buf);
void server_unlink(struct fuse_server *s, const struct request *rq, char *buf);
void server_rename(struct fuse_server *s, const struct request *rq, char *buf);

#endif /* _SELFTESTS_FUSE_SERVER_I_H */
