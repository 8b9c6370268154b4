// SPDX-License-Identifier: GPL-2.0
/*
 * Translations that the IOTLB and the device's own TLB have cached: when unmap,
 * free, detach or close has returned, no DMA in flight reaches memory through them.
 *
 * The proof is memory: the test writes to a page when the call has returned, and
 * nothing changes that page while the device still tries. Counters of the device
 * show that its TLB is really in use. No test asserts a time.
 *
 * The kernel logs each untranslated request that is refused while its IOASID is
 * active, and no translated one: the device only learns that it has no access. A
 * detach is not quiet for either.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dma_test_util.h"
#include "vtd_util.h"

#define COPY_IOVA	(IOVA + 0x800000)

/* The test writes this: no transfer writes such a word */
#define CPU_BYTE	0x5a

/* Time between two transfers of a queue: all queues of the device do DMA */
#define LOOP_PERIOD_US	200

/* Address spaces with the same page table: PASIDs, and DMA without PASID */
#define NR_SPACES	4
/* Each has a queue whose page is unmapped, and a queue whose page stays */
#define VICTIM(space)	(space)
#define KEPT(space)	(NR_SPACES + (space))

static_assert(2 * NR_SPACES == PASID_TEST_NR_QUEUES, "two queues a space");

static __u32 space_pasid(int space)
{
	return space == NR_SPACES - 1 ? NO_PASID : ID + space;
}

static __u64 atc_hits(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read64(dev, queue, PASID_TEST_Q_ATC_HITS);
}

static __u64 ats_refused(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read64(dev, queue, PASID_TEST_Q_ATS_REFUSED);
}

/* Transfers of the queue use the device's TLB, without a request to the IOMMU */
static bool uses_tlb(const struct vfio_dev *dev, unsigned int queue)
{
	__u64 hits = atc_hits(dev, queue);

	return wait_for(atc_hits(dev, queue) >= hits + NR_TRANSFERS);
}

/* The queue makes requests of the kind that @ctrl asks for, as it counts them */
static bool does_as_told(const struct vfio_dev *dev, unsigned int queue, __u32 ctrl)
{
	if (ctrl & PASID_TEST_CTRL_ATS)
		return uses_tlb(dev, queue);
	return !atc_hits(dev, queue) && !queue_read64(dev, queue, PASID_TEST_Q_ATS_REQUESTS);
}

/* The test writes to a page that the device must not change from now on */
static void overwrite(struct still *still, void *page)
{
	memset(page, CPU_BYTE, PAGE);
	__sync_synchronize();
	memcpy(still->page, page, PAGE);
}

/*
 * A call has ended the access of @nr queues to a page, and returned: no transfer
 * succeeds any more, however often each queue tries, and the page keeps what the
 * test writes there.
 */
static int stays_unreachable(const struct vfio_dev *dev, unsigned int queue, unsigned int nr,
			     void *page)
{
	struct still still[PASID_TEST_NR_QUEUES];
	unsigned int i;
	int ret = 0;

	/* Nothing may be counted after the call, so read the counters first */
	for (i = 0; i < nr; i++)
		still_take(&still[i], dev, queue + i, page);
	for (i = 0; i < nr; i++)
		overwrite(&still[i], page);
	for (i = 0; i < nr && !ret; i++)
		ret = still_check(&still[i], dev, queue + i, page, NR_REFUSED);
	return ret;
}

/* Memory is unmapped, while the IOASIDs stay attached */

#define NR_PAGES	520

FIXTURE(unmap) {
	struct watch watch;
	struct vfio_dev dev;
	char *pages;		/* what is unmapped */
	char *kept;		/* one page for each space */
	int fd;
};

FIXTURE_VARIANT(unmap) {
	__u32 ctrl;
};

FIXTURE_VARIANT_ADD(unmap, untranslated) {
	.ctrl = 0,
};

FIXTURE_VARIANT_ADD(unmap, translated) {
	.ctrl = PASID_TEST_CTRL_ATS,
};

static char *memory_new(size_t nr)
{
	void *memory = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static __u64 kept_iova(int space)
{
	return IOVA + (NR_PAGES + 1 + space) * PAGE;
}

FIXTURE_SETUP(unmap)
{
	int i;

	ASSERT_EQ(0, watch_begin(&self->watch));
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(1, machine_has_ats(self->dev.bdf));
	self->pages = memory_new(NR_PAGES);
	ASSERT_NE(NULL, self->pages);
	self->kept = memory_new(NR_SPACES);
	ASSERT_NE(NULL, self->kept);
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);

	for (i = 0; i < NR_SPACES; i++) {
		ASSERT_EQ(ID + i, ioasid_alloc(self->fd, ID + i, ID + i));
		ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID + i,
					 space_pasid(i) == NO_PASID ? FLAG_NO_PASID : TAGGED));
		ASSERT_EQ(0, vfio_map(&self->dev, self->kept + i * PAGE, kept_iova(i),
				      PAGE));
		queue_fill_loop(&self->dev, KEPT(i), space_pasid(i), kept_iova(i), PATTERN,
				LOOP_PERIOD_US, variant->ctrl);
	}
	/* vfio_test asserts what is logged of an untranslated request */
	if (!(variant->ctrl & PASID_TEST_CTRL_ATS))
		loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
}

FIXTURE_TEARDOWN(unmap)
{
	int i;

	for (i = 0; i < NR_SPACES; i++) {
		EXPECT_DMA(&self->dev, KEPT(i));
		EXPECT_EQ(0, queue_failed(&self->dev, KEPT(i)));
		EXPECT_TRUE(is_filled(self->kept + i * PAGE, PATTERN));
		EXPECT_TRUE(does_as_told(&self->dev, KEPT(i), variant->ctrl));
	}
	vfio_close(&self->dev);
	close(self->fd);
	expect_clean(_metadata, &self->watch);
}

/* DMA to the page from all address spaces, with cached translations */
static void start_victims(struct __test_metadata *_metadata, FIXTURE_DATA(unmap) *self,
			  const FIXTURE_VARIANT(unmap) *variant, unsigned int page)
{
	int i;

	for (i = 0; i < NR_SPACES; i++)
		queue_fill_loop(&self->dev, VICTIM(i), space_pasid(i), IOVA + page * PAGE, PATTERN,
				LOOP_PERIOD_US, variant->ctrl);
	for (i = 0; i < NR_SPACES; i++) {
		ASSERT_EQ(0, queue_wait_good(&self->dev, VICTIM(i), NR_TRANSFERS));
		ASSERT_TRUE(does_as_told(&self->dev, VICTIM(i), variant->ctrl));
	}
	ASSERT_TRUE(is_filled(self->pages + page * PAGE, PATTERN));
}

static void stop_victims(FIXTURE_DATA(unmap) *self)
{
	int i;

	for (i = 0; i < NR_SPACES; i++)
		queue_stop(&self->dev, VICTIM(i));
}

TEST_F(unmap, ends_dma_of_all_ioasids_before_returning)
{
	int round;

	for (round = 0; round < 10; round++) {
		ASSERT_EQ(0, vfio_map(&self->dev, self->pages, IOVA, PAGE));
		start_victims(_metadata, self, variant, 0);
		ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
		ASSERT_EQ(0, stays_unreachable(&self->dev, VICTIM(0), NR_SPACES, self->pages)) {
			TH_LOG("in round %d", round);
		}
		stop_victims(self);
	}
}

/*
 * A range whose size or alignment is no power of two is flushed by a mask that
 * covers more. A wrong mask misses the first or the last page.
 */
TEST_F(unmap, ends_dma_to_the_ends_of_any_range)
{
	static const struct {
		unsigned int first;
		unsigned int nr;
	} ranges[] = { {0, 1}, {0, 2}, {1, 2}, {3, 2}, {1, 3}, {5, 3}, {7, 9}, {6, 4}, {1, 64},
		       {0, 512}, {511, 2}, {3, 514} };
	unsigned int i, end;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		__u64 iova = IOVA + ranges[i].first * PAGE;
		size_t size = ranges[i].nr * PAGE;

		for (end = 0; end < 2; end++) {
			unsigned int page = ranges[i].first + (end ? ranges[i].nr - 1 : 0);

			ASSERT_EQ(0, vfio_map(&self->dev,
					      self->pages + ranges[i].first * PAGE, iova, size));
			start_victims(_metadata, self, variant, page);
			ASSERT_EQ(0, vfio_unmap(&self->dev, iova, size));
			ASSERT_EQ(0, stays_unreachable(&self->dev, VICTIM(0), NR_SPACES,
						       self->pages + page * PAGE)) {
				TH_LOG("page %u of %u pages from %u", page, ranges[i].nr,
				       ranges[i].first);
			}
			stop_victims(self);
		}
	}
}

/* After detaches and a free, an unmap still flushes the other PASIDs */
TEST_F(unmap, ends_dma_of_the_remaining_ioasids)
{
	const __u32 first = ID + NR_SPACES;
	__u32 id;

	for (id = first; id < first + 4; id++) {
		ASSERT_EQ(id, ioasid_alloc(self->fd, id, id));
		ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, id, TAGGED));
	}
	ASSERT_EQ(0, vfio_detach(&self->dev, first, TAGGED));
	ASSERT_EQ(0, vfio_detach(&self->dev, first + 3, TAGGED));
	ASSERT_EQ(0, ioasid_free(self->fd, first + 1));
	ASSERT_EQ(0, vfio_map(&self->dev, self->pages, IOVA, PAGE));
	start_victims(_metadata, self, variant, 0);
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
	EXPECT_EQ(0, stays_unreachable(&self->dev, VICTIM(0), NR_SPACES, self->pages));
}

/* Both devices use one page table. The second has another IOASID, and DMA without PASID. */
TEST_F(unmap, ends_dma_of_two_devices_before_returning)
{
	const __u32 id = ID + NR_SPACES;
	struct still still[2];
	struct vfio_dev other;
	int i;

	ASSERT_EQ(0, vfio_open(&other, ROLE_PASID_B, &self->dev));
	ASSERT_EQ(id, ioasid_alloc(self->fd, id, id));
	ASSERT_EQ(0, vfio_attach(&other, self->fd, id, TAGGED));
	ASSERT_EQ(0, vfio_attach_no_ioasid(&other));
	if (self->watch.loud)
		loud_begin(_metadata, &self->watch, self->dev.bdf, other.bdf);
	ASSERT_EQ(0, vfio_map(&self->dev, self->pages, IOVA, PAGE));
	start_victims(_metadata, self, variant, 0);
	for (i = 0; i < 2; i++) {
		queue_fill_loop(&other, i, i ? NO_PASID : id, IOVA, PATTERN, LOOP_PERIOD_US,
				variant->ctrl);
		ASSERT_EQ(0, queue_wait_good(&other, i, NR_TRANSFERS));
		ASSERT_TRUE(does_as_told(&other, i, variant->ctrl));
	}
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
	for (i = 0; i < 2; i++)
		still_take(&still[i], &other, i, self->pages);
	EXPECT_EQ(0, stays_unreachable(&self->dev, VICTIM(0), NR_SPACES, self->pages));
	for (i = 0; i < 2; i++) {
		overwrite(&still[i], self->pages);
		EXPECT_EQ(0, still_check(&still[i], &other, i, self->pages, NR_REFUSED));
	}
	vfio_close(&other);
}

#define VTD		"/sys/kernel/debug/iommu/intel/"
#define HUGE_SIZE	(512 * PAGE)

/* Memory that is one huge page */
static char *huge_new(void)
{
	char *memory, *huge, smaps[256];
	unsigned long kb = 0;
	FILE *f;

	memory = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	huge = memory + HUGE_SIZE - (unsigned long)memory % HUGE_SIZE;
	if (madvise(huge, HUGE_SIZE, MADV_HUGEPAGE))
		return NULL;
	memset(huge, 1, HUGE_SIZE);
	f = fopen("/proc/self/smaps_rollup", "re");
	while (f && !kb && fgets(smaps, sizeof(smaps), f))
		sscanf(smaps, "AnonHugePages: %lu kB", &kb);
	if (f)
		fclose(f);
	return kb ? huge : NULL;
}

/* Whether VT-d's debugfs shows an entry for @iova in the page table of ID */
static bool is_mapped(const struct vfio_dev *dev, __u64 iova)
{
	static char text[1 << 20];
	char path[128], want[32];

	snprintf(path, sizeof(path), VTD "%s/%x/domain_translation_struct", dev->bdf, ID);
	snprintf(want, sizeof(want), "0x%013llx |", iova / PAGE);
	return !read_file(path, text, sizeof(text)) && strstr(text, want);
}

TEST_F(unmap, of_a_huge_page_ends_dma_to_both_ends)
{
	char *huge = huge_new();
	unsigned int page;
	int i;

	ASSERT_NE(NULL, huge);
	for (page = 0; page < 512; page += 511) {
		ASSERT_EQ(0, vfio_map(&self->dev, huge, IOVA, HUGE_SIZE));
		for (i = 0; i < NR_SPACES; i++) {
			queue_fill_loop(&self->dev, VICTIM(i), space_pasid(i), IOVA + page * PAGE,
					PATTERN, LOOP_PERIOD_US, variant->ctrl);
			ASSERT_EQ(0, queue_wait_good(&self->dev, VICTIM(i), NR_TRANSFERS));
			ASSERT_TRUE(does_as_told(&self->dev, VICTIM(i), variant->ctrl));
		}
		ASSERT_TRUE(is_filled(huge + page * PAGE, PATTERN));
		/* A single entry of the page table */
		ASSERT_TRUE(is_mapped(&self->dev, IOVA));
		ASSERT_FALSE(is_mapped(&self->dev, IOVA + PAGE));
		ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, HUGE_SIZE));
		EXPECT_EQ(0, stays_unreachable(&self->dev, VICTIM(0), NR_SPACES,
					       huge + page * PAGE)) {
			TH_LOG("page %u", page);
		}
		stop_victims(self);
	}
}

/* The neighbours of an unmapped page, within the mask that the flush covers */
TEST_F(unmap, of_a_page_leaves_the_neighbours_alone)
{
	struct still still;
	int i;

	for (i = 0; i < NR_SPACES; i++)
		ASSERT_EQ(0, vfio_map(&self->dev, self->pages + i * PAGE,
				      IOVA + i * PAGE, PAGE));
	for (i = 0; i < NR_SPACES; i++) {
		queue_fill_loop(&self->dev, VICTIM(i), space_pasid(i), IOVA + i * PAGE, PATTERN,
				LOOP_PERIOD_US, variant->ctrl);
		ASSERT_EQ(0, queue_wait_good(&self->dev, VICTIM(i), NR_TRANSFERS));
	}
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA + PAGE, PAGE));
	still_take(&still, &self->dev, VICTIM(1), self->pages + PAGE);
	overwrite(&still, self->pages + PAGE);
	for (i = 0; i < NR_SPACES; i++) {
		if (i == 1)
			continue;
		EXPECT_DMA(&self->dev, VICTIM(i));
		EXPECT_EQ(0, queue_failed(&self->dev, VICTIM(i)));
		EXPECT_TRUE(is_filled(self->pages + i * PAGE, PATTERN));
	}
	EXPECT_EQ(0, still_check(&still, &self->dev, VICTIM(1), self->pages + PAGE, NR_REFUSED));
}

/* A secret that is written to the page after the unmap does not leak */
TEST_F(unmap, ends_reads_before_returning)
{
	struct still still[NR_SPACES];
	int i;

	ASSERT_EQ(0, vfio_map(&self->dev, self->pages, IOVA, PAGE));
	ASSERT_EQ(0, vfio_map(&self->dev, self->pages + PAGE, COPY_IOVA,
			      NR_SPACES * PAGE));
	memset(self->pages, 0x33, PAGE);
	for (i = 0; i < NR_SPACES; i++) {
		queue_copy_loop(&self->dev, VICTIM(i), space_pasid(i), IOVA, COPY_IOVA + i * PAGE,
				LOOP_PERIOD_US, variant->ctrl);
		ASSERT_EQ(0, queue_wait_good(&self->dev, VICTIM(i), NR_TRANSFERS));
		ASSERT_EQ(0, memcmp(self->pages + (i + 1) * PAGE, self->pages, PAGE));
	}
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
	for (i = 0; i < NR_SPACES; i++)
		still_take(&still[i], &self->dev, VICTIM(i), self->pages + (i + 1) * PAGE);
	memset(self->pages, CPU_BYTE, PAGE);
	__sync_synchronize();
	for (i = 0; i < NR_SPACES; i++)
		EXPECT_EQ(0, still_check(&still[i], &self->dev, VICTIM(i),
					 self->pages + (i + 1) * PAGE, NR_REFUSED));
}

/* The device reaches the page that is mapped next, not the old one */
TEST_F(unmap, and_map_lead_to_the_new_page)
{
	int i;

	ASSERT_EQ(0, vfio_map(&self->dev, self->pages, IOVA, PAGE));
	start_victims(_metadata, self, variant, 0);
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, PAGE));
	memset(self->pages, CPU_BYTE, PAGE);
	__sync_synchronize();
	ASSERT_EQ(0, vfio_map(&self->dev, self->pages + PAGE, IOVA, PAGE));
	for (i = 0; i < NR_SPACES; i++) {
		__u64 good = queue_good(&self->dev, VICTIM(i));

		EXPECT_TRUE(wait_for(queue_good(&self->dev, VICTIM(i)) >= good + NR_TRANSFERS));
	}
	stop_victims(self);
	EXPECT_TRUE(is_filled(self->pages + PAGE, PATTERN));
	memset(self->pages + PAGE, CPU_BYTE, PAGE);
	EXPECT_EQ(0, memcmp(self->pages, self->pages + PAGE, PAGE));
}

/* An IOASID is freed or detached, while its memory stays mapped */

FIXTURE(devtlb) {
	struct watch watch;
	struct vfio_dev dev;
	struct vfio_dev other_dev;
	char *pages;
	int fd;
};

FIXTURE_SETUP(devtlb)
{
	ASSERT_EQ(0, watch_begin(&self->watch));
	self->other_dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	ASSERT_EQ(0, vfio_open(&self->dev, ROLE_PASID_A, NULL));
	ASSERT_EQ(1, machine_has_ats(self->dev.bdf));
	self->pages = memory_new(2 * PASID_TEST_NR_QUEUES);
	ASSERT_NE(NULL, self->pages);
	ASSERT_EQ(0, vfio_map(&self->dev, self->pages, IOVA,
			      2 * PASID_TEST_NR_QUEUES * PAGE));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(devtlb)
{
	vfio_close(&self->dev);
	vfio_close(&self->other_dev);
	close(self->fd);
	expect_clean(_metadata, &self->watch);
}

/* Have the device do DMA from its TLB, without asking the IOMMU */
static void use_tlb(struct __test_metadata *_metadata, struct vfio_dev *dev, unsigned int queue,
		    __u32 pasid, unsigned int page)
{
	queue_fill_loop(dev, queue, pasid, IOVA + page * PAGE, PATTERN, LOOP_PERIOD_US,
			PASID_TEST_CTRL_ATS);
	ASSERT_EQ(0, queue_wait_good(dev, queue, NR_TRANSFERS));
	ASSERT_TRUE(uses_tlb(dev, queue));
	/* The first transfer filled the TLB */
	ASSERT_EQ(1, queue_read64(dev, queue, PASID_TEST_Q_ATS_REQUESTS));
}

/* The call has returned: the device asks for translations, and is refused */
static void expect_unusable(struct __test_metadata *_metadata, struct vfio_dev *dev,
			    unsigned int queue, void *page)
{
	__u64 hits = atc_hits(dev, queue);

	EXPECT_EQ(0, stays_unreachable(dev, queue, 1, page));
	EXPECT_EQ(hits, atc_hits(dev, queue));
	EXPECT_LE(NR_REFUSED, ats_refused(dev, queue));
}

static void attach(struct __test_metadata *_metadata, FIXTURE_DATA(devtlb) *self,
		   struct vfio_dev *dev, __u32 id, __u32 flags)
{
	ASSERT_EQ(id, ioasid_alloc(self->fd, id, id));
	ASSERT_EQ(0, vfio_attach(dev, self->fd, id, flags));
}

TEST_F(devtlb, is_of_no_use_after_free)
{
	attach(_metadata, self, &self->dev, ID, TAGGED);
	use_tlb(_metadata, &self->dev, 0, ID, 0);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	expect_unusable(_metadata, &self->dev, 0, self->pages);
}

struct second_free {
	pthread_t thread;
	const struct vfio_dev *dev;
	void *page;
	int fd;
	int ret;		/* of stays_unreachable() */
};

static void *second_free_run(void *arg)
{
	struct second_free *second = arg;

	ioasid_free(second->fd, ID);
	second->ret = stays_unreachable(second->dev, 0, 1, second->page);
	return NULL;
}

/*
 * Each thread may use the memory again, also the one that is told ENOENT. The
 * frees overlap if the IOMMU takes its time.
 */
TEST_F(devtlb, is_of_no_use_after_each_of_two_concurrent_frees)
{
	struct second_free second = {
		.dev = &self->dev, .page = self->pages, .fd = self->fd,
	};

	attach(_metadata, self, &self->dev, ID, TAGGED);
	use_tlb(_metadata, &self->dev, 0, ID, 0);
	ASSERT_EQ(0, pthread_create(&second.thread, NULL, second_free_run, &second));
	usleep(5000);
	ioasid_free(self->fd, ID);
	EXPECT_EQ(0, stays_unreachable(&self->dev, 0, 1, self->pages));
	ASSERT_EQ(0, pthread_join(second.thread, NULL));
	EXPECT_EQ(0, second.ret);
}

TEST_F(devtlb, without_pasid_is_of_no_use_after_free)
{
	attach(_metadata, self, &self->dev, ID, FLAG_NO_PASID);
	use_tlb(_metadata, &self->dev, 0, NO_PASID, 0);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	expect_unusable(_metadata, &self->dev, 0, self->pages);
}

TEST_F(devtlb, is_of_no_use_after_free_of_both_kinds_of_dma)
{
	attach(_metadata, self, &self->dev, ID, TAGGED);
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	use_tlb(_metadata, &self->dev, 0, ID, 0);
	use_tlb(_metadata, &self->dev, 1, NO_PASID, 1);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	expect_unusable(_metadata, &self->dev, 0, self->pages);
	expect_unusable(_metadata, &self->dev, 1, self->pages + PAGE);
}

TEST_F(devtlb, goes_on_for_other_ioasids_after_free_of_one)
{
	unsigned int freed, i;

	for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
		attach(_metadata, self, &self->dev, ID + i, TAGGED);
		use_tlb(_metadata, &self->dev, i, ID + i, i);
	}
	for (freed = 0; freed < PASID_TEST_NR_QUEUES; freed++) {
		ASSERT_EQ(0, ioasid_free(self->fd, ID + freed));
		expect_unusable(_metadata, &self->dev, freed, self->pages + freed * PAGE);
		for (i = freed + 1; i < PASID_TEST_NR_QUEUES; i++) {
			EXPECT_DMA(&self->dev, i);
			EXPECT_EQ(0, queue_failed(&self->dev, i));
		}
	}
}

TEST_F(devtlb, is_of_no_use_after_close_of_the_set)
{
	const unsigned int nr = PASID_TEST_NR_QUEUES;
	struct still still[2 * PASID_TEST_NR_QUEUES];
	__u64 hits[2 * PASID_TEST_NR_QUEUES];
	struct vfio_dev *devs[] = { &self->dev, &self->other_dev };
	unsigned int i;

	/* Two devices, each with several PASIDs, and with DMA without PASID */
	ASSERT_EQ(0, vfio_open(&self->other_dev, ROLE_PASID_B, &self->dev));
	ASSERT_EQ(1, machine_has_ats(self->other_dev.bdf));
	for (i = 0; i < 2 * nr; i++) {
		bool no_pasid = i % nr == nr - 1;

		attach(_metadata, self, devs[i / nr], ID + i, no_pasid ? FLAG_NO_PASID : TAGGED);
		use_tlb(_metadata, devs[i / nr], i % nr, no_pasid ? NO_PASID : ID + i, i);
	}
	ASSERT_EQ(0, close(self->fd));
	self->fd = -1;
	for (i = 0; i < 2 * nr; i++) {
		hits[i] = atc_hits(devs[i / nr], i % nr);
		still_take(&still[i], devs[i / nr], i % nr, self->pages + i * PAGE);
	}
	for (i = 0; i < 2 * nr; i++)
		overwrite(&still[i], self->pages + i * PAGE);
	for (i = 0; i < 2 * nr; i++) {
		EXPECT_EQ(0, still_check(&still[i], devs[i / nr], i % nr, self->pages + i * PAGE,
					 NR_REFUSED)) {
			TH_LOG("queue %u of device %u", i % nr, i / nr);
		}
		EXPECT_EQ(hits[i], atc_hits(devs[i / nr], i % nr));
	}
}

/* The CPU that submits invalidations waits for the hardware */

#define TRACING		"/sys/kernel/tracing"
#define WAITS		TRACING "/instances/tlb_test"
#define NR_IOASIDS	100
/* Attachments that are blocked with one wait */
#define BATCH		8
/* Invalidations that an unmap submits with one wait */
#define UNMAP_BATCH	16

static int waits_begin(void)
{
	char filter[32];

	/* Remove the leftovers of a test that failed */
	rmdir(WAITS);
	write_file(TRACING "/kprobe_events", "-:tlb_test/wait");
	if (mkdir(WAITS, 0700))
		return -errno;
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	return write_file(TRACING "/kprobe_events", "p:tlb_test/wait qi_submit_sync") ?:
	       write_file(WAITS "/events/tlb_test/wait/filter", filter) ?:
	       write_file(WAITS "/events/tlb_test/wait/enable", "1");
}

/* Returns the number of waits, or a negative errno */
static int waits_end(void)
{
	static char text[1 << 20];
	char *at = text;
	int ret, nr = 0;

	ret = write_file(WAITS "/tracing_on", "0") ?: read_file(WAITS "/trace", text, sizeof(text));
	while (!ret && (at = strstr(at, " wait: "))) {
		at++;
		nr++;
	}
	ret = ret ?: write_file(WAITS "/events/tlb_test/wait/enable", "0");
	if (rmdir(WAITS))
		ret = ret ?: -errno;
	ret = ret ?: write_file(TRACING "/kprobe_events", "-:tlb_test/wait");
	return ret ?: nr;
}

/* Two devices in turn, each with its own page table */
TEST_F(devtlb, close_of_the_set_waits_once_for_each_batch)
{
	struct vfio_dev *devs[] = { &self->dev, &self->other_dev };
	unsigned int i;

	ASSERT_EQ(0, vfio_open(&self->other_dev, ROLE_PASID_B, NULL));
	for (i = 0; i < NR_IOASIDS; i++)
		attach(_metadata, self, devs[i % 2], ID + i, TAGGED);
	ASSERT_EQ(0, waits_begin());
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ((NR_IOASIDS + BATCH - 1) / BATCH, waits_end());
}

TEST_F(devtlb, free_of_an_ioasid_waits_once)
{
	attach(_metadata, self, &self->dev, ID, TAGGED);
	ASSERT_EQ(0, vfio_attach(&self->dev, self->fd, ID, FLAG_NO_PASID));
	ASSERT_EQ(0, waits_begin());
	EXPECT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(1, waits_end());
}

/*
 * One page table, with more PASIDs than are invalidated one by one, and with DMA
 * without PASID. All have a translation of the page in the device's TLB at once.
 */
#define NR_SHARING	40

TEST_F(devtlb, of_many_pasids_is_of_no_use_after_unmap)
{
	const unsigned int nr = NR_SHARING + 1;
	__u32 pasid[NR_SHARING + 1];
	unsigned int i, queue;
	char *page = memory_new(1);
	char expected[PAGE];

	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, vfio_map(&self->dev, page, COPY_IOVA, PAGE));
	for (i = 0; i < nr; i++) {
		pasid[i] = i < NR_SHARING ? ID + i : NO_PASID;
		attach(_metadata, self, &self->dev, ID + i,
		       pasid[i] == NO_PASID ? FLAG_NO_PASID : TAGGED);
	}
	/* The device keeps a translation when the queue that fetched it stops */
	for (i = 0; i < nr; i++) {
		queue_fill_loop(&self->dev, 0, pasid[i], COPY_IOVA, PATTERN, LOOP_PERIOD_US,
				PASID_TEST_CTRL_ATS);
		ASSERT_EQ(0, queue_wait_good(&self->dev, 0, 2));
		ASSERT_EQ(1, queue_read64(&self->dev, 0, PASID_TEST_Q_ATS_REQUESTS));
		queue_stop(&self->dev, 0);
	}
	/* All are in the TLB: each queue finds its own without a request */
	for (i = 0; i < nr; i++) {
		queue_fill_loop(&self->dev, 0, pasid[i], COPY_IOVA, PATTERN, LOOP_PERIOD_US,
				PASID_TEST_CTRL_ATS);
		ASSERT_EQ(0, queue_wait_good(&self->dev, 0, 2));
		ASSERT_EQ(0, queue_read64(&self->dev, 0, PASID_TEST_Q_ATS_REQUESTS));
		queue_stop(&self->dev, 0);
	}

	ASSERT_EQ(0, vfio_unmap(&self->dev, COPY_IOVA, PAGE));
	memset(page, CPU_BYTE, PAGE);
	memset(expected, CPU_BYTE, PAGE);
	__sync_synchronize();
	for (i = 0; i < nr; i++) {
		queue = i % PASID_TEST_NR_QUEUES;
		queue_fill_loop(&self->dev, queue, pasid[i], COPY_IOVA, PATTERN, LOOP_PERIOD_US,
				PASID_TEST_CTRL_ATS);
		EXPECT_EQ(0, queue_wait_failed(&self->dev, queue, NR_REFUSED)) {
			TH_LOG("attachment %u", i);
		}
		EXPECT_EQ(0, queue_good(&self->dev, queue));
		EXPECT_EQ(0, atc_hits(&self->dev, queue));
		queue_stop(&self->dev, queue);
	}
	__sync_synchronize();
	EXPECT_EQ(0, memcmp(expected, page, PAGE));
}

/* The device supports Global Invalidate, so only the IOTLB may need many. */
TEST_F(devtlb, unmap_waits_once_for_each_batch)
{
	char *page = memory_new(1);
	const __u64 *entry;
	unsigned int i;
	int waits, most;

	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, vfio_map(&self->dev, page, COPY_IOVA, PAGE));
	for (i = 0; i < NR_IOASIDS; i++)
		attach(_metadata, self, &self->dev, ID + i, TAGGED);
	entry = vtd_map_entry(self->dev.bdf, ID);
	ASSERT_NE(NULL, entry);
	/* An invalidation for each PASID, or for the domain; and one of the device's TLB */
	most = entry_is_first_stage(entry) ? (NR_IOASIDS + 1 + UNMAP_BATCH - 1) / UNMAP_BATCH : 1;
	vtd_unmap_entry(entry);
	ASSERT_EQ(0, waits_begin());
	EXPECT_EQ(0, vfio_unmap(&self->dev, COPY_IOVA, PAGE));
	waits = waits_end();
	EXPECT_LE(1, waits);
	EXPECT_GE(most, waits);
}

/* The IOASID is active, so faults after the detach may be logged */
TEST_F(devtlb, is_of_no_use_after_detach)
{
	attach(_metadata, self, &self->dev, ID, TAGGED);
	use_tlb(_metadata, &self->dev, 0, ID, 0);
	loud_begin(_metadata, &self->watch, self->dev.bdf, NULL);
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, TAGGED));
	expect_unusable(_metadata, &self->dev, 0, self->pages);
}

/* The next owner of the id maps other memory at the same address */
TEST_F(devtlb, does_not_lead_the_next_owner_to_old_memory)
{
	char *next = memory_new(1);

	ASSERT_NE(NULL, next);
	attach(_metadata, self, &self->dev, ID, TAGGED);
	use_tlb(_metadata, &self->dev, 0, ID, 0);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	queue_stop(&self->dev, 0);
	ASSERT_EQ(0, vfio_detach(&self->dev, ID, TAGGED));
	ASSERT_EQ(0, vfio_unmap(&self->dev, IOVA, 2 * PASID_TEST_NR_QUEUES * PAGE));
	memset(self->pages, CPU_BYTE, PAGE);
	__sync_synchronize();

	ASSERT_EQ(0, vfio_map(&self->dev, next, IOVA, PAGE));
	attach(_metadata, self, &self->dev, ID, TAGGED);
	use_tlb(_metadata, &self->dev, 0, ID, 0);
	queue_stop(&self->dev, 0);
	EXPECT_TRUE(is_filled(next, PATTERN));
	memset(next, CPU_BYTE, PAGE);
	EXPECT_EQ(0, memcmp(next, self->pages, PAGE));
}

TEST_HARNESS_MAIN
