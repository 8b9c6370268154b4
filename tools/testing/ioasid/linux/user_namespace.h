/* SPDX-License-Identifier: GPL-2.0 */
/* There is one user, who has no limit */
#ifndef _IOASID_LINUX_USER_NAMESPACE_H
#define _IOASID_LINUX_USER_NAMESPACE_H

#include <linux/types.h>

typedef unsigned int kuid_t;

enum ucount_type {
	UCOUNT_IOASIDS,
	UCOUNT_LOW_IOASIDS,
	UCOUNT_COUNTS,
};

struct user_namespace;

struct ucounts {
	struct user_namespace *ns;
	kuid_t uid;
	int count;
	long ucount[UCOUNT_COUNTS];
};

extern struct ucounts shim_user;

struct ucounts *alloc_ucounts(struct user_namespace *ns, kuid_t uid);
void put_ucounts(struct ucounts *ucounts);
struct ucounts *inc_ucount(struct user_namespace *ns, kuid_t uid,
			   enum ucount_type type);
void dec_ucount(struct ucounts *ucounts, enum ucount_type type);

#endif /* _IOASID_LINUX_USER_NAMESPACE_H */
