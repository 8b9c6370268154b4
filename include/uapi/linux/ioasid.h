/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/ioasid: IOASIDs, whose ids are PASIDs, and the authority over them.
 *
 * See Documentation/userspace-api/ioasid.rst.
 */
#ifndef _UAPI_LINUX_IOASID_H
#define _UAPI_LINUX_IOASID_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IOASID_TYPE	';'
#define IOASID_BASE	0x40

/**
 * DOC: /dev/ioasid ioctls
 *
 * An open file of /dev/ioasid is a set of IOASIDs, and the authority over them: a
 * process that has the file may allocate, free and query, and may pass the file
 * and an id to VFIO or KVM. A file that is inherited or passed on shares its set.
 * The last close frees all IOASIDs of the set. IOASID_READER opens a file for a
 * process that attaches DMA under the IOASIDs, but does not own them.
 *
 * Every ioctl takes a pointer to a structure that begins with its size in bytes.
 * The structure may be larger than the kernel's if the rest is zero. The kernel
 * writes the members named out_* and reads all others.
 *
 * Errors of all ioctls:
 *
 * - -ENOTTY: There is no such ioctl.
 * - -EFAULT: The structure could not be read or written.
 * - -EBADF: The ioctl needs a file that is open for writing.
 * - -EINVAL: @size is less than that of the first version, or @flags is not 0.
 * - -E2BIG: @size is more than a page, or a byte beyond the kernel's version of
 *   the structure is not zero.
 *
 * A call that fails changes nothing.
 */

/**
 * enum ioasid_features - what IOASID_INFO tells about the kernel
 * @IOASID_FEATURE_CGROUP: the misc cgroup of the task that calls IOASID_ALLOC is
 *                         charged
 */
enum ioasid_features {
	IOASID_FEATURE_CGROUP = 1 << 0,
};

/**
 * struct ioasid_cmd_info - ioctl(IOASID_INFO)
 * @size: sizeof(struct ioasid_cmd_info)
 * @flags: must be 0
 * @out_pasid_bits: ids are less than 1 << @out_pasid_bits; a device or its IOMMU
 *                  may support fewer bits
 * @out_quota: how many IOASIDs the set may have, parked ones included, and how
 *             many attachments under them
 * @out_active: how many IOASIDs are allocated and not freed
 * @out_parked: how many IOASIDs are freed and still held
 * @out_features: enum ioasid_features, or'ed; ignore bits that are not known
 *
 * Tell how many IOASIDs the set has and may have, and what the kernel supports.
 *
 * Return: 0, or -errno as for all ioctls.
 */
struct ioasid_cmd_info {
	__u32 size;
	__u32 flags;
	__u32 out_pasid_bits;
	__u32 out_quota;
	__u32 out_active;
	__u32 out_parked;
	__u32 out_features;
};

#define IOASID_INFO	_IO(IOASID_TYPE, IOASID_BASE + 0)

/**
 * struct ioasid_cmd_alloc - ioctl(IOASID_ALLOC)
 * @size: sizeof(struct ioasid_cmd_alloc)
 * @flags: must be 0
 * @min: lowest id to give, 1 or more
 * @max: highest id to give, at most (1 << out_pasid_bits) - 1
 * @out_id: id of the IOASID
 *
 * Allocate an IOASID with an id in [@min, @max] that no IOASID of this machine
 * has, active or parked. Do not rely on which id it is. It is above @max / 2 if
 * such an id is free, and none that the kernel keeps for itself. Needs a file
 * that is open for writing.
 *
 * Return:
 * * 0, or -errno as for all ioctls and
 * * %-EINVAL	- @min is 0 or more than @max, or @max is too large
 * * %-EDQUOT	- the quota of the set is used up
 * * %-EUSERS	- the user has as many IOASIDs as a user may have, or as many with
 *   ids below 1024
 * * %-EBUSY	- the misc cgroup of the calling task, or one above it, is at its
 *   limit
 * * %-ENOSPC	- no id in the range is free
 * * %-ENOMEM	- no memory
 */
struct ioasid_cmd_alloc {
	__u32 size;
	__u32 flags;
	__u32 min;
	__u32 max;
	__u32 out_id;
};

#define IOASID_ALLOC	_IO(IOASID_TYPE, IOASID_BASE + 1)

/**
 * struct ioasid_cmd_free - ioctl(IOASID_FREE)
 * @size: sizeof(struct ioasid_cmd_free)
 * @flags: must be 0
 * @id: id of an active IOASID of this set
 *
 * Block the DMA under the IOASID and park it. When the call returns 0, no DMA
 * under the IOASID reaches memory any more. The id can be allocated again when
 * the last holder has put its reference. Needs a file that is open for writing.
 *
 * Return:
 * * 0, or -errno as for all ioctls and
 * * %-ENOENT	- the set has no active IOASID with this id; if it was freed, its
 *   DMA has ended
 */
struct ioasid_cmd_free {
	__u32 size;
	__u32 flags;
	__u32 id;
};

#define IOASID_FREE	_IO(IOASID_TYPE, IOASID_BASE + 2)

/**
 * enum ioasid_state - the states that IOASID_QUERY reports
 * @IOASID_STATE_ACTIVE: allocated, not freed
 * @IOASID_STATE_PARKED: freed, its DMA is blocked, still held
 */
enum ioasid_state {
	IOASID_STATE_ACTIVE = 1,
	IOASID_STATE_PARKED = 2,
};

/**
 * struct ioasid_cmd_query - ioctl(IOASID_QUERY)
 * @size: sizeof(struct ioasid_cmd_query)
 * @flags: must be 0
 * @id: id of an IOASID of this set, active or parked
 * @out_state: enum ioasid_state
 * @out_attachments: how many attachments there are
 *
 * Tell the state of an IOASID.
 *
 * Return:
 * * 0, or -errno as for all ioctls and
 * * %-ENOENT	- the set has no IOASID with this id, or it is recycled
 */
struct ioasid_cmd_query {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 out_state;
	__u32 out_attachments;
};

#define IOASID_QUERY	_IO(IOASID_TYPE, IOASID_BASE + 3)

/**
 * struct ioasid_cmd_reader - ioctl(IOASID_READER)
 * @size: sizeof(struct ioasid_cmd_reader)
 * @flags: must be 0
 * @out_fd: a new file descriptor, with the close-on-exec flag
 *
 * Open a second file of the set, for a process that uses the IOASIDs, but does
 * not own them. This file is not open for writing, so IOASID_ALLOC and
 * IOASID_FREE fail with -EBADF. VFIO and KVM take it as they take the first
 * file. It does not keep the set: the last close of the first file frees all
 * IOASIDs. After that, IOASID_QUERY finds only those that are still held.
 *
 * Return:
 * * 0, or -errno as for all ioctls and
 * * %-EMFILE	- the process has too many files
 * * %-ENFILE	- the system has too many files
 * * %-ENOMEM	- no memory
 */
struct ioasid_cmd_reader {
	__u32 size;
	__u32 flags;
	__s32 out_fd;
};

#define IOASID_READER	_IO(IOASID_TYPE, IOASID_BASE + 4)

#endif /* _UAPI_LINUX_IOASID_H */
