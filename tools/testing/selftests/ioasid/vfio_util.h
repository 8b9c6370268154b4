/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the ioasid selftests with a device share: the device's VFIO file, iommufd's
 * page tables and the pasid-test device.
 */
#ifndef VFIO_UTIL_H
#define VFIO_UTIL_H

#include <linux/vfio.h>

#include "ioasid_util.h"

/* The machine: one pasid-test device for each role */

enum role {
	ROLE_PASID_A,		/* alone in its group, with all PASID bits */
	ROLE_PASID_B,		/* another such device */
	ROLE_NARROW,		/* alone, with fewer PASID bits */
	ROLE_NO_PASID,		/* alone, without PASID */
	ROLE_GROUP_A,		/* shares a group with ... */
	ROLE_GROUP_B,		/* ... this one */
};

#define BDF_SIZE	16

int machine_find(enum role role, char bdf[BDF_SIZE]);
/* Whether the bus has the device now */
bool machine_has(const char *bdf);
/* PASID bits of a device, 0: no PASID capability */
int machine_pasid_bits(const char *bdf);
/* Whether ATS is enabled: without it the device makes untranslated requests only */
int machine_has_ats(const char *bdf);
/* Whether PASID is enabled */
int machine_has_pasid(const char *bdf);

/* PCI */

#define PCI_PATH_SIZE	320

/* A device's file in sysfs */
void pci_path(char path[PCI_PATH_SIZE], const char *bdf, const char *file);
int pci_remove(const char *bdf);
/* Bind a device that came back to vfio-pci */
int pci_bind_vfio(const char *bdf);
/* Rescan the bus if the device is not there, and bind it to vfio-pci */
int pci_bring_back(const char *bdf);
/* The offset of a capability in the configuration space at @config of @fd, or 0 */
unsigned int pci_cap(int fd, __u64 config, __u8 id);

/* VFIO */

struct vfio_dev {
	char bdf[BDF_SIZE];
	int iommufd;
	__u32 ioas;		/* addresses, and what they are mapped to */
	__u32 hwpt;		/* a page table of @ioas */
	int device;
	__u32 id;		/* of the device in iommufd */
	void *bar;
};

#define VFIO_DEV_CLOSED	{ .iommufd = -1, .device = -1 }

/*
 * The steps of an open, and vfio_open() for all of them. @shared: the device whose
 * iommufd and page table to use; NULL: new ones. No DMA is attached.
 */
int vfio_open_iommufd(struct vfio_dev *dev, const struct vfio_dev *shared);
int vfio_open_device(struct vfio_dev *dev);	/* opens the file, calls vfio_bind() */
int vfio_bind(struct vfio_dev *dev);
int vfio_map_bar(struct vfio_dev *dev);
int vfio_open(struct vfio_dev *dev, enum role role, const struct vfio_dev *shared);
/* A mapping of the BAR holds the device's file just as its fd does */
void vfio_close_device(struct vfio_dev *dev);
void vfio_close(struct vfio_dev *dev);

/* Page tables: for DMA with and without PASID */
int ioas_new(int iommufd, __u32 *ioas);
int ioas_map(int iommufd, __u32 ioas, void *memory, __u64 iova, size_t size);
int ioas_unmap(int iommufd, __u32 ioas, __u64 iova, size_t size);
int hwpt_new(const struct vfio_dev *dev, __u32 ioas, __u32 *hwpt);
int iommufd_destroy(int iommufd, __u32 id);
/* In the page table that vfio_open() made */
int vfio_map(const struct vfio_dev *dev, void *memory, __u64 iova, size_t size);
int vfio_unmap(const struct vfio_dev *dev, __u64 iova, size_t size);
int vfio_reset(int device);
/* Get and set the power state of the device, 0 (D0) to 3 (D3hot) */
int vfio_power_state(int device);
int vfio_set_power_state(int device, int state);
/* Runtime PM: allow a suspend or not, and whether the device is suspended */
int vfio_low_power(int device, bool enter);
bool machine_is_suspended(const char *bdf);
/* /dev/vfio/devices/vfio* of the device */
int vfio_open_cdev(const char *bdf);
/* The file of the device's group */
int vfio_open_group(const char *bdf);

#define NO_PASID	0xffffffffU

/* Attach DMA to a page table: with @pasid, or NO_PASID; @flags: under an IOASID or not */
int vfio_attach_pt(int device, __u32 flags, __u32 pasid, __u32 pt, int ioasid_fd, __u32 id);
int vfio_detach_pt(int device, __u32 pasid);

/* The kinds of DMA under an IOASID: with the id as its PASID, or without PASID */
#define TAGGED		0
#define FLAG_NO_PASID	1

int vfio_attach(const struct vfio_dev *dev, int ioasid_fd, __u32 id, __u32 flags);
int vfio_detach(const struct vfio_dev *dev, __u32 id, __u32 flags);
/* DMA without PASID, under no IOASID */
int vfio_attach_no_ioasid(const struct vfio_dev *dev);

/* Memory that children share, for the device to write to */
#define PAGE		4096UL
void *page_new(void);
__u64 word_of(const void *page);
/* A pattern is in the upper bits of each word, the queue counts in the others */
#define PATTERN_MASK	0xffff000000000000ULL
bool is_filled(const void *page, __u64 pattern);

/* The queues of a pasid-test device whose BAR is mapped */

/* The PASID of DMA that an attachment of @id with @flags translates */
__u32 pasid_of(__u32 flags, __u32 id);

__u32 queue_read32(const struct vfio_dev *dev, unsigned int queue, unsigned int reg);
__u64 queue_read64(const struct vfio_dev *dev, unsigned int queue, unsigned int reg);
void queue_write32(const struct vfio_dev *dev, unsigned int queue, unsigned int reg, __u32 value);
void queue_write64(const struct vfio_dev *dev, unsigned int queue, unsigned int reg, __u64 value);
__u64 device_clock(const struct vfio_dev *dev);

__u64 queue_good(const struct vfio_dev *dev, unsigned int queue);
__u64 queue_failed(const struct vfio_dev *dev, unsigned int queue);

/* Fill the page at @iova once, or every @period us */
void queue_fill(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		__u64 pattern);
void queue_fill_repeat(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		       __u64 pattern, unsigned int period);
/* Read the page at @iova every @period us */
void queue_read_repeat(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		       unsigned int period);
/*
 * The same with bits of CTRL, such as PASID_TEST_CTRL_ATS: fill a page, or copy a
 * page to another one
 */
void queue_fill_loop(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		     __u64 pattern, unsigned int period, __u32 ctrl);
void queue_copy_loop(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 src,
		     __u64 dst, unsigned int period, __u32 ctrl);
void queue_stop(const struct vfio_dev *dev, unsigned int queue);
int queue_wait_done(const struct vfio_dev *dev, unsigned int queue);

/* Wait for @nr more transfers */
int queue_wait_good(const struct vfio_dev *dev, unsigned int queue, unsigned int nr);
int queue_wait_failed(const struct vfio_dev *dev, unsigned int queue, unsigned int nr);

/* What must not change while DMA is blocked */
struct still {
	__u64 good;
	__u64 failed;
	unsigned char page[PAGE];
};

void still_take(struct still *still, const struct vfio_dev *dev, unsigned int queue,
		const void *page);
/*
 * Wait until the queue has tried and failed @nr times more. -EIO: a transfer
 * succeeded. -EILSEQ: memory has changed. -ETIMEDOUT: the queue does not try.
 */
int still_check(const struct still *still, const struct vfio_dev *dev, unsigned int queue,
		const void *page, unsigned int nr);

#endif /* VFIO_UTIL_H */
