/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the KUnit suites of the core share: hardware that only counts, and what
 * is looked at before and after each test.
 *
 * The range that most tests allocate in is far from what the kernel itself may
 * have allocated on the machine. No test leaves an IOASID or a set behind:
 * ioasid_test_exit() looks.
 */
#ifndef __IOASID_TEST_H
#define __IOASID_TEST_H

#include <kunit/test.h>
#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/random.h>
#include <linux/sched.h>

#include "ioasid-priv.h"

#define LOW	900000U
#define HIGH	900099U

/* The hardware */

struct test_hardware {
	atomic_t attached;
	atomic_t replaced;
	atomic_t blocked;
	atomic_t batches;	/* how often it was waited for in all of that */
	atomic_t finished;	/* calls of finish_block */
	atomic_t detached;
	atomic_t blocked_while_active;
	atomic_t odd_batches;	/* empty, or too long */
	int error;	/* what attach and replace return */
	bool slow;	/* sleeps at times, as real hardware is waited for */
	/* What a test does in block, finish_block, replace and detach */
	void (*when_blocked)(struct kunit *test, struct ioasid_set *set);
	void (*when_finished)(struct kunit *test, struct ioasid *ioasid);
	void (*when_replaced)(struct kunit *test, struct ioasid *ioasid);
	void (*when_detached)(struct kunit *test, struct ioasid *ioasid);
	struct kunit *test;
};

static struct test_hardware hw;

/* In all cgroups */
static inline u64 misc_cg_res_total_usage(enum misc_res_type type)
{
#ifdef CONFIG_CGROUP_MISC
	struct misc_cg *cg = get_current_misc_cg(), *root = cg;
	u64 usage;

	while (root->css.parent)
		root = css_misc(root->css.parent);
	usage = atomic64_read(&root->res[type].usage);
	put_misc_cg(cg);
	return usage;
#else
	return 0;
#endif
}

/* Lets other threads run, also on one CPU without preemption */
static inline void sleep_at_times(void)
{
	if (!get_random_u32_below(8))
		schedule_timeout_uninterruptible(1);
}

static inline int hw_attach(struct ioasid_attachment *attachment,
			    struct iommu_attach_handle *handle)
{
	if (hw.error)
		return hw.error;
	if (hw.slow)
		sleep_at_times();
	atomic_inc(&hw.attached);
	return 0;
}

static inline int hw_replace(struct ioasid_attachment *attachment,
			     struct iommu_domain *domain,
			     struct iommu_attach_handle *handle)
{
	if (hw.error)
		return hw.error;
	if (hw.slow)
		sleep_at_times();
	if (hw.when_replaced)
		hw.when_replaced(hw.test, attachment->ioasid);
	atomic_inc(&hw.replaced);
	return 0;
}

static inline void hw_block(const struct ioasid_batch *batch)
{
	unsigned int i;

	if (hw.slow)
		sleep_at_times();
	atomic_inc(&hw.batches);
	if (!batch->count || batch->count > IOASID_BATCH_SIZE)
		atomic_inc(&hw.odd_batches);
	for (i = 0; i < batch->count; i++) {
		atomic_inc(&hw.blocked);
		if (!batch->attachments[i]->ioasid->parked)
			atomic_inc(&hw.blocked_while_active);
	}
	if (hw.when_blocked)
		hw.when_blocked(hw.test, batch->attachments[0]->ioasid->set);
}

static inline void hw_finish_block(struct ioasid_attachment *attachment)
{
	if (hw.slow)
		sleep_at_times();
	if (hw.when_finished)
		hw.when_finished(hw.test, attachment->ioasid);
	atomic_inc(&hw.finished);
}

static inline void hw_detach(struct ioasid_attachment *attachment)
{
	if (hw.slow)
		sleep_at_times();
	if (hw.when_detached)
		hw.when_detached(hw.test, attachment->ioasid);
	atomic_inc(&hw.detached);
}

static const struct ioasid_attachment_ops hw_ops = {
	.attach = hw_attach,
	.replace = hw_replace,
	.block = hw_block,
	.finish_block = hw_finish_block,
	.detach = hw_detach,
};

static inline struct ioasid_attachment *attach(struct ioasid *ioasid,
					       struct device *dev)
{
	return __ioasid_attach(ioasid, dev, ioasid_id(ioasid), NULL, NULL,
			       &hw_ops, "kunit");
}

/* The core tells devices apart, and debugfs prints their names: that is all */
#define RACERS		4

static struct device devs[RACERS] = {
	{ .init_name = "kunit-0" }, { .init_name = "kunit-1" },
	{ .init_name = "kunit-2" }, { .init_name = "kunit-3" },
};

#define dev_a		(&devs[0])
#define dev_b		(&devs[1])

/* Before and after each test */

static struct {
	unsigned int sets, ioasids;
	u64 charged;
} before;

static inline unsigned int nr_sets(void)
{
	struct ioasid_set *set;
	unsigned int n = 0;
	unsigned long id;

	xa_for_each(&ioasid_sets, id, set)
		n++;
	return n;
}

static inline struct ioasid_set_counts count(struct ioasid_set *set)
{
	struct ioasid_set_counts counts;

	ioasid_set_count(set, &counts);
	return counts;
}

/* Those that are not recycled yet, of whatever set */
static inline unsigned int nr_ioasids(void)
{
	struct ioasid_set *set;
	unsigned int n = 0;
	unsigned long id;

	xa_for_each(&ioasid_sets, id, set)
		n += count(set).active + count(set).parked;
	return n;
}

#define EXPECT_COUNTS(test, set, nr_active, nr_parked)			\
do {									\
	struct ioasid_set_counts _counts = count(set);			\
	struct kunit *_test = (test);					\
									\
	KUNIT_EXPECT_EQ(_test, _counts.active, nr_active);		\
	KUNIT_EXPECT_EQ(_test, _counts.parked, nr_parked);		\
} while (0)

/* /dev/ioasid sets it for good */
static inline void set_capacity(u64 capacity)
{
	if (!IS_ENABLED(CONFIG_IOASID_USER))
		misc_cg_set_capacity(MISC_CG_RES_IOASID, capacity);
}

static inline int ioasid_test_init(struct kunit *test)
{
	set_capacity(IOASID_MAX);
	memset(&hw, 0, sizeof(hw));
	before.ioasids = nr_ioasids();
	before.sets = nr_sets();
	before.charged = misc_cg_res_total_usage(MISC_CG_RES_IOASID);
	test->priv = ioasid_set_alloc(100, false);
	return PTR_ERR_OR_ZERO(test->priv);
}

/* Whatever a test leaves would be found by the next one */
static inline void ioasid_test_exit(struct kunit *test)
{
	struct ioasid_set *set = test->priv;

	set_capacity(0);
	if (IS_ERR_OR_NULL(set))
		return;
	EXPECT_COUNTS(test, set, 0, 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&set->ioasids));
	ioasid_set_free(set);

	KUNIT_EXPECT_EQ(test, nr_ioasids(), before.ioasids);
	KUNIT_EXPECT_EQ(test, nr_sets(), before.sets);
	KUNIT_EXPECT_EQ(test, misc_cg_res_total_usage(MISC_CG_RES_IOASID),
			before.charged);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.attached),
			atomic_read(&hw.detached));
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked_while_active), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.finished), atomic_read(&hw.blocked));
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.odd_batches), 0);
}

static inline struct ioasid_set *must_have_set(struct kunit *test, unsigned int quota)
{
	struct ioasid_set *set = ioasid_set_alloc(quota, false);

	KUNIT_ASSERT_FALSE(test, IS_ERR(set));
	return set;
}

static inline struct ioasid_set *must_have_charged_set(struct kunit *test,
						       unsigned int quota)
{
	struct ioasid_set *set = ioasid_set_alloc(quota, true);

	KUNIT_ASSERT_FALSE(test, IS_ERR(set));
	return set;
}

/* As debugfs does, to look at a set after its end */
static inline struct ioasid_set *keep(struct ioasid_set *set)
{
	refcount_inc(&set->refs);
	return set;
}

/* As an owner and a holder: with a reference besides the owner's */
static inline struct ioasid *alloc(struct ioasid_set *set, unsigned int min,
				   unsigned int max)
{
	struct ioasid *ioasid = ioasid_alloc(set, min, max);

	if (!IS_ERR(ioasid)) {
		ioasid_get(ioasid);
		ioasid_publish(ioasid);
	}
	return ioasid;
}

static inline struct ioasid *must_alloc(struct kunit *test, struct ioasid_set *set)
{
	struct ioasid *ioasid = alloc(set, LOW, HIGH);

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	return ioasid;
}

static inline struct ioasid *must_alloc_id(struct kunit *test, struct ioasid_set *set,
					   unsigned int id)
{
	struct ioasid *ioasid = alloc(set, id, id);

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	KUNIT_EXPECT_EQ(test, ioasid_id(ioasid), id);
	return ioasid;
}

static inline struct ioasid_attachment *must_attach(struct kunit *test,
						    struct ioasid *ioasid,
						    struct device *dev)
{
	struct ioasid_attachment *attachment = attach(ioasid, dev);

	KUNIT_ASSERT_FALSE(test, IS_ERR(attachment));
	return attachment;
}

static inline void free_and_put(struct ioasid *ioasid)
{
	ioasid_free(ioasid);
	ioasid_put(ioasid);
}

/* Whether somebody has the id */
static inline bool is_taken(struct kunit *test, unsigned int id)
{
	struct ioasid *ioasid = alloc(test->priv, id, id);

	if (IS_ERR(ioasid)) {
		KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid), -ENOSPC);
		return true;
	}
	free_and_put(ioasid);
	return false;
}

#endif /* __IOASID_TEST_H */
