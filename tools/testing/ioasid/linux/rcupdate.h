/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RCU in a few lines that the thread sanitizer understands. What is to be freed
 * waits for rcu_reclaim(), which only frees when nobody reads.
 */
#ifndef _IOASID_LINUX_RCUPDATE_H
#define _IOASID_LINUX_RCUPDATE_H

#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/types.h>

struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
	void *free;
};

void rcu_read_lock(void);
void rcu_read_unlock(void);
bool rcu_read_lock_held(void);
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void shim_kfree_rcu(struct rcu_head *head, void *p);
void rcu_reclaim(void);

#define kfree_rcu(p, member)	shim_kfree_rcu(&(p)->member, (p))

#define rcu_dereference_raw(p)						\
({									\
	sched_point();							\
	__atomic_load_n(&(p), __ATOMIC_ACQUIRE);			\
})
#define rcu_dereference_check(p, cond)					\
({									\
	WARN_ON(!(cond) && !rcu_read_lock_held());			\
	rcu_dereference_raw(p);						\
})
#define rcu_dereference(p)	rcu_dereference_check(p, false)
#define rcu_dereference_protected(p, cond)				\
({									\
	WARN_ON(!(cond));						\
	(p);								\
})
#define rcu_assign_pointer(p, v)					\
do {									\
	sched_point();							\
	__atomic_store_n(&(p), (v), __ATOMIC_RELEASE);			\
} while (0)
#define RCU_INIT_POINTER(p, v)	__atomic_store_n(&(p), (v), __ATOMIC_RELAXED)

#endif /* _IOASID_LINUX_RCUPDATE_H */
