// SPDX-License-Identifier: GPL-2.0
/*
 * The life of an IOASID as a time line. Two owners allocate an IOASID and a page
 * table each, and let one device do DMA under both at once, to the same address.
 * One owner is killed in the middle of DMA: its DMA ends, and the DMA of the
 * other owner continues. Another process has the device open, and closes it.
 * Then the next owner allocates the id. The killed owner has DMA without PASID
 * the first time, and DMA with the id as PASID the second time.
 *
 * The last lines are for machines:
 *
 *   ok no_pasid: transfers before <n>, transfers after 0, blocked <n>, other owner's
 *     transfers meanwhile <n>, failed 0, faults recorded 0, held while parked by
 *     <holder>, id <id> reused
 *   ok tagged: ...
 *
 * each on one line, or "not ok no_pasid: <why>". -t adds KTAP around them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "vfio_util.h"
#include "pasid-test.h"

#define IOVA		0x10000000ULL
#define QUEUE		0
#define OTHER_QUEUE	1
/* Time between two transfers of the queue */
#define PERIOD_US	100
#define PATTERN		0x01d0000000000000ULL
#define NEXT_PATTERN	0x02e0000000000000ULL
#define OTHER_PATTERN	0x03f0000000000000ULL

/* How many transfers to wait for: of DMA that works, and refused ones of blocked DMA */
#define NR_TRANSFERS	1000
#define NR_REFUSED	100

#define REGSET_PATH	"/sys/kernel/debug/iommu/intel/iommu_regset"
/* Primary fault overflow, primary pending fault */
#define FSTS_FAULT	0x3

/* What the processes of one life share */
struct life {
	const char *kind;
	__u32 flags;
	__u32 id;
	char why[256];		/* the test failed, if it did */
	char holders[256];	/* while parked */

	/* The holder's view of the device; times in ns of CLOCK_MONOTONIC */
	__u64 good_at_death;
	__u64 good_after;
	__u64 blocked;
	__u64 last_good_time;
	__u64 first_fail_time;
	__u64 first_fail_good;
	__u64 first_fail_addr;

	__u64 other_good;	/* the other owner's, since the holder started */
	__u64 other_failed;
	__u64 next_good;	/* the next owner's transfers */
};

/* This process's children, 0: not running */
static int owner, other_owner, holder;

static __u64 birth;

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* The time line: when, who, what. One write a line, as several processes write. */

static void __printf(3, 0)
vsay_at(__u64 when, const char *who, const char *fmt, va_list args)
{
	double ms = when > birth ? (when - birth) / 1e6 : 0;
	char what[512];

	vsnprintf(what, sizeof(what), fmt, args);
	dprintf(STDOUT_FILENO, "%9.1f ms  %-10s  %s\n", ms, who, what);
}

static void __printf(3, 4)
say_at(__u64 when, const char *who, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsay_at(when, who, fmt, args);
	va_end(args);
}

static void __printf(2, 3)
say(const char *who, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsay_at(now_ns(), who, fmt, args);
	va_end(args);
}

/* Returns -1. The first failure is why the test failed. */
static int __printf(2, 3)
fail_once(struct life *life, const char *fmt, ...)
{
	va_list args;

	if (!life->why[0]) {
		va_start(args, fmt);
		vsnprintf(life->why, sizeof(life->why), fmt, args);
		va_end(args);
	}
	return -1;
}

/* Faults that the kernel or the hardware has recorded since the last call */
static int count_faults(struct life *life, int kmsg)
{
	struct kmsg_found found;
	char line[256], name[32];
	unsigned long long offset, value;
	int ret, faults;
	FILE *f;

	ret = kmsg_read(kmsg, &found);
	if (ret)
		return fail_once(life, "the kernel log cannot be read: %s", strerror(-ret));
	if (found.nr)
		say("kernel", "logs: %s", found.first);
	faults = found.nr;

	f = fopen(REGSET_PATH, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%31s %llx %llx", name, &offset, &value) == 3 &&
		    !strcmp(name, "FSTS") && value & FSTS_FAULT) {
			say("iommu", "has a fault pending, FSTS is %#llx", value);
			faults++;
		}
	}
	if (f)
		fclose(f);
	return faults;
}

/* Let the device do DMA to @page, by a new page table, under the IOASID @id of @fd */
static int begin_dma(struct life *life, const struct vfio_dev *dev, unsigned int queue, int fd,
		     __u32 id, __u32 flags, void *page, __u64 pattern)
{
	__u32 ioas, hwpt;
	int ret;

	ret = ioas_new(dev->iommufd, &ioas) ?: ioas_map(dev->iommufd, ioas, page, IOVA, PAGE) ?:
	      hwpt_new(dev, ioas, &hwpt);
	if (ret)
		return fail_once(life, "there is no page table: %s", strerror(-ret));
	ret = vfio_attach_pt(dev->device, VFIO_DEVICE_ATTACH_IOASID, pasid_of(flags, id), hwpt,
			     fd, id);
	if (ret)
		return fail_once(life, "the device cannot be attached: %s", strerror(-ret));
	queue_fill_repeat(dev, queue, pasid_of(flags, id), IOVA, pattern, PERIOD_US);
	ret = queue_wait_good(dev, queue, NR_TRANSFERS);
	if (ret)
		return fail_once(life, "DMA does not work: %s", strerror(-ret));
	if (!is_filled(page, pattern))
		return fail_once(life, "DMA went elsewhere");
	return 0;
}

static const char *name_of(__u32 flags)
{
	return flags & FLAG_NO_PASID ? "DMA without PASID" : "DMA with the id as PASID";
}

/* An owner. It closes the device when its DMA runs, keeps the IOASID, and is killed */
static int owner_main(struct life *life, const char *who, struct vfio_dev *dev,
		      unsigned int queue, __u32 flags, void *page, __u64 pattern, int sock)
{
	int fd, id;

	fd = ioasid_open();
	if (fd < 0)
		return fail_once(life, "%s cannot be opened: %s", IOASID_PATH, strerror(-fd));
	id = ioasid_alloc(fd, 1, (1 << 20) - 1);
	if (id < 0)
		return fail_once(life, "no IOASID: %s", strerror(-id));
	say(who, "pid %d opens " IOASID_PATH " and allocates IOASID %d", getpid(), id);
	if (begin_dma(life, dev, queue, fd, id, flags, page, pattern))
		return -1;
	say(who, "maps a page at %#llx, attaches %s", IOVA, name_of(flags));
	say("device", "fills that page again and again: %llu good transfers, %llu failed",
	    queue_good(dev, queue), queue_failed(dev, queue));
	if (queue == QUEUE)
		life->id = id;
	vfio_close(dev);
	if (send_byte(sock))
		return -1;
	pause();
	return fail_once(life, "the owner survived");
}

/* How far the clock of Linux is ahead of the device's: the best of 20 looks */
static __s64 clock_ahead(const struct vfio_dev *dev)
{
	__u64 before, device, after, closest = ~0ULL;
	__s64 ahead = 0;
	int i;

	for (i = 0; i < 20; i++) {
		before = now_ns();
		device = device_clock(dev);
		after = now_ns();
		if (after - before < closest) {
			closest = after - before;
			ahead = before + closest / 2 - device;
		}
	}
	return ahead;
}

/* The holder: goes one step further at each byte from @sock */
static int holder_main(struct life *life, struct vfio_dev *holder_dev, void *page, int sock)
{
	struct vfio_dev dev = *holder_dev;
	__u64 other_good, other_failed;
	struct still still;
	__s64 ahead;
	int ret;

	say("holder", "pid %d has the device, %s", getpid(), dev.bdf);
	other_good = queue_good(&dev, OTHER_QUEUE);
	other_failed = queue_failed(&dev, OTHER_QUEUE);

	ahead = clock_ahead(&dev);
	if (queue_wait_good(&dev, QUEUE, NR_TRANSFERS))
		return fail_once(life, "DMA ended before the owner did");
	if (send_byte(sock) || wait_byte(sock))
		return -1;

	/* The owner is dead */
	still_take(&still, &dev, QUEUE, page);
	ret = still_check(&still, &dev, QUEUE, page, NR_REFUSED);
	life->good_at_death = still.good;
	life->good_after = queue_good(&dev, QUEUE) - still.good;
	life->blocked = queue_failed(&dev, QUEUE);
	life->last_good_time = queue_read64(&dev, QUEUE, PASID_TEST_Q_LAST_GOOD_TIME) + ahead;
	life->first_fail_time = queue_read64(&dev, QUEUE, PASID_TEST_Q_FIRST_FAIL_TIME) + ahead;
	life->first_fail_good = queue_read64(&dev, QUEUE, PASID_TEST_Q_FIRST_FAIL_GOOD);
	life->first_fail_addr = queue_read64(&dev, QUEUE, PASID_TEST_Q_FIRST_FAIL_ADDR);
	if (ret == -EIO)
		return fail_once(life, "%llu transfers went through after the owner's death",
			     life->good_after);
	if (ret == -EILSEQ)
		return fail_once(life, "memory changed after the owner's death");
	if (ret)
		return fail_once(life, "the device does not try any more");
	if (life->first_fail_good != life->good_at_death)
		return fail_once(life, "a transfer was refused before the last good one");
	if (queue_wait_good(&dev, OTHER_QUEUE, NR_TRANSFERS))
		return fail_once(life, "the other owner's DMA does not go on");
	life->other_good = queue_good(&dev, OTHER_QUEUE) - other_good;
	life->other_failed = queue_failed(&dev, OTHER_QUEUE) - other_failed;
	if (life->other_failed)
		return fail_once(life, "%llu transfers of the other owner were lost",
				 life->other_failed);
	if (send_byte(sock) || wait_byte(sock))
		return -1;

	/* The parent has looked at the parked IOASID */
	life->blocked = queue_failed(&dev, QUEUE);
	vfio_close(&dev);
	say("holder", "closes the device, which still tries");
	return send_byte(sock);
}

static int next_owner_main(struct life *life, void *page)
{
	struct vfio_dev dev;
	int fd, ret;

	fd = ioasid_open();
	if (fd < 0)
		return fail_once(life, "%s cannot be opened: %s", IOASID_PATH, strerror(-fd));
	ret = ioasid_alloc(fd, life->id, life->id);
	if (ret < 0)
		return fail_once(life, "id %u is not recycled: %s", life->id, strerror(-ret));
	say("next owner", "pid %d allocates IOASID %u", getpid(), life->id);
	ret = vfio_open(&dev, ROLE_PASID_A, NULL);
	if (ret)
		return fail_once(life, "the device cannot be opened: %s", strerror(-ret));
	if (begin_dma(life, &dev, QUEUE, fd, life->id, life->flags, page, NEXT_PATTERN))
		return -1;
	life->next_good = queue_good(&dev, QUEUE);
	say("next owner", "opens the device, maps another page at %#llx, attaches %s", IOVA,
	    name_of(life->flags));
	say("device", "fills that one: %llu good transfers, %llu failed", life->next_good,
	    queue_failed(&dev, QUEUE));
	close(fd);
	vfio_close(&dev);
	say("next owner", "closes all");
	return 0;
}

/* The id of the parked IOASID is not available, and debugfs names the holder */
static int check_parked(struct life *life, int before)
{
	static const char attachments[] = " attachments 1 ";
	char line[256], *holders;
	int ret;

	ret = ioasid_try(life->id);
	if (ret != -ENOSPC)
		return fail_once(life, "allocating the parked id %u gave: %s", life->id,
			     ret ? strerror(-ret) : "success");
	say("stranger", "asks for exactly id %u: %s", life->id, strerror(-ret));

	ret = ioasid_line(life->id, line, sizeof(line));
	if (ret)
		return fail_once(life, "debugfs does not list the IOASID: %s", strerror(-ret));
	say("debugfs", "%s", line);
	holders = strstr(line, attachments);
	if (!strstr(line, " parked ") || !holders)
		return fail_once(life, "debugfs does not name the holder: %s", line);
	snprintf(life->holders, sizeof(life->holders), "%s",
		 holders + sizeof(attachments) - 1);
	/* The parked IOASID, and that of the other owner */
	if (ioasid_count(NULL) != before + 2)
		return fail_once(life, "debugfs lists other IOASIDs too");
	return 0;
}

static void end_process(int *pid)
{
	if (*pid > 0)
		kill_and_reap(*pid);
	*pid = 0;
}

/* Runs the processes of one life. Returns how many faults were recorded, or -1. */
static int run_life(struct life *life, int kmsg)
{
	int owner_sock[2], other_sock[2], holder_sock[2], next, before, faults, ret;
	unsigned char *page, *other_page, *next_page, last[PAGE];
	__u64 killed, dead;
	struct vfio_dev dev;

	before = ioasid_count(NULL);
	if (before < 0)
		return fail_once(life, "debugfs has no list: %s", strerror(-before));
	page = page_new();
	other_page = page_new();
	next_page = page_new();
	if (!page || !other_page || !next_page ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, owner_sock) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, other_sock) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, holder_sock))
		return fail_once(life, "no memory or sockets: %s", strerror(errno));
	ret = vfio_open(&dev, ROLE_PASID_A, NULL);
	if (ret)
		return fail_once(life, "the device cannot be opened: %s", strerror(-ret));

	owner = fork_child();
	if (!owner)
		_exit(owner_main(life, "owner", &dev, QUEUE, life->flags, page, PATTERN,
				 owner_sock[0]) ? 1 : 0);
	close(owner_sock[0]);
	if (owner < 0 || wait_byte(owner_sock[1]))
		return fail_once(life, "the owner died");
	other_owner = fork_child();
	if (!other_owner)
		_exit(owner_main(life, "other", &dev, OTHER_QUEUE, TAGGED, other_page,
				 OTHER_PATTERN, other_sock[0]) ? 1 : 0);
	close(other_sock[0]);
	if (other_owner < 0 || wait_byte(other_sock[1]))
		return fail_once(life, "the other owner died");
	holder = fork_child();
	if (!holder) {
		/* So that a read ends when the other side dies */
		close(holder_sock[1]);
		_exit(holder_main(life, &dev, page, holder_sock[0]) ? 1 : 0);
	}
	close(holder_sock[0]);
	/* From here on, only the holder has the device */
	vfio_close(&dev);
	if (holder < 0)
		return fail_once(life, "no processes: %s", strerror(errno));

	if (wait_byte(holder_sock[1]))
		return fail_once(life, "the holder died");
	killed = now_ns();
	end_process(&owner);
	dead = now_ns();
	memcpy(last, page, PAGE);
	if (send_byte(holder_sock[1]) || wait_byte(holder_sock[1]))
		return fail_once(life, "the holder died");

	say_at(killed, "owner", "is killed by SIGKILL");
	say_at(life->last_good_time, "device", "does its last good transfer, the %lluth",
	       life->good_at_death);
	say_at(life->first_fail_time, "device", "has the first transfer refused, to %#llx",
	       life->first_fail_addr);
	say_at(dead, "owner", "is gone");
	say("device", "has tried %llu times since, %llu got through", life->blocked,
	    life->good_after);
	if (memcmp(last, page, PAGE) || word_of(page) != PATTERN + life->good_at_death - 1)
		return fail_once(life, "memory is not as the last good transfer left it");
	say("memory", "is as the last good transfer left it: %#llx", word_of(page));
	say("other", "has had %llu transfers meanwhile, %llu lost", life->other_good,
	    life->other_failed);
	if (!is_filled(other_page, OTHER_PATTERN))
		return fail_once(life, "the other owner's DMA went elsewhere");
	faults = count_faults(life, kmsg);
	if (faults < 0)
		return faults;
	say("kernel", "has logged %d faults", faults);
	if (check_parked(life, before))
		return -1;

	if (send_byte(holder_sock[1]) || wait_byte(holder_sock[1]))
		return fail_once(life, "the holder died");
	end_process(&holder);
	if (ioasid_count(NULL) != before + 1)
		return fail_once(life, "the IOASID is still there");
	end_process(&other_owner);
	say("debugfs", "does not list IOASID %u any more", life->id);

	next = fork_child();
	if (!next)
		_exit(next_owner_main(life, next_page) ? 1 : 0);
	if (next < 0 || reap(next))
		return fail_once(life, "the next owner failed");
	if (memcmp(last, page, PAGE))
		return fail_once(life, "the next owner's DMA went to the first owner's page");
	if (!is_filled(next_page, NEXT_PATTERN))
		return fail_once(life, "the next owner's page is not filled");
	say("memory", "first page as it was: %#llx, new page: %#llx", word_of(page),
	    word_of(next_page));
	if (ioasid_count(NULL) != before)
		return fail_once(life, "the next owner left an IOASID behind");

	ret = count_faults(life, kmsg);
	if (ret < 0)
		return ret;
	faults += ret;
	close(owner_sock[1]);
	close(other_sock[1]);
	close(holder_sock[1]);
	munmap(page, PAGE);
	munmap(other_page, PAGE);
	munmap(next_page, PAGE);
	return faults;
}

static bool report_life(const char *kind, __u32 flags, char *result, size_t size)
{
	struct life *life = page_new();
	int kmsg, nr, faults = -1;

	if (!life) {
		snprintf(result, size, "not ok %s: no memory", kind);
		return false;
	}
	life->kind = kind;
	life->flags = flags;
	dprintf(STDOUT_FILENO, "\nThe life of an IOASID with %s DMA\n\n", kind);
	kmsg = kmsg_open();
	if (kmsg < 0)
		fail_once(life, "the kernel log cannot be opened: %s", strerror(-kmsg));
	else
		faults = run_life(life, kmsg);
	end_process(&owner);
	end_process(&other_owner);
	end_process(&holder);
	if (faults > 0)
		fail_once(life, "%d faults were recorded", faults);
	if (faults < 0)
		fail_once(life, "no reason is known");
	if (kmsg >= 0)
		close(kmsg);
	if (life->why[0]) {
		snprintf(result, size, "not ok %s: %s", kind, life->why);
		say("test", "FAILED: %s", life->why);
		return false;
	}
	nr = snprintf(result, size, "ok %s: transfers before %llu, transfers after %llu, ", kind,
		      life->good_at_death, life->good_after);
	snprintf(result + nr, size - nr,
		 "blocked %llu, other owner's transfers meanwhile %llu, failed %llu, faults recorded %d, held while parked by <%s>, id %u reused",
		 life->blocked, life->other_good, life->other_failed, faults, life->holders,
		 life->id);
	return true;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		__u32 flags;
	} lives[] = {
		{ "no_pasid", FLAG_NO_PASID },
		{ "tagged", TAGGED },
	};
	char results[ARRAY_SIZE(lives)][1024];
	bool tap = false, good[ARRAY_SIZE(lives)];
	const int nr = ARRAY_SIZE(lives);
	int opt, i, ret = 0;

	while ((opt = getopt(argc, argv, "t")) != -1) {
		if (opt != 't') {
			fprintf(stderr, "Usage: %s [-t]\n", argv[0]);
			return 2;
		}
		tap = true;
	}
	/* Children die with this process, whatever it waits for */
	alarm(5 * DEADLINE_MS / 1000);
	birth = now_ns();
	if (tap)
		dprintf(STDOUT_FILENO, "TAP version 13\n1..%d\n", nr);

	for (i = 0; i < nr; i++)
		good[i] = report_life(lives[i].kind, lives[i].flags, results[i],
				      sizeof(results[i]));
	dprintf(STDOUT_FILENO, "\n");
	for (i = 0; i < nr; i++) {
		dprintf(STDOUT_FILENO, "%s\n", results[i]);
		if (tap)
			dprintf(STDOUT_FILENO, "%sok %d life_%s\n", good[i] ? "" : "not ", i + 1,
				lives[i].kind);
		if (!good[i])
			ret = 1;
	}
	return ret;
}
