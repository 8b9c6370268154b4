/* SPDX-License-Identifier: GPL-2.0 */
/* A warning ends the test */
#ifndef _IOASID_LINUX_BUG_H
#define _IOASID_LINUX_BUG_H

#include <stdio.h>
#include <asm/bug.h>
#include <linux/compiler.h>

void __noreturn __printf(1, 2) shim_bug(const char *fmt, ...);

#undef __WARN_printf
#define __WARN_printf(...)	shim_bug(__VA_ARGS__)

#endif /* _IOASID_LINUX_BUG_H */
