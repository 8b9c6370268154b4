/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_INIT_H
#define _IOASID_LINUX_INIT_H

#include_next <linux/init.h>

#define core_initcall(func)						\
static void __attribute__((constructor)) shim_##func(void)		\
{									\
	func();								\
}

#endif /* _IOASID_LINUX_INIT_H */
