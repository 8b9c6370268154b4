/* SPDX-License-Identifier: GPL-2.0 */
/* READ_ONCE() and WRITE_ONCE() as the thread sanitizer knows them */
#ifndef _IOASID_LINUX_COMPILER_H
#define _IOASID_LINUX_COMPILER_H

#include_next <linux/compiler.h>
#include "../task.h"

#undef READ_ONCE
#define READ_ONCE(x)							\
({									\
	sched_point();							\
	__atomic_load_n(&(x), __ATOMIC_RELAXED);			\
})

#undef WRITE_ONCE
#define WRITE_ONCE(x, val)						\
do {									\
	sched_point();							\
	__atomic_store_n(&(x), (val), __ATOMIC_RELAXED);		\
} while (0)

#endif /* _IOASID_LINUX_COMPILER_H */
