// SPDX-License-Identifier: GPL-2.0
/*
 * The misc cgroup's resource "ioasid": the allocating task is charged for an IOASID
 * until it is recycled, and allocations fail at the limit.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "test_util.h"
#include "vfio_util.h"

#define ROOT	"/sys/fs/cgroup"
#define TOP	ROOT "/ioasid_test"
#define INNER	TOP "/inner"

/* The range that is allocated from has more ids */
#define IDS	16

/* A value of a flat-keyed file of the controller, or -1 */
static long long misc_get(const char *cgroup, const char *file, const char *key)
{
	char path[128], text[512], *line, *save;
	long long value;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	if (read_file(path, text, sizeof(text)))
		return -1;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[32];

		if (sscanf(line, "%31s %lld", name, &value) == 2 && !strcmp(name, key))
			return value;
	}
	return -1;
}

static long long current_of(const char *cgroup)
{
	return misc_get(cgroup, "misc.current", "ioasid");
}

static int misc_limit(const char *cgroup, const char *value)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "%s/misc.max", cgroup);
	snprintf(text, sizeof(text), "ioasid %s", value);
	return write_file(path, text);
}

/* Move the calling process to the cgroup */
static int enter(const char *cgroup)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	return write_file(path, "0");
}

/* A cgroup and its child. The process of the test is in neither. */
FIXTURE(cgroup) {
	int fd;
	int nr_ioasids;
};

FIXTURE_SETUP(cgroup)
{
	self->nr_ioasids = ioasid_count(NULL);
	ASSERT_LE(0, self->nr_ioasids);
	ASSERT_EQ(0, write_file(ROOT "/cgroup.subtree_control", "+misc"));
	/* Remove the leftovers of a test that failed */
	rmdir(INNER);
	rmdir(TOP);
	ASSERT_EQ(0, mkdir(TOP, 0755));
	ASSERT_EQ(0, write_file(TOP "/cgroup.subtree_control", "+misc"));
	ASSERT_EQ(0, mkdir(INNER, 0755));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(cgroup)
{
	close(self->fd);
	EXPECT_EQ(0, enter(ROOT));
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == self->nr_ioasids));
	EXPECT_EQ(0, current_of(TOP));
	rmdir(INNER);
	EXPECT_EQ(0, rmdir(TOP));
}

TEST_F(cgroup, capacity_is_the_id_space)
{
	EXPECT_EQ((1 << 20) - 1, misc_get(ROOT, "misc.capacity", "ioasid"));
}

TEST_F(cgroup, info_tells_that_the_cgroup_is_charged)
{
	struct ioasid_cmd_info info;

	ASSERT_EQ(0, ioasid_info(self->fd, &info));
	EXPECT_EQ(IOASID_FEATURE_CGROUP, info.out_features);
}

TEST_F(cgroup, fourth_ioasid_is_refused_at_a_limit_of_three)
{
	int i;

	ASSERT_EQ(0, misc_limit(INNER, "3"));
	ASSERT_EQ(0, enter(INNER));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(ID + i, ioasid_alloc(self->fd, ID + i, ID + i));
	EXPECT_EQ(-EBUSY, ioasid_alloc(self->fd, ID, ID + IDS));
	EXPECT_EQ(3, current_of(INNER));
	EXPECT_EQ(1, misc_get(INNER, "misc.events", "ioasid.max"));
	/* The refused allocation has not taken an id */
	EXPECT_EQ(0, ioasid_free(self->fd, ID + 1));
	EXPECT_EQ(2, current_of(INNER));
	EXPECT_EQ(ID + 1, ioasid_alloc(self->fd, ID + 1, ID + 1));
	EXPECT_EQ(3, current_of(INNER));
}

TEST_F(cgroup, another_open_does_not_give_more)
{
	int fd;

	ASSERT_EQ(0, misc_limit(INNER, "1"));
	ASSERT_EQ(0, enter(INNER));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, ioasid_alloc(fd, ID, ID + IDS));
	close(fd);
}

TEST_F(cgroup, limit_of_the_parent_counts)
{
	ASSERT_EQ(0, misc_limit(TOP, "1"));
	ASSERT_EQ(0, enter(INNER));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	EXPECT_EQ(-EBUSY, ioasid_alloc(self->fd, ID, ID + IDS));
	EXPECT_EQ(1, current_of(TOP));
}

TEST_F(cgroup, parked_ioasid_is_charged_until_recycled)
{
	struct vfio_dev dev;
	int i;

	ASSERT_EQ(0, misc_limit(INNER, "3"));
	ASSERT_EQ(0, enter(INNER));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(ID + i, ioasid_alloc(self->fd, ID + i, ID + i));
	ASSERT_EQ(0, vfio_open(&dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(0, vfio_attach(&dev, self->fd, ID, 0));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	/* iommufd still holds it */
	EXPECT_EQ(3, current_of(INNER));
	EXPECT_EQ(-EBUSY, ioasid_alloc(self->fd, ID, ID + IDS));
	/* The last close recycles the two IOASIDs that nobody holds */
	ASSERT_EQ(0, close(self->fd));
	EXPECT_EQ(1, current_of(INNER));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	vfio_close(&dev);
	EXPECT_EQ(0, current_of(INNER));
	EXPECT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
}

TEST_F(cgroup, allocating_task_is_charged_not_the_opener)
{
	pid_t child;

	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		if (enter(INNER))
			_exit(1);
		_exit(ioasid_alloc(self->fd, ID, ID) == ID ? 0 : 2);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(1, current_of(INNER));
	/* The parent is not in the cgroup */
	EXPECT_EQ(ID + 1, ioasid_alloc(self->fd, ID + 1, ID + 1));
	EXPECT_EQ(1, current_of(INNER));
	/* and can free the IOASID that the child is charged for */
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(0, current_of(INNER));
}

TEST_F(cgroup, charge_stays_when_the_task_leaves)
{
	ASSERT_EQ(0, enter(INNER));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, enter(ROOT));
	EXPECT_EQ(1, current_of(INNER));
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(0, current_of(INNER));
}

TEST_F(cgroup, charge_lives_as_long_as_the_passed_file)
{
	int sock[2], fd;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		fd = ioasid_open();
		if (enter(INNER) || ioasid_alloc(fd, ID, ID) != ID)
			_exit(1);
		send_fds(sock[1], &fd, 1);
		pause();
	}
	/* If the child fails, reads find the end of file */
	close(sock[1]);
	ASSERT_EQ(0, recv_fds(sock[0], &fd, 1));
	kill_and_reap(child);
	EXPECT_EQ(1, current_of(INNER));
	close(fd);
	EXPECT_EQ(0, current_of(INNER));
	close(sock[0]);
}

TEST_F(cgroup, removed_cgroup_leaves_the_charge_to_the_parent)
{
	pid_t child;

	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		if (enter(INNER))
			_exit(1);
		_exit(ioasid_alloc(self->fd, ID, ID) == ID ? 0 : 2);
	}
	ASSERT_EQ(0, reap(child));
	ASSERT_EQ(0, rmdir(INNER));
	EXPECT_EQ(1, current_of(TOP));
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(0, current_of(TOP));
}

TEST_HARNESS_MAIN
