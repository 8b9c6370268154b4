// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are removed or get a neighbour in their group while they are
 * attached to an IOASID: nothing is left behind, nothing that is blocked is
 * opened again, and users need not keep to an order.
 *
 * The removal of a device waits for VFIO, which waits for the user: VFIO
 * signals an eventfd, and the user closes the device at any later time. Every
 * test is quiet: a line about a DMA fault in the kernel log fails it. No test
 * asserts a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/wait.h>

#include "device_test_util.h"
#include "vtd_util.h"

/* Removal */

/*
 * Remove the device in a child that keeps none of its files. The child exits with
 * 0 when the device is gone.
 */
static int remove_begin(struct vfio_dev *dev)
{
	char bdf[BDF_SIZE];
	int child;

	memcpy(bdf, dev->bdf, BDF_SIZE);
	child = fork_child();
	if (!child) {
		vfio_close(dev);
		close_range(3, ~0U, 0);
		_exit(pci_remove(bdf) ? 1 : 0);
	}
	return child;
}

static bool still_runs(int child)
{
	return !waitpid(child, NULL, WNOHANG);
}

/*
 * The administrator removes the device while its user has it open, and rescans the
 * bus afterwards.
 */
FIXTURE(removed) {
	struct watch watch;
	struct user user;
	int remover;
	int process;
};

FIXTURE_VARIANT(removed) {
	struct state state;
};

FIXTURE_VARIANT_ADD(removed, tagged) {
	.state = { .flags = TAGGED },
};

FIXTURE_VARIANT_ADD(removed, tagged_parked) {
	.state = { .flags = TAGGED, .parked = true },
};

FIXTURE_VARIANT_ADD(removed, no_pasid) {
	.state = { .flags = FLAG_NO_PASID },
};

FIXTURE_VARIANT_ADD(removed, no_pasid_parked) {
	.state = { .flags = FLAG_NO_PASID, .parked = true },
};

FIXTURE_SETUP(removed)
{
	user_init(&self->user);
	ASSERT_NE(NULL, self->user.page);
	ASSERT_LE(0, self->user.event);
	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, machine_find(ROLE_PASID_A, self->user.dev.bdf));
}

FIXTURE_TEARDOWN(removed)
{
	if (self->process)
		kill_and_reap(self->process);
	vfio_close(&self->user.dev);
	close_set(&self->user);
	/* The remover has nothing to wait for any more */
	if (self->remover)
		reap(self->remover);
	EXPECT_EQ(0, pci_bring_back(self->user.dev.bdf));
	expect_clean(_metadata, &self->watch);
}

/* Remove the device while its user has it: this waits, and changes nothing */
static void expect_wait(struct __test_metadata *_metadata, FIXTURE_DATA(removed) *self,
			const struct state *state)
{
	self->remover = remove_begin(&self->user.dev);
	ASSERT_LT(0, self->remover);
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	expect_as_before(_metadata, &self->user, state);
	ASSERT_TRUE(still_runs(self->remover));
}

static void expect_removed(struct __test_metadata *_metadata, FIXTURE_DATA(removed) *self)
{
	EXPECT_EQ(0, reap(self->remover));
	self->remover = 0;
	EXPECT_FALSE(machine_has(self->user.dev.bdf));
}

/* The device comes back without any state, and works for another user */
static void expect_works_again(struct __test_metadata *_metadata, FIXTURE_DATA(removed) *self,
			       const struct state *state)
{
	const struct state active = { .flags = state->flags };

	vfio_close(&self->user.dev);
	close_set(&self->user);
	ASSERT_EQ(0, pci_bring_back(self->user.dev.bdf));
	start(_metadata, &self->user, &active);
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	vfio_close_device(&self->user.dev);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(removed, goes_when_the_user_closes_the_device)
{
	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	expect_released(_metadata, &self->user, &variant->state);
	expect_works_again(_metadata, self, &variant->state);
}

TEST_F(removed, goes_when_the_user_detaches_and_closes)
{
	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	queue_stop(&self->user.dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(&self->user.dev, ID, variant->state.flags));
	EXPECT_TRUE(still_runs(self->remover));
	expect_released(_metadata, &self->user, &variant->state);
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	expect_works_again(_metadata, self, &variant->state);
}

TEST_F(removed, waits_while_close_of_the_set_blocks_dma)
{
	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	close_set(&self->user);
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	EXPECT_EQ(1, ioasid_count("parked"));
	EXPECT_TRUE(still_runs(self->remover));
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	EXPECT_EQ(0, ioasid_try(ID));
	expect_works_again(_metadata, self, &variant->state);
}

TEST_F(removed, can_be_attached_to_another_ioasid_meanwhile)
{
	__u32 flags = variant->state.flags ^ FLAG_NO_PASID;

	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(0, vfio_attach(&self->user.dev, self->user.fd, OTHER_ID, flags));
	EXPECT_EQ(1, attachments_of(self->user.fd, OTHER_ID));
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	EXPECT_EQ(0, attachments_of(self->user.fd, OTHER_ID));
	expect_released(_metadata, &self->user, &variant->state);
}

TEST_F(removed, goes_when_the_user_is_killed)
{
	self->process = start_in_child(_metadata, &self->user, &variant->state);
	ASSERT_NE(0, self->process);
	self->remover = remove_begin(&self->user.dev);
	ASSERT_LT(0, self->remover);
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_TRUE(still_runs(self->remover));
	kill_and_reap(self->process);
	self->process = 0;
	expect_removed(_metadata, self);
	EXPECT_EQ(0, ioasid_try(ID));
	expect_works_again(_metadata, self, &variant->state);
}

/* Removed while nobody has it open, the device comes back with empty PASID tables */
TEST_F(removed, comes_back_without_attachments)
{
	int i;

	for (i = 0; i < 3; i++) {
		start(_metadata, &self->user, &variant->state);
		vfio_close(&self->user.dev);
		ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
		EXPECT_FALSE(machine_has(self->user.dev.bdf));
		expect_released(_metadata, &self->user, &variant->state);
		close_set(&self->user);
		ASSERT_EQ(0, pci_bring_back(self->user.dev.bdf));
	}
	expect_works_again(_metadata, self, &variant->state);
}

/* Pages of the IOMMU's tables, which no leak detector knows */
static long iommu_pages(void)
{
	static char text[16384];
	char *at;

	/* Add up the per-CPU counters */
	if (write_file("/proc/sys/vm/stat_refresh", "1") ||
	    read_file("/proc/vmstat", text, sizeof(text)))
		return -1;
	at = strstr(text, "nr_iommu_pages ");
	return at ? strtol(at + strlen("nr_iommu_pages "), NULL, 10) : -1;
}

/* The same, after RCU has freed the tables that other tests left behind */
static long iommu_pages_at_rest(void)
{
	long pages = iommu_pages(), last;

	do {
		last = pages;
		usleep(200000);
		pages = iommu_pages();
	} while (pages != last);
	return pages;
}

#define TABLES	8
#define MANY_TABLES	1024
/* PASIDs in one table */
#define ENTRIES	64

static void attach_one(struct __test_metadata *_metadata, struct user *user, __u32 id)
{
	ASSERT_EQ(id, ioasid_alloc(user->fd, id, id));
	ASSERT_EQ(0, vfio_attach(&user->dev, user->fd, id, TAGGED));
}

/*
 * With one IOASID at a time a user cannot leave a table for each 64 PASIDs behind. A
 * table is freed after a grace period of RCU.
 */
TEST_F(removed, detach_frees_tables_while_the_device_stays)
{
	long pages;
	__u32 i, id;

	start(_metadata, &self->user, &variant->state);
	pages = iommu_pages_at_rest();
	ASSERT_LT(0, pages);
	for (i = 1; i <= MANY_TABLES; i++) {
		id = ID + i * ENTRIES;
		attach_one(_metadata, &self->user, id);
		if (i == 1)
			EXPECT_EQ(pages + 1, iommu_pages());
		if (variant->state.parked)
			ASSERT_EQ(0, ioasid_free(self->user.fd, id));
		ASSERT_EQ(0, vfio_detach(&self->user.dev, id, TAGGED));
		if (!variant->state.parked)
			ASSERT_EQ(0, ioasid_free(self->user.fd, id));
	}
	EXPECT_TRUE(wait_for(iommu_pages() == pages));
	expect_as_before(_metadata, &self->user, &variant->state);
}

/* A reset takes the page tables away, and gives those back that are not blocked */
TEST_F(removed, reset_frees_no_table_of_an_attachment)
{
	const __u32 last = ID + TABLES * ENTRIES;
	long pages;
	__u32 id;

	start(_metadata, &self->user, &variant->state);
	queue_stop(&self->user.dev, QUEUE);
	pages = iommu_pages_at_rest();
	ASSERT_LT(0, pages);
	for (id = ID + ENTRIES; id <= last; id += ENTRIES)
		attach_one(_metadata, &self->user, id);
	EXPECT_EQ(pages + TABLES, iommu_pages());
	ASSERT_EQ(0, vfio_reset(self->user.dev.device));
	EXPECT_EQ(pages + TABLES, iommu_pages());
	for (id = ID + ENTRIES; id <= last; id += ENTRIES)
		ASSERT_EQ(0, ioasid_free(self->user.fd, id));
	EXPECT_EQ(pages + TABLES, iommu_pages());
	ASSERT_EQ(0, vfio_reset(self->user.dev.device));
	EXPECT_EQ(pages + TABLES, iommu_pages());
	/* The driver has the blocked domain since the reset, and hears no more of it */
	for (id = ID + ENTRIES; id <= last; id += ENTRIES)
		ASSERT_EQ(0, vfio_detach(&self->user.dev, id, TAGGED));
	EXPECT_TRUE(wait_for(iommu_pages() == pages));
}

TEST_F(removed, leaves_no_table_behind)
{
	unsigned int round, i;
	long pages;

	ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
	ASSERT_EQ(0, pci_bring_back(self->user.dev.bdf));
	pages = iommu_pages_at_rest();
	ASSERT_LT(0, pages);
	for (round = 0; round < 3; round++) {
		start(_metadata, &self->user, &variant->state);
		for (i = 1; i <= TABLES; i++)
			attach_one(_metadata, &self->user, ID + i * ENTRIES);
		EXPECT_LE(pages + TABLES, iommu_pages());
		vfio_close(&self->user.dev);
		ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
		close_set(&self->user);
		ASSERT_EQ(0, pci_bring_back(self->user.dev.bdf));
		EXPECT_TRUE(wait_for(iommu_pages() == pages)) {
			TH_LOG("after round %u", round);
		}
	}
}

/*
 * A group has one device, whose DMA is under an IOASID, and gets a peer: another
 * function of the same device. New attachments under IOASIDs are refused from
 * then on. The attachments that exist end as before.
 */
FIXTURE(peer) {
	struct watch watch;
	struct user user;
	char other[BDF_SIZE];
};

FIXTURE_VARIANT(peer) {
	struct state state;
};

FIXTURE_VARIANT_ADD(peer, no_pasid) {
	.state = { .flags = FLAG_NO_PASID },
};

FIXTURE_VARIANT_ADD(peer, no_pasid_parked) {
	.state = { .flags = FLAG_NO_PASID, .parked = true },
};

FIXTURE_SETUP(peer)
{
	user_init(&self->user);
	ASSERT_NE(NULL, self->user.page);
	ASSERT_LE(0, self->user.event);
	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, machine_find(ROLE_GROUP_A, self->user.dev.bdf));
	ASSERT_EQ(0, machine_find(ROLE_GROUP_B, self->other));
	ASSERT_EQ(0, pci_remove(self->other));
	start(_metadata, &self->user, &variant->state);
}

FIXTURE_TEARDOWN(peer)
{
	vfio_close(&self->user.dev);
	close_set(&self->user);
	EXPECT_EQ(0, pci_bring_back(self->other));
	EXPECT_EQ(0, pci_bring_back(self->user.dev.bdf));
	expect_clean(_metadata, &self->watch);
}

/* The peer comes without a driver, so that the group still belongs to the user */
static void add_peer(struct __test_metadata *_metadata, FIXTURE_DATA(peer) *self)
{
	ASSERT_EQ(0, write_file("/sys/bus/pci/rescan", "1"));
	ASSERT_TRUE(machine_has(self->other));
}

TEST_F(peer, arrival_changes_nothing_for_the_first_device)
{
	add_peer(_metadata, self);
	expect_as_before(_metadata, &self->user, &variant->state);
	if (!variant->state.parked) {
		EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
		EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	}
	vfio_close_device(&self->user.dev);
	EXPECT_EQ(0, ioasid_try(ID));
}

/* Nothing has reset the peer so far: a reset would block its DMA as well */
TEST_F(peer, arrival_in_a_blocked_group_is_blocked)
{
	const __u64 *entry;

	add_peer(_metadata, self);
	entry = vtd_map_entry(self->other, 0);
	ASSERT_NE(NULL, entry);
	EXPECT_EQ(variant->state.parked ? ENTRY_FPD : ENTRY_PRESENT,
		  read_entry(entry) & (ENTRY_PRESENT | ENTRY_FPD));
	vtd_unmap_entry(entry);
}

TEST_F(peer, arrival_makes_new_attachments_under_ioasids_impossible)
{
	add_peer(_metadata, self);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(-EOPNOTSUPP,
		  vfio_attach(&self->user.dev, self->user.fd, OTHER_ID, TAGGED));
	queue_stop(&self->user.dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(&self->user.dev, ID, variant->state.flags));
	EXPECT_EQ(-EOPNOTSUPP,
		  vfio_attach(&self->user.dev, self->user.fd, OTHER_ID, FLAG_NO_PASID));
	expect_released(_metadata, &self->user, &variant->state);
}

/* Without ACS the kernel does not enable PASID: tagged DMA could not work */
TEST_F(peer, absence_makes_tagged_dma_impossible)
{
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(-EOPNOTSUPP,
		  vfio_attach(&self->user.dev, self->user.fd, OTHER_ID, TAGGED));
	add_peer(_metadata, self);
	expect_as_before(_metadata, &self->user, &variant->state);
}

/* If DMA of one device of a group is blocked, so is that of the other, also when it returns */
TEST_F(peer, dma_stays_blocked_when_the_peer_returns)
{
	struct vfio_dev other = self->user.dev;
	int i;

	add_peer(_metadata, self);
	memcpy(other.bdf, self->other, sizeof(other.bdf));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pci_bind_vfio(self->other));
		ASSERT_EQ(0, vfio_open_device(&other));
		ASSERT_EQ(0, vfio_map_bar(&other));
		fill(&other, FLAG_NO_PASID);
		if (!variant->state.parked && !i) {
			EXPECT_DMA(&other, QUEUE);
			EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
			EXPECT_NO_DMA(&other, QUEUE, self->user.page);
		} else {
			EXPECT_NO_DMA(&other, QUEUE, self->user.page);
			EXPECT_EQ(0, queue_good(&other, QUEUE));
		}
		vfio_close_device(&other);
		ASSERT_EQ(0, pci_remove(self->other));
		add_peer(_metadata, self);
	}
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	vfio_close_device(&self->user.dev);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_HARNESS_MAIN
