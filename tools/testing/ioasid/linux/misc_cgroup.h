/* SPDX-License-Identifier: GPL-2.0 */
/* There is one cgroup, whose limit the test sets */
#ifndef _IOASID_LINUX_MISC_CGROUP_H
#define _IOASID_LINUX_MISC_CGROUP_H

#include <linux/types.h>

enum misc_res_type {
	MISC_CG_RES_IOASID,
};

struct misc_cg {
	int refs;
	u64 limit;
	u64 usage;
};

extern struct misc_cg shim_cg;

struct misc_cg *get_current_misc_cg(void);
void put_misc_cg(struct misc_cg *cg);
int misc_cg_try_charge(enum misc_res_type type, struct misc_cg *cg, u64 amount);
void misc_cg_uncharge(enum misc_res_type type, struct misc_cg *cg, u64 amount);

#endif /* _IOASID_LINUX_MISC_CGROUP_H */
