// SPDX-License-Identifier: GPL-2.0
/*
 * What the ioasid selftests with a virtual machine share, see kvm_util.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"

#define PAGE		4096UL
#define MEMORY_SIZE	(2 * PAGE)

/* The guest's first page has its code, the second one its count */
#define CODE		0x100
#define COUNT		PAGE

/* 16-bit code: inc dword [0x1000]; jmp back */
static const unsigned char counts[] = {
	0x66, 0xff, 0x06, 0x00, 0x10,
	0xeb, 0xf9,
};

/* inc dword [0x1000]; out 0x10, al; jmp back */
static const unsigned char steps[] = {
	0x66, 0xff, 0x06, 0x00, 0x10,
	0xe6, 0x10,
	0xeb, 0xf7,
};

void *vm_memory_new(void)
{
	void *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static int set_memory(struct vm *vm, enum guest guest)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = MEMORY_SIZE,
		.userspace_addr = (unsigned long)vm->memory,
	};

	if (guest == GUEST_COUNTS)
		memcpy((char *)vm->memory + CODE, counts, sizeof(counts));
	else
		memcpy((char *)vm->memory + CODE, steps, sizeof(steps));
	return do_ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* The vCPU starts at the guest's code, in real mode */
static int set_registers(int vcpu)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	int ret;

	ret = do_ioctl(vcpu, KVM_GET_SREGS, &sregs);
	if (ret)
		return ret;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	ret = do_ioctl(vcpu, KVM_SET_SREGS, &sregs);
	return ret ?: do_ioctl(vcpu, KVM_SET_REGS, &regs);
}

static int map_run(struct vm *vm, int kvm)
{
	void *run;
	int size;

	size = do_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (size < 0)
		return size;
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (run == MAP_FAILED)
		return -errno;
	vm->run = run;
	vm->run_size = size;
	return 0;
}

int vm_open(struct vm *vm, void *memory, enum guest guest)
{
	int kvm, ret;

	*vm = (struct vm)VM_CLOSED;
	vm->memory = memory;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		return -errno;
	vm->vm = do_ioctl(kvm, KVM_CREATE_VM, NULL);
	ret = vm->vm < 0 ? vm->vm : set_memory(vm, guest);
	if (!ret) {
		vm->vcpu = do_ioctl(vm->vm, KVM_CREATE_VCPU, NULL);
		ret = vm->vcpu < 0 ? vm->vcpu : map_run(vm, kvm);
	}
	if (!ret)
		ret = set_registers(vm->vcpu);
	close(kvm);
	return ret;
}

int vm_open_with_device(struct vm *vm, void *memory, enum guest guest)
{
	int ret;

	ret = vm_open(vm, memory, guest);
	if (ret)
		return ret;
	vm->dev = vm_create_device(vm->vm, KVM_DEV_TYPE_IOASID, 0);
	return vm->dev < 0 ? vm->dev : 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vm_close_vcpu(struct vm *vm)
{
	if (vm->run)
		munmap(vm->run, vm->run_size);
	vm->run = NULL;
	close_fd(&vm->vcpu);
}

void vm_close(struct vm *vm)
{
	vm_close_vcpu(vm);
	close_fd(&vm->dev);
	close_fd(&vm->vm);
}

__u32 guest_count(const void *memory)
{
	return __atomic_load_n((const __u32 *)((const char *)memory + COUNT), __ATOMIC_SEQ_CST);
}

int guest_wait(const void *memory, unsigned int nr)
{
	__u32 count = guest_count(memory);

	return wait_for(guest_count(memory) - count >= nr) ? 0 : -ETIMEDOUT;
}

int vm_step(struct vm *vm)
{
	__u32 count = guest_count(vm->memory);
	int ret;

	ret = do_ioctl(vm->vcpu, KVM_RUN, NULL);
	if (ret)
		return ret;
	if (vm->run->exit_reason != KVM_EXIT_IO || guest_count(vm->memory) != count + 1)
		return -EPROTO;
	return 0;
}

/* A vCPU in a thread */

static void ignore_signal(int sig)
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

int runner_start(struct runner *runner, struct vm *vm)
{
	/* No SA_RESTART: the signal must end KVM_RUN */
	struct sigaction action = { .sa_handler = ignore_signal };

	*runner = (struct runner){ .vm = vm };
	if (sigaction(SIGUSR1, &action, NULL))
		return -errno;
	return -pthread_create(&runner->thread, NULL, run_vcpu, runner);
}

void runner_stop(struct runner *runner)
{
	__atomic_store_n(&runner->stop, true, __ATOMIC_SEQ_CST);
	/* The signal may come between the look at @stop and KVM_RUN */
	runner->vm->run->immediate_exit = 1;
	pthread_kill(runner->thread, SIGUSR1);
	pthread_join(runner->thread, NULL);
	runner->vm->run->immediate_exit = 0;
}

int runner_returns(const struct runner *runner)
{
	return __atomic_load_n(&runner->returns, __ATOMIC_SEQ_CST);
}

/* The device */

int vm_create_device(int vm, __u32 type, __u32 flags)
{
	struct kvm_create_device cmd = { .type = type, .flags = flags };
	int ret = do_ioctl(vm, KVM_CREATE_DEVICE, &cmd);

	if (ret || flags & KVM_CREATE_DEVICE_TEST)
		return ret;
	return cmd.fd;
}

int dev_attr(int dev, unsigned long cmd, __u32 group, __u64 attr, const void *addr)
{
	struct kvm_device_attr arg = {
		.group = group,
		.attr = attr,
		.addr = (unsigned long)addr,
	};

	return do_ioctl(dev, cmd, &arg);
}

int vm_ioasid_add(int dev, int ioasid_fd, __u32 host, __u32 guest)
{
	struct kvm_ioasid map = { .ioasid_fd = ioasid_fd, .host = host, .guest = guest };

	return dev_attr(dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP, KVM_DEV_IOASID_ADD, &map);
}

int vm_ioasid_del(int dev, __u32 guest)
{
	return dev_attr(dev, KVM_SET_DEVICE_ATTR, KVM_DEV_IOASID_MAP, KVM_DEV_IOASID_DEL, &guest);
}

int vm_ioasid_lookup(int dev, __u32 guest)
{
	__u32 pasid = guest;
	int ret;

	ret = dev_attr(dev, KVM_GET_DEVICE_ATTR, KVM_DEV_IOASID_MAP, KVM_DEV_IOASID_LOOKUP,
		       &pasid);
	return ret ?: (int)pasid;
}
