// SPDX-License-Identifier: GPL-2.0
/*
 * What an administrator can observe of IOASIDs: fdinfo, debugfs with the names of
 * the holders, VT-d's debugfs, tracepoints.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "test_util.h"
#include "vfio_util.h"

#define TRACE	"/sys/kernel/tracing/instances/ioasid_test"
#define SETS	IOASID_DEBUGFS "/sets"
#define VTD	"/sys/kernel/debug/iommu/intel/"

FIXTURE(observe) {
	struct vfio_dev dev;
	int fd;
	int nr_ioasids;
};

FIXTURE_SETUP(observe)
{
	self->dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	self->nr_ioasids = ioasid_count(NULL);
	ASSERT_LE(0, self->nr_ioasids);
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(observe)
{
	close(self->fd);
	vfio_close(&self->dev);
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == self->nr_ioasids));
}

/* A field of the file's fdinfo, or -1 */
static long long fd_field(int fd, const char *field)
{
	char path[64], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (read_file(path, text, sizeof(text)))
		return -1;
	at = strstr(text, field);
	return at && at[strlen(field)] == ':' ? strtoll(at + strlen(field) + 1, NULL, 10) : -1;
}

/* The line of a set in debugfs; false if there is none */
static bool set_line(long long set, char *line, size_t size)
{
	FILE *f = fopen(SETS, "re");
	long long id;

	if (!f)
		return false;
	while (fgets(line, size, f)) {
		if (sscanf(line, "%lld ", &id) == 1 && id == set) {
			fclose(f);
			return true;
		}
	}
	fclose(f);
	return false;
}

TEST_F(observe, fdinfo_counts_the_ioasids_of_the_file)
{
	EXPECT_LT(0, fd_field(self->fd, "ioasid-set"));
	EXPECT_EQ(param_get(PARAM_QUOTA), fd_field(self->fd, "ioasid-quota"));
	EXPECT_EQ(0, fd_field(self->fd, "ioasid-active"));

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(ID + 1, ioasid_alloc(self->fd, ID + 1, ID + 1));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, 0));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(1, fd_field(self->fd, "ioasid-active"));
	EXPECT_EQ(1, fd_field(self->fd, "ioasid-parked"));
	EXPECT_EQ(1, fd_field(self->fd, "ioasid-parks"));

	vfio_close(&self->dev);
	EXPECT_EQ(0, fd_field(self->fd, "ioasid-parked"));
	EXPECT_EQ(1, fd_field(self->fd, "ioasid-parks"));
}

TEST_F(observe, debugfs_lists_a_set_until_the_last_recycle)
{
	long long set = fd_field(self->fd, "ioasid-set");
	char line[256], want[64];

	snprintf(want, sizeof(want), "%lld open quota %d active 0 parked 0 parks 0 refs 1\n",
		 set, param_get(PARAM_QUOTA));
	ASSERT_TRUE(set_line(set, line, sizeof(line)));
	EXPECT_EQ(0, strncmp(line, want, strlen(want))) {
		TH_LOG("%s", line);
	}

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, 0));
	close(self->fd);
	self->fd = -1;
	ASSERT_TRUE(set_line(set, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " freed "));
	EXPECT_NE(NULL, strstr(line, " active 0 parked 1 parks 1 refs 1\n")) {
		TH_LOG("%s", line);
	}

	vfio_close(&self->dev);
	EXPECT_FALSE(set_line(set, line, sizeof(line)));
}

TEST_F(observe, debugfs_names_the_holder_of_a_parked_ioasid)
{
	char line[512], owner[64], holder[96];

	snprintf(owner, sizeof(owner), " held by owner (observe_test/%d)", getpid());
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	snprintf(holder, sizeof(holder), "iommufd (observe_test/%d, %s)", getpid(), self->dev.bdf);

	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, 0));
	ASSERT_EQ(0, ioasid_line(ID, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " active refs 2 attachments 1 ")) {
		TH_LOG("%s", line);
	}
	EXPECT_NE(NULL, strstr(line, owner)) {
		TH_LOG("%s", line);
	}
	EXPECT_NE(NULL, strstr(line, holder));
	EXPECT_EQ(NULL, strstr(line, " ms"));

	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, ioasid_line(ID, line, sizeof(line)));
	TH_LOG("%s", line);
	EXPECT_NE(NULL, strstr(line, " parked refs 1 attachments 1 "));
	EXPECT_NE(NULL, strstr(line, " ms held by iommufd (observe_test/"));
	EXPECT_NE(NULL, strstr(line, holder));
	EXPECT_EQ(NULL, strstr(line, "owner"));

	ASSERT_EQ(0, vfio_detach(&self->dev, ID, 0));
	EXPECT_EQ(-ENOENT, ioasid_line(ID, line, sizeof(line)));
}

TEST_F(observe, name_of_a_task_adds_no_holder_to_debugfs)
{
	char line[512];

	ASSERT_EQ(0, prctl(PR_SET_NAME, "x), sva (y\n2"));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, ioasid_line(ID, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " held by owner (x")) {
		TH_LOG("%s", line);
	}
	EXPECT_EQ(NULL, strstr(line, "), sva ("));
	/* The whole name is in the line, with the task's PID behind it */
	EXPECT_NE(NULL, strstr(line, "2/"));
}

/* The PASID table entry of ID, as VT-d's debugfs shows it; false if there is none */
static bool vtd_entry(char *line, size_t size)
{
	FILE *f = fopen(VTD "dmar_translation_struct", "re");
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, size, f))
		found = strstr(line, "\t" STR(ID) "\t");
	fclose(f);
	return found;
}

TEST_F(observe, debugfs_of_vtd_shows_a_parked_ioasid_as_blocked)
{
	char path[128], line[512], text[8192];

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	EXPECT_FALSE(vtd_entry(line, sizeof(line)));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, 0));
	ASSERT_TRUE(vtd_entry(line, sizeof(line)));
	EXPECT_EQ(NULL, strstr(line, "blocked"));
	snprintf(path, sizeof(path), VTD "%s/%x/domain_translation_struct", self->dev.bdf, ID);
	ASSERT_EQ(0, read_file(path, text, sizeof(text)));
	EXPECT_EQ(NULL, strstr(text, "blocked"));

	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_TRUE(vtd_entry(line, sizeof(line)));
	TH_LOG("%s", line);
	EXPECT_NE(NULL, strstr(line, "\tblocked\n"));
	ASSERT_EQ(0, read_file(path, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, " blocked\n"));

	/* The table goes with its last PASID, and what is quiet is not listed */
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, 0));
	EXPECT_FALSE(vtd_entry(line, sizeof(line)));
}

/* The lines of the events, in this order */
static const char *const life[] = {
	"ioasid_alloc: id=" STR(ID) " set=%lld active refs=1 attachments=0",
	"ioasid_get: id=" STR(ID) " set=%lld active",
	"ioasid_attach: id=" STR(ID) " set=%lld active dev=%s pasid=" STR(ID) " holder=iommufd",
	"ioasid_free: id=" STR(ID) " set=%lld active refs=3 attachments=1",
	"ioasid_park: id=" STR(ID) " set=%lld parked refs=3 attachments=1",
	"ioasid_put: id=" STR(ID) " set=%lld parked refs=3",
	"ioasid_put: id=" STR(ID) " set=%lld parked refs=2",
	"ioasid_detach: id=" STR(ID) " set=%lld parked dev=%s pasid=" STR(ID) " holder=iommufd",
	"ioasid_put: id=" STR(ID) " set=%lld parked refs=1 attachments=0",
	"ioasid_recycle: id=" STR(ID) " set=%lld parked refs=0 attachments=0",
};

TEST_F(observe, tracepoints_follow_the_life_of_an_ioasid)
{
	long long set = fd_field(self->fd, "ioasid-set");
	static char text[65536];
	char want[160], *at = text;
	unsigned int i;

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	rmdir(TRACE);
	ASSERT_EQ(0, mkdir(TRACE, 0700));
	/* A clock that orders events on different CPUs */
	ASSERT_EQ(0, write_file(TRACE "/trace_clock", "global"));
	ASSERT_EQ(0, write_file(TRACE "/events/ioasid/filter", "id == " STR(ID)));
	ASSERT_EQ(0, write_file(TRACE "/events/ioasid/enable", "1"));

	EXPECT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	EXPECT_EQ(0, vfio_attach(&self->dev, self->fd, ID, 0));
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(0, vfio_detach(&self->dev, ID, 0));

	EXPECT_EQ(0, write_file(TRACE "/events/ioasid/enable", "0"));
	EXPECT_EQ(0, read_file(TRACE "/trace", text, sizeof(text)));
	EXPECT_EQ(0, rmdir(TRACE));
	for (i = 0; i < ARRAY_SIZE(life); i++) {
		char *found;

		snprintf(want, sizeof(want), life[i], set, self->dev.bdf);
		found = strstr(at, want);
		ASSERT_NE(NULL, found) {
			TH_LOG("no '%s' in the rest of the trace: %s", want, at);
		}
		at = found + 1;
	}
}

TEST_HARNESS_MAIN
