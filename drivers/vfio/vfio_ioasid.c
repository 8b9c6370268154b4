// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO as a holder of IOASIDs of /dev/ioasid: a device file has attachments,
 * each of which holds its IOASID, until the user detaches or the file is closed.
 * What the owner of an IOASID does meanwhile does not matter to VFIO.
 */
#include <linux/device.h>
#include <linux/ioasid.h>
#include <linux/iommu.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/xarray.h>

#include "vfio.h"

/*
 * Each attachment costs a table entry and makes every unmap of the container
 * one flush longer.
 */
static unsigned int ioasid_limit = 1024;
module_param(ioasid_limit, uint, 0644);
MODULE_PARM_DESC(ioasid_limit,
		 "How many attachments to IOASIDs a group may have (1024)");

/* A device may have one attachment with and one without PASID per IOASID */
static unsigned long attachment_index(u32 id, u32 flags)
{
	return 2UL * id + (flags & VFIO_DEVICE_IOASID_NO_PASID ? 1 : 0);
}

void vfio_df_ioasid_init(struct vfio_device_file *df)
{
	xa_init_flags(&df->ioasids, XA_FLAGS_ACCOUNT);
}

/*
 * The domain of the container that the device's group is in. The domain stays
 * for as long as the device file is open.
 */
static struct iommu_domain *container_domain(struct vfio_device_file *df)
{
	struct vfio_group *group = df->group;

	/* With a cdev or iommufd the page table can change under us */
	if (!group || group->iommufd || group->type != VFIO_IOMMU)
		return NULL;
	lockdep_assert_held(&group->group_lock);
	return iommu_get_domain_for_dev(df->device->dev);
}

/* Drop the runtime PM reference if this was the last attachment */
static void vfio_ioasid_pm_put(struct vfio_device_file *df)
{
	if (!df->nr_ioasids)
		vfio_device_pm_runtime_put(df->device);
}

/*
 * A device that sleeps does not answer when its TLB is invalidated, and free must
 * not wait for the user to wake it. So a device with attachments stays awake:
 * this function holds off runtime PM, vfio_ioasid_lock_pm() the user's requests.
 */
static int vfio_ioasid_pm_get(struct vfio_device_file *df)
{
	struct device *dev = df->device->dev;
	pci_power_t state;
	int ret;

	if (!df->nr_ioasids) {
		ret = vfio_device_pm_runtime_get(df->device);
		if (ret)
			return ret;
	}
	if (!dev_is_pci(dev))
		return 0;

	state = to_pci_dev(dev)->current_state;
	if (state == PCI_D0 || state == PCI_UNKNOWN)
		return 0;
	vfio_ioasid_pm_put(df);
	return -EBUSY;
}

static struct ioasid_attachment *
vfio_ioasid_attach(struct vfio_device_file *df, struct vfio_device_attach_ioasid *cmd)
{
	struct device *dev = df->device->dev;
	struct ioasid_attachment *attachment;
	struct iommu_domain *domain;
	struct ioasid *ioasid;
	int ret;

	domain = container_domain(df);
	if (!domain)
		return ERR_PTR(-EOPNOTSUPP);

	ioasid = ioasid_find_by_fd(cmd->ioasid_fd, cmd->id);
	if (IS_ERR(ioasid))
		return ERR_CAST(ioasid);

	ret = vfio_ioasid_pm_get(df);
	if (ret) {
		ioasid_put(ioasid);
		return ERR_PTR(ret);
	}

	if (cmd->flags & VFIO_DEVICE_IOASID_NO_PASID)
		attachment = ioasid_attach_no_pasid(ioasid, dev, "vfio");
	else if (domain->type == IOMMU_DOMAIN_BLOCKED)
		/* DMA without PASID was blocked, which took the container's domain */
		attachment = ERR_PTR(-ESHUTDOWN);
	else
		attachment = ioasid_attach(ioasid, dev, domain, "vfio");
	/* The attachment has its own reference */
	ioasid_put(ioasid);
	if (IS_ERR(attachment))
		vfio_ioasid_pm_put(df);
	return attachment;
}

/**
 * vfio_ioasid_lock_pm() - Keep a device from being attached while it may sleep
 * @device: The device, which has an open file
 *
 * Context: Process context. Takes the group's lock if it returns true, for
 * vfio_ioasid_unlock_pm().
 * Return: false if a device of the group is attached to an IOASID, and has to
 * stay awake; else true, and no device of the group can be attached until
 * vfio_ioasid_unlock_pm().
 */
bool vfio_ioasid_lock_pm(struct vfio_device *device)
{
	bool attached;

	mutex_lock(&device->group->group_lock);
	attached = device->group->nr_ioasids;
	if (attached)
		mutex_unlock(&device->group->group_lock);
	return !attached;
}
EXPORT_SYMBOL_GPL(vfio_ioasid_lock_pm);

/**
 * vfio_ioasid_unlock_pm() - Let a device be attached again
 * @device: The device, for which vfio_ioasid_lock_pm() returned true
 *
 * Context: Process context. Releases the group's lock.
 */
void vfio_ioasid_unlock_pm(struct vfio_device *device)
{
	mutex_unlock(&device->group->group_lock);
}
EXPORT_SYMBOL_GPL(vfio_ioasid_unlock_pm);

/* Both commands begin with argsz and flags, and have the same flags */
static int vfio_ioasid_copy_cmd(void *cmd, size_t size, void __user *arg)
{
	struct {
		u32 argsz;
		u32 flags;
	} *head = cmd;
	u32 argsz;
	int ret;

	if (get_user(argsz, (u32 __user *)arg))
		return -EFAULT;
	if (argsz < size)
		return -EINVAL;
	if (argsz > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(cmd, size, arg, argsz);
	if (ret)
		return ret;
	return head->flags & ~VFIO_DEVICE_IOASID_NO_PASID ? -EINVAL : 0;
}

int vfio_df_ioctl_attach_ioasid(struct vfio_device_file *df,
				struct vfio_device_attach_ioasid __user *arg)
{
	struct vfio_device_attach_ioasid cmd;
	struct ioasid_attachment *attachment;
	unsigned long index;
	int ret;

	ret = vfio_ioasid_copy_cmd(&cmd, sizeof(cmd), arg);
	if (ret)
		return ret;
	if (!df->group)
		return -EOPNOTSUPP;

	mutex_lock(&df->group->group_lock);
	if (df->group->nr_ioasids >= READ_ONCE(ioasid_limit)) {
		ret = -ENOSPC;
		goto out_unlock;
	}
	attachment = vfio_ioasid_attach(df, &cmd);
	if (IS_ERR(attachment)) {
		ret = PTR_ERR(attachment);
		goto out_unlock;
	}

	/* The core refuses a second attachment, so the index is free */
	index = attachment_index(cmd.id, cmd.flags);
	ret = xa_insert(&df->ioasids, index, attachment, GFP_KERNEL_ACCOUNT);
	if (ret) {
		ioasid_detach(attachment);
		vfio_ioasid_pm_put(df);
		goto out_unlock;
	}
	df->nr_ioasids++;
	df->group->nr_ioasids++;
out_unlock:
	mutex_unlock(&df->group->group_lock);
	return ret;
}

int vfio_df_ioctl_detach_ioasid(struct vfio_device_file *df,
				struct vfio_device_detach_ioasid __user *arg)
{
	struct vfio_device_detach_ioasid cmd;
	struct ioasid_attachment *attachment;
	int ret;

	ret = vfio_ioasid_copy_cmd(&cmd, sizeof(cmd), arg);
	if (ret)
		return ret;
	if (cmd.id > IOASID_MAX || !df->group)
		return -ENOENT;

	mutex_lock(&df->group->group_lock);
	attachment = xa_erase(&df->ioasids,
			      attachment_index(cmd.id, cmd.flags));
	if (attachment) {
		ioasid_detach(attachment);
		df->nr_ioasids--;
		df->group->nr_ioasids--;
		vfio_ioasid_pm_put(df);
	}
	mutex_unlock(&df->group->group_lock);
	return attachment ? 0 : -ENOENT;
}

/* The device file is closed */
void vfio_df_ioasid_detach_all(struct vfio_device_file *df)
{
	struct ioasid_attachment *attachment;
	unsigned long index;

	lockdep_assert_held(&df->group->group_lock);

	if (df->nr_ioasids) {
		xa_for_each(&df->ioasids, index, attachment) {
			ioasid_detach(attachment);
			df->nr_ioasids--;
			df->group->nr_ioasids--;
			cond_resched();
		}
		vfio_ioasid_pm_put(df);
	}
	xa_destroy(&df->ioasids);
}
