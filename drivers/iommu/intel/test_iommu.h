/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For KUnit tests: devices with ATS, each behind an IOMMU of its own. Descriptors
 * are recorded instead of submitted. The registers are plain memory.
 */
#ifndef __INTEL_TEST_IOMMU_H
#define __INTEL_TEST_IOMMU_H

#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/pci.h>

#include "iommu.h"
#include "pasid.h"
#include "../iommu-priv.h"

#define TEST_DEVICES	2
#define TEST_DESCS	2304

struct test_machine {
	struct intel_iommu *iommu[TEST_DEVICES];
	struct device_domain_info info[TEST_DEVICES];
	struct dev_iommu dev_iommu[TEST_DEVICES];
	struct pci_dev pdev[TEST_DEVICES];
	struct pci_bus bus;
	struct pci_ops ops;

	/* All submissions, in the order in which they begin. Under @lock */
	spinlock_t lock;
	struct qi_desc descs[TEST_DESCS];
	struct intel_iommu *by[TEST_DESCS];
	unsigned int nr_descs;
	unsigned int nr_submissions;
	unsigned int nr_drains;		/* with QI_OPT_WAIT_DRAIN */
	bool locked;			/* iommu->lock was held */

	/* What the core has attached to the first device, above the first table */
	DECLARE_BITMAP(attached, 4 * PASID_TBL_ENTRIES);

	/* What happens at the next submission, once */
	void (*event)(struct kunit *test);
	int rc;				/* what it returns */
};

static inline int test_submit_sync(struct intel_iommu *iommu, struct qi_desc *desc,
				   unsigned int count, unsigned long options)
{
	struct kunit *test = kunit_get_current_test();
	struct test_machine *m = test->priv;
	void (*event)(struct kunit *test);
	unsigned long flags;
	unsigned int i;
	int rc;

	spin_lock_irqsave(&m->lock, flags);
	event = m->event;
	rc = m->rc;
	m->event = NULL;
	m->rc = 0;
	m->nr_submissions++;
	m->nr_drains += !!(options & QI_OPT_WAIT_DRAIN);
	for (i = 0; i < count && m->nr_descs < TEST_DESCS; i++) {
		m->by[m->nr_descs] = iommu;
		m->descs[m->nr_descs++] = desc[i];
	}
	spin_unlock_irqrestore(&m->lock, flags);

	/* No lock that other devices need may be held while hardware is waited for */
	if (spin_trylock(&iommu->lock))
		spin_unlock(&iommu->lock);
	else
		m->locked = true;

	if (event)
		event(test);
	return rc;
}

static inline void test_forget(struct test_machine *m)
{
	m->nr_descs = 0;
	m->nr_submissions = 0;
	m->nr_drains = 0;
}

static inline unsigned int test_type(struct test_machine *m, unsigned int i)
{
	return m->descs[i].qw0 & 0xf;
}

/* How many descriptors of the type were submitted */
static inline unsigned int test_count(struct test_machine *m, unsigned int type)
{
	unsigned int i, n = 0;

	for (i = 0; i < m->nr_descs; i++)
		n += test_type(m, i) == type;
	return n;
}

/* The entry, if there is a table for it */
static inline struct pasid_entry *test_entry(struct device *dev, u32 pasid)
{
	struct pasid_dir_entry *dir = intel_pasid_get_table(dev)->table;
	struct pasid_entry *entries;

	entries = get_pasid_table_from_pde(&dir[pasid >> PASID_PDE_SHIFT]);
	return entries ? &entries[pasid & PASID_PTE_MASK] : NULL;
}

static inline bool test_has_attached(struct device *dev, ioasid_t first, ioasid_t last)
{
	struct test_machine *m = kunit_get_current_test()->priv;

	return dev == &m->pdev[0].dev && last < 4 * PASID_TBL_ENTRIES &&
	       find_next_bit(m->attached, last + 1, first) <= last;
}

/* A config space that answers, so that the device counts as present */
static inline int test_config_read(struct pci_bus *bus, unsigned int devfn,
				   int where, int size, u32 *val)
{
	*val = 0x11f01234;
	return PCIBIOS_SUCCESSFUL;
}

static inline int test_machine_init(struct kunit *test)
{
	struct intel_iommu *iommu;
	struct test_machine *m;
	struct device *dev;
	unsigned int i;

	if (!intel_iommu_sm)
		kunit_skip(test, "needs intel_iommu=sm_on");

	m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m);

	spin_lock_init(&m->lock);
	m->ops.read = test_config_read;
	m->bus.ops = &m->ops;
	for (i = 0; i < TEST_DEVICES; i++) {
		iommu = kunit_kzalloc(test, sizeof(*iommu), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, iommu);
		m->iommu[i] = iommu;
		iommu->reg = (__force void __iomem *)
			kunit_kzalloc(test, VTD_PAGE_SIZE, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, (__force void *)iommu->reg);
		/* Scalable mode, both stages, PASID */
		iommu->ecap = BIT_ULL(43) | BIT_ULL(46) | BIT_ULL(47) | BIT_ULL(40);
		iommu->gcmd = DMA_GCMD_TE;
		iommu->flags = VTD_FLAG_SVM_CAPABLE;
		iommu->node = NUMA_NO_NODE;
		iommu->seq_id = i;
		iommu->max_domain_id = 256;
		iommu->flush.flush_iotlb = qi_flush_iotlb;
		iommu->iommu.ops = &intel_iommu_ops;
		intel_iommu_init_locks(iommu);
		ida_init(&iommu->domain_ida);
		init_waitqueue_head(&iommu->prq_wait);

		dev = &m->pdev[i].dev;
		dev->init_name = "test";
		dev->bus = &pci_bus_type;
		dev->iommu = &m->dev_iommu[i];
		m->pdev[i].bus = &m->bus;
		iommu->iommu.dev = dev;
		mutex_init(&m->dev_iommu[i].lock);
		m->dev_iommu[i].iommu_dev = &iommu->iommu;
		m->dev_iommu[i].priv = &m->info[i];
		m->info[i].dev = dev;
		m->info[i].iommu = iommu;
		m->info[i].devfn = i;
		m->info[i].pasid_enabled = 1;
		m->info[i].ats_enabled = 1;
		KUNIT_ASSERT_EQ(test, 0, intel_pasid_alloc_table(dev));
	}

	test->priv = m;
	kunit_activate_static_stub(test, qi_submit_sync, test_submit_sync);
	kunit_activate_static_stub(test, iommu_has_attached_pasid, test_has_attached);
	return 0;
}

static inline void test_machine_exit(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	for (i = 0; m && i < TEST_DEVICES; i++) {
		intel_pasid_free_table(&m->pdev[i].dev);
		ida_destroy(&m->iommu[i]->domain_ida);
	}
}

#endif
