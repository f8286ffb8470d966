/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A FUSE server in a thread, which passes each open of its one file, "f", through
 * to a lower file by backing id, and counts its requests.
 */
#ifndef _SELFTESTS_ID_SERVER_H
#define _SELFTESTS_ID_SERVER_H

#include <pthread.h>
#include <stdint.h>

#include <linux/fuse.h>

struct id_server {
	uint32_t handles;	/* FUSE_HANDLE_* to negotiate; set before the start */

	char mnt[32];		/* where it is mounted */
	char file[40];		/* "f" there */
	int lower;		/* the lower file, open for reading and writing */

	int dev;
	uint32_t id;
	pthread_t thread;
	unsigned long count[64];
};

/* In a mount namespace of its own.  0 or a negative errno. */
int id_server_start(struct id_server *s);
void id_server_stop(struct id_server *s);

/* Requests so far of an opcode, or of all that there are. */
unsigned long id_server_count(struct id_server *s, int opcode);
unsigned long id_server_total(struct id_server *s);

#endif
