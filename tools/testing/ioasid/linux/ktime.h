/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_KTIME_H
#define _IOASID_LINUX_KTIME_H

#include <linux/types.h>

typedef s64 ktime_t;

#define ktime_get()	((ktime_t)0)

#endif /* _IOASID_LINUX_KTIME_H */
