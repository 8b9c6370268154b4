// SPDX-License-Identifier: GPL-2.0
/*
 * debugfs iommu/ioasid/: a line for each set, and one for each IOASID with its
 * holders.
 */
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/seq_file.h>

#include "ioasid-priv.h"

/* The first set from @id on, with a reference */
static struct ioasid_set *set_from(unsigned long id)
{
	struct ioasid_set *set;

	rcu_read_lock();
	xa_for_each_start(&ioasid_sets, id, set, id)
		if (refcount_inc_not_zero(&set->refs))
			break;
	rcu_read_unlock();
	return set;
}

static void *sets_start(struct seq_file *m, loff_t *pos)
{
	struct ioasid_set *set = set_from(*pos);

	if (set)
		*pos = set->id;
	return set;
}

static void *sets_next(struct seq_file *m, void *v, loff_t *pos)
{
	ioasid_set_put(v);
	++*pos;
	return sets_start(m, pos);
}

static void sets_stop(struct seq_file *m, void *v)
{
	if (v)
		ioasid_set_put(v);
}

static int sets_show(struct seq_file *m, void *v)
{
	struct ioasid_set_counts counts;
	struct ioasid_set *set = v;

	ioasid_set_count(set, &counts);
	/* Without the reference that set_from() took */
	seq_printf(m, "%u %s quota %u active %u parked %u parks %llu refs %u\n",
		   set->id, counts.freed ? "freed" : "open", counts.quota,
		   counts.active, counts.parked, counts.parks,
		   refcount_read(&set->refs) - 1);
	return 0;
}

static const struct seq_operations sets_sops = {
	.start = sets_start,
	.next = sets_next,
	.stop = sets_stop,
	.show = sets_show,
};
DEFINE_SEQ_ATTRIBUTE(sets);

/* A position: the set's id in the high bits, the IOASID's id in the low ones */
#define POS(set, id)	((loff_t)(set) << IOASID_BITS | (id))

/* The first IOASID from *pos on, with a reference */
static void *ioasids_start(struct seq_file *m, loff_t *pos)
{
	struct ioasid *ioasid = NULL;
	struct ioasid_set *set;
	unsigned long id;

	while ((set = set_from(*pos >> IOASID_BITS))) {
		id = set->id == *pos >> IOASID_BITS ? *pos & IOASID_MAX : 0;
		rcu_read_lock();
		xa_for_each_start(&set->ioasids, id, ioasid, id)
			if (ioasid_tryget(ioasid))
				break;
		rcu_read_unlock();
		*pos = ioasid ? POS(set->id, ioasid->id) : POS(set->id + 1, 0);
		/* An IOASID keeps its set */
		ioasid_set_put(set);
		if (ioasid)
			break;
		cond_resched();
	}
	return ioasid;
}

static void *ioasids_next(struct seq_file *m, void *v, loff_t *pos)
{
	ioasid_put(v);
	++*pos;
	return ioasids_start(m, pos);
}

static void ioasids_stop(struct seq_file *m, void *v)
{
	if (v)
		ioasid_put(v);
}

static int ioasids_show(struct seq_file *m, void *v)
{
	struct ioasid_attachment *attachment;
	struct ioasid *ioasid = v;

	mutex_lock(&ioasid->set->lock);
	/* Without the reference that ioasids_start() took */
	seq_printf(m, "%u %s refs %u attachments %u", ioasid->id,
		   ioasid->parked ? "parked" : "active",
		   refcount_read(&ioasid->refs) - 1, ioasid->nr_attachments);
	list_for_each_entry(attachment, &ioasid->attachments, node)
		seq_printf(m, " %s:%u by %s", dev_name(attachment->dev),
			   attachment->pasid, attachment->holder);
	seq_printf(m, " set %u", ioasid->set->id);
	if (ioasid->parked)
		seq_printf(m, " for %lld ms",
			   ktime_ms_delta(ktime_get(), ioasid->parked_at));
	ioasid_tracker_show(ioasid, m);
	seq_putc(m, '\n');
	mutex_unlock(&ioasid->set->lock);
	return 0;
}

static const struct seq_operations ioasids_sops = {
	.start = ioasids_start,
	.next = ioasids_next,
	.stop = ioasids_stop,
	.show = ioasids_show,
};
DEFINE_SEQ_ATTRIBUTE(ioasids);

static int __init ioasid_debugfs_init(void)
{
	struct dentry *dir;

	iommu_debugfs_setup();
	dir = debugfs_create_dir("ioasid", iommu_debugfs_dir);
	debugfs_create_file("sets", 0400, dir, NULL, &sets_fops);
	debugfs_create_file("ioasids", 0400, dir, NULL, &ioasids_fops);
	return 0;
}
late_initcall(ioasid_debugfs_init);
