/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the ioasid selftests with DMA share: where DMA goes, what it writes, and
 * how many transfers show that DMA works, or that it is blocked.
 */
#ifndef DMA_TEST_UTIL_H
#define DMA_TEST_UTIL_H

#include "test_util.h"
#include "vfio_util.h"
#include "pasid-test.h"

/*
 * Each process has its own addresses: a translation that the IOTLB keeps by
 * mistake fails the test that is about it, and does not harm the next ones.
 */
#define IOVA		(0x100000000ULL + ((__u64)(getpid() & 0xfff) << 24))

#define QUEUE		0

#define PATTERN		0x1111000000000000ULL

/* Time between two transfers of a queue */
#define PERIOD_US	100

/* DMA that works does so many transfers, of blocked DMA so many are refused */
#define NR_TRANSFERS	50
#define NR_REFUSED	20

/*
 * Blocked DMA: from the call on no transfer succeeds and the page does not
 * change, however often the queue tries.
 */
static inline int stays_blocked(const struct vfio_dev *dev, unsigned int queue, const void *page)
{
	struct still still;

	still_take(&still, dev, queue, page);
	return still_check(&still, dev, queue, page, NR_REFUSED);
}

#define EXPECT_DMA(dev, queue)				\
	EXPECT_EQ(0, queue_wait_good(dev, queue, NR_TRANSFERS))
#define EXPECT_NO_DMA(dev, queue, page)			\
	EXPECT_EQ(0, stays_blocked(dev, queue, page))

#endif /* DMA_TEST_UTIL_H */
