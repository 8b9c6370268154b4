// SPDX-License-Identifier: GPL-2.0
/*
 * The structures through which the CPU translates the PASID of a guest's ENQCMD
 * and ENQCMDS into the host's (SDM volume 3, "PASID translation"):
 *
 *	guest's PASID	19     18 ... 10        9 ... 0
 *			 |         |               |
 *		low or high        v               v
 *			 +--> directory: 512 x 8 --> table: 1024 x 4 --> host's
 *
 * The CPU may walk them at any time, without a lock. So a single store changes
 * an entry, and a table is zeroed before the directory points to it. Tables are
 * freed when no vCPU runs any more. Entries for all 2^20 PASIDs take 4 MiB; a
 * VM without mappings has only the directories.
 */
#include <linux/bitfield.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kvm_types.h>
#include <linux/slab.h>

#include "pasid_trans.h"

struct kvm_pasid_trans {
	/* A page each, as is every table */
	u64 *dirs[PASID_TRANS_NR_DIRS];
};

static u64 *dir_entry_of(struct kvm_pasid_trans *trans, u32 guest)
{
	return trans->dirs[FIELD_GET(PASID_TRANS_DIR, guest)] +
	       FIELD_GET(PASID_TRANS_DIR_INDEX, guest);
}

static u32 *table_of(u64 dir_entry)
{
	if (!(dir_entry & PASID_DIR_PRESENT))
		return NULL;
	return phys_to_virt(dir_entry & PASID_DIR_ADDRESS);
}

static u32 *entry_of(struct kvm_pasid_trans *trans, u32 guest)
{
	u32 *table = table_of(*dir_entry_of(trans, guest));

	return table ? table + FIELD_GET(PASID_TRANS_TABLE_INDEX, guest) : NULL;
}

static int table_alloc(struct kvm_pasid_trans *trans, u32 guest)
{
	u32 *table;

	BUILD_BUG_ON(PASID_TRANS_TABLE_ENTRIES * sizeof(*table) != PAGE_SIZE);

	table = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!table)
		return -ENOMEM;
	/* The CPU that walks sees a table that is zeroed */
	smp_store_release(dir_entry_of(trans, guest),
			  virt_to_phys(table) | PASID_DIR_PRESENT);
	return 0;
}

/**
 * kvm_pasid_trans_set() - Translate a guest's PASID into a PASID of the host
 * @trans: The structures. Callers must serialize changes.
 * @guest: The guest's PASID, below 2^20.
 * @host: The host's PASID, below 2^20.
 *
 * Context: Process context. May sleep. The CPU may walk the structures.
 * Return: 0 or -ENOMEM.
 */
int kvm_pasid_trans_set(struct kvm_pasid_trans *trans, u32 guest, u32 host)
{
	int ret;

	if (!entry_of(trans, guest)) {
		ret = table_alloc(trans, guest);
		if (ret)
			return ret;
	}
	WRITE_ONCE(*entry_of(trans, guest),
		   FIELD_PREP(PASID_ENTRY_HOST, host) | PASID_ENTRY_VALID);
	return 0;
}

/**
 * kvm_pasid_trans_clear() - Remove the translation of a guest's PASID
 * @trans: The structures. Callers must serialize changes.
 * @guest: The guest's PASID, below 2^20, with or without an entry.
 *
 * A walk that begins after this call sees no entry. The caller has to make sure
 * that walks which began earlier have ended.
 *
 * Context: Any context. Takes no lock. The CPU may walk the structures.
 */
void kvm_pasid_trans_clear(struct kvm_pasid_trans *trans, u32 guest)
{
	u32 *entry = entry_of(trans, guest);

	if (entry)
		WRITE_ONCE(*entry, 0);
}

/**
 * kvm_pasid_trans_dir() - What the VMCS names
 * @trans: The structures.
 * @high: The directory for PASIDs with bit 19 set, or the other one.
 *
 * Context: Any context.
 * Return: The physical address of a directory, a page, which stays until
 * kvm_pasid_trans_free().
 */
phys_addr_t kvm_pasid_trans_dir(struct kvm_pasid_trans *trans, bool high)
{
	return virt_to_phys(trans->dirs[high]);
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvm_pasid_trans_dir);

/**
 * kvm_pasid_trans_alloc() - Structures without entries
 *
 * Context: Process context. May sleep.
 * Return: The structures, to be freed with kvm_pasid_trans_free(), or NULL.
 */
struct kvm_pasid_trans *kvm_pasid_trans_alloc(void)
{
	struct kvm_pasid_trans *trans;
	int i;

	BUILD_BUG_ON(PASID_TRANS_DIR_ENTRIES * sizeof(*trans->dirs[0]) !=
		     PAGE_SIZE);

	trans = kzalloc_obj(*trans, GFP_KERNEL_ACCOUNT);
	if (!trans)
		return NULL;
	for (i = 0; i < PASID_TRANS_NR_DIRS; i++) {
		trans->dirs[i] = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
		if (!trans->dirs[i]) {
			kvm_pasid_trans_free(trans);
			return NULL;
		}
	}
	return trans;
}

/**
 * kvm_pasid_trans_free() - Free the structures with all their entries
 * @trans: The structures, which no CPU walks any more, or NULL.
 *
 * Context: Process context.
 */
void kvm_pasid_trans_free(struct kvm_pasid_trans *trans)
{
	int i, j;

	if (!trans)
		return;
	for (i = 0; i < PASID_TRANS_NR_DIRS; i++) {
		if (!trans->dirs[i])
			continue;
		for (j = 0; j < PASID_TRANS_DIR_ENTRIES; j++)
			free_page((unsigned long)table_of(trans->dirs[i][j]));
		free_page((unsigned long)trans->dirs[i]);
	}
	kfree(trans);
}
