// SPDX-License-Identifier: GPL-2.0
/*
 * IOASIDs: reference-counted objects whose ids are PASIDs; sets and states.
 *
 *	alloc --> ACTIVE -- free --> PARKED -- last put --> recycled
 *
 * Free blocks the DMA and parks the IOASID. It tells nobody: holders put their
 * references when their own life cycle says so, and the last put recycles the
 * id. An attachment holds a reference. So at reference zero no attachment is
 * left, and recycling has no hardware work to do.
 *
 * This file knows no IOMMU. The ops of an attachment do the hardware's part of
 * attach, replace, block and detach. They are in ioasid_iommu.c, together with
 * ioasid_attach().
 */
#include <linux/bitops.h>
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/idr.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "ioasid-priv.h"

#define CREATE_TRACE_POINTS
#include <trace/events/ioasid.h>

DEFINE_XARRAY_FLAGS(ioasid_sets, XA_FLAGS_ALLOC1 | XA_FLAGS_LOCK_IRQ |
		    XA_FLAGS_ACCOUNT);

/* One id space for all sets: a device may have PASIDs of several sets */
static DEFINE_IDA(ioasid_ida);

/*
 * Where ioasid_id_alloc() searches first: [0] for the kernel, [n] for users
 * whose @max has n bits. These are hints, so no lock guards them.
 */
static unsigned int ioasid_next[IOASID_BITS + 1];

unsigned int ioasid_reserved = 128;
module_param_named(reserved, ioasid_reserved, uint, 0644);
MODULE_PARM_DESC(reserved, "Ids below this are for the kernel's own use");

/**
 * ioasid_set_put() - Put a reference to a set
 * @set: The set.
 *
 * Context: Any context but NMI. Takes no lock unless it is the last put, a spin
 * lock with interrupts off then.
 */
void ioasid_set_put(struct ioasid_set *set)
{
	unsigned long flags;

	if (!refcount_dec_and_test(&set->refs))
		return;

	xa_lock_irqsave(&ioasid_sets, flags);
	__xa_erase(&ioasid_sets, set->id);
	xa_unlock_irqrestore(&ioasid_sets, flags);
	/* Free the nodes that are left of a failed ioasid_alloc() */
	xa_destroy(&set->ioasids);
	kfree_rcu(set, rcu);
}

/**
 * ioasid_set_alloc() - Create an empty set of IOASIDs
 * @quota: How many IOASIDs the set may have at a time, parked ones included, and
 *         how many attachments under them.
 * @charged: Whether each IOASID is charged to the user and to the misc cgroup of
 *           the task that allocates it, and is not from the kernel's reserve.
 *
 * Context: Process context. Takes a spin lock with interrupts off, may sleep.
 * Return:
 * * the set, which the caller ends with ioasid_set_free(), or ERR_PTR() of
 * * %-EBUSY	- there are 2^31 sets
 * * %-ENOMEM
 */
struct ioasid_set *ioasid_set_alloc(unsigned int quota, bool charged)
{
	struct ioasid_set *set;
	static u32 next;
	int ret;

	set = kzalloc_obj(*set, GFP_KERNEL_ACCOUNT);
	if (!set)
		return ERR_PTR(-ENOMEM);

	refcount_set(&set->refs, 1);
	mutex_init(&set->lock);
	mutex_init(&set->alloc_lock);
	xa_init_flags(&set->ioasids, XA_FLAGS_LOCK_IRQ | XA_FLAGS_ACCOUNT);
	set->quota = quota;
	set->charged = charged;

	/* Cyclic, so that a set is not mistaken for an earlier one in debugfs */
	xa_lock_irq(&ioasid_sets);
	ret = __xa_alloc_cyclic(&ioasid_sets, &set->id, NULL, xa_limit_31b,
				&next, GFP_KERNEL);
	if (ret >= 0)
		__xa_store(&ioasid_sets, set->id, set, 0);
	xa_unlock_irq(&ioasid_sets);
	if (ret < 0) {
		kfree(set);
		return ERR_PTR(ret);
	}
	return set;
}

/* Take a reference unless the refcount has already dropped to zero */
bool ioasid_tryget(struct ioasid *ioasid)
{
	if (!refcount_inc_not_zero(&ioasid->refs))
		return false;
	trace_ioasid_get(ioasid);
	return true;
}

/*
 * ACTIVE -> PARKED, except for the hardware. Returns true if this call made the
 * transition: the caller then puts the owner's reference.
 */
static bool ioasid_park(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;

	lockdep_assert_held(&set->lock);

	if (ioasid->parked)
		return false;

	trace_ioasid_free(ioasid);
	ioasid->parked_at = ktime_get();
	xa_lock_irq(&set->ioasids);
	WRITE_ONCE(ioasid->parked, true);
	__xa_clear_mark(&set->ioasids, ioasid->id, IOASID_ACTIVE);
	set->nr_active--;
	set->nr_parked++;
	set->nr_parks++;
	xa_unlock_irq(&set->ioasids);
	return true;
}

static void ioasid_batch_flush(struct ioasid_batch *batch)
{
	if (!batch->count)
		return;
	batch->attachments[0]->ops->block(batch);
	batch->count = 0;
	cond_resched();
}

static void ioasid_batch_add(struct ioasid_batch *batch,
			     struct ioasid_attachment *attachment)
{
	batch->attachments[batch->count++] = attachment;
	if (batch->count == IOASID_BATCH_SIZE)
		ioasid_batch_flush(batch);
}

/*
 * Blocks the DMA of IOASIDs. All are PARKED already, so none can be found once
 * the first is blocked. set->lock keeps the attachments in place: a concurrent
 * ioasid_detach() takes it before it frees the attachment.
 */
static void ioasid_block_all(struct ioasid_set *set, struct list_head *parked)
{
	struct ioasid_batch batch = { .count = 0 };
	struct ioasid_attachment *attachment;
	struct ioasid *ioasid;

	lockdep_assert_held(&set->lock);

	list_for_each_entry(ioasid, parked, park_node) {
		list_for_each_entry(attachment, &ioasid->attachments, node)
			ioasid_batch_add(&batch, attachment);
		cond_resched();
	}
	ioasid_batch_flush(&batch);
	/* finish_block may wait long: block all attachments first */
	list_for_each_entry(ioasid, parked, park_node) {
		list_for_each_entry(attachment, &ioasid->attachments, node) {
			attachment->ops->finish_block(attachment);
			cond_resched();
		}
		trace_ioasid_park(ioasid);
		cond_resched();
	}
}

/* Each put may be the last, so the list is not valid afterwards */
static void ioasid_put_owners(struct list_head *parked)
{
	struct ioasid *ioasid, *next;

	list_for_each_entry_safe(ioasid, next, parked, park_node) {
		ioasid_untrack(ioasid, &ioasid->owner);
		ioasid_put(ioasid);
		cond_resched();
	}
}

/**
 * ioasid_set_park() - Free all IOASIDs of a set
 * @set: The set. No ioasid_alloc() may run meanwhile or afterwards, and each
 *       IOASID it returned must be published or put.
 *
 * ACTIVE -> PARKED for all active IOASIDs of the set, as by ioasid_free(), but
 * their attachments are blocked in common batches.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep. Does not wait until holders put their references. For what it may
 * wait: see ioasid_free().
 */
void ioasid_set_park(struct ioasid_set *set)
{
	struct ioasid *ioasid;
	unsigned long id;
	LIST_HEAD(parked);

	mutex_lock(&set->lock);
	xa_lock_irq(&set->ioasids);
	set->freed = true;
	xa_unlock_irq(&set->ioasids);

	/* The owner's reference keeps each until it is parked, under set->lock */
	xa_for_each_marked(&set->ioasids, id, ioasid, IOASID_ACTIVE) {
		if (ioasid_park(ioasid))
			list_add_tail(&ioasid->park_node, &parked);
		cond_resched();
	}
	ioasid_block_all(set, &parked);
	mutex_unlock(&set->lock);

	ioasid_put_owners(&parked);
}

/**
 * ioasid_set_free() - Free all IOASIDs of a set, and the set
 * @set: The set. The caller must not use it afterwards.
 *
 * As ioasid_set_park(), but also puts the creator's reference: the memory of the
 * set is freed when the last of its IOASIDs is recycled.
 *
 * Context: As ioasid_set_park().
 */
void ioasid_set_free(struct ioasid_set *set)
{
	ioasid_set_park(set);
	ioasid_set_put(set);
}

/*
 * Allocate an id. The kernel gets the low ids of its reserve. If these are in
 * use, and for users, prefer ids that devices with fewer PASID bits cannot use.
 * Avoid an id that was just recycled if another one is free: a device may still
 * do DMA with it.
 */
static int ioasid_id_alloc(struct ioasid_set *set, unsigned int min,
			   unsigned int max)
{
	unsigned int reserved = READ_ONCE(ioasid_reserved), *next, start;
	unsigned int first = min, last = max;
	int id = -ENOSPC;

	if (set->charged) {
		min = max(min, reserved);
		if (min > max)
			return -ENOSPC;
		first = max(min, max / 2 + 1);
		next = &ioasid_next[fls(max)];
	} else {
		if (min < reserved)
			last = min(max, reserved - 1);
		next = &ioasid_next[0];
	}

	start = READ_ONCE(*next);
	if (start > first && start <= last)
		id = ida_alloc_range(&ioasid_ida, start, last, GFP_KERNEL);
	if (id == -ENOSPC)
		id = ida_alloc_range(&ioasid_ida, first, last, GFP_KERNEL);
	if (id >= 0) {
		WRITE_ONCE(*next, id + 1);
		return id;
	}
	for (last = max; id == -ENOSPC && last >= min; last /= 2)
		id = ida_alloc_range(&ioasid_ida, max(min, last / 2 + 1), last,
				     GFP_KERNEL);
	return id;
}

static int ioasid_charge_user(struct ioasid *ioasid)
{
	struct user_namespace *ns = current_user_ns();
	kuid_t uid = current_euid();
	struct ucounts *ucounts;

	if (!ioasid->set->charged)
		return 0;

	/* inc_ucount() does not tell the lack of memory from the limit */
	ucounts = alloc_ucounts(ns, uid);
	if (!ucounts)
		return -ENOMEM;
	ioasid->ucounts = inc_ucount(ns, uid, UCOUNT_IOASIDS);
	put_ucounts(ucounts);
	return ioasid->ucounts ? 0 : -EUSERS;
}

static int ioasid_charge_low_id(struct ioasid *ioasid)
{
	struct ucounts *ucounts = ioasid->ucounts;

	if (!ucounts || ioasid->id > IOASID_LOW_MAX)
		return 0;
	return inc_ucount(ucounts->ns, ucounts->uid, UCOUNT_LOW_IOASIDS) ?
	       0 : -EUSERS;
}

static void ioasid_uncharge_low_id(struct ioasid *ioasid)
{
	if (ioasid->ucounts && ioasid->id <= IOASID_LOW_MAX)
		dec_ucount(ioasid->ucounts, UCOUNT_LOW_IOASIDS);
}

static void ioasid_uncharge_user(struct ioasid *ioasid)
{
	if (ioasid->ucounts)
		dec_ucount(ioasid->ucounts, UCOUNT_IOASIDS);
}

static int ioasid_charge_cgroup(struct ioasid *ioasid)
{
	struct misc_cg *cg;
	int ret;

	if (!ioasid->set->charged)
		return 0;

	cg = get_current_misc_cg();
	ret = misc_cg_try_charge(MISC_CG_RES_IOASID, cg, 1);
	if (ret)
		put_misc_cg(cg);
	else
		ioasid->cg = cg;
	return ret;
}

static void ioasid_uncharge_cgroup(struct ioasid *ioasid)
{
	if (!ioasid->cg)
		return;
	misc_cg_uncharge(MISC_CG_RES_IOASID, ioasid->cg, 1);
	put_misc_cg(ioasid->cg);
}

static bool ioasid_set_is_full(struct ioasid_set *set)
{
	bool full;

	lockdep_assert_held(&set->alloc_lock);

	xa_lock_irq(&set->ioasids);
	full = set->nr_active + set->nr_parked >= set->quota;
	xa_unlock_irq(&set->ioasids);
	return full;
}

/**
 * ioasid_alloc() - Allocate an IOASID
 * @set: The set that the IOASID becomes part of.
 * @min: The lowest id to give, %IOASID_MIN or more.
 * @max: The highest id to give, at most %IOASID_MAX.
 *
 * Allocates a free id in [@min, @max]. -> ACTIVE
 *
 * The caller must not rely on which id it gets. A set that is charged gets none
 * of the kernel's reserve, and one above @max / 2 if such an id is free.
 *
 * The one reference is the owner's, and until ioasid_publish() the caller is
 * the owner: nobody finds the IOASID, and ioasid_put() undoes this call.
 *
 * Context: Process context. Takes ioasid_set::alloc_lock, and spin locks with
 * interrupts off, may sleep.
 * Return:
 * * the IOASID, with one reference, or ERR_PTR() of
 * * %-EINVAL	- the range is empty, or not within %IOASID_MIN to %IOASID_MAX
 * * %-EDQUOT	- the quota of the set is used up
 * * %-EUSERS	- the user of the task is at a limit for IOASIDs or low ids, or
 *   the owner of its user namespace, or of one above it, is
 * * %-EBUSY	- the misc cgroup of the task, or one above it, is at its limit
 * * %-ENOSPC	- no id in the range is free
 * * %-ENOMEM
 */
struct ioasid *ioasid_alloc(struct ioasid_set *set, unsigned int min,
			    unsigned int max)
{
	struct ioasid *ioasid;
	int ret;

	if (min < IOASID_MIN || min > max || max > IOASID_MAX)
		return ERR_PTR(-EINVAL);

	ioasid = kzalloc_obj(*ioasid, GFP_KERNEL_ACCOUNT);
	if (!ioasid)
		return ERR_PTR(-ENOMEM);

	refcount_set(&ioasid->refs, 1);
	INIT_LIST_HEAD(&ioasid->attachments);
	ioasid->set = set;
	ioasid_tracker_init(ioasid);
	ioasid_track(ioasid, &ioasid->owner, "owner", NULL);

	/*
	 * Charge the limits first so that a caller over one of them never takes
	 * an id from the shared space. The limit of low ids needs the id.
	 */
	mutex_lock(&set->alloc_lock);
	ret = -EDQUOT;
	if (ioasid_set_is_full(set))
		goto err_unlock;
	ret = ioasid_charge_user(ioasid);
	if (ret)
		goto err_unlock;
	ret = ioasid_charge_cgroup(ioasid);
	if (ret)
		goto err_user;
	ret = ioasid_id_alloc(set, min, max);
	if (ret < 0)
		goto err_cgroup;
	ioasid->id = ret;
	ret = ioasid_charge_low_id(ioasid);
	if (ret)
		goto err_id;
	/* ioasid_publish() cannot fail */
	ret = xa_reserve_irq(&set->ioasids, ioasid->id, GFP_KERNEL_ACCOUNT);
	if (ret)
		goto err_low_id;

	xa_lock_irq(&set->ioasids);
	set->nr_active++;
	xa_unlock_irq(&set->ioasids);
	mutex_unlock(&set->alloc_lock);
	refcount_inc(&set->refs);
	trace_ioasid_alloc(ioasid);
	return ioasid;

err_low_id:
	ioasid_uncharge_low_id(ioasid);
err_id:
	ida_free(&ioasid_ida, ioasid->id);
err_cgroup:
	ioasid_uncharge_cgroup(ioasid);
err_user:
	ioasid_uncharge_user(ioasid);
err_unlock:
	mutex_unlock(&set->alloc_lock);
	ioasid_tracker_exit(ioasid);
	kfree(ioasid);
	return ERR_PTR(ret);
}

/**
 * ioasid_publish() - Let an IOASID be found by id
 * @ioasid: The IOASID, as ioasid_alloc() returned it.
 *
 * From here on, any task that can reach the set is an owner: ioasid_free() and
 * ioasid_set_free() put the owner's reference. If the caller shares the set, it
 * must not use @ioasid afterwards: another task may guess the id and free the
 * IOASID. If no other task can reach the set, the caller still has the owner's
 * reference, and may put it instead of freeing the IOASID if the IOASID never
 * had an attachment.
 *
 * Context: Process context. Takes a spin lock with interrupts off.
 */
void ioasid_publish(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;

	xa_lock_irq(&set->ioasids);
	__xa_store(&set->ioasids, ioasid->id, ioasid, 0);
	__xa_set_mark(&set->ioasids, ioasid->id, IOASID_ACTIVE);
	xa_unlock_irq(&set->ioasids);
}

/**
 * ioasid_free() - Block the DMA of an IOASID and park it
 * @ioasid: The IOASID. The caller has a reference.
 *
 * When this returns, no DMA through the attachments of @ioasid reaches memory.
 * Where the IOMMU can block quietly, no fault of that DMA is reported, from the
 * first moment on. ACTIVE -> PARKED, and the owner's reference is put. Freeing
 * twice is harmless.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep. Does not wait until holders put their references, and calls no
 * holder. It may wait for other calls that hold the set's lock, and then for
 * the mutex of the iommu_group of an attached device. A quiet block comes
 * before this second wait, see iommu_finish_block_pasid().
 */
void ioasid_free(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;
	LIST_HEAD(parked);

	mutex_lock(&set->lock);
	if (ioasid_park(ioasid))
		list_add(&ioasid->park_node, &parked);
	ioasid_block_all(set, &parked);
	mutex_unlock(&set->lock);

	ioasid_put_owners(&parked);
}

/**
 * ioasid_find() - Take a reference by id
 * @set: The set to look in. None is found in a set that has been freed.
 * @id: The id, any value.
 *
 * Context: Any context. Takes no lock.
 * Return: The IOASID, with a reference for the caller to put; NULL if no ACTIVE
 * IOASID of @set has the id.
 */
struct ioasid *ioasid_find(struct ioasid_set *set, unsigned int id)
{
	struct ioasid *ioasid;

	rcu_read_lock();
	ioasid = xa_load(&set->ioasids, id);
	if (ioasid && (READ_ONCE(ioasid->parked) || !ioasid_tryget(ioasid)))
		ioasid = NULL;
	rcu_read_unlock();
	return ioasid;
}

/**
 * ioasid_get() - Take a reference from a reference
 * @ioasid: The IOASID, active or parked. The caller has a reference.
 *
 * Context: Any context. Takes no lock.
 * Return: @ioasid.
 */
struct ioasid *ioasid_get(struct ioasid *ioasid)
{
	refcount_inc(&ioasid->refs);
	trace_ioasid_get(ioasid);
	return ioasid;
}
EXPORT_SYMBOL_GPL(ioasid_get);

/**
 * ioasid_is_parked() - Whether an IOASID has been freed
 * @ioasid: The IOASID. The caller has a reference.
 *
 * Context: Any context. Takes no lock, so false may be out of date.
 * Return: true if the IOASID is parked, which does not change any more.
 */
bool ioasid_is_parked(const struct ioasid *ioasid)
{
	return READ_ONCE(ioasid->parked);
}
EXPORT_SYMBOL_GPL(ioasid_is_parked);

static void ioasid_recycle(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;
	unsigned long flags;

	xa_lock_irqsave(&set->ioasids, flags);
	__xa_erase(&set->ioasids, ioasid->id);
	/* Still ACTIVE if the owner put its reference instead of freeing it */
	if (ioasid->parked)
		set->nr_parked--;
	else
		set->nr_active--;
	xa_unlock_irqrestore(&set->ioasids, flags);

	trace_ioasid_recycle(ioasid);
	ida_free(&ioasid_ida, ioasid->id);
	ioasid_uncharge_low_id(ioasid);
	ioasid_uncharge_cgroup(ioasid);
	ioasid_uncharge_user(ioasid);
	ioasid_tracker_exit(ioasid);
	kfree_rcu(ioasid, rcu);
	ioasid_set_put(set);
}

/**
 * ioasid_put() - Put a reference
 * @ioasid: The IOASID, active or parked.
 *
 * The last put recycles the id, which may be allocated again at once.
 * PARKED -> recycled; ACTIVE -> recycled if the owner puts its reference instead
 * of freeing the IOASID.
 *
 * Context: Any context but NMI. Takes no lock unless it is the last put, spin
 * locks with interrupts off then.
 */
void ioasid_put(struct ioasid *ioasid)
{
	trace_ioasid_put(ioasid);
	if (refcount_dec_and_test(&ioasid->refs))
		ioasid_recycle(ioasid);
}
EXPORT_SYMBOL_GPL(ioasid_put);

/**
 * ioasid_id() - The id of an IOASID
 * @ioasid: The IOASID. The caller has a reference.
 *
 * Context: Any context.
 * Return: %IOASID_MIN to %IOASID_MAX.
 */
unsigned int ioasid_id(const struct ioasid *ioasid)
{
	return ioasid->id;
}
EXPORT_SYMBOL_GPL(ioasid_id);

/* The part of ioasid_attach() that knows no IOMMU. For tests as well. */
struct ioasid_attachment *
__ioasid_attach(struct ioasid *ioasid, struct device *dev, unsigned int pasid,
		struct iommu_domain *domain, struct iommu_attach_handle *handle,
		const struct ioasid_attachment_ops *ops, const char *holder)
{
	struct ioasid_set *set = ioasid->set;
	struct ioasid_attachment *attachment;
	int ret;

	attachment = kzalloc_obj(*attachment, GFP_KERNEL_ACCOUNT);
	if (!attachment)
		return ERR_PTR(-ENOMEM);

	attachment->ops = ops;
	attachment->dev = dev;
	attachment->pasid = pasid;
	attachment->domain = domain;
	attachment->holder = holder;

	mutex_lock(&set->lock);
	if (ioasid->parked) {
		ret = -ESHUTDOWN;
		goto err_unlock;
	}
	/* A free waits for the hardware once for each batch of them */
	if (set->nr_attachments >= set->quota) {
		ret = -EDQUOT;
		goto err_unlock;
	}
	attachment->ioasid = ioasid_get(ioasid);
	ret = ops->attach(attachment, handle);
	if (ret)
		goto err_put;
	ioasid_track(ioasid, &attachment->tracker, holder, dev);
	list_add_tail(&attachment->node, &ioasid->attachments);
	set->nr_attachments++;
	WRITE_ONCE(ioasid->nr_attachments, ioasid->nr_attachments + 1);
	trace_ioasid_attach(attachment);
	mutex_unlock(&set->lock);
	return attachment;

err_put:
	/* Not the last put: the caller has a reference */
	ioasid_put(ioasid);
err_unlock:
	mutex_unlock(&set->lock);
	kfree(attachment);
	return ERR_PTR(ret);
}

/**
 * ioasid_replace() - Give an attachment another page table
 * @attachment: The attachment.
 * @domain: The page table, which outlives the attachment.
 * @handle: A new handle, which the caller keeps until ioasid_detach() or the
 *          next ioasid_replace() returns.
 *
 * Translation is not interrupted if the IOMMU driver can do that. If the IOASID
 * is freed meanwhile, the DMA is blocked, whatever this returns.
 *
 * Context: Process context. Calls into the IOMMU driver, may sleep. The caller
 * serializes this with ioasid_detach() and other calls for @attachment.
 * Return:
 * * 0, or an error, after which the old page table and handle are still in use:
 * * %-ESHUTDOWN	- the IOASID is parked
 * * %-EBUSY		- the device is being reset
 * * what iommu_replace_device_pasid() or iommu_replace_group_handle() returns
 */
int ioasid_replace(struct ioasid_attachment *attachment,
		   struct iommu_domain *domain,
		   struct iommu_attach_handle *handle)
{
	int ret;

	if (ioasid_is_parked(attachment->ioasid))
		return -ESHUTDOWN;
	/* Not under the set's lock: page requests may be drained, which takes long */
	ret = attachment->ops->replace(attachment, domain, handle);
	if (!ret)
		attachment->domain = domain;
	return ret;
}
EXPORT_SYMBOL_GPL(ioasid_replace);

/* The part of ioasid_detach() that knows no IOMMU. For tests as well. */
void __ioasid_detach(struct ioasid_attachment *attachment)
{
	struct ioasid *ioasid = attachment->ioasid;
	struct ioasid_set *set = ioasid->set;

	/*
	 * Not under the set's lock: page requests are drained, which takes long.
	 * A free may block the DMA before, meanwhile and after.
	 */
	attachment->ops->detach(attachment);

	mutex_lock(&set->lock);
	trace_ioasid_detach(attachment);
	list_del(&attachment->node);
	set->nr_attachments--;
	WRITE_ONCE(ioasid->nr_attachments, ioasid->nr_attachments - 1);
	ioasid_untrack(ioasid, &attachment->tracker);
	mutex_unlock(&set->lock);

	kfree(attachment);
	ioasid_put(ioasid);
}

/* How many IOASIDs the set has and may have, for its owner and debugfs */
void ioasid_set_count(struct ioasid_set *set, struct ioasid_set_counts *counts)
{
	xa_lock_irq(&set->ioasids);
	counts->quota = set->quota;
	counts->active = set->nr_active;
	counts->parked = set->nr_parked;
	counts->parks = set->nr_parks;
	counts->freed = set->freed;
	xa_unlock_irq(&set->ioasids);
}

/*
 * The status of an IOASID, for its owner. Unlike ioasid_find(), also finds a
 * PARKED one. -ENOENT: no IOASID of @set has the id.
 */
int ioasid_query(struct ioasid_set *set, unsigned int id,
		 struct ioasid_status *status)
{
	struct ioasid *ioasid;
	int ret = -ENOENT;

	mutex_lock(&set->lock);
	rcu_read_lock();
	ioasid = xa_load(&set->ioasids, id);
	/* At zero references, the last put is about to erase it */
	if (ioasid && refcount_read(&ioasid->refs)) {
		status->parked = ioasid->parked;
		status->attachments = ioasid->nr_attachments;
		ret = 0;
	}
	rcu_read_unlock();
	mutex_unlock(&set->lock);
	return ret;
}
