// SPDX-License-Identifier: GPL-2.0
/*
 * Track the holders of IOASIDs: debugfs shows their names, and ref_tracker
 * warns of references that were put twice or without ioasid_untrack().
 */
#include <linux/device.h>
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/string_helpers.h>

#include "ioasid-priv.h"

/**
 * ioasid_track() - Say who has a reference
 * @ioasid: The IOASID. The caller has a reference that has no tracker yet.
 * @tracker: The tracker, which lives until ioasid_untrack().
 * @holder: The kind of holder. The string outlives the tracker.
 * @dev: The device that the reference is for, which outlives the tracker, or
 *       NULL.
 *
 * The calling task's name and PID are recorded too. Does nothing without
 * CONFIG_IOASID_REF_TRACKER.
 *
 * Context: Process context. Takes a spin lock with interrupts off, may sleep.
 */
void ioasid_track(struct ioasid *ioasid, struct ioasid_tracker *tracker,
		  const char *holder, struct device *dev)
{
	unsigned long flags;

	ref_tracker_alloc(&ioasid->ref_dir, &tracker->ref, GFP_KERNEL);
	tracker->holder = holder;
	tracker->dev = dev;
	tracker->pid = task_tgid_nr(current);
	get_task_comm(tracker->comm, current);

	spin_lock_irqsave(&ioasid->holders_lock, flags);
	list_add_tail(&tracker->node, &ioasid->holders);
	spin_unlock_irqrestore(&ioasid->holders_lock, flags);
}
EXPORT_SYMBOL_GPL(ioasid_track);

/**
 * ioasid_untrack() - End the tracking of a reference, before it is put
 * @ioasid: The IOASID.
 * @tracker: The tracker that ioasid_track() was given.
 *
 * Context: Any context but NMI. Takes a spin lock with interrupts off.
 */
void ioasid_untrack(struct ioasid *ioasid, struct ioasid_tracker *tracker)
{
	unsigned long flags;

	spin_lock_irqsave(&ioasid->holders_lock, flags);
	list_del_init(&tracker->node);
	spin_unlock_irqrestore(&ioasid->holders_lock, flags);
	ref_tracker_free(&ioasid->ref_dir, &tracker->ref);
}
EXPORT_SYMBOL_GPL(ioasid_untrack);

void ioasid_tracker_init(struct ioasid *ioasid)
{
	spin_lock_init(&ioasid->holders_lock);
	INIT_LIST_HEAD(&ioasid->holders);
	__ref_tracker_dir_init(&ioasid->ref_dir, 16, "ioasid");
}

/*
 * At the last put, each tracker that is left belongs to a reference that was put
 * without ioasid_untrack(). Empty the list, as it must not lead into memory that
 * is freed.
 */
void ioasid_tracker_exit(struct ioasid *ioasid)
{
	struct ioasid_tracker *tracker, *next;

	/* The owner may put its reference instead, see ioasid_recycle() */
	if (!list_empty(&ioasid->owner.node))
		ioasid_untrack(ioasid, &ioasid->owner);
	list_for_each_entry_safe(tracker, next, &ioasid->holders, node)
		list_del_init(&tracker->node);
	ref_tracker_dir_exit(&ioasid->ref_dir);
}

/* " held by <holder> (<task's name>/<its PID>[, <device>])", ... */
void ioasid_tracker_show(struct ioasid *ioasid, struct seq_file *m)
{
	struct ioasid_tracker *tracker;
	const char *sep = " held by ";

	spin_lock_irq(&ioasid->holders_lock);
	list_for_each_entry(tracker, &ioasid->holders, node) {
		seq_printf(m, "%s%s (", sep, tracker->holder);
		/* The task chose its name, which must not look like more holders */
		seq_escape_str(m, tracker->comm,
			       ESCAPE_ANY | ESCAPE_NP | ESCAPE_APPEND, "()");
		seq_printf(m, "/%d", tracker->pid);
		if (tracker->dev)
			seq_printf(m, ", %s", dev_name(tracker->dev));
		seq_putc(m, ')');
		sep = ", ";
	}
	spin_unlock_irq(&ioasid->holders_lock);
}
