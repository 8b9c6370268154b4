// SPDX-License-Identifier: GPL-2.0
/*
 * What the ioasid selftests with a device share, see vfio_util.h.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>

#include "vfio_util.h"
#include "pasid-test.h"

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define PCI_CONFIG_SIZE	4096

/* PCI */

void pci_path(char path[PCI_PATH_SIZE], const char *bdf, const char *file)
{
	snprintf(path, PCI_PATH_SIZE, PCI_DEVICES "/%s/%s", bdf, file);
}

int pci_remove(const char *bdf)
{
	char path[PCI_PATH_SIZE];

	pci_path(path, bdf, "remove");
	return write_file(path, "1");
}

/*
 * The kernel has forgotten the driver of a device that came back. The rescan may
 * probe the device at the same time: then bind waits for that probe, and finds
 * the device bound.
 */
int pci_bind_vfio(const char *bdf)
{
	char path[PCI_PATH_SIZE];
	int ret;

	pci_path(path, bdf, "driver_override");
	ret = write_file(path, "vfio-pci") ?:
	      write_file("/sys/bus/pci/drivers/vfio-pci/bind", bdf);
	if (ret != -EBUSY)
		return ret;
	pci_path(path, bdf, "vfio-dev");
	return access(path, F_OK) ? -errno : 0;
}

int pci_bring_back(const char *bdf)
{
	int ret = 0;

	if (!machine_has(bdf))
		ret = write_file("/sys/bus/pci/rescan", "1");
	return ret ?: pci_bind_vfio(bdf);
}

unsigned int pci_cap(int fd, __u64 config, __u8 id)
{
	__u8 pos, cap[2];
	int hops = 48;

	if (pread(fd, &pos, 1, config + PCI_CAPABILITY_LIST) != 1)
		return 0;
	while (pos && hops--) {
		if (pread(fd, cap, 2, config + pos) != 2)
			return 0;
		if (cap[0] == id)
			return pos;
		pos = cap[1];
	}
	return 0;
}

/* An extended capability's offset, or 0 */
static unsigned int pci_ext_cap(const unsigned char *config, size_t size, unsigned int id)
{
	unsigned int pos = PCI_CFG_SPACE_SIZE, hops = PCI_CONFIG_SIZE / 8;
	__u32 header;

	while (hops-- && pos >= PCI_CFG_SPACE_SIZE && pos + 8 <= size) {
		memcpy(&header, config + pos, sizeof(header));
		if (PCI_EXT_CAP_ID(header) == id)
			return pos;
		pos = PCI_EXT_CAP_NEXT(header);
	}
	return 0;
}

/*
 * A word of an extended capability, as the kernel has set it. -ENXIO: the device
 * does not have the capability.
 */
static int pci_ext_cap_word(const char *bdf, unsigned int id, unsigned int offset)
{
	unsigned char config[PCI_CONFIG_SIZE];
	unsigned int pos;
	char path[PCI_PATH_SIZE];
	__u16 word;
	ssize_t nr;
	int fd;

	pci_path(path, bdf, "config");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	nr = read(fd, config, sizeof(config));
	close(fd);
	if (nr < 0)
		return -EIO;
	pos = pci_ext_cap(config, nr, id);
	if (!pos)
		return -ENXIO;
	memcpy(&word, config + pos + offset, sizeof(word));
	return word;
}

/* The machine */

struct pci_dev {
	char bdf[BDF_SIZE];
	unsigned int peers;	/* pasid-test devices in its IOMMU group */
	unsigned int others;	/* other devices there */
	unsigned int bits;
};

static bool is_pasid_test(const char *bdf)
{
	char path[PCI_PATH_SIZE], vendor[16], device[16];

	pci_path(path, bdf, "vendor");
	if (read_file(path, vendor, sizeof(vendor)))
		return false;
	pci_path(path, bdf, "device");
	if (read_file(path, device, sizeof(device)))
		return false;
	return strtoul(vendor, NULL, 16) == PASID_TEST_VENDOR_ID &&
	       strtoul(device, NULL, 16) == PASID_TEST_DEVICE_ID;
}

int machine_pasid_bits(const char *bdf)
{
	int cap = pci_ext_cap_word(bdf, PCI_EXT_CAP_ID_PASID, PCI_PASID_CAP);

	if (cap == -ENXIO)
		return 0;
	/* Max PASID Width */
	return cap < 0 ? cap : (cap & 0x1f00) >> 8;
}

int machine_has_ats(const char *bdf)
{
	int ctrl = pci_ext_cap_word(bdf, PCI_EXT_CAP_ID_ATS, PCI_ATS_CTRL);

	if (ctrl == -ENXIO)
		return 0;
	return ctrl < 0 ? ctrl : !!(ctrl & PCI_ATS_CTRL_ENABLE);
}

int machine_has_pasid(const char *bdf)
{
	int ctrl = pci_ext_cap_word(bdf, PCI_EXT_CAP_ID_PASID, PCI_PASID_CTRL);

	if (ctrl == -ENXIO)
		return 0;
	return ctrl < 0 ? ctrl : !!(ctrl & PCI_PASID_CTRL_ENABLE);
}

bool machine_has(const char *bdf)
{
	char path[PCI_PATH_SIZE];

	pci_path(path, bdf, "vendor");
	return !access(path, F_OK);
}

static int pci_look_at(struct pci_dev *dev, const char *bdf)
{
	struct dirent *entry;
	char path[PCI_PATH_SIZE];
	DIR *dir;
	int ret;

	memset(dev, 0, sizeof(*dev));
	snprintf(dev->bdf, sizeof(dev->bdf), "%.15s", bdf);
	ret = machine_pasid_bits(bdf);
	if (ret < 0)
		return ret;
	dev->bits = ret;

	pci_path(path, bdf, "iommu_group/devices");
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, bdf))
			continue;
		if (is_pasid_test(entry->d_name))
			dev->peers++;
		else
			dev->others++;
	}
	closedir(dir);
	return 0;
}

static bool has_role(const struct pci_dev *dev, enum role role)
{
	bool alone = !dev->peers && !dev->others;

	switch (role) {
	case ROLE_PASID_A:
	case ROLE_PASID_B:
		return alone && dev->bits == 20;
	case ROLE_NARROW:
		return alone && dev->bits > 0 && dev->bits < 20;
	case ROLE_NO_PASID:
		return alone && !dev->bits;
	case ROLE_GROUP_A:
	case ROLE_GROUP_B:
		return dev->peers;
	}
	return false;
}

int machine_find(enum role role, char bdf[BDF_SIZE])
{
	/* How many devices with the same properties to skip */
	int before = role == ROLE_PASID_B || role == ROLE_GROUP_B;
	struct dirent **entries;
	struct pci_dev dev;
	int i, nr, ret = -ENODEV;

	/* Sorted, so that a role has the same device each time */
	nr = scandir(PCI_DEVICES, &entries, NULL, alphasort);
	if (nr < 0)
		return -errno;
	for (i = 0; i < nr; i++) {
		const char *name = entries[i]->d_name;

		if (ret && is_pasid_test(name) && !pci_look_at(&dev, name) &&
		    has_role(&dev, role) && !before--) {
			memcpy(bdf, dev.bdf, BDF_SIZE);
			ret = 0;
		}
		free(entries[i]);
	}
	free(entries);
	return ret;
}

/* VFIO */

int ioas_new(int iommufd, __u32 *ioas)
{
	struct iommu_ioas_alloc cmd = { .size = sizeof(cmd) };
	int ret;

	ret = do_ioctl(iommufd, IOMMU_IOAS_ALLOC, &cmd);
	*ioas = cmd.out_ioas_id;
	return ret;
}

int ioas_map(int iommufd, __u32 ioas, void *memory, __u64 iova, size_t size)
{
	struct iommu_ioas_map cmd = {
		.size = sizeof(cmd),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (unsigned long)memory,
		.iova = iova,
		.length = size,
	};

	return do_ioctl(iommufd, IOMMU_IOAS_MAP, &cmd);
}

int ioas_unmap(int iommufd, __u32 ioas, __u64 iova, size_t size)
{
	struct iommu_ioas_unmap cmd = {
		.size = sizeof(cmd),
		.ioas_id = ioas,
		.iova = iova,
		.length = size,
	};

	return do_ioctl(iommufd, IOMMU_IOAS_UNMAP, &cmd);
}

/* A device cannot have PASIDs with a page table without IOMMU_HWPT_ALLOC_PASID */
int hwpt_new(const struct vfio_dev *dev, __u32 ioas, __u32 *hwpt)
{
	struct iommu_hwpt_alloc cmd = {
		.size = sizeof(cmd),
		.flags = IOMMU_HWPT_ALLOC_PASID,
		.dev_id = dev->id,
		.pt_id = ioas,
	};
	int ret;

	ret = do_ioctl(dev->iommufd, IOMMU_HWPT_ALLOC, &cmd);
	*hwpt = cmd.out_hwpt_id;
	return ret;
}

int iommufd_destroy(int iommufd, __u32 id)
{
	struct iommu_destroy cmd = { .size = sizeof(cmd), .id = id };

	return do_ioctl(iommufd, IOMMU_DESTROY, &cmd);
}

int vfio_open_iommufd(struct vfio_dev *dev, const struct vfio_dev *shared)
{
	if (shared) {
		dev->iommufd = dup(shared->iommufd);
		dev->ioas = shared->ioas;
		dev->hwpt = shared->hwpt;
		return dev->iommufd < 0 ? -errno : 0;
	}
	dev->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (dev->iommufd < 0)
		return -errno;
	dev->hwpt = 0;
	return ioas_new(dev->iommufd, &dev->ioas);
}

static int region_offset(int device, unsigned int index, __u64 *offset)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };
	int ret;

	ret = do_ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	*offset = info.offset;
	return ret;
}

/* Let the device decode its BAR and do DMA */
static int pci_enable(int device)
{
	__u64 offset;
	__u16 command;
	int ret;

	ret = region_offset(device, VFIO_PCI_CONFIG_REGION_INDEX, &offset);
	if (ret)
		return ret;
	offset += PCI_COMMAND;
	if (pread(device, &command, sizeof(command), offset) != sizeof(command))
		return -EIO;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(device, &command, sizeof(command), offset) != sizeof(command))
		return -EIO;
	return 0;
}

int vfio_bind(struct vfio_dev *dev)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = dev->iommufd,
	};
	int ret;

	ret = do_ioctl(dev->device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
	if (ret)
		return ret;
	dev->id = bind.out_devid;
	ret = dev->hwpt ? 0 : hwpt_new(dev, dev->ioas, &dev->hwpt);
	return ret ?: pci_enable(dev->device);
}

int vfio_open_device(struct vfio_dev *dev)
{
	dev->device = vfio_open_cdev(dev->bdf);
	return dev->device < 0 ? dev->device : vfio_bind(dev);
}

int vfio_map_bar(struct vfio_dev *dev)
{
	__u64 offset;
	void *bar;
	int ret;

	ret = region_offset(dev->device, VFIO_PCI_BAR0_REGION_INDEX, &offset);
	if (ret)
		return ret;
	bar = mmap(NULL, PASID_TEST_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dev->device,
		   offset);
	if (bar == MAP_FAILED)
		return -errno;
	dev->bar = bar;
	return 0;
}

int vfio_open(struct vfio_dev *dev, enum role role, const struct vfio_dev *shared)
{
	*dev = (struct vfio_dev)VFIO_DEV_CLOSED;
	return machine_find(role, dev->bdf) ?: vfio_open_iommufd(dev, shared) ?:
	       vfio_open_device(dev) ?: vfio_map_bar(dev);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vfio_close_device(struct vfio_dev *dev)
{
	if (dev->bar)
		munmap(dev->bar, PASID_TEST_BAR_SIZE);
	dev->bar = NULL;
	close_fd(&dev->device);
}

void vfio_close(struct vfio_dev *dev)
{
	vfio_close_device(dev);
	close_fd(&dev->iommufd);
}

int vfio_map(const struct vfio_dev *dev, void *memory, __u64 iova, size_t size)
{
	return ioas_map(dev->iommufd, dev->ioas, memory, iova, size);
}

int vfio_unmap(const struct vfio_dev *dev, __u64 iova, size_t size)
{
	return ioas_unmap(dev->iommufd, dev->ioas, iova, size);
}

int vfio_reset(int device)
{
	return do_ioctl(device, VFIO_DEVICE_RESET, NULL);
}

/* Where PMCSR is in the device's file */
static int pmcsr_offset(int device, __u64 *offset)
{
	unsigned int pos;
	__u64 config;
	int ret;

	ret = region_offset(device, VFIO_PCI_CONFIG_REGION_INDEX, &config);
	if (ret)
		return ret;
	pos = pci_cap(device, config, PCI_CAP_ID_PM);
	*offset = config + pos + PCI_PM_CTRL;
	return pos ? 0 : -ENXIO;
}

int vfio_power_state(int device)
{
	__u64 offset;
	__u16 pmcsr;
	int ret;

	ret = pmcsr_offset(device, &offset);
	if (ret)
		return ret;
	if (pread(device, &pmcsr, sizeof(pmcsr), offset) != sizeof(pmcsr))
		return -EIO;
	return pmcsr & PCI_PM_CTRL_STATE_MASK;
}

int vfio_set_power_state(int device, int state)
{
	__u64 offset;
	__u16 pmcsr = state;
	int ret;

	ret = pmcsr_offset(device, &offset);
	if (ret)
		return ret;
	ret = pwrite(device, &pmcsr, sizeof(pmcsr), offset);
	if (ret < 0)
		return -errno;
	return ret == sizeof(pmcsr) ? 0 : -EIO;
}

int vfio_low_power(int device, bool enter)
{
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_SET |
			 (enter ? VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY :
				  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
	};

	return do_ioctl(device, VFIO_DEVICE_FEATURE, &feature);
}

bool machine_is_suspended(const char *bdf)
{
	char path[PCI_PATH_SIZE], status[16];

	pci_path(path, bdf, "power/runtime_status");
	return !read_file(path, status, sizeof(status)) && !strcmp(status, "suspended\n");
}

int vfio_open_cdev(const char *bdf)
{
	struct dirent *entry;
	char path[PCI_PATH_SIZE];
	DIR *dir;
	int fd = -ENODEV;

	pci_path(path, bdf, "vfio-dev");
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		/* vfio<n>, or noiommu-vfio<n> */
		if (!strstr(entry->d_name, "vfio"))
			continue;
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		break;
	}
	closedir(dir);
	return fd;
}

int vfio_open_group(const char *bdf)
{
	char path[PCI_PATH_SIZE], target[256], *name;
	ssize_t nr;
	int fd;

	pci_path(path, bdf, "iommu_group");
	nr = readlink(path, target, sizeof(target) - 1);
	if (nr < 0)
		return -errno;
	target[nr] = '\0';
	name = strrchr(target, '/');
	if (!name)
		return -EPROTO;
	snprintf(path, sizeof(path), "/dev/vfio%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int vfio_attach_pt(int device, __u32 flags, __u32 pasid, __u32 pt, int ioasid_fd, __u32 id)
{
	struct vfio_device_attach_iommufd_pt cmd = {
		.argsz = sizeof(cmd),
		.flags = flags,
		.pt_id = pt,
		.ioasid_fd = ioasid_fd,
		.ioasid = id,
	};

	if (pasid != NO_PASID) {
		cmd.flags |= VFIO_DEVICE_ATTACH_PASID;
		cmd.pasid = pasid;
	}
	return do_ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd);
}

int vfio_detach_pt(int device, __u32 pasid)
{
	struct vfio_device_detach_iommufd_pt cmd = { .argsz = sizeof(cmd) };

	if (pasid != NO_PASID) {
		cmd.flags |= VFIO_DEVICE_DETACH_PASID;
		cmd.pasid = pasid;
	}
	return do_ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd);
}

int vfio_attach(const struct vfio_dev *dev, int ioasid_fd, __u32 id, __u32 flags)
{
	return vfio_attach_pt(dev->device, VFIO_DEVICE_ATTACH_IOASID, pasid_of(flags, id),
			      dev->hwpt, ioasid_fd, id);
}

int vfio_detach(const struct vfio_dev *dev, __u32 id, __u32 flags)
{
	return vfio_detach_pt(dev->device, pasid_of(flags, id));
}

int vfio_attach_no_ioasid(const struct vfio_dev *dev)
{
	return vfio_attach_pt(dev->device, 0, NO_PASID, dev->hwpt, -1, 0);
}

void *page_new(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? NULL : page;
}

__u64 word_of(const void *page)
{
	return __atomic_load_n((const __u64 *)page, __ATOMIC_SEQ_CST);
}

bool is_filled(const void *page, __u64 pattern)
{
	return (word_of(page) & PATTERN_MASK) == pattern;
}

/* Queues */

__u32 pasid_of(__u32 flags, __u32 id)
{
	return flags & FLAG_NO_PASID ? NO_PASID : id;
}

static void *queue_reg(const struct vfio_dev *dev, unsigned int queue, unsigned int reg)
{
	return (char *)dev->bar + PASID_TEST_QUEUE(queue) + reg;
}

__u32 queue_read32(const struct vfio_dev *dev, unsigned int queue, unsigned int reg)
{
	return __atomic_load_n((__u32 *)queue_reg(dev, queue, reg), __ATOMIC_SEQ_CST);
}

void queue_write32(const struct vfio_dev *dev, unsigned int queue, unsigned int reg, __u32 value)
{
	/* Not SEQ_CST: that is an exchange, which accesses the register twice */
	__atomic_store_n((__u32 *)queue_reg(dev, queue, reg), value, __ATOMIC_RELEASE);
}

__u64 queue_read64(const struct vfio_dev *dev, unsigned int queue, unsigned int reg)
{
	return __atomic_load_n((__u64 *)queue_reg(dev, queue, reg), __ATOMIC_SEQ_CST);
}

void queue_write64(const struct vfio_dev *dev, unsigned int queue, unsigned int reg, __u64 value)
{
	__atomic_store_n((__u64 *)queue_reg(dev, queue, reg), value, __ATOMIC_RELEASE);
}

__u64 device_clock(const struct vfio_dev *dev)
{
	return __atomic_load_n((__u64 *)((char *)dev->bar + PASID_TEST_CLOCK), __ATOMIC_SEQ_CST);
}

__u64 queue_good(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read64(dev, queue, PASID_TEST_Q_GOOD);
}

__u64 queue_failed(const struct vfio_dev *dev, unsigned int queue)
{
	return queue_read64(dev, queue, PASID_TEST_Q_FAILED);
}

/* Stop the queue and describe a transfer of a page, for queue_run() */
static void queue_set_up(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u32 dir,
			 __u64 iova)
{
	queue_stop(dev, queue);
	queue_write32(dev, queue, PASID_TEST_Q_CTRL, PASID_TEST_CTRL_CLEAR);
	queue_write32(dev, queue, PASID_TEST_Q_PASID,
		      pasid == NO_PASID ? 0 : pasid | PASID_TEST_PASID_VALID);
	queue_write64(dev, queue,
		      dir == PASID_TEST_DIR_READ ? PASID_TEST_Q_SRC : PASID_TEST_Q_DST, iova);
	queue_write32(dev, queue, PASID_TEST_Q_LEN, PAGE);
	queue_write32(dev, queue, PASID_TEST_Q_DIR, dir);
}

static void queue_run(const struct vfio_dev *dev, unsigned int queue, __u32 ctrl)
{
	queue_write32(dev, queue, PASID_TEST_Q_CTRL, ctrl | PASID_TEST_CTRL_RUN);
}

void queue_fill(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		__u64 pattern)
{
	queue_set_up(dev, queue, pasid, PASID_TEST_DIR_FILL, iova);
	queue_write64(dev, queue, PASID_TEST_Q_PATTERN, pattern);
	queue_run(dev, queue, 0);
}

void queue_fill_loop(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		     __u64 pattern, unsigned int period, __u32 ctrl)
{
	queue_set_up(dev, queue, pasid, PASID_TEST_DIR_FILL, iova);
	queue_write64(dev, queue, PASID_TEST_Q_PATTERN, pattern);
	queue_write32(dev, queue, PASID_TEST_Q_PERIOD, period);
	queue_run(dev, queue, PASID_TEST_CTRL_REPEAT | ctrl);
}

void queue_fill_repeat(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		       __u64 pattern, unsigned int period)
{
	queue_fill_loop(dev, queue, pasid, iova, pattern, period, 0);
}

void queue_copy_loop(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 src,
		     __u64 dst, unsigned int period, __u32 ctrl)
{
	queue_set_up(dev, queue, pasid, PASID_TEST_DIR_COPY, dst);
	queue_write64(dev, queue, PASID_TEST_Q_SRC, src);
	queue_write32(dev, queue, PASID_TEST_Q_PERIOD, period);
	queue_run(dev, queue, PASID_TEST_CTRL_REPEAT | ctrl);
}

void queue_read_repeat(const struct vfio_dev *dev, unsigned int queue, __u32 pasid, __u64 iova,
		       unsigned int period)
{
	queue_set_up(dev, queue, pasid, PASID_TEST_DIR_READ, iova);
	queue_write32(dev, queue, PASID_TEST_Q_PERIOD, period);
	queue_run(dev, queue, PASID_TEST_CTRL_REPEAT);
}

void queue_stop(const struct vfio_dev *dev, unsigned int queue)
{
	queue_write32(dev, queue, PASID_TEST_Q_CTRL, 0);
}

int queue_wait_done(const struct vfio_dev *dev, unsigned int queue)
{
	return wait_for(queue_read32(dev, queue, PASID_TEST_Q_STATUS) & PASID_TEST_STATUS_DONE) ?
	       0 : -ETIMEDOUT;
}

int queue_wait_good(const struct vfio_dev *dev, unsigned int queue, unsigned int nr)
{
	__u64 good = queue_good(dev, queue), failed = queue_failed(dev, queue);

	if (!wait_for(queue_good(dev, queue) >= good + nr || queue_failed(dev, queue) != failed))
		return -ETIMEDOUT;
	return queue_failed(dev, queue) == failed ? 0 : -EIO;
}

int queue_wait_failed(const struct vfio_dev *dev, unsigned int queue, unsigned int nr)
{
	__u64 failed = queue_failed(dev, queue);

	return wait_for(queue_failed(dev, queue) >= failed + nr) ? 0 : -ETIMEDOUT;
}

void still_take(struct still *still, const struct vfio_dev *dev, unsigned int queue,
		const void *page)
{
	still->good = queue_good(dev, queue);
	still->failed = queue_failed(dev, queue);
	/* The compiler does not know that the device writes to the page */
	__sync_synchronize();
	memcpy(still->page, page, PAGE);
}

int still_check(const struct still *still, const struct vfio_dev *dev, unsigned int queue,
		const void *page, unsigned int nr)
{
	bool failed = wait_for(queue_failed(dev, queue) >= still->failed + nr ||
			       queue_good(dev, queue) != still->good);

	if (queue_good(dev, queue) != still->good)
		return -EIO;
	__sync_synchronize();
	if (memcmp(still->page, page, PAGE))
		return -EILSEQ;
	return failed ? 0 : -ETIMEDOUT;
}
