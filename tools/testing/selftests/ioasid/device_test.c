// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that come, go and are reset while they are attached to numbers:
 * nothing is left behind, nothing is opened again, and nobody has to do things
 * in a certain order.
 *
 * What takes a device away waits for VFIO, which waits for the user: it asks by
 * an eventfd, and the user closes the device when it likes. Every test is quiet:
 * a line about a DMA fault in the kernel log fails it. No test asserts a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <linux/pci_regs.h>
#include <linux/serial.h>

#include "dma_test_util.h"

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define PATH_SIZE	128

/* Coming and going */

static int pci_path(char path[PATH_SIZE], const char *bdf, const char *file)
{
	snprintf(path, PATH_SIZE, PCI_DEVICES "/%s/%s", bdf, file);
	return access(path, F_OK) ? -errno : 0;
}

static bool is_there(const char *bdf)
{
	char path[PATH_SIZE];

	return !pci_path(path, bdf, "vendor");
}

/*
 * A device that came back has forgotten whose it was. What found it may probe it
 * at the same time: to bind it waits for the end of that, and finds it bound.
 */
static int give_to_vfio(const char *bdf)
{
	char path[PATH_SIZE];
	int ret;

	ret = pci_path(path, bdf, "driver_override") ?:
	      write_file(path, "vfio-pci") ?:
	      write_file("/sys/bus/pci/drivers/vfio-pci/bind", bdf);
	return ret == -EBUSY ? pci_path(path, bdf, "vfio-dev") : ret;
}

static int bring_back(const char *bdf)
{
	int ret = 0;

	if (!is_there(bdf))
		ret = write_file("/sys/bus/pci/rescan", "1");
	return ret ?: give_to_vfio(bdf);
}

static int pci_remove(const char *bdf)
{
	char path[PATH_SIZE];

	return pci_path(path, bdf, "remove") ?: write_file(path, "1");
}

/*
 * Remove the device, in a process of its own, which has none of the files: it
 * ends, with 0, when the device is gone.
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

/* The eventfd by which VFIO asks for the device */
static int arm_request(int device, int event)
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

static bool was_requested(int event)
{
	eventfd_t value;

	return !eventfd_read(event, &value);
}

/* Attachments, numbers, DMA */

static void fill(const struct vfio_dev *dev, __u32 flags)
{
	queue_fill_repeat(dev, QUEUE, pasid_of(flags, ID), IOVA, PATTERN, PERIOD_US);
}

/* The same with requests that the device has had translated, and caches */
static void fill_by_ats(const struct vfio_dev *dev, __u32 flags)
{
	fill(dev, flags);
	queue_stop(dev, QUEUE);
	queue_write32(dev, QUEUE, PASID_TEST_Q_CTRL, PASID_TEST_CTRL_CLEAR);
	queue_write32(dev, QUEUE, PASID_TEST_Q_CTRL,
		      PASID_TEST_CTRL_RUN | PASID_TEST_CTRL_REPEAT | PASID_TEST_CTRL_ATS);
}

/* Open the device behind @dev->bdf, and let @page be seen by it */
static int open_and_map(struct vfio_dev *dev, void *page)
{
	return vfio_open_group(dev) ?: vfio_enter_container(dev, -1) ?: vfio_open_device(dev) ?:
	       vfio_map_bar(dev) ?: vfio_map(dev->container, page, IOVA, PAGE);
}

/* What a user has, in this process or another */
struct user {
	struct vfio_dev dev;
	void *page;
	int fd;			/* /dev/ioasid, with the number ID */
	int event;		/* VFIO asks for the device */
};

/* What is the same in all tests: the number is attached, and freed if it is to be parked */
struct state {
	__u32 flags;
	bool parked;
};

static void start(struct __test_metadata *_metadata, struct user *user, const struct state *state)
{
	ASSERT_EQ(0, open_and_map(&user->dev, user->page));
	ASSERT_EQ(0, arm_request(user->dev.device, user->event));
	user->fd = ioasid_open();
	ASSERT_LE(0, user->fd);
	ASSERT_EQ(ID, ioasid_alloc(user->fd, ID, ID));
	ASSERT_EQ(0, vfio_attach(user->dev.device, user->fd, ID, state->flags));
	fill(&user->dev, state->flags);
	ASSERT_EQ(0, queue_wait_good(&user->dev, QUEUE, NR_TRANSFERS));
	if (state->parked) {
		ASSERT_EQ(0, ioasid_free(user->fd, ID));
		ASSERT_EQ(0, stays_blocked(&user->dev, QUEUE, user->page));
	}
}

static void expect_as_before(struct __test_metadata *_metadata, struct user *user,
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

/* The device is gone, and VFIO's attachment: the owner has the number, unless he freed it */
static void expect_let_go(struct __test_metadata *_metadata, struct user *user,
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

static void user_init(struct user *user)
{
	*user = (struct user) {
		.dev = VFIO_DEV_CLOSED,
		.page = page_new(),
		.fd = -1,
		.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
}

static void close_set(struct user *user)
{
	if (user->fd >= 0)
		close(user->fd);
	user->fd = -1;
}

/* A process that has it all, and does nothing until it is killed; 0: it could not begin */
static int start_elsewhere(struct __test_metadata *_metadata, struct user *user,
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

/*
 * The administrator removes the device while its user has it, and lets the bus
 * be looked at again afterwards.
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
	/* What waits has nothing to wait for any more */
	if (self->remover)
		reap(self->remover);
	EXPECT_EQ(0, bring_back(self->user.dev.bdf));
	expect_clean(_metadata, &self->watch);
}

/* Remove it as soon as @user has it, and see that this waits, and changes nothing */
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
	EXPECT_FALSE(is_there(self->user.dev.bdf));
}

/* The device comes back, and has forgotten all that was: of another user everything works */
static void expect_works_again(struct __test_metadata *_metadata, FIXTURE_DATA(removed) *self,
			       const struct state *state)
{
	const struct state active = { .flags = state->flags };

	vfio_close(&self->user.dev);
	close_set(&self->user);
	ASSERT_EQ(0, bring_back(self->user.dev.bdf));
	start(_metadata, &self->user, &active);
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	vfio_close_device(&self->user.dev);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(removed, goes_when_its_user_closes_it)
{
	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	expect_let_go(_metadata, &self->user, &variant->state);
	expect_works_again(_metadata, self, &variant->state);
}

TEST_F(removed, goes_when_its_user_detaches_and_closes_it)
{
	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	queue_stop(&self->user.dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(self->user.dev.device, ID, variant->state.flags));
	EXPECT_TRUE(still_runs(self->remover));
	expect_let_go(_metadata, &self->user, &variant->state);
	EXPECT_EQ(-ENOENT, vfio_detach(self->user.dev.device, ID, variant->state.flags));
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	expect_works_again(_metadata, self, &variant->state);
}

TEST_F(removed, waits_though_the_set_is_closed_which_blocks_dma_and_parks_the_number)
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

TEST_F(removed, can_be_attached_to_another_number_meanwhile)
{
	__u32 flags = variant->state.flags ^ FLAG_NO_PASID;

	start(_metadata, &self->user, &variant->state);
	expect_wait(_metadata, self, &variant->state);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(0, vfio_attach(self->user.dev.device, self->user.fd, OTHER_ID, flags));
	EXPECT_EQ(1, attachments_of(self->user.fd, OTHER_ID));
	vfio_close_device(&self->user.dev);
	expect_removed(_metadata, self);
	EXPECT_EQ(0, attachments_of(self->user.fd, OTHER_ID));
	expect_let_go(_metadata, &self->user, &variant->state);
}

TEST_F(removed, goes_when_its_user_is_killed)
{
	self->process = start_elsewhere(_metadata, &self->user, &variant->state);
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

/* Removed while nobody has the device open: what was in its tables is not there when it is back */
TEST_F(removed, has_forgotten_the_numbers_when_it_comes_back)
{
	int i;

	for (i = 0; i < 3; i++) {
		start(_metadata, &self->user, &variant->state);
		vfio_close(&self->user.dev);
		ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
		EXPECT_FALSE(is_there(self->user.dev.bdf));
		expect_let_go(_metadata, &self->user, &variant->state);
		close_set(&self->user);
		ASSERT_EQ(0, bring_back(self->user.dev.bdf));
	}
	expect_works_again(_metadata, self, &variant->state);
}

/* Pages of the IOMMU's tables: no detector of leaks knows them */
static long iommu_pages(void)
{
	static char text[16384];
	char *at;

	/* What the CPUs have counted for themselves */
	if (write_file("/proc/sys/vm/stat_refresh", "1") ||
	    read_file("/proc/vmstat", text, sizeof(text)))
		return -1;
	at = strstr(text, "nr_iommu_pages ");
	return at ? strtol(at + strlen("nr_iommu_pages "), NULL, 10) : -1;
}

#define TABLES	8
/* PASIDs in one table of them */
#define ENTRIES	64

TEST_F(removed, leaves_no_table_behind)
{
	unsigned int round, i;
	long pages;

	ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
	ASSERT_EQ(0, bring_back(self->user.dev.bdf));
	pages = iommu_pages();
	ASSERT_LT(0, pages);
	for (round = 0; round < 3; round++) {
		start(_metadata, &self->user, &variant->state);
		for (i = 1; i <= TABLES; i++) {
			__u32 id = ID + i * ENTRIES;

			ASSERT_EQ(id, ioasid_alloc(self->user.fd, id, id));
			ASSERT_EQ(0, vfio_attach(self->user.dev.device, self->user.fd, id, TAGGED));
		}
		EXPECT_LE(pages + TABLES, iommu_pages());
		vfio_close(&self->user.dev);
		ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
		close_set(&self->user);
		ASSERT_EQ(0, bring_back(self->user.dev.bdf));
		EXPECT_EQ(pages, iommu_pages()) {
			TH_LOG("after round %u", round);
		}
	}
}

/*
 * A group that had one device, whose DMA is under a number, and gets another
 * one: a function of the same device. New attachments are refused from then on;
 * those that there are end as ever.
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
	EXPECT_EQ(0, bring_back(self->other));
	EXPECT_EQ(0, bring_back(self->user.dev.bdf));
	expect_clean(_metadata, &self->watch);
}

/* It has no driver when it comes, so that the group stays the user's */
static void add_peer(struct __test_metadata *_metadata, FIXTURE_DATA(peer) *self)
{
	ASSERT_EQ(0, write_file("/sys/bus/pci/rescan", "1"));
	ASSERT_TRUE(is_there(self->other));
}

TEST_F(peer, that_comes_later_changes_nothing_for_the_first)
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

TEST_F(peer, that_comes_later_makes_new_attachments_impossible)
{
	add_peer(_metadata, self);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(-EOPNOTSUPP,
		  vfio_attach(self->user.dev.device, self->user.fd, OTHER_ID, TAGGED));
	EXPECT_EQ(-EOPNOTSUPP,
		  vfio_attach(self->user.dev.device, self->user.fd, OTHER_ID, FLAG_NO_PASID));
	queue_stop(&self->user.dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(self->user.dev.device, ID, variant->state.flags));
	expect_let_go(_metadata, &self->user, &variant->state);
}

/* Without ACS the kernel does not switch PASID on, and nothing could come of it */
TEST_F(peer, whose_place_is_empty_makes_tagged_dma_impossible)
{
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(-EOPNOTSUPP,
		  vfio_attach(self->user.dev.device, self->user.fd, OTHER_ID, TAGGED));
	add_peer(_metadata, self);
	expect_as_before(_metadata, &self->user, &variant->state);
}

/*
 * Where the other device is the user's as well, the first one can be removed and
 * come back while the group stays in the container. What was blocked there is so
 * until the group leaves it.
 */
TEST_F(peer, that_stays_does_not_open_the_first_one_when_that_comes_back)
{
	struct vfio_dev other = self->user.dev;

	add_peer(_metadata, self);
	ASSERT_EQ(0, give_to_vfio(self->other));
	memcpy(other.bdf, self->other, sizeof(other.bdf));
	ASSERT_EQ(0, vfio_open_device(&other));
	ASSERT_EQ(0, vfio_map_bar(&other));
	fill(&other, FLAG_NO_PASID);
	if (!variant->state.parked) {
		/* What is blocked for one must not come back through the other */
		EXPECT_DMA(&other, QUEUE);
		EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
	}
	EXPECT_NO_DMA(&other, QUEUE, self->user.page);
	vfio_close_device(&other);
	vfio_close_device(&self->user.dev);
	EXPECT_EQ(0, ioasid_try(ID));
	ASSERT_EQ(0, pci_remove(self->user.dev.bdf));
	ASSERT_EQ(0, bring_back(self->user.dev.bdf));
	ASSERT_EQ(0, vfio_open_device(&self->user.dev));
	ASSERT_EQ(0, vfio_map_bar(&self->user.dev));
	fill(&self->user.dev, FLAG_NO_PASID);
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	EXPECT_EQ(0, queue_good(&self->user.dev, QUEUE));
}

/* Resets */

/* Enable bits of PASID and ATS, as the device has them */
static int enabled_of(const char *bdf)
{
	char path[PATH_SIZE];
	unsigned int pos = PCI_CFG_SPACE_SIZE, hops = 480, found = 0;
	int fd, ret;
	__u32 header;
	__u16 ctrl;

	ret = pci_path(path, bdf, "config");
	if (ret)
		return ret;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (pos && hops-- && pread(fd, &header, 4, pos) == 4) {
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_PASID &&
		    pread(fd, &ctrl, 2, pos + PCI_PASID_CTRL) == 2 && ctrl & PCI_PASID_CTRL_ENABLE)
			found |= 1;
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_ATS &&
		    pread(fd, &ctrl, 2, pos + PCI_ATS_CTRL) == 2 && ctrl & PCI_ATS_CTRL_ENABLE)
			found |= 2;
		pos = PCI_EXT_CAP_NEXT(header);
	}
	close(fd);
	return found;
}

#define PASID_AND_ATS	3

static int reset_by_function(struct vfio_dev *dev)
{
	return vfio_reset(dev->device);
}

/* Of the whole bus, which the device has for itself */
static int reset_by_bus(struct vfio_dev *dev)
{
	char buf[sizeof(struct vfio_pci_hot_reset) + sizeof(__s32)];
	struct vfio_pci_hot_reset *reset = (struct vfio_pci_hot_reset *)buf;

	*reset = (struct vfio_pci_hot_reset) {
		.argsz = sizeof(buf),
		.count = 1,
	};
	memcpy(reset->group_fds, &dev->group, sizeof(__s32));
	return do_ioctl(dev->device, VFIO_DEVICE_PCI_HOT_RESET, reset);
}

FIXTURE(reset) {
	struct watch watch;
	struct user user;
	pthread_t thread;
};

FIXTURE_VARIANT(reset) {
	__u32 flags;
	int (*reset)(struct vfio_dev *dev);
	void (*fill)(const struct vfio_dev *dev, __u32 flags);
};

FIXTURE_VARIANT_ADD(reset, of_the_function_tagged) {
	.flags = TAGGED,
	.reset = reset_by_function,
	.fill = fill,
};

FIXTURE_VARIANT_ADD(reset, of_the_function_tagged_ats) {
	.flags = TAGGED,
	.reset = reset_by_function,
	.fill = fill_by_ats,
};

FIXTURE_VARIANT_ADD(reset, of_the_function_no_pasid_ats) {
	.flags = FLAG_NO_PASID,
	.reset = reset_by_function,
	.fill = fill_by_ats,
};

FIXTURE_VARIANT_ADD(reset, of_the_bus_tagged_ats) {
	.flags = TAGGED,
	.reset = reset_by_bus,
	.fill = fill_by_ats,
};

FIXTURE_VARIANT_ADD(reset, of_the_bus_no_pasid_ats) {
	.flags = FLAG_NO_PASID,
	.reset = reset_by_bus,
	.fill = fill_by_ats,
};

FIXTURE_SETUP(reset)
{
	const struct state active = { .flags = variant->flags };

	user_init(&self->user);
	ASSERT_NE(NULL, self->user.page);
	ASSERT_LE(0, self->user.event);
	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, machine_find(ROLE_PASID_A, self->user.dev.bdf));
	start(_metadata, &self->user, &active);
	variant->fill(&self->user.dev, variant->flags);
	ASSERT_EQ(0, queue_wait_good(&self->user.dev, QUEUE, NR_TRANSFERS));
}

FIXTURE_TEARDOWN(reset)
{
	vfio_close(&self->user.dev);
	close_set(&self->user);
	expect_clean(_metadata, &self->watch);
}

/* Whether the device used what it had cached, or was to have cached nothing */
static bool used_ats(const struct vfio_dev *dev)
{
	return queue_read64(dev, QUEUE, PASID_TEST_Q_ATC_HITS) > 0;
}

TEST_F(reset, keeps_pasid_and_ats_enabled)
{
	EXPECT_EQ(PASID_AND_ATS, enabled_of(self->user.dev.bdf));
	ASSERT_EQ(0, variant->reset(&self->user.dev));
	EXPECT_EQ(PASID_AND_ATS, enabled_of(self->user.dev.bdf));
}

TEST_F(reset, ends_dma_which_works_again_when_it_is_started)
{
	EXPECT_EQ(variant->fill == fill_by_ats, used_ats(&self->user.dev));
	ASSERT_EQ(0, variant->reset(&self->user.dev));
	EXPECT_EQ(0, queue_good(&self->user.dev, QUEUE));
	EXPECT_EQ(1, attachments_of(self->user.fd, ID));
	variant->fill(&self->user.dev, variant->flags);
	EXPECT_DMA(&self->user.dev, QUEUE);
	EXPECT_EQ(variant->fill == fill_by_ats, used_ats(&self->user.dev));
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
}

TEST_F(reset, does_not_open_what_is_blocked)
{
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	ASSERT_EQ(0, variant->reset(&self->user.dev));
	EXPECT_EQ(PASID_AND_ATS, enabled_of(self->user.dev.bdf));
	variant->fill(&self->user.dev, variant->flags);
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	EXPECT_EQ(0, queue_good(&self->user.dev, QUEUE));
	EXPECT_EQ(-ENOENT, vfio_detach(self->user.dev.device, ID, variant->flags ^ FLAG_NO_PASID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	queue_stop(&self->user.dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(self->user.dev.device, ID, variant->flags));
	EXPECT_EQ(0, ioasid_try(ID));
}

static void *reset_all_the_time(void *arg)
{
	const FIXTURE_VARIANT(reset) *variant = ((void **)arg)[0];
	struct vfio_dev *dev = ((void **)arg)[1];
	long ret = 0;
	int i;

	for (i = 0; i < 5 && !ret; i++)
		ret = variant->reset(dev);
	return (void *)ret;
}

/* Of a device that is being reset nobody can say when it answers */
TEST_F(reset, and_free_at_once_block_it)
{
	void *arg[] = { (void *)variant, &self->user.dev };
	void *ret;

	ASSERT_EQ(0, pthread_create(&self->thread, NULL, reset_all_the_time, arg));
	usleep(50000);
	EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
	ASSERT_EQ(0, pthread_join(self->thread, &ret));
	EXPECT_EQ(NULL, ret);
	variant->fill(&self->user.dev, variant->flags);
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	EXPECT_EQ(0, queue_good(&self->user.dev, QUEUE));
}

/*
 * Hot-plug through a PCI Express slot. The slot is empty at boot, and QEMU's
 * monitor is at the other end of a serial port.
 *
 * The driver of the slot takes its reset_lock both inside and outside of
 * pci_rescan_remove_lock, which lockdep rightly complains of, once, and falls
 * silent. That is not for these tests to report: they come last, without it.
 */

#define MONITOR		"/dev/ttyS2"
#define SLOT		"/sys/bus/pci/slots/6"
#define PORT		"0000:00:06.0"
/* The port may have sent the monitor's greeting back to it before it was made raw: end that line */
#define PLUG		"\ndevice_add pasid-test,bus=rp6,addr=0.0,id=plugged\n"
#define UNPLUG		"\ndevice_del plugged\n"

/* Polled: the console has the interrupt */
static int monitor_open(void)
{
	struct serial_struct serial;
	struct termios raw;
	int fd, i;

	/* What an open with the wrong interrupt found stays with its file */
	for (i = 0; i < 2; i++) {
		fd = open(MONITOR, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (ioctl(fd, TIOCGSERIAL, &serial))
			break;
		if (!serial.irq)
			break;
		serial.irq = 0;
		ioctl(fd, TIOCSSERIAL, &serial);
		close(fd);
	}
	if (tcgetattr(fd, &raw)) {
		close(fd);
		return -EIO;
	}
	/* What it answers is not to be sent back to it */
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
	return fd;
}

static int monitor(const char *command)
{
	ssize_t nr;
	int fd;

	fd = monitor_open();
	if (fd < 0)
		return fd;
	nr = write(fd, command, strlen(command));
	tcdrain(fd);
	close(fd);
	return nr == (ssize_t)strlen(command) ? 0 : -EIO;
}

/* The device in the slot, or would be */
static int slot_bdf(char bdf[BDF_SIZE])
{
	char address[BDF_SIZE];
	int ret;

	ret = read_file(SLOT "/address", address, sizeof(address));
	if (ret)
		return ret;
	snprintf(bdf, BDF_SIZE, "%.10s.0", address);
	return 0;
}

static int plug(const char *bdf)
{
	int ret = monitor(PLUG);

	if (ret)
		return ret;
	return wait_for(is_there(bdf) && !give_to_vfio(bdf)) ? 0 : -ETIMEDOUT;
}

/* A capability's offset in the configuration space of @fd, or 0 */
static unsigned int pci_cap(int fd, __u8 id)
{
	__u8 pos, cap[2];
	int hops = 48;

	if (pread(fd, &pos, 1, PCI_CAPABILITY_LIST) != 1)
		return 0;
	while (pos && hops--) {
		if (pread(fd, cap, 2, pos) != 2)
			return 0;
		if (cap[0] == id)
			return pos;
		pos = cap[1];
	}
	return 0;
}

#define POWERED_OFF	(PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF)

/* Slot Control of the port, and where it is in the port's configuration space */
static int port_open(__u16 *ctrl, unsigned int *pos)
{
	int fd = open(PCI_DEVICES "/" PORT "/config", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*pos = pci_cap(fd, PCI_CAP_ID_EXP) + PCI_EXP_SLTCTL;
	if (*pos == PCI_EXP_SLTCTL || pread(fd, ctrl, 2, *pos) != 2) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/*
 * The device is torn out: reads of it find nothing from now on, and then the
 * kernel hears of it. QEMU has no command for that, but a slot without power
 * loses its device. That the power was off the kernel is not to know.
 */
static int tear_out(void)
{
	unsigned int pos;
	__u16 on, off;
	int fd, ret = -EIO;

	fd = port_open(&on, &pos);
	if (fd < 0)
		return fd;
	off = (on & ~(PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_HPIE)) | POWERED_OFF;
	if (pwrite(fd, &off, 2, pos) == 2 && pwrite(fd, &on, 2, pos) == 2)
		ret = 0;
	close(fd);
	return ret;
}

/* The kernel is done with the device, and has switched all of the slot off: QEMU is, too */
static bool slot_is_empty(const char *bdf)
{
	unsigned int pos;
	__u16 ctrl;
	int fd;

	if (is_there(bdf))
		return false;
	fd = port_open(&ctrl, &pos);
	if (fd < 0)
		return false;
	close(fd);
	return (ctrl & (PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PIC)) == POWERED_OFF;
}

static bool is_dead(const struct vfio_dev *dev)
{
	return *(volatile __u32 *)((char *)dev->bar + PASID_TEST_ID) != PASID_TEST_ID_VALUE;
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
	ASSERT_EQ(0, plug(self->user.dev.bdf));
}

FIXTURE_TEARDOWN(slot)
{
	if (self->process)
		kill_and_reap(self->process);
	vfio_close(&self->user.dev);
	close_set(&self->user);
	if (is_there(self->user.dev.bdf)) {
		EXPECT_EQ(0, tear_out());
	}
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_clean(_metadata, &self->watch);
}

/* A new device in the slot knows nothing of the old one's numbers */
static void expect_next_works(struct __test_metadata *_metadata, FIXTURE_DATA(slot) *self,
			      const struct state *state)
{
	const struct state active = { .flags = state->flags };

	vfio_close(&self->user.dev);
	close_set(&self->user);
	ASSERT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	ASSERT_EQ(0, plug(self->user.dev.bdf));
	start(_metadata, &self->user, &active);
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
}

TEST_F(slot, device_is_let_go_of_when_it_is_to_be_pulled_out)
{
	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, monitor(UNPLUG));
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	expect_as_before(_metadata, &self->user, &variant->state);
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_let_go(_metadata, &self->user, &variant->state);
	expect_next_works(_metadata, self, &variant->state);
}

TEST_F(slot, device_that_is_torn_out_is_detached_and_freed_in_any_order)
{
	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, tear_out());
	EXPECT_TRUE(is_dead(&self->user.dev));
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	EXPECT_EQ(1, attachments_of(self->user.fd, ID));
	if (!variant->state.parked) {
		EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
	}
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(0, vfio_detach(self->user.dev.device, ID, variant->state.flags));
	EXPECT_EQ(0, ioasid_try(ID));
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_next_works(_metadata, self, &variant->state);
}

TEST_F(slot, device_that_is_torn_out_is_let_go_of_when_it_is_closed)
{
	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, tear_out());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	expect_let_go(_metadata, &self->user, &variant->state);
	expect_next_works(_metadata, self, &variant->state);
}

TEST_F(slot, device_that_is_torn_out_can_be_attached_still)
{
	__u32 flags = variant->state.flags ^ FLAG_NO_PASID;

	start(_metadata, &self->user, &variant->state);
	ASSERT_EQ(0, tear_out());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->user.fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(0, vfio_attach(self->user.dev.device, self->user.fd, OTHER_ID, flags));
	EXPECT_EQ(0, ioasid_free(self->user.fd, OTHER_ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(OTHER_ID));
	vfio_close_device(&self->user.dev);
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	expect_let_go(_metadata, &self->user, &variant->state);
}

TEST_F(slot, device_that_is_torn_out_is_let_go_of_when_its_user_is_killed)
{
	self->process = start_elsewhere(_metadata, &self->user, &variant->state);
	ASSERT_NE(0, self->process);
	ASSERT_EQ(0, tear_out());
	ASSERT_TRUE(wait_for(was_requested(self->user.event)));
	kill_and_reap(self->process);
	self->process = 0;
	EXPECT_TRUE(wait_for(slot_is_empty(self->user.dev.bdf)));
	EXPECT_EQ(0, ioasid_try(ID));
	expect_next_works(_metadata, self, &variant->state);
}

TEST_HARNESS_MAIN
