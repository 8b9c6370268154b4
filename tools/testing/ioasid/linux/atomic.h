/* SPDX-License-Identifier: GPL-2.0 */
/* Atomics of the compiler instead of assembly: a sanitizer sees through them */
#ifndef _IOASID_LINUX_ATOMIC_H
#define _IOASID_LINUX_ATOMIC_H

#include <linux/compiler.h>
#include <linux/types.h>

#define ATOMIC_INIT(i)		{ (i) }
#define atomic_read(v)		READ_ONCE((v)->counter)
#define atomic_read_acquire(v)						\
({									\
	sched_point();							\
	__atomic_load_n(&(v)->counter, __ATOMIC_ACQUIRE);		\
})
#define atomic_set(v, i)	WRITE_ONCE((v)->counter, i)

#define SHIM_RMW(op, v, i, order)					\
({									\
	sched_point();							\
	__atomic_##op(&(v)->counter, i, __ATOMIC_##order);		\
})

#define atomic_inc(v)			((void)SHIM_RMW(fetch_add, v, 1, RELAXED))
#define atomic_dec(v)			((void)SHIM_RMW(fetch_sub, v, 1, RELAXED))
#define atomic_dec_return_release(v)	SHIM_RMW(sub_fetch, v, 1, RELEASE)

#endif /* _IOASID_LINUX_ATOMIC_H */
