/* SPDX-License-Identifier: GPL-2.0 */
/*
 * passthroughfs: a file system that mirrors a directory, with FUSE passthrough.
 *
 * Every file keeps these rules:
 *
 * - Device, inode number and birth time in the lower file system identify an
 *   inode.  Its parent and last known name serve to open it again.  It keeps an
 *   O_PATH descriptor only while a request uses it, or in a cache of bounded
 *   size, or while it has no name.
 * - A file that is opened again by name is compared with the inode.  If they
 *   differ the result is ESTALE, and the client's kernel looks the name up
 *   again.
 * - A name is changed or removed, with its entry in the inode table, under
 *   table.names held for writing.  Resolving a name holds it for reading.
 * - The client's kernel has checked permissions (default_permissions), except
 *   where a comment says otherwise.  A new file belongs to the client.
 * - The client's kernel opens attached inodes itself.  Requests on such an open
 *   have no handle: fh is 0.
 *
 * The files, each with the state that it owns.  A file calls only the files
 * above it in this list, and fail() of main.c:
 *
 *   stats.c      the counts of requests and the file of statistics; stats.lock
 *   fd.c         the cache of O_PATH descriptors, the limit on open files, and
 *                the descriptor of /proc/self/fd
 *   inode.c      the inode table; table.lock
 *   client.c     credentials and umask of a thread that acts as a client
 *   mount.c      the flags of the mount; mounted.lock
 *   attach_inode.c
 *                attaching inodes, so that the client's kernel serves them
 *   lookup.c     resolving: a name to an inode, an inode to a descriptor; it
 *                relies on table.names
 *   attach.c     passthrough of an open file, and backing ids; inode.id_lock
 *   file.c       opening an inode, open files (struct handle) and requests on
 *                them
 *   open.c       OPEN, CREATE and TMPFILE, which make a handle
 *   attr.c       attributes and the other requests on one inode
 *   xattr.c      extended attributes
 *   names.c      making, linking, renaming and removing names; table.names
 *   directory.c  open directories (struct directory); directory.lock
 *   main.c       the command line (config), start and end
 *   check.c      --check, with files of its own: see check.h
 *
 * Locks are taken in the order directory.lock, table.names, table.lock.  The
 * others are taken alone.
 */
#ifndef PASSTHROUGHFS_H
#define PASSTHROUGHFS_H

#define _GNU_SOURCE
#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* main.c */

enum attach { ATTACH_AUTO, ATTACH_REQUEST, ATTACH_ID };

/* The command line, and results of start-up.  INIT is its last writer. */
struct config {
	char *source;
	char *passthrough;
	char *attach_name;
	char *inodes;
	char *stats;
	double timeout;
	int writeback;
	int killpriv_v2;
	int readdir;
	int help;
	int version;

	bool offered;		/* passthrough was negotiated */
	bool inodes_asked;	/* --inodes was given */
	bool files_only;	/* no directory or symbolic link is attached */
	bool by_name;		/* attaching depends on names */
	enum attach attach;
	unsigned int stack_depth;
	bool own_umask;		/* each thread can have its own umask */
	struct fuse_session *session;
};

extern struct config config;

/* Reports to stderr and exits; only before the daemon forks. */
void fail(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/* check.c */

int check_path(int argc, char **argv);

/* stats.c */

#define OPERATIONS(X) \
	X(INIT) X(LOOKUP) X(FORGET) X(BATCH_FORGET) X(GETATTR) \
	X(SETATTR) X(READLINK) X(SYMLINK) X(MKNOD) X(MKDIR) X(UNLINK) X(RMDIR) \
	X(RENAME) X(LINK) X(OPEN) X(READ) X(WRITE) X(STATFS) X(RELEASE) \
	X(FSYNC) X(SETXATTR) X(GETXATTR) X(LISTXATTR) X(REMOVEXATTR) X(FLUSH) \
	X(OPENDIR) X(READDIR) X(READDIRPLUS) X(RELEASEDIR) X(FSYNCDIR) \
	X(CREATE) X(IOCTL) X(POLL) X(FALLOCATE) X(LSEEK) X(COPY_FILE_RANGE) \
	X(TMPFILE)

enum operation {
#define X(name) OP_##name,
	OPERATIONS(X)
#undef X
	OP_COUNT
};

void count(enum operation op);
void count_attached(void);
void count_refused(void);
void count_inode(void);
void write_stats(void);
void *stats_thread(void *arg);
void prepare_stats(void);

/* inode.c: the inodes that the client's kernel knows, and their parents */

/* Is an inode attached?  The client's kernel may detach it by itself. */
enum attached { UNATTACHED, ATTACHED, REFUSED };

struct inode {
	struct inode *next;		/* in the hash chain */
	struct inode *newer, *older;	/* in the ring of idle descriptors */
	struct inode *parent;		/* holds a reference */
	char *name;
	dev_t dev;
	ino_t ino;
	struct timespec born;
	mode_t type;
	uint64_t lookups;		/* by the client's kernel */
	unsigned int refs;		/* children and open files */
	int fd;				/* O_PATH or -1 */
	unsigned int fd_users;
	bool nameless;			/* no name leads to it: fd stays open */
	bool unhashed;			/* its number was reused */
	enum attached attached;		/* atomic */
	unsigned int id_users;		/* open files with backing_id */
	int backing_id;
	pthread_mutex_t id_lock;	/* for id_users and backing_id */
};

struct inode_table {
	pthread_mutex_t lock;		/* the table and its inodes */
	pthread_rwlock_t names;		/* taken before lock */
	struct inode root;
};

extern struct inode_table table;

/* Attributes, and the birth time, which reveals a reused inode number */
struct place {
	struct stat st;
	struct timespec born;
};

static inline struct inode *inode_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &table.root : (struct inode *)ino;
}

static inline fuse_ino_t number_of(struct inode *inode)
{
	return inode == &table.root ? FUSE_ROOT_ID : (uintptr_t)inode;
}

int place_at(int dir, const char *name, struct place *place);
bool is_at(const struct inode *inode, const struct place *place);
void inode_ref(struct inode *inode);
void inode_unref(struct inode *inode);
void unattached(struct inode *inode);
void inode_forget(fuse_ino_t ino, uint64_t n);
bool matches(struct inode *inode, const char *pattern);
void prepare_root(void);

/* With table.lock held */
struct inode *inode_find(const struct place *place);
struct inode *inode_new(const struct place *place);
void inode_release(struct inode *inode);
int inode_name(struct inode *inode, struct inode *parent,
	       const char *name);
ino_t visible_ino(dev_t dev, ino_t ino);

/* fd.c */

extern int proc_fd;		/* /proc/self/fd */

/* Name of a descriptor in proc_fd; the kernel follows it to the open file. */
struct fd_name {
	char s[16];
};

struct fd_path {
	char s[40];
};

const char *fd_name(int fd, struct fd_name *name);
const char *fd_path(int fd, struct fd_path *path);
bool make_room(int error);
int open_at(int dir, const char *name, int flags);
void fd_put(struct inode *inode);
void fd_put_last(struct inode *inode);
bool open_begin(void);
void open_end(void);
void prepare_descriptors(void);
bool open_proc(void);

/* With table.lock held */
int fd_use(struct inode *inode);
void fd_drop(struct inode *inode);
void idle_add(struct inode *inode);
void idle_remove(struct inode *inode);

/* client.c */

enum part {
	MAKER,		/* the owner of a new file; permissions are checked */
	CLIENT,		/* the client's permissions */
};

int act_as(fuse_req_t req, enum part part);
void act_as_self(enum part part);
void keep_bits(bool keep);
void prepare_privilege(void);

/* mount.c */

void mount_find(const char *mountpoint);
bool is_noatime(bool directory);
void follow_noatime(int fd, bool directory);

/* attach_inode.c */

bool review_inode(struct inode *inode);
bool attach_inode(fuse_req_t req, struct inode *inode, int fd);

/* lookup.c */

int fd_get(struct inode *inode);
void reply_entry(fuse_req_t req, const struct fuse_entry_param *e);
int enter_nameless(struct inode *parent, int fd,
		   struct fuse_entry_param *e);

/* With table.names held */
int fd_get_named(struct inode *inode);
int enter(struct inode *parent, const char *name,
	  const struct place *place, struct fuse_entry_param *e);
int lookup_named(struct inode *parent, int dir, const char *name,
		 struct fuse_entry_param *e);

/* file.c */

struct handle {
	int fd;
	bool by_id;
	struct inode *inode;
};

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

int lower_flags(int flags);
int open_inode(struct inode *inode, int flags);
int file_get(fuse_ino_t ino, const struct fuse_file_info *fi, int flags);
void file_put(const struct fuse_file_info *fi, int fd);
struct handle *handle_new(void);
void handle_set_inode(struct handle *h, struct inode *inode);
void handle_free(struct handle *h);

/* attach.c */

bool attach(fuse_req_t req, struct handle *h, struct fuse_file_info *fi);
void detach(fuse_req_t req, struct handle *h);
void detach_lost(struct handle *h);

/* directory.c */

struct directory {
	DIR *dp;
	struct dirent *entry;		/* read and not yet in a reply */
	off_t offset;
	pthread_mutex_t lock;
};

static inline struct directory *directory_of(const struct fuse_file_info *fi)
{
	return (struct directory *)(uintptr_t)fi->fh;
}

/* The operations, by file */

static inline void reply_error(fuse_req_t req, int error)
{
	fuse_reply_err(req, error);
}

/* lookup.c */
void op_lookup(fuse_req_t req, fuse_ino_t ino, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void op_forget_multi(fuse_req_t req, size_t n,
		     struct fuse_forget_data *forgets);

/* file.c */
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	     struct fuse_file_info *fi);
void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
		  off_t off, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	      struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
		  off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	      struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			off_t off_out, struct fuse_file_info *fi_out,
			size_t len, int flags);
void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
	     struct fuse_pollhandle *ph);

/* open.c */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t ino, const char *name,
	       mode_t mode, struct fuse_file_info *fi);
void op_tmpfile(fuse_req_t req, fuse_ino_t ino, mode_t mode,
		struct fuse_file_info *fi);

/* attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags,
	      const void *in, size_t in_size, size_t out_size);

/* xattr.c */
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* names.c */
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
	      mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
	      mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
	     const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t ino, const char *name,
	       fuse_ino_t new_ino, const char *new_name,
	       unsigned int flags);

/* directory.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino,
		   struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		 struct fuse_file_info *fi);

#endif
