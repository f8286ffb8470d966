// SPDX-License-Identifier: GPL-2.0
/*
 * AppArmor checks the path of the mapped file: at mmap() that of the FUSE file,
 * at mprotect() that of the lower file.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <sys/sendfile.h>

#include "io_test.h"
#include "../../kselftest_harness.h"

#define PROFILES	"/sys/kernel/security/apparmor/profiles"

FIXTURE(apparmor) {
	struct fuse_server s;
	char policy[80];
};

FIXTURE_VARIANT(apparmor) { enum fuse_server_open how; bool may; };
FIXTURE_VARIANT_ADD(apparmor, allowed) { .how = OPEN_PASSTHROUGH, .may = true };
FIXTURE_VARIANT_ADD(apparmor, denied) { .how = OPEN_PASSTHROUGH, .may = false };
FIXTURE_VARIANT_ADD(apparmor, cached) { .how = OPEN_CACHED, .may = true };

/* Two profiles: without and with the "m" permission for the server's files. */
static int load_policy(struct fuse_server *s, const char *path)
{
	FILE *f = fopen(path, "w");
	char cmd[128];

	if (!f)
		return -1;
	fprintf(f,
		"profile fuse_test_rw flags=(attach_disconnected) {\n"
		"  %s/** rw,\n"
		"}\n"
		"profile fuse_test_rwm flags=(attach_disconnected) {\n"
		"  /** rm,\n"
		"  %s/** rwm,\n"
		"  /** ix,\n"
		"}\n", s->mnt, s->mnt);
	fclose(f);
	snprintf(cmd, sizeof(cmd), "apparmor_parser -q -K -r %s", path);
	return system(cmd);
}

static bool has_apparmor(void)
{
	return !access(PROFILES, F_OK) &&
		!system("apparmor_parser -V >/dev/null 2>&1");
}

static off_t copy_in(struct fuse_server *s, const char *from, const char *name)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = lower_open(s, name, O_WRONLY | O_CREAT | O_TRUNC);
	off_t size = in < 0 ? -1 : size_of(in);

	if (size > 0 && (sendfile(out, in, NULL, size) != size ||
			 fchmod(out, 0755)))
		size = -1;
	close(in);
	close(out);
	return size;
}

FIXTURE_SETUP(apparmor)
{
	/* Tests skip themselves: SKIP in the fixture would not end a test. */
	if (!has_apparmor())
		return;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	snprintf(self->policy, sizeof(self->policy), "%s.policy", self->s.mnt);
	ASSERT_EQ(0, load_policy(&self->s, self->policy));
	ASSERT_LT(PAGE, copy_in(&self->s, "/usr/bin/id", "id"));
	ASSERT_EQ(0, set_mprotect_exec(variant->may));
	self->s.how = variant->how;
}

FIXTURE_TEARDOWN(apparmor)
{
	char cmd[128];

	if (!self->policy[0])
		return;
	EXPECT_EQ(0, set_mprotect_exec(true));
	snprintf(cmd, sizeof(cmd), "apparmor_parser -q -R %s", self->policy);
	EXPECT_EQ(0, system(cmd));
	unlink(self->policy);
	fuse_server_stop(&self->s);
}

/* Called in a child; cannot be undone. NULL: stay unconfined. */
static void confine(const char *profile)
{
	char line[64];
	int fd, len;

	if (!profile)
		return;
	len = snprintf(line, sizeof(line), "changeprofile %s", profile);
	fd = open("/proc/self/attr/current", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, line, len) != len)
		_exit(200);
	close(fd);
}

/* Map with @map, then protect with @protect. Returns 0 or an errno. */
static int map_as(struct fuse_server *s, const char *profile, int map,
		  int protect)
{
	pid_t pid = fork();
	void *p;
	int fd;

	if (!pid) {
		confine(profile);
		fd = open(fuse_path(s, "id"), O_RDWR | O_CLOEXEC);
		if (fd < 0)
			_exit(201);
		p = mmap(NULL, PAGE, map, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED)
			_exit(errno);
		_exit(mprotect(p, PAGE, protect) ? errno : 0);
	}
	return child_status(pid);
}

/*
 * A client that may not map a file executable can do so by mprotect(), unless
 * the parameter forbids it.  Without passthrough AppArmor forbids it.
 */
TEST_F_TIMEOUT(apparmor, mprotect, IO_TIMEOUT)
{
	bool may = variant->how == OPEN_PASSTHROUGH && variant->may;

	if (!self->policy[0])
		SKIP(return, "apparmor");
	EXPECT_EQ(EACCES, map_as(&self->s, "fuse_test_rw", PROT_READ | PROT_EXEC,
				 PROT_READ));
	EXPECT_EQ(0, map_as(&self->s, "fuse_test_rw", PROT_READ, PROT_READ));
	EXPECT_EQ(may ? 0 : EACCES,
		  map_as(&self->s, "fuse_test_rw", PROT_READ,
			 PROT_READ | PROT_EXEC));
}

/*
 * The parameter alone stops a client that may map executable, but only at
 * mprotect().
 */
TEST_F_TIMEOUT(apparmor, mprotect_with_m, IO_TIMEOUT)
{
	bool may = variant->how != OPEN_PASSTHROUGH || variant->may;

	if (!self->policy[0])
		SKIP(return, "apparmor");
	EXPECT_EQ(0, map_as(&self->s, "fuse_test_rwm", PROT_READ | PROT_EXEC,
			    PROT_READ | PROT_EXEC));
	EXPECT_EQ(may ? 0 : EACCES,
		  map_as(&self->s, "fuse_test_rwm", PROT_READ,
			 PROT_READ | PROT_EXEC));
}

static int find_interpreter(struct dl_phdr_info *info, size_t size, void *arg)
{
	int i;

	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_INTERP)
			*(const char **)arg = (const char *)info->dlpi_addr +
				info->dlpi_phdr[i].p_vaddr;
	/* The first is the program. */
	return 1;
}

/*
 * Run the program on the mount, by the kernel or by ld.so.  Returns its exit
 * status.
 */
static int run_as(struct fuse_server *s, const char *profile, const char *ld)
{
	const char *path = fuse_path(s, "id");
	pid_t pid = fork();
	int null;

	if (!pid) {
		null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		confine(profile);
		if (ld)
			execl(ld, ld, path, "-u", NULL);
		else
			execl(path, path, "-u", NULL);
		_exit(errno);
	}
	return child_status(pid);
}

/* Programs on the mount run, confined or not. */
TEST_F_TIMEOUT(apparmor, programs_run, IO_TIMEOUT)
{
	static const char * const profiles[] = { NULL, "fuse_test_rwm" };
	const char *ld = NULL;
	unsigned int i;

	if (!self->policy[0])
		SKIP(return, "apparmor");
	dl_iterate_phdr(find_interpreter, &ld);
	ASSERT_NE(NULL, ld);
	for (i = 0; i < ARRAY_SIZE(profiles); i++) {
		EXPECT_EQ(0, run_as(&self->s, profiles[i], NULL)) TH_LOG("%u", i);
		EXPECT_EQ(0, run_as(&self->s, profiles[i], ld)) TH_LOG("%u", i);
	}
	EXPECT_EQ(variant->how == OPEN_CACHED, !!fuse_server_count(&self->s, FUSE_READ));
}

TEST_HARNESS_MAIN
