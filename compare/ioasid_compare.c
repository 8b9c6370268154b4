// SPDX-License-Identifier: GPL-2.0
/*
 * What compare/run runs on the base kernel and on the series: what becomes
 * of a device's DMA when the owner of its PASIDs dies, and what the end of many
 * PASIDs costs. A device belongs to this process, which attaches PASIDs through
 * iommufd for owners that are other processes. There are two kinds of owners:
 *
 *   plain    a process. When this process sees that it is gone, it detaches the
 *	      owner's PASIDs, one by one. Both kernels can do that.
 *   ioasid   a file of /dev/ioasid. Nothing need be done when it is closed.
 *
 * Program, device and page table are the same in both cases. Nothing is judged
 * here. A line of the output says what was done, how often, and what came of it.
 * What the IOMMU had to do meanwhile is in QEMU's trace, between the writes of
 * mark <n> and of <n + 1> to the cache line size in the device's configuration
 * space, a register without a function. The latency timer, another one, is 1
 * while transfers are tried on purpose.
 *
 * Instructions are those of the TSC: with QEMU's -icount shift=0 and one CPU it
 * counts them. A nanosecond is one, for the kernel's tracer too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/pci_regs.h>

#include "kselftest.h"
#include "vfio_util.h"

#define IOVA		0x10000000ULL
#define QUEUE		0
#define PERIOD		20
#define PATTERN		0x0100000000000000ULL

/* Owners that are killed */
#define ROUNDS		10
/* Transfers before an owner is killed, and those that are tried after that */
#define SOME		50
#define TRIES		100

#define MAX_COUNT	10000
/* The device has 20 bits of PASID */
#define MAX_PASID	0xfffff

/* Longer than the kernel's DEFAULT_RATELIMIT_INTERVAL */
#define CALM_S		6

#define TRACING		"/sys/kernel/tracing"

static struct vfio_dev dev = VFIO_DEV_CLOSED;
static void *page, *next_page;
static char bdf[BDF_SIZE];

static int must(int ret, const char *what)
{
	if (ret >= 0)
		return ret;
	printf("# %s: %s\n", what, strerror(-ret));
	exit(1);
}

/* Two kinds of owners */

struct kind {
	const char *name;
	bool loud;	/* faults of its DMA are reported */
	int (*open)(void);
	int (*attach)(int fd);	/* one more; returns its PASID */
	void (*end)(int pasid);	/* when its owner is gone */
};

/* PASIDs of this process's own choice: the lowest that it does not use */
static bool used[MAX_COUNT + 2];

static int plain_open(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int plain_attach(int fd)
{
	int ret, pasid;

	for (pasid = 1; used[pasid]; pasid++)
		;
	ret = vfio_attach_pt(dev.device, 0, pasid, dev.hwpt, -1, 0);
	used[pasid] = !ret;
	return ret ?: pasid;
}

static void detach(int pasid)
{
	must(vfio_detach_pt(dev.device, pasid), "detach");
}

static void plain_end(int pasid)
{
	detach(pasid);
	used[pasid] = false;
}

static const struct kind plain = {
	.name = "plain",
	.loud = true,
	.open = plain_open,
	.attach = plain_attach,
	.end = plain_end,
};

static int ioasid_attach(int fd)
{
	int ret, id;

	id = ioasid_alloc(fd, 1, MAX_PASID);
	if (id < 0)
		return id;
	ret = vfio_attach(&dev, fd, id, TAGGED);
	return ret ?: id;
}

static const struct kind ioasid = {
	.name = "ioasid",
	.open = ioasid_open,
	.attach = ioasid_attach,
};

/* QEMU's trace and the clock */

static int config = -1;
static unsigned char marks;

static unsigned int mark(void)
{
	marks++;
	if (pwrite(config, &marks, 1, PCI_CACHE_LINE_SIZE) != 1)
		must(-errno, "mark");
	return marks;
}

static void mark_tries(unsigned char on)
{
	if (pwrite(config, &on, 1, PCI_LATENCY_TIMER) != 1)
		must(-errno, "mark");
}

static __u64 clock_begin;

static unsigned int begin(void)
{
	unsigned int nr = mark();

	clock_begin = __builtin_ia32_rdtsc();
	return nr;
}

static __u64 end(void)
{
	__u64 instructions = __builtin_ia32_rdtsc() - clock_begin;

	mark();
	return instructions;
}

/* Kills */

/* How many of TRIES transfers reach memory */
static unsigned long try_on(int id, void *memory)
{
	unsigned long landed = 0;
	int i;

	mark_tries(1);
	for (i = 0; i < TRIES; i++) {
		*(__u64 *)memory = 0;
		__sync_synchronize();
		queue_fill(&dev, QUEUE, id, IOVA, PATTERN);
		must(queue_wait_done(&dev, QUEUE), "the queue");
		__sync_synchronize();
		landed += queue_good(&dev, QUEUE) || *(__u64 *)memory;
	}
	mark_tries(0);
	return landed;
}

static void map(void *memory)
{
	must(vfio_map(&dev, memory, IOVA, PAGE), "map");
}

static void unmap(void)
{
	must(vfio_unmap(&dev, IOVA, PAGE), "unmap");
}

/*
 * An owner is killed in the middle of tagged DMA, which nobody stops. The next one
 * has memory of its own.
 */
static void kill_one(const struct kind *kind, unsigned long *landed, unsigned long *landed_next,
		     unsigned int *again)
{
	int child, fd, id, next, tell[2];
	__u64 good;

	if (pipe(tell))
		must(-errno, "pipe");
	/* The owner is the child: it has the only reference to the file */
	fd = must(kind->open(), "open");
	id = must(kind->attach(fd), "attach");
	child = fork_child();
	if (!child) {
		must(send_byte(tell[1]), "pipe");
		for (;;)
			pause();
	}
	must(child, "fork");
	close(fd);
	close(tell[1]);
	must(wait_byte(tell[0]), "the owner");
	close(tell[0]);

	queue_fill_repeat(&dev, QUEUE, id, IOVA, PATTERN, PERIOD);
	must(queue_wait_good(&dev, QUEUE, SOME), "DMA");
	kill_and_reap(child);
	/* What the owner's memory gets before this process has ended the DMA */
	good = queue_good(&dev, QUEUE);
	if (kind->end)
		kind->end(id);
	usleep(TRIES * PERIOD);
	*landed += queue_good(&dev, QUEUE) - good;
	queue_stop(&dev, QUEUE);
	*landed += try_on(id, page);

	unmap();
	map(next_page);
	fd = must(kind->open(), "open");
	next = must(kind->attach(fd), "attach");
	*again += next == id;
	*landed_next += try_on(id, next_page);
	close(fd);
	if (kind->end)
		kind->end(next);
	unmap();
	map(page);
	if (!kind->end) {
		detach(id);
		detach(next);
	}
}

static int log_begin(bool loud)
{
	if (loud)
		must(kmsg_expect(bdf, NULL), "/dev/kmsg");
	return must(kmsg_open(), "/dev/kmsg");
}

/* How many lines about DMA faults there are */
static int log_end(int kmsg, bool loud)
{
	struct kmsg_found found;

	/* What is left out is said with the next line, and must not be more later */
	if (loud)
		sleep(CALM_S);
	must(kmsg_read(kmsg, &found), "/dev/kmsg");
	close(kmsg);
	if (loud)
		must(kmsg_say(KMSG_END), "/dev/kmsg");
	return found.nr;
}

static void kill_owners(const struct kind *kind)
{
	unsigned long landed = 0, landed_next = 0;
	int i, kmsg = log_begin(kind->loud);
	unsigned int nr, again = 0;

	nr = mark();
	for (i = 0; i < ROUNDS; i++)
		kill_one(kind, &landed, &landed_next, &again);
	mark();
	printf("kill %s %d: mark %u lines %d landed %lu next %lu again %u\n", kind->name, ROUNDS,
	       nr, log_end(kmsg, kind->loud), landed, landed_next, again);
}

/* Who has the device itself is killed, in the middle of DMA without PASID */
static unsigned long kill_user(void)
{
	int child, tell[2];
	__u64 word;

	if (pipe(tell))
		must(-errno, "pipe");
	child = fork_child();
	if (!child) {
		must(vfio_open(&dev, ROLE_PASID_A, NULL), "VFIO");
		map(page);
		must(vfio_attach_no_ioasid(&dev), "attach");
		queue_fill_repeat(&dev, QUEUE, NO_PASID, IOVA, PATTERN, PERIOD);
		must(queue_wait_good(&dev, QUEUE, SOME), "DMA");
		must(send_byte(tell[1]), "pipe");
		for (;;)
			pause();
	}
	must(child, "fork");
	close(tell[1]);
	must(wait_byte(tell[0]), "the user");
	close(tell[0]);
	kill_and_reap(child);
	/* Each transfer leaves a larger one */
	word = __atomic_load_n((__u64 *)page, __ATOMIC_SEQ_CST);
	usleep(TRIES * PERIOD);
	return __atomic_load_n((__u64 *)page, __ATOMIC_SEQ_CST) - word;
}

static void kill_users(void)
{
	int i, kmsg = log_begin(false);
	unsigned long landed = 0;
	unsigned int nr;

	nr = mark();
	for (i = 0; i < ROUNDS; i++)
		landed += kill_user();
	mark();
	printf("kill user %d: mark %u lines %d landed %lu next 0 again 0\n", ROUNDS, nr,
	       log_end(kmsg, false), landed);
}

/* The end of many */

static int ids[MAX_COUNT];

static int attach_pasids(const struct kind *kind, unsigned int count)
{
	int fd = must(kind->open(), "open");
	unsigned int i;

	for (i = 0; i < count; i++)
		ids[i] = must(kind->attach(fd), "attach");
	return fd;
}

static void end_pasids(const struct kind *kind, unsigned int count, bool each)
{
	int fd = attach_pasids(kind, count);
	__u64 instructions;
	unsigned int i, nr;

	nr = begin();
	for (i = 0; each && i < count; i++)
		must(ioasid_free(fd, ids[i]), "free");
	if (!each)
		close(fd);
	for (i = 0; kind->end && i < count; i++)
		kind->end(ids[i]);
	instructions = end();
	printf("%s %s %u: mark %u instructions %llu\n", each ? "free" : "close", kind->name,
	       count, nr, instructions);
	if (each)
		close(fd);
	if (kind->end)
		return;

	nr = begin();
	for (i = 0; i < count; i++)
		detach(ids[i]);
	instructions = end();
	if (!each)
		printf("detach %s %u: mark %u instructions %llu\n", kind->name, count, nr,
		       instructions);
}

/* Unmaps, while PASIDs are attached to the page table */

#define MEMORY_IOVA	0x40000000ULL
#define MEMORY_SIZE	(64 << 20)
/* Pages with a table of the next level each */
#define SCATTERED	16
#define SCATTERED_STEP	(2 << 20)

static void *memory;

static void map_page(void)
{
	must(vfio_map(&dev, memory, MEMORY_IOVA, PAGE), "map");
}

static void map_scattered(void)
{
	unsigned int i;

	for (i = 0; i < SCATTERED; i++)
		must(vfio_map(&dev, memory + i * PAGE, MEMORY_IOVA + i * SCATTERED_STEP, PAGE),
		     "map");
}

static void unmap_scattered(void)
{
	unsigned int i;

	for (i = 0; i < SCATTERED; i++)
		must(vfio_unmap(&dev, MEMORY_IOVA + i * SCATTERED_STEP, PAGE), "unmap");
}

static void map_memory(void)
{
	must(vfio_map(&dev, memory, MEMORY_IOVA, MEMORY_SIZE), "map");
}

static void unmap_page(void)
{
	must(vfio_unmap(&dev, MEMORY_IOVA, PAGE), "unmap");
}

static void unmap_memory(void)
{
	must(vfio_unmap(&dev, MEMORY_IOVA, MEMORY_SIZE), "unmap");
}

static const struct unmap {
	const char *name;
	void (*map)(void);
	void (*unmap)(void);
} unmaps[] = {
	{ "page", map_page, unmap_page },
	{ "scattered", map_scattered, unmap_scattered },
	{ "memory", map_memory, unmap_memory },
};

static void detach_pasids(const struct kind *kind, unsigned int count, int fd)
{
	unsigned int i;

	close(fd);
	for (i = 0; i < count; i++) {
		if (kind->end)
			kind->end(ids[i]);
		else
			detach(ids[i]);
	}
}

static void tracer(const char *name)
{
	must(write_file(TRACING "/tracing_max_latency", "0"), "tracing_max_latency");
	must(write_file(TRACING "/current_tracer", name), "current_tracer");
}

/* The longest time without preemption or interrupts: spin locks are held as long at most */
static void tracer_end(const char *what, const struct kind *kind, unsigned int count)
{
	char text[32], header[1024], *place;
	unsigned long us;

	must(write_file(TRACING "/tracing_on", "0"), "tracing_on");
	must(read_file(TRACING "/tracing_max_latency", text, sizeof(text)), "tracing_max_latency");
	us = strtoul(text, NULL, 10);
	must(us ? 0 : -ENODATA, "tracing_max_latency");
	must(read_file(TRACING "/trace", header, sizeof(header)), "trace");
	must(write_file(TRACING "/current_tracer", "nop"), "current_tracer");
	must(write_file(TRACING "/tracing_on", "1"), "tracing_on");
	/* In microseconds */
	printf("off-%s %s %u: mark 0 instructions %lu\n", what, kind->name, count, us * 1000);
	for (place = strtok(header, "\n"); place; place = strtok(NULL, "\n"))
		if (strstr(place, "started at:") || strstr(place, "ended at:"))
			printf("%s\n", place);
}

static void end_pasids_traced(const struct kind *kind, unsigned int count)
{
	int fd = attach_pasids(kind, count);
	unsigned int i;

	tracer("preemptirqsoff");
	close(fd);
	for (i = 0; kind->end && i < count; i++)
		kind->end(ids[i]);
	tracer_end("close", kind, count);
	if (kind->end)
		return;
	tracer("preemptirqsoff");
	for (i = 0; i < count; i++)
		detach(ids[i]);
	tracer_end("detach", kind, count);
}

static void unmap_with_pasids(const struct kind *kind, unsigned int count)
{
	int fd = attach_pasids(kind, count);
	__u64 instructions;
	unsigned int nr, i;

	for (i = 0; i < ARRAY_SIZE(unmaps); i++) {
		unmaps[i].map();
		nr = begin();
		unmaps[i].unmap();
		instructions = end();
		printf("unmap-%s %s %u: mark %u instructions %llu\n", unmaps[i].name, kind->name,
		       count, nr, instructions);

		unmaps[i].map();
		tracer("irqsoff");
		unmaps[i].unmap();
		tracer_end(unmaps[i].name, kind, count);
	}
	detach_pasids(kind, count, fd);
}

int main(void)
{
	static const unsigned int unmapped[] = { 1, 1, 1, 32, 32, 32, 256, 256, 1024, 1024 };
	static const unsigned int counts[] = {
		/* Several times, as an interrupt may come in between */
		1, 1, 1, 10, 10, 10, 100, 100, 1000, 1000, MAX_COUNT,
	};
	static const unsigned int traced[] = { 1, 1, 1, 32, 32, 32, 1000, 1000, 1000 };
	bool series = !access(IOASID_PATH, F_OK);
	char text[64];
	unsigned int i;

	setlinebuf(stdout);
	page = page_new();
	next_page = page_new();
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	must(page && next_page && memory != MAP_FAILED ? 0 : -ENOMEM, "memory");
	must(machine_find(ROLE_PASID_A, bdf), "the device");
	snprintf(text, sizeof(text), "/sys/bus/pci/devices/%s/config", bdf);
	config = open(text, O_RDWR | O_CLOEXEC);
	must(config < 0 ? -errno : 0, text);
	if (series)
		must(param_set(PARAM_QUOTA, 2 * MAX_COUNT), "quota");

	kill_users();
	must(vfio_open(&dev, ROLE_PASID_A, NULL), "VFIO");
	map(page);
	kill_owners(&plain);
	if (series)
		kill_owners(&ioasid);
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		end_pasids(&plain, counts[i], false);
		if (!series)
			continue;
		end_pasids(&ioasid, counts[i], true);
		end_pasids(&ioasid, counts[i], false);
	}
	for (i = 0; i < ARRAY_SIZE(traced); i++) {
		end_pasids_traced(&plain, traced[i]);
		if (series)
			end_pasids_traced(&ioasid, traced[i]);
	}
	for (i = 0; i < ARRAY_SIZE(unmapped); i++) {
		unmap_with_pasids(&plain, unmapped[i]);
		if (series)
			unmap_with_pasids(&ioasid, unmapped[i]);
	}
	vfio_close(&dev);
	return 0;
}
