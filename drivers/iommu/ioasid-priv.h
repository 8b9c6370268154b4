/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __IOASID_PRIV_H
#define __IOASID_PRIV_H

#include <linux/ioasid.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/misc_cgroup.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/ref_tracker.h>
#include <linux/refcount.h>
#include <linux/xarray.h>

struct seq_file;
struct ucounts;

/* Devices with few PASID bits can only use low ids. A user may have few of them. */
#define IOASID_LOW_MAX	1023U

/* Ids below this are the kernel's own */
extern unsigned int ioasid_reserved;

/* All sets, by ioasid_set::id, until the last put */
extern struct xarray ioasid_sets;

/*
 * Lifetime: the creator has one reference until ioasid_set_free(), each IOASID
 * has one until it is recycled. The memory stays for an RCU grace period, for
 * debugfs.
 */
struct ioasid_set {
	refcount_t refs;
	u32 id;
	bool charged;			/* to a user and a misc cgroup */
	struct mutex alloc_lock;	/* outside the locks of the xarrays */
	/*
	 * Orders attach and park of the set's IOASIDs, and guards the lists of
	 * attachments. Taken in process context, outside iommu_group::mutex and
	 * the locks of the xarrays.
	 */
	struct mutex lock;
	unsigned int nr_attachments;	/* at most quota */

	/* Its lock, with interrupts off, guards the members down to freed */
	struct xarray ioasids;		/* by id, reserved until published */
#define IOASID_ACTIVE	XA_MARK_0
	unsigned int nr_active;		/* grows under alloc_lock */
	unsigned int nr_parked;
	u64 nr_parks;			/* how many were ever parked */
	bool freed;
	unsigned int quota;
	struct rcu_head rcu;
};

/*
 * Lifetime: the owner has one reference until the IOASID is parked, each holder
 * has those that it took, each attachment has one. At zero the id is recycled;
 * the memory stays for an RCU grace period, for ioasid_find().
 */
struct ioasid {
	refcount_t refs;
	unsigned int id;
	struct ioasid_set *set;
	/*
	 * ACTIVE -> PARKED, never back. Written under set->lock and the lock of
	 * set->ioasids, read under either or, by ioasid_find(), under none.
	 */
	bool parked;
	ktime_t parked_at;
	struct list_head attachments;	/* under set->lock */
	unsigned int nr_attachments;	/* under set->lock */
	union {
		/* On the list of the task that parks, until the owner's put */
		struct list_head park_node;
		struct rcu_head rcu;	/* after the last put */
	};
	struct ucounts *ucounts;	/* charged, or NULL */
	struct misc_cg *cg;		/* charged, or NULL */
	struct ioasid_tracker owner;
#ifdef CONFIG_IOASID_REF_TRACKER
	spinlock_t holders_lock;	/* guards holders */
	struct list_head holders;
	struct ref_tracker_dir ref_dir;
#endif
};

/* How many attachments are blocked with one wait for the hardware */
#ifndef IOASID_BATCH_SIZE
#define IOASID_BATCH_SIZE	8
#endif

struct ioasid_batch {
	struct ioasid_attachment *attachments[IOASID_BATCH_SIZE];
	unsigned int count;
};

/*
 * Hardware operations on attachments. All attachments of a set have the same
 * ops. Attach, block and finish_block are called with set->lock held, replace and
 * detach without: block and finish_block may run at the same time, and also after
 * detach, until the attachment is off the list of the IOASID.
 */
struct ioasid_attachment_ops {
	int (*attach)(struct ioasid_attachment *attachment,
		      struct iommu_attach_handle *handle);
	/* If it fails, the old page table stays. -ESHUTDOWN: it is blocked. */
	int (*replace)(struct ioasid_attachment *attachment,
		       struct iommu_domain *domain,
		       struct iommu_attach_handle *handle);
	/* Cannot fail. No fault is reported if the IOMMU can block quietly. */
	void (*block)(const struct ioasid_batch *batch);
	/* Waits for replace and detach, and blocks the DMA if block did not */
	void (*finish_block)(struct ioasid_attachment *attachment);
	void (*detach)(struct ioasid_attachment *attachment);
};

/* (IOASID, device, PASID) -> page table. Freed by ioasid_detach(). */
struct ioasid_attachment {
	struct ioasid *ioasid;		/* holds a reference */
	const struct ioasid_attachment_ops *ops;
	struct device *dev;
	unsigned int pasid;		/* on the bus; IOMMU_NO_PASID: none */
	struct iommu_domain *domain;	/* not for block: it may change */
	const char *holder;
	struct ioasid_tracker tracker;
	struct list_head node;		/* ioasid->attachments */
};

struct ioasid_attachment *
__ioasid_attach(struct ioasid *ioasid, struct device *dev, unsigned int pasid,
		struct iommu_domain *domain, struct iommu_attach_handle *handle,
		const struct ioasid_attachment_ops *ops, const char *holder);
void __ioasid_detach(struct ioasid_attachment *attachment);

struct ioasid_set *ioasid_set_alloc(unsigned int quota, bool charged);
void ioasid_set_park(struct ioasid_set *set);
void ioasid_set_free(struct ioasid_set *set);
void ioasid_set_put(struct ioasid_set *set);

struct ioasid *ioasid_alloc(struct ioasid_set *set, unsigned int min,
			    unsigned int max);
void ioasid_publish(struct ioasid *ioasid);
void ioasid_free(struct ioasid *ioasid);
struct ioasid *ioasid_find(struct ioasid_set *set, unsigned int id);
bool ioasid_tryget(struct ioasid *ioasid);

struct ioasid_set_counts {
	unsigned int quota;
	unsigned int active;
	unsigned int parked;
	u64 parks;
	bool freed;
};

void ioasid_set_count(struct ioasid_set *set, struct ioasid_set_counts *counts);

struct ioasid_status {
	bool parked;
	unsigned int attachments;
};

int ioasid_query(struct ioasid_set *set, unsigned int id,
		 struct ioasid_status *status);

#ifdef CONFIG_IOASID_REF_TRACKER
void ioasid_tracker_init(struct ioasid *ioasid);
void ioasid_tracker_exit(struct ioasid *ioasid);
void ioasid_tracker_show(struct ioasid *ioasid, struct seq_file *m);
#else
static inline void ioasid_tracker_init(struct ioasid *ioasid) { }
static inline void ioasid_tracker_exit(struct ioasid *ioasid) { }
static inline void ioasid_tracker_show(struct ioasid *ioasid,
				       struct seq_file *m) { }
#endif

#endif /* __IOASID_PRIV_H */
