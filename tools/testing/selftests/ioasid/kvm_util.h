/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the ioasid selftests with a virtual machine share: a real-mode guest of
 * a few bytes, and the kvm-ioasid device.
 */
#ifndef KVM_UTIL_H
#define KVM_UTIL_H

#include <pthread.h>
#include <linux/kvm.h>

#include "ioasid_util.h"

/* What the guest does with its one vCPU */
enum guest {
	GUEST_COUNTS,		/* counts, for ever */
	GUEST_STEPS,		/* counts, and leaves the guest at each step */
};

struct vm {
	int vm;
	int vcpu;
	int dev;		/* kvm-ioasid */
	struct kvm_run *run;	/* a mapping holds the vCPU's file just as its fd does */
	size_t run_size;
	void *memory;		/* the guest's, shared with children */
};

#define VM_CLOSED	{ .vm = -1, .vcpu = -1, .dev = -1 }

/* The guest's memory, which outlives its VMs */
void *vm_memory_new(void);

/* A VM in @memory, without the device, and with it */
int vm_open(struct vm *vm, void *memory, enum guest guest);
int vm_open_with_device(struct vm *vm, void *memory, enum guest guest);
void vm_close_vcpu(struct vm *vm);
void vm_close(struct vm *vm);

/* How far the guest has counted */
__u32 guest_count(const void *memory);
/* Wait until the guest has counted @nr further */
int guest_wait(const void *memory, unsigned int nr);

/* GUEST_STEPS: run the vCPU to the next step. -EPROTO: the guest did not reach it. */
int vm_step(struct vm *vm);

/* A thread that runs the vCPU of a VM, which is at GUEST_COUNTS */
struct runner {
	pthread_t thread;
	struct vm *vm;
	bool stop;
	int returns;		/* from KVM_RUN, before runner_stop() */
};

int runner_start(struct runner *runner, struct vm *vm);
void runner_stop(struct runner *runner);
int runner_returns(const struct runner *runner);

/* A guest that runs counts so far */
#define GUEST_ROUNDS	1000

/* The device */

int vm_create_device(int vm, __u32 type, __u32 flags);
int dev_attr(int dev, unsigned long cmd, __u32 group, __u64 attr, const void *addr);

int vm_ioasid_add(int dev, int ioasid_fd, __u32 host, __u32 guest);
int vm_ioasid_del(int dev, __u32 guest);
/* The id that the guest's PASID is mapped to, or -errno */
int vm_ioasid_lookup(int dev, __u32 guest);

#endif /* KVM_UTIL_H */
