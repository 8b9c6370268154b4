// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for the pasid-test endpoint that shares the address spaces of
 * processes with it, for sva_test. It takes no device by itself: driver_override
 * names it.
 *
 * Each open of /dev/sva-test-<device> binds the caller's address space and
 * maps, by mmap(), the registers of all queues; read() gives the PASID. The
 * close stops what runs with this PASID, then it unbinds. In between the
 * process may die, and its DMA goes on: that is what is tested.
 *
 * Nothing keeps a process from using the PASID of another, or none, and the
 * driver's unbind waits until the last file is closed. This is no model of a
 * driver for users.
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include "../pasid-test.h"

struct sva_test {
	struct pci_dev *pdev;
	struct miscdevice misc;
	void __iomem *bar;
	refcount_t users;	/* the binding of the driver, and each file */
	struct completion unused;
};

/* One open */
struct sva_test_file {
	struct sva_test *st;
	struct iommu_sva *sva;
	u32 pasid;
};

static void sva_test_put(struct sva_test *st)
{
	if (refcount_dec_and_test(&st->users))
		complete(&st->unused);
}

static int sva_test_open(struct inode *inode, struct file *file)
{
	struct sva_test *st = container_of(file->private_data, struct sva_test, misc);
	struct sva_test_file *sf;
	int ret;

	sf = kzalloc_obj(*sf);
	if (!sf)
		return -ENOMEM;

	sf->st = st;
	sf->sva = iommu_sva_bind_device(&st->pdev->dev, current->mm);
	if (IS_ERR(sf->sva)) {
		ret = PTR_ERR(sf->sva);
		goto free;
	}
	sf->pasid = iommu_sva_get_pasid(sf->sva);
	if (sf->pasid == IOMMU_PASID_INVALID) {
		ret = -ENODEV;
		goto unbind;
	}

	/* misc_deregister() waits for this */
	refcount_inc(&st->users);
	file->private_data = sf;
	return 0;

unbind:
	iommu_sva_unbind_device(sf->sva);
free:
	kfree(sf);
	return ret;
}

static int sva_test_release(struct inode *inode, struct file *file)
{
	struct sva_test_file *sf = file->private_data;
	struct sva_test *st = sf->st;
	unsigned int i;

	for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
		void __iomem *queue = st->bar + PASID_TEST_QUEUE(i);

		if (readl(queue + PASID_TEST_Q_PASID) !=
		    (sf->pasid | PASID_TEST_PASID_VALID))
			continue;
		writel(0, queue + PASID_TEST_Q_CTRL);
		/* It is stopped when the write has arrived */
		readl(queue + PASID_TEST_Q_CTRL);
	}
	iommu_sva_unbind_device(sf->sva);
	kfree(sf);
	sva_test_put(st);
	return 0;
}

static ssize_t sva_test_read(struct file *file, char __user *buf, size_t count,
			     loff_t *pos)
{
	struct sva_test_file *sf = file->private_data;

	return simple_read_from_buffer(buf, count, pos, &sf->pasid,
				       sizeof(sf->pasid));
}

static int sva_test_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct sva_test_file *sf = file->private_data;

	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	return vm_iomap_memory(vma, pci_resource_start(sf->st->pdev, 0),
			       PASID_TEST_BAR_SIZE);
}

static const struct file_operations sva_test_fops = {
	.owner = THIS_MODULE,
	.open = sva_test_open,
	.release = sva_test_release,
	.read = sva_test_read,
	.mmap = sva_test_mmap,
};

static int sva_test_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct device *dev = &pdev->dev;
	struct sva_test *st;
	int ret;

	/* driver_override names any device that it likes */
	if (pdev->vendor != PASID_TEST_VENDOR_ID ||
	    pdev->device != PASID_TEST_DEVICE_ID)
		return -ENODEV;

	st = devm_kzalloc(dev, sizeof(*st), GFP_KERNEL);
	if (!st)
		return -ENOMEM;
	st->pdev = pdev;
	refcount_set(&st->users, 1);
	init_completion(&st->unused);
	pci_set_drvdata(pdev, st);

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	st->bar = pcim_iomap(pdev, 0, PASID_TEST_BAR_SIZE);
	if (!st->bar)
		return -ENOMEM;
	pci_set_master(pdev);

	st->misc.minor = MISC_DYNAMIC_MINOR;
	st->misc.name = devm_kasprintf(dev, GFP_KERNEL, "sva-test-%s", pci_name(pdev));
	st->misc.fops = &sva_test_fops;
	st->misc.mode = 0600;
	ret = st->misc.name ? misc_register(&st->misc) : -ENOMEM;
	if (ret)
		pci_clear_master(pdev);
	return ret;
}

static void sva_test_remove(struct pci_dev *pdev)
{
	struct sva_test *st = pci_get_drvdata(pdev);

	misc_deregister(&st->misc);
	sva_test_put(st);
	wait_for_completion(&st->unused);
	pci_clear_master(pdev);
}

static struct pci_driver sva_test_driver = {
	.name = "sva-test",
	.probe = sva_test_probe,
	.remove = sva_test_remove,
};
module_pci_driver(sva_test_driver);

MODULE_DESCRIPTION("Shares the address spaces of processes with a pasid-test endpoint");
MODULE_LICENSE("GPL");
