// SPDX-License-Identifier: GPL-2.0
/* The command line, start and end. */

#include "passthroughfs.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#ifndef PASSTHROUGHFS_VERSION
#define PASSTHROUGHFS_VERSION "1"
#endif

struct config config = { .timeout = 1.0 };

static void op_init(void *data, struct fuse_conn_info *conn)
{
	const unsigned int wanted = FUSE_CAP_POSIX_ACL | FUSE_CAP_SPLICE_WRITE |
		FUSE_CAP_CACHE_SYMLINKS |
		(config.own_umask ? FUSE_CAP_DONT_MASK : 0) |
		(config.writeback ? FUSE_CAP_WRITEBACK_CACHE : 0) |
		(config.killpriv_v2 ? FUSE_CAP_HANDLE_KILLPRIV_V2 : 0) |
		(strcmp(config.passthrough, "none") ? FUSE_CAP_PASSTHROUGH : 0);

	(void)data;
	count(OP_INIT);
	conn->want |= conn->capable & wanted;
	/* A truncation sent as SETATTR clears setuid and setgid bits. */
	conn->want &= ~FUSE_CAP_ATOMIC_O_TRUNC;
	conn->max_backing_stack_depth = config.stack_depth;
	config.writeback = !!(conn->want & FUSE_CAP_WRITEBACK_CACHE);
	config.offered = conn->want & FUSE_CAP_PASSTHROUGH;
}

static const struct fuse_lowlevel_ops operations = {
	.init		= op_init,
	.lookup		= op_lookup,
	.forget		= op_forget,
	.forget_multi	= op_forget_multi,
	.getattr	= op_getattr,
	.setattr	= op_setattr,
	.readlink	= op_readlink,
	.mknod		= op_mknod,
	.mkdir		= op_mkdir,
	.symlink	= op_symlink,
	.link		= op_link,
	.unlink		= op_unlink,
	.rmdir		= op_rmdir,
	.rename		= op_rename,
	.open		= op_open,
	.create		= op_create,
	.read		= op_read,
	.write_buf	= op_write_buf,
	.flush		= op_flush,
	.release	= op_release,
	.fsync		= op_fsync,
	.fallocate	= op_fallocate,
	.lseek		= op_lseek,
	.copy_file_range = op_copy_file_range,
	.poll		= op_poll,
	.ioctl		= op_ioctl,
	.statfs		= op_statfs,
	.getxattr	= op_getxattr,
	.setxattr	= op_setxattr,
	.listxattr	= op_listxattr,
	.removexattr	= op_removexattr,
	.opendir	= op_opendir,
	.readdir	= op_readdir,
	.readdirplus	= op_readdirplus,
	.releasedir	= op_releasedir,
	.fsyncdir	= op_fsyncdir,
	.tmpfile	= op_tmpfile,
};

static void log_to_syslog(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsyslog(level, fmt, ap);
}

void fail(const char *fmt, ...)
{
	va_list ap;

	fputs("passthroughfs: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

#define OPTION(template, field) { template, offsetof(struct config, field), 1 }

static const struct fuse_opt options[] = {
	OPTION("--passthrough=%s", passthrough),
	OPTION("passthrough=%s", passthrough),
	OPTION("--attach=%s", attach_name),
	OPTION("attach=%s", attach_name),
	OPTION("--inodes=%s", inodes),
	OPTION("inodes=%s", inodes),
	OPTION("--readdir", readdir),
	OPTION("readdir", readdir),
	OPTION("--stats=%s", stats),
	OPTION("stats=%s", stats),
	OPTION("--timeout=%lf", timeout),
	OPTION("timeout=%lf", timeout),
	OPTION("--writeback", writeback),
	OPTION("writeback", writeback),
	OPTION("--killpriv-v2", killpriv_v2),
	OPTION("killpriv-v2", killpriv_v2),
	OPTION("--help", help),
	OPTION("-h", help),
	OPTION("--version", version),
	OPTION("-V", version),
	FUSE_OPT_END
};

static int take_source(void *data, const char *arg, int key, struct fuse_args *args)
{
	(void)data;
	(void)args;
	if (key != FUSE_OPT_KEY_NONOPT || config.source)
		return 1;
	config.source = realpath(arg, NULL);
	if (!config.source)
		fail("cannot mirror %s: %s", arg, strerror(errno));
	return 0;
}

/* Turns "--option VALUE" into "--option=VALUE". */
static void join_values(struct fuse_args *args)
{
	static const char *const names[] = {
		"--passthrough", "--attach", "--inodes", "--stats", "--timeout",
	};
	char **argv = calloc(args->argc + 1, sizeof(*argv));
	unsigned int i;
	int from, to = 0;

	if (!argv)
		fail("out of memory");
	for (from = 0; from < args->argc; from++) {
		argv[to] = args->argv[from];
		for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
			if (strcmp(argv[to], names[i]))
				continue;
			if (++from == args->argc)
				fail("%s needs a value (see --help)", names[i]);
			if (asprintf(&argv[to], "%s=%s", names[i],
				     args->argv[from]) == -1)
				fail("out of memory");
			break;
		}
		to++;
	}
	args->argv = argv;
	args->argc = to;
}

static void usage(void)
{
	puts("usage: passthroughfs [OPTION]... SOURCE MOUNTPOINT\n"
	     "       passthroughfs --check MOUNTPOINT-or-SOURCE\n"
	     "\n"
	     "Mirrors the directory SOURCE at MOUNTPOINT; reads and writes of open files go\n"
	     "from the kernel straight to the files in SOURCE where it can do that.\n"
	     "\n"
	     "    --passthrough=WHICH    all (the default), none, or a shell pattern of names\n"
	     "                           (of paths below SOURCE, if there is a / in it)\n"
	     "    --attach=HOW           request, id, or auto (the default)\n"
	     "    --inodes=WHICH         what the kernel serves without asking, stat and open\n"
	     "                           included: all (the default), files, none, or a shell\n"
	     "                           pattern, as above\n"
	     "    --readdir              attached directories are also listed without asking\n"
	     "    --writeback            let the kernel collect writes that do not pass through\n"
	     "    --killpriv-v2          let whoever writes a file take its setuid and setgid\n"
	     "                           bits away; spares the kernel a question per write\n"
	     "    --timeout=SECONDS      how long the kernel may remember names and attributes\n"
	     "                           (1.0)\n"
	     "    --stats=FILE           write the numbers of requests there, as JSON, at exit\n"
	     "                           and on SIGUSR1\n"
	     "    --check PATH           say whether passthrough is possible there, and mount\n"
	     "                           nothing\n"
	     "    -h, --help             this text\n"
	     "    -V, --version          the version");
	fuse_cmdline_help();
	puts("\nMore for -o:");
	fuse_lowlevel_help();
}

static void parse_attach(void)
{
	static const char *const names[] = {
		[ATTACH_AUTO] = "auto", [ATTACH_REQUEST] = "request", [ATTACH_ID] = "id",
	};
	unsigned int i;

	if (!config.attach_name)
		return;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(config.attach_name, names[i])) {
			config.attach = i;
			return;
		}
	}
	fail("--attach is request, id or auto, not '%s'", config.attach_name);
}

static bool is_pattern(const char *s)
{
	return strcmp(s, "all") && strcmp(s, "none");
}

static void parse_inodes(void)
{
	config.inodes_asked = config.inodes;
	if (!config.inodes)
		config.inodes = strdup("all");
	config.files_only = !strcmp(config.inodes, "files");
	if (config.readdir && (config.files_only || !strcmp(config.inodes, "none")))
		fail("--readdir goes with --inodes=all or a pattern");
	if (config.files_only)
		config.inodes = strdup("all");
	config.by_name = is_pattern(config.inodes) || is_pattern(config.passthrough);
}

static void add_mount_options(struct fuse_args *args)
{
	char *opts = strdup("subtype=passthroughfs,default_permissions");
	char *fsname;

	if (!opts || asprintf(&fsname, "fsname=%s", config.source) == -1 ||
	    fuse_opt_add_opt_escaped(&opts, fsname) == -1 ||
	    (geteuid() == 0 && fuse_opt_add_opt(&opts, "allow_other") == -1) ||
	    fuse_opt_insert_arg(args, 1, "-o") == -1 ||
	    fuse_opt_insert_arg(args, 2, opts) == -1)
		fail("out of memory");
	free(fsname);
	free(opts);
}

static int serve(struct fuse_session *se, const struct fuse_cmdline_opts *opts)
{
	struct fuse_loop_config *loop;
	int res;

	if (opts->singlethread)
		return fuse_session_loop(se);
	loop = fuse_loop_cfg_create();
	fuse_loop_cfg_set_clone_fd(loop, 1);
	/* UINT_MAX stands for libfuse's own default. */
	if (opts->max_idle_threads != UINT_MAX)
		fuse_loop_cfg_set_idle_threads(loop, opts->max_idle_threads);
	fuse_loop_cfg_set_max_threads(loop, opts->max_threads);
	res = fuse_session_loop_mt(se, loop);
	fuse_loop_cfg_destroy(loop);
	return res;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts opts;
	struct fuse_session *se;
	pthread_t thread;
	sigset_t usr1;
	int res;

	if (argc > 1 && !strncmp(argv[1], "--check", 7))
		return check_path(argc, argv);
	join_values(&args);
	if (fuse_opt_parse(&args, &config, options, take_source) == -1)
		return 1;
	if (config.help) {
		usage();
		return 0;
	}
	if (config.version) {
		printf("passthroughfs %s, libfuse %s\n", PASSTHROUGHFS_VERSION,
		       fuse_pkgversion());
		return 0;
	}
	if (fuse_parse_cmdline(&args, &opts) == -1)
		return 1;
	if (!config.source || !opts.mountpoint)
		fail("give the directory to mirror and a mount point (see --help)");
	if (!(config.timeout >= 0))
		fail("--timeout is a number of seconds, not less than 0");
	/* Cached writes reach the daemon too late to clear the bits. */
	if (config.killpriv_v2 && config.writeback)
		fail("--killpriv-v2 does not go with --writeback");
	if (!config.passthrough)
		config.passthrough = strdup("all");
	parse_attach();
	parse_inodes();
	prepare_stats();
	prepare_descriptors();
	prepare_privilege();
	prepare_root();
	add_mount_options(&args);
	umask(0);

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	signal(SIGXFSZ, SIG_IGN);

	se = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!se)
		return 1;
	config.session = se;
	if (fuse_set_signal_handlers(se) == -1)
		return 1;
	if (fuse_session_mount(se, opts.mountpoint) == -1)
		return 1;
	mount_find(opts.mountpoint);
	if (!opts.foreground) {
		openlog("passthroughfs", LOG_PID, LOG_DAEMON);
		fuse_set_log_func(log_to_syslog);
	}
	fuse_daemonize(opts.foreground);
	if (config.stats) {
		res = pthread_create(&thread, NULL, stats_thread, &usr1);
		if (res)
			fuse_log(FUSE_LOG_ERR, "passthroughfs: no thread for SIGUSR1: %s\n",
				 strerror(res));
	}

	res = open_proc() ? serve(se, &opts) : -1;

	fuse_session_unmount(se);
	write_stats();
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	free(opts.mountpoint);
	fuse_opt_free_args(&args);
	/* After a signal the result is its number. */
	return res < 0 ? 1 : 0;
}
