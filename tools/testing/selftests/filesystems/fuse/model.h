/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the model test */
#ifndef _SELFTESTS_FUSE_MODEL_H
#define _SELFTESTS_FUSE_MODEL_H

#include <setjmp.h>

#include "async_test.h"
#include "io_test.h"

#define MODEL_MAX	(160 * KIB)	/* maximum file size */
#define MODEL_SPARE	(2 * PAGE)	/* spare bytes of buffers */
#define MODEL_HANDLES	6
#define MODEL_MAPPINGS	3
#define MODEL_LOG	4096
#define MODEL_FDS	256
#define MODEL_AIO	3

#ifndef RWF_NOWAIT
#define RWF_NOWAIT	0x00000008
#endif
#ifndef RWF_APPEND
#define RWF_APPEND	0x00000010
#endif

enum kind {
	BY_REQUEST,
	BY_ID,
	BY_ID_DIRECT,	/* beside FOPEN_DIRECT_IO: only mappings pass through */
	CACHED,
	KEEP_CACHE,
	DIRECT,
	BY_INODE,
	NR_KINDS
};

struct kind_info {
	const char *name;
	enum fuse_server_open how;
	uint32_t flags;
	bool passes;		/* reads and writes go to the lower file */
	bool maps_lower;
	bool cached;
};

extern const struct kind_info kinds[NR_KINDS];

#define BIT(n)		(1u << (n))

/* Counters of the server, shared with the client process */
struct shared {
	struct fuse_server s;
	bool passes[MODEL_FDS];		/* by fh */
	unsigned long stray;		/* requests that passthrough fh must not send */
};

struct handle {
	int fd;
	enum kind kind;
	int flags;
};

struct mapping {
	char *p;
	enum kind kind;
	bool writable;
};

struct op {
	const char *name;
	enum kind kind;
	int handle, flags;	/* index and flags of the handle, or -1 */
	int how;		/* RWF_*, FALLOC_FL_* and the like */
	off_t off, from;
	size_t len;
	long ret;
};

struct client {
	struct shared *shared;
	unsigned int kinds;
	uint64_t seed, random;
	unsigned long nr;
	struct op *log, *op;
	struct handle h[MODEL_HANDLES];
	struct mapping m[MODEL_MAPPINGS];
	char *image;		/* zeros beyond the size */
	char *buf;
	off_t size;
	off_t last;		/* position of a recent write */
	bool dirty;		/* FUSE's cache may have dirty pages */
	bool mapped;		/* there was a writable mapping of the lower file */
	uint64_t attached;	/* to the inode, FUSE_PASSTHROUGH_OP(); 0: nothing */
	off_t stale_from, stale_to;
	uint64_t nodeid;
	int lower, mem, pipe[2];
	bool odirect;		/* the lower file system has O_DIRECT */
	bool xfs;		/* the lower file system is XFS */
	aio_context_t aio;
};

/* model_state.c */

extern sigjmp_buf no_page;

/*
 * Each operation depends only on the seed and its number, not on earlier ones.
 */
void random_begin(struct client *c);
unsigned int rnd(struct client *c, unsigned int n);
bool one_in(struct client *c, unsigned int n);

/* Print the last operations and those on the same range, and exit. */
void __attribute__((noreturn, format(printf, 3, 4)))
fail(const struct client *c, off_t at, const char *fmt, ...);

bool can(const struct handle *h, int mode);
/* A handle that permits @mode: O_RDONLY, O_WRONLY, O_RDWR, or -1 for any. */
struct handle *choose(struct client *c, int mode);
void choose_off(struct client *c);
/* @direct: aligned for O_DIRECT on any file system */
void choose_range(struct client *c, bool direct);
/* A range within the file, for mappings. Returns false if the file is empty. */
bool choose_inside(struct client *c);
/* The position of an append. Returns false if no append is possible. */
bool choose_end(struct client *c, const struct handle *h);
/* Only O_DIRECT needs alignment in memory. */
char *buffer(struct client *c, const struct handle *h);

void stale(struct client *c, off_t off, size_t len);
void drop_stale(struct client *c);
void write_back(struct client *c);
/* Prepare for a read or write through @h. */
void before(struct client *c, const struct handle *h);

void wrote(struct client *c, const char *buf, off_t off, size_t len);
void resized(struct client *c, off_t size);
size_t expected(const struct client *c, off_t off, size_t len);
void compare(struct client *c, const char *what, const char *buf, off_t off,
	     size_t len);
void was_read(struct client *c, const char *buf, ssize_t n);
void was_written(struct client *c, const struct handle *h, const char *buf,
		 ssize_t n);
/* The file position moves by the bytes that were read or written. */
void moved(struct client *c, off_t at, off_t from, ssize_t n);
/* An operation that must fail and change nothing */
void was_refused(struct client *c, long n, int error);
/* Never 0; differs between operations and places. */
void fill(struct client *c, char *buf, size_t len);

/* model_ops.c */

void begin(struct client *c, const char *name);
void open_handle(struct client *c, unsigned int i);
/* Make one of the operations that are possible now. */
void operate(struct client *c);

#endif /* _SELFTESTS_FUSE_MODEL_H */
