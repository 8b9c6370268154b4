/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_LOCKDEP_H
#define _IOASID_LINUX_LOCKDEP_H

#include <linux/bug.h>
#include <linux/spinlock.h>

struct lock_class_key { };

#define lockdep_set_class(lock, key)	((void)(lock), (void)(key))
#define lockdep_assert_held(lock)	WARN_ON(!lockdep_is_held(lock))

#endif /* _IOASID_LINUX_LOCKDEP_H */
