/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_MUTEX_H
#define _IOASID_LINUX_MUTEX_H

#include <linux/lockdep.h>

struct mutex {
	struct shim_lock lock;
};

#define __MUTEX_INITIALIZER(x)	{ .lock = SHIM_LOCK_INIT(x) }
#define DEFINE_MUTEX(x)		struct mutex x = __MUTEX_INITIALIZER(x)
#define mutex_init(x)		shim_lock_init(&(x)->lock, #x)

static inline void mutex_lock(struct mutex *mutex)
{
	might_sleep();
	shim_lock(&mutex->lock);
}

static inline void mutex_unlock(struct mutex *mutex)
{
	shim_unlock(&mutex->lock);
}

#endif /* _IOASID_LINUX_MUTEX_H */
