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

#ifndef __KVM_HAVE_ARCH_IOASID
/*
 * For architectures whose CPUs do not read the map: a VM only holds references.
 * kvm_arch_ioasid_create() is called with kvm->lock held, the others with
 * kvm_ioasid_map::lock held. The reference is put after kvm_arch_ioasid_del().
 */
static inline int kvm_arch_ioasid_create(struct kvm *kvm)
{
	return 0;
}

static inline int kvm_arch_ioasid_add(struct kvm *kvm, u32 guest, u32 host)
{
	return 0;
}

static inline void kvm_arch_ioasid_del(struct kvm *kvm, u32 guest)
{
}
#endif

#endif
