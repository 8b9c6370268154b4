// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of drains of the page request queue that run at once. The queue and
 * the registers are memory. Threads drain, and the test calls what the interrupt of
 * the queue calls.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>

#include "test_iommu.h"

#define TEST_PASID	1
#define TEST_DRAINS	3

#define PRQ_ENTRY	32
#define PRQ_QWORDS	(PRQ_ENTRY / sizeof(u64))
/* Drop it: there is no answer to a Stop Marker */
#define PRQ_STOP_MARKER	BIT_ULL(2)

/* What has not happened by then never will */
#define TEST_TIMEOUT	(30 * HZ)
#define TEST_PAUSE_MS	50

struct drain {
	struct kunit *test;
	struct device *dev;
	u32 pasid;
	struct completion ended;
};

static int drain_fn(void *arg)
{
	struct drain *drain = arg;

	/* For the stub of qi_submit_sync() */
	current->kunit_test = drain->test;
	intel_iommu_drain_pasid_prq(drain->dev, drain->pasid);
	current->kunit_test = NULL;
	complete(&drain->ended);
	return 0;
}

static struct drain *drain_start(struct kunit *test, u32 pasid)
{
	struct test_machine *m = test->priv;
	struct task_struct *task;
	struct drain *drain;

	drain = kunit_kzalloc(test, sizeof(*drain), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, drain);
	drain->test = test;
	drain->dev = &m->pdev[0].dev;
	drain->pasid = pasid;
	init_completion(&drain->ended);
	task = kthread_run(drain_fn, drain, "prq_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	return drain;
}

static u64 read_reg(struct intel_iommu *iommu, unsigned int reg)
{
	return readq(iommu->reg + reg);
}

/* Hardware writes a request, which the thread only has to drop */
static void ask(struct intel_iommu *iommu, u16 sid, u32 pasid)
{
	u64 tail = read_reg(iommu, DMAR_PQT_REG);
	u64 *entry = (u64 *)iommu->prq + tail / PRQ_ENTRY * PRQ_QWORDS;

	entry[0] = BIT_ULL(8) | (u64)sid << 16 | (u64)pasid << 32;
	entry[1] = PRQ_STOP_MARKER;
	writeq((tail + PRQ_ENTRY) & PRQ_RING_MASK, iommu->reg + DMAR_PQT_REG);
}

static void expect_ended(struct kunit *test, struct drain *drain)
{
	struct test_machine *m = test->priv;

	if (wait_for_completion_timeout(&drain->ended, TEST_TIMEOUT))
		return;
	KUNIT_FAIL(test, "a drain does not end");
	/* The thread uses memory of this test: wake it until it ends */
	do {
		prq_event_thread(0, m->iommu[0]);
	} while (!wait_for_completion_timeout(&drain->ended, HZ));
}

static void expect_waiting(struct kunit *test, struct drain *drain)
{
	msleep(TEST_PAUSE_MS);
	KUNIT_EXPECT_FALSE(test, completion_done(&drain->ended));
}

/* All wait for the same request, and the queue is read once */
static void drains_at_once_all_end(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct drain *drain[TEST_DRAINS];
	unsigned int i;

	ask(m->iommu[0], m->info[0].devfn, TEST_PASID);
	for (i = 0; i < TEST_DRAINS; i++)
		drain[i] = drain_start(test, TEST_PASID);
	for (i = 0; i < TEST_DRAINS; i++)
		expect_waiting(test, drain[i]);
	prq_event_thread(0, m->iommu[0]);
	for (i = 0; i < TEST_DRAINS; i++)
		expect_ended(test, drain[i]);
	KUNIT_EXPECT_EQ(test, TEST_DRAINS, m->nr_drains);
}

/* A drain of another PASID comes and goes while the first waits */
static void drain_of_another_pasid_does_not_wait(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct drain *drain, *other;

	ask(m->iommu[0], m->info[0].devfn, TEST_PASID);
	ask(m->iommu[0], m->info[0].devfn + 1, TEST_PASID + 1);
	drain = drain_start(test, TEST_PASID);
	expect_waiting(test, drain);
	other = drain_start(test, TEST_PASID + 1);
	expect_ended(test, other);
	expect_waiting(test, drain);
	prq_event_thread(0, m->iommu[0]);
	expect_ended(test, drain);
}

/* Some requests are handled, and the ring has been filled again behind them */
static void handle_and_fill(struct intel_iommu *iommu, unsigned int nr, u16 sid)
{
	u64 head;

	spin_lock_irq(&iommu->prq_wait.lock);
	head = read_reg(iommu, DMAR_PQH_REG) + nr * PRQ_ENTRY;
	writeq(head & PRQ_RING_MASK, iommu->reg + DMAR_PQH_REG);
	iommu->prq_handled += nr;
	while (((read_reg(iommu, DMAR_PQT_REG) + PRQ_ENTRY) & PRQ_RING_MASK) !=
	       read_reg(iommu, DMAR_PQH_REG))
		ask(iommu, sid, TEST_PASID);
	wake_up_all_locked(&iommu->prq_wait);
	spin_unlock_irq(&iommu->prq_wait.lock);
}

/*
 * The queue is read up to a request, but hardware has written more of them. When
 * the drain looks, the queue has them at any place, before and behind its end.
 */
static void drain_does_not_wait_for_later_requests(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct intel_iommu *iommu = m->iommu[0];
	u16 sid = m->info[0].devfn;
	struct drain *drain;
	unsigned int i;

	/* Three requests to the end of the ring */
	writeq(PRQ_SIZE - 3 * PRQ_ENTRY, iommu->reg + DMAR_PQT_REG);
	writeq(PRQ_SIZE - 3 * PRQ_ENTRY, iommu->reg + DMAR_PQH_REG);
	for (i = 0; i < 5; i++)
		ask(iommu, sid, TEST_PASID);
	drain = drain_start(test, TEST_PASID);
	expect_waiting(test, drain);

	/* Not all that it waits for */
	spin_lock_irq(&iommu->prq_wait.lock);
	writeq(0, iommu->reg + DMAR_PQH_REG);
	iommu->prq_handled += 3;
	wake_up_all_locked(&iommu->prq_wait);
	spin_unlock_irq(&iommu->prq_wait.lock);
	expect_waiting(test, drain);

	/* All: it drains the hardware next, and then waits for the new ones */
	handle_and_fill(iommu, 2, sid);
	expect_waiting(test, drain);
	KUNIT_EXPECT_EQ(test, 1, m->nr_drains);

	/* They are all, and not those that came since */
	handle_and_fill(iommu, PRQ_SIZE / PRQ_ENTRY - 1, sid);
	expect_ended(test, drain);
}

/* The first write of the thread clears all of this register, as it is memory */
static void drains_of_a_full_queue_all_end(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct drain *drain[TEST_DRAINS];
	unsigned int i;

	writel(DMA_PRS_PRO, m->iommu[0]->reg + DMAR_PRS_REG);
	for (i = 0; i < TEST_DRAINS; i++)
		drain[i] = drain_start(test, TEST_PASID);
	for (i = 0; i < TEST_DRAINS; i++)
		expect_waiting(test, drain[i]);
	prq_event_thread(0, m->iommu[0]);
	for (i = 0; i < TEST_DRAINS; i++)
		expect_ended(test, drain[i]);
	/* Once more, without an overflow */
	KUNIT_EXPECT_EQ(test, 2 * TEST_DRAINS, m->nr_drains);
}

/* Cleared, and the queue is full again */
static void overflow_again(struct kunit *test)
{
	struct test_machine *m = test->priv;

	m->iommu[0]->prq_overflows++;
	m->event = overflow_again;
}

static void drain_ends_although_the_queue_overflows_again(struct kunit *test)
{
	struct test_machine *m = test->priv;

	writel(DMA_PRS_PRO, m->iommu[0]->reg + DMAR_PRS_REG);
	m->event = overflow_again;
	expect_ended(test, drain_start(test, TEST_PASID));
	KUNIT_EXPECT_GE(test, m->nr_drains, 2);
	m->event = NULL;
}

/* What hardware still has comes into the queue when it is told to drain */
static void ask_now(struct kunit *test)
{
	struct test_machine *m = test->priv;

	ask(m->iommu[0], m->info[0].devfn, TEST_PASID);
}

static void drain_waits_for_what_hardware_drains(struct kunit *test)
{
	struct test_machine *m = test->priv;
	struct drain *drain;

	m->event = ask_now;
	drain = drain_start(test, TEST_PASID);
	expect_waiting(test, drain);
	KUNIT_EXPECT_EQ(test, 1, m->nr_drains);
	prq_event_thread(0, m->iommu[0]);
	expect_ended(test, drain);
}

/* A page request that a handler has not answered yet */
static void add_group(struct iopf_group *group, struct iommu_fault_param *param,
		      u32 pasid)
{
	struct iommu_fault_page_request *prm = &group->last_fault.fault.prm;

	prm->flags = IOMMU_FAULT_PAGE_REQUEST_LAST_PAGE;
	if (pasid != IOMMU_NO_PASID)
		prm->flags |= IOMMU_FAULT_PAGE_REQUEST_PASID_VALID;
	prm->pasid = pasid;
	group->fault_param = param;
	INIT_LIST_HEAD(&group->faults);
	list_add(&group->last_fault.list, &group->faults);
	list_add(&group->pending_node, &param->faults);
}

/* The first request of a group whose last one has not come */
static struct iopf_fault *add_partial(struct kunit *test,
				      struct iommu_fault_param *param, u32 pasid)
{
	struct iopf_fault *iopf = kzalloc_obj(*iopf);

	KUNIT_ASSERT_NOT_NULL(test, iopf);
	iopf->fault.prm.flags = IOMMU_FAULT_PAGE_REQUEST_PASID_VALID;
	iopf->fault.prm.pasid = pasid;
	list_add(&iopf->list, &param->partial);
	return iopf;
}

static void drain_answers_in_place_of_the_handlers_of_its_pasid(struct kunit *test)
{
	static const u32 pasids[] = { TEST_PASID, TEST_PASID + 1, IOMMU_NO_PASID };
	struct iopf_group groups[ARRAY_SIZE(pasids)] = {};
	struct test_machine *m = test->priv;
	struct device *dev = &m->pdev[0].dev;
	struct iommu_fault_param *param;
	struct iopf_fault *partial;
	unsigned int i;

	param = rcu_dereference_protected(dev->iommu->fault_param, true);
	/* As a group has */
	refcount_inc(&param->users);
	for (i = 0; i < ARRAY_SIZE(pasids); i++)
		add_group(&groups[i], param, pasids[i]);
	add_partial(test, param, TEST_PASID);
	partial = add_partial(test, param, TEST_PASID + 1);

	intel_iommu_drain_pasid_prq(dev, TEST_PASID);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_PGRP_RESP_TYPE));
	KUNIT_EXPECT_EQ(test, m->descs[0].qw0,
			QI_PGRP_PASID((u64)TEST_PASID) | QI_PGRP_PASID_P(1) |
			QI_PGRP_RESP_CODE(QI_RESP_INVALID) | QI_PGRP_RESP_TYPE);
	KUNIT_EXPECT_TRUE(test, groups[0].discarded);
	KUNIT_EXPECT_TRUE(test, list_is_singular(&param->partial));
	KUNIT_EXPECT_PTR_EQ(test, partial, list_first_entry(&param->partial,
							    struct iopf_fault, list));

	/* The handlers end: this one has been answered */
	test_forget(m);
	iopf_group_response(&groups[0], IOMMU_PAGE_RESP_SUCCESS);
	KUNIT_EXPECT_EQ(test, 0, m->nr_submissions);
	iopf_group_response(&groups[1], IOMMU_PAGE_RESP_SUCCESS);
	KUNIT_EXPECT_EQ(test, 1, test_count(m, QI_PGRP_RESP_TYPE));

	/* The groups belong to the handlers: they are answered, not freed */
	iopf_queue_remove_device(m->iommu[0]->iopf_queue, dev);
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_PGRP_RESP_TYPE));
	KUNIT_EXPECT_TRUE(test, groups[2].discarded);
	iopf_group_response(&groups[2], IOMMU_PAGE_RESP_SUCCESS);
	KUNIT_EXPECT_EQ(test, 2, test_count(m, QI_PGRP_RESP_TYPE));
	kfree(param);
}

static int prq_test_init(struct kunit *test)
{
	struct iopf_queue *queue;
	struct test_machine *m;
	int ret;

	ret = test_machine_init(test);
	if (ret)
		return ret;
	m = test->priv;
	m->iommu[0]->prq = kunit_kzalloc(test, PRQ_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m->iommu[0]->prq);
	queue = iopf_queue_alloc("test");
	KUNIT_ASSERT_NOT_NULL(test, queue);
	m->iommu[0]->iopf_queue = queue;
	m->info[0].iopf_refcount = 1;
	return iopf_queue_add_device(queue, &m->pdev[0].dev);
}

static void prq_test_exit(struct kunit *test)
{
	struct test_machine *m = test->priv;

	/* With the device that is still in it */
	if (m && m->iommu[0])
		iopf_queue_free(m->iommu[0]->iopf_queue);
	test_machine_exit(test);
}

static struct kunit_case prq_test_cases[] = {
	KUNIT_CASE(drains_at_once_all_end),
	KUNIT_CASE(drain_of_another_pasid_does_not_wait),
	KUNIT_CASE(drain_does_not_wait_for_later_requests),
	KUNIT_CASE(drains_of_a_full_queue_all_end),
	KUNIT_CASE(drain_ends_although_the_queue_overflows_again),
	KUNIT_CASE(drain_waits_for_what_hardware_drains),
	KUNIT_CASE(drain_answers_in_place_of_the_handlers_of_its_pasid),
	{}
};

static struct kunit_suite prq_test_suite = {
	.name = "intel-prq",
	.init = prq_test_init,
	.exit = prq_test_exit,
	.test_cases = prq_test_cases,
};

kunit_test_suite(prq_test_suite);
