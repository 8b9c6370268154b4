// SPDX-License-Identifier: GPL-2.0
/*
 * What the core, the XArray and the IDA need of the kernel: locks, RCU and
 * memory. All of it knows who uses it, and stops at misuse.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bug.h>
#include <linux/errno.h>
#include <linux/misc_cgroup.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/user_namespace.h>

#include "shim.h"

void shim_bug(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fputs("BUG: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	print_history();
	abort();
}

/* Locks */

void shim_lock_init(struct shim_lock *lock, const char *name)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->owner = NULL;
	lock->name = name;
}

bool shim_is_locked(const void *lock)
{
	const struct shim_lock *l = lock;

	return __atomic_load_n(&l->owner, __ATOMIC_RELAXED) == current;
}

void shim_lock(struct shim_lock *lock)
{
	if (shim_is_locked(lock))
		shim_bug("deadlock: the task has %s already", lock->name);
	sched_point();
	while (pthread_mutex_trylock(&lock->mutex))
		if (!sched_blocked())
			shim_bug("deadlock: everybody waits, the last for %s",
				 lock->name);
	__atomic_store_n(&lock->owner, current, __ATOMIC_RELAXED);
	current->locks++;
}

void shim_unlock(struct shim_lock *lock)
{
	if (!shim_is_locked(lock))
		shim_bug("unlock of %s by another task", lock->name);
	current->locks--;
	__atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock->mutex);
	sched_point();
}

/*
 * RCU: readers share a lock that rcu_reclaim() only ever tries to take. A
 * task that holds a spin lock is one, for nothing can preempt it.
 */
static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;
static struct rcu_head *waiting;

static void begin_reading(void)
{
	if (!current->readers++)
		while (pthread_rwlock_tryrdlock(&readers))
			sched_blocked();
}

static void end_reading(void)
{
	if (!--current->readers)
		pthread_rwlock_unlock(&readers);
}

void shim_spin_lock(struct shim_lock *lock)
{
	shim_lock(lock);
	begin_reading();
	current->spin_depth++;
}

void shim_spin_unlock(struct shim_lock *lock)
{
	current->spin_depth--;
	end_reading();
	shim_unlock(lock);
}

void shim_irq_off(void)
{
	if (current->irq_off++)
		shim_bug("interrupts are off already, and would be turned on");
}

void shim_irq_on(void)
{
	current->irq_off--;
}

void might_sleep(void)
{
	if (current->spin_depth || current->rcu_depth || current->irq_off)
		shim_bug("may sleep in an atomic context");
}

/* RCU */

void rcu_read_lock(void)
{
	sched_point();
	begin_reading();
	current->rcu_depth++;
}

void rcu_read_unlock(void)
{
	if (--current->rcu_depth < 0)
		shim_bug("%s() without rcu_read_lock()", __func__);
	end_reading();
	sched_point();
}

bool rcu_read_lock_held(void)
{
	return current->rcu_depth > 0;
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next = __atomic_load_n(&waiting, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&waiting, &head->next, head, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	sched_point();
}

void shim_kfree_rcu(struct rcu_head *head, void *p)
{
	head->free = p;
	call_rcu(head, NULL);
}

void rcu_reclaim(void)
{
	struct rcu_head *head, *next;

	if (!__atomic_load_n(&waiting, __ATOMIC_RELAXED) ||
	    pthread_rwlock_trywrlock(&readers))
		return;
	head = __atomic_exchange_n(&waiting, NULL, __ATOMIC_ACQUIRE);
	pthread_rwlock_unlock(&readers);

	for (; head; head = next) {
		next = head->next;
		if (head->func)
			head->func(head);
		else
			kfree(head->free);
	}
}

/* Memory */

/* Of the shim's header radix-tree.h */
int kmalloc_verbose;

static long allocated;

long shim_allocated(void)
{
	return __atomic_load_n(&allocated, __ATOMIC_RELAXED);
}

static void *allocate(size_t size, gfp_t gfp)
{
	void *p;

	sched_point();
	if (!gfpflags_allow_blocking(gfp)) {
		if (current->fail_nowait)
			return NULL;
	} else {
		might_sleep();
		if (current->fail_nth && !--current->fail_nth) {
			current->failed = true;
			return NULL;
		}
	}
	p = gfp & __GFP_ZERO ? calloc(1, size) : malloc(size);
	if (!p)
		abort();
	return p;
}

void *kmalloc(size_t size, gfp_t gfp)
{
	void *p = allocate(size, gfp);

	if (p)
		__atomic_fetch_add(&allocated, 1, __ATOMIC_RELAXED);
	return p;
}

void kfree(void *p)
{
	if (!p)
		return;
	__atomic_fetch_sub(&allocated, 1, __ATOMIC_RELAXED);
	free(p);
}

/*
 * Nodes of XArrays. They are not counted: an XArray that failed to grow keeps
 * what it has got. A leak of them is found by the sanitizer.
 */
struct kmem_cache *
__kmem_cache_create_args(const char *name, unsigned int size,
			 struct kmem_cache_args *args, unsigned int flags)
{
	static struct kmem_cache nodes;

	/* Only the nodes of the XArray have one */
	nodes.size = size;
	nodes.ctor = args->ctor;
	return &nodes;
}

void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			   int gfp)
{
	void *p = allocate(cache->size, gfp);

	if (p && cache->ctor)
		cache->ctor(p);
	return p;
}

void kmem_cache_free(struct kmem_cache *cache, void *p)
{
	free(p);
}

/* The misc cgroup */

struct misc_cg shim_cg;

struct misc_cg *get_current_misc_cg(void)
{
	__atomic_fetch_add(&shim_cg.refs, 1, __ATOMIC_RELAXED);
	return &shim_cg;
}

void put_misc_cg(struct misc_cg *cg)
{
	if (__atomic_fetch_sub(&cg->refs, 1, __ATOMIC_RELAXED) <= 0)
		shim_bug("%s() without a reference", __func__);
}

int misc_cg_try_charge(enum misc_res_type type, struct misc_cg *cg, u64 amount)
{
	u64 old = __atomic_load_n(&cg->usage, __ATOMIC_RELAXED);

	sched_point();
	do {
		if (old + amount > cg->limit)
			return -EBUSY;
	} while (!__atomic_compare_exchange_n(&cg->usage, &old, old + amount,
					      false, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return 0;
}

void misc_cg_uncharge(enum misc_res_type type, struct misc_cg *cg, u64 amount)
{
	sched_point();
	if (__atomic_fetch_sub(&cg->usage, amount, __ATOMIC_RELAXED) < amount)
		shim_bug("%s() of what is not charged", __func__);
}

/* The user */

struct ucounts shim_user;

struct ucounts *alloc_ucounts(struct user_namespace *ns, kuid_t uid)
{
	__atomic_fetch_add(&shim_user.count, 1, __ATOMIC_RELAXED);
	return &shim_user;
}

void put_ucounts(struct ucounts *ucounts)
{
	if (__atomic_fetch_sub(&ucounts->count, 1, __ATOMIC_RELAXED) <= 0)
		shim_bug("%s() without a reference", __func__);
}

struct ucounts *inc_ucount(struct user_namespace *ns, kuid_t uid,
			   enum ucount_type type)
{
	__atomic_fetch_add(&shim_user.ucount[type], 1, __ATOMIC_RELAXED);
	return alloc_ucounts(ns, uid);
}

void dec_ucount(struct ucounts *ucounts, enum ucount_type type)
{
	sched_point();
	if (__atomic_fetch_sub(&ucounts->ucount[type], 1, __ATOMIC_RELAXED) <= 0)
		shim_bug("%s() of what is not charged", __func__);
	put_ucounts(ucounts);
}
