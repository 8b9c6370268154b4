// SPDX-License-Identifier: GPL-2.0
/*
 * Memory whose pages do not come, for sva_test: as a file of FUSE whose server does
 * not answer, or of a network that is gone. mmap() of /dev/slow-page, and a page
 * fault sleeps until the parameter "come" is set. The parameter "waiting" tells how
 * many do.
 */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/wait.h>

static DECLARE_WAIT_QUEUE_HEAD(slow_page_wait);
static atomic_t slow_page_waiting;
static bool come;

static int slow_page_set(const char *val, const struct kernel_param *kp)
{
	int ret = param_set_bool(val, kp);

	wake_up_all(&slow_page_wait);
	return ret;
}

static const struct kernel_param_ops slow_page_come_ops = {
	.set = slow_page_set,
	.get = param_get_bool,
};
module_param_cb(come, &slow_page_come_ops, &come, 0600);

static int slow_page_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", atomic_read(&slow_page_waiting));
}

static const struct kernel_param_ops slow_page_waiting_ops = {
	.get = slow_page_get,
};
module_param_cb(waiting, &slow_page_waiting_ops, NULL, 0400);

static vm_fault_t slow_page_fault(struct vm_fault *vmf)
{
	atomic_inc(&slow_page_waiting);
	/* As a hung task this would be reported */
	wait_event_idle(slow_page_wait, READ_ONCE(come));
	atomic_dec(&slow_page_waiting);

	vmf->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	return vmf->page ? 0 : VM_FAULT_OOM;
}

static const struct vm_operations_struct slow_page_vm_ops = {
	.fault = slow_page_fault,
};

static int slow_page_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &slow_page_vm_ops;
	return 0;
}

static const struct file_operations slow_page_fops = {
	.owner = THIS_MODULE,
	.mmap = slow_page_mmap,
};

static struct miscdevice slow_page_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "slow-page",
	.fops = &slow_page_fops,
	.mode = 0600,
};
module_misc_device(slow_page_misc);

MODULE_DESCRIPTION("Memory whose pages do not come");
MODULE_LICENSE("GPL");
