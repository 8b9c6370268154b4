// SPDX-License-Identifier: GPL-2.0
/*
 * The limits of a user, and PASIDs for the kernel's own use. SVA and idxd
 * attach and detach domains themselves; no domain is left at the last put.
 */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/user_namespace.h>

#include "ioasid-priv.h"

/* Nobody else can reach this set, so owners put instead of freeing */
static struct ioasid_set *global_set;

/**
 * iommu_alloc_global_ioasid() - Allocate a PASID for the kernel's own use
 * @dev: The device that uses the PASID.
 *
 * Context: As ioasid_alloc().
 * Return:
 * * the IOASID, whose ioasid_id() is the PASID, with a reference for the caller
 *   to put when no DMA uses the PASID any more, or ERR_PTR() of
 * * %-ENOSPC	- @dev has no PASIDs, or none that is free
 * * %-ENOMEM
 */
struct ioasid *iommu_alloc_global_ioasid(struct device *dev)
{
	struct ioasid *ioasid;

	/* max_pasids == 0 means that the device does not support PASID */
	if (dev->iommu->max_pasids <= IOMMU_FIRST_GLOBAL_PASID)
		return ERR_PTR(-ENOSPC);

	ioasid = ioasid_alloc(global_set, IOMMU_FIRST_GLOBAL_PASID,
			      min(dev->iommu->max_pasids - 1, IOASID_MAX));
	if (!IS_ERR(ioasid))
		ioasid_publish(ioasid);
	return ioasid;
}
EXPORT_SYMBOL_GPL(iommu_alloc_global_ioasid);

static int __init ioasid_global_init(void)
{
	/* A 64th of all ids, and few low ids, as some devices have no others */
	init_user_ns.ucount_max[UCOUNT_IOASIDS] = (IOASID_MAX + 1) / 64;
	init_user_ns.ucount_max[UCOUNT_LOW_IOASIDS] = (IOASID_LOW_MAX + 1) / 32;

	global_set = ioasid_set_alloc(UINT_MAX, false);
	/* Allocation failures at core_initcall time are fatal anyway */
	return PTR_ERR_OR_ZERO(global_set);
}
core_initcall(ioasid_global_init);
