// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of which invalidations a batch of PASID table entries submits, and in
 * which order. Emulated hardware has neither several IOMMUs nor invalidations that
 * overtake each other.
 */
#include <linux/iommu.h>

#include "test_iommu.h"
#include "../iommu-pages.h"

struct test_batch {
	struct iommu_dev_pasid entries[IOMMU_BLOCK_BATCH];
	unsigned int count;
};

static struct test_batch batch;

static int pasid_test_init(struct kunit *test)
{
	batch.count = 0;
	return test_machine_init(test);
}

/* Add an entry to the batch, and make it present */
static void add(struct kunit *test, unsigned int device, u32 pasid, u16 did,
		u16 pgtt)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[device].dev;
	struct pasid_entry *pte = test_entry(dev, pasid);

	KUNIT_ASSERT_LT(test, batch.count, IOMMU_BLOCK_BATCH);
	if (pte)
		pasid_clear_entry(pte);
	KUNIT_ASSERT_EQ(test, 0,
			intel_pasid_setup_pass_through(m->iommu[device], dev, pasid));
	pte = test_entry(dev, pasid);
	pasid_set_domain_id(pte, did);
	pasid_set_translation_type(pte, pgtt);
	batch.entries[batch.count].dev = dev;
	batch.entries[batch.count++].pasid = pasid;
}

static struct pasid_entry *entry(unsigned int i)
{
	return test_entry(batch.entries[i].dev, batch.entries[i].pasid);
}

static bool is_blocked(struct pasid_entry *pte)
{
	return !pasid_pte_is_present(pte) && pasid_pte_is_fault_disabled(pte);
}

/* Block the batch. Kinds of invalidations must be in order, for each IOMMU. */
static void block(struct kunit *test)
{
	static const u8 order[] = {
		[QI_PC_TYPE] = 1, [QI_IOTLB_TYPE] = 2, [QI_EIOTLB_TYPE] = 2,
		[QI_IWD_TYPE] = 3, [QI_DIOTLB_TYPE] = 4, [QI_DEIOTLB_TYPE] = 4,
	};
	struct test_machine *m = test->priv;
	unsigned int i, t, last = 1;

	test_forget(m);
	intel_pasid_block_entries(batch.entries, batch.count, true);
	for (i = 0; i < batch.count; i++)
		KUNIT_EXPECT_TRUE(test, is_blocked(entry(i)));
	for (i = 0; i < m->nr_descs; i++) {
		t = test_type(m, i);
		KUNIT_ASSERT_LT(test, t, ARRAY_SIZE(order));
		if (i && m->by[i] != m->by[i - 1])
			last = 1;
		KUNIT_EXPECT_GE(test, order[t], last);
		last = order[t];
	}
	KUNIT_EXPECT_FALSE(test, m->locked);
}

static void second_stage_by_pasid_or_by_domain(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int entries, i;

	for (entries = 1; entries <= 5; entries++) {
		batch.count = 0;
		for (i = 0; i < entries; i++)
			add(test, 0, 1 + i, 7, PASID_ENTRY_PGTT_SL_ONLY);
		block(test);
		KUNIT_EXPECT_EQ(test, test_count(m, QI_PC_TYPE), entries < 4 ? entries : 1);
		KUNIT_EXPECT_EQ(test, test_count(m, QI_IOTLB_TYPE), 1);
		KUNIT_EXPECT_EQ(test, test_count(m, QI_DEIOTLB_TYPE), entries);
		KUNIT_EXPECT_EQ(test, test_count(m, QI_IWD_TYPE), 0);
		KUNIT_EXPECT_EQ(test, m->nr_submissions, 1);
		KUNIT_EXPECT_EQ(test, m->descs[0].qw0,
				QI_PC_TYPE | QI_PC_DID(7) |
				(entries < 4 ? QI_PC_GRAN(QI_PC_PASID_SEL) |
					       QI_PC_PASID(1) :
					       QI_PC_GRAN(QI_PC_ALL_PASIDS)));
	}
}

static void first_stage_by_pasid_or_by_domain(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int entries, i;

	for (entries = 1; entries <= 5; entries++) {
		batch.count = 0;
		for (i = 0; i < entries; i++)
			add(test, 0, 1 + i, 7, PASID_ENTRY_PGTT_FL_ONLY);
		block(test);
		KUNIT_EXPECT_EQ(test, test_count(m, QI_EIOTLB_TYPE),
				entries < 4 ? entries : 0);
		KUNIT_EXPECT_EQ(test, test_count(m, QI_IOTLB_TYPE), entries < 4 ? 0 : 1);
	}
}

/* All SVA and identity domains have this domain ID */
static void shared_domain_id_only_by_pasid(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	for (i = 0; i < IOMMU_BLOCK_BATCH; i++)
		add(test, 0, 1 + i, FLPT_DEFAULT_DID, PASID_ENTRY_PGTT_FL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_PC_TYPE), IOMMU_BLOCK_BATCH);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_EIOTLB_TYPE), IOMMU_BLOCK_BATCH);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_IOTLB_TYPE), 0);
	KUNIT_EXPECT_EQ(test, m->nr_submissions, 1);
}

static void fence_before_device_tlb_without_pasid(struct kunit *test)
{
	struct test_machine *m = test->priv;

	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_FL_ONLY);
	add(test, 0, 1, 8, PASID_ENTRY_PGTT_FL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_IWD_TYPE), 1);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_DIOTLB_TYPE), 1);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_DEIOTLB_TYPE), 1);

	batch.count = 0;
	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_SL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_IWD_TYPE), 0);

	batch.count = 0;
	m->info[0].ats_enabled = 0;
	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_FL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, m->nr_descs, 2);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_EIOTLB_TYPE), 1);
}

static void device_tlb_only_if_the_device_answers(struct kunit *test)
{
	struct test_machine *m = test->priv;

	m->info[0].dtlb_extra_inval = 1;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_DEIOTLB_TYPE), 2);

	batch.count = 0;
	m->iommu[0]->gcmd = 0;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_DEIOTLB_TYPE), 0);

	batch.count = 0;
	m->iommu[0]->gcmd = DMA_GCMD_TE;
	m->pdev[0].error_state = pci_channel_io_perm_failure;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_DEIOTLB_TYPE), 0);
}

static unsigned int descs_of(struct test_machine *m, unsigned int device)
{
	unsigned int i, n = 0;

	for (i = 0; i < m->nr_descs; i++)
		n += m->by[i] == m->iommu[device];
	return n;
}

static void each_iommu_gets_one_submission(struct kunit *test)
{
	struct test_machine *m = test->priv;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	add(test, 1, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	add(test, 0, 2, 8, PASID_ENTRY_PGTT_SL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, m->nr_submissions, 2);
	KUNIT_EXPECT_EQ(test, descs_of(m, 0), 6);
	KUNIT_EXPECT_EQ(test, descs_of(m, 1), 3);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_EIOTLB_TYPE), 1);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_IOTLB_TYPE), 2);
}

static void largest_batch_fits(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	m->info[0].dtlb_extra_inval = 1;
	for (i = 0; i < IOMMU_BLOCK_BATCH; i++)
		add(test, 0, i, 100 + i, PASID_ENTRY_PGTT_FL_ONLY);
	block(test);
	KUNIT_EXPECT_EQ(test, m->nr_descs, PASID_FLUSH_DESCS(IOMMU_BLOCK_BATCH));
	KUNIT_EXPECT_EQ(test, m->nr_submissions, 1);
}

/* The PASID was moved to the blocked domain, by a reset of the device */
static void empty_entry_becomes_quiet(struct kunit *test)
{
	struct test_machine *m = test->priv;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	pasid_clear_entry(entry(0));
	block(test);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[0]), PASID_PTE_FPD);
	KUNIT_EXPECT_EQ(test, m->nr_submissions, 0);

	/* Cached although it is not present */
	pasid_clear_entry(entry(0));
	m->iommu[0]->cap |= BIT_ULL(7);
	block(test);
	KUNIT_EXPECT_EQ(test, m->nr_descs, 1);
	KUNIT_EXPECT_EQ(test, m->descs[0].qw0,
			QI_PC_TYPE | QI_PC_DID(0) | QI_PC_GRAN(QI_PC_PASID_SEL) |
			QI_PC_PASID(1));

	/* The exit of an mm leaves an entry alone that was detached */
	pasid_clear_entry(entry(0));
	intel_pasid_block_entries(batch.entries, batch.count, false);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[0]), 0);
}

/* A reset or the detach of a blocked PASID: DMA may go on, unreported */
static void tear_down_keeps_a_blocked_entry_quiet(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	unsigned int before;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	block(test);
	intel_pasid_tear_down_entry(m->iommu[0], dev, 1);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[0]), PASID_PTE_FPD);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[1]), 0);

	before = m->nr_submissions;
	intel_pasid_tear_down_entry(m->iommu[0], dev, 1);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[0]), PASID_PTE_FPD);
	KUNIT_EXPECT_EQ(test, m->nr_submissions, before);

	add(test, 0, 2, 8, PASID_ENTRY_PGTT_FL_ONLY);
	intel_pasid_tear_down_entry(m->iommu[0], dev, 2);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(1)->val[0]), 0);
}

/* Of the second table */
static u64 read_pde(struct device *dev)
{
	struct pasid_dir_entry *dir = intel_pasid_get_table(dev)->table;

	return READ_ONCE(dir[1].val);
}

static void no_table_needs_no_memory(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct iommu_dev_pasid one = { .dev = &m->pdev[0].dev, .pasid = PASID_TBL_ENTRIES };

	/* The exit of an mm leaves the directory alone */
	intel_pasid_block_entries(&one, 1, false);
	KUNIT_EXPECT_EQ(test, 0, read_pde(one.dev));

	intel_pasid_block_entries(&one, 1, true);
	intel_pasid_tear_down_entry(m->iommu[0], one.dev, one.pasid);
	KUNIT_EXPECT_NULL(test, test_entry(one.dev, one.pasid));
	KUNIT_EXPECT_EQ(test, PASID_PTE_FPD, read_pde(one.dev));
	KUNIT_EXPECT_EQ(test, m->nr_submissions, 0);

	/* Cached although it is not present */
	m->iommu[0]->cap |= BIT_ULL(7);
	intel_pasid_block_entries(&one, 1, true);
	KUNIT_EXPECT_EQ(test, m->nr_descs, 1);
	KUNIT_EXPECT_EQ(test, m->descs[0].qw0,
			QI_PC_TYPE | QI_PC_DID(0) | QI_PC_GRAN(QI_PC_PASID_SEL) |
			QI_PC_PASID(one.pasid));
}

/* The PASIDs of these tests are in the second table */
#define A	(PASID_TBL_ENTRIES + 3)
#define B	(PASID_TBL_ENTRIES + 7)

static void attach(struct kunit *test, u32 pasid)
{
	struct test_machine *m = test->priv;

	add(test, 0, pasid, 7, PASID_ENTRY_PGTT_SL_ONLY);
	__set_bit(pasid, m->attached);
}

static void detach(struct kunit *test, u32 pasid)
{
	struct test_machine *m = test->priv;

	intel_pasid_tear_down_entry(m->iommu[0], &m->pdev[0].dev, pasid);
	__clear_bit(pasid, m->attached);
	intel_pasid_release(&m->pdev[0].dev, pasid);
}

static void detach_parked(struct kunit *test, u32 pasid)
{
	struct test_machine *m = test->priv;
	struct iommu_dev_pasid one = { .dev = &m->pdev[0].dev, .pasid = pasid };

	intel_pasid_block_entries(&one, 1, true);
	detach(test, pasid);
}

static struct folio *table_seen;
static int refs_at_flush;
static u64 pde_at_flush;

static void see_the_table(struct kunit *test)
{
	struct test_machine *m = test->priv;

	/* It would be free by now */
	rcu_barrier();
	refs_at_flush = folio_ref_count(table_seen);
	pde_at_flush = read_pde(&m->pdev[0].dev);
}

static void last_detach_flushes_and_then_frees_the_table(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;

	attach(test, A);
	attach(test, B);
	detach(test, A);
	KUNIT_ASSERT_NOT_NULL(test, test_entry(dev, B));
	KUNIT_EXPECT_TRUE(test, pasid_pte_is_present(test_entry(dev, B)));

	intel_pasid_tear_down_entry(m->iommu[0], dev, B);
	KUNIT_EXPECT_NOT_NULL(test, test_entry(dev, B));
	__clear_bit(B, m->attached);
	table_seen = virt_to_folio(test_entry(dev, B));
	folio_get(table_seen);
	test_forget(m);
	m->event = see_the_table;
	intel_pasid_release(dev, B);
	KUNIT_EXPECT_EQ(test, 1, m->nr_submissions);
	KUNIT_ASSERT_EQ(test, 2, m->nr_descs);
	KUNIT_EXPECT_EQ(test, m->descs[0].qw0, QI_PC_TYPE | QI_PC_GRAN(QI_PC_ALL_PASIDS));
	KUNIT_EXPECT_EQ(test, QI_IOTLB_TYPE, test_type(m, 1));
	KUNIT_EXPECT_FALSE(test, m->locked);
	KUNIT_EXPECT_EQ(test, 0, pde_at_flush);
	KUNIT_EXPECT_EQ(test, 2, refs_at_flush);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, 1, folio_ref_count(table_seen));
	folio_put(table_seen);

	/* Another time, as after a failed attach: there is nothing to free */
	test_forget(m);
	intel_pasid_release(dev, B);
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);
}

static unsigned int count_tables(struct device *dev)
{
	struct pasid_table *table = intel_pasid_get_table(dev);
	struct pasid_dir_entry *dir = table->table;
	unsigned int i, n = 0;

	for (i = 0; i < table->max_pasid >> PASID_PDE_SHIFT; i++)
		n += !!get_pasid_table_from_pde(&dir[i]);
	return n;
}

static void detached_pasids_leave_no_table(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	u32 pasid, max = intel_pasid_get_table(dev)->max_pasid;

	KUNIT_EXPECT_EQ(test, 1, count_tables(dev));
	for (pasid = 1; pasid < max; pasid += PASID_TBL_ENTRIES - 1) {
		KUNIT_ASSERT_EQ(test, 0, intel_pasid_setup_pass_through(m->iommu[0], dev,
									pasid));
		intel_pasid_tear_down_entry(m->iommu[0], dev, pasid);
		intel_pasid_release(dev, pasid);
		if (count_tables(dev) != 1)
			break;
	}
	KUNIT_EXPECT_EQ(test, 1, count_tables(dev));
	KUNIT_EXPECT_NOT_NULL(test, test_entry(dev, IOMMU_NO_PASID));
}

static void parked_pasid_stays_quiet_without_a_table(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;

	attach(test, A);
	detach_parked(test, A);
	KUNIT_EXPECT_EQ(test, PASID_PTE_FPD, read_pde(dev));

	/* The FPD of the directory would be that of B as well */
	attach(test, B);
	KUNIT_EXPECT_EQ(test, PASID_PTE_PRESENT,
			read_pde(dev) & (PASID_PTE_PRESENT | PASID_PTE_FPD));
	KUNIT_EXPECT_EQ(test, PASID_PTE_FPD, READ_ONCE(test_entry(dev, A)->val[0]));
	KUNIT_EXPECT_FALSE(test, pasid_pte_is_fault_disabled(test_entry(dev, B)));

	detach(test, B);
	KUNIT_EXPECT_EQ(test, PASID_PTE_FPD, read_pde(dev));
}

/* Parked between the tear-down and the release. Later there is no table. */
static void pasid_blocked_during_a_detach_is_quiet(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct iommu_dev_pasid one = { .dev = dev, .pasid = A };

	attach(test, A);
	intel_pasid_tear_down_entry(m->iommu[0], dev, A);
	intel_pasid_block_entries(&one, 1, true);
	__clear_bit(A, m->attached);
	intel_pasid_release(dev, A);
	KUNIT_EXPECT_EQ(test, PASID_PTE_FPD, read_pde(dev));
}

static void *no_memory(int nid, gfp_t gfp, size_t size)
{
	return NULL;
}

/* It takes all domains away, but the core knows what is attached */
static void reset_keeps_the_tables(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;

	attach(test, A);
	attach(test, B);
	intel_pasid_tear_down_entry(m->iommu[0], dev, A);
	intel_pasid_tear_down_entry(m->iommu[0], dev, B);
	/* Detached in the meantime */
	__clear_bit(B, m->attached);
	intel_pasid_release(dev, B);

	kunit_activate_static_stub(test, iommu_alloc_pages_node_sz, no_memory);
	KUNIT_EXPECT_EQ(test, 0, intel_pasid_setup_pass_through(m->iommu[0], dev, A));
	kunit_deactivate_static_stub(test, iommu_alloc_pages_node_sz);
	detach(test, A);
	KUNIT_EXPECT_EQ(test, 1, count_tables(dev));
}

static void blocked_pasid_keeps_its_table(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct iommu_dev_pasid one = { .dev = dev, .pasid = A };

	attach(test, A);
	attach(test, B);
	intel_pasid_block_entries(&one, 1, true);
	detach(test, B);
	KUNIT_ASSERT_NOT_NULL(test, test_entry(dev, A));
	KUNIT_EXPECT_TRUE(test, is_blocked(test_entry(dev, A)));
	KUNIT_EXPECT_EQ(test, PASID_PTE_PRESENT,
			read_pde(dev) & (PASID_PTE_PRESENT | PASID_PTE_FPD));
}

static unsigned int nested;

static void detach_now(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int before = m->nr_submissions;

	intel_pasid_tear_down_entry(m->iommu[0], batch.entries[0].dev,
				    batch.entries[0].pasid);
	nested = m->nr_submissions - before;
}

/* Another caller does not wait for the batch, and does not rely on it either */
static void tear_down_flushes_during_a_batch(struct kunit *test)
{
	struct test_machine *m = test->priv;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	nested = 0;
	m->event = detach_now;
	intel_pasid_block_entries(batch.entries, batch.count, true);
	KUNIT_EXPECT_EQ(test, nested, 1);
	KUNIT_EXPECT_EQ(test, test_count(m, QI_PC_TYPE), 2);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[0]), PASID_PTE_FPD);
	KUNIT_EXPECT_FALSE(test, m->locked);
}

static u64 fields[7];

static void see_the_fields(struct kunit *test)
{
	memcpy(fields, &entry(0)->val[1], sizeof(fields));
}

/* Hardware that has read Present may still be reading the other fields */
static void block_changes_one_word_before_the_flush(struct kunit *test)
{
	struct test_machine *m = test->priv;
	u64 before[ARRAY_SIZE(fields)];

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	memcpy(before, &entry(0)->val[1], sizeof(before));
	m->event = see_the_fields;
	intel_pasid_block_entries(batch.entries, batch.count, true);
	KUNIT_EXPECT_MEMEQ(test, before, fields, sizeof(before));
}

static void block_now(struct kunit *test)
{
	intel_pasid_block_entries(batch.entries, batch.count, true);
}

/* The tear-down has cleared Present, and waits for the hardware */
static void entry_blocked_during_a_tear_down_stays_quiet(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	m->event = block_now;
	intel_pasid_tear_down_entry(m->iommu[0], batch.entries[0].dev, batch.entries[0].pasid);
	KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[0]), PASID_PTE_FPD);
	for (i = 1; i < ARRAY_SIZE(entry(0)->val); i++)
		KUNIT_EXPECT_EQ(test, READ_ONCE(entry(0)->val[i]), 0);
	KUNIT_EXPECT_FALSE(test, m->locked);
}

/* No descriptor with a parameter of the entry may be needed to get rid of it */
static void rejected_descriptor_invalidates_everything(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int n;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	test_forget(m);
	m->rc = -EINVAL;
	intel_pasid_block_entries(batch.entries, batch.count, true);
	/* PASID cache, IOTLB, device TLB; all; device TLB */
	n = 3;
	KUNIT_ASSERT_EQ(test, m->nr_descs, n + 3);
	KUNIT_EXPECT_EQ(test, m->descs[n].qw0, QI_PC_TYPE | QI_PC_GRAN(QI_PC_GLOBAL));
	KUNIT_EXPECT_EQ(test, test_type(m, n + 1), QI_IOTLB_TYPE);
	KUNIT_EXPECT_EQ(test, m->descs[n + 1].qw0 & (3 << 4),
			QI_IOTLB_GRAN(DMA_TLB_GLOBAL_FLUSH));
	KUNIT_EXPECT_EQ(test, test_type(m, n + 2), QI_DEIOTLB_TYPE);
}

/* A second device may be attached to the domain of a blocked device */
static void blocked_entry_takes_page_snoop_control(struct kunit *test)
{
	struct test_machine *m = test->priv;

	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_FL_ONLY);
	block(test);
	intel_pasid_setup_page_snoop_control(m->iommu[0], batch.entries[0].dev,
					     IOMMU_NO_PASID);
	KUNIT_EXPECT_TRUE(test, is_blocked(entry(0)));
}

/* Of a domain, while the DMA of one of its devices is blocked */
static void blocked_entry_takes_dirty_tracking(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int before;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	block(test);
	before = m->nr_submissions;
	KUNIT_EXPECT_EQ(test, 0,
			intel_pasid_setup_dirty_tracking(m->iommu[0],
							 batch.entries[0].dev,
							 1, 7, true));
	KUNIT_EXPECT_TRUE(test, is_blocked(entry(0)));
	KUNIT_EXPECT_EQ(test, m->nr_submissions, before);
}

static struct kunit_case pasid_test_cases[] = {
	KUNIT_CASE(second_stage_by_pasid_or_by_domain),
	KUNIT_CASE(first_stage_by_pasid_or_by_domain),
	KUNIT_CASE(shared_domain_id_only_by_pasid),
	KUNIT_CASE(fence_before_device_tlb_without_pasid),
	KUNIT_CASE(device_tlb_only_if_the_device_answers),
	KUNIT_CASE(each_iommu_gets_one_submission),
	KUNIT_CASE(largest_batch_fits),
	KUNIT_CASE(empty_entry_becomes_quiet),
	KUNIT_CASE(tear_down_keeps_a_blocked_entry_quiet),
	KUNIT_CASE(no_table_needs_no_memory),
	KUNIT_CASE(last_detach_flushes_and_then_frees_the_table),
	KUNIT_CASE(detached_pasids_leave_no_table),
	KUNIT_CASE(parked_pasid_stays_quiet_without_a_table),
	KUNIT_CASE(pasid_blocked_during_a_detach_is_quiet),
	KUNIT_CASE(reset_keeps_the_tables),
	KUNIT_CASE(blocked_pasid_keeps_its_table),
	KUNIT_CASE(tear_down_flushes_during_a_batch),
	KUNIT_CASE(block_changes_one_word_before_the_flush),
	KUNIT_CASE(entry_blocked_during_a_tear_down_stays_quiet),
	KUNIT_CASE(rejected_descriptor_invalidates_everything),
	KUNIT_CASE(blocked_entry_takes_page_snoop_control),
	KUNIT_CASE(blocked_entry_takes_dirty_tracking),
	{}
};

static struct kunit_suite pasid_test_suite = {
	.name = "intel-pasid",
	.init = pasid_test_init,
	.exit = test_machine_exit,
	.test_cases = pasid_test_cases,
};

kunit_test_suite(pasid_test_suite);
