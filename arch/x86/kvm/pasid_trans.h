/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_PASID_TRANS_H
#define __KVM_X86_PASID_TRANS_H

#include <linux/bits.h>
#include <linux/types.h>

struct kvm_pasid_trans;

/*
 * A guest's PASID: which directory, which entry of it, which entry of the table
 * that is there.
 */
#define PASID_TRANS_DIR			BIT(19)
#define PASID_TRANS_DIR_INDEX		GENMASK(18, 10)
#define PASID_TRANS_TABLE_INDEX		GENMASK(9, 0)

#define PASID_TRANS_NR_DIRS		2
#define PASID_TRANS_DIR_ENTRIES		512
#define PASID_TRANS_TABLE_ENTRIES	1024

#define PASID_DIR_PRESENT		BIT_ULL(0)
#define PASID_DIR_ADDRESS		GENMASK_ULL(51, 12)

#define PASID_ENTRY_VALID		BIT(31)
#define PASID_ENTRY_HOST		GENMASK(19, 0)

struct kvm_pasid_trans *kvm_pasid_trans_alloc(void);
void kvm_pasid_trans_free(struct kvm_pasid_trans *trans);

int kvm_pasid_trans_set(struct kvm_pasid_trans *trans, u32 guest, u32 host);
void kvm_pasid_trans_clear(struct kvm_pasid_trans *trans, u32 guest);

phys_addr_t kvm_pasid_trans_dir(struct kvm_pasid_trans *trans, bool high);

#endif
