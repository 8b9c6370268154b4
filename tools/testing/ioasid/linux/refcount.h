/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's ordering: increments are relaxed, decrements release, the last
 * one acquires. What would only warn and saturate there ends the test here.
 */
#ifndef _IOASID_LINUX_REFCOUNT_H
#define _IOASID_LINUX_REFCOUNT_H

#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/kernel.h>

typedef struct refcount_struct {
	atomic_t refs;
} refcount_t;

static inline void refcount_set(refcount_t *r, int n)
{
	atomic_set(&r->refs, n);
}

static inline unsigned int refcount_read(const refcount_t *r)
{
	return atomic_read(&r->refs);
}

static inline void refcount_inc(refcount_t *r)
{
	if (SHIM_RMW(fetch_add, &r->refs, 1, RELAXED) <= 0)
		shim_bug("%s() of an object that is gone", __func__);
}

static inline bool refcount_inc_not_zero(refcount_t *r)
{
	int old = atomic_read(&r->refs);

	sched_point();
	while (old > 0)
		if (__atomic_compare_exchange_n(&r->refs.counter, &old, old + 1,
						false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return true;
	return false;
}

static inline bool refcount_dec_and_test(refcount_t *r)
{
	int old = SHIM_RMW(fetch_sub, &r->refs, 1, RELEASE);

	if (old <= 0)
		shim_bug("%s() of an object that is gone", __func__);
	if (old != 1)
		return false;
	__atomic_load_n(&r->refs.counter, __ATOMIC_ACQUIRE);
	return true;
}

#endif /* _IOASID_LINUX_REFCOUNT_H */
