// SPDX-License-Identifier: GPL-2.0
/* Open files of the daemon, and requests on data */
#include "server.h"

#include <dirent.h>

/* Requests on an open by inode, and on an open without OPEN, have fh 0. */
static int handle_fd(const struct request *rq, uint64_t fh, int flags, bool *close_it)
{
	struct path p;
	int fd = -1;

	*close_it = false;
	pthread_mutex_lock(&d.lock);
	if (fh - 1 < HANDLES)
		fd = d.handles[fh - 1].fd;
	pthread_mutex_unlock(&d.lock);
	/* The handle may be that of another open of the file, as in writeback. */
	if (fd >= 0 && ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR ||
			(fcntl(fd, F_GETFL) & O_ACCMODE) == flags))
		return fd;
	*close_it = true;
	return open(node_path(rq->h.nodeid, &p), flags | O_CLOEXEC);
}

static bool passes(uint64_t fh)
{
	bool passes;

	pthread_mutex_lock(&d.lock);
	passes = fh - 1 < HANDLES && d.handles[fh - 1].fd >= 0 &&
		d.handles[fh - 1].passes;
	pthread_mutex_unlock(&d.lock);
	return passes;
}

static uint64_t handle_keep(const struct handle *h)
{
	uint64_t i;

	pthread_mutex_lock(&d.lock);
	for (i = 0; i < HANDLES && d.handles[i].fd >= 0; i++)
		;
	if (i < HANDLES)
		d.handles[i] = *h;
	pthread_mutex_unlock(&d.lock);
	return i < HANDLES ? i + 1 : 0;
}

static void handle_drop(uint64_t fh)
{
	struct handle h = { .fd = -1 };

	if (fh - 1 >= HANDLES)
		return;
	pthread_mutex_lock(&d.lock);
	h = d.handles[fh - 1];
	d.handles[fh - 1].fd = -1;
	pthread_mutex_unlock(&d.lock);
	if (h.fd >= 0)
		close(h.fd);
	if (h.id > 0)
		close_id(h.id);
}

/* Flags for the open of the lower file.  Each call has its own append and direct flags. */
static int lower_flags(unsigned int flags)
{
	int lower = flags & (O_ACCMODE | O_TRUNC);

	/* Writeback reads the parts of a page that the client did not write. */
	if ((sh->cfg.init_flags & FUSE_WRITEBACK_CACHE) && (lower & O_ACCMODE) == O_WRONLY)
		lower = (lower & ~O_ACCMODE) | O_RDWR;
	return lower | O_CLOEXEC;
}

/* Set up the open of @fd for the answer to @rq.  Takes over @fd. */
static void begin_open(const struct request *rq, int fd, unsigned int flags,
		       struct fuse_open_out *out)
{
	struct handle h = { .fd = fd };

	memset(out, 0, sizeof(*out));
	if (percent(10))
		out->open_flags |= FOPEN_KEEP_CACHE;
	if (percent(6))
		out->open_flags |= FOPEN_NOFLUSH;
	if (percent(5))
		out->open_flags |= FOPEN_DIRECT_IO;
	if (!sh->cfg.calm && percent(2))
		out->open_flags |= 1u << rnd(32);
	attach_open(rq, fd, flags, &h, out);
	out->fh = handle_keep(&h);
	if (!out->fh) {
		close(fd);
		if (h.id > 0)
			close_id(h.id);
	}
}

static void open_(const struct request *rq, char *buf)
{
	const struct fuse_open_in *in = (const void *)rq->body;
	struct fuse_open_out out;
	struct path p;
	int fd;

	if (sh->cfg.no_open) {
		reply(rq, -ENOSYS, NULL, 0);
		return;
	}
	attach_inode(rq, rq->h.nodeid);
	fd = open(node_path(rq->h.nodeid, &p), lower_flags(in->flags));
	if (fd < 0) {
		reply(rq, -errno, NULL, 0);
		return;
	}
	begin_open(rq, fd, in->flags, &out);
	if (!sh->cfg.calm && percent(3))
		server_sleep(rnd(30));
	if (!reply(rq, 0, &out, sizeof(out)))
		handle_drop(out.fh);
}

/* Answer a CREATE or TMPFILE whose new file is @fd. */
static void made(const struct request *rq, int fd, unsigned int flags, const char *name)
{
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {};
	int err;

	if (fd < 0) {
		reply(rq, -errno, NULL, 0);
		return;
	}
	err = node_entry(rq->h.nodeid, name, &out.e);
	if (err) {
		close(fd);
		reply(rq, err, NULL, 0);
		return;
	}
	/*
	 * If this attaches OPEN, the client's open is by inode, and no RELEASE
	 * comes: the handle stays.  The inode may have been attached before.
	 */
	attach_inode(rq, out.e.nodeid);
	begin_open(rq, fd, flags, &out.o);
	if (!reply(rq, 0, &out, sizeof(out))) {
		node_unentry(&out.e);
		handle_drop(out.o.fh);
	}
}

static void create(const struct request *rq, char *buf)
{
	const struct fuse_create_in *in = (const void *)rq->body;
	const char *name = (const char *)(in + 1);
	int flags = lower_flags(in->flags) | O_CREAT | (in->flags & O_EXCL);

	made(rq, openat(node_fd(rq->h.nodeid), name, flags | O_NOFOLLOW, in->mode & 07777),
	     in->flags, name);
}

/* The lookup finds the file by a temporary link to its descriptor. */
static void tmpfile_(const struct request *rq, char *buf)
{
	const struct fuse_create_in *in = (const void *)rq->body;
	struct fuse_entry_out e = {};
	struct fuse_open_out o;
	struct { struct fuse_entry_out e; struct fuse_open_out o; } out;
	static unsigned int nr;
	char name[32];
	struct path p;
	int fd, err;

	fd = open(node_path(rq->h.nodeid, &p), (lower_flags(in->flags) & ~O_TRUNC) | O_TMPFILE,
		  in->mode & 07777);
	if (fd < 0) {
		reply(rq, -errno, NULL, 0);
		return;
	}
	/* The name exists only during the lookup. */
	snprintf(name, sizeof(name), "t%u", __atomic_add_fetch(&nr, 1, __ATOMIC_SEQ_CST));
	snprintf(p.s, sizeof(p.s), "/proc/self/fd/%d", fd);
	err = linkat(AT_FDCWD, p.s, node_fd(rq->h.nodeid), name, AT_SYMLINK_FOLLOW) ? -errno : 0;
	err = err ?: node_entry(rq->h.nodeid, name, &e);
	unlinkat(node_fd(rq->h.nodeid), name, 0);
	if (err) {
		close(fd);
		reply(rq, err, NULL, 0);
		return;
	}
	attach_inode(rq, e.nodeid);
	begin_open(rq, fd, in->flags, &o);
	out.e = e;
	out.o = o;
	if (!reply(rq, 0, &out, sizeof(out))) {
		node_unentry(&e);
		handle_drop(o.fh);
	}
}

static void release(const struct request *rq, char *buf)
{
	handle_drop(((const struct fuse_release_in *)rq->body)->fh);
	reply(rq, 0, NULL, 0);
}

static void read_(const struct request *rq, char *buf)
{
	const struct fuse_read_in *in = (const void *)rq->body;
	bool close_it;
	ssize_t n;
	int fd;

	if (strict() && passes(in->fh))
		bad(V_REQUEST, "READ of a passthrough file, nodeid %llu",
		    (unsigned long long)rq->h.nodeid);
	fd = handle_fd(rq, in->fh, O_RDONLY, &close_it);
	n = fd < 0 ? -1 : pread(fd, buf, in->size < BUF ? in->size : BUF, in->offset);
	if (close_it && fd >= 0)
		close(fd);
	reply(rq, n < 0 ? -errno : 0, buf, n < 0 ? 0 : n);
}

static void write_(const struct request *rq, char *buf)
{
	const struct fuse_write_in *in = (const void *)rq->body;
	struct fuse_write_out out = {};
	bool close_it;
	ssize_t n;
	int fd;

	if (strict() && passes(in->fh) && !(in->write_flags & FUSE_WRITE_CACHE))
		bad(V_REQUEST, "WRITE of a passthrough file, nodeid %llu",
		    (unsigned long long)rq->h.nodeid);
	fd = handle_fd(rq, in->fh, O_WRONLY, &close_it);
	n = fd < 0 ? -1 : pwrite(fd, in + 1, in->size, in->offset);
	if (close_it && fd >= 0)
		close(fd);
	out.size = n;
	reply(rq, n < 0 ? -errno : 0, &out, sizeof(out));
}

static void fsync_(const struct request *rq, char *buf)
{
	const struct fuse_fsync_in *in = (const void *)rq->body;
	bool close_it;
	int fd, ret;

	if (percent(1)) {
		reply(rq, -ENOSYS, NULL, 0);
		return;
	}
	fd = handle_fd(rq, in->fh, O_RDONLY, &close_it);
	ret = fd < 0 ? -1 : fsync(fd);
	if (close_it && fd >= 0)
		close(fd);
	reply_call(rq, ret);
}

static void fallocate_(const struct request *rq, char *buf)
{
	const struct fuse_fallocate_in *in = (const void *)rq->body;
	bool close_it;
	int fd, ret = -1;

	fd = handle_fd(rq, in->fh, O_WRONLY, &close_it);
	errno = fd < 0 ? errno : EFBIG;
	if (fd >= 0 && in->offset + in->length <= 4 * MAX_FILE)
		ret = fallocate(fd, in->mode, in->offset, in->length);
	if (close_it && fd >= 0)
		close(fd);
	reply_call(rq, ret);
}

static void lseek_(const struct request *rq, char *buf)
{
	const struct fuse_lseek_in *in = (const void *)rq->body;
	struct fuse_lseek_out out;
	struct path p;
	int fd = open(node_path(rq->h.nodeid, &p), O_RDONLY | O_CLOEXEC);
	off_t at = fd < 0 ? -1 : lseek(fd, in->offset, in->whence);

	out.offset = at;
	reply(rq, at < 0 ? -errno : 0, &out, sizeof(out));
	if (fd >= 0)
		close(fd);
}

static void copy(const struct request *rq, char *buf)
{
	const struct fuse_copy_file_range_in *in = (const void *)rq->body;
	struct fuse_write_out out = {};
	off_t from = in->off_in, to = in->off_out;
	struct request to_rq = { .h.nodeid = in->nodeid_out };
	bool close_in, close_out;
	int fd_in = handle_fd(rq, in->fh_in, O_RDONLY, &close_in);
	int fd_out = handle_fd(&to_rq, in->fh_out, O_WRONLY, &close_out);
	ssize_t n = -1;

	if (fd_in >= 0 && fd_out >= 0)
		n = copy_file_range(fd_in, &from, fd_out, &to,
				    in->len < MAX_FILE ? in->len : MAX_FILE, 0);
	out.size = n;
	reply(rq, n < 0 ? -errno : 0, &out, sizeof(out));
	if (close_in && fd_in >= 0)
		close(fd_in);
	if (close_out && fd_out >= 0)
		close(fd_out);
}

static void opendir_(const struct request *rq, char *buf)
{
	struct fuse_open_out out = {};

	attach_inode(rq, rq->h.nodeid);
	if (sh->cfg.no_opendir)
		reply(rq, -ENOSYS, NULL, 0);
	else
		reply(rq, 0, &out, sizeof(out));
}

static void readdir_(const struct request *rq, char *buf)
{
	const struct fuse_read_in *in = (const void *)rq->body;
	struct path p;
	DIR *dir = opendir(node_path(rq->h.nodeid, &p));
	size_t size = in->size < BUF ? in->size : BUF, used = 0;
	struct dirent *e;

	if (!dir) {
		reply(rq, -errno, NULL, 0);
		return;
	}
	seekdir(dir, in->offset);
	while ((e = readdir(dir))) {
		struct fuse_dirent *out = (void *)(buf + used);
		size_t len = strlen(e->d_name);
		size_t need = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + len);

		if (used + need > size)
			break;
		memset(out, 0, need);
		out->ino = e->d_ino;
		out->off = telldir(dir);
		out->type = e->d_type;
		out->namelen = len;
		memcpy(out->name, e->d_name, len);
		used += need;
	}
	closedir(dir);
	reply(rq, 0, buf, used);
}

static void nothing(const struct request *rq, char *buf)
{
	reply(rq, 0, NULL, 0);
}

static void poll_(const struct request *rq, char *buf)
{
	struct fuse_poll_out out = { .revents = 5 };

	reply(rq, 0, &out, sizeof(out));
}

const answer_fn file_answers[64] = {
	[FUSE_OPEN] = open_,
	[FUSE_CREATE] = create,
	[FUSE_TMPFILE] = tmpfile_,
	[FUSE_READ] = read_,
	[FUSE_WRITE] = write_,
	[FUSE_RELEASE] = release,
	[FUSE_FLUSH] = nothing,
	[FUSE_FSYNC] = fsync_,
	[FUSE_FSYNCDIR] = nothing,
	[FUSE_FALLOCATE] = fallocate_,
	[FUSE_LSEEK] = lseek_,
	[FUSE_COPY_FILE_RANGE] = copy,
	[FUSE_OPENDIR] = opendir_,
	[FUSE_READDIR] = readdir_,
	[FUSE_RELEASEDIR] = nothing,
	[FUSE_POLL] = poll_,
};
