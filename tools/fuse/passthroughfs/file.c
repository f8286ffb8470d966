// SPDX-License-Identifier: GPL-2.0
/* Open files, and the requests on them. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Flags for the lower file.  The kernel, or each request, applies O_DIRECT and
 * O_APPEND; O_TRUNC arrives as a SETATTR.
 */
int lower_flags(int flags)
{
	flags &= ~(O_NOFOLLOW | O_DIRECT | O_APPEND | O_TRUNC | O_CREAT | O_EXCL);
	/* A partial write to a cached page reads the page first. */
	if (config.writeback && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags;
}

/* The open of an append-only file fails with EPERM without O_APPEND. */
static int reopen(int fd, int flags)
{
	struct fd_name name;
	int lower = lower_flags(flags);
	int new;

	new = open_at(proc_fd, fd_name(fd, &name), lower);
	if (new == -1 && errno == EACCES && (lower & O_ACCMODE) != (flags & O_ACCMODE)) {
		lower = (lower & ~O_ACCMODE) | (flags & O_ACCMODE);
		new = open_at(proc_fd, name.s, lower);
	}
	if (new == -1 && errno == EPERM && (flags & O_APPEND))
		new = open_at(proc_fd, name.s, lower | O_APPEND);
	return new;
}

int open_inode(struct inode *inode, int flags)
{
	int path = fd_get(inode);
	int fd = -1;

	if (path != -1) {
		fd = reopen(path, flags);
		fd_put(inode);
	}
	return fd;
}

/*
 * The descriptor of a client's open file; put by file_put().  If the client's
 * kernel has opened an attached inode itself there is no handle: open the
 * inode.  That kernel has checked permissions.
 */
int file_get(fuse_ino_t ino, const struct fuse_file_info *fi, int flags)
{
	return fi->fh ? handle_of(fi)->fd : open_inode(inode_of(ino), flags);
}

void file_put(const struct fuse_file_info *fi, int fd)
{
	if (!fi->fh && fd != -1)
		close(fd);
}

struct handle *handle_new(void)
{
	struct handle *h;

	if (!open_begin())
		return NULL;
	h = calloc(1, sizeof(*h));
	if (h)
		h->fd = -1;
	else
		open_end();
	return h;
}

void handle_set_inode(struct handle *h, struct inode *inode)
{
	h->inode = inode;
	inode_ref(inode);
}

/* Preserves errno. */
void handle_free(struct handle *h)
{
	int error = errno;

	if (h->fd != -1)
		close(h->fd);
	if (h->inode)
		inode_unref(h->inode);
	free(h);
	open_end();
	errno = error;
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	     struct fuse_file_info *fi)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
	int fd;

	count(OP_READ);
	fd = file_get(ino, fi, O_RDONLY);
	if (fd == -1)
		return reply_error(req, errno);
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, 0);
	file_put(fi, fd);
}

/* The lower file system finds the end of the file: it may have moved. */
static ssize_t append(int fd, struct fuse_bufvec *in)
{
	size_t size = fuse_buf_size(in);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(size);
	struct iovec iov;
	ssize_t n;

	iov.iov_base = out.buf[0].mem = malloc(size ? size : 1);
	if (!iov.iov_base)
		return -ENOMEM;
	n = fuse_buf_copy(&out, in, 0);
	if (n >= 0) {
		iov.iov_len = n;
		n = pwritev2(fd, &iov, 1, -1, RWF_APPEND);
		if (n == -1)
			n = -errno;
	}
	free(iov.iov_base);
	return n;
}

void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
		  off_t off, struct fuse_file_info *fi)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	ssize_t n;
	int fd;

	count(OP_WRITE);
	fd = file_get(ino, fi, O_WRONLY);
	if (fd == -1)
		return reply_error(req, errno);
	if ((fi->flags & O_APPEND) && !config.writeback) {
		n = append(fd, in);
	} else {
		out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		out.buf[0].fd = fd;
		out.buf[0].pos = off;
		n = fuse_buf_copy(&out, in, 0);
	}
	file_put(fi, fd);
	if (n < 0)
		reply_error(req, -n);
	else
		fuse_reply_write(req, n);
}

/* close() of a duplicate calls the lower file's ->flush, and reports errors. */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int fd;

	(void)ino;
	count(OP_FLUSH);
	if (!fi->fh)
		return reply_error(req, 0);
	do {
		fd = fcntl(handle_of(fi)->fd, F_DUPFD_CLOEXEC, 0);
	} while (fd == -1 && make_room(errno));
	reply_error(req, fd != -1 && close(fd) == -1 ? errno : 0);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	(void)ino;
	count(OP_RELEASE);
	if (h) {
		detach(req, h);
		handle_free(h);
	}
	reply_error(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	      struct fuse_file_info *fi)
{
	int fd, res = -1;

	count(OP_FSYNC);
	fd = file_get(ino, fi, O_RDONLY);
	if (fd != -1)
		res = datasync ? fdatasync(fd) : fsync(fd);
	reply_error(req, res ? errno : 0);
	file_put(fi, fd);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
		  off_t len, struct fuse_file_info *fi)
{
	int fd, res = -1;

	count(OP_FALLOCATE);
	fd = file_get(ino, fi, O_WRONLY);
	if (fd != -1)
		res = fallocate(fd, mode, off, len);
	reply_error(req, res ? errno : 0);
	file_put(fi, fd);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	      struct fuse_file_info *fi)
{
	off_t to = -1;
	int fd;

	count(OP_LSEEK);
	fd = file_get(ino, fi, O_RDONLY);
	if (fd != -1)
		to = lseek(fd, off, whence);
	if (to == -1)
		reply_error(req, errno);
	else
		fuse_reply_lseek(req, to);
	file_put(fi, fd);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			off_t off_out, struct fuse_file_info *fi_out,
			size_t len, int flags)
{
	int in, out = -1;
	ssize_t n = -1;

	count(OP_COPY_FILE_RANGE);
	in = file_get(ino_in, fi_in, O_RDONLY);
	if (in != -1)
		out = file_get(ino_out, fi_out, O_WRONLY);
	if (out != -1)
		n = copy_file_range(in, &off_in, out, &off_out, len, flags);
	if (n == -1)
		reply_error(req, errno);
	else
		fuse_reply_write(req, n);
	file_put(fi_in, in);
	file_put(fi_out, out);
}

void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
	     struct fuse_pollhandle *ph)
{
	(void)ino;
	(void)fi;
	count(OP_POLL);
	if (ph)
		fuse_pollhandle_destroy(ph);
	/* ENOSYS is final: to the client's kernel the file is always ready. */
	reply_error(req, ENOSYS);
}
