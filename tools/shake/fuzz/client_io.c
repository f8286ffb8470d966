// SPDX-License-Identifier: GPL-2.0
/* Reads, writes, mappings and splices of a client, and comparisons of their data */
#include "client.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT	0x00000008
#endif
#ifndef RWF_APPEND
#define RWF_APPEND	0x00000010
#endif

/*
 * Open the lower file of an open file by the name in its fdinfo.  Returns -1 if
 * it has none, or if the name is not in the served directory.
 */
static int lower_of(int fd)
{
	static const char key[] = "passthrough-lower:\t";
	char path[64], info[1024], *at;
	int f;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = open(path, O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return -1;
	n = read(f, info, sizeof(info) - 1);
	close(f);
	if (n <= 0)
		return -1;
	info[n] = 0;
	at = strstr(info, key);
	if (!at)
		return -1;
	count(&sh->passed);
	at += sizeof(key) - 1;
	at[strcspn(at, "\n")] = 0;
	if (strncmp(at, served, strlen(served)))
		return -1;
	return open(at, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

/* Has no other operation begun?  @own counts this operation, if it changes data itself. */
static bool quiet(unsigned long *ended, unsigned long own)
{
	unsigned long begun = counted(&sh->begun);

	*ended = counted(&sh->ended);
	return begun == *ended + own;
}

/*
 * Compare data that was read or written with the lower file.  This is only
 * possible in a calm round: otherwise the lower file may be any file, and the
 * daemon may have changed it.
 */
static void compare(int fd, const char *buf, ssize_t n, off_t off, unsigned long own,
		    unsigned long before, bool was_quiet)
{
	static char seen[BUF];
	unsigned long after;
	int lower_fd;
	ssize_t m, i;

	if (n <= 0 || !was_quiet || !strict())
		return;
	lower_fd = lower_of(fd);
	if (lower_fd < 0)
		return;
	m = pread(lower_fd, seen, n, off);
	close(lower_fd);
	if (!quiet(&after, own) || after != before || !strict())
		return;
	count(&sh->compared);
	if (m < n) {
		bad(V_DATA, "%s of %zd bytes at %lld: the lower file has %zd",
		    own ? "write" : "read", n, (long long)off, m);
		return;
	}
	for (i = 0; i < n && buf[i] == seen[i]; i++)
		;
	if (i < n)
		bad(V_DATA, "%s of %zd bytes at %lld: byte %zd is %#x, and %#x below",
		    own ? "write" : "read", n, (long long)off, i, buf[i] & 0xff,
		    seen[i] & 0xff);
}

static long pread_op(struct client *c, int fd)
{
	char *buf = buffer(c);
	unsigned long ended;
	bool is_quiet = quiet(&ended, 0);
	ssize_t n = pread(fd, buf, c->len, c->off);
	int error = errno;

	compare(fd, buf, n, c->off, 0, ended, is_quiet);
	errno = error;
	return n;
}

static long pwrite_op(struct client *c, int fd)
{
	char *buf = buffer(c);
	unsigned long ended;
	bool is_quiet = quiet(&ended, 1);
	int flags = fcntl(fd, F_GETFL), error;
	ssize_t n;

	n = pwrite(fd, buf, c->len, c->off);
	error = errno;
	if (!(flags & O_APPEND))
		compare(fd, buf, n, c->off, 1, ended, is_quiet);
	errno = error;
	return n;
}

static long read_op(struct client *c, int fd)
{
	return read(fd, buffer(c), c->len);
}

static long write_op(struct client *c, int fd)
{
	return write(fd, buffer(c), c->len);
}

/* In a round that is not calm, one buffer may have a bad address. */
static unsigned int vector(struct client *c, struct iovec *iov)
{
	void *bad_address = !sh->cfg.calm && percent(10) ? (void *)8 : c->buf + 100000;

	iov[0] = (struct iovec){ c->buf, 100 };
	iov[1] = (struct iovec){ c->buf + 5000, c->len / 3 };
	iov[2] = (struct iovec){ bad_address, c->len / 3 };
	iov[3] = (struct iovec){ c->buf + PAGE, PAGE };
	return 1 + rnd(4);
}

static long readv_op(struct client *c, int fd)
{
	static const int flags[] = { 0, RWF_NOWAIT, RWF_HIPRI };
	struct iovec iov[4];
	unsigned int n = vector(c, iov);

	return preadv2(fd, iov, n, percent(10) ? -1 : c->off, flags[rnd(3)]);
}

static long writev_op(struct client *c, int fd)
{
	static const int flags[] = { 0, RWF_NOWAIT, RWF_HIPRI, RWF_APPEND, RWF_DSYNC, RWF_SYNC,
		RWF_NOWAIT | RWF_APPEND };
	struct iovec iov[4];
	unsigned int n = vector(c, iov);

	return pwritev2(fd, iov, n, percent(10) ? -1 : c->off, flags[rnd(7)]);
}

static long mmap_op(struct client *c, int fd)
{
	int prot = percent(70) ? PROT_READ | PROT_WRITE : PROT_READ;
	void *map;

	if (c->map)
		munmap(c->map, c->map_len);
	if (percent(10))
		prot |= PROT_EXEC;
	c->map = NULL;
	c->map_len = PAGE * (1 + rnd(16));
	map = mmap(NULL, c->map_len, prot, percent(70) ? MAP_SHARED : MAP_PRIVATE, fd,
		   PAGE * rnd(8));
	if (map == MAP_FAILED)
		return -1;
	c->map = map;
	return 0;
}

static long load_op(struct client *c, int fd)
{
	return c->map ? (unsigned char)((volatile char *)c->map)[rnd(c->map_len)] : 0;
}

static long store_op(struct client *c, int fd)
{
	if (c->map)
		((volatile char *)c->map)[rnd(c->map_len)] = 'm';
	return 0;
}

static long mapping_op(struct client *c, int fd)
{
	void *map;

	if (!c->map)
		return 0;
	switch (rnd(6)) {
	case 0:
		return msync(c->map, c->map_len, MS_SYNC);
	case 1:
		msync(c->map, c->map_len, MS_ASYNC | MS_INVALIDATE);
		return 0;
	case 2:
		mprotect(c->map, c->map_len, PROT_READ | (percent(70) ? PROT_WRITE : PROT_EXEC));
		return 0;
	case 3:
		return madvise(c->map, c->map_len, percent(50) ? MADV_DONTNEED : MADV_WILLNEED);
	case 4:
		map = mremap(c->map, c->map_len, c->map_len + PAGE, MREMAP_MAYMOVE);
		if (map == MAP_FAILED)
			return -1;
		c->map = map;
		c->map_len += PAGE;
		return 0;
	default:
		munmap(c->map, c->map_len);
		c->map = NULL;
		return 0;
	}
}

static void drain(struct client *c)
{
	char *scratch = c->buf + BUF / 2;

	while (read(c->pipe[0], scratch, BUF / 2) > 0)
		;
}

static long splice_read_op(struct client *c, int fd)
{
	loff_t off = c->off;
	long n = splice(fd, percent(50) ? &off : NULL, c->pipe[1], NULL, c->len,
			SPLICE_F_NONBLOCK);
	int error = errno;

	drain(c);
	errno = error;
	return n;
}

static long splice_write_op(struct client *c, int fd)
{
	struct iovec iov = { c->buf, c->len };
	loff_t off = c->off;
	long n;
	int error;

	if (percent(50))
		n = write(c->pipe[1], c->buf, c->len);
	else
		n = vmsplice(c->pipe[1], &iov, 1, SPLICE_F_NONBLOCK |
			     (percent(30) ? SPLICE_F_GIFT : 0));
	if (n > 0)
		n = splice(c->pipe[0], NULL, fd, percent(50) ? &off : NULL, n,
			   SPLICE_F_NONBLOCK);
	error = errno;
	drain(c);
	errno = error;
	return n;
}

static long sendfile_op(struct client *c, int fd)
{
	off_t off = c->off;

	return sendfile(other_fd(c, fd), fd, percent(70) ? &off : NULL, c->len);
}

static long copy_op(struct client *c, int fd)
{
	loff_t from = c->off, to = PAGE * rnd(MAX_FILE / PAGE);

	return copy_file_range(fd, &from, other_fd(c, fd), &to, c->len, 0);
}

static long fsync_op(struct client *c, int fd)
{
	switch (rnd(4)) {
	case 0:
		return fdatasync(fd);
	case 1:
		return sync_file_range(fd, 0, 0, 7);
	case 2:
		return percent(20) ? syncfs(fd) : 0;
	default:
		return fsync(fd);
	}
}

static long fallocate_op(struct client *c, int fd)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_COLLAPSE_RANGE };

	return fallocate(fd, modes[rnd(5)], c->off & ~(PAGE - 1l), PAGE * (1 + rnd(4)));
}

static long truncate_op(struct client *c, int fd)
{
	off_t size = percent(50) ? rnd(70000) : 0;

	return percent(50) ? ftruncate(fd, size) : truncate(c->path, size);
}

static long advise_op(struct client *c, int fd)
{
	if (percent(30))
		return readahead(fd, c->off, c->len);
	errno = posix_fadvise(fd, c->off, c->len, rnd(6));
	return errno ? -1 : 0;
}

static long seek_op(struct client *c, int fd)
{
	return lseek(fd, percent(50) ? 0 : rnd(1000), percent(50) ? SEEK_END : rnd(5));
}

/* O_DIRECT opens have no mapping here: see fuse_file_mmap() */
static const int mmap_errnos[] = { ENODEV, 0 };
/* The mapping may have changed before madvise(). */
static const int mapping_errnos[] = { ENOMEM, EFAULT, EBUSY, EIO, 0 };
static const int seek_errnos[] = { ENXIO, 0 };

const struct op io_ops[] = {
	{ "pread", pread_op, 14, false },
	{ "pwrite", pwrite_op, 14, true },
	{ "read", read_op, 3, false },
	{ "write", write_op, 4, true },
	{ "readv", readv_op, 3, false },
	{ "writev", writev_op, 4, true },
	{ "mmap", mmap_op, 6, false, mmap_errnos },
	{ "load", load_op, 5, false },
	{ "store", store_op, 6, true },
	{ "mapping", mapping_op, 3, true, mapping_errnos },
	{ "splice from", splice_read_op, 4, false },
	{ "splice to", splice_write_op, 4, true, NULL, true },
	{ "sendfile", sendfile_op, 3, true, NULL, true },
	{ "copy_file_range", copy_op, 4, true, NULL, true },
	{ "fsync", fsync_op, 3, true },
	{ "fallocate", fallocate_op, 3, true },
	{ "truncate", truncate_op, 3, true },
	{ "advise", advise_op, 2, true },
	{ "lseek", seek_op, 2, false, seek_errnos },
	{}
};
