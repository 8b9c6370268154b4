// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are reset while they are attached to an IOASID. A reset takes all
 * page tables away from a device and gives them back at its end. DMA that is
 * blocked stays blocked and quiet: before, during and after the reset.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device_test_util.h"
#include "vtd_util.h"

static bool has_pasid_and_ats(const char *bdf)
{
	return machine_has_pasid(bdf) == 1 && machine_has_ats(bdf) == 1;
}

/* The same with translated requests: the device caches translations */
static void fill_by_ats(const struct vfio_dev *dev, __u32 flags)
{
	fill(dev, flags);
	queue_stop(dev, QUEUE);
	queue_write32(dev, QUEUE, PASID_TEST_Q_CTRL, PASID_TEST_CTRL_CLEAR);
	queue_write32(dev, QUEUE, PASID_TEST_Q_CTRL,
		      PASID_TEST_CTRL_RUN | PASID_TEST_CTRL_REPEAT | PASID_TEST_CTRL_ATS);
}

static int reset_by_function(struct vfio_dev *dev)
{
	return vfio_reset(dev->device);
}

/* A reset of the bus, on which there is no other device */
static int reset_by_bus(struct vfio_dev *dev)
{
	/* No group files are passed: the device's iommufd owns all devices of the bus */
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	return do_ioctl(dev->device, VFIO_DEVICE_PCI_HOT_RESET, &reset);
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

/* Whether the device used cached translations */
static bool used_ats(const struct vfio_dev *dev)
{
	return queue_read64(dev, QUEUE, PASID_TEST_Q_ATC_HITS) > 0;
}

TEST_F(reset, keeps_pasid_and_ats_enabled)
{
	EXPECT_TRUE(has_pasid_and_ats(self->user.dev.bdf));
	ASSERT_EQ(0, variant->reset(&self->user.dev));
	EXPECT_TRUE(has_pasid_and_ats(self->user.dev.bdf));
}

TEST_F(reset, ends_dma_until_the_next_start)
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

TEST_F(reset, keeps_dma_blocked)
{
	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	ASSERT_EQ(0, variant->reset(&self->user.dev));
	EXPECT_TRUE(has_pasid_and_ats(self->user.dev.bdf));
	variant->fill(&self->user.dev, variant->flags);
	EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	EXPECT_EQ(0, queue_good(&self->user.dev, QUEUE));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	queue_stop(&self->user.dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(&self->user.dev, ID, variant->flags));
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

/* A device that is being reset may not answer invalidations */
TEST_F(reset, and_free_at_once_block_dma)
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
 * The PASID table entry, watched from another CPU: each look at an entry that is
 * present, or that lets faults be reported, is counted. When the user has closed
 * the device, the entry for DMA without PASID is the kernel's, with a page table
 * of its own.
 */
struct poll {
	pthread_t thread;
	const __u64 *directory_entry;
	const __u64 *entry;
	__u64 table;
	unsigned long looks;
	unsigned long present;
	unsigned long reported;
	bool stop;
};

#define MANY_LOOKS	10000

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void *look(void *arg)
{
	struct poll *poll = arg;
	__u64 value;

	run_on(1);
	while (!__atomic_load_n(&poll->stop, __ATOMIC_RELAXED)) {
		value = read_either(poll->directory_entry, poll->entry);
		if (value & ENTRY_PRESENT)
			poll->present += entry_table(poll->entry) == poll->table;
		else
			poll->reported += !(value & ENTRY_FPD);
		__atomic_store_n(&poll->looks, poll->looks + 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static unsigned long looks_of(struct poll *poll)
{
	return __atomic_load_n(&poll->looks, __ATOMIC_RELAXED);
}

/* Wait until the other CPU has looked many times more */
static int look_longer(struct poll *poll)
{
	unsigned long from = looks_of(poll);

	return wait_for(looks_of(poll) - from > MANY_LOOKS) ? 0 : -ETIMEDOUT;
}

static int poll_begin(struct poll *poll, const __u64 *directory_entry,
		      const __u64 *entry, __u64 table)
{
	*poll = (struct poll) {
		.directory_entry = directory_entry, .entry = entry, .table = table,
	};
	run_on(0);
	return -pthread_create(&poll->thread, NULL, look, poll) ?: look_longer(poll);
}

static void poll_end(struct poll *poll)
{
	__atomic_store_n(&poll->stop, true, __ATOMIC_RELAXED);
	pthread_join(poll->thread, NULL);
}

/* The administrator resets the device, behind the back of its user */
static int reset_by_sysfs(struct vfio_dev *dev)
{
	char path[PCI_PATH_SIZE];

	pci_path(path, dev->bdf, "reset");
	return write_file(path, "1");
}

static int reset_by_close(struct vfio_dev *dev)
{
	vfio_close_device(dev);
	return 0;
}

FIXTURE(entry) {
	struct watch watch;
	struct user user;
	struct poll poll;
	const __u64 *directory_entry;
	const __u64 *entry;
	__u64 table;
	pthread_t thread;
};

FIXTURE_VARIANT(entry) {
	__u32 flags;
	int (*reset)(struct vfio_dev *dev);
};

FIXTURE_VARIANT_ADD(entry, tagged_by_vfio) {
	.flags = TAGGED,
	.reset = reset_by_function,
};

FIXTURE_VARIANT_ADD(entry, tagged_by_sysfs) {
	.flags = TAGGED,
	.reset = reset_by_sysfs,
};

FIXTURE_VARIANT_ADD(entry, tagged_by_hot_reset) {
	.flags = TAGGED,
	.reset = reset_by_bus,
};

FIXTURE_VARIANT_ADD(entry, tagged_by_close) {
	.flags = TAGGED,
	.reset = reset_by_close,
};

FIXTURE_VARIANT_ADD(entry, no_pasid_by_vfio) {
	.flags = FLAG_NO_PASID,
	.reset = reset_by_function,
};

FIXTURE_VARIANT_ADD(entry, no_pasid_by_sysfs) {
	.flags = FLAG_NO_PASID,
	.reset = reset_by_sysfs,
};

FIXTURE_VARIANT_ADD(entry, no_pasid_by_hot_reset) {
	.flags = FLAG_NO_PASID,
	.reset = reset_by_bus,
};

FIXTURE_VARIANT_ADD(entry, no_pasid_by_close) {
	.flags = FLAG_NO_PASID,
	.reset = reset_by_close,
};

static bool becomes_the_kernels(const FIXTURE_VARIANT(entry) *variant)
{
	return variant->flags == FLAG_NO_PASID && variant->reset == reset_by_close;
}

FIXTURE_SETUP(entry)
{
	const struct state active = { .flags = variant->flags };
	__u32 pasid;

	user_init(&self->user);
	ASSERT_NE(NULL, self->user.page);
	ASSERT_LE(0, self->user.event);
	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, machine_find(ROLE_PASID_A, self->user.dev.bdf));
	start(_metadata, &self->user, &active);
	pasid = variant->flags == TAGGED ? ID : 0;
	self->directory_entry = vtd_map_directory_entry(self->user.dev.bdf, pasid);
	ASSERT_NE(NULL, self->directory_entry);
	self->entry = vtd_map_entry(self->user.dev.bdf, pasid);
	ASSERT_NE(NULL, self->entry);
	ASSERT_EQ(ENTRY_PRESENT, read_entry(self->entry) & (ENTRY_PRESENT | ENTRY_FPD));
	self->table = entry_table(self->entry);
}

FIXTURE_TEARDOWN(entry)
{
	vtd_unmap_entry(self->entry);
	vtd_unmap_entry(self->directory_entry);
	vfio_close(&self->user.dev);
	close_set(&self->user);
	expect_clean(_metadata, &self->watch);
}

/* The device does DMA all the time, but for the end of a reset that stops it */
TEST_F(entry, of_a_parked_ioasid_stays_blocked_and_quiet)
{
	int i, nr = variant->reset == reset_by_close ? 1 : 5;

	ASSERT_EQ(0, ioasid_free(self->user.fd, ID));
	ASSERT_EQ(0, poll_begin(&self->poll, self->directory_entry, self->entry,
				self->table));
	for (i = 0; i < nr; i++) {
		EXPECT_EQ(0, variant->reset(&self->user.dev));
		EXPECT_EQ(0, look_longer(&self->poll));
		if (variant->reset == reset_by_close)
			break;
		fill(&self->user.dev, variant->flags);
		EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
	}
	poll_end(&self->poll);
	EXPECT_EQ(0, self->poll.present);
	if (!becomes_the_kernels(variant))
		EXPECT_EQ(0, self->poll.reported);
}

static void *reset_again(void *arg)
{
	const FIXTURE_VARIANT(entry) *variant = ((void **)arg)[0];
	FIXTURE_DATA(entry) *self = ((void **)arg)[1];

	return (void *)(long)variant->reset(&self->user.dev);
}

static bool is_present(FIXTURE_DATA(entry) *self)
{
	return read_either(self->directory_entry, self->entry) & ENTRY_PRESENT;
}

/*
 * A reset of the function takes the page table away at its begin, and must not give
 * it back. A hot reset leaves the entry alone.
 */
TEST_F(entry, of_an_ioasid_freed_during_a_reset_stays_blocked)
{
	void *arg[] = { (void *)variant, self };
	void *ret;
	int i;

	ASSERT_EQ(0, pthread_create(&self->thread, NULL, reset_again, arg));
	for (i = 0; i < 100 && is_present(self); i++)
		usleep(100);
	EXPECT_EQ(variant->reset == reset_by_bus, is_present(self));
	EXPECT_EQ(0, ioasid_free(self->user.fd, ID));
	EXPECT_EQ(0, poll_begin(&self->poll, self->directory_entry, self->entry,
				self->table));
	ASSERT_EQ(0, pthread_join(self->thread, &ret));
	EXPECT_EQ(NULL, ret);
	EXPECT_EQ(0, look_longer(&self->poll));
	if (variant->reset != reset_by_close) {
		fill(&self->user.dev, variant->flags);
		EXPECT_NO_DMA(&self->user.dev, QUEUE, self->user.page);
		EXPECT_EQ(0, queue_good(&self->user.dev, QUEUE));
	}
	poll_end(&self->poll);
	EXPECT_EQ(0, self->poll.present);
	if (!becomes_the_kernels(variant))
		EXPECT_EQ(0, self->poll.reported);
}

/*
 * A killed owner also has a device, whose reset takes long. The set was opened
 * before or after the device: exit releases files in the reverse order.
 */
FIXTURE(slow) {
	struct watch watch;
	struct vfio_dev dev;	/* of this process, under the owner's IOASID */
	void *page;
	int reader;
	pid_t owner;
};

FIXTURE_VARIANT(slow) {
	bool set_first;
};

FIXTURE_VARIANT_ADD(slow, set_opened_first) {
	.set_first = true,
};

FIXTURE_VARIANT_ADD(slow, set_opened_last) {
	.set_first = false,
};

FIXTURE_SETUP(slow)
{
	self->dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	self->reader = -1;
	self->page = page_new();
	ASSERT_NE(NULL, self->page);
	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NARROW, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
}

FIXTURE_TEARDOWN(slow)
{
	if (self->owner > 0)
		kill_and_reap(self->owner);
	vfio_close(&self->dev);
	close(self->reader);
	expect_clean(_metadata, &self->watch);
}

#define SLOW_RESET_MS	5000

static int own(int sock, bool set_first)
{
	struct vfio_dev dev = VFIO_DEV_CLOSED;
	int fd = -1, reader;

	if (set_first)
		fd = ioasid_open();
	if (vfio_open(&dev, ROLE_PASID_A, NULL))
		return 1;
	if (!set_first)
		fd = ioasid_open();
	if (ioasid_alloc(fd, ID, ID) != ID)
		return 2;
	__atomic_store_n((__u32 *)((char *)dev.bar + PASID_TEST_FLR_TIME), SLOW_RESET_MS,
			 __ATOMIC_SEQ_CST);
	reader = ioasid_reader(fd);
	if (send_fds(sock, &reader, 1))
		return 3;
	for (;;)
		pause();
}

TEST_F(slow, reset_at_the_death_of_an_owner_comes_after_the_block)
{
	__u64 killed;
	int sock[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	self->owner = fork_child();
	ASSERT_LE(0, self->owner);
	if (!self->owner) {
		vfio_close(&self->dev);
		_exit(own(sock[1], variant->set_first));
	}
	close(sock[1]);
	ASSERT_EQ(0, recv_fds(sock[0], &self->reader, 1));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->reader, ID, FLAG_NO_PASID));
	queue_fill_repeat(&self->dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD_US);
	ASSERT_EQ(0, queue_wait_good(&self->dev, QUEUE, NR_TRANSFERS));

	killed = device_clock(&self->dev);
	ASSERT_EQ(0, kill(self->owner, SIGKILL));
	EXPECT_TRUE(wait_for(queue_failed(&self->dev, QUEUE)));
	usleep(SLOW_RESET_MS * 1000 / 10);
	/* The owner still waits for the reset of its device */
	EXPECT_EQ(0, waitpid(self->owner, NULL, WNOHANG));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	TH_LOG("last transfer %llu us after the signal",
	       (queue_read64(&self->dev, QUEUE, PASID_TEST_Q_LAST_GOOD_TIME) - killed) / 1000);
	EXPECT_EQ(-1, reap(self->owner));
	self->owner = 0;
	TH_LOG("process gone %llu ms after the signal",
	       (device_clock(&self->dev) - killed) / 1000000);
	close(sock[0]);
}

TEST_HARNESS_MAIN
