/* SPDX-License-Identifier: GPL-2.0 */
/*
 * fuzz: random use of FUSE passthrough, by a daemon and its clients at once.
 *
 * A run is a sequence of rounds.  A round has a lower file system, a mount, a
 * daemon with a few threads, a few clients, and an operator that freezes,
 * remounts, kills and aborts.  The seed of a round determines all its choices,
 * and the next round has the next seed: to replay a round, start a run with its
 * seed.  Only the timing differs.
 *
 * Rules for every file:
 *
 * - A choice depends on the seed, on the role and on the number of the step,
 *   and not on earlier choices: random_begin().
 * - A process that makes a call which may block notes this in its slot.  The
 *   operator ends the call, first by a thaw, then by an abort, then by SIGKILL;
 *   main.c ends a round that does not end.
 * - In a calm round the daemon keeps the rules, and results are judged.  In any
 *   other round only results that no program may ever see are errors.
 *
 * The files:
 *
 *   main.c         the command line, rounds, leftovers, the verdict
 *   lower.c        the lower file system and what an administrator does to it
 *   round.c        the settings of a round, its start, its end
 *   operator.c     what disturbs the round, and the slots
 *   server.c       the daemon: reading and answering requests, wrong answers
 *   server_node.c  its nodes, and requests on names and attributes
 *   server_file.c  its open files, and requests on data
 *   attach.c       the ioctls of passthrough, right and wrong, and odd lower files
 *   notify.c       the notifications
 *   client.c       a client: its open files, how results are judged
 *   client_io.c    reads, writes, mappings, splices
 *   client_async.c libaio and io_uring
 *   client_name.c  names, attributes, everything else
 */
#ifndef SHAKE_H
#define SHAKE_H

#include "../common.h"

#include <stddef.h>

#define BUF		(512u * KIB)
#define MAX_FILE	(256u * KIB)

#define CLIENTS		4
#define THREADS		3
#define DEVICES		3
#define FILES		6	/* f0 to f5 in the root */

/* Roles, each of which makes its own choices */
enum role {
	ROLE_ROUND,
	ROLE_OPERATOR,
	ROLE_NOTIFIER,
	ROLE_SERVER,			/* one for each of its threads */
	ROLE_CLIENT = ROLE_SERVER + THREADS,
	NR_ROLES = ROLE_CLIENT + CLIENTS
};

/* The kinds up to NR_DISKS have a loop device each; overlayfs is on that of ext4. */
enum lower_kind {
	LOWER_EXT4,
	LOWER_XFS,
	LOWER_BTRFS,
	NR_DISKS,
	LOWER_TMPFS = NR_DISKS,
	LOWER_OVERLAYFS,
};

/* How a round ends, after its clients have done part of their operations */
enum ending {
	END_QUIET,
	END_KILL,		/* SIGKILL to the daemon */
	END_ABORT,
	END_FORCE,		/* umount -f */
	END_LAZY,		/* umount -l */
	END_LOWER_LAZY,		/* umount -l of the lower file system */
	END_LOWER_READ_ONLY,
	END_LOWER_SHUTDOWN,	/* of ext4 and xfs: nothing is written any more */
	NR_ENDINGS
};

struct config {
	uint64_t seed;
	enum lower_kind lower;
	enum ending ending;
	bool calm;		/* the daemon keeps the rules, results are judged */
	bool silent;		/* the daemon leaves requests without an answer */
	bool checked;		/* default_permissions */
	bool rootless;		/* the daemon has no privileges */
	bool own_files;		/* the daemon attaches files of its own mount */
	bool map_buffers;	/* clients use mappings of the mount as buffers */
	bool signals;		/* timers interrupt clients */
	bool no_open, no_opendir;
	bool freezes, remounts;
	unsigned int threads, clones, clients;
	unsigned int depth;	/* max_stack_depth */
	unsigned int ops;	/* operations of each client */
	uint64_t init_flags;
};

/* Subjects of the checks; each is one result of the run. */
enum verdict {
	V_HANG,
	V_ERRNO,
	V_DATA,
	V_REQUEST,
	V_UNMOUNT,
	NR_VERDICTS
};

enum attach_by { BY_REQUEST, BY_ID, BY_INODE, NR_BY };

/* What a process is doing.  The process writes it, and the operator reads it. */
struct slot {
	pid_t pid;
	int64_t since;		/* milliseconds; 0: between operations */
	unsigned int nr;
	const char *what;
	bool changing;		/* see struct shared */
};

/* Shared by all processes of a run. */
struct shared {
	struct config cfg;
	int64_t limit;		/* milliseconds that a call may take */
	bool verbose;
	/* State of this round */
	bool ready;		/* INIT was answered */
	bool stop;
	bool disturbed;		/* the round is being ended: results are not judged */
	int conn;		/* number in /sys/fs/fuse/connections, or -1 */
	unsigned long round_ops;
	struct slot slots[CLIENTS];
	/*
	 * Operations that may change data, begun and ended.  Nothing changed
	 * during a comparison if both are equal before it, and the same after
	 * it.
	 */
	unsigned long begun, ended;
	/* Counts of the whole run */
	unsigned long ops, requests, rounds;
	unsigned long attached[NR_BY], refused[NR_BY];
	unsigned long odd, wrong, notified, opened[2], freezes, remounts, shutdowns, kills;
	unsigned long passed;	/* calls on a passthrough file */
	unsigned long compared;
	unsigned long bad[NR_VERDICTS];
};

extern struct shared *sh;

static inline unsigned long count(unsigned long *n)
{
	return __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST);
}

static inline unsigned long counted(const unsigned long *n)
{
	return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

/* Are results judged?  Not after a disturbance. */
static inline bool strict(void)
{
	return sh->cfg.calm && !__atomic_load_n(&sh->disturbed, __ATOMIC_SEQ_CST);
}

/* main.c */

/* Print and count an error. */
void __attribute__((format(printf, 2, 3))) bad(enum verdict v, const char *fmt, ...);
/* Abort the FUSE connection of this round. */
void abort_connection(void);

/* lower.c */

extern char mnt[64];		/* mount point of FUSE */
extern char lower[64];		/* mount point of the lower file system */
extern char served[80];		/* lower directory that the daemon serves */

/* Once for each run.  Returns 0 or -errno. */
int lower_setup(const char *dir);
void lower_cleanup(void);
/* Can the kernel and this system make such a file system? */
bool lower_has(enum lower_kind kind);
extern const char *const lower_names[];
/* Once for each round.  Returns 0 or -errno. */
int lower_mount(void);
/* Returns 0, or -errno if the file system cannot be shut down. */
int lower_shutdown(void);
/* Returns 0, or -errno if the file system stays busy. */
int lower_unmount(bool detached);
int lower_fill(void);
/* Unmount as soon as the mount is not busy, up to the limit. */
int unmount_wait(const char *path);

/* round.c */

void configure(uint64_t seed, unsigned int ops);
__attribute__((noreturn)) void run_round(void);

/* operator.c */

/* Runs until all clients have ended. */
void operate(pid_t server, unsigned int *gone);
bool reap(pid_t pid, int64_t limit);
void thaw(void);

/* client.c */

void __attribute__((noreturn)) client(unsigned int nr);

/* server.c */

void __attribute__((noreturn)) server(int dev);

#endif /* SHAKE_H */
