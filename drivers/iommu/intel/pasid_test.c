// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of which invalidations a batch of blocked entries asks for, and in
 * which order: the emulated hardware that the other tests run on has neither
 * several IOMMUs nor invalidations that overtake each other. Included by pasid.c.
 */
#include <kunit/test.h>

#define TEST_DEVICES	2

/* A config space that answers, so that the device counts as present */
static int test_read(struct pci_bus *bus, unsigned int devfn, int where,
		     int size, u32 *val)
{
	*val = 0x11f01234;
	return PCIBIOS_SUCCESSFUL;
}

struct test_machine {
	struct intel_iommu *iommu[TEST_DEVICES];
	struct device_domain_info info[TEST_DEVICES];
	struct dev_iommu dev_iommu[TEST_DEVICES];
	struct pci_dev pdev[TEST_DEVICES];
	struct pci_bus bus;
	struct pci_ops ops;
	struct iommu_dev_pasid batch[IOMMU_BLOCK_BATCH];
	struct pasid_blocked blocked[IOMMU_BLOCK_BATCH];
	unsigned int count;
};

/* Devices with ATS, each behind an IOMMU of its own */
static int pasid_test_init(struct kunit *test)
{
	struct test_machine *m;
	unsigned int i;

	m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m);
	test->priv = m;

	m->ops.read = test_read;
	m->bus.ops = &m->ops;
	for (i = 0; i < TEST_DEVICES; i++) {
		m->iommu[i] = kunit_kzalloc(test, sizeof(**m->iommu), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, m->iommu[i]);
		m->iommu[i]->gcmd = DMA_GCMD_TE;
		m->iommu[i]->node = NUMA_NO_NODE;
		spin_lock_init(&m->iommu[i]->lock);

		m->pdev[i].bus = &m->bus;
		m->pdev[i].dev.bus = &pci_bus_type;
		m->pdev[i].dev.iommu = &m->dev_iommu[i];
		m->dev_iommu[i].priv = &m->info[i];
		m->info[i].iommu = m->iommu[i];
		m->info[i].devfn = i;
		m->info[i].ats_enabled = 1;
		KUNIT_ASSERT_EQ(test, 0, intel_pasid_alloc_table(&m->pdev[i].dev));
	}
	return 0;
}

static void pasid_test_exit(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int i;

	for (i = 0; m && i < TEST_DEVICES; i++)
		intel_pasid_free_table(&m->pdev[i].dev);
}

/* An entry that is present, and to be blocked */
static void add(struct kunit *test, unsigned int device, u32 pasid, u16 did,
		u16 pgtt)
{
	struct test_machine *m = test->priv;
	struct pasid_entry *pte;

	KUNIT_ASSERT_LT(test, m->count, IOMMU_BLOCK_BATCH);
	pte = intel_pasid_get_entry(&m->pdev[device].dev, pasid);
	KUNIT_ASSERT_NOT_NULL(test, pte);
	pasid_set_domain_id(pte, did);
	pasid_set_translation_type(pte, pgtt);
	pasid_set_present(pte);
	m->batch[m->count].dev = &m->pdev[device].dev;
	m->batch[m->count++].pasid = pasid;
}

/* How many descriptors there are for what was added, in iommu->block_descs */
static unsigned int descs_of(struct kunit *test, unsigned int device)
{
	struct intel_iommu *iommu;
	struct test_machine *m = test->priv;
	unsigned int i, n;

	iommu = m->iommu[device];
	spin_lock(&iommu->lock);
	n = pasid_clear_entries(iommu, m->batch, m->count, m->blocked);
	for (i = 0; i < n; i++) {
		KUNIT_EXPECT_FALSE(test, pasid_pte_is_present(m->blocked[i].pte));
		KUNIT_EXPECT_TRUE(test, pasid_pte_is_fault_disabled(m->blocked[i].pte));
	}
	n = pasid_block_descs(iommu, m->blocked, n);
	spin_unlock(&iommu->lock);
	return n;
}

/* Of the descriptors, how many are of the type, and that they are in order */
static unsigned int of_type(struct kunit *test, unsigned int device,
			    unsigned int n, unsigned int type)
{
	static const u8 order[] = {
		[QI_PC_TYPE] = 1, [QI_IOTLB_TYPE] = 2, [QI_EIOTLB_TYPE] = 2,
		[QI_IWD_TYPE] = 3, [QI_DIOTLB_TYPE] = 4, [QI_DEIOTLB_TYPE] = 4,
	};
	struct test_machine *m = test->priv;
	unsigned int i, t, last = 1, found = 0;

	for (i = 0; i < n; i++) {
		t = m->iommu[device]->block_descs[i].qw0 & 0xf;
		KUNIT_ASSERT_LT(test, t, ARRAY_SIZE(order));
		KUNIT_EXPECT_GE(test, order[t], last);
		last = order[t];
		found += t == type;
	}
	return found;
}

/* Entries of one second-level domain: from the fourth on it is by domain */
static void few_by_pasid_many_by_domain(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int entries, i, n;

	for (entries = 1; entries <= 5; entries++) {
		m->count = 0;
		for (i = 0; i < entries; i++)
			add(test, 0, 1 + i, 7, PASID_ENTRY_PGTT_SL_ONLY);
		n = descs_of(test, 0);
		KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_PC_TYPE),
				entries < 4 ? entries : 1);
		KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IOTLB_TYPE), 1);
		KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DEIOTLB_TYPE), entries);
		KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IWD_TYPE), 0);
		KUNIT_EXPECT_EQ(test, m->iommu[0]->block_descs[0].qw0,
				QI_PC_TYPE | QI_PC_DID(7) |
				(entries < 4 ? QI_PC_GRAN(QI_PC_PASID_SEL) |
					       QI_PC_PASID(1) :
					       QI_PC_GRAN(QI_PC_ALL_PASIDS)));
	}
}

/* First level: the IOTLB by PASID as well, and the domain's from the fourth on */
static void first_level_by_pasid(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int entries, i, n;

	for (entries = 1; entries <= 5; entries++) {
		m->count = 0;
		for (i = 0; i < entries; i++)
			add(test, 0, 1 + i, 7, PASID_ENTRY_PGTT_FL_ONLY);
		n = descs_of(test, 0);
		KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_EIOTLB_TYPE),
				entries < 4 ? entries : 0);
		KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IOTLB_TYPE),
				entries < 4 ? 0 : 1);
	}
}

/* The domain ID that SVA and identity domains of all owners share */
static void shared_domain_id_only_by_pasid(struct kunit *test)
{
	unsigned int i, n;

	for (i = 0; i < IOMMU_BLOCK_BATCH; i++)
		add(test, 0, 1 + i, FLPT_DEFAULT_DID, PASID_ENTRY_PGTT_FL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_PC_TYPE), IOMMU_BLOCK_BATCH);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_EIOTLB_TYPE), IOMMU_BLOCK_BATCH);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IOTLB_TYPE), 0);
}

/* The device TLB of DMA without PASID does not wait for a PASID-based IOTLB's */
static void fence_before_device_tlb_without_pasid(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int n;

	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_FL_ONLY);
	add(test, 0, 1, 8, PASID_ENTRY_PGTT_FL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IWD_TYPE), 1);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DIOTLB_TYPE), 1);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DEIOTLB_TYPE), 1);

	m->count = 0;
	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_SL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IWD_TYPE), 0);

	m->count = 0;
	m->info[0].ats_enabled = 0;
	add(test, 0, IOMMU_NO_PASID, 7, PASID_ENTRY_PGTT_FL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, n, 2);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_EIOTLB_TYPE), 1);
}

/* Device TLBs are asked where they can answer: ATS is on, and so is translation */
static void device_tlb_if_it_answers(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int n;

	m->info[0].dtlb_extra_inval = 1;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DEIOTLB_TYPE), 2);

	m->count = 0;
	m->iommu[0]->gcmd = 0;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DEIOTLB_TYPE), 0);

	m->count = 0;
	m->iommu[0]->gcmd = DMA_GCMD_TE;
	m->pdev[0].error_state = pci_channel_io_perm_failure;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DEIOTLB_TYPE), 0);
}

/* Each IOMMU has what is its own, in order of the domains */
static void two_iommus(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int n;

	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	add(test, 1, 1, 7, PASID_ENTRY_PGTT_FL_ONLY);
	add(test, 0, 2, 8, PASID_ENTRY_PGTT_SL_ONLY);
	n = descs_of(test, 1);
	KUNIT_EXPECT_EQ(test, n, 3);
	KUNIT_EXPECT_EQ(test, of_type(test, 1, n, QI_EIOTLB_TYPE), 1);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, n, 6);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_PC_TYPE), 2);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_IOTLB_TYPE), 2);
	KUNIT_EXPECT_EQ(test, of_type(test, 0, n, QI_DEIOTLB_TYPE), 2);

	/* Both tables, by the whole function: blocked, and quiet */
	m->count = 0;
	add(test, 0, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	add(test, 1, 1, 7, PASID_ENTRY_PGTT_SL_ONLY);
	intel_pasid_block_entries(m->batch, m->count);
	for (n = 0; n < TEST_DEVICES; n++)
		KUNIT_EXPECT_EQ(test, PASID_PTE_FPD,
				intel_pasid_get_entry(&m->pdev[n].dev, 1)->val[0]);
}

/* As many descriptors as there can be: the buffer has room for no more */
static void the_most_there_can_be(struct kunit *test)
{
	struct test_machine *m = test->priv;
	unsigned int i, n;

	m->info[0].dtlb_extra_inval = 1;
	for (i = 0; i < IOMMU_BLOCK_BATCH; i++)
		add(test, 0, i, 100 + i, PASID_ENTRY_PGTT_FL_ONLY);
	n = descs_of(test, 0);
	KUNIT_EXPECT_EQ(test, n, QI_BLOCK_DESCS);
}

static struct kunit_case pasid_test_cases[] = {
	KUNIT_CASE(few_by_pasid_many_by_domain),
	KUNIT_CASE(first_level_by_pasid),
	KUNIT_CASE(shared_domain_id_only_by_pasid),
	KUNIT_CASE(fence_before_device_tlb_without_pasid),
	KUNIT_CASE(device_tlb_if_it_answers),
	KUNIT_CASE(two_iommus),
	KUNIT_CASE(the_most_there_can_be),
	{}
};

static struct kunit_suite pasid_test_suite = {
	.name = "intel-pasid",
	.init = pasid_test_init,
	.exit = pasid_test_exit,
	.test_cases = pasid_test_cases,
};

kunit_test_suite(pasid_test_suite);
