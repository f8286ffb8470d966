// SPDX-License-Identifier: GPL-2.0
/* Notifications by a daemon that is not calm, from a separate thread */
#include "server.h"

static void send_notification(int code, void *body, size_t len, size_t extra)
{
	struct fuse_out_header *h = body;

	h->error = code;
	h->len = sizeof(*h) + len + extra;
	if (percent(3))
		h->len += rnd(16) - 8;
	count(&sh->notified);
	if (write(any_device(), body, sizeof(*h) + len + extra) < 0)
		return;
}

static void notify(void)
{
	struct {
		struct fuse_out_header h;
		union {
			struct fuse_notify_inval_inode_out inode;
			struct fuse_notify_inval_entry_out entry;
			struct fuse_notify_delete_out gone;
			struct fuse_notify_store_out store;
			struct fuse_notify_retrieve_out retrieve;
			char space[512];
		};
	} n = {};
	uint64_t nodeid = 1 + rnd(FILES + 4);
	char *name;

	switch (rnd(5)) {
	case 0:
		n.inode.ino = nodeid;
		n.inode.off = percent(50) ? -1 : (int64_t)rnd(64 * 1024);
		n.inode.len = percent(50) ? 0 : rnd(64 * 1024);
		send_notification(FUSE_NOTIFY_INVAL_INODE, &n, sizeof(n.inode), 0);
		break;
	case 1:
		n.entry.parent = FUSE_ROOT_ID;
		n.entry.namelen = 2;
		name = (char *)(&n.entry + 1);
		snprintf(name, 3, "f%u", rnd(FILES));
		send_notification(FUSE_NOTIFY_INVAL_ENTRY, &n, sizeof(n.entry), 3);
		break;
	case 2:
		n.gone.parent = FUSE_ROOT_ID;
		n.gone.child = nodeid;
		n.gone.namelen = 2;
		name = (char *)(&n.gone + 1);
		snprintf(name, 3, "f%u", rnd(FILES));
		send_notification(FUSE_NOTIFY_DELETE, &n, sizeof(n.gone), 3);
		break;
	case 3:
		n.store.nodeid = nodeid;
		n.store.offset = rnd(32 * 1024);
		n.store.size = 200;
		send_notification(FUSE_NOTIFY_STORE, &n, sizeof(n.store), 200);
		break;
	case 4:
		n.retrieve.nodeid = nodeid;
		n.retrieve.offset = rnd(32 * 1024);
		n.retrieve.size = rnd(8 * 1024);
		n.retrieve.notify_unique = random_bits();
		send_notification(FUSE_NOTIFY_RETRIEVE, &n, sizeof(n.retrieve), 0);
		break;
	}
}

void *notifier(void *arg)
{
	uint64_t number = 0;

	while (!__atomic_load_n(&sh->stop, __ATOMIC_SEQ_CST)) {
		random_begin(ROLE_NOTIFIER, number++);
		server_sleep(5 + rnd(60));
		notify();
	}
	return NULL;
}
