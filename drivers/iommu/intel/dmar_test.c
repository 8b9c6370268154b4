// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of qi_submit_sync(): no descriptor is lost to an Invalidation
 * Time-out Error (ITE), which no emulated hardware raises, or to an Invalidation
 * Queue Error (IQE).
 *
 * The registers are memory, and another CPU plays the hardware. It does so in an
 * interrupt handler: a task on that CPU could be made to wait for the submitting
 * CPU, which polls with interrupts off until the hardware makes progress.
 */
#include <kunit/test.h>
#include <linux/pci.h>
#include <linux/rbtree.h>
#include <linux/smp.h>

#include "iommu.h"

/* Marker: cleared once software writes FSTS, as the register is plain memory */
#define TEST_UNWRITTEN	BIT(31)

/* An existing and a missing device */
#define TEST_SID	PCI_DEVID(0, PCI_DEVFN(1, 0))
#define TEST_GONE	PCI_DEVID(0, PCI_DEVFN(2, 0))

#define TEST_DEVTLB(sid)	(QI_DIOTLB_TYPE | QI_DEV_IOTLB_SID(sid))
#define TEST_DEVTLB_PASID(sid)	(QI_DEIOTLB_TYPE | QI_DEV_EIOTLB_SID(sid))

static const u64 test_caches[] = { QI_PC_TYPE, QI_PC_TYPE, QI_PC_TYPE, QI_PC_TYPE };
static const u64 test_devtlbs[] = {
	TEST_DEVTLB_PASID(TEST_SID), TEST_DEVTLB(TEST_SID),
	TEST_DEVTLB_PASID(TEST_SID),
};

struct test_submission {
	const u64 *qw0;
	unsigned int count;
	unsigned int first;	/* bit in @executed; the others follow */
	int rc;
	u64 done;		/* descriptors executed when it returned */
};

struct test_hw {
	struct intel_iommu iommu;
	struct q_inval qi;
	struct qi_desc desc[QI_LENGTH];
	int status[QI_LENGTH];
	u8 reg[VTD_PAGE_SIZE];
	struct device_domain_info info;
	struct pci_dev pdev;
	struct pci_bus bus;
	struct pci_ops ops;

	struct test_submission mine;
	struct test_submission other;	/* behind @mine, by a third CPU */

	/*
	 * Raise IQE at descriptor @at, or ITE after @until descriptors were
	 * fetched, of which [@at, @until) are not executed.
	 */
	u32 error;
	unsigned int at, until;

	unsigned int fetched;
	u64 executed;		/* bits of descriptors, as in their qw1 */
	bool disordered;	/* out of order, or executed twice */
	u32 raised;
	bool stale;		/* a CPU may still act on an error it read earlier */
	const char *wrong;
	atomic_t busy;		/* CPUs */
};

static void hw_raise(struct test_hw *hw)
{
	hw->raised = hw->error;
	/* Once */
	hw->error = 0;
	writeq((u64)TEST_GONE << 32, hw->iommu.reg + DMAR_IQER_REG);
	writel(hw->raised | TEST_UNWRITTEN, hw->iommu.reg + DMAR_FSTS_REG);
}

/* Return true while an error stops the hardware; software clears it by writing 1 */
static bool hw_error(struct test_hw *hw)
{
	void __iomem *reg = hw->iommu.reg + DMAR_FSTS_REG;
	u32 fsts = readl(reg);

	if (fsts && !(fsts & TEST_UNWRITTEN)) {
		hw->raised &= ~fsts;
		writel(hw->raised ? hw->raised | TEST_UNWRITTEN : 0, reg);
		hw->stale = true;
	} else if (hw->stale && raw_spin_trylock(&hw->qi.q_lock)) {
		/* The lock was free: no CPU is inside qi_check_fault() */
		hw->stale = readl(reg);
		raw_spin_unlock(&hw->qi.q_lock);
	}
	return hw->raised || hw->stale;
}

static void hw_execute(struct test_hw *hw, const struct qi_desc *desc)
{
	if ((desc->qw0 & 0xf) == QI_IWD_TYPE) {
		if (desc->qw0 & QI_IWD_STATUS_WRITE)
			WRITE_ONCE(*(u32 *)phys_to_virt(desc->qw1), desc->qw0 >> 32);
		return;
	}
	if (ecap_smts(hw->iommu.ecap) && desc->qw3 != desc->qw1)
		hw->wrong = "a descriptor is not what was submitted";
	hw->disordered |= desc->qw1 <= hw->executed;
	WRITE_ONCE(hw->executed, hw->executed | desc->qw1);
}

/* Fetch a descriptor, if there is one, after everything has been submitted */
static void hw_step(struct test_hw *hw)
{
	unsigned int all = hw->mine.count + 1 + hw->other.count + !!hw->other.count;
	void __iomem *reg = hw->iommu.reg;
	int shift = qi_shift(&hw->iommu);
	unsigned int head, queued;
	struct qi_desc desc;
	bool lost;

	if (hw_error(hw))
		return;
	head = readl(reg + DMAR_IQH_REG) >> shift;
	queued = ((readl(reg + DMAR_IQT_REG) >> shift) - head) % QI_LENGTH;
	if (!queued || hw->fetched + queued < all)
		return;

	if (READ_ONCE(hw->status[head]) != QI_IN_USE)
		hw->wrong = "a slot was freed before it was fetched";
	if (hw->error == DMA_FSTS_IQE && hw->fetched == hw->at) {
		hw_raise(hw);
		return;
	}

	memcpy(&desc, hw->qi.desc + (head << shift), 1 << shift);
	lost = hw->error == DMA_FSTS_ITE && hw->fetched >= hw->at;
	hw->fetched++;
	writel((head + 1) % QI_LENGTH << shift, reg + DMAR_IQH_REG);
	if (!lost)
		hw_execute(hw, &desc);
	if (hw->error == DMA_FSTS_ITE && hw->fetched == hw->until)
		hw_raise(hw);
}

/* The test has failed: release the CPUs that poll */
static void hw_give_up(struct test_hw *hw)
{
	int i;

	hw->wrong = "a submission does not end";
	raw_spin_lock(&hw->qi.q_lock);
	for (i = 0; i < QI_LENGTH; i++)
		if (hw->status[i] != QI_FREE)
			hw->status[i] = QI_DONE;
	writel(0, hw->iommu.reg + DMAR_FSTS_REG);
	raw_spin_unlock(&hw->qi.q_lock);
}

static void hw_run(void *data)
{
	cycles_t start = get_cycles();
	struct test_hw *hw = data;

	while (atomic_read(&hw->busy) > 1) {
		if (get_cycles() - start < DMAR_OPERATION_TIMEOUT / 2)
			hw_step(hw);
		else
			hw_give_up(hw);
		cpu_relax();
	}
	atomic_dec(&hw->busy);
}

static void submit(struct test_hw *hw, struct test_submission *s)
{
	struct qi_desc desc[ARRAY_SIZE(test_caches)] = {};
	unsigned int i;

	for (i = 0; i < s->count; i++) {
		desc[i].qw0 = s->qw0[i];
		desc[i].qw1 = BIT_ULL(s->first + i);
		desc[i].qw3 = desc[i].qw1;
	}
	s->rc = qi_submit_sync(&hw->iommu, desc, s->count, 0);
	s->done = READ_ONCE(hw->executed) >> s->first & (BIT(s->count) - 1);
	atomic_dec(&hw->busy);
}

static void submit_other(void *data)
{
	struct test_hw *hw = data;

	while (readl(hw->iommu.reg + DMAR_IQT_REG) ==
	       readl(hw->iommu.reg + DMAR_IQH_REG) && !READ_ONCE(hw->wrong))
		cpu_relax();
	submit(hw, &hw->other);
}

/* Submit both; the whole queue must be free afterwards */
static void run(struct kunit *test, int rc, unsigned int fetched, u64 done)
{
	struct test_hw *hw = test->priv;
	unsigned int jobs = hw->other.count ? 2 : 1;
	unsigned int here, cpu;

	hw->fetched = 0;
	hw->executed = 0;
	hw->disordered = false;
	atomic_set(&hw->busy, jobs + 1);

	/* No preemption by a task that waits for the other CPUs */
	here = get_cpu();
	for_each_online_cpu(cpu)
		if (cpu != here && jobs)
			smp_call_function_single(cpu, --jobs ? submit_other : hw_run,
						 hw, false);
	submit(hw, &hw->mine);
	while (atomic_read_acquire(&hw->busy))
		cpu_relax();
	put_cpu();

	KUNIT_ASSERT_NULL_MSG(test, hw->wrong, "%s", hw->wrong);
	KUNIT_EXPECT_EQ(test, hw->mine.rc, rc);
	KUNIT_EXPECT_EQ(test, hw->fetched, fetched);
	KUNIT_EXPECT_EQ(test, hw->mine.done, done);
	if (hw->other.count) {
		KUNIT_EXPECT_EQ(test, hw->other.rc, 0);
		KUNIT_EXPECT_EQ(test, hw->other.done, 0x3);
	}

	KUNIT_ASSERT_EQ(test, hw->qi.free_cnt, QI_LENGTH);
	KUNIT_ASSERT_EQ(test, hw->qi.free_head, hw->qi.free_tail);
	KUNIT_ASSERT_EQ(test, hw->qi.free_head << qi_shift(&hw->iommu),
			readl(hw->iommu.reg + DMAR_IQH_REG));
	KUNIT_ASSERT_NULL(test, memchr_inv(hw->status, QI_FREE, sizeof(hw->status)));
}

static void mine(struct kunit *test, const u64 *qw0, unsigned int count)
{
	struct test_hw *hw = test->priv;

	hw->mine.qw0 = qw0;
	hw->mine.count = count;
	hw->other.count = 0;
}

static void expect_plain(struct kunit *test, unsigned int count)
{
	struct test_hw *hw = test->priv;

	mine(test, test_caches, count);
	run(test, 0, count + 1, BIT(count) - 1);
	KUNIT_EXPECT_FALSE(test, hw->disordered);
}

/*
 * An error where the ring wraps: before the wait descriptor of @mine, or before
 * @other. The next submission must not be affected.
 */
static void expect(struct kunit *test, u32 error, unsigned int at,
		   unsigned int until, unsigned int fetched, u64 done)
{
	struct test_hw *hw = test->priv;

	hw->qi.free_head = QI_LENGTH - hw->mine.count - !!hw->other.count;
	hw->qi.free_tail = hw->qi.free_head;
	writel(hw->qi.free_head << qi_shift(&hw->iommu), hw->iommu.reg + DMAR_IQH_REG);
	writel(hw->qi.free_head << qi_shift(&hw->iommu), hw->iommu.reg + DMAR_IQT_REG);
	hw->error = error;
	hw->at = at;
	hw->until = until;
	run(test, error == DMA_FSTS_IQE ? -EINVAL : 0, fetched, done);
	expect_plain(test, 2);
}

/* All around the ring */
static void descriptors_are_executed_once_and_in_order(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < QI_LENGTH / 2; i++)
		expect_plain(test, 1 + i % ARRAY_SIZE(test_caches));
}

static void ite_at_the_wait_is_resubmitted(struct kunit *test)
{
	unsigned int at;

	for (at = 0; at < 3; at++) {
		mine(test, test_devtlbs, 3);
		expect(test, DMA_FSTS_ITE, at, 4, 4 + 4, 0x7);
	}
}

/* The wait descriptor is executed, but not all descriptors ahead of it */
static void ite_before_the_wait_is_resubmitted(struct kunit *test)
{
	unsigned int at, until;

	for (at = 0; at < 3; at++) {
		for (until = at + 1; until < 4; until++) {
			mine(test, test_devtlbs, 3);
			expect(test, DMA_FSTS_ITE, at, until, 4 + 4, 0x7);
		}
	}
}

/* Which CPU finds the error is left to chance */
static void two_submissions(struct kunit *test)
{
	struct test_hw *hw = test->priv;

	if (num_online_cpus() < 3)
		kunit_skip(test, "needs three CPUs");
	mine(test, test_devtlbs, 2);
	/* Not of devices: device_rbtree_lock is not for use in interrupts */
	hw->other.qw0 = test_caches;
	hw->other.count = 2;
}

static void ite_of_another_submission_is_resubmitted(struct kunit *test)
{
	unsigned int at, until;

	for (at = 0; at < 2; at++) {
		for (until = at + 1; until <= 6; until++) {
			two_submissions(test);
			expect(test, DMA_FSTS_ITE, at, until,
			       6 + 3 + (until > 3 ? 3 : 0), 0x3);
		}
	}
}

static void devices_that_are_gone_are_not_resubmitted(struct kunit *test)
{
	static const u64 some[] = {
		QI_PC_TYPE, TEST_DEVTLB_PASID(TEST_GONE), TEST_DEVTLB(TEST_SID),
		TEST_DEVTLB(TEST_GONE),
	};
	static const u64 all[] = {
		TEST_DEVTLB(TEST_GONE), TEST_DEVTLB_PASID(TEST_SID),
	};
	struct test_hw *hw = test->priv;

	mine(test, some, 4);
	expect(test, DMA_FSTS_ITE, 1, 5, 5 + 3, BIT(0) | BIT(2));

	/* Unplugged, but not released; nothing is left but the wait */
	hw->pdev.error_state = pci_channel_io_perm_failure;
	mine(test, all, 2);
	expect(test, DMA_FSTS_ITE, 0, 2, 3 + 1, 0);
}

/* A device that never gets its response waits forever; a second one is harmless */
static void page_response_is_resubmitted(struct kunit *test)
{
	static const u64 response = QI_PGRP_RESP_TYPE;
	unsigned int at, until;

	for (at = 0; at < 2; at++) {
		for (until = at + 1; until <= 2; until++) {
			mine(test, &response, 1);
			expect(test, DMA_FSTS_ITE, at, until, 2 + 2, BIT(0));
		}
	}
}

/* The descriptors behind it are executed, and waited for */
static void iqe_rejects_one_descriptor_only(struct kunit *test)
{
	unsigned int at;

	for (at = 0; at < 3; at++) {
		mine(test, test_caches, 3);
		expect(test, DMA_FSTS_IQE, at, 0, 4, 0x7 & ~BIT(at));
	}
}

static void iqe_of_another_submission_is_left_to_its_cpu(struct kunit *test)
{
	unsigned int at;

	for (at = 0; at < 2; at++) {
		two_submissions(test);
		expect(test, DMA_FSTS_IQE, at, 0, 6, 0x3 & ~BIT(at));
	}
}

/* A config space that answers, so that the device counts as present */
static int config_read(struct pci_bus *bus, unsigned int devfn, int where,
		       int size, u32 *val)
{
	*val = 0x11f01234;
	return PCIBIOS_SUCCESSFUL;
}

static const struct test_width {
	const char *name;
	u64 ecap;
} test_widths[] = {
	{ "128 bits", 0 },
	{ "256 bits", BIT_ULL(43) },	/* scalable mode */
};

KUNIT_ARRAY_PARAM_DESC(test_width, test_widths, name);

static int dmar_test_init(struct kunit *test)
{
	const struct test_width *width = test->param_value;
	struct test_hw *hw;

	/* Sleeping spinlocks cannot be taken with preemption disabled */
	if (num_online_cpus() < 2 || IS_ENABLED(CONFIG_PREEMPT_RT))
		kunit_skip(test, "needs two CPUs, and not PREEMPT_RT");
	hw = kunit_kzalloc(test, sizeof(*hw), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hw);
	test->priv = hw;

	hw->iommu.reg = (__force void __iomem *)hw->reg;
	hw->iommu.ecap = width->ecap;
	hw->iommu.qi = &hw->qi;
	raw_spin_lock_init(&hw->qi.q_lock);
	hw->qi.desc = hw->desc;
	hw->qi.desc_status = hw->status;
	hw->qi.free_cnt = QI_LENGTH;
	hw->other.first = 8;

	hw->ops.read = config_read;
	hw->bus.ops = &hw->ops;
	hw->pdev.bus = &hw->bus;
	hw->info.dev = &hw->pdev.dev;
	hw->info.devfn = TEST_SID;
	spin_lock_init(&hw->iommu.device_rbtree_lock);
	rb_link_node(&hw->info.node, NULL, &hw->iommu.device_rbtree.rb_node);
	rb_insert_color(&hw->info.node, &hw->iommu.device_rbtree);
	return 0;
}

static struct kunit_case dmar_test_cases[] = {
	KUNIT_CASE_PARAM(descriptors_are_executed_once_and_in_order, test_width_gen_params),
	KUNIT_CASE_PARAM(ite_at_the_wait_is_resubmitted, test_width_gen_params),
	KUNIT_CASE_PARAM(ite_before_the_wait_is_resubmitted, test_width_gen_params),
	KUNIT_CASE_PARAM(ite_of_another_submission_is_resubmitted, test_width_gen_params),
	KUNIT_CASE_PARAM(devices_that_are_gone_are_not_resubmitted, test_width_gen_params),
	KUNIT_CASE_PARAM(page_response_is_resubmitted, test_width_gen_params),
	KUNIT_CASE_PARAM(iqe_rejects_one_descriptor_only, test_width_gen_params),
	KUNIT_CASE_PARAM(iqe_of_another_submission_is_left_to_its_cpu, test_width_gen_params),
	{}
};

static struct kunit_suite dmar_test_suite = {
	.name = "intel-dmar",
	.init = dmar_test_init,
	.test_cases = dmar_test_cases,
};

kunit_test_suite(dmar_test_suite);
