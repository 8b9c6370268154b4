// SPDX-License-Identifier: GPL-2.0
/*
 * KVM as a holder of numbers: a virtual machine with a real vCPU goes on with a
 * number whose owner is gone, and lets go when it is told to, or destroyed. The
 * guest runs for as long as somebody wants it to, nothing here stops it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "dma_test_util.h"
#include "kvm_util.h"

/* The guest's */
#define GUEST		7
#define OTHER_GUEST	0xfffff
#define GUEST_END	0x100000

/* A guest that runs counts so far */
#define GUEST_ROUNDS	1000

/* What debugfs lists of a number has the words */
static bool line_has(__u32 id, const char *words)
{
	char line[512];

	return !ioasid_line(id, line, sizeof(line)) && strstr(line, words);
}

/* A vCPU that runs in a thread of its own */

struct runner {
	pthread_t thread;
	struct vm *vm;
	bool stop;
	int returns;		/* how often KVM_RUN came back before it was to */
};

static void do_nothing(int sig)
{
}

static void *run_vcpu(void *arg)
{
	struct runner *runner = arg;

	while (!__atomic_load_n(&runner->stop, __ATOMIC_SEQ_CST)) {
		ioctl(runner->vm->vcpu, KVM_RUN, NULL);
		if (!__atomic_load_n(&runner->stop, __ATOMIC_SEQ_CST))
			__atomic_fetch_add(&runner->returns, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static int runner_start(struct runner *runner, struct vm *vm)
{
	/* No SA_RESTART: KVM_RUN is to come back */
	struct sigaction action = { .sa_handler = do_nothing };

	*runner = (struct runner){ .vm = vm };
	if (sigaction(SIGUSR1, &action, NULL))
		return -errno;
	return -pthread_create(&runner->thread, NULL, run_vcpu, runner);
}

static void runner_stop(struct runner *runner)
{
	__atomic_store_n(&runner->stop, true, __ATOMIC_SEQ_CST);
	/* For when the signal comes between the look at @stop and KVM_RUN */
	runner->vm->run->immediate_exit = 1;
	pthread_kill(runner->thread, SIGUSR1);
	pthread_join(runner->thread, NULL);
	runner->vm->run->immediate_exit = 0;
}

FIXTURE(kvm) {
	void *memory;
	struct vm vm;
	int fd;
	int numbers;
	int quota;
};

FIXTURE_SETUP(kvm)
{
	self->vm = (struct vm)VM_CLOSED;
	self->quota = param_get(PARAM_QUOTA);
	ASSERT_LE(0, self->quota);
	self->numbers = ioasid_count(NULL);
	ASSERT_LE(0, self->numbers);
	self->memory = vm_memory_new();
	ASSERT_NE(NULL, self->memory);
	ASSERT_EQ(0, vm_open_with_device(&self->vm, self->memory, GUEST_COUNTS));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
	ASSERT_EQ(OTHER_ID, ioasid_alloc(self->fd, OTHER_ID, OTHER_ID));
}

FIXTURE_TEARDOWN(kvm)
{
	EXPECT_EQ(0, param_set(PARAM_QUOTA, self->quota));
	vm_close(&self->vm);
	close(self->fd);
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == self->numbers));
}

/* What it holds */

TEST_F(kvm, add_holds_the_number_and_del_lets_it_go)
{
	char name[64];

	snprintf(name, sizeof(name), "kvm (%s/%d)", program_invocation_short_name, getpid());
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	EXPECT_TRUE(line_has(ID, name));
	ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST));
	EXPECT_FALSE(line_has(ID, "kvm ("));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, ID));
	EXPECT_NO_HOLDER(self->fd, ID);

	/* The same when it is parked */
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST));
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(kvm, a_guest_has_numbers_of_its_own)
{
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, 0));
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, OTHER_ID, OTHER_GUEST));
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, 0));
	EXPECT_EQ(OTHER_ID, vm_ioasid_lookup(self->vm.dev, OTHER_GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_lookup(self->vm.dev, GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_lookup(self->vm.dev, ID));
	ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, 0));
	EXPECT_EQ(-ENOENT, vm_ioasid_lookup(self->vm.dev, 0));
	EXPECT_EQ(OTHER_ID, vm_ioasid_lookup(self->vm.dev, OTHER_GUEST));
}

TEST_F(kvm, a_number_can_be_mapped_again_after_del)
{
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST + i));
		EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST + i));
		EXPECT_TRUE(line_has(ID, "kvm ("));
		ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST + i));
		EXPECT_NO_HOLDER(self->fd, ID);
	}
}

TEST_F(kvm, two_vms_can_hold_the_same_number)
{
	struct vm other;

	ASSERT_EQ(0, vm_open_with_device(&other, self->memory, GUEST_COUNTS));
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, vm_ioasid_add(other.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	vm_close(&self->vm);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(ID, vm_ioasid_lookup(other.dev, GUEST));
	vm_close(&other);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(kvm, a_parked_number_stays_but_is_not_taken)
{
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(IOASID_STATE_PARKED, state_of(self->fd, ID));
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_add(self->vm.dev, self->fd, ID, OTHER_GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST));
	EXPECT_EQ(-ENOENT, state_of(self->fd, ID));
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(kvm, close_of_the_device_drops_nothing)
{
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, close(self->vm.dev));
	self->vm.dev = -1;
	/* The VM keeps the device */
	EXPECT_EQ(-EBUSY, vm_create_device(self->vm.vm, KVM_DEV_TYPE_IOASID, 0));
	EXPECT_TRUE(line_has(ID, "kvm ("));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	vm_close(&self->vm);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(kvm, each_file_of_the_vm_keeps_its_numbers)
{
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, close(self->vm.vm));
	self->vm.vm = -1;
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST));
	ASSERT_EQ(0, close(self->vm.dev));
	self->vm.dev = -1;
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	vm_close_vcpu(&self->vm);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(kvm, the_quota_bounds_what_a_vm_has)
{
	int fd, i;

	ASSERT_EQ(0, param_set(PARAM_QUOTA, 3));
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(MORE_IDS + i, ioasid_alloc(fd, MORE_IDS + i, MORE_IDS + i));
		ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, fd, MORE_IDS + i, i));
		/* One place for each number */
		EXPECT_EQ(-EEXIST, vm_ioasid_add(self->vm.dev, fd, MORE_IDS + i, 3));
		/* What the VM holds counts on */
		ASSERT_EQ(0, ioasid_free(fd, MORE_IDS + i));
	}
	EXPECT_EQ(-EDQUOT, ioasid_alloc(fd, MORE_IDS + 3, MORE_IDS + 3));
	ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, 1));
	EXPECT_EQ(MORE_IDS + 3, ioasid_alloc(fd, MORE_IDS + 3, MORE_IDS + 3));
	close(fd);
}

/* Bad input gets an errno and changes nothing */

#define EXPECT_UNCHANGED()					\
do {								\
	EXPECT_TRUE(line_has(ID, " active refs 2 "));		\
	EXPECT_NO_HOLDER(self->fd, OTHER_ID);			\
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST));	\
	EXPECT_EQ(-ENOENT, vm_ioasid_lookup(self->vm.dev, OTHER_GUEST)); \
} while (0)

TEST_F(kvm, guest_numbers_are_unique_and_of_20_bits)
{
	const __u32 wide[] = { GUEST_END, GUEST_END + GUEST, 1U << 31, ~0U };
	unsigned int i;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	EXPECT_EQ(-EEXIST, vm_ioasid_add(self->vm.dev, self->fd, OTHER_ID, GUEST));
	EXPECT_EQ(-EEXIST, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	EXPECT_EQ(-EEXIST, vm_ioasid_add(self->vm.dev, self->fd, ID, OTHER_GUEST));
	for (i = 0; i < ARRAY_SIZE(wide); i++) {
		EXPECT_EQ(-EINVAL, vm_ioasid_add(self->vm.dev, self->fd, OTHER_ID, wide[i]));
		EXPECT_EQ(-ENOENT, vm_ioasid_del(self->vm.dev, wide[i]));
		EXPECT_EQ(-ENOENT, vm_ioasid_lookup(self->vm.dev, wide[i]));
	}
	EXPECT_UNCHANGED();
}

TEST_F(kvm, del_of_what_is_not_there_finds_nothing)
{
	EXPECT_EQ(-ENOENT, vm_ioasid_del(self->vm.dev, GUEST));
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_del(self->vm.dev, OTHER_GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_del(self->vm.dev, ID));
	EXPECT_UNCHANGED();
	EXPECT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_del(self->vm.dev, GUEST));
	EXPECT_NO_HOLDER(self->fd, ID);
}

TEST_F(kvm, add_finds_active_numbers_of_the_file_only)
{
	const __u32 none[] = { 0, MORE_IDS, GUEST_END, GUEST_END + ID, ~0U };
	unsigned int i;
	int other;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	for (i = 0; i < ARRAY_SIZE(none); i++) {
		EXPECT_EQ(-ENOENT, vm_ioasid_add(self->vm.dev, self->fd, none[i], OTHER_GUEST)) {
			TH_LOG("number %#x", none[i]);
		}
	}
	other = ioasid_open();
	ASSERT_LE(0, other);
	ASSERT_EQ(MORE_IDS, ioasid_alloc(other, MORE_IDS, MORE_IDS));
	EXPECT_EQ(-ENOENT, vm_ioasid_add(self->vm.dev, self->fd, MORE_IDS, OTHER_GUEST));
	EXPECT_EQ(-ENOENT, vm_ioasid_add(self->vm.dev, other, OTHER_ID, OTHER_GUEST));
	EXPECT_NO_HOLDER(other, MORE_IDS);
	EXPECT_UNCHANGED();
	close(other);
}

TEST_F(kvm, add_refuses_what_is_not_a_file)
{
	int path, vm_path, closed, i;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	path = open(IOASID_PATH, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, path);
	vm_path = open("/dev/kvm", O_PATH | O_CLOEXEC);
	ASSERT_LE(0, vm_path);
	closed = ioasid_open();
	ASSERT_LE(0, closed);
	ASSERT_EQ(0, close(closed));

	const int fds[] = { path, vm_path, closed, -1, -100, INT_MIN, INT_MAX };

	for (i = 0; i < (int)ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-EBADF, vm_ioasid_add(self->vm.dev, fds[i], OTHER_ID, OTHER_GUEST)) {
			TH_LOG("file %d", i);
		}
	}
	EXPECT_UNCHANGED();
	close(path);
	close(vm_path);
}

TEST_F(kvm, add_refuses_a_file_that_is_not_dev_ioasid)
{
	int pipes[2], sock[2], null, kvm, memory, i;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	null = open("/dev/null", O_RDWR);
	ASSERT_LE(0, null);
	kvm = open("/dev/kvm", O_RDWR);
	ASSERT_LE(0, kvm);
	memory = memfd_create("ioasid", 0);
	ASSERT_LE(0, memory);

	const int fds[] = {
		pipes[0], pipes[1], sock[0], null, kvm, memory,
		self->vm.vm, self->vm.vcpu, self->vm.dev,
	};

	for (i = 0; i < (int)ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-EBADFD, vm_ioasid_add(self->vm.dev, fds[i], OTHER_ID, OTHER_GUEST)) {
			TH_LOG("file %d", i);
		}
	}
	EXPECT_UNCHANGED();
	close(pipes[0]);
	close(pipes[1]);
	close(sock[0]);
	close(sock[1]);
	close(null);
	close(kvm);
	close(memory);
}

TEST_F(kvm, flags_are_zero)
{
	struct kvm_ioasid map = { .ioasid_fd = self->fd, .host = OTHER_ID, .guest = OTHER_GUEST };
	int bit;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	for (bit = 0; bit < 32; bit++) {
		map.flags = 1U << bit;
		EXPECT_EQ(-EINVAL, dev_attr(self->vm.dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP,
					    KVM_DEV_IOASID_ADD, &map));
	}
	EXPECT_UNCHANGED();
}

TEST_F(kvm, memory_that_is_not_there_is_a_fault)
{
	struct kvm_ioasid *last;
	char *pages;
	int i;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	/* One page, and none behind it */
	pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + PAGE, PAGE));
	last = (void *)(pages + PAGE - sizeof(*last) / 2);
	last->ioasid_fd = self->fd;
	last->host = OTHER_ID;

	const void *bad[] = {
		NULL, pages + PAGE, pages + PAGE - 2, (void *)-4096UL,
		(void *)(1UL << (8 * sizeof(long) - 1)),
	};

	for (i = 0; i < (int)ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, dev_attr(self->vm.dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP,
					    KVM_DEV_IOASID_ADD, bad[i]));
		EXPECT_EQ(-EFAULT, dev_attr(self->vm.dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP,
					    KVM_DEV_IOASID_DEL, bad[i]));
		EXPECT_EQ(-EFAULT, dev_attr(self->vm.dev, KVM_GET_DEVICE_ATTR, KVM_DEV_IOASID_MAP,
					    KVM_DEV_IOASID_LOOKUP, bad[i]));
	}
	EXPECT_EQ(-EFAULT, dev_attr(self->vm.dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP,
				    KVM_DEV_IOASID_ADD, last));

	/* It can be read, but the answer cannot be written */
	*(__u32 *)pages = GUEST;
	ASSERT_EQ(0, mprotect(pages, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, dev_attr(self->vm.dev, KVM_GET_DEVICE_ATTR, KVM_DEV_IOASID_MAP,
				    KVM_DEV_IOASID_LOOKUP, pages));
	EXPECT_EQ(-EFAULT, do_ioctl(self->vm.dev, KVM_SET_DEVICE_ATTR, NULL));
	EXPECT_UNCHANGED();
	munmap(pages, PAGE);
}

TEST_F(kvm, attributes_that_are_not_there_are_refused)
{
	struct kvm_ioasid map = { .ioasid_fd = self->fd, .host = OTHER_ID, .guest = OTHER_GUEST };
	int dev = self->vm.dev;
	__u32 group;
	__u64 attr;

	ASSERT_EQ(0, vm_ioasid_add(dev, self->fd, ID, GUEST));
	for (group = 0; group < 4; group++) {
		for (attr = 0; attr < 6; attr++) {
			bool map_group = group == KVM_DEV_IOASID_MAP;
			bool set = map_group && (attr == KVM_DEV_IOASID_ADD ||
						 attr == KVM_DEV_IOASID_DEL);
			bool get = map_group && attr == KVM_DEV_IOASID_LOOKUP;

			EXPECT_EQ(set || get ? 0 : -ENXIO,
				  dev_attr(dev, KVM_HAS_DEVICE_ATTR, group, attr, NULL));
			if (!set)
				EXPECT_EQ(-ENXIO, dev_attr(dev, KVM_SET_DEVICE_ATTR, group, attr,
							   &map));
			if (!get)
				EXPECT_EQ(-ENXIO, dev_attr(dev, KVM_GET_DEVICE_ATTR, group, attr,
							   &map));
		}
	}
	attr = (1ULL << 32) | KVM_DEV_IOASID_ADD;
	EXPECT_EQ(-ENXIO, dev_attr(dev, KVM_HAS_DEVICE_ATTR, KVM_DEV_IOASID_MAP, attr, NULL));
	EXPECT_EQ(-ENXIO, dev_attr(dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP, attr, &map));
	EXPECT_EQ(-ENOTTY, do_ioctl(dev, IOASID_ALLOC, &map));
	EXPECT_UNCHANGED();
}

TEST_F(kvm, a_vm_has_one_device)
{
	struct rlimit some, none;
	struct vm other;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	EXPECT_EQ(0, vm_create_device(self->vm.vm, KVM_DEV_TYPE_IOASID, KVM_CREATE_DEVICE_TEST));
	EXPECT_EQ(-EBUSY, vm_create_device(self->vm.vm, KVM_DEV_TYPE_IOASID, 0));
	EXPECT_UNCHANGED();

	/* Its file could not be made: the next one can */
	ASSERT_EQ(0, vm_open(&other, self->memory, GUEST_COUNTS));
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &some));
	none = some;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, vm_create_device(other.vm, KVM_DEV_TYPE_IOASID, 0));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &some));
	other.dev = vm_create_device(other.vm, KVM_DEV_TYPE_IOASID, 0);
	ASSERT_LE(0, other.dev);
	EXPECT_EQ(0, vm_ioasid_add(other.dev, self->fd, OTHER_ID, GUEST));
	vm_close(&other);
	EXPECT_UNCHANGED();
}

/* Without memory */

#define FAILSLAB	"/sys/kernel/debug/failslab"

/* They are open all the time: an open needs memory */
struct needy {
	int nth;
	int lasting;
};

/* Nothing fails, but for tasks that say so of themselves */
static int needy_open(struct needy *needy)
{
	needy->nth = open("/proc/self/fail-nth", O_WRONLY | O_CLOEXEC);
	needy->lasting = open("/proc/self/make-it-fail", O_WRONLY | O_CLOEXEC);
	if (needy->nth < 0 || needy->lasting < 0)
		return -errno;
	return write_file(FAILSLAB "/task-filter", "Y") ?:
	       write_file(FAILSLAB "/verbose", "0") ?:
	       write_file(FAILSLAB "/times", "-1") ?:
	       write_file(FAILSLAB "/ignore-gfp-wait", "N") ?:
	       write_file(FAILSLAB "/probability", "100");
}

static int needy_close(struct needy *needy)
{
	close(needy->nth);
	close(needy->lasting);
	return write_file(FAILSLAB "/probability", "0") ?:
	       write_file(FAILSLAB "/ignore-gfp-wait", "Y");
}

/*
 * ADD, whose @nth allocation fails, and all that come after it: an xarray that
 * finds no memory tries once more.
 */
static int needy_add(struct needy *needy, unsigned int nth, int dev, int fd, __u32 host,
		     __u32 guest)
{
	char text[16];
	int len, ret;

	len = snprintf(text, sizeof(text), "%u", nth);
	if (write(needy->nth, text, len) != len || write(needy->lasting, "1", 1) != 1)
		return -EPROTO;
	ret = vm_ioasid_add(dev, fd, host, guest);
	if (write(needy->lasting, "0", 1) != 1 || write(needy->nth, "0", 1) != 1)
		return -EPROTO;
	return ret;
}

TEST_F(kvm, add_without_memory_changes_nothing)
{
	const __u32 guests[] = { 0, OTHER_GUEST };
	unsigned int nth, i;
	struct needy needy;
	struct vm other;
	int ret;

	ASSERT_EQ(0, needy_open(&needy)) {
		TH_LOG("is CONFIG_FAILSLAB there, with CONFIG_FAULT_INJECTION_DEBUG_FS?");
	}
	for (i = 0; i < ARRAY_SIZE(guests); i++) {
		for (nth = 1; nth < 200; nth++) {
			/* A new one each time: what failed before has left it no memory */
			ASSERT_EQ(0, vm_open_with_device(&other, self->memory, GUEST_COUNTS));
			ret = needy_add(&needy, nth, other.dev, self->fd, ID, guests[i]);
			if (!ret)
				break;
			EXPECT_EQ(-ENOMEM, ret) {
				TH_LOG("guest's number %#x, allocation %u", guests[i], nth);
			}
			EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, ID));
			EXPECT_FALSE(line_has(ID, "kvm ("));
			EXPECT_NO_HOLDER(self->fd, ID);
			EXPECT_EQ(-ENOENT, vm_ioasid_lookup(other.dev, guests[i]));
			EXPECT_EQ(-ENOENT, vm_ioasid_del(other.dev, guests[i]));

			/* Nor is anything in the way: with another's number, then with its own */
			EXPECT_EQ(0, vm_ioasid_add(other.dev, self->fd, OTHER_ID, guests[i]));
			EXPECT_EQ(0, vm_ioasid_del(other.dev, guests[i]));
			EXPECT_EQ(0, vm_ioasid_add(other.dev, self->fd, ID, guests[i]));
			EXPECT_EQ(ID, vm_ioasid_lookup(other.dev, guests[i]));
			vm_close(&other);
			EXPECT_NO_HOLDER(self->fd, ID);
		}
		printf("# guest's number %#x: ADD failed %u times\n", guests[i], nth - 1);
		ASSERT_EQ(0, ret);
		/* The entry, and at least one node in each array */
		EXPECT_LT(3, nth);
		EXPECT_EQ(ID, vm_ioasid_lookup(other.dev, guests[i]));
		EXPECT_TRUE(line_has(ID, "kvm ("));
		vm_close(&other);
		EXPECT_NO_HOLDER(self->fd, ID);
	}
	EXPECT_EQ(0, needy_close(&needy));
}

/* An open device of VFIO, which was told of the VM before, keeps it */

/* KVM's device that tells VFIO's @file, a group's or a device's, of the VM */
static int tell_vfio(struct vm *vm, int file)
{
	__s32 fd = file;
	int dev, ret;

	dev = vm_create_device(vm->vm, KVM_DEV_TYPE_VFIO, 0);
	if (dev < 0)
		return dev;
	ret = dev_attr(dev, KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, &fd);
	if (ret)
		close(dev);
	return ret ?: dev;
}

TEST_F(kvm, an_open_device_of_vfio_keeps_the_numbers_of_the_vm)
{
	struct vfio_dev dev = VFIO_DEV_CLOSED;
	int told;

	ASSERT_EQ(0, machine_find(ROLE_PASID_A, dev.bdf));
	ASSERT_EQ(0, vfio_open_group(&dev));
	ASSERT_EQ(0, vfio_enter_container(&dev, -1));
	told = tell_vfio(&self->vm, dev.group);
	ASSERT_LE(0, told);
	/* The first open takes the reference */
	ASSERT_EQ(0, vfio_open_device(&dev));

	/* One is the VM's alone, the other the device's as well */
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, OTHER_ID, OTHER_GUEST));
	ASSERT_EQ(0, vfio_attach(dev.device, self->fd, OTHER_ID, 0));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	ASSERT_EQ(0, ioasid_free(self->fd, OTHER_ID));
	close(told);
	vm_close(&self->vm);
	EXPECT_TRUE(line_has(ID, " parked refs 1 attachments 0 "));
	EXPECT_TRUE(line_has(ID, "held by kvm ("));
	EXPECT_TRUE(line_has(OTHER_ID, " parked refs 2 attachments 1 "));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(OTHER_ID));

	vfio_close_device(&dev);
	EXPECT_EQ(-ENOENT, state_of(self->fd, ID));
	EXPECT_EQ(-ENOENT, state_of(self->fd, OTHER_ID));
	EXPECT_EQ(0, ioasid_try(ID));
	EXPECT_EQ(0, ioasid_try(OTHER_ID));
	vfio_close(&dev);
}

TEST_F(kvm, an_open_device_of_vfio_that_is_bound_to_iommufd_does_so_too)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	char bdf[BDF_SIZE];
	int cdev, told;

	ASSERT_EQ(0, machine_find(ROLE_PASID_A, bdf));
	cdev = vfio_open_cdev(bdf);
	ASSERT_LE(0, cdev);
	bind.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, bind.iommufd);
	told = tell_vfio(&self->vm, cdev);
	ASSERT_LE(0, told);
	ASSERT_EQ(0, do_ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind));

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	/* KVM's device has a file of it */
	close(told);
	vm_close(&self->vm);
	EXPECT_TRUE(line_has(ID, " parked refs 1 attachments 0 "));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));

	ASSERT_EQ(0, close(cdev));
	EXPECT_EQ(-ENOENT, state_of(self->fd, ID));
	EXPECT_EQ(0, ioasid_try(ID));
	close(bind.iommufd);
}

/* Files in other processes */

TEST_F(kvm, a_vm_is_told_by_its_own_process_only)
{
	pid_t child;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child)
		_exit(vm_ioasid_add(self->vm.dev, self->fd, OTHER_ID, OTHER_GUEST) != -EIO ||
		      vm_ioasid_del(self->vm.dev, GUEST) != -EIO ||
		      vm_ioasid_lookup(self->vm.dev, GUEST) != -EIO);
	EXPECT_EQ(0, reap(child));
	EXPECT_UNCHANGED();
}

/* A child that has what its parent had, until it gets a byte */
static int fork_keeper(int go[2])
{
	int child;

	if (pipe(go))
		return -errno;
	child = fork_child();
	if (!child) {
		close(go[1]);
		wait_byte(go[0]);
		_exit(0);
	}
	close(go[0]);
	return child;
}

TEST_F(kvm, a_vm_that_was_forked_holds_until_its_last_file_is_closed)
{
	int child, go[2];

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	child = fork_keeper(go);
	ASSERT_LE(0, child);
	ASSERT_EQ(0, ioasid_free(self->fd, ID));
	vm_close(&self->vm);
	EXPECT_EQ(IOASID_STATE_PARKED, state_of(self->fd, ID));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	ASSERT_EQ(0, send_byte(go[1]));
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(-ENOENT, state_of(self->fd, ID));
	EXPECT_EQ(0, ioasid_try(ID));
	close(go[1]);
}

TEST_F(kvm, a_set_that_was_forked_is_parked_by_its_last_close)
{
	int child, go[2];

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	child = fork_keeper(go);
	ASSERT_LE(0, child);
	close(self->fd);
	self->fd = -1;
	EXPECT_TRUE(line_has(ID, " active "));
	ASSERT_EQ(0, send_byte(go[1]));
	EXPECT_EQ(0, reap(child));
	EXPECT_TRUE(line_has(ID, " parked "));
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST));
	/* The child had the VM as well */
	vm_close(&self->vm);
	EXPECT_EQ(0, ioasid_try(ID));
	close(go[1]);
}

/* A process that gets a file over a socket, and keeps it until it gets a byte */
static int keep_passed(int fd, int sock[2])
{
	int child, file;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		return -errno;
	child = fork_child();
	if (!child) {
		/* Nothing but what it is given */
		close_range(3, sock[0] - 1, 0);
		close_range(sock[0] + 1, ~0U, 0);
		if (recv_fds(sock[0], &file, 1) || send_byte(sock[0]))
			_exit(1);
		wait_byte(sock[0]);
		_exit(0);
	}
	close(sock[0]);
	if (child > 0 && (send_fds(sock[1], &fd, 1) || wait_byte(sock[1])))
		return -EPROTO;
	return child;
}

TEST_F(kvm, a_vm_that_was_passed_on_holds_until_its_last_file_is_closed)
{
	int child, sock[2];

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	child = keep_passed(self->vm.vm, sock);
	ASSERT_LE(0, child);
	close(self->fd);
	self->fd = -1;
	vm_close(&self->vm);
	EXPECT_TRUE(line_has(ID, " parked "));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	kill_and_reap(child);
	EXPECT_EQ(0, ioasid_try(ID));
	close(sock[1]);
}

TEST_F(kvm, a_set_that_was_passed_on_is_parked_by_its_last_close)
{
	int child, sock[2];

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	child = keep_passed(self->fd, sock);
	ASSERT_LE(0, child);
	close(self->fd);
	self->fd = -1;
	EXPECT_TRUE(line_has(ID, " active "));
	kill_and_reap(child);
	EXPECT_TRUE(line_has(ID, " parked "));
	EXPECT_TRUE(line_has(ID, "held by kvm ("));
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST));
	EXPECT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST));
	EXPECT_EQ(0, ioasid_try(ID));
	close(sock[1]);
}

/*
 * The VM runs; the owner goes; the VM runs on with a number that is parked; the
 * VM is destroyed; the number is recycled, and given to the next.
 */

#define TRACE		"/sys/kernel/tracing/instances/kvm_test"
#define ID_TEXT		"id=" STR(ID) " "

/* What the processes of one life share */
struct life {
	int returns;		/* from KVM_RUN, while the VM was to run */
	int lookup;		/* of the guest's number, when the owner is gone */
};

static void mark(const char *what)
{
	write_file(TRACE "/trace_marker", what);
}

static int trace_begin(void)
{
	rmdir(TRACE);
	if (mkdir(TRACE, 0700))
		return -errno;
	return write_file(TRACE "/events/ioasid/filter", "id == " STR(ID)) ?:
	       write_file(TRACE "/events/ioasid/enable", "1") ?:
	       write_file(TRACE "/events/signal/signal_generate/filter", "sig == 9") ?:
	       write_file(TRACE "/events/signal/signal_generate/enable", "1") ?:
	       write_file(TRACE "/events/sched/sched_process_exit/filter",
			  "comm ~ \"kvm_test*\"") ?:
	       write_file(TRACE "/events/sched/sched_process_exit/enable", "1") ?:
	       write_file(TRACE "/events/kvm/kvm_userspace_exit/enable", "1");
}

/* The events without the header, told as they stand; false: no trace */
static bool trace_end(char *text, size_t size)
{
	char *line, *end;

	if (write_file(TRACE "/tracing_on", "0") || read_file(TRACE "/trace", text, size) ||
	    rmdir(TRACE))
		return false;
	for (line = text; *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			break;
		if (*line != '#')
			printf("# %.*s\n", (int)(end - line), line);
	}
	return true;
}

/* The process with the VM: it gets the owner's file, and keeps but the number */
static int be_vmm(struct life *life, void *memory, int files, int sock)
{
	struct runner runner;
	struct vm vm;
	int fd;

	if (recv_fds(files, &fd, 1) || vm_open_with_device(&vm, memory, GUEST_COUNTS) ||
	    vm_ioasid_add(vm.dev, fd, ID, GUEST))
		return 1;
	close(fd);
	if (runner_start(&runner, &vm) || send_byte(sock) || wait_byte(sock))
		return 1;

	/* The owner is gone */
	life->lookup = vm_ioasid_lookup(vm.dev, GUEST);
	life->returns = __atomic_load_n(&runner.returns, __ATOMIC_SEQ_CST);
	mark("the VM is destroyed");
	runner_stop(&runner);
	vm_close(&vm);
	return send_byte(sock);
}

static int be_owner(int files)
{
	int fd = ioasid_open();

	if (fd < 0 || ioasid_alloc(fd, ID, ID) != ID || send_fds(files, &fd, 1))
		return 1;
	/* Neither a free nor a close of its own */
	pause();
	return 1;
}

TEST(a_guest_runs_on_when_the_owner_is_killed)
{
	static const char *const story[] = {
		"ioasid_alloc: " ID_TEXT, "ioasid_get: " ID_TEXT, "the owner is killed",
		"sig=9", "ioasid_free: " ID_TEXT, "ioasid_park: " ID_TEXT,
		"the owner is dead", "a stranger does not get the number",
		"the guest has run on", "the VM is destroyed", "ioasid_recycle: " ID_TEXT,
		"a stranger gets the number", "ioasid_alloc: " ID_TEXT, NULL,
	};
	int files[2], sock[2], owner, vmm, numbers;
	static char text[65536];
	const char *missing;
	struct life *life;
	char *from, *to;
	void *memory;

	numbers = ioasid_count(NULL);
	memory = vm_memory_new();
	life = page_new();
	ASSERT_NE(NULL, memory);
	ASSERT_NE(NULL, life);
	ASSERT_EQ(0, trace_begin());
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, files));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));

	vmm = fork_child();
	ASSERT_LE(0, vmm);
	if (!vmm) {
		close(files[1]);
		close(sock[1]);
		_exit(be_vmm(life, memory, files[0], sock[0]));
	}
	owner = fork_child();
	ASSERT_LE(0, owner);
	if (!owner)
		_exit(be_owner(files[1]));
	close(files[0]);
	close(files[1]);
	close(sock[0]);

	ASSERT_EQ(0, wait_byte(sock[1]));
	ASSERT_EQ(0, guest_wait(memory, GUEST_ROUNDS));
	EXPECT_TRUE(line_has(ID, " active refs 2 "));
	mark("the owner is killed");
	kill_and_reap(owner);
	mark("the owner is dead");

	EXPECT_TRUE(line_has(ID, " parked refs 1 attachments 0 "));
	EXPECT_TRUE(line_has(ID, " held by kvm ("));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	mark("a stranger does not get the number");
	EXPECT_EQ(0, guest_wait(memory, GUEST_ROUNDS));
	mark("the guest has run on");

	ASSERT_EQ(0, send_byte(sock[1]));
	ASSERT_EQ(0, wait_byte(sock[1]));
	EXPECT_EQ(0, reap(vmm));
	EXPECT_EQ(ID, life->lookup);
	EXPECT_EQ(0, life->returns);
	mark("a stranger gets the number");
	EXPECT_EQ(0, ioasid_try(ID));
	EXPECT_EQ(numbers, ioasid_count(NULL));

	ASSERT_TRUE(trace_end(text, sizeof(text)));
	missing = not_in_order(text, story);
	EXPECT_EQ(NULL, missing) {
		TH_LOG("the trace lacks '%s', or has it elsewhere", missing);
	}
	/*
	 * Nobody made KVM_RUN return, from before the number was parked until
	 * its VM was destroyed. Then it does return: the event is traced.
	 */
	from = strstr(text, "the owner is killed");
	to = strstr(text, "the VM is destroyed");
	ASSERT_TRUE(from && to);
	EXPECT_NE(NULL, strstr(to, "kvm_userspace_exit"));
	*to = '\0';
	EXPECT_EQ(NULL, strstr(from, "kvm_userspace_exit"));
	munmap(life, PAGE);
	close(sock[1]);
}

FIXTURE(seed) {
	void *memory;
	struct vm vm;
	int fd;
	int numbers;
};

FIXTURE_VARIANT(seed) {
	bool close;
};

FIXTURE_VARIANT_ADD(seed, free) {
	.close = false,
};

FIXTURE_VARIANT_ADD(seed, close) {
	.close = true,
};

FIXTURE_SETUP(seed)
{
	self->vm = (struct vm)VM_CLOSED;
	self->numbers = ioasid_count(NULL);
	self->memory = vm_memory_new();
	ASSERT_NE(NULL, self->memory);
	ASSERT_EQ(0, vm_open_with_device(&self->vm, self->memory, GUEST_COUNTS));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(ID, ioasid_alloc(self->fd, ID, ID));
}

FIXTURE_TEARDOWN(seed)
{
	vm_close(&self->vm);
	close(self->fd);
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == self->numbers));
}

TEST_F(seed, a_guest_runs_on_with_a_parked_number_until_its_vm_goes)
{
	struct runner runner;

	ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST));
	ASSERT_EQ(0, runner_start(&runner, &self->vm));
	ASSERT_EQ(0, guest_wait(self->memory, GUEST_ROUNDS));

	if (variant->close) {
		close(self->fd);
		self->fd = -1;
	} else {
		ASSERT_EQ(0, ioasid_free(self->fd, ID));
	}
	EXPECT_TRUE(line_has(ID, " parked refs 1 "));
	EXPECT_EQ(0, guest_wait(self->memory, GUEST_ROUNDS));
	EXPECT_EQ(0, runner.returns);
	EXPECT_EQ(ID, vm_ioasid_lookup(self->vm.dev, GUEST));
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));

	runner_stop(&runner);
	EXPECT_EQ(-ENOSPC, ioasid_try(ID));
	vm_close(&self->vm);
	EXPECT_EQ(0, ioasid_try(ID));
}

TEST_F(seed, a_guest_runs_on_when_its_number_is_taken_away)
{
	struct runner runner;
	int i;

	ASSERT_EQ(0, runner_start(&runner, &self->vm));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, vm_ioasid_add(self->vm.dev, self->fd, ID, GUEST + i));
		ASSERT_EQ(0, guest_wait(self->memory, GUEST_ROUNDS));
		ASSERT_EQ(0, vm_ioasid_del(self->vm.dev, GUEST + i));
	}
	EXPECT_EQ(0, guest_wait(self->memory, GUEST_ROUNDS));
	EXPECT_EQ(0, runner.returns);
	runner_stop(&runner);
}

/* What follows takes long; the calls that it makes are above, for 32-bit callers as well */
#if __SIZEOF_POINTER__ == 8

/*
 * Every order in which the files can go. A device does DMA under the number all
 * the time, and a vCPU is stepped after each event. The device has a second fd
 * that stays: its reset at the last close takes longer than all the rest. What
 * it does at that is tested below, with some of the orders.
 *
 * Two processes have half of the orders each, with a device and a number each.
 * IOASID_ORDERS= in the environment asks for every so manyth order only; the
 * kernel passes it on from its command line.
 */

enum event {
	FREE, FD_CLOSE, KVM_DEL, VM_CLOSE, VFIO_DETACH, DEVICE_CLOSE, VCPU_CLOSE,
	NR_EVENTS,
};

static const char *const event_names[NR_EVENTS] = {
	"free", "fd close", "KVM DEL", "VM fd close", "VFIO detach", "device fd close",
	"vCPU fd close",
};

#define NR_ORDERS	5040

/* Time between two transfers of the queue */
#define ORDER_PERIOD_US		50
/* DMA that works does so many transfers, of blocked DMA so many are refused */
#define ORDER_TRANSFERS		2
/* A reader of debugfs holds an IOASID no longer than that */
#define LIST_MS			2000

struct bench {
	__u32 id;
	struct vfio_dev dev;	/* its device fd stays, or is not there */
	bool alone;		/* @device is the only one */
	void *page;		/* the device writes to it */
	void *memory;		/* the guest's */
	struct vm other;	/* keeps the CPUs' virtualization on */
	int numbers;		/* debugfs' list of them, open all the time */
	int kmsg;

	/* Of one order */
	int fd;
	int device;
	struct vm vm;
	bool owner, vfio, kvm;	/* who holds the number */
	bool blocked;		/* since the first of free and fd close */
	__u64 word;		/* in the page since then */
	char why[192];
};

static int env_value(const char *name, int otherwise)
{
	const char *value = getenv(name);

	return value ? atoi(value) : otherwise;
}

static int wrong(struct bench *bench, const char *what, int value)
{
	if (!bench->why[0])
		snprintf(bench->why, sizeof(bench->why), "%s: %d", what, value);
	return -1;
}

/* Whether it is not as it should be: the first such is why the order failed */
static bool differs(struct bench *bench, const char *what, int expected, int seen)
{
	return seen != expected && wrong(bench, what, seen);
}

static int bench_open(struct bench *bench, enum role role, bool alone)
{
	int ret;

	*bench = (struct bench){
		.id = role == ROLE_PASID_A ? ID : OTHER_ID, .alone = alone,
		.dev = VFIO_DEV_CLOSED, .vm = VM_CLOSED, .fd = -1, .device = -1,
	};
	bench->numbers = open(IOASID_LIST, O_RDONLY | O_CLOEXEC);
	bench->kmsg = kmsg_open();
	bench->page = page_new();
	bench->memory = vm_memory_new();
	if (bench->numbers < 0 || bench->kmsg < 0 || !bench->page || !bench->memory)
		return -EIO;
	ret = vm_open(&bench->other, bench->memory, GUEST_STEPS);
	if (!ret)
		ret = vfio_open(&bench->dev, role, -1);
	if (ret)
		return ret;
	if (alone)
		vfio_close_device(&bench->dev);
	return vfio_map(bench->dev.container, bench->page, IOVA, PAGE);
}

static void bench_close(struct bench *bench)
{
	vfio_close(&bench->dev);
	vm_close(&bench->other);
	close(bench->numbers);
	close(bench->kmsg);
	munmap(bench->page, PAGE);
}

/*
 * Wait until debugfs' line of the number begins with the words, or, if they are
 * NULL, until there is none. Whoever reads the list, the other process say,
 * holds each number for the time that its line takes.
 */
static bool bench_lists(struct bench *bench, const char *words)
{
	char text[4096], start[16], *line;
	__u64 began = now_ms();
	ssize_t nr;

	snprintf(start, sizeof(start), "\n%u ", bench->id);
	do {
		/* So that the first line begins as all others do */
		text[0] = '\n';
		nr = pread(bench->numbers, text + 1, sizeof(text) - 2, 0);
		if (nr < 0)
			break;
		text[nr + 1] = '\0';
		line = strstr(text, start);
		if (words ? line && !strncmp(line + 1, words, strlen(words)) : !line)
			return true;
	} while (now_ms() - began < LIST_MS);
	snprintf(bench->why, sizeof(bench->why), "debugfs has not '%s', but '%.100s'",
		 words ?: "nothing", line ? line + 1 : "nothing");
	return false;
}

/*
 * A few transfers more that succeed, or fail. Sleeps last longer than that
 * takes, so look at it without.
 */
static bool bench_sees(struct bench *bench, bool good)
{
	__u64 (*nr)(const struct vfio_dev *dev, unsigned int queue) =
		good ? queue_good : queue_failed;
	__u64 from = nr(&bench->dev, QUEUE), start = now_ms();

	while (nr(&bench->dev, QUEUE) < from + ORDER_TRANSFERS) {
		if (now_ms() - start > DEADLINE_MS)
			return false;
		sched_yield();
	}
	return true;
}

/* All is open, everybody holds the number, the device does DMA */
static int order_begin(struct bench *bench, unsigned int nr)
{
	bench->why[0] = '\0';
	bench->blocked = false;
	bench->owner = true;
	bench->vfio = true;
	bench->kvm = true;

	bench->fd = ioasid_open();
	if (differs(bench, "open", true, bench->fd >= 0))
		return -1;
	/* Recycled by the order before */
	if (differs(bench, "allocation", bench->id, ioasid_alloc(bench->fd, bench->id, bench->id)))
		return -1;
	if (bench->alone) {
		if (differs(bench, "device", 0, vfio_open_device(&bench->dev)))
			return -1;
		if (differs(bench, "BAR", 0, vfio_map_bar(&bench->dev)))
			return -1;
		bench->device = bench->dev.device;
	} else {
		bench->device = do_ioctl(bench->dev.group, VFIO_GROUP_GET_DEVICE_FD,
					 bench->dev.bdf);
		if (differs(bench, "device", true, bench->device >= 0))
			return -1;
	}
	if (differs(bench, "attach", 0, vfio_attach(bench->device, bench->fd, bench->id, 0)))
		return -1;
	if (differs(bench, "VM", 0, vm_open_with_device(&bench->vm, bench->memory, GUEST_STEPS)))
		return -1;
	if (differs(bench, "ADD", 0, vm_ioasid_add(bench->vm.dev, bench->fd, bench->id, GUEST)))
		return -1;
	queue_fill_repeat(&bench->dev, QUEUE, bench->id, IOVA, PATTERN + ((__u64)nr << 32),
			  ORDER_PERIOD_US);
	if (differs(bench, "DMA", true, bench_sees(bench, true)))
		return -1;
	return 0;
}

/* Does it, if what it is done to is still there */
static int order_do(struct bench *bench, enum event event)
{
	struct vm *vm = &bench->vm;

	switch (event) {
	case FREE:
		if (bench->fd >= 0)
			if (differs(bench, "free", 0, ioasid_free(bench->fd, bench->id)))
				return -1;
		bench->owner = false;
		break;
	case FD_CLOSE:
		close(bench->fd);
		bench->fd = -1;
		bench->owner = false;
		break;
	case KVM_DEL:
		if (vm->dev < 0)
			break;
		if (differs(bench, "DEL", 0, vm_ioasid_del(vm->dev, GUEST)))
			return -1;
		bench->kvm = false;
		break;
	case VM_CLOSE:
		close(vm->dev);
		close(vm->vm);
		vm->dev = -1;
		vm->vm = -1;
		bench->kvm &= vm->vcpu >= 0;
		break;
	case VCPU_CLOSE:
		vm_close_vcpu(vm);
		bench->kvm &= vm->vm >= 0;
		break;
	case VFIO_DETACH:
		if (bench->device < 0)
			break;
		/* As every user should: there is nobody to take its DMA any more */
		queue_stop(&bench->dev, QUEUE);
		if (differs(bench, "detach", 0, vfio_detach(bench->device, bench->id, 0)))
			return -1;
		bench->vfio = false;
		break;
	case DEVICE_CLOSE:
		if (bench->alone) {
			/* With its DMA going on: it is reset */
			vfio_close_device(&bench->dev);
		} else {
			queue_stop(&bench->dev, QUEUE);
			close(bench->device);
		}
		bench->device = -1;
		bench->vfio = false;
		break;
	default:
		return wrong(bench, "no such event", event);
	}
	return 0;
}

/* What has to hold after each event */
static int order_check(struct bench *bench)
{
	int refs = bench->owner + bench->vfio + bench->kvm;
	char words[64];

	snprintf(words, sizeof(words), "%u %s refs %d attachments %d ", bench->id,
		 bench->owner ? "active" : "parked", refs, bench->vfio);
	if (!bench_lists(bench, refs ? words : NULL))
		return -1;

	if (bench->owner && bench->vfio) {
		if (differs(bench, "DMA does not go on", true, bench_sees(bench, true)))
			return -1;
	} else if (!bench->owner) {
		if (!bench->blocked)
			bench->word = word_of(bench->page);
		bench->blocked = true;
		if (bench->vfio)
			if (differs(bench, "the device does not try", true,
				    bench_sees(bench, false)))
				return -1;
		if (differs(bench, "DMA goes on", true, word_of(bench->page) == bench->word))
			return -1;
	}

	if (bench->vm.dev >= 0)
		if (differs(bench, "look-up", bench->kvm ? (int)bench->id : -ENOENT,
			    vm_ioasid_lookup(bench->vm.dev, GUEST)))
			return -1;
	if (bench->vm.vcpu >= 0)
		if (differs(bench, "the guest does not run", 0, vm_step(&bench->vm)))
			return -1;
	return 0;
}

static int order_run(struct bench *bench, const enum event *order, unsigned int nr)
{
	struct kmsg_found found;
	int i;

	if (order_begin(bench, nr) || order_check(bench))
		return -1;
	for (i = 0; i < NR_EVENTS; i++)
		if (order_do(bench, order[i]) || order_check(bench))
			return -1;
	if (differs(bench, "the log", 0, kmsg_read(bench->kmsg, &found)))
		return -1;
	if (differs(bench, "faults in the log", 0, found.nr))
		return -1;
	return 0;
}

/* Whatever state a failed order left, so that the next has a chance */
static void order_end(struct bench *bench)
{
	if (bench->dev.bar)
		queue_stop(&bench->dev, QUEUE);
	if (bench->alone)
		vfio_close_device(&bench->dev);
	else if (bench->device >= 0)
		close(bench->device);
	bench->device = -1;
	vm_close(&bench->vm);
	if (bench->fd >= 0)
		close(bench->fd);
	bench->fd = -1;
}

static void events_swap(enum event *a, enum event *b)
{
	enum event event = *a;

	*a = *b;
	*b = event;
}

/* The next order of the events in the order of the alphabet; false: none */
static bool order_next(enum event *order)
{
	int i, j;

	for (i = NR_EVENTS - 2; i >= 0 && order[i] > order[i + 1]; i--)
		;
	if (i < 0)
		return false;
	for (j = NR_EVENTS - 1; order[j] < order[i]; j--)
		;
	events_swap(&order[i], &order[j]);
	for (i++, j = NR_EVENTS - 1; i < j; i++, j--)
		events_swap(&order[i], &order[j]);
	return true;
}

/*
 * Every @step-th order but the first @first, in this process; gives how many
 * failed. They tell of themselves in one write each.
 */
static int orders_run(struct bench *bench, unsigned int first, unsigned int step,
		      unsigned int *run)
{
	enum event order[NR_EVENTS];
	unsigned int nr = 0;
	char text[512];
	int failed = 0, len, i;

	for (i = 0; i < NR_EVENTS; i++)
		order[i] = i;
	*run = 0;
	do {
		if (nr++ % step != first)
			continue;
		++*run;
		if (order_run(bench, order, nr)) {
			if (failed++ < 10) {
				len = snprintf(text, sizeof(text), "# order %u:", nr);
				for (i = 0; i < NR_EVENTS; i++)
					len += snprintf(text + len, sizeof(text) - len, " %s,",
							event_names[order[i]]);
				dprintf(STDOUT_FILENO, "%s %s\n", text, bench->why);
			}
			order_end(bench);
		}
		if (!(*run % 500))
			dprintf(STDOUT_FILENO, "# %u orders so far\n", *run);
	} while (order_next(order));
	return failed;
}

/* What a process with a part of the orders has to tell */
struct part {
	int opened;		/* bench_open()'s result */
	int failed;
	unsigned int run;
};

static void be_part(struct part *part, enum role role, unsigned int first, unsigned int step)
{
	struct bench bench;

	part->opened = bench_open(&bench, role, false);
	if (part->opened)
		return;
	part->failed = orders_run(&bench, first, step, &part->run);
	bench_close(&bench);
}

#define NR_PARTS 2

TEST(every_order_of_free_close_del_and_detach_ends_well)
{
	static const enum role roles[NR_PARTS] = { ROLE_PASID_A, ROLE_PASID_B };
	unsigned int step = env_value("IOASID_ORDERS", 1), run = 0;
	int children[NR_PARTS], numbers = ioasid_count(NULL), failed = 0, i;
	struct part *parts = page_new();
	__u64 start = now_ms();

	ASSERT_NE(NULL, parts);
	ASSERT_LT(0, step);
	for (i = 0; i < NR_PARTS; i++) {
		children[i] = fork_child();
		ASSERT_LE(0, children[i]);
		if (!children[i]) {
			be_part(&parts[i], roles[i], i * step, NR_PARTS * step);
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
	EXPECT_EQ((NR_ORDERS + step - 1) / step, run);
	EXPECT_EQ(0, failed);
	EXPECT_EQ(numbers, ioasid_count(NULL));
	EXPECT_EQ(0, ioasid_count("parked"));
}

/* A prime: each event comes at each place */
#define SOME_ORDERS	101

TEST(some_orders_end_well_with_a_device_that_is_reset)
{
	int failed, numbers = ioasid_count(NULL);
	struct bench bench;
	unsigned int run;

	ASSERT_EQ(0, bench_open(&bench, ROLE_PASID_A, true));
	failed = orders_run(&bench, 0, SOME_ORDERS, &run);
	printf("# %u orders with a reset, %d failed\n", run, failed);
	EXPECT_EQ((NR_ORDERS + SOME_ORDERS - 1) / SOME_ORDERS, run);
	EXPECT_EQ(0, failed);
	bench_close(&bench);
	EXPECT_EQ(numbers, ioasid_count(NULL));
}

/*
 * Four threads: one maps and unmaps, one allocates, frees and closes, one
 * destroys the VM, one does it all at random. The VMs that the third one makes
 * have a vCPU that runs, until it makes the next: DEL meets it in the guest.
 * IOASID_SECONDS= tells for how long. Files are replaced under their fds, so
 * that the threads never meet a foreign one.
 */

#define RACE_SECONDS	60
#define RACE_NUMBERS	8

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
	bool runs;		/* its VMs run */
	struct vm vm;		/* the vCPU of the one that runs */
	struct runner runner;
};

/* Not before it has run: no other thread's VM does */
static int racer_stop_guest(struct racer *racer)
{
	int ret;

	if (racer->vm.vcpu < 0)
		return 0;
	ret = guest_wait(racer->race->memory, GUEST_ROUNDS);
	runner_stop(&racer->runner);
	vm_close_vcpu(&racer->vm);
	return racer->runner.returns ? -EPROTO : ret;
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
	/* Who replaces the race's files ends it, but for the vCPU */
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
	__u32 id = MORE_IDS + rand_r(&racer->seed) % RACE_NUMBERS;
	__u32 guest = rand_r(&racer->seed) % RACE_NUMBERS;
	struct race *race = racer->race;
	int ret;

	switch (op) {
	case RACE_ADD:
		return vm_ioasid_add(race->dev, race->fd, id, guest);
	case RACE_DEL:
		return vm_ioasid_del(race->dev, guest);
	case RACE_LOOKUP:
		ret = vm_ioasid_lookup(race->dev, guest);
		if (ret >= 0 && (ret < MORE_IDS || ret >= MORE_IDS + RACE_NUMBERS))
			return -ERANGE;
		return ret;
	case RACE_ALLOC:
		return ioasid_alloc(race->fd, MORE_IDS, MORE_IDS + RACE_NUMBERS - 1);
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

/* What may come of it, beside success */
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
		/* Else there is hardly ever anything to map */
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

TEST(add_and_del_race_with_free_and_the_end_of_the_vm)
{
	int time = env_value("IOASID_SECONDS", RACE_SECONDS), numbers, i;
	struct race race = {};
	struct racer racers[] = {
		{ .ops = 1U << RACE_ADD | 1U << RACE_DEL | 1U << RACE_LOOKUP },
		{ .ops = 1U << RACE_ALLOC | 1U << RACE_FREE | 1U << RACE_CLOSE },
		{ .ops = 1U << RACE_DESTROY | 1U << RACE_ADD, .runs = true },
		{ .ops = (1U << NR_RACE_OPS) - 1 },
	};

	numbers = ioasid_count(NULL);
	race.memory = vm_memory_new();
	ASSERT_NE(NULL, race.memory);
	race.fd = ioasid_open();
	ASSERT_LE(0, race.fd);
	/* Any file: they are replaced first of all */
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
	EXPECT_EQ(numbers, ioasid_count(NULL));
}

#endif /* __SIZEOF_POINTER__ == 8 */

TEST_HARNESS_MAIN
