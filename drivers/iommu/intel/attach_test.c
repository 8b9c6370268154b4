// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of what attaching and detaching domains does to PASID table entries,
 * and of the invalidations that are submitted for it.
 */
#include <linux/iommu.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>

#include "test_iommu.h"
#include "../iommu-pages.h"

/* Its table is not the one that each device has from the beginning */
#define TEST_PASID	(PASID_TBL_ENTRIES + 1)
#define TEST_PGD	0x100000

/* Whether an entry blocks DMA quietly. Hardware ignores the other fields then. */
static bool is_blocked(struct pasid_entry *pte)
{
	return !pasid_pte_is_present(pte) && pasid_pte_is_fault_disabled(pte);
}

/* --- SVA: the address space of a process and its end */

struct sva {
	struct iommu_domain *domain;
	struct mm_struct *mm;
	struct device *dev;
	struct pasid_entry *pte;

	/* Seen while the caches are being flushed */
	u64 val0;
	unsigned int nested;	/* submissions for the exit of the mm alone */
};

static struct sva sva;

/* The SVA domain of a new mm, for the first device */
static struct iommu_domain *sva_alloc(struct kunit *test)
{
	struct mm_struct *mm = mm_alloc();
	struct iommu_domain *domain;

	KUNIT_ASSERT_NOT_NULL(test, mm);
	domain = intel_svm_domain_alloc(sva.dev, mm);
	if (IS_ERR(domain)) {
		mmput(mm);
		kunit_skip(test, "needs CONFIG_INTEL_IOMMU_SVM");
	}
	/* As iommu_sva_domain_alloc() does */
	domain->type = IOMMU_DOMAIN_SVA;
	domain->mm = mm;
	return domain;
}

/* Attach the SVA domain of a new mm to TEST_PASID of the first device */
static void sva_attach(struct kunit *test)
{
	struct test_machine *m = test->priv;

	memset(&sva, 0, sizeof(sva));
	sva.dev = &m->pdev[0].dev;
	sva.domain = sva_alloc(test);
	sva.mm = sva.domain->mm;

	KUNIT_ASSERT_EQ(test, 0, sva.domain->ops->set_dev_pasid(sva.domain, sva.dev,
								TEST_PASID, NULL));
	sva.pte = test_entry(sva.dev, TEST_PASID);
	KUNIT_ASSERT_NOT_NULL(test, sva.pte);
	KUNIT_ASSERT_TRUE(test, pasid_pte_is_present(sva.pte));
	test_forget(m);
}

static void sva_detach(void)
{
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;

	blocked->ops->set_dev_pasid(blocked, sva.dev, TEST_PASID, sva.domain);
}

static void sva_free(void)
{
	sva.domain->ops->free(sva.domain);
	mmu_notifier_synchronize();
}

static void see_the_entry(struct kunit *test)
{
	sva.val0 = READ_ONCE(sva.pte->val[0]);
}

static void exit_blocks_with_one_store(struct kunit *test)
{
	struct test_machine *m = test->priv;

	sva_attach(test);
	m->event = see_the_entry;
	mmput(sva.mm);
	KUNIT_EXPECT_FALSE(test, sva.val0 & PASID_PTE_PRESENT);
	KUNIT_EXPECT_TRUE(test, sva.val0 & PASID_PTE_FPD);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_PC_TYPE));
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_EIOTLB_TYPE));
	KUNIT_EXPECT_GE(test, test_count(m, QI_DEIOTLB_TYPE), 1);
	KUNIT_EXPECT_FALSE(test, m->locked);

	sva_detach();
	sva_free();
}

/* Quiet until the PASID is detached, with page requests drained then, not earlier */
static void detach_drains_page_requests_after_exit(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct iopf_queue *queue;

	queue = iopf_queue_alloc("test");
	KUNIT_ASSERT_NOT_NULL(test, queue);
	KUNIT_EXPECT_EQ(test, 0, iopf_queue_add_device(queue, &m->pdev[0].dev));
	sva_attach(test);
	m->info[0].iopf_refcount = 1;

	mmput(sva.mm);
	KUNIT_EXPECT_TRUE(test, is_blocked(sva.pte));
	KUNIT_EXPECT_EQ(test, 0, m->nr_drains);

	sva_detach();
	KUNIT_EXPECT_EQ(test, 0, READ_ONCE(sva.pte->val[0]) & ~PASID_PTE_FPD);
	KUNIT_EXPECT_EQ(test, 1, m->nr_drains);
	sva_free();

	m->info[0].iopf_refcount = 0;
	iopf_queue_remove_device(queue, &m->pdev[0].dev);
	iopf_queue_free(queue);
}

static void exit_now(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int before = m->nr_submissions;

	mmput(sva.mm);
	sva.nested = m->nr_submissions - before;
}

/* The detach has cleared Present, and has not flushed the caches yet */
static void exit_flushes_during_a_detach(struct kunit *test)
{
	struct test_machine *m = test->priv;

	sva_attach(test);
	m->event = exit_now;
	sva_detach();
	KUNIT_EXPECT_GE(test, sva.nested, 1);
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_PC_TYPE));
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_EIOTLB_TYPE));
	KUNIT_EXPECT_EQ(test, 0, READ_ONCE(sva.pte->val[0]));
	KUNIT_EXPECT_FALSE(test, m->locked);
	sva_free();
}

/* --- Domains with page tables */

static struct dmar_domain *add_domain(struct kunit *test,
				      const struct iommu_domain_ops *ops)
{
	struct test_machine *m = test->priv;
	struct dmar_domain *domain;

	domain = kunit_kzalloc(test, sizeof(*domain), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	domain->domain.type = IOMMU_DOMAIN_UNMANAGED;
	domain->domain.ops = ops;
	INIT_LIST_HEAD(&domain->devices);
	domain->dev_pasids = RB_ROOT;
	domain->cache_tags = RB_ROOT;
	spin_lock_init(&domain->lock);
	spin_lock_init(&domain->cache_lock);
	xa_init(&domain->iommu_array);
	KUNIT_ASSERT_EQ(test, 0, domain_attach_iommu(domain, m->iommu[0]));
	return domain;
}

/* A paging domain for the first device, allocated as iommufd does */
static struct iommu_domain *alloc_domain(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct iommu_domain *domain;

	/* 48-bit addresses; the IOMMU snoops the page table */
	m->iommu[0]->cap |= 47ULL << 16;
	m->iommu[0]->ecap |= BIT_ULL(48);
	domain = intel_iommu_ops.domain_alloc_paging_flags(&m->pdev[0].dev, 0, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(domain));
	return domain;
}

static void tag(struct kunit *test, struct dmar_domain *domain, u32 pasid)
{
	struct test_machine *m = test->priv;

	KUNIT_ASSERT_EQ(test, 0, cache_tag_assign_domain(domain, &m->pdev[0].dev, pasid));
}

static void untag(struct kunit *test, struct dmar_domain *domain, u32 pasid)
{
	struct test_machine *m = test->priv;

	cache_tag_unassign_domain(domain, &m->pdev[0].dev, pasid);
}

static void free_domain(struct kunit *test, struct dmar_domain *domain)
{
	struct test_machine *m = test->priv;

	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&domain->cache_tags));
	domain_detach_iommu(domain, m->iommu[0]);
	kfree(domain->qi_batch);
}

/* The descriptors of an unmap, and whether they come in this order */
static void expect_unmap(struct kunit *test, struct dmar_domain *domain,
			 const u8 *types, unsigned int count)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	test_forget(m);
	cache_tag_flush_range(domain, 0x1000, 0x1fff, 0);
	KUNIT_ASSERT_EQ(test, count, m->nr_descs);
	for (i = 0; i < count; i++)
		KUNIT_EXPECT_EQ_MSG(test, types[i], test_type(m, i), "descriptor %u", i);
	KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
}

static void unmap_fences_device_tlb_without_pasid(struct kunit *test)
{
	static const u8 no_pasid[] = {
		QI_EIOTLB_TYPE, QI_IWD_TYPE, QI_DIOTLB_TYPE,
	};
	static const u8 both[] = {
		QI_EIOTLB_TYPE, QI_EIOTLB_TYPE, QI_IWD_TYPE,
		QI_DIOTLB_TYPE, QI_DEIOTLB_TYPE,
	};
	struct dmar_domain *domain = add_domain(test, &intel_fs_paging_domain_ops);
	struct test_machine *m = test->priv;

	tag(test, domain, IOMMU_NO_PASID);
	expect_unmap(test, domain, no_pasid, ARRAY_SIZE(no_pasid));
	KUNIT_EXPECT_TRUE(test, m->descs[1].qw0 & QI_IWD_FENCE);
	tag(test, domain, TEST_PASID);
	expect_unmap(test, domain, both, ARRAY_SIZE(both));
	untag(test, domain, TEST_PASID);
	untag(test, domain, IOMMU_NO_PASID);
	free_domain(test, domain);
}

static void unmap_needs_no_other_fence(struct kunit *test)
{
	static const u8 second_stage[] = { QI_IOTLB_TYPE, QI_DIOTLB_TYPE };
	static const u8 pasid[] = { QI_EIOTLB_TYPE, QI_DEIOTLB_TYPE };
	static const u8 no_ats[] = { QI_EIOTLB_TYPE };
	struct test_machine *m = test->priv;
	struct dmar_domain *domain;

	m->iommu[0]->ecap |= BIT_ULL(1);	/* queued invalidation */
	domain = add_domain(test, &intel_ss_paging_domain_ops);
	tag(test, domain, IOMMU_NO_PASID);
	expect_unmap(test, domain, second_stage, ARRAY_SIZE(second_stage));
	untag(test, domain, IOMMU_NO_PASID);
	free_domain(test, domain);

	domain = add_domain(test, &intel_fs_paging_domain_ops);
	tag(test, domain, TEST_PASID);
	expect_unmap(test, domain, pasid, ARRAY_SIZE(pasid));
	untag(test, domain, TEST_PASID);

	m->info[0].ats_enabled = 0;
	tag(test, domain, IOMMU_NO_PASID);
	expect_unmap(test, domain, no_ats, ARRAY_SIZE(no_ats));
	untag(test, domain, IOMMU_NO_PASID);
	free_domain(test, domain);
}

static struct dmar_domain *detached;
static bool tags_at_flush;

static void see_the_tags(struct kunit *test)
{
	tags_at_flush = !RB_EMPTY_ROOT(&detached->cache_tags);
}

static void detach_keeps_cache_tags_until_the_flush(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;

	detached = add_domain(test, &intel_fs_paging_domain_ops);
	KUNIT_ASSERT_EQ(test, 0,
			intel_pasid_setup_first_level(m->iommu[0], dev, TEST_PGD,
						      IOMMU_NO_PASID,
						      domain_id_iommu(detached, m->iommu[0]),
						      0));
	tag(test, detached, IOMMU_NO_PASID);
	m->info[0].domain = detached;
	m->info[0].domain_attached = true;
	list_add(&m->info[0].link, &detached->devices);

	tags_at_flush = false;
	m->event = see_the_tags;
	device_block_translation(dev);
	KUNIT_EXPECT_TRUE(test, tags_at_flush);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&detached->cache_tags));
	KUNIT_EXPECT_EQ(test, 0, READ_ONCE(test_entry(dev, IOMMU_NO_PASID)->val[0]));
	kfree(detached->qi_batch);
}

/* --- Page requests, which are drained before iopf_refcount drops */

static int enable_iopf(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	if (info->iopf_refcount++)
		return 0;
	return iopf_queue_add_device(info->iommu->iopf_queue, dev);
}

static void disable_iopf(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	if (!--info->iopf_refcount)
		iopf_queue_remove_device(info->iommu->iopf_queue, dev);
}

static int never_called(struct iopf_group *group)
{
	return -EINVAL;
}

/* Let the first device have page requests, with stubs for what needs a group */
static void take_page_requests(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct iopf_queue *queue = iopf_queue_alloc("test");

	KUNIT_ASSERT_NOT_NULL(test, queue);
	m->iommu[0]->iopf_queue = queue;
	kunit_activate_static_stub(test, intel_iommu_enable_iopf, enable_iopf);
	kunit_activate_static_stub(test, intel_iommu_disable_iopf, disable_iopf);
	m->info[0].pri_supported = 1;
	m->info[0].pri_enabled = 1;
}

static void expect_drain(struct kunit *test)
{
	struct test_machine *m = test->priv;

	KUNIT_EXPECT_EQ(test, 1, m->nr_drains);
	KUNIT_EXPECT_EQ(test, 0, m->info[0].iopf_refcount);
	iopf_queue_free(m->iommu[0]->iopf_queue);
}

static void detach_without_pasid_drains_page_requests(struct kunit *test)
{
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct dmar_domain *domain;

	take_page_requests(test);
	domain = add_domain(test, &intel_fs_paging_domain_ops);
	domain->domain.iopf_handler = never_called;
	KUNIT_ASSERT_EQ(test, 0,
			intel_pasid_setup_first_level(m->iommu[0], dev, TEST_PGD,
						      IOMMU_NO_PASID,
						      domain_id_iommu(domain, m->iommu[0]),
						      0));
	tag(test, domain, IOMMU_NO_PASID);
	m->info[0].domain = domain;
	m->info[0].domain_attached = true;
	KUNIT_ASSERT_EQ(test, 0, enable_iopf(dev));
	list_add(&m->info[0].link, &domain->devices);

	test_forget(m);
	blocked->ops->attach_dev(blocked, dev, &domain->domain);
	expect_drain(test);
	kfree(domain->qi_batch);
}

/* Replace an SVA domain by @domain, which has no handler for page requests */
static void replace_drains(struct kunit *test, struct iommu_domain *domain)
{
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;

	take_page_requests(test);
	sva_attach(test);
	sva.domain->iopf_handler = never_called;
	KUNIT_EXPECT_EQ(test, 0, enable_iopf(sva.dev));
	KUNIT_EXPECT_EQ(test, 0, domain->ops->set_dev_pasid(domain, sva.dev,
							    TEST_PASID, sva.domain));
	expect_drain(test);
	blocked->ops->set_dev_pasid(blocked, sva.dev, TEST_PASID, domain);
	mmput(sva.mm);
	sva_free();
}

static void replace_drains_page_requests(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct iommu_domain *domain;
	struct mm_struct *mm;

	sva.dev = &m->pdev[0].dev;
	replace_drains(test, intel_iommu_ops.identity_domain);

	domain = alloc_domain(test);
	replace_drains(test, domain);
	domain->ops->free(domain);

	domain = sva_alloc(test);
	mm = domain->mm;
	replace_drains(test, domain);
	mmput(mm);
	domain->ops->free(domain);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_FALSE(test, m->locked);
}

/* A domain nested on @parent, with a handler for page requests */
static struct iommu_domain *alloc_nested(struct kunit *test, struct iommu_domain *parent,
					 u32 addr_width)
{
	const struct iommu_hwpt_vtd_s1 s1 = {
		.pgtbl_addr = TEST_PGD, .addr_width = addr_width,
	};
	struct test_machine *m = test->priv;
	struct iommu_user_data data = {
		.type = IOMMU_HWPT_DATA_VTD_S1, .len = sizeof(s1),
	};
	struct iommu_domain *domain;
	unsigned long addr;

	addr = kunit_vm_mmap(test, NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr) || !addr);
	data.uptr = (void __user *)addr;
	KUNIT_ASSERT_EQ(test, 0, copy_to_user(data.uptr, &s1, sizeof(s1)));
	domain = intel_iommu_domain_alloc_nested(&m->pdev[0].dev, parent, 0, &data);
	KUNIT_ASSERT_FALSE(test, IS_ERR(domain));
	domain->iopf_handler = never_called;
	return domain;
}

/* A guest replaces its page table, and the driver may refuse the new one */
static void attach_of_nested_domains_balances_page_requests(struct kunit *test)
{
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;
	struct iommu_domain *parent, *first, *second, *refused;
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	unsigned int *count = &m->info[0].iopf_refcount;

	take_page_requests(test);
	/* 48-bit addresses, four levels, nested translation */
	m->iommu[0]->cap |= 47ULL << 16 | BIT_ULL(10);
	m->iommu[0]->ecap |= BIT_ULL(26);
	parent = intel_iommu_ops.domain_alloc_paging_flags(dev, IOMMU_HWPT_ALLOC_NEST_PARENT,
							   NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(parent));
	first = alloc_nested(test, parent, ADDR_WIDTH_4LEVEL);
	second = alloc_nested(test, parent, ADDR_WIDTH_4LEVEL);
	refused = alloc_nested(test, parent, 0);

	KUNIT_ASSERT_EQ(test, 0, first->ops->attach_dev(first, dev, NULL));
	KUNIT_ASSERT_EQ(test, 0, first->ops->set_dev_pasid(first, dev, TEST_PASID, NULL));
	KUNIT_EXPECT_EQ(test, 2, *count);

	test_forget(m);
	KUNIT_EXPECT_EQ(test, -EINVAL, refused->ops->attach_dev(refused, dev, first));
	KUNIT_EXPECT_EQ(test, -EINVAL, refused->ops->set_dev_pasid(refused, dev, TEST_PASID,
								   first));
	KUNIT_EXPECT_EQ(test, 2, *count);
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);
	KUNIT_EXPECT_TRUE(test, pasid_pte_is_present(test_entry(dev, IOMMU_NO_PASID)));
	KUNIT_EXPECT_TRUE(test, pasid_pte_is_present(test_entry(dev, TEST_PASID)));

	KUNIT_EXPECT_EQ(test, 0, second->ops->attach_dev(second, dev, first));
	KUNIT_EXPECT_EQ(test, 0, second->ops->set_dev_pasid(second, dev, TEST_PASID, first));
	KUNIT_EXPECT_EQ(test, 2, *count);
	KUNIT_EXPECT_EQ(test, 2, m->nr_drains);

	blocked->ops->set_dev_pasid(blocked, dev, TEST_PASID, second);
	KUNIT_EXPECT_EQ(test, 1, *count);
	KUNIT_EXPECT_EQ(test, 3, m->nr_drains);
	test_forget(m);
	blocked->ops->attach_dev(blocked, dev, second);
	expect_drain(test);
	refused->ops->free(refused);
	second->ops->free(second);
	first->ops->free(first);
	parent->ops->free(parent);
}

/* --- Dirty tracking */

/* During a replacement, a PASID is on the lists of two domains */
static void dirty_tracking_changes_no_entry_of_another_domain(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct pasid_entry *pte;

	KUNIT_ASSERT_EQ(test, 0, intel_pasid_setup_first_level(m->iommu[0], dev, TEST_PGD,
							       TEST_PASID, 7, 0));
	pte = test_entry(dev, TEST_PASID);
	test_forget(m);
	KUNIT_EXPECT_EQ(test, 0, intel_pasid_setup_dirty_tracking(m->iommu[0], dev,
								  TEST_PASID, 8, true));

	pasid_set_translation_type(pte, PASID_ENTRY_PGTT_SL_ONLY);
	KUNIT_EXPECT_EQ(test, 0, intel_pasid_setup_dirty_tracking(m->iommu[0], dev,
								  TEST_PASID, 8, true));
	KUNIT_EXPECT_FALSE(test, pasid_get_ssade(pte));
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);

	KUNIT_EXPECT_EQ(test, 0, intel_pasid_setup_dirty_tracking(m->iommu[0], dev,
								  TEST_PASID, 7, true));
	KUNIT_EXPECT_TRUE(test, pasid_get_ssade(pte));
	KUNIT_EXPECT_GE(test, m->nr_submissions, 1);
	KUNIT_EXPECT_EQ(test, 0, intel_pasid_setup_dirty_tracking(m->iommu[0], dev,
								  TEST_PASID, 8, false));
	KUNIT_EXPECT_TRUE(test, pasid_get_ssade(pte));
}

/* A domain with dirty tracking is on the list before the entry has a table */
static void dirty_tracking_needs_no_table(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;

	KUNIT_EXPECT_EQ(test, 0, intel_pasid_setup_dirty_tracking(m->iommu[0], dev,
								  TEST_PASID, 7, true));
	KUNIT_EXPECT_NULL(test, test_entry(dev, TEST_PASID));
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);
}

/* --- Tables of PASID entries */

static gfp_t gfp_of_table;

static void *no_memory(int nid, gfp_t gfp, size_t size)
{
	gfp_of_table = gfp;
	return NULL;
}

static void attach_without_memory_changes_nothing(struct kunit *test)
{
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;
	struct iommu_domain *identity = intel_iommu_ops.identity_domain;
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct iommu_domain *domains[3];
	unsigned int i;

	sva.dev = dev;
	domains[0] = sva_alloc(test);
	domains[1] = alloc_domain(test);
	domains[2] = identity;
	sva.mm = domains[0]->mm;
	for (i = 0; i < ARRAY_SIZE(domains); i++) {
		kunit_activate_static_stub(test, iommu_alloc_pages_node_sz, no_memory);
		test_forget(m);
		gfp_of_table = 0;
		KUNIT_EXPECT_EQ(test, -ENOMEM,
				domains[i]->ops->set_dev_pasid(domains[i], dev,
							       TEST_PASID, NULL));
		KUNIT_EXPECT_TRUE(test, gfp_of_table == GFP_KERNEL_ACCOUNT);
		KUNIT_EXPECT_NULL(test, test_entry(dev, TEST_PASID));
		KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);
		if (domains[i] != identity)
			KUNIT_EXPECT_TRUE(test,
					  RB_EMPTY_ROOT(&to_dmar_domain(domains[i])->dev_pasids));

		/* As for DMA without PASID, whose entry is in the same table */
		KUNIT_EXPECT_EQ(test, 0, domains[i]->ops->set_dev_pasid(domains[i], dev, 1,
									NULL));
		blocked->ops->set_dev_pasid(blocked, dev, 1, domains[i]);
		kunit_deactivate_static_stub(test, iommu_alloc_pages_node_sz);
	}
	mmput(sva.mm);
	domains[0]->ops->free(domains[0]);
	domains[1]->ops->free(domains[1]);
	mmu_notifier_synchronize();
}

/* A replacement finds the entry of the domain that it replaces */
static void replace_needs_no_memory(struct kunit *test)
{
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;
	struct iommu_domain *identity = intel_iommu_ops.identity_domain;
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct iommu_domain *domain = alloc_domain(test);

	KUNIT_ASSERT_EQ(test, 0, identity->ops->set_dev_pasid(identity, dev, TEST_PASID, NULL));
	kunit_activate_static_stub(test, iommu_alloc_pages_node_sz, no_memory);
	KUNIT_EXPECT_EQ(test, 0, domain->ops->set_dev_pasid(domain, dev, TEST_PASID, identity));
	KUNIT_EXPECT_EQ(test, 0, identity->ops->set_dev_pasid(identity, dev, TEST_PASID, domain));
	kunit_deactivate_static_stub(test, iommu_alloc_pages_node_sz);
	blocked->ops->set_dev_pasid(blocked, dev, TEST_PASID, identity);
	domain->ops->free(domain);
}

/* --- Devices */

static void disabled_pasid_is_not_attached(struct kunit *test)
{
	struct iommu_domain *identity = intel_iommu_ops.identity_domain;
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct dmar_domain *paging;

	paging = add_domain(test, &intel_fs_paging_domain_ops);
	m->info[0].pasid_enabled = 0;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			identity->ops->set_dev_pasid(identity, dev, TEST_PASID, NULL));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			paging->domain.ops->set_dev_pasid(&paging->domain, dev,
							  TEST_PASID, NULL));
	KUNIT_EXPECT_NULL(test, test_entry(dev, TEST_PASID));
	free_domain(test, paging);
}

static void attach_assigns_cache_tags_before_the_entry(struct kunit *test)
{
	struct iommu_domain *domain = alloc_domain(test);
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;

	/* Caching mode: the setup of the entry flushes */
	m->iommu[0]->cap |= BIT_ULL(7);
	detached = to_dmar_domain(domain);
	tags_at_flush = false;
	m->event = see_the_tags;
	KUNIT_EXPECT_EQ(test, 0, domain->ops->attach_dev(domain, dev, NULL));
	KUNIT_EXPECT_TRUE(test, tags_at_flush);
	m->event = NULL;
	device_block_translation(dev);
	domain->ops->free(domain);
}

static void refused_attach_keeps_the_old_domain(struct kunit *test)
{
	struct iommu_domain *identity = intel_iommu_ops.identity_domain;
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct iommu_domain *refused = alloc_domain(test);

	KUNIT_ASSERT_EQ(test, 0, identity->ops->attach_dev(identity, dev, NULL));
	KUNIT_ASSERT_TRUE(test, pasid_pte_is_present(test_entry(dev, IOMMU_NO_PASID)));

	/* An IOMMU that has no first stage */
	m->iommu[0]->ecap &= ~BIT_ULL(47);
	KUNIT_EXPECT_EQ(test, -EINVAL, refused->ops->attach_dev(refused, dev, identity));
	KUNIT_EXPECT_TRUE(test, pasid_pte_is_present(test_entry(dev, IOMMU_NO_PASID)));
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);

	device_block_translation(dev);
	refused->ops->free(refused);
}

static struct kunit_case attach_test_cases[] = {
	KUNIT_CASE(exit_blocks_with_one_store),
	KUNIT_CASE(detach_drains_page_requests_after_exit),
	KUNIT_CASE(exit_flushes_during_a_detach),
	KUNIT_CASE(unmap_fences_device_tlb_without_pasid),
	KUNIT_CASE(unmap_needs_no_other_fence),
	KUNIT_CASE(detach_keeps_cache_tags_until_the_flush),
	KUNIT_CASE(attach_assigns_cache_tags_before_the_entry),
	KUNIT_CASE(detach_without_pasid_drains_page_requests),
	KUNIT_CASE(replace_drains_page_requests),
	KUNIT_CASE(attach_of_nested_domains_balances_page_requests),
	KUNIT_CASE(dirty_tracking_changes_no_entry_of_another_domain),
	KUNIT_CASE(dirty_tracking_needs_no_table),
	KUNIT_CASE(attach_without_memory_changes_nothing),
	KUNIT_CASE(replace_needs_no_memory),
	KUNIT_CASE(disabled_pasid_is_not_attached),
	KUNIT_CASE(refused_attach_keeps_the_old_domain),
	{}
};

static struct kunit_suite attach_test_suite = {
	.name = "intel-attach",
	.init = test_machine_init,
	.exit = test_machine_exit,
	.test_cases = attach_test_cases,
};

kunit_test_suite(attach_test_suite);
