// SPDX-License-Identifier: GPL-2.0
/*
 * passthroughfs --check: says whether kernel, privilege, lower file system and stacking
 * allow passthrough, and if not, why and what to do.
 */

#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { WORKS, DOES_NOT, USAGE };	/* the exit status */

#define CAP_SYS_ADMIN_BIT 21

static bool has_sys_admin(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long caps = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "CapEff: %llx", &caps);
	if (f)
		fclose(f);
	return caps & 1ULL << CAP_SYS_ADMIN_BIT;
}

static bool is_first_user_namespace(void)
{
	FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned int inside = 0, outside = 0, count = UINT_MAX;

	if (f) {
		if (fscanf(f, "%u %u %u", &inside, &outside, &count) != 3)
			count = UINT_MAX;
		fclose(f);
	}
	return !inside && !outside && count == UINT_MAX;
}

/* The ways to a kernel with passthrough, from what this one has. */
static void say_get_kernel(const char *release)
{
	char module[200];

	snprintf(module, sizeof(module), "/lib/modules/%s/updates/dkms/fuse.ko", release);
	if (!access(module, F_OK))
		puts("           the module is installed, but another one is loaded: reboot");
	else if (!access("/sys/module/fuse/initstate", F_OK))
		puts("           install fuse-passthrough-dkms and reboot, or another kernel");
	else
		puts("           FUSE is built in: install a kernel that has passthrough");
}

static void say_kernel(const struct try *try)
{
	struct utsname name;

	uname(&name);
	if (*try->obstacle) {
		printf("kernel     Linux %s: %s\n", name.release, try->obstacle);
		if (geteuid())
			puts("           a user needs fusermount3, setuid root (package fuse3)");
		return;
	}
	printf("kernel     Linux %s, FUSE 7.%u: %s passthrough\n", name.release,
	       try->minor, try->offered ? "offers" : "does not offer");
	if (!try->offered)
		say_get_kernel(name.release);
}

static void say_privilege(void)
{
	printf("privilege  uid %u, %s CAP_SYS_ADMIN%s\n", geteuid(),
	       has_sys_admin() ? "with" : "without",
	       is_first_user_namespace() ? "" : ", in a user namespace of its own");
	puts("           only by id needs it, outside user namespaces");
}

static void say_lower(const char *path, const struct place_mount *mount,
		      const struct try *try)
{
	printf("lower      %s: %s of %s, %s\n", path, mount->type, mount->source,
	       mount->options);
	if (try->lower == -1)
		puts("           has no regular file to try with: give the path of one");
	else
		printf("           O_DIRECT %s\n", can_direct(try->lower) ? "works" :
		       "does not work, nor will it through passthrough");
}

static void say_stacking(const struct place_mount *mount, const struct try *try,
			 bool attached)
{
	const char *what = "not stacked";

	if (attached)
		what = try->depth ?
			"depth 1: the daemon has to ask for it, as passthroughfs does" :
			"depth 0: fine";
	else if (is_on_fuse(mount))
		what = "on FUSE, where a daemon may wait for another";
	else if (is_stacked(mount))
		what = "stacked: it may be a lower file system at depth 1, not deeper";
	printf("stacking   %s\n", what);
}

/* Why a file is unfit; the kernel says EINVAL, or by id other errors, for all of it. */
static const char *unfit(const struct place_mount *mount)
{
	if (is_on_fuse(mount))
		return "on FUSE: mirror what is below that";
	if (is_stacked(mount))
		return "stacked too deep: mirror a layer of it";
	return "no storage (a pseudo file system, or without read_iter)";
}

static const char *why_not(int error, enum form form, const struct place_mount *mount)
{
	switch (error) {
	case ENOTTY:
		return form == BY_REQUEST ?
			"the kernel has mainline's passthrough only: by id, as root" :
			"the kernel has no such form";
	case EPERM:
		return form == BY_ID ?
			"needs CAP_SYS_ADMIN, outside user namespaces: attach by request" :
			"the kernel does not permit it";
	case EINVAL:
	case ELOOP:
	case EOPNOTSUPP:
		return unfit(mount);
	default:
		return strerror(error);
	}
}

static void say_form(enum form form, const struct place_mount *mount,
		     const struct try *try)
{
	static const char *const labels[FORMS] = {
		[BY_REQUEST] = "by request", [BY_ID] = "by id     ",
		[BY_INODE] = "by inode  ",
	};
	const struct attempt *a = &try->form[form];

	printf("%s ", labels[form]);
	if (*try->obstacle || try->lower == -1)
		puts("not tried");
	else if (!try->offered)
		puts("no: the kernel does not offer passthrough");
	else if (a->attach)
		printf("no: %s (%s)\n", why_not(a->attach, form, mount),
		       strerrorname_np(a->attach));
	else if (a->open)
		printf("no: attached, but the open fails: %s\n", strerror(a->open));
	else if (a->requests)
		puts("no: attached, but the kernel still sends requests");
	else if (a->io)
		printf("no: attached, but its I/O fails: %s\n", strerror(a->io));
	else if (try->writable)
		puts("yes: a file was attached, written and read without a request");
	else
		puts("yes: a file that is there was attached, and not touched");
}

static bool any_attached(const struct try *try)
{
	return try->offered && (!try->form[BY_REQUEST].attach ||
				!try->form[BY_ID].attach || !try->form[BY_INODE].attach);
}

/* As it is, and if the kernel offers passthrough and takes no file, one level deeper. */
static void try_depths(struct try *try)
{
	struct try deeper = {
		.lower = try->lower,
		.writable = try->writable,
		.depth = FUSE_BACKING_STACKED_OVER,
	};

	try_forms(try);
	if (!try->offered || try->lower == -1 || any_attached(try))
		return;
	try_forms(&deeper);
	if (any_attached(&deeper))
		*try = deeper;
}

static int report(const char *path, const struct place_mount *mount)
{
	struct try try = { 0 };
	enum form form;

	try.lower = open_lower(path, &try.writable);
	try_depths(&try);
	say_kernel(&try);
	say_privilege();
	say_lower(path, mount, &try);
	say_stacking(mount, &try, try.lower != -1 && any_attached(&try));
	for (form = 0; form < FORMS; form++)
		say_form(form, mount, &try);
	return try.lower != -1 && !*try.obstacle && try.offered &&
		works(&try.form[BY_REQUEST]) ? WORKS : DOES_NOT;
}

/* passthroughfs gives its mounts the source as a name. */
static bool is_ours(const struct place_mount *mount)
{
	return mount->is_top && !strcmp(mount->type, "fuse.passthroughfs") &&
		!strcmp(mount->root, "/") && mount->source[0] == '/';
}

static int find(const char *path, struct place_mount *mount)
{
	int error = find_mount(path, mount);

	if (error)
		fprintf(stderr, "passthroughfs: cannot check %s: %s\n", path,
			strerror(error));
	return error;
}

/* Either "--check PATH" or "--check=PATH", and nothing else. */
int check_path(int argc, char **argv)
{
	struct place_mount mount, below;
	const char *path = NULL;

	if (argc == 2 && !strncmp(argv[1], "--check=", 8))
		path = argv[1] + 8;
	else if (argc == 3 && !strcmp(argv[1], "--check"))
		path = argv[2];
	if (!path || !*path) {
		fputs("usage: passthroughfs --check MOUNTPOINT-or-SOURCE\n", stderr);
		return USAGE;
	}
	if (find(path, &mount))
		return USAGE;
	if (mount.is_top && is_on_fuse(&mount))
		say_passing(&mount);
	if (!is_ours(&mount))
		return report(path, &mount);
	if (find(mount.source, &below))
		return DOES_NOT;
	return report(mount.source, &below);
}
