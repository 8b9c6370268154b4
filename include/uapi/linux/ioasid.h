/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/ioasid: numbers that tag DMA (PASIDs), and the right to use them.
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
 * One open of /dev/ioasid is one set of numbers. The open file is the
 * authority over them: whoever has it may allocate, free and query, and may
 * hand a number to VFIO as the pair of the file and the number. A file that is
 * inherited or passed on shares its set. The last close frees all of the set.
 *
 * Every ioctl takes a pointer to a structure that begins with its @size, in
 * bytes, as the caller knows it. A larger structure than the kernel's is
 * accepted if all that the kernel does not know is zero, -E2BIG is the answer
 * if it is not, or if @size is more than a page; one that is smaller than the
 * first version is refused with -EINVAL. @flags must be 0, else -EINVAL.
 * -EFAULT: the structure could not be read or written. -ENOTTY: no such ioctl.
 */

/**
 * struct ioasid_cmd_info - ioctl(IOASID_INFO)
 * @size: sizeof(struct ioasid_cmd_info)
 * @flags: must be 0
 * @pasid_bits: numbers are smaller than 1 << @pasid_bits; a device, or its
 *              IOMMU, may support less
 * @quota: how many numbers the set may have, parked ones included
 * @active: how many numbers are allocated and not freed
 * @parked: how many are freed and still held by somebody
 *
 * What the set has, and may have.
 */
struct ioasid_cmd_info {
	__u32 size;
	__u32 flags;
	__u32 pasid_bits;
	__u32 quota;
	__u32 active;
	__u32 parked;
};

#define IOASID_INFO	_IO(IOASID_TYPE, IOASID_BASE + 0)

/**
 * struct ioasid_cmd_alloc - ioctl(IOASID_ALLOC)
 * @size: sizeof(struct ioasid_cmd_alloc)
 * @flags: must be 0
 * @min: lowest number to give, 1 or more
 * @max: highest number to give, at most (1 << pasid_bits) - 1
 * @id: the number, set by the kernel
 *
 * Allocate the lowest number in [@min, @max] that nobody on this machine has or
 * holds.
 *
 * -EINVAL: the range is empty or leaves the number space. -EBUSY: the misc
 * cgroup of the calling task has as many numbers as it may have, or one above
 * it. -ENOSPC: no number in the range is free. -EDQUOT: the set has as many
 * numbers as it may have. -ENOMEM.
 */
struct ioasid_cmd_alloc {
	__u32 size;
	__u32 flags;
	__u32 min;
	__u32 max;
	__u32 id;
};

#define IOASID_ALLOC	_IO(IOASID_TYPE, IOASID_BASE + 1)

/**
 * struct ioasid_cmd_free - ioctl(IOASID_FREE)
 * @size: sizeof(struct ioasid_cmd_free)
 * @flags: must be 0
 * @id: the number
 *
 * Park the number. When the call returns, no DMA under it reaches memory any
 * more, and nobody can take a new reference by number. The number itself is
 * free for others when the last holder has let go.
 *
 * -ENOENT: not an active number of this set.
 */
struct ioasid_cmd_free {
	__u32 size;
	__u32 flags;
	__u32 id;
};

#define IOASID_FREE	_IO(IOASID_TYPE, IOASID_BASE + 2)

/**
 * enum ioasid_state - the states that IOASID_QUERY reports
 * @IOASID_STATE_ACTIVE: allocated
 * @IOASID_STATE_PARKED: freed, DMA blocked, held by somebody
 */
enum ioasid_state {
	IOASID_STATE_ACTIVE = 1,
	IOASID_STATE_PARKED = 2,
};

/**
 * struct ioasid_cmd_query - ioctl(IOASID_QUERY)
 * @size: sizeof(struct ioasid_cmd_query)
 * @flags: must be 0
 * @id: the number
 * @state: enum ioasid_state, set by the kernel
 * @references: how many references there are, the owner's (while active) and
 *              one for each attachment included
 * @attachments: how many devices' DMA is attached to the number
 *
 * -ENOENT: not a number of this set, or recycled.
 */
struct ioasid_cmd_query {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 state;
	__u32 references;
	__u32 attachments;
};

#define IOASID_QUERY	_IO(IOASID_TYPE, IOASID_BASE + 3)

#endif /* _UAPI_LINUX_IOASID_H */
