/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Register layout of the pasid-test PCIe endpoint, which QEMU emulates. One
 * header for all who speak of the device: QEMU's model, the kselftests, the
 * boot-free test of QEMU and kernel drivers.
 *
 * BAR 0, 64 KiB, 32-bit and 64-bit accesses, naturally aligned: page 0 has the
 * device's registers, page 1 + n those of queue n, so that a queue can be
 * handed out by itself. A queue does DMA on its own account: requests carry
 * the PASID of the queue's PASID register if its VALID bit is set, none
 * otherwise.
 *
 * A transfer that the device may not start (bus master enable is clear, or the
 * queue is tagged and the PASID capability is not enabled, or has fewer bits
 * than the PASID) counts as failed. So does one whose descriptor makes no sense.
 *
 * A queue makes untranslated requests, unless CTRL_ATS is set and ATS is enabled
 * in the capability: then each page of a transfer is looked up in the device's
 * translation cache (ATC) first, by PASID, or none, and page. If it is not
 * there, or not with the permission needed, the device asks the IOMMU, and
 * caches what it gets. Memory is accessed at the address that is cached, without
 * the IOMMU. The cache has 64 pages for all queues, the oldest goes first. An
 * invalidation request drops what it covers before the IOMMU goes on. Disabling
 * ATS, a reset of the function and RESET empty it.
 *
 * A page that is refused makes the transfer fail, unless CTRL_PRI is set and PRI
 * is enabled: then the queue asks for the page, a group of its own, and waits
 * for the response. With CTRL_GROUP it asks twice, and only the second request
 * is the last of the group; the allocation counts groups. On "success" the
 * transfer starts over after PERIOD, however often it takes, on "invalid
 * request" and "response failure" it fails. After the latter the device asks
 * for no more pages until PRI has been reset. While as many queues wait as the
 * page request allocation allows, further ones try again after PERIOD. A queue
 * that is stopped forgets its request.
 */
#ifndef PASID_TEST_H
#define PASID_TEST_H

#define PASID_TEST_VENDOR_ID		0x1234
#define PASID_TEST_DEVICE_ID		0x11f0

#define PASID_TEST_BAR_SIZE		0x10000
#define PASID_TEST_QUEUE_SIZE		0x1000
#define PASID_TEST_NR_QUEUES		8
#define PASID_TEST_QUEUE(n)		(PASID_TEST_QUEUE_SIZE * (1 + (n)))

/* Device registers */
#define PASID_TEST_ID			0x00	/* 32 bits, read only */
#define  PASID_TEST_ID_VALUE		0x44495350
#define PASID_TEST_QUEUES		0x04	/* 32 bits, read only: how many */
#define PASID_TEST_RESET		0x08	/* write 1: as FLR does to queues and ATC */
#define PASID_TEST_CLOCK		0x10	/* 64 bits, read only: ns, the clock of *_TIME */
/*
 * Both 64 bits, read only, since the last reset. What is sent to an address
 * space (PASID, or none) that the device never had a translation of is not
 * counted, and an invalidation of all PASIDs is counted for each that it had.
 */
#define PASID_TEST_INVALIDATIONS	0x18	/* invalidation requests */
#define PASID_TEST_STRAY_RESPONSES	0x20	/* responses that no queue waits for */
/*
 * 32 bits, ms: for how long the next function-level reset goes on. Meanwhile the
 * configuration space asks for a retry. The reset clears it.
 */
#define PASID_TEST_FLR_TIME		0x28
#define  PASID_TEST_FLR_TIME_MAX	60000

/* Queue registers: offsets from PASID_TEST_QUEUE(n) */
#define PASID_TEST_Q_PASID		0x00	/* 32 bits, fixed while the queue is busy */
#define  PASID_TEST_PASID_MASK		0x000fffff
#define  PASID_TEST_PASID_VALID		0x80000000
#define PASID_TEST_Q_CTRL		0x04	/* 32 bits */
#define  PASID_TEST_CTRL_RUN		0x01	/* 1: start, clears DONE; 0: stop, synchronously */
#define  PASID_TEST_CTRL_REPEAT		0x02	/* do the descriptor until stopped */
#define  PASID_TEST_CTRL_IRQ		0x04	/* MSI when DONE gets set */
#define  PASID_TEST_CTRL_CLEAR		0x08	/* clear counters, times and STATUS; reads as 0 */
#define  PASID_TEST_CTRL_ATS		0x10	/* translated requests */
#define  PASID_TEST_CTRL_PRI		0x20	/* ask for pages that are refused */
#define  PASID_TEST_CTRL_GROUP		0x40	/* by groups of two requests */
#define PASID_TEST_Q_STATUS		0x08	/* 32 bits, write 1 to clear DONE and ERROR */
#define  PASID_TEST_STATUS_BUSY		0x01
#define  PASID_TEST_STATUS_DONE		0x02	/* the transfer ended, or was stopped */
#define  PASID_TEST_STATUS_ERROR	0x04	/* latched: a transfer has failed */
#define  PASID_TEST_STATUS_WAITING	0x08	/* for the response to a page request */
#define PASID_TEST_Q_VECTOR		0x0c	/* 32 bits: MSI vector, modulo what is enabled */

/* The descriptor, fixed while the queue is busy */
#define PASID_TEST_Q_SRC		0x10	/* 64 bits: address read by READ and COPY */
#define PASID_TEST_Q_DST		0x18	/* 64 bits: address written by FILL and COPY */
#define PASID_TEST_Q_PATTERN		0x20	/* 64 bits: what FILL writes */
#define PASID_TEST_Q_LEN		0x28	/* 32 bits: bytes, 8 to 4096, a multiple of 8 */
#define PASID_TEST_Q_DIR		0x2c	/* 32 bits */
/*
 * FILL writes PATTERN + the number of good transfers since the last CLEAR, as
 * little-endian 64-bit words, so that memory tells which transfer came last.
 */
#define  PASID_TEST_DIR_FILL		0
#define  PASID_TEST_DIR_READ		1	/* RESULT = XOR of all words read */
#define  PASID_TEST_DIR_COPY		2	/* RESULT likewise */
#define PASID_TEST_Q_PERIOD		0x30	/* 32 bits, us: 1 to 1000000, reset: 100 */

/* Results, 64 bits each, read only */
#define PASID_TEST_Q_GOOD		0x40	/* transfers that succeeded */
#define PASID_TEST_Q_FAILED		0x48	/* transfers that did not */
#define PASID_TEST_Q_LAST_GOOD_TIME	0x50	/* ns */
#define PASID_TEST_Q_FIRST_FAIL_TIME	0x58	/* ns, of the first since CLEAR */
#define PASID_TEST_Q_FIRST_FAIL_GOOD	0x60	/* GOOD at that moment */
#define PASID_TEST_Q_FIRST_FAIL_ADDR	0x68	/* the address that failed */
#define PASID_TEST_Q_RESULT		0x70
#define PASID_TEST_Q_ATC_HITS		0x78	/* pages accessed without asking the IOMMU */
#define PASID_TEST_Q_ATS_REQUESTS	0x80	/* translation requests */
#define PASID_TEST_Q_ATS_REFUSED	0x88	/* those that gave no permission */
#define PASID_TEST_Q_PRI_REQUESTS	0x90	/* page requests, and the responses to them */
#define PASID_TEST_Q_PRI_SUCCESS	0x98
#define PASID_TEST_Q_PRI_INVALID	0xa0
#define PASID_TEST_Q_PRI_FAILURE	0xa8

#endif /* PASID_TEST_H */
