/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What device_test and hotplug_test share: a user of a device that is attached
 * to an IOASID, does DMA, and is asked by VFIO to close the device.
 */
#ifndef DEVICE_TEST_UTIL_H
#define DEVICE_TEST_UTIL_H

#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "dma_test_util.h"

/* Let VFIO ask for the device by the eventfd */
static inline int arm_request(int device, int event)
{
	char buf[sizeof(struct vfio_irq_set) + sizeof(__s32)];
	struct vfio_irq_set *set = (struct vfio_irq_set *)buf;

	*set = (struct vfio_irq_set) {
		.argsz = sizeof(buf),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_REQ_IRQ_INDEX,
		.count = 1,
	};
	memcpy(set->data, &event, sizeof(__s32));
	return do_ioctl(device, VFIO_DEVICE_SET_IRQS, set);
}

static inline bool was_requested(int event)
{
	eventfd_t value;

	return !eventfd_read(event, &value);
}

/* DMA without end to the page at IOVA */
static inline void fill(const struct vfio_dev *dev, __u32 flags)
{
	queue_fill_repeat(dev, QUEUE, pasid_of(flags, ID), IOVA, PATTERN, PERIOD_US);
}

/* Open the device @dev->bdf, and map @page for it */
static inline int open_and_map(struct vfio_dev *dev, void *page)
{
	return vfio_open_iommufd(dev, NULL) ?: vfio_open_device(dev) ?: vfio_map_bar(dev) ?:
	       vfio_map(dev, page, IOVA, PAGE);
}

/* A user, in this process or in a child */
struct user {
	struct vfio_dev dev;
	void *page;
	int fd;			/* /dev/ioasid, with ID */
	int event;		/* by which VFIO asks for the device */
};

/* How the device is attached to ID, and whether ID is freed */
struct state {
	__u32 flags;
	bool parked;
};

/* Attach the device and do DMA, which is blocked at the end if ID is freed */
static inline void start(struct __test_metadata *_metadata, struct user *user,
			 const struct state *state)
{
	ASSERT_EQ(0, open_and_map(&user->dev, user->page));
	ASSERT_EQ(0, arm_request(user->dev.device, user->event));
	user->fd = ioasid_open();
	ASSERT_LE(0, user->fd);
	ASSERT_EQ(ID, ioasid_alloc(user->fd, ID, ID));
	ASSERT_EQ(0, vfio_attach(&user->dev, user->fd, ID, state->flags));
	fill(&user->dev, state->flags);
	ASSERT_EQ(0, queue_wait_good(&user->dev, QUEUE, NR_TRANSFERS));
	if (state->parked) {
		ASSERT_EQ(0, ioasid_free(user->fd, ID));
		ASSERT_EQ(0, stays_blocked(&user->dev, QUEUE, user->page));
	}
}

/* Nothing has changed since start() */
static inline void expect_as_before(struct __test_metadata *_metadata, struct user *user,
				    const struct state *state)
{
	EXPECT_EQ(1, attachments_of(user->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	if (state->parked) {
		EXPECT_NO_DMA(&user->dev, QUEUE, user->page);
	} else {
		EXPECT_DMA(&user->dev, QUEUE);
	}
}

/* VFIO's attachment is gone: only an active IOASID is left, with its owner */
static inline void expect_released(struct __test_metadata *_metadata, struct user *user,
				   const struct state *state)
{
	if (state->parked) {
		EXPECT_EQ(-ENOENT, attachments_of(user->fd, ID));
	} else {
		EXPECT_EQ(0, attachments_of(user->fd, ID));
		EXPECT_EQ(0, ioasid_free(user->fd, ID));
	}
	EXPECT_EQ(0, ioasid_try(ID));
}

static inline void user_init(struct user *user)
{
	*user = (struct user) {
		.dev = VFIO_DEV_CLOSED,
		.page = page_new(),
		.fd = -1,
		.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
}

static inline void close_set(struct user *user)
{
	if (user->fd >= 0)
		close(user->fd);
	user->fd = -1;
}

/* A child that has the device and the set until it is killed; 0: it could not start */
static inline int start_in_child(struct __test_metadata *_metadata, struct user *user,
				 const struct state *state)
{
	int pipes[2], child;

	ASSERT_EQ(0, pipe(pipes));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		start(_metadata, user, state);
		send_byte(pipes[1]);
		for (;;)
			pause();
	}
	close(pipes[1]);
	if (wait_byte(pipes[0])) {
		kill_and_reap(child);
		child = 0;
	}
	close(pipes[0]);
	return child;
}

#endif /* DEVICE_TEST_UTIL_H */
