/* SPDX-License-Identifier: GPL-2.0 */
/* Atomics of the compiler instead of assembly: a sanitizer sees through them */
#ifndef _IOASID_LINUX_ATOMIC_H
#define _IOASID_LINUX_ATOMIC_H

#include <linux/compiler.h>
#include <linux/types.h>

#define atomic_read(v)		READ_ONCE((v)->counter)
#define atomic_set(v, i)	WRITE_ONCE((v)->counter, i)

#define SHIM_RMW(op, v, i, order)					\
({									\
	sched_point();							\
	__atomic_##op(&(v)->counter, i, __ATOMIC_##order);		\
})

#endif /* _IOASID_LINUX_ATOMIC_H */
