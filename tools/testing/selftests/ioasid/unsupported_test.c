// SPDX-License-Identifier: GPL-2.0
/*
 * Machines that have no PASIDs, or cannot block DMA quietly: VT-d in legacy mode,
 * and no IOMMU at all. IOASIDs can be allocated there too. In legacy mode DMA
 * without PASID is blocked by the blocked domain, so that its faults are reported.
 * All other attaches are refused.
 *
 * Each fixture is for one machine, and fails on every other. The init script runs
 * the fixture that its job names.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "dma_test_util.h"
#include "vtd_util.h"

static int entries_of(const char *path)
{
	struct dirent *entry;
	int nr = 0;
	DIR *dir;

	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		/* The IOMMU of iommufd's own tests is no part of the machine */
		nr += entry->d_name[0] != '.' &&
		      !strstr(entry->d_name, "iommufd_selftest");
	closedir(dir);
	return nr;
}

/* Everything that needs no attachment works */
static void expect_ioasids_work(struct __test_metadata *_metadata)
{
	int fd, other;

	fd = ioasid_open();
	ASSERT_LE(0, fd);
	other = ioasid_open();
	ASSERT_LE(0, other);
	ASSERT_EQ(ID, ioasid_alloc(fd, ID, ID));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(other, ID, ID));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(fd, ID));
	EXPECT_EQ(0, attachments_of(fd, ID));
	EXPECT_EQ(0, ioasid_free(fd, ID));
	EXPECT_EQ(-ENOENT, ioasid_free(fd, ID));
	ASSERT_EQ(ID, ioasid_alloc(other, ID, ID));
	close(other);
	EXPECT_EQ(ID, ioasid_alloc(fd, ID, ID));
	EXPECT_EQ(1, active_of(fd));
	EXPECT_EQ(0, parked_of(fd));
	close(fd);
}

/* The attach is refused, and the IOASID has not changed */
static void expect_refused(struct __test_metadata *_metadata, const struct vfio_dev *dev, int fd,
			   __u32 flags)
{
	EXPECT_EQ(-EOPNOTSUPP, vfio_attach(dev, fd, ID, flags));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(fd, ID));
	EXPECT_EQ(0, attachments_of(fd, ID));
	EXPECT_NO_HOLDER(fd, ID);
}

/* VT-d in legacy mode translates DMA by device only */

FIXTURE(legacy) {
	struct vfio_dev dev;
	void *page;
	struct watch watch;
	int fd;
};

FIXTURE_SETUP(legacy)
{
	__u64 value;

	ASSERT_EQ(0, vtd_register("GSTS", &value));
	ASSERT_TRUE(value & GSTS_TRANSLATES);
	ASSERT_EQ(0, vtd_register("RTADDR", &value));
	ASSERT_FALSE(value & RTADDR_SCALABLE);

	ASSERT_EQ(0, watch_begin(&self->watch));
	self->page = page_new();
	ASSERT_NE(NULL, self->page);
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
}

FIXTURE_TEARDOWN(legacy)
{
	vfio_close(&self->dev);
	close(self->fd);
	expect_clean(_metadata, &self->watch);
}

TEST_F(legacy, mode_allocates_ioasids)
{
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	expect_ioasids_work(_metadata);
}

TEST_F(legacy, mode_refuses_pasids_and_leaves_dma_alone)
{
	ASSERT_EQ(0, vfio_attach_no_ioasid(&self->dev));
	queue_fill_repeat(&self->dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	expect_refused(_metadata, &self->dev, self->fd, TAGGED);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(0, ioasid_try(ID));
	EXPECT_DMA(&self->dev, QUEUE);
}

/* The blocked domain of the IOMMU does it, which reports faults */
static void expect_blocked_by_domain(struct __test_metadata *_metadata, FIXTURE_DATA(legacy) *self)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	queue_fill_repeat(&self->dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);

	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));

	/* A reset does not give the page table back */
	EXPECT_EQ(0, vfio_reset(self->dev.device));
	queue_fill_repeat(&self->dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD_US);
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);

	queue_stop(&self->dev, QUEUE);
	EXPECT_LT(0, loud_end(&self->watch));
	EXPECT_EQ(0, vfio_detach(&self->dev, ID, FLAG_NO_PASID));
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(legacy, mode_blocks_dma_without_pasid_by_domain)
{
	expect_blocked_by_domain(_metadata, self);
}

TEST_F(legacy, mode_blocks_a_device_without_pasid_by_domain)
{
	vfio_close(&self->dev);
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NO_PASID, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	expect_refused(_metadata, &self->dev, self->fd, TAGGED);
	expect_blocked_by_domain(_metadata, self);
}

/* No IOMMU: VFIO has devices only in its unsafe mode */

#define NOIOMMU	"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
#define SLOT	"/sys/bus/pci/slots/1"
#define VFIO_PCI "/sys/bus/pci/drivers/vfio-pci"

FIXTURE(noiommu) {
	int nr_ioasids;
};

FIXTURE_SETUP(noiommu)
{
	EXPECT_EQ(0, entries_of("/sys/class/iommu"));
	ASSERT_EQ(0, entries_of("/sys/kernel/iommu_groups"));
	self->nr_ioasids = ioasid_count(NULL);
	ASSERT_LE(0, self->nr_ioasids);
}

FIXTURE_TEARDOWN(noiommu)
{
	EXPECT_EQ(self->nr_ioasids, ioasid_count(NULL));
}

TEST_F(noiommu, machine_allocates_ioasids)
{
	expect_ioasids_work(_metadata);
}

TEST_F(noiommu, machine_has_no_device_for_vfio)
{
	char bdf[BDF_SIZE];

	EXPECT_EQ(-ENODEV, machine_find(ROLE_PASID_A, bdf));
	/* /dev/vfio has the file of the container only */
	EXPECT_EQ(-ENOENT, entries_of("/dev/vfio/devices"));
	EXPECT_EQ(1, entries_of("/dev/vfio"));
}

TEST_F(noiommu, mode_of_vfio_refuses_ioasids)
{
	struct vfio_dev dev = VFIO_DEV_CLOSED;
	char address[BDF_SIZE];
	int fd;

	ASSERT_EQ(0, read_file(SLOT "/address", address, sizeof(address)));
	snprintf(dev.bdf, BDF_SIZE, "%.10s.0", address);
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(ID, ioasid_alloc(fd, ID, ID));

	ASSERT_EQ(0, write_file(NOIOMMU, "Y"));
	/* The init script has set driver_override */
	EXPECT_EQ(0, write_file("/sys/bus/pci/drivers_probe", dev.bdf));
	EXPECT_EQ(0, vfio_open_iommufd(&dev, NULL));
	/* There is no page table to make: iommufd only remembers the addresses */
	dev.hwpt = dev.ioas;
	EXPECT_EQ(0, vfio_open_device(&dev));
	expect_refused(_metadata, &dev, fd, TAGGED);
	expect_refused(_metadata, &dev, fd, FLAG_NO_PASID);
	EXPECT_EQ(0, vfio_attach_no_ioasid(&dev));
	EXPECT_EQ(0, vfio_reset(dev.device));
	EXPECT_EQ(0, ioasid_free(fd, ID));
	EXPECT_EQ(0, ioasid_try(ID));
	vfio_close(&dev);
	close(fd);

	EXPECT_EQ(0, write_file(VFIO_PCI "/unbind", dev.bdf));
	EXPECT_EQ(0, write_file(NOIOMMU, "N"));
}

TEST_HARNESS_MAIN
