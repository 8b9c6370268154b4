// SPDX-License-Identifier: GPL-2.0
/*
 * KVM, iommufd and the owner of an IOASID end in many orders, and at the same time:
 * DMA is blocked when the owner ends, the id is recycled when the last of them
 * ends, and the guest runs on.
 *
 * Only a 64-bit program: these tests take long, and kvm_test makes the same calls
 * for the 32-bit ABI.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dma_test_util.h"
#include "kvm_util.h"

/* There are many orders */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 1500

/* The guest's PASID */
#define GUEST		7

/*
 * Orders in which the files and the page table can go. A device does DMA under the
 * IOASID all the time, and a vCPU is stepped after each event. There are too many
 * orders to run them all, so the test runs a sample that is evenly spread.
 *
 * Two processes run half of the orders each, with a device and an IOASID each.
 * IOASID_ORDERS=<n> in the environment says how many orders to run; the kernel
 * passes the variable on from its command line.
 */

enum event {
	FREE, FD_CLOSE, KVM_DEL, VM_CLOSE, VCPU_CLOSE, VFIO_DETACH, DEVICE_CLOSE,
	HWPT_DESTROY, IOAS_DESTROY, IOMMUFD_CLOSE, NR_EVENTS,
};

static const char *const event_names[NR_EVENTS] = {
	"free", "fd close", "KVM DEL", "VM fd close", "vCPU fd close", "VFIO detach",
	"device fd close", "HWPT destroy", "IOAS destroy", "iommufd close",
};

/* 10! */
#define NR_ORDERS	3628800
/* Added to the index of an order for the next one. A prime, so no order repeats. */
#define STRIDE		1000003
#define ORDERS		1000

/* Time between two transfers of the queue */
#define ORDER_PERIOD_US		50
/* DMA that works does so many transfers, of blocked DMA so many are refused */
#define ORDER_TRANSFERS		2
/* A reader of debugfs holds an IOASID no longer than that */
#define LIST_MS			2000

struct order_run {
	__u32 id;
	char bdf[BDF_SIZE];
	void *page;		/* the device writes to it */
	void *memory;		/* the guest's */
	struct vm other;	/* keeps the CPUs' virtualization on */
	int list;		/* debugfs' list of IOASIDs, open all the time */
	int kmsg;

	/* Of one order */
	int fd;
	struct vfio_dev dev;
	struct vm vm;
	bool owner, vfio, kvm;	/* the holders */
	bool blocked;		/* since the first of free and fd close */
	__u64 word;		/* in the page since then */
	char why[192];		/* the order failed, if it did */
};

static int env_value(const char *name, int otherwise)
{
	const char *value = getenv(name);

	return value ? atoi(value) : otherwise;
}

/* The first failure is why the order failed */
static int fail_once(struct order_run *run, const char *what, int value)
{
	if (!run->why[0])
		snprintf(run->why, sizeof(run->why), "%s: %d", what, value);
	return -1;
}

/* Whether @seen is not as expected, which fails the order */
static bool differs(struct order_run *run, const char *what, int expected, int seen)
{
	return seen != expected && fail_once(run, what, seen);
}

static int order_run_open(struct order_run *run, enum role role)
{
	int ret;

	*run = (struct order_run){
		.id = role == ROLE_PASID_A ? ID : OTHER_ID,
		.dev = VFIO_DEV_CLOSED, .vm = VM_CLOSED, .fd = -1,
	};
	run->list = open(IOASID_LIST, O_RDONLY | O_CLOEXEC);
	run->kmsg = kmsg_open();
	run->page = page_new();
	run->memory = vm_memory_new();
	if (run->list < 0 || run->kmsg < 0 || !run->page || !run->memory)
		return -EIO;
	ret = machine_find(role, run->bdf);
	return ret ?: vm_open(&run->other, run->memory, GUEST_STEPS);
}

static void order_run_close(struct order_run *run)
{
	vm_close(&run->other);
	close(run->list);
	close(run->kmsg);
	munmap(run->page, PAGE);
}

/*
 * Wait until debugfs' line of the IOASID begins with the words, or, if they are
 * NULL, until there is none. A reader of the list, such as the other process,
 * holds each IOASID while it prints the line.
 */
static bool order_run_lists(struct order_run *run, const char *words)
{
	char text[4096], start[16], *line;
	__u64 began = now_ms();
	ssize_t nr;

	snprintf(start, sizeof(start), "\n%u ", run->id);
	do {
		/* So that the first line begins as all others do */
		text[0] = '\n';
		nr = pread(run->list, text + 1, sizeof(text) - 2, 0);
		if (nr < 0)
			break;
		text[nr + 1] = '\0';
		line = strstr(text, start);
		if (words ? line && !strncmp(line + 1, words, strlen(words)) : !line)
			return true;
	} while (now_ms() - began < LIST_MS);
	snprintf(run->why, sizeof(run->why), "debugfs has not '%s', but '%.100s'",
		 words ?: "nothing", line ? line + 1 : "nothing");
	return false;
}

/*
 * Wait for some more transfers that succeed, or fail, without a sleep: that would
 * take longer than the transfers.
 */
static bool order_run_sees(struct order_run *run, bool good)
{
	__u64 (*nr)(const struct vfio_dev *dev, unsigned int queue) =
		good ? queue_good : queue_failed;
	__u64 from = nr(&run->dev, QUEUE), start = now_ms();

	while (nr(&run->dev, QUEUE) < from + ORDER_TRANSFERS) {
		if (now_ms() - start > DEADLINE_MS)
			return false;
		sched_yield();
	}
	return true;
}

/* All is open, there are three holders, the device does DMA */
static int order_begin(struct order_run *run, unsigned int nr)
{
	run->why[0] = '\0';
	run->blocked = false;
	run->owner = true;
	run->vfio = true;
	run->kvm = true;

	run->fd = ioasid_open();
	if (differs(run, "open", true, run->fd >= 0))
		return -1;
	/* Recycled by the order before */
	if (differs(run, "allocation", run->id, ioasid_alloc(run->fd, run->id, run->id)))
		return -1;
	run->dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	memcpy(run->dev.bdf, run->bdf, BDF_SIZE);
	if (differs(run, "iommufd", 0, vfio_open_iommufd(&run->dev, NULL)))
		return -1;
	if (differs(run, "device", 0, vfio_open_device(&run->dev)))
		return -1;
	if (differs(run, "BAR", 0, vfio_map_bar(&run->dev)))
		return -1;
	if (differs(run, "map", 0, vfio_map(&run->dev, run->page, IOVA, PAGE)))
		return -1;
	if (differs(run, "attach", 0, vfio_attach(&run->dev, run->fd, run->id, 0)))
		return -1;
	if (differs(run, "VM", 0, vm_open_with_device(&run->vm, run->memory, GUEST_STEPS)))
		return -1;
	if (differs(run, "ADD", 0, vm_ioasid_add(run->vm.dev, run->fd, run->id, GUEST)))
		return -1;
	queue_fill_repeat(&run->dev, QUEUE, run->id, IOVA, PATTERN + ((__u64)nr << 32),
			  ORDER_PERIOD_US);
	if (differs(run, "DMA", true, order_run_sees(run, true)))
		return -1;
	return 0;
}

/* Destroy an object of iommufd. If it is in use, that must fail. */
static int order_destroy(struct order_run *run, const char *what, __u32 *id, bool in_use)
{
	if (run->dev.iommufd < 0 || !*id)
		return 0;
	if (differs(run, what, in_use ? -EBUSY : 0, iommufd_destroy(run->dev.iommufd, *id)))
		return -1;
	if (!in_use)
		*id = 0;
	return 0;
}

/* Do @event, unless its file is closed already */
static int order_do(struct order_run *run, enum event event)
{
	struct vm *vm = &run->vm;

	switch (event) {
	case FREE:
		if (run->fd >= 0)
			if (differs(run, "free", 0, ioasid_free(run->fd, run->id)))
				return -1;
		run->owner = false;
		break;
	case FD_CLOSE:
		close(run->fd);
		run->fd = -1;
		run->owner = false;
		break;
	case KVM_DEL:
		if (vm->dev < 0)
			break;
		if (differs(run, "DEL", 0, vm_ioasid_del(vm->dev, GUEST)))
			return -1;
		run->kvm = false;
		break;
	case VM_CLOSE:
		close(vm->dev);
		close(vm->vm);
		vm->dev = -1;
		vm->vm = -1;
		run->kvm &= vm->vcpu >= 0;
		break;
	case VCPU_CLOSE:
		vm_close_vcpu(vm);
		run->kvm &= vm->vm >= 0;
		break;
	case VFIO_DETACH:
		if (run->dev.device < 0)
			break;
		/* As every user should: DMA after a detach is a fault */
		queue_stop(&run->dev, QUEUE);
		if (differs(run, "detach", 0, vfio_detach(&run->dev, run->id, 0)))
			return -1;
		run->vfio = false;
		break;
	case DEVICE_CLOSE:
		/* The close resets the device in the middle of DMA */
		vfio_close_device(&run->dev);
		run->vfio = false;
		break;
	case HWPT_DESTROY:
		return order_destroy(run, "HWPT destroy", &run->dev.hwpt, run->vfio);
	case IOAS_DESTROY:
		return order_destroy(run, "IOAS destroy", &run->dev.ioas, run->dev.hwpt);
	case IOMMUFD_CLOSE:
		close(run->dev.iommufd);
		run->dev.iommufd = -1;
		break;
	default:
		return fail_once(run, "no such event", event);
	}
	return 0;
}

/* What has to hold after each event */
static int order_check(struct order_run *run)
{
	int refs = run->owner + run->vfio + run->kvm;
	char words[64];

	snprintf(words, sizeof(words), "%u %s refs %d attachments %d ", run->id,
		 run->owner ? "active" : "parked", refs, run->vfio);
	if (!order_run_lists(run, refs ? words : NULL))
		return -1;

	if (run->owner && run->vfio) {
		if (differs(run, "DMA does not go on", true, order_run_sees(run, true)))
			return -1;
	} else if (!run->owner) {
		if (!run->blocked)
			run->word = word_of(run->page);
		run->blocked = true;
		if (run->vfio)
			if (differs(run, "the device does not try", true,
				    order_run_sees(run, false)))
				return -1;
		if (differs(run, "DMA goes on", true, word_of(run->page) == run->word))
			return -1;
	}

	if (run->vm.dev >= 0)
		if (differs(run, "look-up", run->kvm ? (int)run->id : -ENOENT,
			    vm_ioasid_lookup(run->vm.dev, GUEST)))
			return -1;
	if (run->vm.vcpu >= 0)
		if (differs(run, "the guest does not run", 0, vm_step(&run->vm)))
			return -1;
	return 0;
}

static int run_order(struct order_run *run, const enum event *order, unsigned int nr)
{
	struct kmsg_found found;
	int i;

	if (order_begin(run, nr) || order_check(run))
		return -1;
	for (i = 0; i < NR_EVENTS; i++)
		if (order_do(run, order[i]) || order_check(run))
			return -1;
	if (differs(run, "the log", 0, kmsg_read(run->kmsg, &found)))
		return -1;
	if (differs(run, "faults in the log", 0, found.nr))
		return -1;
	return 0;
}

/* Clean up after a failed order, for the next one */
static void order_end(struct order_run *run)
{
	if (run->dev.bar)
		queue_stop(&run->dev, QUEUE);
	vfio_close(&run->dev);
	vm_close(&run->vm);
	if (run->fd >= 0)
		close(run->fd);
	run->fd = -1;
}

/* The nth permutation of the events */
static void order_of(unsigned int nth, enum event order[NR_EVENTS])
{
	enum event left[NR_EVENTS];
	int nr, i;

	for (i = 0; i < NR_EVENTS; i++)
		left[i] = i;
	for (nr = NR_EVENTS; nr; nr--) {
		i = nth % nr;
		nth /= nr;
		order[NR_EVENTS - nr] = left[i];
		left[i] = left[nr - 1];
	}
}

/*
 * Run every @step-th order of the first @orders from @first on, in this process;
 * returns how many failed. Each failed order is reported in one write.
 */
static int orders_run(struct order_run *run, unsigned int first, unsigned int step,
		      unsigned int orders, unsigned int *done)
{
	enum event order[NR_EVENTS];
	char text[512];
	int failed = 0, len, i;
	unsigned int nr;

	*done = 0;
	for (nr = first; nr < orders; nr += step) {
		order_of((__u64)nr * STRIDE % NR_ORDERS, order);
		++*done;
		if (run_order(run, order, nr)) {
			if (failed++ < 10) {
				len = snprintf(text, sizeof(text), "# order %u:", nr);
				for (i = 0; i < NR_EVENTS; i++)
					len += snprintf(text + len, sizeof(text) - len, " %s,",
							event_names[order[i]]);
				dprintf(STDOUT_FILENO, "%s %s\n", text, run->why);
			}
			order_end(run);
		}
		if (!(*done % 100))
			dprintf(STDOUT_FILENO, "# %u orders so far\n", *done);
	}
	return failed;
}

/* The results of a process that runs a part of the orders */
struct part {
	int opened;		/* order_run_open()'s result */
	int failed;
	unsigned int run;
};

static void run_part(struct part *part, enum role role, unsigned int first, unsigned int step,
		     unsigned int orders)
{
	struct order_run run;

	part->opened = order_run_open(&run, role);
	if (part->opened)
		return;
	part->failed = orders_run(&run, first, step, orders, &part->run);
	order_run_close(&run);
}

#define NR_PARTS 2

TEST(sampled_orders_of_free_close_detach_and_destroy_block_dma_and_recycle)
{
	static const enum role roles[NR_PARTS] = { ROLE_PASID_A, ROLE_PASID_B };
	unsigned int orders = env_value("IOASID_ORDERS", ORDERS), run = 0;
	int children[NR_PARTS], before = ioasid_count(NULL), failed = 0, i;
	struct part *parts = page_new();
	__u64 start = now_ms();

	ASSERT_NE(NULL, parts);
	ASSERT_LT(0, orders);
	for (i = 0; i < NR_PARTS; i++) {
		children[i] = fork_child();
		ASSERT_LE(0, children[i]);
		if (!children[i]) {
			run_part(&parts[i], roles[i], i, NR_PARTS, orders);
			_exit(0);
		}
	}
	for (i = 0; i < NR_PARTS; i++) {
		EXPECT_EQ(0, reap(children[i]));
		EXPECT_EQ(0, parts[i].opened);
		run += parts[i].run;
		failed += parts[i].failed;
	}
	printf("# %u orders, %d failed\n", run, failed);
	printf("# in %llu ms\n", (unsigned long long)(now_ms() - start));
	EXPECT_EQ(orders, run);
	EXPECT_EQ(0, failed);
	EXPECT_EQ(before, ioasid_count(NULL));
	EXPECT_EQ(0, ioasid_count("parked"));
}

/*
 * Four threads: one maps and unmaps, one allocates, frees and closes, one
 * destroys the VM, one does everything at random. Each VM of the third thread has
 * a vCPU that runs until the thread makes the next VM: DEL meets a vCPU in the
 * guest. IOASID_SECONDS=<n> in the environment says for how long. Files are
 * replaced under their fds, so that no thread uses a foreign file.
 */

#define RACE_SECONDS	60
#define RACE_IDS	8

enum race_op { RACE_ADD, RACE_DEL, RACE_LOOKUP, RACE_ALLOC, RACE_FREE, RACE_CLOSE, RACE_DESTROY,
	       NR_RACE_OPS };

static const char *const race_names[NR_RACE_OPS] = {
	"ADD", "DEL", "LOOKUP", "allocations", "frees", "closes", "VMs",
};

struct race {
	void *memory;		/* the guests' */
	int fd;
	int vm;
	int dev;
	bool stop;
	unsigned long good[NR_RACE_OPS];
	int bad;		/* an errno that should not be, or 0 */
	enum race_op bad_op;
};

struct racer {
	pthread_t thread;
	struct race *race;
	unsigned int ops;	/* bits of enum race_op */
	unsigned int seed;
	bool runs;		/* the vCPUs of its VMs run */
	struct vm vm;		/* with the vCPU that runs */
	struct runner runner;
};

/* Not before the guest has run: VMs of other threads never run */
static int racer_stop_guest(struct racer *racer)
{
	int ret;

	if (racer->vm.vcpu < 0)
		return 0;
	ret = guest_wait(racer->race->memory, GUEST_ROUNDS);
	runner_stop(&racer->runner);
	vm_close_vcpu(&racer->vm);
	return runner_returns(&racer->runner) ? -EPROTO : ret;
}

/* A new VM with its device; the old one's last reference may be another thread's */
static int race_destroy(struct racer *racer)
{
	struct race *race = racer->race;
	struct vm *vm = &racer->vm;
	int ret;

	ret = racer_stop_guest(racer);
	if (ret)
		return ret;
	ret = vm_open_with_device(vm, race->memory, GUEST_COUNTS);
	if (!ret && (dup2(vm->dev, race->dev) < 0 || dup2(vm->vm, race->vm) < 0))
		ret = -errno;
	if (!ret && racer->runs)
		ret = runner_start(&racer->runner, vm);
	if (ret || !racer->runs) {
		vm_close(vm);
		return ret;
	}
	/* The thread that replaces the race's files ends the VM, except for the vCPU */
	close(vm->dev);
	close(vm->vm);
	vm->dev = -1;
	vm->vm = -1;
	return 0;
}

static int race_close(struct race *race)
{
	int fd = ioasid_open(), ret = 0;

	if (fd < 0)
		return fd;
	if (dup2(fd, race->fd) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int race_do(struct racer *racer, enum race_op op)
{
	__u32 id = MORE_IDS + rand_r(&racer->seed) % RACE_IDS;
	__u32 guest = rand_r(&racer->seed) % RACE_IDS;
	struct race *race = racer->race;
	int ret;

	switch (op) {
	case RACE_ADD:
		return vm_ioasid_add(race->dev, race->fd, id, guest);
	case RACE_DEL:
		return vm_ioasid_del(race->dev, guest);
	case RACE_LOOKUP:
		ret = vm_ioasid_lookup(race->dev, guest);
		if (ret >= 0 && (ret < MORE_IDS || ret >= MORE_IDS + RACE_IDS))
			return -ERANGE;
		return ret;
	case RACE_ALLOC:
		return ioasid_alloc(race->fd, MORE_IDS, MORE_IDS + RACE_IDS - 1);
	case RACE_FREE:
		return ioasid_free(race->fd, id);
	case RACE_CLOSE:
		return race_close(race);
	case RACE_DESTROY:
		return race_destroy(racer);
	default:
		return -EINVAL;
	}
}

/* Errors that the operation may return */
static bool race_expects(enum race_op op, int err)
{
	switch (op) {
	case RACE_ADD:
		return err == -ENOENT || err == -EEXIST;
	case RACE_DEL:
	case RACE_LOOKUP:
	case RACE_FREE:
		return err == -ENOENT;
	case RACE_ALLOC:
		return err == -ENOSPC;
	default:
		return false;
	}
}

static void *racer_run(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;
	enum race_op op;
	int ret;

	while (!__atomic_load_n(&race->stop, __ATOMIC_SEQ_CST)) {
		op = rand_r(&racer->seed) % NR_RACE_OPS;
		if (!(racer->ops & (1U << op)))
			continue;
		/* Rarely: otherwise there is hardly ever an IOASID to map */
		if ((op == RACE_CLOSE || op == RACE_DESTROY) && rand_r(&racer->seed) % 8)
			continue;
		ret = race_do(racer, op);
		if (ret >= 0) {
			__atomic_fetch_add(&race->good[op], 1, __ATOMIC_RELAXED);
		} else if (!race_expects(op, ret)) {
			race->bad = ret;
			race->bad_op = op;
		}
	}
	return NULL;
}

TEST(add_and_del_race_with_free_and_vm_destruction)
{
	int time = env_value("IOASID_SECONDS", RACE_SECONDS), before, i;
	struct race race = {};
	struct racer racers[] = {
		{ .ops = 1U << RACE_ADD | 1U << RACE_DEL | 1U << RACE_LOOKUP },
		{ .ops = 1U << RACE_ALLOC | 1U << RACE_FREE | 1U << RACE_CLOSE },
		{ .ops = 1U << RACE_DESTROY | 1U << RACE_ADD, .runs = true },
		{ .ops = (1U << NR_RACE_OPS) - 1 },
	};

	before = ioasid_count(NULL);
	race.memory = vm_memory_new();
	ASSERT_NE(NULL, race.memory);
	race.fd = ioasid_open();
	ASSERT_LE(0, race.fd);
	/* Any file: both are replaced first of all */
	race.vm = ioasid_open();
	race.dev = ioasid_open();
	for (i = 0; i < (int)ARRAY_SIZE(racers); i++) {
		racers[i].race = &race;
		racers[i].seed = i + 1;
		racers[i].vm = (struct vm)VM_CLOSED;
	}
	ASSERT_EQ(0, race_destroy(&racers[2]));

	for (i = 0; i < (int)ARRAY_SIZE(racers); i++)
		ASSERT_EQ(0, pthread_create(&racers[i].thread, NULL, racer_run, &racers[i]));
	sleep(time);
	__atomic_store_n(&race.stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < (int)ARRAY_SIZE(racers); i++)
		pthread_join(racers[i].thread, NULL);
	EXPECT_EQ(0, racer_stop_guest(&racers[2]));

	printf("# %d threads in %d s:", (int)ARRAY_SIZE(racers), time);
	for (i = 0; i < NR_RACE_OPS; i++) {
		printf(" %lu %s", race.good[i], race_names[i]);
		EXPECT_LT(0, race.good[i]);
	}
	printf(", while guests counted to %u\n", guest_count(race.memory));
	EXPECT_EQ(0, race.bad) {
		TH_LOG("%s", race_names[race.bad_op]);
	}
	close(race.dev);
	close(race.vm);
	close(race.fd);
	EXPECT_EQ(before, ioasid_count(NULL));
}

TEST_HARNESS_MAIN
