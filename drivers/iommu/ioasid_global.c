// SPDX-License-Identifier: GPL-2.0
/*
 * PASIDs for the kernel's own use (SVA, idxd). Their users attach and detach
 * domains themselves, and have detached all of them before the last put.
 */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/iommu.h>

#include "ioasid-priv.h"
#include "iommu-priv.h"

/* Nobody else can reach this set, so owners put instead of freeing */
static struct ioasid_set *global_set;

/*
 * An IOASID for the kernel's own use, with the owner's reference, or ERR_PTR().
 * The caller puts the reference when no DMA uses the id any more, from any
 * context but NMI.
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

/**
 * iommu_alloc_global_pasid() - Allocate a PASID for the kernel's own use
 * @dev: The device that uses the PASID.
 *
 * Context: Process context. Takes spin locks with interrupts off, may sleep.
 * Return: The PASID, for iommu_free_global_pasid(), or %IOMMU_PASID_INVALID.
 */
ioasid_t iommu_alloc_global_pasid(struct device *dev)
{
	struct ioasid *ioasid = iommu_alloc_global_ioasid(dev);

	return IS_ERR(ioasid) ? IOMMU_PASID_INVALID : ioasid_id(ioasid);
}
EXPORT_SYMBOL_GPL(iommu_alloc_global_pasid);

/**
 * iommu_free_global_pasid() - Free a PASID of iommu_alloc_global_pasid()
 * @pasid: The PASID. No DMA uses it any more.
 *
 * Context: Any context but NMI. Takes spin locks with interrupts off.
 */
void iommu_free_global_pasid(ioasid_t pasid)
{
	struct ioasid *ioasid;

	if (WARN_ON(pasid == IOMMU_PASID_INVALID))
		return;

	ioasid = ioasid_find(global_set, pasid);
	if (WARN_ON(!ioasid))
		return;

	/* The reference of ioasid_find(), then the owner's */
	ioasid_put(ioasid);
	ioasid_put(ioasid);
}
EXPORT_SYMBOL_GPL(iommu_free_global_pasid);

static int __init ioasid_global_init(void)
{
	global_set = ioasid_set_alloc(UINT_MAX, false);
	/* Allocation failures at core_initcall time are fatal anyway */
	return PTR_ERR_OR_ZERO(global_set);
}
core_initcall(ioasid_global_init);
