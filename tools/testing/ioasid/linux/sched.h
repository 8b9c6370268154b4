/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_SCHED_H
#define _IOASID_LINUX_SCHED_H

#include <linux/spinlock.h>

#define cond_resched()		(might_sleep(), sched_point())

#endif /* _IOASID_LINUX_SCHED_H */
