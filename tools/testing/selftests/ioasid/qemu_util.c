// SPDX-License-Identifier: GPL-2.0
/*
 * Hot-plug in the emulated machine, see qemu_util.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/serial.h>

#include "qemu_util.h"

#define MONITOR		"/dev/ttyS2"
#define SLOT		"/sys/bus/pci/slots/6"
#define PORT		"0000:00:06.0"
/*
 * Before the serial port was made raw, it may have sent the monitor's greeting
 * back to the monitor: end that line.
 */
#define PLUG		"\ndevice_add pasid-test,bus=rp6,addr=0.0,id=plugged\n"
#define UNPLUG		"\ndevice_del plugged\n"

/* Polled: the console has the interrupt */
static int monitor_open(void)
{
	struct serial_struct serial;
	struct termios raw;
	int fd, i;

	/* A file keeps the interrupt that its open found: open the port again */
	for (i = 0; i < 2; i++) {
		fd = open(MONITOR, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (ioctl(fd, TIOCGSERIAL, &serial))
			break;
		if (!serial.irq)
			break;
		serial.irq = 0;
		ioctl(fd, TIOCSSERIAL, &serial);
		close(fd);
	}
	if (tcgetattr(fd, &raw)) {
		close(fd);
		return -EIO;
	}
	/* The answers of the monitor must not be sent back to it */
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
	return fd;
}

static int monitor_send(const char *command)
{
	ssize_t nr;
	int fd;

	fd = monitor_open();
	if (fd < 0)
		return fd;
	nr = write(fd, command, strlen(command));
	tcdrain(fd);
	close(fd);
	return nr == (ssize_t)strlen(command) ? 0 : -EIO;
}

int slot_bdf(char bdf[BDF_SIZE])
{
	char address[BDF_SIZE];
	int ret;

	ret = read_file(SLOT "/address", address, sizeof(address));
	if (ret)
		return ret;
	snprintf(bdf, BDF_SIZE, "%.10s.0", address);
	return 0;
}

int slot_plug(const char *bdf)
{
	int ret = monitor_send(PLUG);

	if (ret)
		return ret;
	return wait_for(machine_has(bdf) && !pci_bind_vfio(bdf)) ? 0 : -ETIMEDOUT;
}

int slot_unplug(void)
{
	return monitor_send(UNPLUG);
}

#define POWERED_OFF	(PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF)

/* Slot Control of the port, and where it is in the port's configuration space */
static int port_open(__u16 *ctrl, unsigned int *pos)
{
	char path[PCI_PATH_SIZE];
	int fd;

	pci_path(path, PORT, "config");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*pos = pci_cap(fd, 0, PCI_CAP_ID_EXP) + PCI_EXP_SLTCTL;
	if (*pos == PCI_EXP_SLTCTL || pread(fd, ctrl, 2, *pos) != 2) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/*
 * QEMU has no command for that, but a slot without power loses its device. The
 * kernel must not know that the power was off.
 */
int slot_tear_out(void)
{
	unsigned int pos;
	__u16 on, off;
	int fd, ret = -EIO;

	fd = port_open(&on, &pos);
	if (fd < 0)
		return fd;
	off = (on & ~(PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_HPIE)) | POWERED_OFF;
	if (pwrite(fd, &off, 2, pos) == 2 && pwrite(fd, &on, 2, pos) == 2)
		ret = 0;
	close(fd);
	return ret;
}

bool slot_is_empty(const char *bdf)
{
	unsigned int pos;
	__u16 ctrl;
	int fd;

	if (machine_has(bdf))
		return false;
	fd = port_open(&ctrl, &pos);
	if (fd < 0)
		return false;
	close(fd);
	return (ctrl & (PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PIC)) == POWERED_OFF;
}
