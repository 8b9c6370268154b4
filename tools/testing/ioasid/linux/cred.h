/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_CRED_H
#define _IOASID_LINUX_CRED_H

#include <linux/user_namespace.h>

#define current_user_ns()	(shim_user.ns)
#define current_euid()		(shim_user.uid)

#endif /* _IOASID_LINUX_CRED_H */
