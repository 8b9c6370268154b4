// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/ioasid: an open file is a set of IOASIDs, and the authority over them. The
 * last close parks all IOASIDs that are left.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/miscdevice.h>
#include <linux/moduleparam.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <uapi/linux/ioasid.h>

#include "ioasid-priv.h"

static unsigned int quota = 4096;
module_param(quota, uint, 0644);
MODULE_PARM_DESC(quota, "How many IOASIDs each later open of /dev/ioasid may have");

static int ioasid_user_open(struct inode *inode, struct file *file)
{
	struct ioasid_set *set;

	set = ioasid_set_alloc(READ_ONCE(quota), true);
	if (IS_ERR(set))
		return PTR_ERR(set);
	file->private_data = set;
	return nonseekable_open(inode, file);
}

/*
 * A task that exits flushes all its files before it releases any. So the block does
 * not wait for the release of a VFIO device, which resets the device.
 */
static int ioasid_user_flush(struct file *file, fl_owner_t id)
{
	/*
	 * The file cannot be looked up by this descriptor any more, so nobody can
	 * get a reference from the last one. If there are more, release parks.
	 */
	if (file_count(file) == 1)
		ioasid_set_park(file->private_data);
	return 0;
}

static int ioasid_user_release(struct inode *inode, struct file *file)
{
	ioasid_set_free(file->private_data);
	return 0;
}

static void ioasid_user_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct ioasid_set *set = file->private_data;
	struct ioasid_set_counts counts;

	ioasid_set_count(set, &counts);
	seq_printf(m, "ioasid-set:\t%u\n", set->id);
	seq_printf(m, "ioasid-quota:\t%u\n", counts.quota);
	seq_printf(m, "ioasid-active:\t%u\n", counts.active);
	seq_printf(m, "ioasid-parked:\t%u\n", counts.parked);
	seq_printf(m, "ioasid-parks:\t%llu\n", counts.parks);
}

/* Any of the commands */
union ioasid_cmd {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct ioasid_cmd_info info;
	struct ioasid_cmd_alloc alloc;
	struct ioasid_cmd_free free;
	struct ioasid_cmd_query query;
	struct ioasid_cmd_reader reader;
};

/* Copy the command back, except for the size, which the user chose */
static int ioasid_user_respond(const union ioasid_cmd *cmd, void __user *ucmd,
			       size_t size)
{
	const size_t from = offsetofend(union ioasid_cmd, size);

	if (copy_to_user(ucmd + from, (const void *)cmd + from, size - from))
		return -EFAULT;
	return 0;
}

static int ioasid_user_info(struct ioasid_set *set, union ioasid_cmd *cmd,
			    void __user *ucmd)
{
	struct ioasid_set_counts counts;

	ioasid_set_count(set, &counts);
	cmd->info.out_pasid_bits = IOASID_BITS;
	cmd->info.out_quota = counts.quota;
	cmd->info.out_active = counts.active;
	cmd->info.out_parked = counts.parked;
	cmd->info.out_features = IS_ENABLED(CONFIG_CGROUP_MISC) ?
				 IOASID_FEATURE_CGROUP : 0;
	return ioasid_user_respond(cmd, ucmd, sizeof(cmd->info));
}

static int ioasid_user_alloc(struct ioasid_set *set, union ioasid_cmd *cmd,
			     void __user *ucmd)
{
	struct ioasid *ioasid;
	int ret;

	ioasid = ioasid_alloc(set, cmd->alloc.min, cmd->alloc.max);
	if (IS_ERR(ioasid))
		return PTR_ERR(ioasid);

	cmd->alloc.out_id = ioasid_id(ioasid);
	ret = ioasid_user_respond(cmd, ucmd, sizeof(cmd->alloc));
	if (ret) {
		/* User space never learned the id, so nobody would free it */
		ioasid_put(ioasid);
		return ret;
	}
	ioasid_publish(ioasid);
	return 0;
}

static int ioasid_user_free(struct ioasid_set *set, union ioasid_cmd *cmd,
			    void __user *ucmd)
{
	struct ioasid *ioasid;

	ioasid = ioasid_find(set, cmd->free.id);
	if (!ioasid) {
		/*
		 * The IOASID may be parked, but its DMA not blocked yet, by a
		 * thread that holds this lock. The caller reuses the memory,
		 * so wait for that thread.
		 */
		mutex_lock(&set->lock);
		mutex_unlock(&set->lock);
		return -ENOENT;
	}
	ioasid_free(ioasid);
	ioasid_put(ioasid);
	return 0;
}

static int ioasid_user_query(struct ioasid_set *set, union ioasid_cmd *cmd,
			     void __user *ucmd)
{
	struct ioasid_status status;
	int ret;

	ret = ioasid_query(set, cmd->query.id, &status);
	if (ret)
		return ret;
	cmd->query.out_state = status.parked ? IOASID_STATE_PARKED :
					       IOASID_STATE_ACTIVE;
	cmd->query.out_attachments = status.attachments;
	return ioasid_user_respond(cmd, ucmd, sizeof(cmd->query));
}

static int ioasid_reader_release(struct inode *inode, struct file *file)
{
	ioasid_set_put(file->private_data);
	return 0;
}

static long ioasid_user_ioctl(struct file *file, unsigned int nr,
			      unsigned long arg);

static const struct file_operations ioasid_reader_fops = {
	.owner = THIS_MODULE,
	.release = ioasid_reader_release,
	.unlocked_ioctl = ioasid_user_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = ioasid_user_show_fdinfo,
};

/* Keeps the memory of the set, but does not keep the set from being freed */
static int ioasid_user_reader(struct ioasid_set *set, union ioasid_cmd *cmd,
			      void __user *ucmd)
{
	struct file *file;
	int fd, ret;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	refcount_inc(&set->refs);
	file = anon_inode_getfile("[ioasid]", &ioasid_reader_fops, set, O_RDONLY);
	if (IS_ERR(file)) {
		ioasid_set_put(set);
		ret = PTR_ERR(file);
		goto err_fd;
	}

	cmd->reader.out_fd = fd;
	ret = ioasid_user_respond(cmd, ucmd, sizeof(cmd->reader));
	if (ret)
		goto err_file;
	fd_install(fd, file);
	return 0;

err_file:
	fput(file);
err_fd:
	put_unused_fd(fd);
	return ret;
}

struct ioasid_user_op {
	unsigned int nr;
	bool write;		/* the file must be open for writing */
	size_t size;
	int (*execute)(struct ioasid_set *set, union ioasid_cmd *cmd,
		       void __user *ucmd);
};

static const struct ioasid_user_op ioasid_user_ops[] = {
	{ IOASID_INFO, false, sizeof(struct ioasid_cmd_info), ioasid_user_info },
	{ IOASID_ALLOC, true, sizeof(struct ioasid_cmd_alloc), ioasid_user_alloc },
	{ IOASID_FREE, true, sizeof(struct ioasid_cmd_free), ioasid_user_free },
	{ IOASID_QUERY, false, sizeof(struct ioasid_cmd_query), ioasid_user_query },
	{ IOASID_READER, false, sizeof(struct ioasid_cmd_reader), ioasid_user_reader },
};

static long ioasid_user_ioctl(struct file *file, unsigned int nr,
			      unsigned long arg)
{
	const struct ioasid_user_op *op = NULL;
	void __user *ucmd = (void __user *)arg;
	union ioasid_cmd cmd = {};
	u32 size;
	int ret, i;

	for (i = 0; i < ARRAY_SIZE(ioasid_user_ops) && !op; i++)
		if (ioasid_user_ops[i].nr == nr)
			op = &ioasid_user_ops[i];
	if (!op)
		return -ENOTTY;
	if (op->write && !(file->f_mode & FMODE_WRITE))
		return -EBADF;

	if (get_user(size, (u32 __user *)ucmd))
		return -EFAULT;
	/* The first version has all fields, so none may be left out */
	if (size < op->size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&cmd, op->size, ucmd, size);
	if (ret)
		return ret;
	if (cmd.flags)
		return -EINVAL;
	return op->execute(file->private_data, &cmd, ucmd);
}

static const struct file_operations ioasid_fops = {
	.owner = THIS_MODULE,
	.open = ioasid_user_open,
	.flush = ioasid_user_flush,
	.release = ioasid_user_release,
	.unlocked_ioctl = ioasid_user_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = ioasid_user_show_fdinfo,
};

static struct miscdevice ioasid_miscdev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ioasid",
	.fops = &ioasid_fops,
	.nodename = "ioasid",
	.mode = 0600,
};

static int __init ioasid_user_init(void)
{
	/* Only this file charges. A capacity of 0 hides the resource. */
	int ret = misc_cg_set_capacity(MISC_CG_RES_IOASID, IOASID_MAX);

	return ret ?: misc_register(&ioasid_miscdev);
}
device_initcall(ioasid_user_init);

/**
 * ioasid_find_by_fd() - Take a reference on behalf of a user
 * @fd: A file of /dev/ioasid, or of IOASID_READER, in the file table of the
 *      calling task.
 * @id: The id of an IOASID of that file's set.
 *
 * The interfaces that take an IOASID from user space (VFIO, KVM) get a
 * reference here, from the file and the id. The file is not needed afterwards.
 *
 * Context: Process context.
 * Return:
 * * the IOASID, with a reference for the caller to put, or ERR_PTR() of
 * * %-EBADF	- @fd is not open, or open for its path only
 * * %-EBADFD	- @fd is not a file of /dev/ioasid, nor of IOASID_READER
 * * %-ENOENT	- no ACTIVE IOASID of the set has the id
 */
struct ioasid *ioasid_find_by_fd(int fd, unsigned int id)
{
	struct ioasid *ioasid;
	struct fd f = fdget(fd);

	if (!fd_file(f))
		return ERR_PTR(-EBADF);

	if (fd_file(f)->f_op != &ioasid_fops &&
	    fd_file(f)->f_op != &ioasid_reader_fops)
		ioasid = ERR_PTR(-EBADFD);
	else
		ioasid = ioasid_find(fd_file(f)->private_data, id) ?:
			 ERR_PTR(-ENOENT);
	fdput(f);
	return ioasid;
}
EXPORT_SYMBOL_GPL(ioasid_find_by_fd);
