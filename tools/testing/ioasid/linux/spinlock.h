/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Locks that know their owner. A task that holds a spin lock, or reads under
 * RCU, must not sleep.
 */
#ifndef _IOASID_LINUX_SPINLOCK_H
#define _IOASID_LINUX_SPINLOCK_H

#include <pthread.h>
#include <stdbool.h>

struct shim_lock {
	pthread_mutex_t mutex;
	const void *owner;
	const char *name;
};

#define SHIM_LOCK_INIT(x)						\
	{ .mutex = PTHREAD_MUTEX_INITIALIZER, .name = #x }

void shim_lock_init(struct shim_lock *lock, const char *name);
void shim_lock(struct shim_lock *lock);
void shim_unlock(struct shim_lock *lock);
bool shim_is_locked(const void *lock);
void shim_spin_lock(struct shim_lock *lock);
void shim_spin_unlock(struct shim_lock *lock);
/* Interrupts are off in the task: another irq variant would turn them on */
void shim_irq_off(void);
void shim_irq_on(void);
void might_sleep(void);

typedef struct shim_lock spinlock_t;

#define __SPIN_LOCK_UNLOCKED(x)	SHIM_LOCK_INIT(x)
#define DEFINE_SPINLOCK(x)	spinlock_t x = SHIM_LOCK_INIT(x)
#define spin_lock_init(x)	shim_lock_init(x, #x)

#define spin_lock(x)		shim_spin_lock(x)
#define spin_unlock(x)		shim_spin_unlock(x)
#define spin_lock_bh(x)		spin_lock(x)
#define spin_unlock_bh(x)	spin_unlock(x)
#define spin_lock_irq(x)	(shim_irq_off(), spin_lock(x))
#define spin_unlock_irq(x)	(spin_unlock(x), shim_irq_on())
#define spin_lock_irqsave(x, f)		((f) = 0, spin_lock(x))
#define spin_unlock_irqrestore(x, f)	((void)(f), spin_unlock(x))

#define lockdep_is_held(x)	shim_is_locked(x)

#endif /* _IOASID_LINUX_SPINLOCK_H */
