// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of what an unmap costs: the invalidations that are submitted for it,
 * and how often the CPU waits for them, with many PASIDs attached to the domain.
 */
#include <linux/bitmap.h>
#include <linux/irq_work.h>
#include <linux/pci-ats.h>

#include "test_iommu.h"

/* The most PASIDs that are attached to a domain, 1 being the first */
#define MANY		1024
#define IOVA		0x1000UL
#define ALL_IOVA	GENMASK_ULL(62, VTD_PAGE_SHIFT)

static const unsigned int counts[] = { 1, CACHE_TAG_MAX_PASIDS, CACHE_TAG_MAX_PASIDS + 1,
				       32, 256, MANY };

static struct dmar_domain *add_domain(struct kunit *test,
				      const struct iommu_domain_ops *ops)
{
	struct test_machine *m = test->priv;
	struct dmar_domain *domain;
	unsigned int i;

	domain = kunit_kzalloc(test, sizeof(*domain), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	domain->domain.type = IOMMU_DOMAIN_UNMANAGED;
	domain->domain.ops = ops;
	domain->cache_tags = RB_ROOT;
	spin_lock_init(&domain->cache_lock);
	xa_init(&domain->iommu_array);
	for (i = 0; i < TEST_DEVICES; i++) {
		/* Queued invalidation */
		m->iommu[i]->ecap |= BIT_ULL(1);
		KUNIT_ASSERT_EQ(test, 0, domain_attach_iommu(domain, m->iommu[i]));
	}
	return domain;
}

static struct dmar_domain *add_nested(struct kunit *test, struct dmar_domain *parent)
{
	struct dmar_domain *domain = add_domain(test, NULL);

	domain->domain.type = IOMMU_DOMAIN_NESTED;
	domain->s2_domain = parent;
	return domain;
}

static void remove_domain(struct kunit *test, struct dmar_domain *domain)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&domain->cache_tags));
	for (i = 0; i < TEST_DEVICES; i++)
		domain_detach_iommu(domain, m->iommu[i]);
	kfree(domain->qi_batch);
}

/* Assign tags to PASIDs from @first to @last of a device */
static void tag(struct kunit *test, struct dmar_domain *domain, unsigned int device,
		u32 first, u32 last)
{
	struct test_machine *m = test->priv;
	u32 pasid;

	for (pasid = first; pasid <= last; pasid++)
		KUNIT_ASSERT_EQ(test, 0, cache_tag_assign_domain(domain, &m->pdev[device].dev,
								 pasid));
}

static void untag(struct kunit *test, struct dmar_domain *domain, unsigned int device,
		  u32 first, u32 last)
{
	struct test_machine *m = test->priv;
	u32 pasid;

	for (pasid = first; pasid <= last; pasid++)
		cache_tag_unassign_domain(domain, &m->pdev[device].dev, pasid);
}

static void unmap(struct kunit *test, struct dmar_domain *domain)
{
	test_forget(test->priv);
	cache_tag_flush_range(domain, IOVA, IOVA + VTD_PAGE_SIZE - 1, 0);
}

static bool is_global(const struct qi_desc *desc)
{
	return desc->qw1 & QI_DEV_EIOTLB_GLOBAL;
}

/* Each PASID from @first to @last is named by one descriptor of @type, no other is */
static void expect_each_pasid(struct kunit *test, unsigned int type, u32 first, u32 last)
{
	unsigned long *seen = kunit_kzalloc(test, BITS_TO_LONGS(MANY + 1) * sizeof(long),
					    GFP_KERNEL);
	struct test_machine *m = test->priv;
	unsigned int i;
	u32 pasid;

	KUNIT_ASSERT_NOT_NULL(test, seen);
	for (i = 0; i < m->nr_descs; i++) {
		if (test_type(m, i) != type)
			continue;
		pasid = m->descs[i].qw0 >> 32 & GENMASK(19, 0);
		KUNIT_ASSERT_LE(test, pasid, MANY);
		KUNIT_EXPECT_FALSE(test, __test_and_set_bit(pasid, seen));
		if (type == QI_DEIOTLB_TYPE)
			KUNIT_EXPECT_FALSE(test, is_global(&m->descs[i]));
	}
	KUNIT_EXPECT_EQ(test, first, find_first_bit(seen, MANY + 1));
	KUNIT_EXPECT_EQ(test, last - first + 1, bitmap_weight(seen, MANY + 1));
	KUNIT_EXPECT_EQ(test, last, find_last_bit(seen, MANY + 1));
}

/* The device TLB is invalidated for all PASIDs at once, by the last descriptor */
static void expect_global(struct kunit *test, u64 addr)
{
	struct test_machine *m = test->priv;
	struct qi_desc *last;

	KUNIT_ASSERT_GT(test, m->nr_descs, 0);
	last = &m->descs[m->nr_descs - 1];
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_DEIOTLB_TYPE));
	KUNIT_EXPECT_EQ(test, QI_DEIOTLB_TYPE, test_type(m, m->nr_descs - 1));
	KUNIT_EXPECT_TRUE(test, is_global(last));
	KUNIT_EXPECT_EQ(test, addr, last->qw1 & VTD_PAGE_MASK);
}

static void second_stage_iotlb_is_invalidated_once(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;
	unsigned int i;

	m->info[0].ats_enabled = 0;
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		tag(test, domain, 0, 1, counts[i]);
		unmap(test, domain);
		KUNIT_EXPECT_EQ(test, 1, m->nr_descs);
		KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_IOTLB_TYPE));
		KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
		untag(test, domain, 0, 1, counts[i]);
	}
	remove_domain(test, domain);
}

static void second_stage_unmap_waits_once_with_global_invalidate(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;
	unsigned int i;

	m->info[0].ats_global_inv = 1;
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		tag(test, domain, 0, 1, counts[i]);
		unmap(test, domain);
		KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
		KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_IOTLB_TYPE));
		KUNIT_EXPECT_EQ(test, QI_IOTLB_TYPE, test_type(m, 0));
		/* Few PASIDs do not cost the other PASIDs their translations */
		if (counts[i] <= CACHE_TAG_MAX_PASIDS) {
			expect_each_pasid(test, QI_DEIOTLB_TYPE, 1, counts[i]);
		} else {
			KUNIT_EXPECT_EQ(test, 2, m->nr_descs);
			expect_global(test, IOVA);
		}
		untag(test, domain, 0, 1, counts[i]);
	}
	remove_domain(test, domain);
}

/* A device that ignores the Global bit would keep its translations */
static void each_pasid_is_invalidated_without_global_invalidate(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		n = counts[i];
		tag(test, domain, 0, 1, n);
		unmap(test, domain);
		KUNIT_EXPECT_EQ(test, n + 1, m->nr_descs);
		KUNIT_EXPECT_EQ(test, DIV_ROUND_UP(n + 1, QI_MAX_BATCHED_DESC_COUNT),
				m->nr_submissions);
		KUNIT_EXPECT_EQ(test, QI_IOTLB_TYPE, test_type(m, 0));
		expect_each_pasid(test, QI_DEIOTLB_TYPE, 1, n);
		untag(test, domain, 0, 1, n);
	}
	remove_domain(test, domain);
}

static void first_stage_iotlb_is_invalidated_by_pasid_or_by_domain(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_fs_paging_domain_ops);
	struct test_machine *m = test->priv;
	unsigned int i, n;

	m->info[0].ats_global_inv = 1;
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		n = counts[i];
		tag(test, domain, 0, 1, n);
		unmap(test, domain);
		if (n <= CACHE_TAG_MAX_PASIDS) {
			expect_each_pasid(test, QI_EIOTLB_TYPE, 1, n);
		} else {
			KUNIT_EXPECT_EQ(test, 2, m->nr_descs);
			KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
			KUNIT_EXPECT_EQ(test, QI_IOTLB_TYPE, test_type(m, 0));
			KUNIT_EXPECT_EQ(test, m->descs[0].qw0 & (3 << 4),
					QI_IOTLB_GRAN(DMA_TLB_DSI_FLUSH));
			expect_global(test, IOVA);
		}
		untag(test, domain, 0, 1, n);
	}
	remove_domain(test, domain);
}

/* Whatever is in the batch with it is flushed again */
static void rejected_global_invalidation_is_done_without(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;

	m->info[0].ats_global_inv = 1;
	tag(test, domain, 0, 1, 32);
	m->rc = -EINVAL;
	unmap(test, domain);
	KUNIT_EXPECT_TRUE(test, m->iommu[0]->no_global_devtlb);
	KUNIT_EXPECT_EQ(test, 1 + DIV_ROUND_UP(33, QI_MAX_BATCHED_DESC_COUNT),
			m->nr_submissions);
	KUNIT_EXPECT_EQ(test, 2 + 33, m->nr_descs);
	unmap(test, domain);
	expect_each_pasid(test, QI_DEIOTLB_TYPE, 1, 32);
	untag(test, domain, 0, 1, 32);
	remove_domain(test, domain);
}

/* It would be refilled from translations that the IOTLB still has */
static void device_tlb_is_invalidated_behind_all_of_the_iotlb(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_fs_paging_domain_ops);
	struct test_machine *m = test->priv;
	bool device = false;
	unsigned int i;

	tag(test, domain, 0, 32, 63);
	tag(test, domain, 0, 0, 31);
	unmap(test, domain);
	for (i = 0; i < m->nr_descs; i++) {
		device |= test_type(m, i) == QI_DEIOTLB_TYPE || test_type(m, i) == QI_DIOTLB_TYPE;
		KUNIT_EXPECT_FALSE(test, device && test_type(m, i) == QI_EIOTLB_TYPE);
	}
	KUNIT_EXPECT_TRUE(test, device);
	untag(test, domain, 0, 0, 63);
	remove_domain(test, domain);
}

static void dma_without_pasid_has_its_own_invalidation(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;

	m->info[0].ats_global_inv = 1;
	tag(test, domain, 0, IOMMU_NO_PASID, MANY);
	unmap(test, domain);
	KUNIT_EXPECT_EQ(test, 3, m->nr_descs);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_DIOTLB_TYPE));
	KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
	expect_global(test, IOVA);
	untag(test, domain, 0, IOMMU_NO_PASID, MANY);
	remove_domain(test, domain);
}

static void quirk_doubles_the_global_invalidation(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;

	m->info[0].ats_global_inv = 1;
	m->info[0].dtlb_extra_inval = 1;
	tag(test, domain, 0, 1, MANY);
	unmap(test, domain);
	KUNIT_EXPECT_EQ(test, 3, m->nr_descs);
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_DEIOTLB_TYPE));
	KUNIT_EXPECT_TRUE(test, is_global(&m->descs[1]));
	KUNIT_EXPECT_TRUE(test, is_global(&m->descs[2]));
	untag(test, domain, 0, 1, MANY);
	remove_domain(test, domain);
}

/* A fence and the quirk let the last tag of a batch take three descriptors */
static void batch_holds_all_descriptors_of_its_last_tag(struct kunit *test)
{
	const u32 last = QI_MAX_BATCHED_DESC_COUNT - 1;
	struct dmar_domain *domain = add_domain(test, NULL);
	unsigned int type = domain->domain.type;
	struct test_machine *m = test->priv;

	/* Of SVA, as its domains share an ID, and are never invalidated by it */
	domain->domain.type = IOMMU_DOMAIN_SVA;
	/* Only the DMA without PASID uses ATS */
	m->info[0].ats_enabled = 0;
	tag(test, domain, 0, 1, last - 1);
	m->info[0].ats_enabled = 1;
	m->info[0].dtlb_extra_inval = 1;
	tag(test, domain, 0, IOMMU_NO_PASID, IOMMU_NO_PASID);
	unmap(test, domain);
	KUNIT_EXPECT_EQ(test, last + 3, m->nr_descs);
	KUNIT_EXPECT_EQ(test, QI_IWD_TYPE, test_type(m, last));
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_DIOTLB_TYPE));
	KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
	untag(test, domain, 0, IOMMU_NO_PASID, IOMMU_NO_PASID);
	m->info[0].ats_enabled = 0;
	untag(test, domain, 0, 1, last - 1);
	domain->domain.type = type;
	remove_domain(test, domain);
}

/* Attachments of two devices in turn: each IOMMU has one batch */
static void two_iommus_are_waited_for_once_each(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;
	unsigned int i;
	u32 pasid;

	for (i = 0; i < TEST_DEVICES; i++)
		m->info[i].ats_global_inv = 1;
	for (pasid = 1; pasid <= 256; pasid++)
		tag(test, domain, pasid % 2, pasid, pasid);
	unmap(test, domain);
	KUNIT_EXPECT_EQ(test, 2, m->nr_submissions);
	KUNIT_ASSERT_EQ(test, 4, m->nr_descs);
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_IOTLB_TYPE));
	KUNIT_EXPECT_PTR_EQ(test, m->by[0], m->by[1]);
	KUNIT_EXPECT_PTR_EQ(test, m->by[2], m->by[3]);
	KUNIT_EXPECT_PTR_NE(test, m->by[0], m->by[2]);
	for (i = 1; i < 4; i += 2) {
		unsigned int devfn = m->descs[i].qw0 >> 16 & 0xff;

		KUNIT_EXPECT_TRUE(test, is_global(&m->descs[i]));
		KUNIT_ASSERT_LT(test, devfn, TEST_DEVICES);
		KUNIT_EXPECT_PTR_EQ(test, m->iommu[devfn], m->by[i]);
	}
	for (pasid = 1; pasid <= 256; pasid++)
		untag(test, domain, pasid % 2, pasid, pasid);
	remove_domain(test, domain);
}

/* PASIDs of other domains and of other devices do not count, nor do nested ones */
static void global_invalidation_depends_on_the_domain(struct kunit *test)
{
	struct dmar_domain *few = add_domain(test, &intel_ss_paging_domain_ops);
	struct dmar_domain *many = add_domain(test, &intel_ss_paging_domain_ops);
	struct dmar_domain *nested = add_nested(test, few);
	const u32 max = CACHE_TAG_MAX_PASIDS;
	struct test_machine *m = test->priv;

	/* Both devices are behind one IOMMU, next to each other in the tree */
	m->info[1].iommu = m->iommu[0];
	m->info[0].ats_global_inv = 1;
	m->info[1].ats_global_inv = 1;
	tag(test, few, 0, 1, max);
	tag(test, many, 0, max + 3, MANY);
	unmap(test, few);
	expect_each_pasid(test, QI_DEIOTLB_TYPE, 1, max);
	tag(test, nested, 0, max + 1, max + 1);
	unmap(test, few);
	expect_each_pasid(test, QI_DEIOTLB_TYPE, 1, max + 1);
	untag(test, nested, 0, max + 1, max + 1);
	tag(test, few, 1, max + 1, max + 2);
	unmap(test, few);
	expect_each_pasid(test, QI_DEIOTLB_TYPE, 1, max + 2);

	untag(test, few, 1, max + 1, max + 2);
	untag(test, many, 0, max + 3, MANY);
	untag(test, few, 0, 1, max);
	remove_domain(test, nested);
	remove_domain(test, few);
	remove_domain(test, many);
}

static void iotlb_is_invalidated_until_the_last_detach(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;

	tag(test, domain, 0, 1, 32);
	/* A replacement may assign a tag twice */
	tag(test, domain, 0, 32, 32);
	untag(test, domain, 0, 1, 31);
	untag(test, domain, 0, 32, 32);
	unmap(test, domain);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_IOTLB_TYPE));
	expect_each_pasid(test, QI_DEIOTLB_TYPE, 32, 32);

	untag(test, domain, 0, 32, 32);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&domain->cache_tags));
	unmap(test, domain);
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);
	remove_domain(test, domain);
}

/* A parent's IOTLB entries have the domain ID of the nested domain */
static void parent_is_invalidated_once_per_nested_domain(struct kunit *test)
{
	struct dmar_domain *parent = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;
	struct dmar_domain *nested[2];
	unsigned int i;

	m->info[0].ats_global_inv = 1;
	for (i = 0; i < 2; i++) {
		nested[i] = add_nested(test, parent);
		tag(test, nested[i], 0, 1 + i * 64, 64 + i * 64);
	}
	unmap(test, parent);
	KUNIT_ASSERT_EQ(test, 3, m->nr_descs);
	KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, QI_IOTLB_TYPE, test_type(m, i));
		KUNIT_EXPECT_EQ(test, domain_id_iommu(nested[i], m->iommu[0]),
				m->descs[i].qw0 >> 16 & 0xffff);
	}
	/* All addresses: those that the device uses are not the parent's */
	expect_global(test, ALL_IOVA);

	untag(test, nested[0], 0, 1, 64);
	unmap(test, parent);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_IOTLB_TYPE));
	untag(test, nested[1], 0, 65, 128);
	for (i = 0; i < 2; i++)
		remove_domain(test, nested[i]);
	remove_domain(test, parent);
}

static void map_invalidates_once_in_caching_mode(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;

	m->iommu[0]->cap |= BIT_ULL(7);
	tag(test, domain, 0, 1, MANY);
	test_forget(m);
	cache_tag_flush_range_np(domain, IOVA, IOVA + VTD_PAGE_SIZE - 1);
	KUNIT_EXPECT_EQ(test, 1, m->nr_descs);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_IOTLB_TYPE));
	KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
	untag(test, domain, 0, 1, MANY);
	remove_domain(test, domain);
}

/* --- An interrupt, which is pending while the first batch is executed */

static struct {
	struct irq_work work;
	struct kunit *test;
	struct dmar_domain *domain;
	unsigned int batches;	/* how many were submitted when it came */
	u32 first, last;	/* the PASIDs that it detaches */
} irq;

static void irq_handler(struct irq_work *work)
{
	struct test_machine *m = irq.test->priv;

	irq.batches = m->nr_submissions;
	if (irq.first)
		untag(irq.test, irq.domain, 0, irq.first, irq.last);
}

static void raise_irq(struct kunit *test)
{
	irq_work_queue(&irq.work);
}

static void unmap_with_irq(struct kunit *test, struct dmar_domain *domain, u32 first,
			   u32 last)
{
	struct test_machine *m = test->priv;

	irq.work = IRQ_WORK_INIT(irq_handler);
	irq.test = test;
	irq.domain = domain;
	irq.batches = 0;
	irq.first = first;
	irq.last = last;
	test_forget(m);
	m->event = raise_irq;
	cache_tag_flush_range(domain, IOVA, IOVA + VTD_PAGE_SIZE - 1, 0);
	irq_work_sync(&irq.work);
}

static void interrupts_come_between_batches(struct kunit *test)
{
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;

	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		kunit_skip(test, "cache_lock does not disable interrupts");
	tag(test, domain, 0, 1, 256);
	unmap_with_irq(test, domain, 0, 0);
	KUNIT_EXPECT_EQ(test, 1, irq.batches);
	KUNIT_EXPECT_EQ(test, 17, m->nr_submissions);
	untag(test, domain, 0, 1, 256);
	remove_domain(test, domain);
}

/* The last tag that was flushed, and those that would come next, go away */
static void unmap_survives_a_detach_between_batches(struct kunit *test)
{
	/* The IOTLB takes one descriptor of the first batch */
	const u32 last = QI_MAX_BATCHED_DESC_COUNT - 1;
	struct dmar_domain *domain = add_domain(test, &intel_ss_paging_domain_ops);
	struct test_machine *m = test->priv;
	unsigned int i;
	u32 pasid;

	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		kunit_skip(test, "cache_lock does not disable interrupts");
	tag(test, domain, 0, 1, 256);
	unmap_with_irq(test, domain, last, last + 2);
	KUNIT_EXPECT_EQ(test, 1, irq.batches);
	/* One IOTLB invalidation, and all PASIDs but the two that come next */
	KUNIT_ASSERT_EQ(test, 1 + 256 - 2, m->nr_descs);
	for (i = 1; i < m->nr_descs; i++) {
		pasid = m->descs[i].qw0 >> 32 & GENMASK(19, 0);
		KUNIT_EXPECT_EQ(test, i <= last ? i : i + 2, pasid);
	}
	untag(test, domain, 0, 1, last - 1);
	untag(test, domain, 0, last + 3, 256);
	remove_domain(test, domain);
}

/* --- The capability of the device */

static u16 ats_capability;

static int read_ats_capability(struct pci_bus *bus, unsigned int devfn, int where,
			       int size, u32 *val)
{
	*val = ats_capability;
	return PCIBIOS_SUCCESSFUL;
}

static void global_invalidate_is_read_from_the_device(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct pci_dev *pdev = &m->pdev[0];

	m->ops.read = read_ats_capability;
	ats_capability = PCI_ATS_CAP_GLOBAL_INV;
	KUNIT_EXPECT_FALSE(test, pci_ats_global_inv(pdev));
	pdev->ats_cap = PCI_CFG_SPACE_SIZE;
	KUNIT_EXPECT_TRUE(test, pci_ats_global_inv(pdev));
	ats_capability = (u16)~PCI_ATS_CAP_GLOBAL_INV;
	KUNIT_EXPECT_FALSE(test, pci_ats_global_inv(pdev));
	/* The device does not answer */
	ats_capability = 0xffff;
	KUNIT_EXPECT_FALSE(test, pci_ats_global_inv(pdev));
}

static struct kunit_case cache_test_cases[] = {
	KUNIT_CASE(second_stage_iotlb_is_invalidated_once),
	KUNIT_CASE(second_stage_unmap_waits_once_with_global_invalidate),
	KUNIT_CASE(each_pasid_is_invalidated_without_global_invalidate),
	KUNIT_CASE(first_stage_iotlb_is_invalidated_by_pasid_or_by_domain),
	KUNIT_CASE(rejected_global_invalidation_is_done_without),
	KUNIT_CASE(device_tlb_is_invalidated_behind_all_of_the_iotlb),
	KUNIT_CASE(dma_without_pasid_has_its_own_invalidation),
	KUNIT_CASE(quirk_doubles_the_global_invalidation),
	KUNIT_CASE(batch_holds_all_descriptors_of_its_last_tag),
	KUNIT_CASE(two_iommus_are_waited_for_once_each),
	KUNIT_CASE(global_invalidation_depends_on_the_domain),
	KUNIT_CASE(iotlb_is_invalidated_until_the_last_detach),
	KUNIT_CASE(parent_is_invalidated_once_per_nested_domain),
	KUNIT_CASE(map_invalidates_once_in_caching_mode),
	KUNIT_CASE(interrupts_come_between_batches),
	KUNIT_CASE(unmap_survives_a_detach_between_batches),
	KUNIT_CASE(global_invalidate_is_read_from_the_device),
	{}
};

static struct kunit_suite cache_test_suite = {
	.name = "intel-cache",
	.init = test_machine_init,
	.exit = test_machine_exit,
	.test_cases = cache_test_cases,
};

kunit_test_suite(cache_test_suite);
