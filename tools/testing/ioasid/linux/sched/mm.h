/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_SCHED_MM_H
#define _IOASID_LINUX_SCHED_MM_H

#include_next <linux/sched/mm.h>

struct mm_struct {
	int mm_count;
};

void mmgrab(struct mm_struct *mm);
void mmdrop(struct mm_struct *mm);

#endif /* _IOASID_LINUX_SCHED_MM_H */
