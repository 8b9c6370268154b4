// SPDX-License-Identifier: GPL-2.0
/*
 * The hardware's part of attach, block and detach, done by the IOMMU core.
 */
#include <linux/export.h>
#include <linux/iommu.h>

#include "ioasid-priv.h"
#include "iommu-priv.h"

static int attachment_attach(struct ioasid_attachment *attachment)
{
	struct device *dev = attachment->dev;
	int ret;

	if (attachment->pasid == IOMMU_NO_PASID)
		return iommu_claim_no_pasid(dev);

	ret = iommu_device_can_block_pasid(dev, attachment->pasid);
	if (ret)
		return ret;
	ret = iommu_attach_device_pasid(attachment->domain, dev,
					attachment->pasid, NULL);
	if (ret)
		return ret;
	/* A device may have joined the group before the attach */
	ret = iommu_device_can_block_pasid(dev, attachment->pasid);
	if (ret)
		iommu_detach_device_pasid(attachment->domain, dev,
					  attachment->pasid);
	return ret;
}

static void attachment_block(const struct ioasid_batch *batch)
{
	struct iommu_dev_pasid dev_pasids[IOASID_BATCH_SIZE];
	unsigned int i;

	/* So that the driver can block each batch with one wait */
	static_assert(IOASID_BATCH_SIZE == IOMMU_BLOCK_BATCH);

	for (i = 0; i < batch->count; i++) {
		dev_pasids[i].dev = batch->attachments[i]->dev;
		dev_pasids[i].pasid = batch->attachments[i]->pasid;
	}
	iommu_block_device_pasids(dev_pasids, batch->count);
}

static void attachment_detach(struct ioasid_attachment *attachment)
{
	if (attachment->pasid == IOMMU_NO_PASID)
		iommu_release_no_pasid(attachment->dev);
	else
		iommu_detach_device_pasid(attachment->domain, attachment->dev,
					  attachment->pasid);
}

static const struct ioasid_attachment_ops attachment_ops = {
	.attach = attachment_attach,
	.block = attachment_block,
	.detach = attachment_detach,
};

/**
 * ioasid_attach() - Translate DMA that has an IOASID's id as its PASID
 * @ioasid: The IOASID. The caller has a reference.
 * @dev: The device. It is alone in its group, and the caller is its DMA owner.
 *       Until ioasid_detach() the device stays, and stays awake: with ATS it
 *       must answer when its DMA is blocked.
 * @domain: The page table, which outlives the attachment.
 * @holder: The kind of holder, for debugfs. The string outlives the attachment.
 *
 * The attachment holds a reference to @ioasid.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep.
 * Return:
 * * the attachment, for ioasid_detach(), or ERR_PTR() of
 * * %-ESHUTDOWN	- @ioasid is parked
 * * %-EEXIST		- @dev is attached to @ioasid already
 * * %-EOPNOTSUPP	- the device or its IOMMU has no PASIDs, or the group has
 *   other devices
 * * %-EBUSY		- the device is being reset, or the PASID has a domain already
 * * %-EOVERFLOW	- the id is beyond what the device supports
 * * %-ENODEV		- @dev is in no group
 * * %-ENOMEM, or what iommu_attach_device_pasid() returns
 */
struct ioasid_attachment *ioasid_attach(struct ioasid *ioasid,
					struct device *dev,
					struct iommu_domain *domain,
					const char *holder)
{
	return __ioasid_attach(ioasid, dev, ioasid_id(ioasid), domain,
			       &attachment_ops, holder);
}
EXPORT_SYMBOL_GPL(ioasid_attach);

/**
 * ioasid_attach_no_pasid() - Put a device's DMA without PASID under an IOASID
 * @ioasid: The IOASID. The caller has a reference.
 * @dev: The device, as for ioasid_attach(). Its DMA owner has attached a domain
 *       to the group.
 * @holder: The kind of holder, for debugfs. The string outlives the attachment.
 *
 * The DMA goes on as before, until free blocks it. The device needs no PASID
 * capability. Where the IOMMU cannot block quietly, free attaches the blocked
 * domain, and faults are reported.
 *
 * Context: Process context. Takes the set's lock, may sleep.
 * Return:
 * * the attachment, for ioasid_detach(), or ERR_PTR() of
 * * %-ESHUTDOWN	- @ioasid is parked, or the DMA was blocked by the free of
 *   another IOASID, and the DMA owner has not detached the domain since
 * * %-EEXIST		- the device's DMA without PASID is under an IOASID already
 * * %-EOPNOTSUPP	- the group has other devices
 * * %-EBUSY		- the device is being reset
 * * %-EINVAL		- the group has no DMA owner, or no domain of that owner
 * * %-ENODEV		- @dev is in no group
 * * %-ENOMEM
 */
struct ioasid_attachment *ioasid_attach_no_pasid(struct ioasid *ioasid,
						 struct device *dev,
						 const char *holder)
{
	return __ioasid_attach(ioasid, dev, IOMMU_NO_PASID, NULL,
			       &attachment_ops, holder);
}
EXPORT_SYMBOL_GPL(ioasid_attach_no_pasid);
