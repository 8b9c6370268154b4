// SPDX-License-Identifier: GPL-2.0
/*
 * debugfs iommu/ioasid/numbers: a line for each number, with who holds it.
 */
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/seq_file.h>

#include "ioasid-priv.h"

/* The first number from *pos on, with a reference; *pos is the number itself */
static void *numbers_start(struct seq_file *m, loff_t *pos)
{
	unsigned long id;
	struct ioasid *ioasid;

	rcu_read_lock();
	xa_for_each_start(&ioasid_numbers, id, ioasid, *pos)
		if (refcount_inc_not_zero(&ioasid->refs))
			break;
	rcu_read_unlock();
	*pos = ioasid ? id : (loff_t)IOASID_MAX + 1;
	return ioasid;
}

static void *numbers_next(struct seq_file *m, void *v, loff_t *pos)
{
	ioasid_put(v);
	++*pos;
	return numbers_start(m, pos);
}

static void numbers_stop(struct seq_file *m, void *v)
{
	if (v)
		ioasid_put(v);
}

static int numbers_show(struct seq_file *m, void *v)
{
	struct ioasid_attachment *attachment;
	struct ioasid *ioasid = v;

	mutex_lock(&ioasid->set->lock);
	/* Without the reference that numbers_start() took */
	seq_printf(m, "%u %s refs %u attachments %u", ioasid->id,
		   ioasid->parked ? "parked" : "active",
		   refcount_read(&ioasid->refs) - 1, ioasid->nr_attachments);
	list_for_each_entry(attachment, &ioasid->attachments, node)
		seq_printf(m, " %s:%s by %s", dev_name(attachment->dev),
			   attachment->ops->name, attachment->holder);
	seq_putc(m, '\n');
	mutex_unlock(&ioasid->set->lock);
	return 0;
}

static const struct seq_operations numbers_sops = {
	.start = numbers_start,
	.next = numbers_next,
	.stop = numbers_stop,
	.show = numbers_show,
};
DEFINE_SEQ_ATTRIBUTE(numbers);

static int __init ioasid_debugfs_init(void)
{
	struct dentry *dir;

	iommu_debugfs_setup();
	dir = debugfs_create_dir("ioasid", iommu_debugfs_dir);
	debugfs_create_file("numbers", 0400, dir, NULL, &numbers_fops);
	return 0;
}
late_initcall(ioasid_debugfs_init);
