// SPDX-License-Identifier: GPL-2.0
/*
 * What a kernel without /dev/ioasid has for a process that owns PASIDs: the
 * calls that drivers make. Each open file of /dev/pasid_owner is an owner; when
 * it is closed, by a kill as well, its PASIDs are detached and given back, one
 * after the other.
 *
 * Only to compare with. The device, parameter "device", is in the hands of VFIO,
 * whose container has the page table: user space is trusted to name the group
 * that this device is in.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include <linux/xarray.h>

#include "pasid_owner.h"

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "PCI address of the device: 0000:01:00.0");

static struct pci_dev *pdev;

struct owner {
	struct mutex lock;	/* guards all of it */
	struct xarray pasids;
	struct file *group;	/* keeps the container and its page table */
	struct iommu_domain *domain;
};

static int owner_open(struct inode *inode, struct file *file)
{
	struct owner *owner;

	owner = kzalloc_obj(*owner);
	if (!owner)
		return -ENOMEM;
	mutex_init(&owner->lock);
	xa_init(&owner->pasids);
	file->private_data = owner;
	return 0;
}

static int owner_set_group(struct owner *owner, int fd)
{
	struct file *group;

	if (owner->group)
		return 0;

	group = fget(fd);
	if (!group)
		return -EBADF;
	owner->domain = iommu_get_domain_for_dev(&pdev->dev);
	if (!vfio_file_is_group(group) || !owner->domain) {
		fput(group);
		return -EINVAL;
	}
	owner->group = group;
	return 0;
}

static int owner_alloc(struct owner *owner)
{
	ioasid_t pasid;
	int ret;

	pasid = iommu_alloc_global_pasid(&pdev->dev);
	if (pasid == IOMMU_PASID_INVALID)
		return -ENOSPC;
	ret = xa_insert(&owner->pasids, pasid, xa_mk_value(0), GFP_KERNEL);
	if (ret)
		goto err_free;
	ret = iommu_attach_device_pasid(owner->domain, &pdev->dev, pasid, NULL);
	if (ret)
		goto err_erase;
	return pasid;

err_erase:
	xa_erase(&owner->pasids, pasid);
err_free:
	iommu_free_global_pasid(pasid);
	return ret;
}

static long owner_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct owner *owner = file->private_data;
	int ret;

	if (cmd != PASID_OWNER_ALLOC)
		return -ENOTTY;

	mutex_lock(&owner->lock);
	ret = owner_set_group(owner, arg);
	if (!ret)
		ret = owner_alloc(owner);
	mutex_unlock(&owner->lock);
	return ret;
}

static int owner_release(struct inode *inode, struct file *file)
{
	struct owner *owner = file->private_data;
	unsigned long pasid;
	void *entry;

	xa_for_each(&owner->pasids, pasid, entry) {
		iommu_detach_device_pasid(owner->domain, &pdev->dev, pasid);
		iommu_free_global_pasid(pasid);
		cond_resched();
	}
	xa_destroy(&owner->pasids);
	if (owner->group)
		fput(owner->group);
	mutex_destroy(&owner->lock);
	kfree(owner);
	return 0;
}

static const struct file_operations owner_fops = {
	.owner = THIS_MODULE,
	.open = owner_open,
	.release = owner_release,
	.unlocked_ioctl = owner_ioctl,
};

static struct miscdevice owner_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pasid_owner",
	.fops = &owner_fops,
};

static int __init owner_init(void)
{
	unsigned int domain, bus, slot, func;
	int ret;

	if (!device || sscanf(device, "%x:%x:%x.%x", &domain, &bus, &slot, &func) != 4)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENODEV;
	ret = misc_register(&owner_misc);
	if (ret)
		pci_dev_put(pdev);
	return ret;
}
module_init(owner_init);

static void __exit owner_exit(void)
{
	misc_deregister(&owner_misc);
	pci_dev_put(pdev);
}
module_exit(owner_exit);

MODULE_DESCRIPTION("An owner of PASIDs for kernels without /dev/ioasid");
MODULE_LICENSE("GPL");
