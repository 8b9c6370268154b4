/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the ioasid selftests share that look at VT-d itself: its registers, and
 * the PASID table that it reads.
 */
#ifndef VTD_UTIL_H
#define VTD_UTIL_H

#include <linux/const.h>
#include <linux/types.h>
#include <stdbool.h>

#define GSTS_TRANSLATES	_BITULL(31)
#define RTADDR_SCALABLE	_BITULL(10)

/* A register of the only VT-d unit */
int vtd_register(const char *name, __u64 *value);

/* Of the first word of a PASID table entry (VT-d spec, section 9.6) */
#define ENTRY_PRESENT	_BITULL(0)
#define ENTRY_FPD	_BITULL(1)	/* faults are not reported */

/*
 * Map the PASID table entry of @pasid, 0 for DMA without PASID, of the device
 * @bdf, as the hardware reads it. NULL if there is no table for it.
 */
const __u64 *vtd_map_entry(const char *bdf, __u32 pasid);
/* The same for its directory entry, which outlives the table */
const __u64 *vtd_map_directory_entry(const char *bdf, __u32 pasid);
/* The hardware's driver changes it meanwhile */
static inline __u64 read_entry(const __u64 *entry)
{
	return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

/*
 * The first word of @entry, or the one of its directory entry if there is no table
 * any more. The two bits above mean the same in both.
 */
static inline __u64 read_either(const __u64 *directory_entry, const __u64 *entry)
{
	__u64 before, value;

	do {
		before = __atomic_load_n(directory_entry, __ATOMIC_ACQUIRE);
		value = before & ENTRY_PRESENT ? __atomic_load_n(entry, __ATOMIC_ACQUIRE) :
						 before;
	} while (read_entry(directory_entry) != before);
	return value;
}

/* Whether a present entry leads to a first-stage page table */
static inline bool entry_is_first_stage(const __u64 *entry)
{
	return (read_entry(entry) >> 6 & 7) == 1;
}

/* The address of the page table that a present entry leads to */
static inline __u64 entry_table(const __u64 *entry)
{
	return read_entry(entry + (entry_is_first_stage(entry) ? 2 : 0)) & ~0xfffULL;
}

void vtd_unmap_entry(const __u64 *entry);

#endif /* VTD_UTIL_H */
