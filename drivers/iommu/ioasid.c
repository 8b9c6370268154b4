// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers that tag DMA (PASIDs), their sets, references and states.
 *
 *	alloc --> ACTIVE -- free --> PARKED -- last put --> recycled
 *
 * Free blocks the DMA and parks the number. It tells nobody: holders put their
 * references when their own life cycle says so, and the last put recycles the
 * number. An attachment holds a reference, so at zero there is none, and
 * recycling has no hardware work to do.
 *
 * This file knows no IOMMU: what attach, block and detach do to the hardware is
 * in the attachment's ops (ioasid_iommu.c).
 */
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "ioasid-priv.h"

DEFINE_XARRAY_FLAGS(ioasid_numbers, XA_FLAGS_ALLOC | XA_FLAGS_LOCK_IRQ |
		    XA_FLAGS_ACCOUNT);

static void ioasid_set_put(struct ioasid_set *set)
{
	if (refcount_dec_and_test(&set->refs))
		kfree(set);
}

/**
 * ioasid_set_alloc() - Create an empty set of numbers
 * @quota: How many numbers the set may have at a time, parked ones included.
 *
 * Context: Process context. May sleep.
 * Return: The set, which the caller ends with ioasid_set_free(), or
 * ERR_PTR(-ENOMEM).
 */
struct ioasid_set *ioasid_set_alloc(unsigned int quota)
{
	struct ioasid_set *set;

	set = kzalloc(sizeof(*set), GFP_KERNEL_ACCOUNT);
	if (!set)
		return ERR_PTR(-ENOMEM);

	refcount_set(&set->refs, 1);
	mutex_init(&set->lock);
	INIT_LIST_HEAD(&set->active);
	INIT_LIST_HEAD(&set->parked);
	set->quota = quota;
	return set;
}
EXPORT_SYMBOL_GPL(ioasid_set_alloc);

/*
 * ACTIVE -> PARKED. Returns whether this call made the transition: the owner's
 * reference is then the caller's to put.
 */
static bool ioasid_park(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;
	struct ioasid_attachment *attachment;

	lockdep_assert_held(&set->lock);

	if (ioasid->parked)
		return false;

	/* Before the hardware, so that ioasid_find() fails once we are done */
	xa_lock_irq(&ioasid_numbers);
	WRITE_ONCE(ioasid->parked, true);
	list_move_tail(&ioasid->node, &set->parked);
	set->nr_active--;
	set->nr_parked++;
	xa_unlock_irq(&ioasid_numbers);

	list_for_each_entry(attachment, &ioasid->attachments, node)
		attachment->ops->block(attachment);
	return true;
}

/* Some active number of @set with a reference, or NULL when there is none */
static struct ioasid *ioasid_set_get_active(struct ioasid_set *set)
{
	struct ioasid *ioasid;

	xa_lock_irq(&ioasid_numbers);
	list_for_each_entry(ioasid, &set->active, node)
		/* Zero: its last put waits for the lock to take it off the list */
		if (refcount_inc_not_zero(&ioasid->refs))
			goto out;
	ioasid = NULL;
out:
	xa_unlock_irq(&ioasid_numbers);
	return ioasid;
}

/**
 * ioasid_set_free() - Free all numbers of a set, and the set
 * @set: The set. It is not the caller's any more, and no ioasid_alloc() of it
 *       is under way.
 *
 * As ioasid_free() on each active number. The memory of the set goes when the
 * last of its numbers is recycled.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep. Does not wait for holders.
 */
void ioasid_set_free(struct ioasid_set *set)
{
	struct ioasid *ioasid;

	while ((ioasid = ioasid_set_get_active(set))) {
		ioasid_free(ioasid);
		ioasid_put(ioasid);
		cond_resched();
	}
	ioasid_set_put(set);
}
EXPORT_SYMBOL_GPL(ioasid_set_free);

/**
 * ioasid_alloc() - Allocate a number
 * @set: The set that the number becomes part of.
 * @min: The lowest number to give, %IOASID_MIN or more.
 * @max: The highest number to give, at most %IOASID_MAX.
 *
 * Gives the lowest number in the range that no set has. -> ACTIVE
 *
 * Context: Process context. May sleep.
 * Return: The number, with two references: the owner's, which ioasid_free()
 * puts, whoever calls it, and one for the caller to put; or ERR_PTR() of
 * * -EINVAL		- the range is empty or leaves the number space
 * * -EDQUOT		- the set has as many numbers as it may have
 * * -ENOSPC		- no number in the range is free
 * * -ENOMEM
 */
struct ioasid *ioasid_alloc(struct ioasid_set *set, unsigned int min,
			    unsigned int max)
{
	struct ioasid *ioasid;
	int ret;

	if (min < IOASID_MIN || min > max || max > IOASID_MAX)
		return ERR_PTR(-EINVAL);

	ioasid = kzalloc(sizeof(*ioasid), GFP_KERNEL_ACCOUNT);
	if (!ioasid)
		return ERR_PTR(-ENOMEM);

	/* The owner's and the caller's: others may free it once it is published */
	refcount_set(&ioasid->refs, 2);
	INIT_LIST_HEAD(&ioasid->attachments);
	ioasid->set = set;

	xa_lock_irq(&ioasid_numbers);
	if (set->nr_active + set->nr_parked >= set->quota) {
		ret = -EDQUOT;
		goto err_unlock;
	}
	/* Counted before the lock is dropped for memory, or the quota leaks */
	set->nr_active++;

	/* Reserve a number. It is nobody's yet: ioasid_find() sees nothing. */
	ret = __xa_alloc(&ioasid_numbers, &ioasid->id, NULL,
			 XA_LIMIT(min, max), GFP_KERNEL);
	if (ret)
		goto err_uncount;

	/* Publish. Nothing can fail any more, the store's slot is reserved. */
	refcount_inc(&set->refs);
	list_add_tail(&ioasid->node, &set->active);
	__xa_store(&ioasid_numbers, ioasid->id, ioasid, 0);
	xa_unlock_irq(&ioasid_numbers);
	return ioasid;

err_uncount:
	set->nr_active--;
err_unlock:
	xa_unlock_irq(&ioasid_numbers);
	kfree(ioasid);
	return ERR_PTR(ret == -EBUSY ? -ENOSPC : ret);
}
EXPORT_SYMBOL_GPL(ioasid_alloc);

/**
 * ioasid_free() - Block the DMA of a number and park it
 * @ioasid: The number. The caller has a reference.
 *
 * When this returns, no DMA through the number's attachments reaches memory,
 * and none of its faults is reported. ACTIVE -> PARKED, and the owner's
 * reference is put. Freeing twice is harmless.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep. Does not wait for holders, and calls none.
 */
void ioasid_free(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;
	bool parked;

	mutex_lock(&set->lock);
	parked = ioasid_park(ioasid);
	mutex_unlock(&set->lock);
	if (parked)
		ioasid_put(ioasid);
}
EXPORT_SYMBOL_GPL(ioasid_free);

/**
 * ioasid_find() - Take a reference by number
 * @set: The set to look in.
 * @id: The number.
 *
 * Context: Any context. Takes no lock.
 * Return: The number, with a reference for the caller to put; NULL if it is not
 * an active number of @set.
 */
struct ioasid *ioasid_find(struct ioasid_set *set, unsigned int id)
{
	struct ioasid *ioasid;

	rcu_read_lock();
	ioasid = xa_load(&ioasid_numbers, id);
	if (ioasid && (ioasid->set != set || READ_ONCE(ioasid->parked) ||
		       !refcount_inc_not_zero(&ioasid->refs)))
		ioasid = NULL;
	rcu_read_unlock();
	return ioasid;
}
EXPORT_SYMBOL_GPL(ioasid_find);

/**
 * ioasid_get() - Take a reference from a reference
 * @ioasid: The number, active or parked. The caller has a reference.
 *
 * Context: Any context. Takes no lock.
 * Return: @ioasid.
 */
struct ioasid *ioasid_get(struct ioasid *ioasid)
{
	refcount_inc(&ioasid->refs);
	return ioasid;
}
EXPORT_SYMBOL_GPL(ioasid_get);

/**
 * ioasid_put() - Put a reference
 * @ioasid: The number, active or parked.
 *
 * The last put recycles the number: it may be allocated again at once.
 *
 * Context: Any context but NMI. Takes no lock unless it is the last put, a spin
 * lock with interrupts off then.
 */
void ioasid_put(struct ioasid *ioasid)
{
	struct ioasid_set *set = ioasid->set;
	unsigned long flags;

	if (!refcount_dec_and_test(&ioasid->refs))
		return;

	xa_lock_irqsave(&ioasid_numbers, flags);
	__xa_erase(&ioasid_numbers, ioasid->id);
	list_del(&ioasid->node);
	/* Active still: the owner had no attachment, and put instead of free */
	if (ioasid->parked)
		set->nr_parked--;
	else
		set->nr_active--;
	xa_unlock_irqrestore(&ioasid_numbers, flags);

	kfree_rcu(ioasid, rcu);
	ioasid_set_put(set);
}
EXPORT_SYMBOL_GPL(ioasid_put);

/**
 * ioasid_id() - The number itself
 * @ioasid: The number. The caller has a reference.
 *
 * Context: Any context.
 * Return: %IOASID_MIN to %IOASID_MAX.
 */
unsigned int ioasid_id(const struct ioasid *ioasid)
{
	return ioasid->id;
}
EXPORT_SYMBOL_GPL(ioasid_id);

/* The common part of ioasid_attach() and ioasid_attach_default() */
struct ioasid_attachment *
ioasid_attach_ops(struct ioasid *ioasid, struct device *dev,
		  struct iommu_domain *domain,
		  const struct ioasid_attachment_ops *ops, const char *holder)
{
	struct ioasid_set *set = ioasid->set;
	struct ioasid_attachment *attachment, *other;
	int ret;

	attachment = kzalloc(sizeof(*attachment), GFP_KERNEL_ACCOUNT);
	if (!attachment)
		return ERR_PTR(-ENOMEM);

	attachment->ops = ops;
	attachment->dev = dev;
	attachment->domain = domain;
	attachment->holder = holder;

	mutex_lock(&set->lock);
	if (ioasid->parked) {
		ret = -ESHUTDOWN;
		goto err_unlock;
	}
	list_for_each_entry(other, &ioasid->attachments, node) {
		if (other->dev == dev && other->ops == ops) {
			ret = -EEXIST;
			goto err_unlock;
		}
	}

	attachment->ioasid = ioasid_get(ioasid);
	ret = ops->attach(attachment);
	if (ret)
		goto err_put;
	list_add_tail(&attachment->node, &ioasid->attachments);
	ioasid->nr_attachments++;
	mutex_unlock(&set->lock);
	return attachment;

err_put:
	/* Not the last one, the caller has another */
	ioasid_put(ioasid);
err_unlock:
	mutex_unlock(&set->lock);
	kfree(attachment);
	return ERR_PTR(ret);
}

/**
 * ioasid_detach() - End an attachment
 * @attachment: The attachment, of a number active or parked. It is gone after.
 *
 * A tagged attachment: DMA with the number is not translated any more. Of a
 * device that goes on with it faults are reported, parked or not: stop the
 * device first. A default attachment of an active number: the device's DMA
 * goes on as before the attach. Of a parked one: it stays blocked and quiet
 * until the device's group is given another domain.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep.
 */
void ioasid_detach(struct ioasid_attachment *attachment)
{
	struct ioasid *ioasid = attachment->ioasid;
	struct ioasid_set *set = ioasid->set;

	mutex_lock(&set->lock);
	attachment->ops->detach(attachment);
	list_del(&attachment->node);
	ioasid->nr_attachments--;
	mutex_unlock(&set->lock);

	kfree(attachment);
	ioasid_put(ioasid);
}
EXPORT_SYMBOL_GPL(ioasid_detach);

/* How many numbers the set has and may have, for its owner */
void ioasid_set_count(struct ioasid_set *set, struct ioasid_set_counts *counts)
{
	xa_lock_irq(&ioasid_numbers);
	counts->quota = set->quota;
	counts->active = set->nr_active;
	counts->parked = set->nr_parked;
	xa_unlock_irq(&ioasid_numbers);
}

/*
 * The status of a number, for its owner: unlike ioasid_find(), a parked one is
 * found too. -ENOENT: not a number of @set.
 */
int ioasid_query(struct ioasid_set *set, unsigned int id,
		 struct ioasid_status *status)
{
	struct ioasid *ioasid;
	int ret = -ENOENT;

	mutex_lock(&set->lock);
	xa_lock_irq(&ioasid_numbers);
	ioasid = xa_load(&ioasid_numbers, id);
	if (ioasid && ioasid->set == set) {
		status->parked = ioasid->parked;
		status->references = refcount_read(&ioasid->refs);
		status->attachments = ioasid->nr_attachments;
		/* Zero: its last put waits for the lock, it is as good as gone */
		if (status->references)
			ret = 0;
	}
	xa_unlock_irq(&ioasid_numbers);
	mutex_unlock(&set->lock);
	return ret;
}
