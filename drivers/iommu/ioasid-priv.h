/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __IOASID_PRIV_H
#define __IOASID_PRIV_H

#include <linux/ioasid.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/xarray.h>

/*
 * All numbers of the machine. Its lock also guards the lists and the counters
 * of the sets; it is taken with interrupts off, because the last put may come
 * from anywhere.
 */
extern struct xarray ioasid_numbers;

/*
 * Lifetime: one reference is the creator's, one is each number's until it is
 * recycled.
 */
struct ioasid_set {
	refcount_t refs;
	/*
	 * Orders attach, detach and park of the set's numbers. Taken in process
	 * context, outside iommu_group::mutex and the xarray's lock.
	 */
	struct mutex lock;

	/* Below: under the lock of ioasid_numbers */
	struct list_head active;
	struct list_head parked;
	unsigned int nr_active;
	unsigned int nr_parked;
	unsigned int quota;
};

/*
 * Lifetime: the owner has one reference until the number is parked, each holder
 * has those that it took, each attachment has one. At zero the number is
 * recycled; the memory stays for an RCU grace period, for ioasid_find().
 */
struct ioasid {
	refcount_t refs;
	unsigned int id;
	struct ioasid_set *set;
	/*
	 * ACTIVE -> PARKED, never back. Written under set->lock and the lock of
	 * ioasid_numbers, read under either or, by ioasid_find(), under none.
	 */
	bool parked;
	struct list_head node;		/* set->active or set->parked */
	struct list_head attachments;	/* under set->lock */
	unsigned int nr_attachments;	/* under set->lock */
	struct rcu_head rcu;
};

/* Brings the hardware's view of an attachment about, under set->lock */
struct ioasid_attachment_ops {
	int (*attach)(struct ioasid_attachment *attachment);
	/* No fault of the attachment's DMA is reported from its first moment on */
	void (*block)(struct ioasid_attachment *attachment);
	void (*detach)(struct ioasid_attachment *attachment);
	const char *name;
};

struct ioasid_attachment {
	struct ioasid *ioasid;		/* holds a reference */
	const struct ioasid_attachment_ops *ops;
	struct device *dev;
	struct iommu_domain *domain;	/* NULL unless tagged */
	const char *holder;
	struct list_head node;		/* ioasid->attachments */
};

struct ioasid_attachment *
ioasid_attach_ops(struct ioasid *ioasid, struct device *dev,
		  struct iommu_domain *domain,
		  const struct ioasid_attachment_ops *ops, const char *holder);

struct ioasid_set_counts {
	unsigned int quota;
	unsigned int active;
	unsigned int parked;
};

void ioasid_set_count(struct ioasid_set *set, struct ioasid_set_counts *counts);

struct ioasid_status {
	bool parked;
	unsigned int references;
	unsigned int attachments;
};

int ioasid_query(struct ioasid_set *set, unsigned int id,
		 struct ioasid_status *status);

#endif /* __IOASID_PRIV_H */
