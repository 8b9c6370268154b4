// SPDX-License-Identifier: GPL-2.0
/*
 * The hardware's part of attach, replace, block and detach, done by the IOMMU
 * core, and what keeps the device awake meanwhile.
 */
#include <linux/export.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>

#include "ioasid-priv.h"
#include "iommu-priv.h"

static int attachment_attach(struct ioasid_attachment *attachment,
			     struct iommu_attach_handle *handle)
{
	return iommu_attach_blockable_pasid(attachment->domain, attachment->dev,
					    attachment->pasid, handle);
}

static int attachment_replace(struct ioasid_attachment *attachment,
			      struct iommu_domain *domain,
			      struct iommu_attach_handle *handle)
{
	struct device *dev = attachment->dev;

	if (attachment->pasid == IOMMU_NO_PASID)
		return iommu_replace_group_handle(dev->iommu_group, domain,
						  handle);
	return iommu_replace_device_pasid(domain, dev, attachment->pasid, handle);
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

static void attachment_finish_block(struct ioasid_attachment *attachment)
{
	iommu_finish_block_pasid(attachment->dev, attachment->pasid);
}

static void attachment_detach(struct ioasid_attachment *attachment)
{
	struct device *dev = attachment->dev;

	if (attachment->pasid == IOMMU_NO_PASID)
		iommu_detach_group_handle(attachment->domain, dev->iommu_group);
	else
		iommu_detach_device_pasid(attachment->domain, dev,
					  attachment->pasid);
}

static const struct ioasid_attachment_ops attachment_ops = {
	.attach = attachment_attach,
	.replace = attachment_replace,
	.block = attachment_block,
	.finish_block = attachment_finish_block,
	.detach = attachment_detach,
};

/*
 * With ATS, the device has to answer when its TLB is invalidated, and a free must
 * not wait until somebody wakes the device.
 */
static int keep_awake(struct device *dev)
{
	int ret;

	/* -EACCES: runtime PM is disabled, so the device does not sleep */
	ret = pm_runtime_get_sync(dev);
	if (ret >= 0 || ret == -EACCES)
		ret = 0;
	/* On -EINVAL, iommufd would try another page table */
	if (ret == -EINVAL)
		ret = -EIO;
	/* Its driver may have put it to sleep by other means */
	if (!ret && dev_is_pci(dev) && to_pci_dev(dev)->current_state != PCI_D0 &&
	    to_pci_dev(dev)->current_state != PCI_UNKNOWN)
		ret = -EBUSY;
	if (ret)
		pm_runtime_put(dev);
	return ret;
}

/**
 * ioasid_attach() - Translate DMA of a device, under an IOASID
 * @ioasid: The IOASID. The caller has a reference.
 * @dev: The device, which stays until ioasid_detach(). It also stays awake: the
 *       attachment has a runtime PM reference, and the caller prevents other
 *       changes of the power state.
 * @domain: The page table, which outlives the attachment.
 * @pasid: The PASID of the DMA: ioasid_id(), or, if the caller is the DMA owner
 *         of the device, any other PASID of the device, or %IOMMU_NO_PASID.
 * @handle: A new handle, which the caller keeps until ioasid_detach() or the
 *          next ioasid_replace() returns.
 * @holder: The kind of holder, for debugfs. The string outlives the attachment.
 *
 * The attachment holds a reference to @ioasid.
 *
 * Where the IOMMU cannot block quietly, free attaches the blocked domain, and
 * faults are reported.
 *
 * Context: Process context. Resumes the device, takes the set's lock, calls
 * into the IOMMU driver, may sleep.
 * Return:
 * * the attachment, for ioasid_detach(), or ERR_PTR() of
 * * %-ESHUTDOWN	- @ioasid is parked
 * * %-EOPNOTSUPP	- the device or its IOMMU has no PASIDs, or another device
 *   of the group has; or, without PASID, the group has other devices
 * * %-EBUSY		- the device is being reset, or sleeps, or the PASID has a
 *   domain already
 * * %-EOVERFLOW	- the PASID is beyond what the device supports
 * * %-EDQUOT		- the set has as many attachments as its quota
 * * %-ENODEV		- @dev has no IOMMU
 * * %-EIO		- an earlier runtime PM error of the device
 * * %-ENOMEM, or what iommu_attach_device_pasid(), iommu_attach_group_handle() or
 *   pm_runtime_get_sync() returns
 */
struct ioasid_attachment *ioasid_attach(struct ioasid *ioasid,
					struct device *dev,
					struct iommu_domain *domain,
					unsigned int pasid,
					struct iommu_attach_handle *handle,
					const char *holder)
{
	struct ioasid_attachment *attachment;
	int ret;

	/* VFIO gives a device without IOMMU a group */
	if (!dev->iommu || !dev->iommu->iommu_dev)
		return ERR_PTR(-ENODEV);

	ret = keep_awake(dev);
	if (ret)
		return ERR_PTR(ret);
	attachment = __ioasid_attach(ioasid, dev, pasid, domain, handle,
				     &attachment_ops, holder);
	if (IS_ERR(attachment))
		pm_runtime_put(dev);
	return attachment;
}
EXPORT_SYMBOL_GPL(ioasid_attach);

/**
 * ioasid_detach() - End an attachment
 * @attachment: The attachment; freed by this call. Its IOASID may be active or
 *              parked.
 *
 * The DMA is not translated any more. If the IOASID is active, faults of it are
 * reported, so stop the device first. If it is parked, the DMA stays quiet where
 * the IOMMU can block quietly, until the next attach.
 *
 * Context: Process context. Takes the set's lock, calls into the IOMMU driver,
 * may sleep. The caller does not attach the PASID of the device again before
 * this returns.
 */
void ioasid_detach(struct ioasid_attachment *attachment)
{
	struct device *dev = attachment->dev;

	__ioasid_detach(attachment);
	pm_runtime_put(dev);
}
EXPORT_SYMBOL_GPL(ioasid_detach);
