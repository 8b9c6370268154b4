// SPDX-License-Identifier: GPL-2.0
/*
 * Hot-plug of a device that is attached to an IOASID, through a PCI Express slot
 * of the emulated machine. The attachment ends when the user detaches or closes
 * the device, as ever, and the next device in the slot has none.
 *
 * VFIO asks the user by an eventfd to close a device that is unplugged. A device
 * that is torn out is asked for in the same way, but dead already. Every test is
 * quiet: a line about a DMA fault in the kernel log fails it. No test asserts a
 * time.
 *
 * The driver of the slot takes its reset_lock both inside and outside of
 * pci_rescan_remove_lock. lockdep rightly complains of that, once, and is off
 * from then on. These tests must not report that: they switch lockdep off, and
 * run last.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "device_test_util.h"
#include "qemu_util.h"

/* Reads of the device find nothing */
static bool is_dead(const struct vfio_dev *dev)
{
	const __u32 *id = (const __u32 *)((char *)dev->bar + PASID_TEST_ID);

	return __atomic_load_n(id, __ATOMIC_RELAXED) != PASID_TEST_ID_VALUE;
}

FIXTURE(slot) {
	struct watch watch;
	struct user user;
	int process;
};

FIXTURE_VARIANT(slot) {
	struct state state;
};

FIXTURE_VARIANT_ADD(slot, tagged) {
	.state = { .flags = TAGGED },
};

FIXTURE_VARIANT_ADD(slot, tagged_parked) {
	.state = { .flags = TAGGED, .parked = true },
};

FIXTURE_VARIANT_ADD(slot, no_pasid) {
	.state = { .flags = FLAG_NO_PASID },
};

FIXTURE_VARIANT_ADD(slot, no_pasid_parked) {
	.state = { .flags = FLAG_NO_PASID, .parked = true },
};

FIXTURE_SETUP(slot)
{
	int ret;

	user_init(&self->user);
	ASSERT_NE(NULL, self->user.page);
	ASSERT_LE(0, self->user.event);
	ASSERT_EQ(0, watch_begin(&self->watch));
	ret = write_file("/proc/sys/kernel/prove_locking", "0");
	ASSERT_TRUE(!ret || ret == -ENOENT);
	ASSERT_EQ(0, slot_bdf(self->user.dev.bdf));
	ASSERT_TRUE(slot_is_empty(self->user.dev.bdf));
	ASSERT_EQ(0, slot_plug(self->user.dev.bdf));
}

FIXTURE_TEARDOWN(slot)
{
	if (self->process)
		kill_and_reap(self->process);
	vfio_close(&self->user.dev);
	close_set(&self->user);
	if (machine_has(self->user.dev.bdf)) {
		EXPECT_EQ(0, slot_tear_out());
	}
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_clean(_metadata, &self->watch);
}

/* The next device in the slot has no attachment of the last one */
static void expect_next_works(struct __test_metadata *_metadata, FIXTURE_DATA(slot) *self,
			      const struct state *state)
{
	const struct state active = { .flags = state->flags };

	vfio_close(&self->user.dev);
	close_set(&self->user);
	ASSERT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	ASSERT_EQ(0, slot_plug(self->user.dev.bdf));
	start(_metadata, &self->user, &active);
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
}

TEST_F(slot, unplugged_device_is_released_by_close)
{
	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, slot_unplug());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	expect_as_before(_metadata, &self->user, &variant->state);
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_released(_metadata, &self->user, &variant->state);
	expect_next_works(_metadata, self, &variant->state);
}

TEST_F(slot, torn_out_device_is_detached_and_freed_in_any_order)
{
	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, slot_tear_out());
	EXPECT_TRUE(is_dead(&self->user.dev));
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	EXPECT_EQ(1, attachments_of(self->user.fd, ID));
	if (!variant->state.parked) {
		EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
	}
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(0, vfio_detach(&self->user.dev, ID, variant->state.flags));
	EXPECT_EQ(0, ioasid_try(ID));
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_next_works(_metadata, self, &variant->state);
}

TEST_F(slot, torn_out_device_is_released_by_close)
{
	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, slot_tear_out());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_released(_metadata, &self->user, &variant->state);
	expect_next_works(_metadata, self, &variant->state);
}

TEST_F(slot, torn_out_device_can_still_be_attached)
{
	__u32 flags = variant->state.flags ^ FLAG_NO_PASID;

	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, slot_tear_out());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(0, vfio_attach(&self->user.dev, self->user.fd, OTHER_ID, flags));
	EXPECT_EQ(0, ioasid_free(self->user.fd, OTHER_ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(OTHER_ID));
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	expect_released(_metadata, &self->user, &variant->state);
}

TEST_F(slot, torn_out_device_is_released_by_user_death)
{
	self->process = start_in_child(_metadata, &self->user, &variant->state);
	ASSERT_NE(0, self->process);
	ASSERT_EQ(0, slot_tear_out());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	kill_and_reap(self->process);
	self->process = 0;
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	EXPECT_EQ(0, ioasid_try(ID));
	expect_next_works(_metadata, self, &variant->state);
}

TEST_HARNESS_MAIN
