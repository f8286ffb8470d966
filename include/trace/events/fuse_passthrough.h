/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM fuse_passthrough

#if !defined(_TRACE_FUSE_PASSTHROUGH_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_FUSE_PASSTHROUGH_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

/* The values of enum fuse_lower_by */
#define show_by(by) \
	__print_symbolic(by, { 0, "request" }, { 1, "id" }, { 2, "inode" })

/*
 * A lower file was attached to an open or an inode, or released: connection,
 * FUSE node, lower inode.
 */
DECLARE_EVENT_CLASS(fuse_passthrough_open,
	TP_PROTO(dev_t connection, u64 nodeid, const struct inode *lower,
		 unsigned int by),
	TP_ARGS(connection, nodeid, lower, by),

	TP_STRUCT__entry(
		__field(dev_t,	connection)
		__field(u64,	nodeid)
		__field(dev_t,	dev)
		__field(u64,	ino)
		__field(unsigned int, by)
	),

	TP_fast_assign(
		__entry->connection = connection;
		__entry->nodeid = nodeid;
		__entry->dev = lower->i_sb->s_dev;
		__entry->ino = lower->i_ino;
		__entry->by = by;
	),

	TP_printk("connection=%u nodeid=%llu lower=%u:%u ino=%llu by=%s",
		  MINOR(__entry->connection), __entry->nodeid,
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  show_by(__entry->by))
);

DEFINE_EVENT(fuse_passthrough_open, fuse_passthrough_attach,
	TP_PROTO(dev_t connection, u64 nodeid, const struct inode *lower,
		 unsigned int by),
	TP_ARGS(connection, nodeid, lower, by)
);

DEFINE_EVENT(fuse_passthrough_open, fuse_passthrough_release,
	TP_PROTO(dev_t connection, u64 nodeid, const struct inode *lower,
		 unsigned int by),
	TP_ARGS(connection, nodeid, lower, by)
);

/* An ioctl or an open was refused: reason and errno */
TRACE_EVENT(fuse_passthrough_refuse,
	TP_PROTO(dev_t connection, const char *reason, int error),
	TP_ARGS(connection, reason, error),

	TP_STRUCT__entry(
		__field(dev_t,		connection)
		__string(reason,	reason)
		__field(int,		error)
	),

	TP_fast_assign(
		__entry->connection = connection;
		fuse_lower_assign_str(reason);
		__entry->error = error;
	),

	TP_printk("connection=%u error=%d reason=%s",
		  MINOR(__entry->connection), __entry->error,
		  __get_str(reason))
);

#endif /* _TRACE_FUSE_PASSTHROUGH_H */

#include <trace/define_trace.h>
