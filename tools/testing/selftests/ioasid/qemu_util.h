/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Hot-plug in the emulated machine: a PCI Express slot that is empty at boot,
 * and QEMU's monitor at the other end of a serial port.
 */
#ifndef QEMU_UTIL_H
#define QEMU_UTIL_H

#include "vfio_util.h"

/* The device that is in the slot, or will be */
int slot_bdf(char bdf[BDF_SIZE]);
/* The kernel has released the device and switched the slot off, so QEMU has, too */
bool slot_is_empty(const char *bdf);

/* Plug a pasid-test device in, and wait until vfio-pci has it */
int slot_plug(const char *bdf);
/* Press the attention button: the kernel is asked to release the device */
int slot_unplug(void);
/* Pull the device out: reads of it find nothing, and then the kernel hears of it */
int slot_tear_out(void);

#endif /* QEMU_UTIL_H */
