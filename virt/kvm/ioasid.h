/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_IOASID_H
#define __KVM_IOASID_H

#ifdef CONFIG_KVM_IOASID
int kvm_ioasid_ops_init(void);
void kvm_ioasid_ops_exit(void);
#else
static inline int kvm_ioasid_ops_init(void)
{
	return 0;
}

static inline void kvm_ioasid_ops_exit(void)
{
}
#endif

#endif
