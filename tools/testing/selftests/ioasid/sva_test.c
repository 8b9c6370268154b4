// SPDX-License-Identifier: GPL-2.0
/*
 * SVA: devices do DMA to the address space of a process, with the PASID of its mm.
 * The process is killed in the middle of DMA and page requests. From then on, DMA
 * with this PASID is refused quietly. The id is recycled when the last device is
 * unbound and the last reference to the mm is gone.
 *
 * The module sva_driver has the driver sva-test: an open of its device binds the
 * process. The module slow_page has memory whose pages do not come. No test asserts
 * a time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/const.h>
#include <linux/iommufd.h>

#include "dma_test_util.h"

#define ECAP		"/sys/class/iommu/dmar0/intel-iommu/ecap"
#define ECAP_FLTS	_BITULL(47)

/* Queues of each device for the process that is killed, and one for the test itself */
#define QUEUES		6
#define TEST_QUEUE	7

/* Time between two transfers of a queue */
#define QUEUE_PERIOD_US	50
#define NR_PAGES	50

#define ATS		PASID_TEST_CTRL_ATS
#define PRI		PASID_TEST_CTRL_PRI
#define REPEAT		PASID_TEST_CTRL_REPEAT

/* Bind the device to another driver, which no other driver can take it from */
static int set_driver(const char *bdf, const char *driver)
{
	char path[128], target[256];
	ssize_t nr;
	int ret;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", bdf);
	ret = write_file(path, bdf);
	if (ret && ret != -ENOENT)
		return ret;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", bdf);
	ret = write_file(path, driver) ?: write_file("/sys/bus/pci/drivers_probe", bdf);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", bdf);
	nr = readlink(path, target, sizeof(target) - 1);
	if (nr < 0)
		return -errno;
	target[nr] = '\0';
	return strcmp(strrchr(target, '/') + 1, driver) ? -ENODEV : 0;
}

/* Bind this process. Returns the PASID, and maps the registers to dev->bar */
static int sva_open(struct vfio_dev *dev, __u32 *pasid)
{
	char path[64];
	void *bar;

	snprintf(path, sizeof(path), "/dev/sva-test-%s", dev->bdf);
	dev->bar = NULL;
	dev->device = open(path, O_RDWR | O_CLOEXEC);
	if (dev->device < 0)
		return -errno;
	if (read(dev->device, pasid, sizeof(*pasid)) != sizeof(*pasid))
		return -EIO;
	bar = mmap(NULL, PASID_TEST_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dev->device, 0);
	if (bar == MAP_FAILED)
		return -errno;
	dev->bar = bar;
	return 0;
}

/* A CPU that is idle has a reference to the mm that it ran last */
static void run_on_each_cpu(void)
{
	cpu_set_t all, one;
	int cpu;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
	}
	sched_setaffinity(0, sizeof(all), &all);
}

/*
 * Whether the PASID of a process is free: 0, or a negative errno. User space cannot
 * allocate the ids of the kernel's reserve, so look at the list.
 */
static int pasid_try(__u32 pasid)
{
	char line[256];
	int ret;

	run_on_each_cpu();
	ret = ioasid_line(pasid, line, sizeof(line));

	return ret == -ENOENT ? 0 : ret ?: -ENOSPC;
}

/* Private memory, no page of it is present */
static void *pages_new(unsigned int nr)
{
	void *pages = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

static bool is_resident(void *page)
{
	unsigned char there = 0;

	return !mincore(page, PAGE, &there) && there & 1;
}

/* Fill a page, by its virtual address */
static void fill(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, const void *page,
		 __u32 ctrl)
{
	queue_stop(dev, queue);
	queue_write32(dev, queue, PASID_TEST_Q_CTRL, PASID_TEST_CTRL_CLEAR);
	queue_write32(dev, queue, PASID_TEST_Q_PASID, pasid | PASID_TEST_PASID_VALID);
	queue_write64(dev, queue, PASID_TEST_Q_DST, (unsigned long)page);
	queue_write64(dev, queue, PASID_TEST_Q_PATTERN, PATTERN);
	queue_write32(dev, queue, PASID_TEST_Q_LEN, PAGE);
	queue_write32(dev, queue, PASID_TEST_Q_DIR, PASID_TEST_DIR_FILL);
	queue_write32(dev, queue, PASID_TEST_Q_PERIOD, QUEUE_PERIOD_US);
	queue_write32(dev, queue, PASID_TEST_Q_CTRL, ctrl | PASID_TEST_CTRL_RUN);
}

static bool is_busy(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read32(dev, queue, PASID_TEST_Q_STATUS) & PASID_TEST_STATUS_BUSY;
}

static __u64 atc_hits(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read64(dev, queue, PASID_TEST_Q_ATC_HITS);
}

/* Two devices that this process is bound to */
FIXTURE(sva) {
	struct vfio_dev dev[2];
	__u32 pasid;
	struct watch watch;
};

static bool has_first_level(void)
{
	char ecap[32];

	return !read_file(ECAP, ecap, sizeof(ecap)) && strtoull(ecap, NULL, 16) & ECAP_FLTS;
}

static int sva_give_back(FIXTURE_DATA(sva) *self)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < 2; i++) {
		vfio_close_device(&self->dev[i]);
		ret = set_driver(self->dev[i].bdf, "vfio-pci") ?: ret;
	}
	return module_unload("sva_driver") ?: ret;
}

static int sva_take(FIXTURE_DATA(sva) *self)
{
	unsigned int i;
	int ret;

	ret = module_load("sva_driver", "");
	if (ret)
		return ret;
	for (i = 0; i < 2; i++) {
		ret = set_driver(self->dev[i].bdf, "sva-test") ?:
		      sva_open(&self->dev[i], &self->pasid);
		if (ret) {
			sva_give_back(self);
			return ret;
		}
	}
	return 0;
}

/* If setup fails, there is no teardown: give the devices back to other tests */
static void sva_begin(struct __test_metadata *_metadata, FIXTURE_DATA(sva) *self)
{
	self->dev[0] = (struct vfio_dev)VFIO_DEV_CLOSED;
	self->dev[1] = (struct vfio_dev)VFIO_DEV_CLOSED;
	ASSERT_EQ(0, watch_begin(&self->watch));
	/* Not skipped: a skipped test would hide that SVA is never tested */
	ASSERT_TRUE(has_first_level());
	ASSERT_EQ(0, machine_find(ROLE_PASID_A, self->dev[0].bdf));
	ASSERT_EQ(0, machine_find(ROLE_PASID_B, self->dev[1].bdf));
	ASSERT_EQ(0, sva_take(self));
}

static void sva_end(struct __test_metadata *_metadata, FIXTURE_DATA(sva) *self)
{
	EXPECT_EQ(0, sva_give_back(self));
	/* All but the IOASID of this process, whose mm lives */
	EXPECT_TRUE(wait_for(ioasid_count(NULL) <= self->watch.nr_ioasids + 1));
	watch_end(_metadata, &self->watch);
}

FIXTURE_SETUP(sva)
{
	sva_begin(_metadata, self);
}

FIXTURE_TEARDOWN(sva)
{
	sva_end(_metadata, self);
}

TEST_F(sva, dma_reaches_memory_by_virtual_address)
{
	char *page = pages_new(1);

	ASSERT_NE(NULL, page);
	/* Only translated requests can ask for a page */
	*page = 1;
	fill(&self->dev[0], TEST_QUEUE, self->pasid, page, REPEAT);
	EXPECT_EQ(0, queue_wait_good(&self->dev[0], TEST_QUEUE, NR_TRANSFERS));
	EXPECT_TRUE(is_filled(page, PATTERN));
	EXPECT_EQ(0, queue_read64(&self->dev[0], TEST_QUEUE, PASID_TEST_Q_ATS_REQUESTS));
}

#define USER_LOW_IDS	"/proc/sys/user/max_low_ioasids"

TEST_F(sva, device_with_few_pasid_bits_binds_when_users_took_all_they_can)
{
	struct vfio_dev narrow = VFIO_DEV_CLOSED;
	int fd, id, limit;
	__u32 pasid;
	pid_t child;

	ASSERT_EQ(0, machine_find(ROLE_NARROW, narrow.bdf));
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	limit = param_get(USER_LOW_IDS);
	ASSERT_EQ(0, param_set(USER_LOW_IDS, 1024));
	while ((id = ioasid_alloc(fd, 1, 255)) > 0)
		;
	EXPECT_EQ(0, param_set(USER_LOW_IDS, limit));
	EXPECT_EQ(-ENOSPC, id);

	EXPECT_EQ(0, set_driver(narrow.bdf, "sva-test"));
	child = fork_child();
	ASSERT_LE(0, child);
	/* Another mm, which has no PASID yet */
	if (!child)
		_exit(sva_open(&narrow, &pasid) ? 1 : pasid > 255 ? 2 : 0);
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(0, set_driver(narrow.bdf, "vfio-pci"));
	close(fd);
}

TEST_F(sva, translations_are_cached)
{
	char *page = pages_new(1);

	ASSERT_NE(NULL, page);
	*page = 1;
	fill(&self->dev[0], TEST_QUEUE, self->pasid, page, REPEAT | ATS);
	EXPECT_EQ(0, queue_wait_good(&self->dev[0], TEST_QUEUE, NR_TRANSFERS));
	EXPECT_TRUE(is_filled(page, PATTERN));
	EXPECT_LE(NR_TRANSFERS / 2, atc_hits(&self->dev[0], TEST_QUEUE));
}

TEST_F(sva, missing_page_is_requested)
{
	char *page = pages_new(1);

	ASSERT_NE(NULL, page);
	EXPECT_FALSE(is_resident(page));
	fill(&self->dev[0], TEST_QUEUE, self->pasid, page, ATS | PRI);
	EXPECT_EQ(0, queue_wait_done(&self->dev[0], TEST_QUEUE));
	EXPECT_TRUE(is_resident(page));
	EXPECT_TRUE(is_filled(page, PATTERN));
	EXPECT_EQ(1, queue_good(&self->dev[0], TEST_QUEUE));
	EXPECT_LE(1, queue_read64(&self->dev[0], TEST_QUEUE, PASID_TEST_Q_PRI_SUCCESS));
	EXPECT_EQ(0, queue_read64(&self->dev[0], TEST_QUEUE, PASID_TEST_Q_PRI_INVALID));
}

TEST_F(sva, replaced_page_is_requested_again)
{
	char *page = pages_new(1);
	unsigned int i;

	ASSERT_NE(NULL, page);
	for (i = 0; i < NR_PAGES; i++) {
		fill(&self->dev[0], TEST_QUEUE, self->pasid, page, ATS | PRI);
		ASSERT_EQ(0, queue_wait_done(&self->dev[0], TEST_QUEUE));
		ASSERT_TRUE(is_filled(page, PATTERN));
		ASSERT_LE(1, queue_read64(&self->dev[0], TEST_QUEUE, PASID_TEST_Q_PRI_SUCCESS));
		ASSERT_EQ(0, madvise(page, PAGE, MADV_DONTNEED));
		ASSERT_FALSE(is_resident(page));
	}
}

TEST_F(sva, many_replaced_pages_are_requested_again)
{
	char *pages = pages_new(NR_PAGES);
	unsigned int i, round;

	ASSERT_NE(NULL, pages);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < NR_PAGES; i++) {
			fill(&self->dev[0], TEST_QUEUE, self->pasid, pages + i * PAGE, ATS | PRI);
			ASSERT_EQ(0, queue_wait_done(&self->dev[0], TEST_QUEUE));
			EXPECT_EQ(1, queue_good(&self->dev[0], TEST_QUEUE));
			EXPECT_EQ(0, atc_hits(&self->dev[0], TEST_QUEUE)) {
				TH_LOG("page %u of round %u is still cached", i, round);
			}
			ASSERT_TRUE(is_filled(pages + i * PAGE, PATTERN));
		}
		ASSERT_EQ(0, madvise(pages, NR_PAGES * PAGE, MADV_DONTNEED));
	}
}

/*
 * A fork makes the pages of a process read-only, and flushes its whole address
 * space. What the device writes after that is not the child's.
 */
TEST_F(sva, page_is_requested_again_after_a_fork)
{
	__u64 *page = pages_new(1);
	int end[2], child, i;

	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, pipe2(end, O_CLOEXEC));
	for (i = 0; i < 2; i++) {
		fill(&self->dev[0], TEST_QUEUE, self->pasid, page, ATS | PRI);
		ASSERT_EQ(0, queue_wait_done(&self->dev[0], TEST_QUEUE));
	}
	ASSERT_NE(0, atc_hits(&self->dev[0], TEST_QUEUE));
	*page = ~PATTERN;
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		char none;

		/* Until the parent has seen what the device has written */
		close(end[1]);
		_exit(read(end[0], &none, 1) || *page != ~PATTERN);
	}
	fill(&self->dev[0], TEST_QUEUE, self->pasid, page, ATS | PRI);
	EXPECT_EQ(0, queue_wait_done(&self->dev[0], TEST_QUEUE));
	EXPECT_EQ(1, queue_good(&self->dev[0], TEST_QUEUE));
	EXPECT_EQ(0, atc_hits(&self->dev[0], TEST_QUEUE));
	EXPECT_TRUE(is_filled(page, PATTERN));
	close(end[0]);
	close(end[1]);
	EXPECT_EQ(0, reap(child));
}

TEST_F(sva, address_without_memory_is_refused)
{
	char *page = pages_new(1);

	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, munmap(page, PAGE));
	fill(&self->dev[0], TEST_QUEUE, self->pasid, page, ATS | PRI);
	EXPECT_EQ(0, queue_wait_done(&self->dev[0], TEST_QUEUE));
	EXPECT_EQ(0, queue_good(&self->dev[0], TEST_QUEUE));
	EXPECT_EQ(1, queue_read64(&self->dev[0], TEST_QUEUE, PASID_TEST_Q_PRI_INVALID));
}

/* A process that is killed */

struct victim {
	int pid;
	int sock;
	/* In shared memory */
	struct victim_report {
		int ret;
		__u32 pasid;
		unsigned int asked;	/* page requests */
		char *pages;		/* in the process */
		bool ready;
		bool full;		/* the page request queue */
	} *report;
};

/* What the process does until it is killed, while DMA goes to @pages */
typedef void (*victim_fn)(const struct vfio_dev *dev, struct victim_report *report, char *pages);

static void pause_forever(const struct vfio_dev *dev, struct victim_report *report, char *pages)
{
	for (;;)
		pause();
}

/* Each page is removed again and again, so the devices request it again */
static void remove_pages(const struct vfio_dev *dev, struct victim_report *report, char *pages)
{
	for (;;)
		madvise(pages, QUEUES * PAGE, MADV_DONTNEED);
}

static int victim_main(struct vfio_dev *dev, __u32 ctrl, victim_fn act, int sock,
		       struct victim_report *report)
{
	unsigned int i, j;
	int fds[2];
	char *pages;

	pages = pages_new(QUEUES);
	if (!pages)
		return -ENOMEM;
	if (ctrl && !(ctrl & PRI))
		memset(pages, 1, QUEUES * PAGE);
	for (i = 0; i < 2; i++) {
		report->ret = sva_open(&dev[i], &report->pasid);
		if (report->ret)
			return report->ret;
		fds[i] = dev[i].device;
		for (j = 0; ctrl && j < QUEUES; j++)
			fill(&dev[i], j, report->pasid, pages + j * PAGE, ctrl);
	}
	/* The test keeps the files, and with them the bindings */
	report->ret = send_fds(sock, fds, 2);
	if (report->ret)
		return report->ret;
	act(dev, report, pages);
	return 0;
}

/* Returns the files of the process, for the caller to close */
static int victim_start(struct victim *victim, const struct vfio_dev *devs, __u32 ctrl,
			victim_fn act, int fds[2])
{
	struct vfio_dev dev[2] = { devs[0], devs[1] };
	int sock[2];

	victim->report = page_new();
	if (!victim->report || socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		return -errno;
	victim->pid = fork_child();
	if (!victim->pid)
		_exit(!!victim_main(dev, ctrl, act, sock[1], victim->report));
	close(sock[1]);
	victim->sock = sock[0];
	return recv_fds(victim->sock, fds, 2);
}

static void victim_kill(struct victim *victim)
{
	if (victim->pid > 0)
		kill_and_reap(victim->pid);
	victim->pid = 0;
}

static void victim_end(struct victim *victim)
{
	close(victim->sock);
	munmap(victim->report, PAGE);
}

/* The trace of an IOASID's end */
#define TRACE	"/sys/kernel/tracing/instances/sva_test"

static int trace_begin(__u32 pasid)
{
	char filter[32], refused[32];

	rmdir(TRACE);
	if (mkdir(TRACE, 0700))
		return -errno;
	snprintf(filter, sizeof(filter), "id == %u", pasid);
	snprintf(refused, sizeof(refused), "pasid == %u", pasid);
	return write_file(TRACE "/trace_clock", "global") ?:
	       write_file(TRACE "/events/ioasid/filter", filter) ?:
	       write_file(TRACE "/events/ioasid/enable", "1") ?:
	       write_file(TRACE "/events/signal/signal_generate/filter", "sig == 9") ?:
	       write_file(TRACE "/events/signal/signal_generate/enable", "1") ?:
	       write_file(TRACE "/events/sched/sched_process_exit/filter",
			  "comm ~ \"sva_test*\"") ?:
	       write_file(TRACE "/events/sched/sched_process_exit/enable", "1") ?:
	       write_file(TRACE "/events/intel_iommu/cache_tag_unassign/enable", "1") ?:
	       write_file(TRACE "/events/intel_iommu/prq_report/enable", "1") ?:
	       write_file(TRACE "/events/intel_iommu/prq_refused/filter", refused) ?:
	       write_file(TRACE "/events/intel_iommu/prq_refused/enable", "1") ?:
	       write_file(TRACE "/events/intel_iommu/qi_submit/enable", "1");
}

static void mark(const char *what)
{
	write_file(TRACE "/trace_marker", what);
}

static bool trace_read(char *text, size_t size)
{
	return !write_file(TRACE "/tracing_on", "0") && !read_file(TRACE "/trace", text, size) &&
	       !rmdir(TRACE);
}

/* Print the trace, but not the many page requests before the kill */
static void trace_print(char *text)
{
	char *line, *end;
	bool print = false;

	for (line = text; *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			break;
		*end = '\0';
		print |= strstr(line, "signal_generate:") || strstr(line, "tracing_mark_write:");
		if (print && *line != '#')
			printf("# %s\n", line);
		*end = '\n';
	}
}

static unsigned int count_of(const char *text, const char *words)
{
	unsigned int nr = 0;

	while ((text = strstr(text, words))) {
		text += strlen(words);
		nr++;
	}
	return nr;
}

static char trace[16 << 20];

/* The trace has the words in this order. Ends the trace */
#define EXPECT_TRACED(words)						\
do {									\
	const char *__missing;						\
									\
	ASSERT_TRUE(trace_read(trace, sizeof(trace)));			\
	trace_print(trace);						\
	__missing = not_in_order(trace, words);				\
	EXPECT_EQ(NULL, __missing) {					\
		TH_LOG("the trace has no '%s' in its place", __missing);	\
	}								\
} while (0)

/* A process that is killed in the middle of DMA of one kind */
FIXTURE(killed) {
	FIXTURE_DATA(sva) sva;
	struct victim victim;
	__u32 pasid;
	int fds[2];
};

FIXTURE_VARIANT(killed) {
	__u32 ctrl;
	victim_fn act;
};

FIXTURE_VARIANT_ADD(killed, untranslated) {
	.ctrl = REPEAT,
	.act = pause_forever,
};

FIXTURE_VARIANT_ADD(killed, cached) {
	.ctrl = REPEAT | ATS,
	.act = pause_forever,
};

FIXTURE_VARIANT_ADD(killed, requesting_pages) {
	.ctrl = REPEAT | ATS | PRI,
	.act = remove_pages,
};

static void killed_end(struct __test_metadata *_metadata, FIXTURE_DATA(killed) *self)
{
	/* The test may have failed before its kill, and the driver waits for all files */
	victim_kill(&self->victim);
	close(self->fds[0]);
	close(self->fds[1]);
	victim_end(&self->victim);
	sva_end(_metadata, &self->sva);
}

FIXTURE_SETUP(killed)
{
	unsigned int i;
	int ret;

	sva_begin(_metadata, &self->sva);
	self->fds[0] = -1;
	self->fds[1] = -1;
	ret = victim_start(&self->victim, self->sva.dev, variant->ctrl, variant->act, self->fds);
	for (i = 0; !ret && i < 2 * QUEUES; i++)
		ret = queue_wait_good(&self->sva.dev[i / QUEUES], i % QUEUES, NR_TRANSFERS);
	if (ret)
		killed_end(_metadata, self);
	ASSERT_EQ(0, ret);
	self->pasid = self->victim.report->pasid;
	EXPECT_NE(self->sva.pasid, self->pasid);
	for (i = 0; variant->ctrl == (REPEAT | ATS) && i < 2 * QUEUES; i++)
		EXPECT_LE(NR_TRANSFERS / 2, atc_hits(&self->sva.dev[i / QUEUES], i % QUEUES));
}

FIXTURE_TEARDOWN(killed)
{
	killed_end(_metadata, self);
}

/* The IOASID exists, and its id cannot be allocated */
#define EXPECT_HELD(pasid)						\
do {									\
	char __line[512];						\
									\
	EXPECT_EQ(0, ioasid_line(pasid, __line, sizeof(__line)));	\
	EXPECT_EQ(-ENOSPC, pasid_try(pasid));				\
} while (0)

static void unbind(FIXTURE_DATA(killed) *self, unsigned int i)
{
	close(self->fds[i]);
	self->fds[i] = -1;
}

/* The driver stops the queues before it unbinds */
static bool wait_stopped(const struct vfio_dev *dev)
{
	return wait_for(!is_busy(dev, QUEUES - 1));
}

static const char *const end_of_life[] = {
	"signal_generate: sig=9", "sched_process_exit: comm=sva_test",
	": reaped\n",
	/* The tags of IOTLB and device TLB, for each of two devices */
	"cache_tag_unassign:", "cache_tag_unassign:",
	"cache_tag_unassign:", "cache_tag_unassign:",
	": the mm is released\n", "ioasid_put: id=", "ioasid_recycle: id=", NULL
};

TEST_F(killed, id_stays_taken_while_a_device_or_the_mm_holds)
{
	char path[32];
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/mem", self->victim.pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, trace_begin(self->pasid));

	victim_kill(&self->victim);
	mark("reaped");
	EXPECT_HELD(self->pasid);
	unbind(self, 0);
	EXPECT_TRUE(wait_stopped(&self->sva.dev[0]));
	mark("one device is unbound");
	EXPECT_TRUE(is_busy(&self->sva.dev[1], 0));
	EXPECT_HELD(self->pasid);
	unbind(self, 1);
	EXPECT_TRUE(wait_stopped(&self->sva.dev[1]));
	EXPECT_HELD(self->pasid);
	mark("the mm is released");
	close(mem);
	EXPECT_TRUE(wait_for(!pasid_try(self->pasid)));
	EXPECT_QUIET(&self->sva.watch);
	EXPECT_TRACED(end_of_life);
}

/* Nobody else holds files or mm of the process: its exit unbinds, while DMA goes on */
TEST_F(killed, exit_unbinds_and_recycles)
{
	unbind(self, 0);
	unbind(self, 1);
	victim_kill(&self->victim);
	EXPECT_TRUE(wait_stopped(&self->sva.dev[0]));
	EXPECT_TRUE(wait_stopped(&self->sva.dev[1]));
	EXPECT_TRUE(wait_for(!pasid_try(self->pasid)));
	EXPECT_QUIET(&self->sva.watch);
}

/* Page requests of the test, which is alive, are answered */
static void expect_page_requests_answered(struct __test_metadata *_metadata,
					  const struct vfio_dev *dev, __u32 pasid)
{
	char *pages = pages_new(NR_PAGES);
	unsigned int i;

	ASSERT_NE(NULL, pages);
	for (i = 0; i < NR_PAGES; i++) {
		fill(dev, TEST_QUEUE, pasid, pages + i * PAGE, ATS | PRI);
		ASSERT_EQ(0, queue_wait_done(dev, TEST_QUEUE));
		ASSERT_TRUE(is_filled(pages + i * PAGE, PATTERN));
		ASSERT_LE(1, queue_read64(dev, TEST_QUEUE, PASID_TEST_Q_PRI_SUCCESS));
	}
	munmap(pages, NR_PAGES * PAGE);
}

TEST_F(killed, dma_of_a_bound_process_is_refused_quietly)
{
	struct vfio_dev *dev = self->sva.dev;
	__u64 good[2][QUEUES], hits[2][QUEUES];
	unsigned int i, j;

	victim_kill(&self->victim);
	for (i = 0; i < 2; i++)
		for (j = 0; j < QUEUES; j++) {
			/*
			 * The thread that answers a page request may hold the
			 * address space for as long as that takes. Otherwise
			 * the address space is gone by now.
			 */
			if (variant->ctrl & PRI)
				EXPECT_EQ(0, queue_wait_failed(&dev[i], j, 1));
			good[i][j] = queue_good(&dev[i], j);
			hits[i][j] = atc_hits(&dev[i], j);
		}
	for (i = 0; i < 2; i++)
		for (j = 0; j < QUEUES; j++) {
			EXPECT_EQ(0, queue_wait_failed(&dev[i], j, NR_REFUSED));
			EXPECT_EQ(good[i][j], queue_good(&dev[i], j));
			EXPECT_EQ(hits[i][j], atc_hits(&dev[i], j));
		}
	/* The hardware refuses its page requests, and answers those of others */
	if (variant->ctrl & PRI) {
		__u64 success = queue_read64(dev, 0, PASID_TEST_Q_PRI_SUCCESS);
		__u64 invalid = queue_read64(dev, 0, PASID_TEST_Q_PRI_INVALID);

		expect_page_requests_answered(_metadata, dev, self->sva.pasid);
		EXPECT_EQ(success, queue_read64(dev, 0, PASID_TEST_Q_PRI_SUCCESS));
		EXPECT_LT(invalid, queue_read64(dev, 0, PASID_TEST_Q_PRI_INVALID));
		EXPECT_EQ(0, queue_read64(dev, 0, PASID_TEST_Q_PRI_FAILURE));
	}
	EXPECT_QUIET(&self->sva.watch);
	unbind(self, 0);
	unbind(self, 1);
	EXPECT_TRUE(wait_for(!pasid_try(self->pasid)));
}

/* The thread that reads the page request queue gets no CPU */

#define STALLED_CPU	1

static int queue_irq(void)
{
	char path[32], comm[32];
	struct dirent *entry;
	DIR *dir;
	int irq = -ENOENT;

	dir = opendir("/proc");
	if (!dir)
		return -errno;
	while (irq < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%.10s/comm", entry->d_name);
		/* irq/<nr>-dmar0-prq, truncated */
		if (!read_file(path, comm, sizeof(comm)) && !strncmp(comm, "irq/", 4) &&
		    strstr(comm, "-dmar0-p"))
			irq = atoi(comm + strlen("irq/"));
	}
	closedir(dir);
	return irq;
}

/* The thread of an interrupt follows it to a CPU, and cannot be moved otherwise */
static int move_irq(int irq, int cpu)
{
	char path[48], mask[8];

	snprintf(path, sizeof(path), "/proc/irq/%d/smp_affinity", irq);
	snprintf(mask, sizeof(mask), "%x", 1 << cpu);
	return write_file(path, mask);
}

static int run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus) ? -errno : 0;
}

/* A real-time child occupies the CPU of that thread. Returns the child, which dies with us */
static int stall(void)
{
	struct sched_param param = { .sched_priority = 90 };
	int irq = queue_irq(), hog, sock[2], ret;

	if (irq < 0)
		return irq;
	ret = run_on(!STALLED_CPU) ?: move_irq(irq, STALLED_CPU);
	if (ret)
		return ret;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		return -errno;
	hog = fork_child();
	if (!hog) {
		if (run_on(STALLED_CPU) || sched_setscheduler(0, SCHED_FIFO, &param))
			_exit(1);
		send_byte(sock[1]);
		for (;;)
			;
	}
	close(sock[1]);
	ret = wait_byte(sock[0]);
	close(sock[0]);
	if (ret && hog > 0)
		kill_and_reap(hog);
	return ret ?: hog;
}

/* One page request of each queue waits for its answer */
FIXTURE(queued) {
	FIXTURE_DATA(sva) sva;
	struct victim victim;
	__u32 pasid;
	int fds[2];
	int hog;
};

static void unbind_all(FIXTURE_DATA(queued) *self)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		close(self->fds[i]);
		self->fds[i] = -1;
	}
}

static void stall_end(FIXTURE_DATA(queued) *self)
{
	if (self->hog > 0)
		kill_and_reap(self->hog);
	self->hog = 0;
}

FIXTURE_SETUP(queued)
{
	sva_begin(_metadata, &self->sva);
	self->victim.pid = 0;
	self->fds[0] = -1;
	self->fds[1] = -1;
	self->hog = stall();
	if (self->hog <= 0)
		sva_end(_metadata, &self->sva);
	ASSERT_LT(0, self->hog);
}

FIXTURE_TEARDOWN(queued)
{
	stall_end(self);
	victim_kill(&self->victim);
	unbind_all(self);
	victim_end(&self->victim);
	sva_end(_metadata, &self->sva);
}

static bool is_waiting(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read32(dev, queue, PASID_TEST_Q_STATUS) & PASID_TEST_STATUS_WAITING;
}

/* A process whose page requests, from both devices, are in the queue */
static void start_requests(struct __test_metadata *_metadata, FIXTURE_DATA(queued) *self)
{
	struct vfio_dev *dev = self->sva.dev;
	unsigned int i, j;

	ASSERT_EQ(0, victim_start(&self->victim, dev, ATS | PRI, pause_forever, self->fds));
	for (i = 0; i < 2; i++)
		for (j = 0; j < QUEUES; j++)
			ASSERT_TRUE(wait_for(is_waiting(&dev[i], j)));
}

static void expect_refused(struct __test_metadata *_metadata, FIXTURE_DATA(queued) *self)
{
	struct vfio_dev *dev = self->sva.dev;
	unsigned int i, j;

	for (i = 0; i < 2; i++)
		for (j = 0; j < QUEUES; j++) {
			EXPECT_EQ(0, queue_wait_done(&dev[i], j));
			EXPECT_EQ(1, queue_read64(&dev[i], j, PASID_TEST_Q_PRI_INVALID));
			EXPECT_EQ(0, queue_good(&dev[i], j));
		}
}

/* Other events may be in between */
static const char *const end_with_requests[] = {
	": requests are in the queue\n",
	"signal_generate: sig=9", "sched_process_exit: comm=sva_test",
	/* Both devices are blocked in one batch */
	"qi_submit: pc_inv", "qi_submit: p_iotlb_inv",
	"qi_submit: p_dev_tlb_inv", "qi_submit: p_dev_tlb_inv",
	": reaped\n", ": the queue is read\n",
	"prq_report:", " blocked\n", "qi_submit: page_grp_resp",
	": all is answered\n",
	"cache_tag_unassign:", "cache_tag_unassign:",
	"cache_tag_unassign:", "cache_tag_unassign:",
	"ioasid_put: id=", "ioasid_recycle: id=", NULL
};

TEST_F(queued, request_of_a_dead_process_is_refused_quietly)
{
	struct vfio_dev *dev = self->sva.dev;
	unsigned int i, j;

	start_requests(_metadata, self);
	ASSERT_EQ(0, trace_begin(self->victim.report->pasid));
	mark("requests are in the queue");
	victim_kill(&self->victim);
	mark("reaped");
	for (i = 0; i < 2; i++)
		for (j = 0; j < QUEUES; j++)
			EXPECT_TRUE(is_waiting(&dev[i], j));
	mark("the queue is read");
	stall_end(self);
	expect_refused(_metadata, self);
	mark("all is answered");
	EXPECT_QUIET(&self->sva.watch);
	unbind_all(self);
	EXPECT_TRUE(wait_for(!pasid_try(self->victim.report->pasid)));
	EXPECT_QUIET(&self->sva.watch);

	EXPECT_TRACED(end_with_requests);
	EXPECT_EQ(2 * QUEUES, count_of(trace, "prq_refused:"));
	EXPECT_EQ(2 * QUEUES, count_of(trace, " blocked\n"));
}

/* Each request, of a live or a dead process, delays the next by one look and one response */
TEST_F(queued, request_of_a_dead_process_does_not_delay_others)
{
	struct vfio_dev *dev = self->sva.dev;
	char *pages = pages_new(2);
	unsigned int i;

	ASSERT_NE(NULL, pages);
	start_requests(_metadata, self);
	for (i = 0; i < 2; i++) {
		fill(&dev[i], TEST_QUEUE, self->sva.pasid, pages + i * PAGE, ATS | PRI);
		ASSERT_TRUE(wait_for(is_waiting(&dev[i], TEST_QUEUE)));
	}
	ASSERT_EQ(0, trace_begin(self->victim.report->pasid));
	victim_kill(&self->victim);
	stall_end(self);
	/* The dead process is still bound */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, queue_wait_done(&dev[i], TEST_QUEUE));
		EXPECT_EQ(1, queue_good(&dev[i], TEST_QUEUE));
		EXPECT_TRUE(is_filled(pages + i * PAGE, PATTERN));
		EXPECT_EQ(1, queue_read64(&dev[i], TEST_QUEUE, PASID_TEST_Q_PRI_SUCCESS));
	}
	expect_refused(_metadata, self);
	EXPECT_HELD(self->victim.report->pasid);
	/* The event may come after the response: wait for it */
	EXPECT_TRUE(wait_for(!read_file(TRACE "/trace", trace, sizeof(trace)) &&
			     count_of(trace, "prq_report:") >= 2 * QUEUES + 2));
	ASSERT_TRUE(trace_read(trace, sizeof(trace)));
	EXPECT_EQ(2 * QUEUES + 2, count_of(trace, "prq_report:"));
	EXPECT_EQ(2 * QUEUES + 2, count_of(trace, "qi_submit: page_grp_resp"));
	EXPECT_EQ(2 * QUEUES, count_of(trace, "prq_refused:"));
	EXPECT_QUIET(&self->sva.watch);
}

/*
 * An address that is not canonical is reported by the IOMMU, when the device asks
 * for the translation, and by the kernel, when it reads the page request. Here the
 * kernel reads the request after the process has died, and must be quiet.
 */
TEST_F(queued, malformed_request_of_a_dead_process_is_refused_quietly)
{
	struct vfio_dev *dev = self->sva.dev;
	struct kmsg_found found;
	unsigned int i;

	ASSERT_EQ(0, victim_start(&self->victim, dev, 0, pause_forever, self->fds));
	ASSERT_EQ(0, kmsg_expect(dev->bdf, NULL));
	fill(dev, 0, self->victim.report->pasid, (void *)(1UL << 63), ATS | PRI);
	EXPECT_TRUE(wait_for(is_waiting(dev, 0)));
	EXPECT_TRUE(wait_for(!kmsg_read(self->sva.watch.kmsg, &found) && found.nr));
	/* The rest of the IOMMU's report, which may be printed with delay */
	for (i = 0; i < 20 && found.nr; i++) {
		sleep(3);
		EXPECT_EQ(0, kmsg_read(self->sva.watch.kmsg, &found));
	}
	EXPECT_EQ(0, found.nr);
	ASSERT_EQ(0, kmsg_say(KMSG_END));

	ASSERT_EQ(0, trace_begin(self->victim.report->pasid));
	victim_kill(&self->victim);
	EXPECT_TRUE(is_waiting(dev, 0));
	stall_end(self);
	EXPECT_EQ(0, queue_wait_done(dev, 0));
	EXPECT_EQ(1, queue_read64(dev, 0, PASID_TEST_Q_PRI_INVALID));
	EXPECT_QUIET(&self->sva.watch);
	ASSERT_TRUE(trace_read(trace, sizeof(trace)));
	EXPECT_EQ(1, count_of(trace, "prq_refused:"));
	EXPECT_EQ(1, count_of(trace, " blocked\n"));
}

/* A queue that is stopped forgets its page request, the IOMMU does not */
static void request_without_end(const struct vfio_dev *dev, struct victim_report *report,
				char *pages)
{
	unsigned int j;

	fill(&dev[1], QUEUES - 1, report->pasid, pages, ATS | PRI | REPEAT);
	for (;; report->asked++) {
		j = report->asked % QUEUES;
		fill(dev, j, report->pasid, pages + j * PAGE, ATS | PRI | REPEAT);
		while (!is_waiting(dev, j) &&
		       !queue_read64(dev, j, PASID_TEST_Q_PRI_SUCCESS))
			;
		/* If the page request queue is full, the answer is success: ask again */
		if (queue_read64(dev, j, PASID_TEST_Q_PRI_SUCCESS)) {
			report->full = true;
			pause_forever(dev, report, pages);
		}
	}
}

TEST_F(queued, overflow_of_the_queue_is_survived)
{
	struct vfio_dev *dev = self->sva.dev;
	struct kmsg_found found;
	__u32 pasid;

	ASSERT_EQ(0, kmsg_say("expect PRQ overflow"));
	ASSERT_EQ(0, victim_start(&self->victim, dev, 0, request_without_end, self->fds));
	pasid = self->victim.report->pasid;
	EXPECT_TRUE(wait_for(self->victim.report->full));
	TH_LOG("full after %u page requests", self->victim.report->asked);

	/*
	 * The exit stops the queues of one device, unbinds, and waits for the
	 * queued requests before it does the same to the other device.
	 */
	unbind_all(self);
	kill(self->victim.pid, SIGKILL);
	EXPECT_TRUE(wait_for(!is_busy(&dev[0], QUEUES - 1) || !is_busy(&dev[1], QUEUES - 1)));
	EXPECT_EQ(-ENOSPC, pasid_try(pasid));
	stall_end(self);
	victim_kill(&self->victim);
	EXPECT_TRUE(wait_for(!pasid_try(pasid)));

	/*
	 * Only the overflow is logged. The last line has no newline: it appears
	 * with the next one.
	 */
	EXPECT_EQ(0, kmsg_say(KMSG_END));
	EXPECT_EQ(0, kmsg_read(self->sva.watch.kmsg, &found));
	EXPECT_NE(NULL, strstr(found.first, "PRQ overflow detected"));
	EXPECT_EQ(2, found.nr) {
		TH_LOG("%s", found.first);
	}
	/* Others can ask again */
	expect_page_requests_answered(_metadata, dev, self->sva.pasid);
}

/* PASIDs of a device of VFIO: with a page request in the queue, and with other DMA */
#define ASKING		5
#define WRITING		6

struct vfio_call {
	pthread_t thread;
	const struct vfio_dev *dev;
	int fd;
	__u32 id;
	pid_t tid;
	bool done;
	int ret;
};

static void *call_detach(void *arg)
{
	struct vfio_call *call = arg;

	__atomic_store_n(&call->tid, gettid(), __ATOMIC_SEQ_CST);
	call->ret = vfio_detach_pt(call->dev->device, ASKING);
	__atomic_store_n(&call->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *call_free(void *arg)
{
	struct vfio_call *call = arg;

	call->ret = ioasid_free(call->fd, call->id);
	__atomic_store_n(&call->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static bool is_done(const struct vfio_call *call)
{
	return __atomic_load_n(&call->done, __ATOMIC_SEQ_CST);
}

/* Whether a thread, or the only one of a process, sleeps in the function */
static bool sleeps_in(pid_t tid, const char *function)
{
	char path[64], stack[4096];

	snprintf(path, sizeof(path), "/proc/%d/stack", tid);
	return tid && !read_file(path, stack, sizeof(stack)) && strstr(stack, function);
}

static bool is_draining(const struct vfio_call *call)
{
	return sleeps_in(__atomic_load_n(&call->tid, __ATOMIC_SEQ_CST),
			 "intel_iommu_drain_pasid_prq");
}

static bool has_exited(int pid, int *status)
{
	return waitpid(pid, status, WNOHANG) == pid;
}

/* A page table whose page requests go to a file */
static int hwpt_with_faults(struct vfio_dev *dev)
{
	struct iommu_fault_alloc fault = { .size = sizeof(fault) };
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.flags = IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_FAULT_ID_VALID,
		.dev_id = dev->id,
		.pt_id = dev->ioas,
	};
	int ret;

	ret = do_ioctl(dev->iommufd, IOMMU_FAULT_QUEUE_ALLOC, &fault);
	if (ret)
		return ret;
	close(fault.out_fault_fd);
	hwpt.fault_id = fault.out_fault_id;
	ret = do_ioctl(dev->iommufd, IOMMU_HWPT_ALLOC, &hwpt);
	if (!ret)
		dev->hwpt = hwpt.out_hwpt_id;
	return ret;
}

TEST_F(queued, free_blocks_dma_while_a_detach_drains_page_requests)
{
	struct vfio_dev dev = VFIO_DEV_CLOSED;
	struct vfio_call detach = { .dev = &dev };
	struct vfio_call free = { .id = OTHER_ID }, idle_free = { .id = MORE_IDS };
	void *page = page_new();
	struct still still;
	int fd;

	ASSERT_NE(NULL, page);
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vfio_open(&dev, ROLE_NARROW, NULL));
	ASSERT_EQ(0, hwpt_with_faults(&dev));
	ASSERT_EQ(0, vfio_map(&dev, page, IOVA, PAGE));
	ASSERT_EQ(ID, ioasid_alloc(fd, ID, ID));
	ASSERT_EQ(OTHER_ID, ioasid_alloc(fd, OTHER_ID, OTHER_ID));
	ASSERT_EQ(MORE_IDS, ioasid_alloc(fd, MORE_IDS, MORE_IDS));
	ASSERT_EQ(0, vfio_attach_pt(dev.device, VFIO_DEVICE_ATTACH_IOASID, ASKING, dev.hwpt,
				    fd, ID));
	ASSERT_EQ(0, vfio_attach_pt(dev.device, VFIO_DEVICE_ATTACH_IOASID, WRITING, dev.hwpt,
				    fd, OTHER_ID));
	queue_fill_repeat(&dev, QUEUE, WRITING, IOVA, PATTERN, PERIOD_US);
	EXPECT_DMA(&dev, QUEUE);
	fill(&dev, TEST_QUEUE, ASKING, (void *)(unsigned long)(IOVA + PAGE), ATS | PRI);
	ASSERT_TRUE(wait_for(is_waiting(&dev, TEST_QUEUE)));
	ASSERT_EQ(0, ioasid_free(fd, ID));

	/* The free of an IOASID of the same set that has no attachment does not wait */
	ASSERT_EQ(0, pthread_create(&detach.thread, NULL, call_detach, &detach));
	EXPECT_TRUE(wait_for(is_draining(&detach)));
	idle_free.fd = fd;
	ASSERT_EQ(0, pthread_create(&idle_free.thread, NULL, call_free, &idle_free));
	EXPECT_TRUE(wait_for(is_done(&idle_free)));

	/* The free waits for the mutex of the group, but blocks the DMA before */
	free.fd = fd;
	EXPECT_DMA(&dev, QUEUE);
	ASSERT_EQ(0, pthread_create(&free.thread, NULL, call_free, &free));
	EXPECT_TRUE(wait_for(queue_failed(&dev, QUEUE)));
	still_take(&still, &dev, QUEUE, page);
	EXPECT_EQ(0, still_check(&still, &dev, QUEUE, page, NR_REFUSED));
	EXPECT_TRUE(is_draining(&detach));
	EXPECT_FALSE(is_done(&free));

	stall_end(self);
	EXPECT_EQ(0, pthread_join(detach.thread, NULL));
	EXPECT_EQ(0, pthread_join(idle_free.thread, NULL));
	EXPECT_EQ(0, pthread_join(free.thread, NULL));
	EXPECT_EQ(0, detach.ret);
	EXPECT_EQ(0, idle_free.ret);
	EXPECT_EQ(0, free.ret);
	EXPECT_NO_DMA(&dev, QUEUE, page);
	EXPECT_EQ(-ENOSPC, ioasid_try(OTHER_ID));
	EXPECT_EQ(0, ioasid_try(ID));
	vfio_close(&dev);
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	close(fd);
	EXPECT_QUIET(&self->sva.watch);
}

/*
 * An unbind and a detach wait for the same run of the PRQ thread. No page
 * request follows: it would wake up a drain that has missed its wake-up.
 */
TEST_F(queued, drains_at_once_all_end)
{
	struct vfio_dev dev = VFIO_DEV_CLOSED;
	struct vfio_call detach = { .dev = &dev };
	void *page = page_new();
	int fd, status;
	bool exited;

	ASSERT_NE(NULL, page);
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vfio_open(&dev, ROLE_NARROW, NULL));
	ASSERT_EQ(0, hwpt_with_faults(&dev));
	ASSERT_EQ(0, vfio_map(&dev, page, IOVA, PAGE));
	ASSERT_EQ(ID, ioasid_alloc(fd, ID, ID));
	ASSERT_EQ(0, vfio_attach_pt(dev.device, VFIO_DEVICE_ATTACH_IOASID, ASKING, dev.hwpt,
				    fd, ID));
	start_requests(_metadata, self);
	fill(&dev, TEST_QUEUE, ASKING, (void *)(unsigned long)(IOVA + PAGE), ATS | PRI);
	ASSERT_TRUE(wait_for(is_waiting(&dev, TEST_QUEUE)));

	ASSERT_EQ(0, pthread_create(&detach.thread, NULL, call_detach, &detach));
	EXPECT_TRUE(wait_for(is_draining(&detach)));
	unbind_all(self);
	kill(self->victim.pid, SIGKILL);
	EXPECT_TRUE(wait_for(sleeps_in(self->victim.pid, "intel_iommu_drain_pasid_prq")));
	EXPECT_TRUE(is_draining(&detach));

	stall_end(self);
	exited = wait_for(has_exited(self->victim.pid, &status));
	EXPECT_TRUE(exited);
	EXPECT_TRUE(wait_for(is_done(&detach)));
	/* For the teardown, if that has failed */
	expect_page_requests_answered(_metadata, self->sva.dev, self->sva.pasid);
	if (exited)
		self->victim.pid = 0;
	EXPECT_EQ(0, pthread_join(detach.thread, NULL));
	EXPECT_EQ(0, detach.ret);
	EXPECT_TRUE(wait_for(!pasid_try(self->victim.report->pasid)));
	vfio_close(&dev);
	close(fd);
	EXPECT_QUIET(&self->sva.watch);
}

/* Memory whose pages do not come until they are told to */
#define SLOW_PARAM	"/sys/module/slow_page/parameters/"

/* More than a workqueue handles at once, less than the page request queue has room for */
#define MANY_REQUESTS	1200

/* A process that has a device ask for pages that do not come, @nr times */
FIXTURE(slow) {
	FIXTURE_DATA(sva) sva;
	int pid;
	struct victim_report *report;	/* in shared memory */
};

/*
 * The process only has the memory. A mapping of the registers would keep the file of
 * the device, as page faults that are being handled keep the mm.
 */
static int have_slow_pages(struct vfio_dev *dev, struct victim_report *report)
{
	int fd;

	fd = open("/dev/slow-page", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	report->pages = mmap(NULL, QUEUES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (report->pages == MAP_FAILED)
		return -errno;
	report->ret = sva_open(dev, &report->pasid);
	if (report->ret)
		return report->ret;
	munmap(dev->bar, PASID_TEST_BAR_SIZE);
	__atomic_store_n(&report->ready, true, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
}

static void slow_start(struct __test_metadata *_metadata, FIXTURE_DATA(slow) *self,
		       unsigned int nr)
{
	struct vfio_dev *dev = &self->sva.dev[0], other = *dev;
	unsigned int i;

	self->pid = fork_child();
	ASSERT_LE(0, self->pid);
	if (!self->pid)
		_exit(!!have_slow_pages(&other, self->report));
	ASSERT_TRUE(wait_for(__atomic_load_n(&self->report->ready, __ATOMIC_SEQ_CST)));
	/* A queue that is stopped forgets its page request, the IOMMU does not */
	for (i = 0; i < nr; i++) {
		unsigned int j = i % QUEUES;

		fill(dev, j, self->report->pasid, self->report->pages + j * PAGE, ATS | PRI);
		ASSERT_TRUE(wait_for(is_waiting(dev, j)));
	}
	ASSERT_TRUE(wait_for(param_get(SLOW_PARAM "waiting") > 0));
}

/* The pages come, and the process ends */
static void slow_end(FIXTURE_DATA(slow) *self)
{
	write_file(SLOW_PARAM "come", "1");
	if (self->pid > 0)
		kill_and_reap(self->pid);
	self->pid = 0;
}

FIXTURE_SETUP(slow)
{
	int ret;

	self->pid = 0;
	self->report = page_new();
	ASSERT_NE(NULL, self->report);
	sva_begin(_metadata, &self->sva);
	ret = module_load("slow_page", "");
	if (ret)
		sva_end(_metadata, &self->sva);
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(slow)
{
	slow_end(self);
	sva_end(_metadata, &self->sva);
	EXPECT_TRUE(wait_for(!module_unload("slow_page")));
	munmap(self->report, PAGE);
}

/* A process of its own, which may hang: bind the device, use it, unbind */
static int bind_and_unbind(struct vfio_dev *dev)
{
	char *page = pages_new(1);
	__u32 pasid;
	int ret;

	if (!page)
		return -ENOMEM;
	ret = sva_open(dev, &pasid);
	if (ret)
		return ret;
	fill(dev, TEST_QUEUE, pasid, page, ATS | PRI);
	ret = queue_wait_done(dev, TEST_QUEUE);
	if (!ret && !is_filled(page, PATTERN))
		ret = -EIO;
	vfio_close_device(dev);
	return ret;
}

/* Neither while the process is alive, nor after its exit, which does not wait for it */
TEST_F(slow, page_that_does_not_come_holds_up_no_other_process)
{
	unsigned int round, i;
	int other, status;

	slow_start(_metadata, self, 1);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 2; i++) {
			struct vfio_dev dev = self->sva.dev[i];

			other = fork_child();
			ASSERT_LE(0, other);
			if (!other)
				_exit(!!bind_and_unbind(&dev));
			status = -1;
			EXPECT_TRUE(wait_for(has_exited(other, &status))) {
				TH_LOG("device %u, %s", i, round ? "killed" : "alive");
				/* It can end when the page has come */
				slow_end(self);
				kill_and_reap(other);
			}
			EXPECT_EQ(0, status);
		}
		if (round || !self->pid)
			break;
		kill(self->pid, SIGKILL);
		EXPECT_TRUE(wait_for(has_exited(self->pid, &status)));
		self->pid = 0;
	}
	/* The handler keeps the mm, and so the PASID */
	EXPECT_EQ(1, param_get(SLOW_PARAM "waiting"));
	EXPECT_EQ(-ENOSPC, pasid_try(self->report->pasid));
	slow_end(self);
	EXPECT_TRUE(wait_for(!pasid_try(self->report->pasid)));
	EXPECT_QUIET(&self->sva.watch);
}

/* The unbind answers the requests, and none is answered again when its page comes */
TEST_F(slow, each_request_is_answered_once)
{
	static const char *const answered[] = {
		": unbind\n", "prq_refused:", ": the page comes\n", NULL
	};

	slow_start(_metadata, self, 1);
	ASSERT_EQ(0, trace_begin(self->report->pasid));
	mark("unbind");
	kill(self->pid, SIGKILL);
	EXPECT_TRUE(wait_for(!read_file(TRACE "/trace", trace, sizeof(trace)) &&
			     count_of(trace, "prq_refused:")));
	mark("the page comes");
	slow_end(self);
	EXPECT_TRACED(answered);
	EXPECT_EQ(1, count_of(trace, "qi_submit: page_grp_resp"));
}

TEST_F(slow, pages_that_do_not_come_leave_room_for_those_of_others)
{
	slow_start(_metadata, self, MANY_REQUESTS);
	/* The other device, and the same */
	expect_page_requests_answered(_metadata, &self->sva.dev[1], self->sva.pasid);
	expect_page_requests_answered(_metadata, &self->sva.dev[0], self->sva.pasid);
	slow_end(self);
	EXPECT_TRUE(wait_for(!pasid_try(self->report->pasid)));
	EXPECT_QUIET(&self->sva.watch);
}

TEST_HARNESS_MAIN
