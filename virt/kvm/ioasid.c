// SPDX-License-Identifier: GPL-2.0
/*
 * KVM as a holder of IOASIDs of /dev/ioasid: a VM maps PASIDs of its guest to
 * IOASIDs, and holds each IOASID until user space removes the mapping or the VM
 * is destroyed. If the owner frees the IOASID meanwhile, the guest continues
 * with a parked IOASID.
 */
#include <linux/ioasid.h>
#include <linux/kvm_host.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "ioasid.h"

/* What a guest's PASID is mapped to, with a reference */
struct kvm_ioasid_entry {
	struct ioasid *ioasid;
	struct ioasid_tracker tracker;
};

struct kvm_ioasid_map {
	/* Guards both arrays, and what the CPU reads of them */
	struct mutex lock;
	/* Entries by the guest's PASID */
	struct xarray guests;
	/*
	 * The same entries by the IOASID's id. An IOASID has one entry at most,
	 * so the quotas of the sets limit how many a VM has.
	 */
	struct xarray hosts;
};

/* Nobody finds the entry any more */
static void entry_free(struct kvm_ioasid_entry *entry)
{
	ioasid_untrack(entry->ioasid, &entry->tracker);
	ioasid_put(entry->ioasid);
	kfree(entry);
}

static struct kvm_ioasid_entry *entry_alloc(int fd, u32 host)
{
	struct kvm_ioasid_entry *entry;
	struct ioasid *ioasid;

	entry = kzalloc_obj(*entry, GFP_KERNEL_ACCOUNT);
	if (!entry)
		return ERR_PTR(-ENOMEM);

	ioasid = ioasid_find_by_fd(fd, host);
	if (IS_ERR(ioasid)) {
		kfree(entry);
		return ERR_CAST(ioasid);
	}
	ioasid_track(ioasid, &entry->tracker, "kvm", NULL);
	entry->ioasid = ioasid;
	return entry;
}

static int map_insert(struct kvm *kvm, struct kvm_ioasid_map *map, u32 guest,
		      struct kvm_ioasid_entry *entry)
{
	unsigned int host = ioasid_id(entry->ioasid);
	int ret;

	lockdep_assert_held(&map->lock);

	ret = xa_insert(&map->hosts, host, entry, GFP_KERNEL);
	if (ret)
		return ret == -EBUSY ? -EEXIST : ret;
	ret = xa_insert(&map->guests, guest, entry, GFP_KERNEL);
	if (ret) {
		ret = ret == -EBUSY ? -EEXIST : ret;
		goto err_host;
	}
	ret = kvm_arch_ioasid_add(kvm, guest, host);
	if (ret)
		goto err_guest;
	return 0;

err_guest:
	xa_erase(&map->guests, guest);
err_host:
	xa_erase(&map->hosts, host);
	return ret;
}

static int kvm_ioasid_add(struct kvm_device *dev, void __user *arg)
{
	struct kvm_ioasid_map *map = dev->private;
	struct kvm_ioasid_entry *entry;
	struct kvm_ioasid cmd;
	int ret;

	if (copy_from_user(&cmd, arg, sizeof(cmd)))
		return -EFAULT;
	if (cmd.flags || cmd.guest > IOASID_MAX)
		return -EINVAL;

	entry = entry_alloc(cmd.ioasid_fd, cmd.host);
	if (IS_ERR(entry))
		return PTR_ERR(entry);

	mutex_lock(&map->lock);
	ret = map_insert(dev->kvm, map, cmd.guest, entry);
	mutex_unlock(&map->lock);
	if (ret)
		entry_free(entry);
	return ret;
}

static int kvm_ioasid_del(struct kvm_device *dev, u32 __user *arg)
{
	struct kvm_ioasid_map *map = dev->private;
	struct kvm_ioasid_entry *entry;
	u32 guest;

	if (get_user(guest, arg))
		return -EFAULT;

	mutex_lock(&map->lock);
	entry = xa_erase(&map->guests, guest);
	if (entry) {
		kvm_arch_ioasid_del(dev->kvm, guest);
		xa_erase(&map->hosts, ioasid_id(entry->ioasid));
	}
	mutex_unlock(&map->lock);
	if (!entry)
		return -ENOENT;

	entry_free(entry);
	return 0;
}

static int kvm_ioasid_lookup(struct kvm_device *dev, u32 __user *arg)
{
	struct kvm_ioasid_map *map = dev->private;
	struct kvm_ioasid_entry *entry;
	u32 guest, host = 0;

	if (get_user(guest, arg))
		return -EFAULT;

	mutex_lock(&map->lock);
	entry = xa_load(&map->guests, guest);
	if (entry)
		host = ioasid_id(entry->ioasid);
	mutex_unlock(&map->lock);
	return entry ? put_user(host, arg) : -ENOENT;
}

static int kvm_ioasid_set_attr(struct kvm_device *dev,
			       struct kvm_device_attr *attr)
{
	void __user *arg = u64_to_user_ptr(attr->addr);

	if (attr->group == KVM_DEV_IOASID_MAP) {
		switch (attr->attr) {
		case KVM_DEV_IOASID_ADD:
			return kvm_ioasid_add(dev, arg);
		case KVM_DEV_IOASID_DEL:
			return kvm_ioasid_del(dev, arg);
		}
	}
	return -ENXIO;
}

static int kvm_ioasid_get_attr(struct kvm_device *dev,
			       struct kvm_device_attr *attr)
{
	if (attr->group == KVM_DEV_IOASID_MAP &&
	    attr->attr == KVM_DEV_IOASID_LOOKUP)
		return kvm_ioasid_lookup(dev, u64_to_user_ptr(attr->addr));
	return -ENXIO;
}

static int kvm_ioasid_has_attr(struct kvm_device *dev,
			       struct kvm_device_attr *attr)
{
	if (attr->group == KVM_DEV_IOASID_MAP) {
		switch (attr->attr) {
		case KVM_DEV_IOASID_ADD:
		case KVM_DEV_IOASID_DEL:
		case KVM_DEV_IOASID_LOOKUP:
			return 0;
		}
	}
	return -ENXIO;
}

static int kvm_ioasid_create(struct kvm_device *dev, u32 type)
{
	struct kvm_ioasid_map *map;
	struct kvm *kvm = dev->kvm;
	struct kvm_device *tmp;
	int ret;

	lockdep_assert_held(&kvm->lock);

	/* Only one per VM */
	list_for_each_entry(tmp, &kvm->devices, vm_node)
		if (tmp->ops == dev->ops)
			return -EBUSY;

	map = kzalloc_obj(*map, GFP_KERNEL_ACCOUNT);
	if (!map)
		return -ENOMEM;
	ret = kvm_arch_ioasid_create(kvm);
	if (ret) {
		kfree(map);
		return ret;
	}
	mutex_init(&map->lock);
	xa_init_flags(&map->guests, XA_FLAGS_ACCOUNT);
	xa_init_flags(&map->hosts, XA_FLAGS_ACCOUNT);

	dev->private = map;
	return 0;
}

/*
 * Either the VM is destroyed: no vCPU runs in it, and the architecture has freed
 * its structures. Or the device's file could not be created: the VM lives on, and
 * the map is empty.
 */
static void kvm_ioasid_destroy(struct kvm_device *dev)
{
	struct kvm_ioasid_map *map = dev->private;
	struct kvm_ioasid_entry *entry;
	unsigned long guest;

	xa_for_each(&map->guests, guest, entry) {
		entry_free(entry);
		cond_resched();
	}
	xa_destroy(&map->guests);
	xa_destroy(&map->hosts);
	mutex_destroy(&map->lock);
	kfree(map);
	kfree(dev);
}

static const struct kvm_device_ops kvm_ioasid_ops = {
	.name = "kvm-ioasid",
	.create = kvm_ioasid_create,
	.destroy = kvm_ioasid_destroy,
	.set_attr = kvm_ioasid_set_attr,
	.get_attr = kvm_ioasid_get_attr,
	.has_attr = kvm_ioasid_has_attr,
};

int kvm_ioasid_ops_init(void)
{
	return kvm_register_device_ops(&kvm_ioasid_ops, KVM_DEV_TYPE_IOASID);
}

void kvm_ioasid_ops_exit(void)
{
	kvm_unregister_device_ops(KVM_DEV_TYPE_IOASID);
}
