// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "vfio_util.h"
#include "vtd_util.h"

#define REGISTERS	"/sys/kernel/debug/iommu/intel/iommu_regset"

int vtd_register(const char *name, __u64 *value)
{
	char line[256], word[32];
	int nr = 0;
	FILE *f;

	f = fopen(REGISTERS, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		unsigned long long contents;

		if (sscanf(line, "%31s 0x%*x 0x%llx", word, &contents) == 2 &&
		    !strcmp(word, name)) {
			*value = contents;
			nr++;
		}
	}
	fclose(f);
	return nr == 1 ? 0 : -ENODEV;
}

/* Map physical memory, to read it */
static const __u64 *map_memory(__u64 address)
{
	__u64 offset = address & (PAGE - 1);
	void *page;
	int fd;

	fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, address - offset);
	close(fd);
	return page == MAP_FAILED ? NULL : (const __u64 *)((char *)page + offset);
}

void vtd_unmap_entry(const __u64 *entry)
{
	munmap((void *)((unsigned long)entry & ~(PAGE - 1)), PAGE);
}

/* The table that the entry at @address points to, or 0 */
static __u64 next_table(__u64 address)
{
	const __u64 *entry = map_memory(address);
	__u64 value;

	if (!entry)
		return 0;
	value = read_entry(entry);
	vtd_unmap_entry(entry);
	return value & ENTRY_PRESENT ? value & ~(__u64)(PAGE - 1) : 0;
}

/* VT-d spec, section 3.4.3: root, context, PASID directory */
static __u64 directory_entry(const char *bdf, __u32 pasid)
{
	unsigned int bus, dev, fn, devfn;
	__u64 table;

	if (sscanf(bdf, "%*x:%x:%x.%x", &bus, &dev, &fn) != 3 || vtd_register("RTADDR", &table))
		return 0;
	devfn = dev << 3 | fn;
	table = next_table((table & ~(__u64)(PAGE - 1)) + bus * 16 + (devfn >> 7) * 8);
	if (table)
		table = next_table(table + (devfn & 0x7f) * 32);
	return table ? table + (pasid >> 6) * 8 : 0;
}

const __u64 *vtd_map_directory_entry(const char *bdf, __u32 pasid)
{
	__u64 address = directory_entry(bdf, pasid);

	return address ? map_memory(address) : NULL;
}

const __u64 *vtd_map_entry(const char *bdf, __u32 pasid)
{
	__u64 address = directory_entry(bdf, pasid);
	__u64 table = address ? next_table(address) : 0;

	return table ? map_memory(table + (pasid & 63) * 64) : NULL;
}
