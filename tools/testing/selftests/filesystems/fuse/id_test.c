// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "id_test.h"

int id_map(int dev, const struct fuse_backing_map *map)
{
	int id = ioctl(dev, FUSE_DEV_IOC_BACKING_OPEN, map);

	return id < 0 ? -errno : id;
}

int id_open(int dev, int fd)
{
	struct fuse_backing_map map = { .fd = fd };

	return id_map(dev, &map);
}

int id_close(int dev, uint32_t id)
{
	return ioctl_errno(dev, FUSE_DEV_IOC_BACKING_CLOSE, &id);
}

int id_of(struct fuse_server *s, const char *name, int flags)
{
	int fd = lower_open(s, name, flags);
	int id = id_open(s->dev, fd);

	close(fd);
	return id;
}

int id_of_path(struct fuse_server *s, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	int id = id_open(s->dev, fd);

	close(fd);
	return id;
}

bool by_id(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct id_answer *a = s->arg;
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {
		.e.nodeid = 50,
		.e.attr.ino = 50,
		.e.attr.mode = S_IFREG | 0600,
		.e.attr.nlink = 1,
		.o.open_flags = a->flags,
		.o.backing_id = a->id,
	};
	bool open = in->opcode == FUSE_OPEN;
	int fd;

	if (!open && in->opcode != FUSE_CREATE && in->opcode != FUSE_TMPFILE)
		return false;

	if (a->attach) {
		fd = lower_open(s, "other", O_RDWR);
		a->attached = attach(s->dev, in->unique, fd);
		close(fd);
	}
	/* READ and WRITE requests, if any, go to "f". */
	out.o.fh = lower_open(s, "f", O_RDWR);
	if (open)
		fuse_server_reply(s, in->unique, 0, &out.o, sizeof(out.o));
	else
		fuse_server_reply(s, in->unique, 0, &out, sizeof(out));
	return true;
}

int serve_ids(struct fuse_server *s, struct id_answer *a, struct own_fs *fs)
{
	int err;

	a->flags = FOPEN_PASSTHROUGH;
	s->arg = a;
	s->request = by_id;
	err = fuse_server_start(s);
	if (err)
		return err;
	if (lower_make(s, "f", LEN, 1) || lower_make(s, "other", LEN, 2) ||
	    lookup(s, ".") || !own_fs_mount(fs))
		return -EIO;
	return s->init_flags & FUSE_PASSTHROUGH ? 0 : -EPERM;
}

int client_open(struct fuse_server *s, int id, int flags)
{
	struct id_answer *a = s->arg;

	a->id = id;
	return open(fuse_path(s, "f"), flags | O_CLOEXEC);
}
