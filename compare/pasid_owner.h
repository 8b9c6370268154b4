/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The user API of the test module pasid_owner.
 */
#ifndef PASID_OWNER_H
#define PASID_OWNER_H

#include <linux/ioctl.h>

#define PASID_OWNER_PATH	"/dev/pasid_owner"

/*
 * Attach the page table of a VFIO container to one more PASID of the device; the
 * argument is the fd of the device's group. Returns the PASID.
 */
#define PASID_OWNER_ALLOC	_IO('p', 0x10)

#endif /* PASID_OWNER_H */
