// SPDX-License-Identifier: GPL-2.0
/* A round of races: its server, its end, and what may not be left of it */
#include "race.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/sysmacros.h>

/* Milliseconds after which a round hangs; and after which references that are left are leaks */
#define LIMIT	60000
#define LEFT	10000

void spin(unsigned int n)
{
	while (n--)
		getppid();
}

bool race_names(const int *errors, int error)
{
	while (*errors && *errors != error)
		errors++;
	return *errors == error;
}

void race_bad(struct tally *t, const char *fmt, ...)
{
	va_list ap;

	t->bad++;
	printf("# seed %llu, round %u: ", (unsigned long long)random_seed, t->rounds - 1);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

void race_bail(const char *what)
{
	printf("Bail out! %s: %m\n", what);
	exit(2);
}

void race_serve(struct race *r, bool (*request)(struct fuse_server *s,
						const struct fuse_in_header *in))
{
	struct stat st;

	r->s.permissions = true;
	r->clone = -1;
	r->lower = -1;
	r->other = -1;
	errno = -fuse_server_start(&r->s);
	if (errno || lower_make(&r->s, "f", OWN_FS_LEN, 1) || stat(r->s.mnt, &st))
		race_bail("no server");
	r->conn = minor(st.st_dev);
	if (!request)
		return;
	r->s.how = OPEN_CACHED;
	if (r->way != BY_INODE && lookup(&r->s, "f"))
		race_bail("no file");
	r->lower = open(r->fs.path, O_RDWR | O_CLOEXEC);
	r->other = open(r->fs.path, O_RDWR | O_CLOEXEC);
	if (r->pair->clone)
		r->clone = clone_dev(r->s.dev);
	if (r->lower < 0 || r->other < 0 || (r->pair->clone && r->clone < 0))
		race_bail("no lower file");
	r->s.request = request;
}

void race_reap(struct race *r)
{
	int64_t end = now() + LIMIT;

	while (!waitpid(r->client, NULL, WNOHANG)) {
		if (now() > end) {
			put("/proc/sysrq-trigger", "w");
			race_bail("the client hangs");
		}
		pause_ms(1);
	}
}

/* Does the count of the control file system become 0, or is the connection gone? */
static bool none_left(const struct race *r, const char *what)
{
	int64_t end = now() + LEFT;
	char path[80];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/%s", r->conn, what);
	while (number_in(path, "%ld") > 0) {
		if (now() > end)
			return false;
		pause_ms(1);
	}
	return true;
}

void race_end(struct race *r, struct tally *t, bool dead)
{
	int64_t end = now() + LEFT;

	if (!none_left(r, "passthrough"))
		race_bad(t, "passthrough files are left");
	if (dead && !none_left(r, "passthrough_inodes"))
		race_bad(t, "attached inodes are left");
	fuse_server_stop(&r->s);
	if (r->lower < 0)
		return;
	if (!r->lower_closed)
		close(r->lower);
	close(r->other);
	while (!own_fs_free(&r->fs)) {
		if (now() > end) {
			race_bad(t, "the lower file system stays busy");
			own_fs_end(&r->fs);
			if (!own_fs_mount(&r->fs))
				race_bail("no lower file system");
			return;
		}
		pause_ms(1);
	}
}
