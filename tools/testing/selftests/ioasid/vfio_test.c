// SPDX-License-Identifier: GPL-2.0
/*
 * iommufd as a holder of IOASIDs, by VFIO, with a device that really does DMA:
 * attach lets DMA reach memory, free and close of the set block DMA, and the
 * attachment holds the IOASID until the detach or the close of the device.
 *
 * Every test is quiet except between loud_begin() and loud_end(): a line about a
 * DMA fault in the kernel log fails the test. No test asserts a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/iommufd.h>

#include "dma_test_util.h"

#define OTHER_IOVA	(IOVA + 0x400000)
#define NO_IOVA		(IOVA + 0x800000)

#define OTHER_QUEUE	1

#define NEXT_PATTERN	0x2222000000000000ULL
#define OTHER_PATTERN	0x3333000000000000ULL

/*
 * No test attaches this one or its neighbours: after the detach of a parked IOASID
 * DMA stays quiet
 */
#define NEVER_ATTACHED	400000

/* Time between two transfers of a queue that must find even a short window */
#define BUSY_PERIOD_US	20

/*
 * A device with mapped memory, and a set with one IOASID. Nothing is attached yet.
 * Each test runs for DMA with a PASID and for DMA without.
 */
FIXTURE(dma) {
	struct watch watch;
	struct vfio_dev dev;
	void *page;
	int fd;
	int quota;
	/* For the tests that need more */
	struct vfio_dev other_dev;
	void *other_page;
	int other_fd;
};

FIXTURE_VARIANT(dma) {
	__u32 flags;
};

FIXTURE_VARIANT_ADD(dma, tagged) {
	.flags = TAGGED,
};

FIXTURE_VARIANT_ADD(dma, no_pasid) {
	.flags = FLAG_NO_PASID,
};

FIXTURE_SETUP(dma)
{
	self->other_dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	self->quota = param_get(PARAM_QUOTA);
	ASSERT_LE(0, self->quota);
	ASSERT_EQ(0, watch_begin(&self->watch));
	self->page = page_new();
	ASSERT_NE(NULL, self->page);
	self->other_page = page_new();
	ASSERT_NE(NULL, self->other_page);
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	ASSERT_EQ(0, vfio_map(&self->dev, self->other_page, OTHER_IOVA, PAGE));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	self->other_fd = ioasid_open();
	ASSERT_LE(0, self->other_fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
}

FIXTURE_TEARDOWN(dma)
{
	EXPECT_EQ(0, param_set(PARAM_QUOTA, self->quota));
	vfio_close(&self->dev);
	vfio_close(&self->other_dev);
	close(self->fd);
	close(self->other_fd);
	expect_clean(_metadata, &self->watch);
}

/* Attach, and do DMA without end to the page */
static void start(struct __test_metadata *_metadata, FIXTURE_DATA(dma) *self,
		  const FIXTURE_VARIANT(dma) *variant)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PATTERN,
			  PERIOD_US);
	ASSERT_EQ(0, queue_wait_good(&self->dev, QUEUE, NR_TRANSFERS));
	ASSERT_TRUE(is_filled(self->page, PATTERN));
}

/* DMA of the other kind: under OTHER_ID, or without PASID and under no IOASID */
static void start_other_kind(struct __test_metadata *_metadata, FIXTURE_DATA(dma) *self,
			     const FIXTURE_VARIANT(dma) *variant)
{
	__u32 pasid = NO_PASID;

	if (variant->flags & FLAG_NO_PASID) {
		pasid = OTHER_ID;
		ASSERT_EQ(OTHER_ID, ioasid_alloc(self->other_fd, OTHER_ID, OTHER_ID));
		ASSERT_EQ(0, vfio_attach(&self->dev, self->other_fd, OTHER_ID, TAGGED));
	} else {
		ASSERT_EQ(0, vfio_attach_no_ioasid(&self->dev));
	}
	queue_fill_repeat(&self->dev, OTHER_QUEUE, pasid, OTHER_IOVA, PATTERN, PERIOD_US);
	ASSERT_EQ(0, queue_wait_good(&self->dev, OTHER_QUEUE, NR_TRANSFERS));
}

/* Another device with the page table of the first */
static void open_other_dev(struct __test_metadata *_metadata, FIXTURE_DATA(dma) *self)
{
	ASSERT_EQ(0, vfio_open(&self->other_dev, ROLE_PASID_B, &self->dev));
}

/* Attach DMA with any PASID to any page table, under an IOASID or under none */
static int attach_under(const struct vfio_dev *dev, __u32 pasid, __u32 hwpt, int ioasid_fd,
			__u32 id)
{
	return vfio_attach_pt(dev->device, VFIO_DEVICE_ATTACH_IOASID, pasid, hwpt, ioasid_fd, id);
}

static int attach_under_none(const struct vfio_dev *dev, __u32 pasid, __u32 hwpt)
{
	return vfio_attach_pt(dev->device, 0, pasid, hwpt, -1, 0);
}

/* Attach, detach */

TEST_F(dma, attach_lets_dma_reach_memory)
{
	__u64 good;

	start(_metadata, self, variant);
	queue_stop(&self->dev, QUEUE);
	good = queue_good(&self->dev, QUEUE);
	EXPECT_EQ(PATTERN + good - 1, word_of(self->page));
	EXPECT_EQ(PATTERN + good - 1, word_of(self->page + PAGE - sizeof(__u64)));
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
}

TEST_F(dma, query_counts_attachments)
{
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, ID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
}

TEST_F(dma, free_blocks_both_kinds_of_dma_of_an_ioasid)
{
	__u32 flags = variant->flags ^ FLAG_NO_PASID;

	start(_metadata, self, variant);
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, flags));
	EXPECT_EQ(2, attachments_of(self->fd, ID));
	queue_fill_repeat(&self->dev, OTHER_QUEUE, pasid_of(flags, ID), OTHER_IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_NO_DMA(&self->dev, OTHER_QUEUE, self->other_page);
}

TEST_F(dma, second_attach_to_the_same_ioasid_changes_nothing)
{
	start(_metadata, self, variant);
	EXPECT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
	queue_stop(&self->dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
}

TEST_F(dma, attach_under_another_ioasid_is_refused)
{
	const __u32 pasid = pasid_of(variant->flags, ID);
	__u32 hwpt;

	start(_metadata, self, variant);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->other_fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(0, hwpt_new(&self->dev, self->dev.ioas, &hwpt));
	EXPECT_EQ(-EBUSY, attach_under(&self->dev, pasid, hwpt, self->other_fd, OTHER_ID));
	EXPECT_EQ(-EBUSY,
		  attach_under(&self->dev, pasid, self->dev.hwpt, self->other_fd, OTHER_ID));
	EXPECT_EQ(0, attachments_of(self->other_fd, OTHER_ID));
	EXPECT_NO_HOLDER(self->other_fd, OTHER_ID);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-EBUSY, attach_under(&self->dev, pasid, hwpt, self->other_fd, OTHER_ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

/* An attach without IOASID makes an attachment that no IOASID can take over */
TEST_F(dma, attachment_without_ioasid_stays_without)
{
	const __u32 pasid = pasid_of(variant->flags, ID);

	ASSERT_EQ(0, attach_under_none(&self->dev, pasid, self->dev.hwpt));
	queue_fill_repeat(&self->dev, QUEUE, pasid, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(-EBUSY, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
}

/* Page tables */

/* Another page table that maps @memory at IOVA */
static __u32 other_table(struct __test_metadata *_metadata, const struct vfio_dev *dev,
			 void *memory)
{
	__u32 ioas, hwpt;

	ASSERT_EQ(0, ioas_new(dev->iommufd, &ioas));
	ASSERT_EQ(0, ioas_map(dev->iommufd, ioas, memory, IOVA, PAGE));
	ASSERT_EQ(0, hwpt_new(dev, ioas, &hwpt));
	return hwpt;
}

TEST_F(dma, replace_moves_running_dma_to_another_page_table)
{
	const __u32 pasid = pasid_of(variant->flags, ID);
	__u32 hwpt = other_table(_metadata, &self->dev, self->other_page);
	int i;

	start(_metadata, self, variant);
	/* A replacement may interrupt DMA, which is reported then */
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	for (i = 0; i < 10; i++) {
		void *page = i % 2 ? self->page : self->other_page;

		/* With the IOASID or without: the DMA stays under it */
		ASSERT_EQ(0, i % 4 < 2 ?
			     attach_under(&self->dev, pasid, i % 2 ? self->dev.hwpt : hwpt,
					  self->fd, ID) :
			     attach_under_none(&self->dev, pasid, i % 2 ? self->dev.hwpt : hwpt));
		memset(page, 0, PAGE);
		EXPECT_DMA(&self->dev, QUEUE);
		EXPECT_TRUE(is_filled(page, PATTERN));
		EXPECT_EQ(1, attachments_of(self->fd, ID));
	}
	ASSERT_EQ(0, attach_under_none(&self->dev, pasid, hwpt));
	EXPECT_LE(0, loud_end(&self->watch));
	/* The page table that is not in use any more can go */
	EXPECT_EQ(0, iommufd_destroy(self->dev.iommufd, self->dev.hwpt));
	EXPECT_DMA(&self->dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->other_page);
}

TEST_F(dma, replace_under_a_parked_ioasid_is_refused)
{
	const __u32 pasid = pasid_of(variant->flags, ID);
	__u32 hwpt = other_table(_metadata, &self->dev, self->other_page);

	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ESHUTDOWN, attach_under_none(&self->dev, pasid, hwpt));
	EXPECT_EQ(-ESHUTDOWN, attach_under_none(&self->dev, pasid, self->dev.hwpt));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(0, word_of(self->other_page));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	/* The page table that was refused is not in use, that of the attachment is */
	EXPECT_EQ(0, iommufd_destroy(self->dev.iommufd, hwpt));
	EXPECT_EQ(-EBUSY, iommufd_destroy(self->dev.iommufd, self->dev.hwpt));
	EXPECT_EQ(-EBUSY, iommufd_destroy(self->dev.iommufd, self->dev.ioas));

	queue_stop(&self->dev, QUEUE);
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	EXPECT_EQ(0, iommufd_destroy(self->dev.iommufd, self->dev.hwpt));
	EXPECT_EQ(0, iommufd_destroy(self->dev.iommufd, self->dev.ioas));
}

static struct {
	const struct vfio_dev *dev;
	__u32 pasid;
	__u32 hwpts[2];
	int replaced;
	int unexpected;
} replacer;

static void *replace_until_refused(void *arg)
{
	int i, ret;

	for (i = 0;; i++) {
		ret = attach_under_none(replacer.dev, replacer.pasid, replacer.hwpts[i % 2]);
		if (ret)
			break;
		__atomic_store_n(&replacer.replaced, i + 1, __ATOMIC_RELAXED);
	}
	replacer.unexpected = ret == -ESHUTDOWN ? 0 : ret;
	return NULL;
}

TEST_F(dma, free_blocks_dma_while_page_tables_are_replaced)
{
	pthread_t thread;
	int i;

	replacer.dev = &self->dev;
	replacer.pasid = pasid_of(variant->flags, ID);
	replacer.hwpts[0] = self->dev.hwpt;
	replacer.hwpts[1] = other_table(_metadata, &self->dev, self->other_page);
	for (i = 0; i < 5; i++) {
		start(_metadata, self, variant);
		loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
		replacer.replaced = 0;
		ASSERT_EQ(0, pthread_create(&thread, NULL, replace_until_refused, NULL));
		ASSERT_TRUE(wait_for(__atomic_load_n(&replacer.replaced, __ATOMIC_RELAXED) > 3));
		ASSERT_EQ(0, ioasid_free(self->fd, ID));
		EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
		EXPECT_NO_DMA(&self->dev, QUEUE, self->other_page);
		pthread_join(thread, NULL);
		EXPECT_EQ(0, replacer.unexpected);
		/* Replacements before the free may have caused faults */
		EXPECT_LE(0, loud_end(&self->watch));
		EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
		EXPECT_QUIET(&self->watch);
		queue_stop(&self->dev, QUEUE);
		ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
		ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	}
}

TEST_F(dma, attach_works_again_after_detach)
{
	int i;

	for (i = 0; i < 5; i++) {
		start(_metadata, self, variant);
		queue_stop(&self->dev, QUEUE);
		ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	}
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(dma, detach_ends_its_own_attachment_only)
{
	EXPECT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	EXPECT_EQ(0, vfio_detach(&self->dev, 1 << 20, variant->flags));
	EXPECT_EQ(0, vfio_detach(&self->dev, ~0U, variant->flags));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	EXPECT_EQ(0, vfio_detach(&self->dev, ID, variant->flags ^ FLAG_NO_PASID));
	EXPECT_EQ(0, vfio_detach(&self->dev, OTHER_ID, TAGGED));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
}

TEST_F(dma, attach_to_an_unallocated_id_finds_nothing)
{
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, OTHER_ID, variant->flags));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, 0, variant->flags));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, 1 << 20, variant->flags));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, ~0U, variant->flags));
}

TEST_F(dma, attach_to_a_foreign_ioasid_finds_nothing)
{
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->other_fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, OTHER_ID, variant->flags));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->other_fd, ID, variant->flags));
	EXPECT_EQ(0, attachments_of(self->other_fd, OTHER_ID));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
}

TEST_F(dma, attach_refuses_an_invalid_fd)
{
	int path, closed;

	path = open(IOASID_PATH, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, path);
	closed = ioasid_open();
	ASSERT_LE(0, closed);
	ASSERT_EQ(0, close(closed));
	EXPECT_EQ(-EBADF, vfio_attach(&self->dev, path, ID, variant->flags));
	EXPECT_EQ(-EBADF, vfio_attach(&self->dev, closed, ID, variant->flags));
	EXPECT_EQ(-EBADF, vfio_attach(&self->dev, -1, ID, variant->flags));
	EXPECT_EQ(-EBADF, vfio_attach(&self->dev, -100, ID, variant->flags));
	EXPECT_EQ(-EBADF, vfio_attach(&self->dev, INT_MIN, ID, variant->flags));
	EXPECT_EQ(-EBADF, vfio_attach(&self->dev, INT_MAX, ID, variant->flags));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	close(path);
}

TEST_F(dma, attach_refuses_a_file_other_than_dev_ioasid)
{
	int pipes[2], sock[2], null, dir, memory, i;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	null = open("/dev/null", O_RDWR);
	ASSERT_LE(0, null);
	dir = open("/", O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, dir);
	memory = memfd_create("ioasid", 0);
	ASSERT_LE(0, memory);

	const int fds[] = {
		pipes[0], pipes[1], sock[0], null, dir, memory,
		self->dev.iommufd, self->dev.device, self->watch.kmsg,
	};

	for (i = 0; i < (int)ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-EBADFD, vfio_attach(&self->dev, fds[i], ID, variant->flags)) {
			TH_LOG("file %d", i);
		}
	}
	EXPECT_EQ(0, attachments_of(self->fd, ID));
}

/* A manager keeps its file, and gives a VMM the reader */
TEST_F(dma, reader_attaches_and_close_of_the_set_blocks)
{
	int reader = ioasid_reader(self->fd);

	ASSERT_LE(0, reader);
	ASSERT_EQ(0, vfio_attach(&self->dev, reader, ID, variant->flags));
	queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(-EBADF, ioasid_free(reader, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	close(self->fd);
	self->fd = ioasid_open();
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(IOASID_STATE_PARKED, state_of(reader, ID));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, reader, ID, variant->flags));
	EXPECT_QUIET(&self->watch);
	close(reader);
}

/* What ends DMA */

TEST_F(dma, free_blocks_dma_before_returning)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_QUIET(&self->watch);
}

TEST_F(dma, free_blocks_reads)
{
	*(__u64 *)self->page = PATTERN;
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	queue_read_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(PATTERN, queue_read64(&self->dev, QUEUE, PASID_TEST_Q_RESULT));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	/* A read that is not blocked would find this */
	*(__u64 *)self->page = NEXT_PATTERN;
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_NE(NEXT_PATTERN, queue_read64(&self->dev, QUEUE, PASID_TEST_Q_RESULT));
	EXPECT_QUIET(&self->watch);
}

TEST_F(dma, close_of_the_set_blocks_dma_before_returning)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, close(self->fd));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_QUIET(&self->watch);
	self->fd = -1;
}

/* The owner is another process, which attaches the device that this process opened */
TEST_F(dma, owner_death_blocks_dma)
{
	int ready[2];
	pid_t owner;

	ASSERT_EQ(0, pipe(ready));
	owner = fork_child();
	ASSERT_LE(0, owner);
	if (!owner) {
		int fd = ioasid_open();

		if (ioasid_alloc(fd, OTHER_ID, OTHER_ID) != OTHER_ID ||
		    vfio_attach(&self->dev, fd, OTHER_ID, variant->flags))
			_exit(1);
		send_byte(ready[1]);
		pause();
		_exit(0);
	}
	close(ready[1]);
	ASSERT_EQ(0, wait_byte(ready[0]));
	queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, OTHER_ID), IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	kill_and_reap(owner);
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(-ENOSPC, ioasid_try(OTHER_ID));
	EXPECT_QUIET(&self->watch);
	ASSERT_EQ(0, vfio_reset(self->dev.device));
	EXPECT_EQ(0, vfio_detach(&self->dev, OTHER_ID, variant->flags));
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	close(ready[0]);
}

TEST_F(dma, only_the_last_close_of_a_set_blocks_dma)
{
	pid_t child;

	start(_metadata, self, variant);
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		pause();
		_exit(0);
	}
	ASSERT_EQ(0, close(self->fd));
	self->fd = -1;
	EXPECT_DMA(&self->dev, QUEUE);
	kill_and_reap(child);
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

/*
 * From its first moment, a block is quiet: frequent transfers would find any window
 * in which DMA is blocked and faults are logged.
 */
TEST_F(dma, free_logs_no_fault_in_many_rounds)
{
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
		queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PATTERN,
				  BUSY_PERIOD_US);
		EXPECT_DMA(&self->dev, QUEUE);
		ASSERT_EQ(0, ioasid_free(self->fd, ID));
		EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
		queue_stop(&self->dev, QUEUE);
		ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
		EXPECT_QUIET(&self->watch);
		ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	}
}

TEST_F(dma, free_leaves_the_other_kind_of_dma_alone)
{
	__u64 failed;

	start_other_kind(_metadata, self, variant);
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
	failed = queue_failed(&self->dev, OTHER_QUEUE);
	EXPECT_EQ(0, failed);
}

TEST_F(dma, free_of_another_ioasid_leaves_dma_alone)
{
	__u32 flags = TAGGED;

	start(_metadata, self, variant);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, OTHER_ID, flags));
	queue_fill_repeat(&self->dev, OTHER_QUEUE, OTHER_ID, OTHER_IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, OTHER_ID));
	EXPECT_NO_DMA(&self->dev, OTHER_QUEUE, self->other_page);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
}

TEST_F(dma, free_leaves_another_device_with_the_page_table_alone)
{
	open_other_dev(_metadata, self);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->other_fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(0, vfio_attach(&self->other_dev, self->other_fd, OTHER_ID,
				 variant->flags));
	queue_fill_repeat(&self->other_dev, QUEUE, pasid_of(variant->flags, OTHER_ID), OTHER_IOVA,
			  PATTERN, PERIOD_US);
	EXPECT_DMA(&self->other_dev, QUEUE);
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_DMA(&self->other_dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->other_dev, QUEUE));
}

TEST_F(dma, free_blocks_all_devices_of_the_ioasid)
{
	open_other_dev(_metadata, self);
	start(_metadata, self, variant);
	ASSERT_EQ(0, vfio_attach(&self->other_dev, self->fd, ID, variant->flags));
	EXPECT_EQ(2, attachments_of(self->fd, ID));
	queue_fill_repeat(&self->other_dev, QUEUE, pasid_of(variant->flags, ID), OTHER_IOVA,
			  PATTERN, PERIOD_US);
	EXPECT_DMA(&self->other_dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_NO_DMA(&self->other_dev, QUEUE, self->other_page);

	/* Each holder releases at its own time, the last one recycles */
	vfio_close_device(&self->dev);
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_NO_DMA(&self->other_dev, QUEUE, self->other_page);
	vfio_close_device(&self->other_dev);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(dma, reset_keeps_dma_blocked)
{
	start_other_kind(_metadata, self, variant);
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	ASSERT_EQ(0, vfio_reset(self->dev.device));
	queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(0, queue_good(&self->dev, QUEUE));

	/* The device itself still works */
	queue_fill_repeat(&self->dev, OTHER_QUEUE,
			  pasid_of(variant->flags ^ FLAG_NO_PASID, OTHER_ID), OTHER_IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
}

TEST_F(dma, reset_leaves_an_active_attachment_alone)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, vfio_reset(self->dev.device));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(dma, map_and_unmap_while_parked_keep_dma_blocked)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	ASSERT_EQ(0, vfio_map(&self->dev, self->other_page, NO_IOVA, PAGE));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

/* The device has to answer invalidations of its TLB, so it must stay in D0 */
TEST_F(dma, attached_device_stays_awake)
{
	open_other_dev(_metadata, self);
	ASSERT_EQ(0, vfio_power_state(self->other_dev.device));
	ASSERT_EQ(0, vfio_set_power_state(self->other_dev.device, 3));
	ASSERT_EQ(3, vfio_power_state(self->other_dev.device));
	EXPECT_EQ(-EBUSY, vfio_attach(&self->other_dev, self->fd, ID, variant->flags));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	ASSERT_EQ(0, vfio_set_power_state(self->other_dev.device, 0));
	ASSERT_EQ(0, vfio_attach(&self->other_dev, self->fd, ID, variant->flags));

	queue_fill_repeat(&self->other_dev, QUEUE, pasid_of(variant->flags, ID), IOVA, PATTERN,
			  PERIOD_US);
	EXPECT_DMA(&self->other_dev, QUEUE);
	EXPECT_EQ(-EBUSY, vfio_set_power_state(self->other_dev.device, 3));
	EXPECT_EQ(0, vfio_power_state(self->other_dev.device));
	EXPECT_DMA(&self->other_dev, QUEUE);
	/* Also while the IOASID is parked */
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-EBUSY, vfio_set_power_state(self->other_dev.device, 3));
	EXPECT_EQ(0, vfio_power_state(self->other_dev.device));
	EXPECT_NO_DMA(&self->other_dev, QUEUE, self->page);

	queue_stop(&self->other_dev, QUEUE);
	EXPECT_EQ(0, vfio_detach(&self->other_dev, ID, variant->flags));
	EXPECT_EQ(0, vfio_set_power_state(self->other_dev.device, 3));
	EXPECT_EQ(3, vfio_power_state(self->other_dev.device));
}

TEST_F(dma, attached_device_is_not_suspended)
{
	struct vfio_dev *dev = &self->other_dev;

	open_other_dev(_metadata, self);
	ASSERT_EQ(0, vfio_low_power(dev->device, true));
	EXPECT_TRUE(wait_for(machine_is_suspended(dev->bdf)));
	/* An ioctl wakes the device, and the attachment keeps it awake */
	ASSERT_EQ(0, vfio_attach(dev, self->fd, ID, variant->flags));
	EXPECT_EQ(0, vfio_attach(dev, self->fd, ID, variant->flags));
	EXPECT_EQ(0, vfio_detach(dev, OTHER_ID, TAGGED));
	EXPECT_EQ(-EBUSY, vfio_low_power(dev->device, true));
	/* Longer than a suspend takes */
	sleep(1);
	EXPECT_FALSE(machine_is_suspended(dev->bdf));
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_FALSE(machine_is_suspended(dev->bdf));
	EXPECT_EQ(0, vfio_detach(dev, ID, variant->flags));
	EXPECT_TRUE(wait_for(machine_is_suspended(dev->bdf)));
	EXPECT_EQ(0, vfio_low_power(dev->device, false));
	EXPECT_FALSE(machine_is_suspended(dev->bdf));
}

TEST_F(dma, close_lets_an_attached_device_suspend)
{
	char bdf[BDF_SIZE];

	open_other_dev(_metadata, self);
	memcpy(bdf, self->other_dev.bdf, BDF_SIZE);
	ASSERT_EQ(0, vfio_attach(&self->other_dev, self->fd, ID, variant->flags));
	vfio_close(&self->other_dev);
	EXPECT_TRUE(wait_for(machine_is_suspended(bdf)));
}

/* Not quiet: faults under an active IOASID are for its owner to see */

TEST_F(dma, fault_of_an_active_ioasid_is_logged)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	EXPECT_QUIET(&self->watch);
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	queue_fill(&self->dev, QUEUE, pasid_of(variant->flags, ID), NO_IOVA, PATTERN);
	EXPECT_EQ(0, queue_wait_done(&self->dev, QUEUE));
	EXPECT_EQ(0, queue_good(&self->dev, QUEUE));
	EXPECT_EQ(1, queue_failed(&self->dev, QUEUE));
	EXPECT_EQ(NO_IOVA, queue_read64(&self->dev, QUEUE, PASID_TEST_Q_FIRST_FAIL_ADDR));
	EXPECT_LE(1, loud_end(&self->watch));
}

TEST_F(dma, unmap_ends_dma_before_returning)
{
	start(_metadata, self, variant);
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	queue_stop(&self->dev, QUEUE);
	EXPECT_LE(1, loud_end(&self->watch));
}

/* The life of a parked IOASID */

TEST_F(dma, parked_id_is_not_allocated)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, ID, ID));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->other_fd, ID, ID));
	EXPECT_EQ(ID + 1, ioasid_alloc(self->fd, ID, ID + 1));
}

TEST_F(dma, query_and_info_report_a_parked_ioasid)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(IOASID_STATE_PARKED, state_of(self->fd, ID));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_EQ(0, active_of(self->fd));
	EXPECT_EQ(1, parked_of(self->fd));
	EXPECT_EQ(-ENOENT, state_of(self->other_fd, ID));
}

TEST_F(dma, debugfs_lists_a_parked_ioasid_with_the_holder)
{
	char line[256], expected[256];

	start(_metadata, self, variant);
	snprintf(expected, sizeof(expected), "%u active refs 2 attachments 1 %s:%u by iommufd ", ID,
		 self->dev.bdf, variant->flags & FLAG_NO_PASID ? 0 : ID);
	ASSERT_EQ(0, ioasid_line(ID, line, sizeof(line)));
	/* observe_test looks at the rest of the line */
	EXPECT_EQ(0, strncmp(expected, line, strlen(expected))) {
		TH_LOG("%s", line);
	}
	EXPECT_EQ(0, ioasid_count("parked"));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	snprintf(expected, sizeof(expected), "%u parked refs 1 attachments 1 %s:%u by iommufd ", ID,
		 self->dev.bdf, variant->flags & FLAG_NO_PASID ? 0 : ID);
	ASSERT_EQ(0, ioasid_line(ID, line, sizeof(line)));
	/* observe_test looks at the rest of the line */
	EXPECT_EQ(0, strncmp(expected, line, strlen(expected))) {
		TH_LOG("%s", line);
	}
	EXPECT_EQ(1, ioasid_count("parked"));
	vfio_close_device(&self->dev);
	EXPECT_EQ(-ENOENT, ioasid_line(ID, line, sizeof(line)));
}

TEST_F(dma, debugfs_lists_a_parked_ioasid_of_a_closed_set)
{
	char line[256];

	start(_metadata, self, variant);
	ASSERT_EQ(0, close(self->fd));
	self->fd = -1;
	ASSERT_EQ(0, ioasid_line(ID, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " parked refs 1 attachments 1 "));
}

TEST_F(dma, free_of_a_parked_ioasid_finds_nothing)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, ID));
	EXPECT_EQ(IOASID_STATE_PARKED, state_of(self->fd, ID));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
}

TEST_F(dma, attach_to_a_parked_ioasid_finds_nothing)
{
	open_other_dev(_metadata, self);
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	EXPECT_EQ(-ENOENT,
		  vfio_attach(&self->dev, self->fd, ID, variant->flags ^ FLAG_NO_PASID));
	EXPECT_EQ(-ENOENT, vfio_attach(&self->other_dev, self->fd, ID, variant->flags));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(dma, parked_ioasid_counts_against_the_quota_until_recycled)
{
	int fd;

	ASSERT_EQ(0, param_set(PARAM_QUOTA, 1));
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, fd, OTHER_ID, variant->flags));
	ASSERT_EQ(0, ioasid_free(fd, OTHER_ID));
	EXPECT_EQ(-EDQUOT, ioasid_alloc(fd, MORE_IDS, MORE_IDS));
	ASSERT_EQ(0, vfio_detach(&self->dev, OTHER_ID, variant->flags));
	EXPECT_EQ(MORE_IDS, ioasid_alloc(fd, MORE_IDS, MORE_IDS));
	close(fd);
}

TEST_F(dma, detach_recycles_a_parked_ioasid)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	queue_stop(&self->dev, QUEUE);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	EXPECT_EQ(0, ioasid_try(ID));
	EXPECT_EQ(-ENOENT, state_of(self->fd, ID));
}

/* Interrupts by which the IOMMU tells of faults, on all CPUs, or a negative errno */
static long fault_interrupts(void)
{
	static char text[16384];
	char *line, *count;
	long sum = 0;
	int ret;

	ret = read_file("/proc/interrupts", text, sizeof(text));
	if (ret)
		return ret;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (strlen(line) > 6 && !strcmp(line + strlen(line) - 6, " dmar0"))
			break;
	if (!line)
		return -ENOENT;
	for (count = strchr(line, ':') + 1; ; count = line) {
		long n = strtol(count, &line, 10);

		if (line == count || *line != ' ')
			return sum;
		sum += n;
	}
}

#define FLOOD_S	10

/* Who has detached has not stopped the device: it goes on, as fast as it can */
TEST_F(dma, flood_after_the_detach_of_a_parked_ioasid_is_quiet)
{
	__u64 refused = 0;
	unsigned int i;
	long before;

	open_other_dev(_metadata, self);
	start(_metadata, self, variant);
	for (i = 1; i < PASID_TEST_NR_QUEUES; i++)
		queue_fill_repeat(&self->dev, i, pasid_of(variant->flags, ID), IOVA, PATTERN,
				  BUSY_PERIOD_US);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, variant->flags));
	EXPECT_EQ(0, ioasid_try(ID));

	before = fault_interrupts();
	ASSERT_LE(0, before);
	sleep(FLOOD_S);
	EXPECT_EQ(before, fault_interrupts());
	EXPECT_QUIET(&self->watch);

	/* A fault of another device is reported meanwhile */
	loud_begin(_metadata, &self->watch, self->other_dev.bdf, NULL);
	queue_fill(&self->other_dev, QUEUE, NEVER_ATTACHED, IOVA, PATTERN);
	EXPECT_EQ(0, queue_wait_done(&self->other_dev, QUEUE));
	EXPECT_TRUE(wait_for(fault_interrupts() > before));
	EXPECT_LE(1, loud_end(&self->watch));
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		refused += queue_failed(&self->dev, i);
	TH_LOG("%llu transfers refused in the meantime", refused);
	EXPECT_LE(NR_REFUSED * PASID_TEST_NR_QUEUES, refused);
}

TEST_F(dma, close_of_the_device_recycles_a_parked_ioasid)
{
	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	/* The device still tries, quietly */
	vfio_close_device(&self->dev);
	EXPECT_EQ(0, ioasid_try(ID));
	EXPECT_EQ(-ENOENT, state_of(self->fd, ID));
	EXPECT_QUIET(&self->watch);
}

TEST_F(dma, close_of_the_device_detaches_an_active_ioasid)
{
	start(_metadata, self, variant);
	vfio_close_device(&self->dev);
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, ID));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
	EXPECT_QUIET(&self->watch);

	ASSERT_EQ(0, vfio_open_device(&self->dev));
	ASSERT_EQ(0, vfio_map_bar(&self->dev));
	start(_metadata, self, variant);
}

TEST_F(dma, mapping_of_the_bar_holds_the_ioasid)
{
	void *bar;

	start(_metadata, self, variant);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	bar = self->dev.bar;
	self->dev.bar = NULL;
	vfio_close_device(&self->dev);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	ASSERT_EQ(0, munmap(bar, PASID_TEST_BAR_SIZE));
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(dma, another_file_of_the_device_changes_no_attachment)
{
	struct vfio_dev second = self->dev;

	second.bar = NULL;
	start(_metadata, self, variant);
	/* It cannot be bound while the first one is */
	EXPECT_EQ(-EINVAL, vfio_open_device(&second));
	ASSERT_LE(0, second.device);
	EXPECT_EQ(-EINVAL, vfio_detach(&second, ID, variant->flags));
	EXPECT_EQ(-EINVAL, vfio_attach(&second, self->fd, ID, variant->flags));
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	vfio_close_device(&second);
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(1, attachments_of(self->fd, ID));
}

TEST_F(dma, only_the_last_fd_of_the_device_detaches)
{
	int device;

	start(_metadata, self, variant);
	device = dup(self->dev.device);
	ASSERT_LE(0, device);
	vfio_close_device(&self->dev);
	EXPECT_EQ(1, attachments_of(self->fd, ID));
	close(device);
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
}

TEST_F(dma, next_owner_of_an_id_reaches_only_its_own_memory)
{
	unsigned char old[PAGE];
	int i;

	start(_metadata, self, variant);
	ASSERT_EQ(0, close(self->fd));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	vfio_close(&self->dev);
	memcpy(old, self->page, PAGE);

	/* Same device, same id, same address, other memory */
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->other_page, IOVA, PAGE));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, variant->flags));
	for (i = 0; i < 5; i++) {
		queue_fill_repeat(&self->dev, QUEUE, pasid_of(variant->flags, ID), IOVA,
				  NEXT_PATTERN, PERIOD_US);
		EXPECT_DMA(&self->dev, QUEUE);
	}
	EXPECT_TRUE(is_filled(self->other_page, NEXT_PATTERN));
	EXPECT_EQ(0, memcmp(old, self->page, PAGE));
}

/* Processes */

/* An owner in another process, which passes its device on to the test */
static int owner_main(__u32 flags, void *page, int sock)
{
	struct vfio_dev dev;
	int fd;

	fd = ioasid_open();
	if (ioasid_alloc(fd, OTHER_ID, OTHER_ID) != OTHER_ID)
		return 1;
	if (vfio_open(&dev, ROLE_PASID_B, NULL) || vfio_map(&dev, page, IOVA, PAGE))
		return 2;
	if (vfio_attach(&dev, fd, OTHER_ID, flags))
		return 3;
	queue_fill_repeat(&dev, QUEUE, pasid_of(flags, OTHER_ID), IOVA, PATTERN, PERIOD_US);
	if (queue_wait_good(&dev, QUEUE, NR_TRANSFERS))
		return 4;
	if (send_fds(sock, &dev.device, 1))
		return 5;
	pause();
	return 0;
}

TEST_F(dma, passed_device_holds_the_ioasid_after_owner_death)
{
	struct vfio_dev *dev = &self->other_dev;
	int sock[2];
	pid_t owner;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	owner = fork_child();
	ASSERT_LE(0, owner);
	if (!owner)
		_exit(owner_main(variant->flags, self->other_page, sock[1]));
	close(sock[1]);
	ASSERT_EQ(0, recv_fds(sock[0], &dev->device, 1));
	ASSERT_EQ(0, vfio_map_bar(dev));
	EXPECT_DMA(dev, QUEUE);
	kill_and_reap(owner);
	EXPECT_NO_DMA(dev, QUEUE, self->other_page);
	EXPECT_TRUE(is_filled(self->other_page, PATTERN));
	EXPECT_EQ(-ENOSPC, ioasid_try(OTHER_ID));
	EXPECT_EQ(1, ioasid_count("parked"));
	vfio_close_device(dev);
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	EXPECT_EQ(0, ioasid_count("parked"));
	close(sock[0]);
}

TEST_F(dma, joint_death_of_owner_and_holder_leaves_nothing)
{
	int sock[2], i, device;
	pid_t owner;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
		owner = fork_child();
		ASSERT_LE(0, owner);
		if (!owner)
			_exit(owner_main(variant->flags, self->other_page, sock[1]));
		close(sock[1]);
		ASSERT_EQ(0, recv_fds(sock[0], &device, 1));
		close(device);
		kill_and_reap(owner);
		EXPECT_EQ(0, ioasid_try(OTHER_ID));
		close(sock[0]);
	}
}

/* Every order of closing */

enum { CLOSE_IOASID, CLOSE_DEVICE, CLOSE_IOMMUFD, NR_CLOSE };

#define NR_ORDERS 6

/* The nth permutation */
static void order_of(int nth, int order[NR_CLOSE])
{
	int left[NR_CLOSE] = { CLOSE_IOASID, CLOSE_DEVICE, CLOSE_IOMMUFD };
	int nr, i;

	for (nr = NR_CLOSE; nr; nr--) {
		i = nth % nr;
		nth /= nr;
		order[NR_CLOSE - nr] = left[i];
		left[i] = left[nr - 1];
	}
}

static void close_one(struct vfio_dev *dev, int *fd, int what)
{
	int *fds[NR_CLOSE] = {
		[CLOSE_IOASID] = fd,
		[CLOSE_IOMMUFD] = &dev->iommufd,
	};

	if (what == CLOSE_DEVICE) {
		vfio_close_device(dev);
		return;
	}
	close(*fds[what]);
	*fds[what] = -1;
}

TEST_F(dma, every_order_of_closes_ends_dma_and_leaves_nothing)
{
	struct vfio_dev *dev = &self->other_dev;
	unsigned char last[PAGE];
	int nth, i, fd, order[NR_CLOSE];
	bool ended;

	for (nth = 0; nth < NR_ORDERS; nth++) {
		order_of(nth, order);
		fd = ioasid_open();
		ASSERT_LE(0, fd);
		ASSERT_EQ(OTHER_ID, ioasid_alloc(fd, OTHER_ID, OTHER_ID));
		ASSERT_EQ(0, vfio_open(dev, ROLE_PASID_B, NULL));
		ASSERT_EQ(0, vfio_map(dev, self->page, IOVA, PAGE));
		ASSERT_EQ(0, vfio_attach(dev, fd, OTHER_ID, variant->flags));
		queue_fill_repeat(dev, QUEUE, pasid_of(variant->flags, OTHER_ID), IOVA, PATTERN,
				  PERIOD_US);
		EXPECT_DMA(dev, QUEUE);

		ended = false;
		for (i = 0; i < NR_CLOSE; i++) {
			close_one(dev, &fd, order[i]);
			if (!ended && (fd < 0 || dev->device < 0)) {
				ended = true;
				__sync_synchronize();
				memcpy(last, self->page, PAGE);
			}
			if (dev->device < 0) {
				EXPECT_EQ(fd >= 0 ? 0 : -EBADF, attachments_of(fd, OTHER_ID));
			} else if (ended) {
				EXPECT_NO_DMA(dev, QUEUE, self->page);
			} else {
				EXPECT_DMA(dev, QUEUE);
			}
			EXPECT_EQ(dev->device >= 0 || fd >= 0 ? -ENOSPC : 0, ioasid_try(OTHER_ID));
		}
		usleep(10000);
		EXPECT_EQ(0, memcmp(last, self->page, PAGE));
		EXPECT_EQ(self->watch.nr_ioasids + 1, ioasid_count(NULL));
		EXPECT_QUIET(&self->watch);
		if (_metadata->exit_code) {
			TH_LOG("in the order %d %d %d (ioasid, device, iommufd)", order[0],
			       order[1], order[2]);
			break;
		}
	}
}

/* Threads that do everything at once, while DMA of the other kind goes on */

#define RACE_THREADS	4
#define RACE_LOOPS	400
#define RACE_IDS	3

static struct {
	pthread_barrier_t start;
	const struct vfio_dev *dev;
	__u32 flags;
	int fds[RACE_THREADS];
	int attached;
	int detached;
	int freed;
	int unexpected;
	int unexpected_op;
} race;

static void race_judge(int op, int ret)
{
	switch (ret) {
	case 0:
	case MORE_IDS ... MORE_IDS + RACE_IDS - 1:
	case -ENOENT:
	case -ENOSPC:
	case -EBUSY:
	case -ESHUTDOWN:
	/* Another thread has just closed the set */
	case -EBADF:
		return;
	}
	race.unexpected_op = op;
	race.unexpected = ret;
}

static void *race_thread(void *arg)
{
	int self = (long)arg, i, op, ret;
	unsigned int seed = self + 1;
	struct ioasid_cmd_query query;

	pthread_barrier_wait(&race.start);
	for (i = 0; i < RACE_LOOPS; i++) {
		/* The set of a random thread */
		int fd = __atomic_load_n(&race.fds[rand_r(&seed) % RACE_THREADS], __ATOMIC_RELAXED);
		__u32 id = MORE_IDS + rand_r(&seed) % RACE_IDS;

		op = rand_r(&seed) % 16;
		if (op < 4) {
			ret = ioasid_alloc(fd, id, id);
		} else if (op < 8) {
			ret = vfio_attach(race.dev, fd, id, race.flags);
			if (!ret)
				__sync_fetch_and_add(&race.attached, 1);
		} else if (op < 11) {
			ret = vfio_detach(race.dev, id, race.flags);
			if (!ret)
				__sync_fetch_and_add(&race.detached, 1);
		} else if (op < 14) {
			ret = ioasid_free(fd, id);
			if (!ret)
				__sync_fetch_and_add(&race.freed, 1);
		} else if (op < 15) {
			ret = ioasid_query(fd, id, &query);
		} else {
			close(race.fds[self]);
			ret = ioasid_open();
			__atomic_store_n(&race.fds[self], ret, __ATOMIC_RELAXED);
			if (ret >= 0)
				ret = 0;
		}
		race_judge(op, ret);
	}
	return NULL;
}

TEST_F(dma, racing_threads_leave_nothing)
{
	pthread_t threads[RACE_THREADS];
	long i;

	start_other_kind(_metadata, self, variant);
	race.dev = &self->dev;
	race.flags = variant->flags;
	ASSERT_EQ(0, pthread_barrier_init(&race.start, NULL, RACE_THREADS));
	for (i = 0; i < RACE_THREADS; i++) {
		race.fds[i] = ioasid_open();
		ASSERT_LE(0, race.fds[i]);
	}
	for (i = 0; i < RACE_THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_thread, (void *)i));
	for (i = 0; i < RACE_THREADS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, race.unexpected) {
		TH_LOG("operation %d", race.unexpected_op);
	}
	TH_LOG("%d attached, %d detached, %d freed", race.attached, race.detached, race.freed);
	EXPECT_LT(0, race.attached);
	EXPECT_LT(0, race.freed);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, OTHER_QUEUE));

	for (i = 0; i < RACE_THREADS; i++)
		close(race.fds[i]);
	vfio_close_device(&self->dev);
	for (i = 0; i < RACE_IDS; i++)
		EXPECT_EQ(0, ioasid_try(MORE_IDS + i));
	EXPECT_EQ(0, ioasid_count("parked"));
}

/* DMA with PASIDs */

FIXTURE(tagged) {
	struct watch watch;
	struct vfio_dev dev;
	void *pages[PASID_TEST_NR_QUEUES];
	int fd;
};

FIXTURE_SETUP(tagged)
{
	int i;

	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
		self->pages[i] = page_new();
		ASSERT_NE(NULL, self->pages[i]);
		ASSERT_EQ(0, vfio_map(&self->dev, self->pages[i], IOVA + i * PAGE, PAGE));
	}
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(tagged)
{
	vfio_close(&self->dev);
	close(self->fd);
	expect_clean(_metadata, &self->watch);
}

/* Attach ID + @queue, and let that queue do DMA with this PASID */
static void start_queue(struct __test_metadata *_metadata, FIXTURE_DATA(tagged) *self, int queue)
{
	ASSERT_EQ(ID + queue, ioasid_alloc(self->fd, ID + queue, ID + queue));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID + queue, TAGGED));
	queue_fill_repeat(&self->dev, queue, ID + queue, IOVA + queue * PAGE, PATTERN, PERIOD_US);
	ASSERT_EQ(0, queue_wait_good(&self->dev, queue, NR_TRANSFERS));
}

TEST_F(tagged, each_queue_can_have_its_own_ioasid)
{
	int i;

	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		start_queue(_metadata, self, i);
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
		EXPECT_DMA(&self->dev, i);
		EXPECT_TRUE(is_filled(self->pages[i], PATTERN));
	}
}

TEST_F(tagged, free_leaves_ioasids_of_other_queues_alone)
{
	int freed, i;

	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		start_queue(_metadata, self, i);
	for (freed = 0; freed < PASID_TEST_NR_QUEUES; freed++) {
		ASSERT_EQ(0, ioasid_free(self->fd, ID + freed));
		for (i = 0; i <= freed; i++)
			EXPECT_NO_DMA(&self->dev, i, self->pages[i]);
		for (; i < PASID_TEST_NR_QUEUES; i++) {
			EXPECT_DMA(&self->dev, i);
			EXPECT_EQ(0, queue_failed(&self->dev, i));
		}
	}
}

TEST_F(tagged, close_of_the_set_blocks_all_its_ioasids)
{
	struct still still[PASID_TEST_NR_QUEUES];
	int i;

	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		start_queue(_metadata, self, i);
	ASSERT_EQ(0, close(self->fd));
	self->fd = -1;
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		still_take(&still[i], &self->dev, i, self->pages[i]);
	EXPECT_EQ(PASID_TEST_NR_QUEUES, ioasid_count("parked"));
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		EXPECT_EQ(0, still_check(&still[i], &self->dev, i, self->pages[i], NR_REFUSED));
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		EXPECT_EQ(-ENOSPC, ioasid_try(ID + i));
	vfio_close_device(&self->dev);
	EXPECT_EQ(0, ioasid_count("parked"));
	for (i = 0; i < PASID_TEST_NR_QUEUES; i++)
		EXPECT_EQ(0, ioasid_try(ID + i));
}

TEST_F(tagged, each_pasid_has_its_own_page_table)
{
	__u32 hwpt = other_table(_metadata, &self->dev, self->pages[1]);

	/* The same address, other memory */
	start_queue(_metadata, self, 0);
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(0, attach_under(&self->dev, OTHER_ID, hwpt, self->fd, OTHER_ID));
	queue_fill_repeat(&self->dev, 1, OTHER_ID, IOVA, OTHER_PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, 1);
	EXPECT_DMA(&self->dev, 0);
	EXPECT_TRUE(is_filled(self->pages[0], PATTERN));
	EXPECT_TRUE(is_filled(self->pages[1], OTHER_PATTERN));

	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, 0, self->pages[0]);
	EXPECT_DMA(&self->dev, 1);
	EXPECT_EQ(0, queue_failed(&self->dev, 1));
	EXPECT_TRUE(is_filled(self->pages[0], PATTERN));
}

TEST_F(tagged, pasid_need_not_be_the_id)
{
	const __u32 pasids[] = { 1, 2, OTHER_ID, (1 << 20) - 1 };
	int i;

	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	for (i = 0; i < (int)ARRAY_SIZE(pasids); i++) {
		ASSERT_EQ(0, attach_under(&self->dev, pasids[i], self->dev.hwpt, self->fd, ID));
		queue_fill_repeat(&self->dev, i, pasids[i], IOVA + i * PAGE, PATTERN, PERIOD_US);
		EXPECT_DMA(&self->dev, i);
	}
	EXPECT_EQ(i, attachments_of(self->fd, ID));
	/* The id is free as a PASID of this device */
	EXPECT_EQ(0, attach_under_none(&self->dev, ID, self->dev.hwpt));
	queue_fill_repeat(&self->dev, i, ID, IOVA + i * PAGE, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, i);

	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	for (i = 0; i < (int)ARRAY_SIZE(pasids); i++)
		EXPECT_NO_DMA(&self->dev, i, self->pages[i]);
	EXPECT_DMA(&self->dev, i);
	EXPECT_EQ(0, queue_failed(&self->dev, i));
}

/* As with two virtual machines, which choose the PASIDs of their devices themselves */
TEST_F(tagged, two_processes_have_the_same_pasid_on_two_devices)
{
	struct vfio_dev other;
	int ready[2], fd;
	void *page;
	pid_t child;

	page = page_new();
	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, pipe(ready));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		fd = ioasid_open();
		if (ioasid_alloc(fd, OTHER_ID, OTHER_ID) != OTHER_ID ||
		    vfio_open(&other, ROLE_PASID_B, NULL) || vfio_map(&other, page, IOVA, PAGE) ||
		    attach_under(&other, 1, other.hwpt, fd, OTHER_ID))
			_exit(1);
		queue_fill_repeat(&other, QUEUE, 1, IOVA, OTHER_PATTERN, PERIOD_US);
		if (queue_wait_good(&other, QUEUE, NR_TRANSFERS))
			_exit(2);
		send_byte(ready[1]);
		pause();
		_exit(0);
	}
	close(ready[1]);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, attach_under(&self->dev, 1, self->dev.hwpt, self->fd, ID));
	queue_fill_repeat(&self->dev, QUEUE, 1, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, wait_byte(ready[0]));
	EXPECT_TRUE(is_filled(self->pages[QUEUE], PATTERN));
	EXPECT_TRUE(is_filled(page, OTHER_PATTERN));

	kill_and_reap(child);
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->pages[QUEUE]);
	close(ready[0]);
}

/*
 * A table in which no PASID is attached is freed. Then its PASIDs are quiet together,
 * if a test has parked one of them. So keep the table by another PASID.
 */
TEST_F(tagged, detach_ends_dma_before_returning_and_logs_faults)
{
	start_queue(_metadata, self, QUEUE);
	ASSERT_EQ(ID + QUEUE + 1, ioasid_alloc(self->fd, ID + QUEUE + 1, ID + QUEUE + 1));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID + QUEUE + 1, TAGGED));
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, TAGGED));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->pages[QUEUE]);
	queue_stop(&self->dev, QUEUE);
	EXPECT_LE(1, loud_end(&self->watch));
}

TEST_F(tagged, detach_of_a_parked_ioasid_keeps_dma_blocked)
{
	start_queue(_metadata, self, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, TAGGED));
	/* Quiet until the next attach */
	EXPECT_NO_DMA(&self->dev, QUEUE, self->pages[QUEUE]);
	queue_stop(&self->dev, QUEUE);
	EXPECT_QUIET(&self->watch);
}

TEST_F(tagged, dma_without_an_attachment_is_refused_and_logged)
{
	ASSERT_EQ(NEVER_ATTACHED, ioasid_alloc(self->fd, NEVER_ATTACHED, NEVER_ATTACHED));
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	queue_fill(&self->dev, QUEUE, NEVER_ATTACHED, IOVA, PATTERN);
	EXPECT_EQ(0, queue_wait_done(&self->dev, QUEUE));
	EXPECT_EQ(1, queue_failed(&self->dev, QUEUE));
	EXPECT_EQ(0, word_of(self->pages[QUEUE]));
	EXPECT_LE(1, loud_end(&self->watch));
}

TEST_F(tagged, attachment_is_of_no_use_to_another_device)
{
	struct vfio_dev other;

	start_queue(_metadata, self, QUEUE);
	ASSERT_EQ(0, vfio_open(&other, ROLE_PASID_B, &self->dev));
	loud_begin(_metadata, &self->watch, other.bdf, NULL);
	queue_fill(&other, QUEUE, ID, IOVA + PAGE, PATTERN);
	EXPECT_EQ(0, queue_wait_done(&other, QUEUE));
	EXPECT_EQ(1, queue_failed(&other, QUEUE));
	EXPECT_EQ(0, word_of(self->pages[QUEUE + 1]));
	/* Quiet if a test has parked a PASID that is in the same table there */
	EXPECT_LE(0, loud_end(&self->watch));
	EXPECT_DMA(&self->dev, QUEUE);
	vfio_close(&other);
}

/* Where x86 has its interrupts, so that no DMA may be mapped there */
#define MSI_WINDOW	0xfee00000ULL

TEST_F(tagged, refused_replace_keeps_the_msi_window_reserved)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.dev_id = self->dev.id,
		.pt_id = self->dev.ioas,
	};

	ASSERT_EQ(0, vfio_attach_no_ioasid(&self->dev));
	EXPECT_EQ(-EINVAL, vfio_map(&self->dev, self->pages[0], MSI_WINDOW, PAGE));
	start_queue(_metadata, self, 0);
	/* Without IOMMU_HWPT_ALLOC_PASID: refused while the device has a PASID attached */
	ASSERT_EQ(0, do_ioctl(self->dev.iommufd, IOMMU_HWPT_ALLOC, &alloc));
	EXPECT_EQ(-EINVAL, attach_under_none(&self->dev, NO_PASID, alloc.out_hwpt_id));
	EXPECT_EQ(-EINVAL, vfio_map(&self->dev, self->pages[0], MSI_WINDOW, PAGE));
}

/* DMA without PASID */

FIXTURE(no_pasid) {
	struct watch watch;
	struct vfio_dev dev;
	void *page;
	void *other_page;
	int fd;
};

FIXTURE_SETUP(no_pasid)
{
	ASSERT_EQ(0, watch_begin(&self->watch));
	self->page = page_new();
	ASSERT_NE(NULL, self->page);
	self->other_page = page_new();
	ASSERT_NE(NULL, self->other_page);
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	ASSERT_EQ(0, vfio_map(&self->dev, self->other_page, OTHER_IOVA, PAGE));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
}

FIXTURE_TEARDOWN(no_pasid)
{
	vfio_close(&self->dev);
	close(self->fd);
	expect_clean(_metadata, &self->watch);
}

/* DMA, which is attached already */
static void start_no_pasid(struct __test_metadata *_metadata, FIXTURE_DATA(no_pasid) *self)
{
	queue_fill_repeat(&self->dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD_US);
	ASSERT_EQ(0, queue_wait_good(&self->dev, QUEUE, NR_TRANSFERS));
}

TEST_F(no_pasid, detach_of_an_active_ioasid_ends_dma_and_logs_faults)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	start_no_pasid(_metadata, self);
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, FLAG_NO_PASID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	queue_stop(&self->dev, QUEUE);
	EXPECT_LE(1, loud_end(&self->watch));
}

TEST_F(no_pasid, free_after_the_detach_leaves_dma_alone)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, FLAG_NO_PASID));
	ASSERT_EQ(0, vfio_attach_no_ioasid(&self->dev));
	start_no_pasid(_metadata, self);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	EXPECT_EQ(0, queue_failed(&self->dev, QUEUE));
}

TEST_F(no_pasid, dma_can_be_under_one_ioasid_only)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->fd, OTHER_ID, OTHER_ID));
	EXPECT_EQ(-EBUSY, vfio_attach(&self->dev, self->fd, OTHER_ID, FLAG_NO_PASID));
	EXPECT_EQ(0, attachments_of(self->fd, OTHER_ID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, FLAG_NO_PASID));
	EXPECT_EQ(0, vfio_attach(&self->dev, self->fd, OTHER_ID, FLAG_NO_PASID));

	/* Only a free of the IOASID that is attached now blocks DMA */
	start_no_pasid(_metadata, self);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_DMA(&self->dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, OTHER_ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(no_pasid, attach_over_a_parked_ioasid_is_refused)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->fd, OTHER_ID, OTHER_ID));
	start_no_pasid(_metadata, self);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-EBUSY, vfio_attach(&self->dev, self->fd, OTHER_ID, FLAG_NO_PASID));
	EXPECT_EQ(-ESHUTDOWN, vfio_attach_no_ioasid(&self->dev));
	EXPECT_EQ(0, attachments_of(self->fd, OTHER_ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

/* Park and detach: DMA stays blocked */
static void park_and_detach(struct __test_metadata *_metadata, FIXTURE_DATA(no_pasid) *self)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	start_no_pasid(_metadata, self);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, FLAG_NO_PASID));
	ASSERT_EQ(0, ioasid_try(ID));
}

TEST_F(no_pasid, detach_of_a_parked_ioasid_leaves_dma_blocked_quietly)
{
	park_and_detach(_metadata, self);
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_QUIET(&self->watch);

	/* The device itself still works, and its tagged DMA is not blocked */
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, OTHER_ID, TAGGED));
	queue_fill_repeat(&self->dev, OTHER_QUEUE, OTHER_ID, OTHER_IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(no_pasid, dma_works_again_after_the_next_attach)
{
	int i;

	for (i = 0; i < 3; i++) {
		park_and_detach(_metadata, self);
		EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
		ASSERT_EQ(0, vfio_attach_no_ioasid(&self->dev));
		start_no_pasid(_metadata, self);
		queue_stop(&self->dev, QUEUE);
		ASSERT_EQ(0, vfio_detach_pt(self->dev.device, NO_PASID));
		ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	}
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	start_no_pasid(_metadata, self);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(no_pasid, dma_works_again_after_close_while_parked)
{
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	start_no_pasid(_metadata, self);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	vfio_close_device(&self->dev);
	ASSERT_EQ(0, ioasid_try(ID));
	ASSERT_EQ(0, vfio_open_device(&self->dev));
	ASSERT_EQ(0, vfio_map_bar(&self->dev));
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	start_no_pasid(_metadata, self);
}

/* Devices without PASID, with few PASID bits, in other groups, or not bound to an iommufd */

FIXTURE(device) {
	struct watch watch;
	struct vfio_dev dev;
	void *page;
	int fd;
};

FIXTURE_SETUP(device)
{
	self->dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	ASSERT_EQ(0, watch_begin(&self->watch));
	self->page = page_new();
	ASSERT_NE(NULL, self->page);
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
}

FIXTURE_TEARDOWN(device)
{
	vfio_close(&self->dev);
	close(self->fd);
	expect_clean(_metadata, &self->watch);
}

/* Neither kind of DMA can be under an IOASID */
static void expect_refused(struct __test_metadata *_metadata, FIXTURE_DATA(device) *self,
			   int error)
{
	EXPECT_EQ(error, vfio_attach(&self->dev, self->fd, ID, TAGGED));
	EXPECT_EQ(error, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
}

TEST_F(device, without_pasid_refuses_tagged_dma)
{
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NO_PASID, NULL));
	EXPECT_EQ(-EOPNOTSUPP, vfio_attach(&self->dev, self->fd, ID, TAGGED));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);
}

TEST_F(device, without_pasid_takes_an_ioasid_for_dma_without_pasid)
{
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NO_PASID, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	queue_fill_repeat(&self->dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	vfio_close_device(&self->dev);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(device, with_few_pasid_bits_refuses_a_larger_id)
{
	__u32 bits;
	int limit;

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NARROW, NULL));
	bits = machine_pasid_bits(self->dev.bdf);
	ASSERT_LT(0, bits);
	ASSERT_GT(20, bits);
	limit = 1 << bits;
	EXPECT_EQ(-EOVERFLOW, vfio_attach(&self->dev, self->fd, ID, TAGGED));
	EXPECT_EQ(0, attachments_of(self->fd, ID));
	ASSERT_EQ(limit, ioasid_alloc(self->fd, limit, limit));
	EXPECT_EQ(-EOVERFLOW, vfio_attach(&self->dev, self->fd, limit, TAGGED));
	EXPECT_EQ(0, attachments_of(self->fd, limit));
	EXPECT_NO_HOLDER(self->fd, limit);
}

TEST_F(device, with_few_pasid_bits_takes_its_highest_id)
{
	int last;

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NARROW, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	last = (1 << machine_pasid_bits(self->dev.bdf)) - 1;
	ASSERT_EQ(last, ioasid_alloc(self->fd, last, last));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, last, TAGGED));
	queue_fill_repeat(&self->dev, QUEUE, last, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	ASSERT_EQ(0, ioasid_free(self->fd, last));
	EXPECT_NO_DMA(&self->dev, QUEUE, self->page);
}

TEST_F(device, with_few_pasid_bits_takes_any_id_for_dma_without_pasid)
{
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_NARROW, NULL));
	EXPECT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
}

TEST_F(device, takes_the_highest_id_and_the_lowest_of_users)
{
	const int last = (1 << 20) - 1;
	int first;

	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(0, vfio_map(&self->dev, self->page, IOVA, PAGE));
	ASSERT_EQ(last, ioasid_alloc(self->fd, last, last));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, last, TAGGED));
	first = param_get("/sys/module/ioasid/parameters/reserved");
	ASSERT_EQ(first, ioasid_alloc(self->fd, 1, first));
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, first, TAGGED));
	queue_fill_repeat(&self->dev, QUEUE, last, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, QUEUE);
	queue_fill_repeat(&self->dev, OTHER_QUEUE, first, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&self->dev, OTHER_QUEUE);
}

TEST_F(device, in_a_shared_group_is_refused)
{
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_GROUP_A, NULL));
	expect_refused(_metadata, self, -EOPNOTSUPP);
	vfio_close(&self->dev);
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_GROUP_B, NULL));
	expect_refused(_metadata, self, -EOPNOTSUPP);
	/* An attach without an IOASID still works */
	EXPECT_EQ(0, vfio_attach_no_ioasid(&self->dev));
}

TEST_F(device, not_bound_to_an_iommufd_is_refused)
{
	ASSERT_EQ(0, machine_find(ROLE_PASID_A, self->dev.bdf));
	self->dev.device = vfio_open_cdev(self->dev.bdf);
	ASSERT_LE(0, self->dev.device);
	expect_refused(_metadata, self, -EINVAL);
}

/* With the group in a container of type1 */
TEST_F(device, opened_by_its_group_is_refused)
{
	int group, container;

	ASSERT_EQ(0, machine_find(ROLE_PASID_A, self->dev.bdf));
	group = vfio_open_group(self->dev.bdf);
	ASSERT_LE(0, group);
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, container);
	ASSERT_EQ(0, do_ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	ASSERT_EQ(0, do_ioctl(container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU));
	self->dev.device = do_ioctl(group, VFIO_GROUP_GET_DEVICE_FD, self->dev.bdf);
	ASSERT_LE(0, self->dev.device);
	expect_refused(_metadata, self, -ENOTTY);
	close(container);
	close(group);
}

/* Malformed commands, for both kinds of DMA */

union command {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct vfio_device_attach_iommufd_pt attach;
};

struct command_files {
	struct watch watch;
	struct vfio_dev dev;
	int ioasid;
};

#include "command_test.h"

FIXTURE_VARIANT_ADD(command, attach_tagged) {
	.nr = VFIO_DEVICE_ATTACH_IOMMUFD_PT,
	.size = sizeof(struct vfio_device_attach_iommufd_pt),
	.flags = VFIO_DEVICE_ATTACH_IOASID | VFIO_DEVICE_ATTACH_PASID,
	.known_flags = VFIO_DEVICE_ATTACH_IOASID | VFIO_DEVICE_ATTACH_PASID,
	.answers = true,
	/* pt_id, and nothing behind it */
	.answer_end = offsetof(struct vfio_device_attach_iommufd_pt, pasid),
	.ignores_tail = true,
};

FIXTURE_VARIANT_ADD(command, attach_no_pasid) {
	.nr = VFIO_DEVICE_ATTACH_IOMMUFD_PT,
	.size = sizeof(struct vfio_device_attach_iommufd_pt),
	.flags = VFIO_DEVICE_ATTACH_IOASID,
	.known_flags = VFIO_DEVICE_ATTACH_IOASID | VFIO_DEVICE_ATTACH_PASID,
	.answers = true,
	/* pt_id, and nothing behind it */
	.answer_end = offsetof(struct vfio_device_attach_iommufd_pt, pasid),
	.ignores_tail = true,
};

static void command_begin(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			  const FIXTURE_VARIANT(command) *variant)
{
	struct command_files *files = &self->files;

	ASSERT_EQ(0, watch_begin(&files->watch));
	ASSERT_EQ(0, vfio_open(&files->dev, ROLE_PASID_A, NULL));
	self->fd = files->dev.device;
	files->ioasid = ioasid_open();
	ASSERT_LE(0, files->ioasid);
	ASSERT_EQ(ID, ioasid_alloc(files->ioasid, ID, ID));
	self->cmd.attach.pt_id = files->dev.hwpt;
	self->cmd.attach.pasid = ID;
	self->cmd.attach.ioasid_fd = files->ioasid;
	self->cmd.attach.ioasid = ID;
}

static void command_end(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self)
{
	vfio_close(&self->files.dev);
	close(self->files.ioasid);
	expect_clean(_metadata, &self->files.watch);
}

static void expect_unchanged(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			     const FIXTURE_VARIANT(command) *variant)
{
	EXPECT_EQ(0, attachments_of(self->files.ioasid, ID));
}

static void expect_done(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			const FIXTURE_VARIANT(command) *variant)
{
	EXPECT_EQ(1, attachments_of(self->files.ioasid, ID));
}

static void command_undo(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			 const FIXTURE_VARIANT(command) *variant)
{
	ASSERT_EQ(0, vfio_detach_pt(self->fd, variant->flags & VFIO_DEVICE_ATTACH_PASID ?
					      ID : NO_PASID));
}

#if __SIZEOF_POINTER__ == 4
/* Only the commands differ for a 32-bit caller */
int main(int argc, char **argv)
{
	char *only_commands[4] = { argv[0], "-f", "command", NULL };

	return test_harness_run(argc == 1 ? 3 : argc, argc == 1 ? only_commands : argv);
}
#else
TEST_HARNESS_MAIN
#endif
