// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the core: sets, IOASIDs, references, states, who is charged
 * and named for them, what happens without memory, and attachments to hardware
 * that only counts.
 *
 * The range that most tests allocate in is far from what the kernel itself may
 * have allocated on the machine. No test leaves an IOASID or a set behind:
 * ioasid_test_exit() looks.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/fault-inject.h>
#include <linux/hrtimer.h>
#include <linux/idr.h>
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/math.h>
#include <linux/random.h>
#include <linux/seq_file.h>

#include "ioasid-priv.h"

#define LOW	900000U
#define HIGH	900099U

/* The hardware */

struct test_hardware {
	atomic_t attached;
	atomic_t blocked;
	atomic_t batches;	/* how often it was waited for in all of that */
	atomic_t detached;
	atomic_t blocked_while_active;
	atomic_t odd_batches;	/* empty, or too long */
	int error;	/* what attach returns */
	bool slow;	/* sleeps at times, as who waits for real hardware does */
	/* What a test does when attachments are blocked */
	void (*when_blocked)(struct kunit *test, struct ioasid_set *set);
	struct kunit *test;
};

static struct test_hardware hw;

/* Lets the others run: where there is one CPU and no preemption, they need it */
static void sleep_at_times(void)
{
	if (!get_random_u32_below(8))
		schedule_timeout_uninterruptible(1);
}

static int hw_attach(struct ioasid_attachment *attachment)
{
	if (hw.error)
		return hw.error;
	if (hw.slow)
		sleep_at_times();
	atomic_inc(&hw.attached);
	return 0;
}

static void hw_block(const struct ioasid_batch *batch)
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

static void hw_detach(struct ioasid_attachment *attachment)
{
	if (hw.slow)
		sleep_at_times();
	atomic_inc(&hw.detached);
}

static const struct ioasid_attachment_ops hw_ops = {
	.attach = hw_attach,
	.block = hw_block,
	.detach = hw_detach,
};

static struct ioasid_attachment *attach(struct ioasid *ioasid,
					struct device *dev)
{
	return __ioasid_attach(ioasid, dev, ioasid_id(ioasid), NULL, &hw_ops,
			       "kunit");
}

/* The core tells devices apart, and debugfs prints their names: that is all */
#define RACERS		4

static struct device devs[RACERS] = {
	{ .init_name = "kunit-0" }, { .init_name = "kunit-1" },
	{ .init_name = "kunit-2" }, { .init_name = "kunit-3" },
};

static struct device *const dev_a = &devs[0];
static struct device *const dev_b = &devs[1];

/* Before and after each test */

static struct {
	unsigned int sets, ioasids;
	u64 charged;
} before;

static unsigned int nr_sets(void)
{
	struct ioasid_set *set;
	unsigned int n = 0;
	unsigned long id;

	xa_for_each(&ioasid_sets, id, set)
		n++;
	return n;
}

static struct ioasid_set_counts count(struct ioasid_set *set)
{
	struct ioasid_set_counts counts;

	ioasid_set_count(set, &counts);
	return counts;
}

/* Those that are not recycled yet, of whatever set */
static unsigned int nr_ioasids(void)
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

/* In all cgroups */
static u64 misc_cg_res_total_usage(enum misc_res_type type)
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

/* /dev/ioasid sets it for good */
static void set_capacity(u64 capacity)
{
	if (!IS_ENABLED(CONFIG_IOASID_USER))
		misc_cg_set_capacity(MISC_CG_RES_IOASID, capacity);
}

static int ioasid_test_init(struct kunit *test)
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
static void ioasid_test_exit(struct kunit *test)
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
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.odd_batches), 0);
}

static struct ioasid_set *must_have_set(struct kunit *test, unsigned int quota)
{
	struct ioasid_set *set = ioasid_set_alloc(quota, false);

	KUNIT_ASSERT_FALSE(test, IS_ERR(set));
	return set;
}

static struct ioasid_set *must_have_charged_set(struct kunit *test,
						unsigned int quota)
{
	struct ioasid_set *set = ioasid_set_alloc(quota, true);

	KUNIT_ASSERT_FALSE(test, IS_ERR(set));
	return set;
}

/* As debugfs does, to look at a set after its end */
static struct ioasid_set *keep(struct ioasid_set *set)
{
	refcount_inc(&set->refs);
	return set;
}

/* As an owner and a holder: with a reference besides the owner's */
static struct ioasid *alloc(struct ioasid_set *set, unsigned int min,
			    unsigned int max)
{
	struct ioasid *ioasid = ioasid_alloc(set, min, max);

	if (!IS_ERR(ioasid)) {
		ioasid_get(ioasid);
		ioasid_publish(ioasid);
	}
	return ioasid;
}

static struct ioasid *must_alloc(struct kunit *test, struct ioasid_set *set)
{
	struct ioasid *ioasid = alloc(set, LOW, HIGH);

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	return ioasid;
}

static struct ioasid *must_alloc_id(struct kunit *test, struct ioasid_set *set,
				    unsigned int id)
{
	struct ioasid *ioasid = alloc(set, id, id);

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	KUNIT_EXPECT_EQ(test, ioasid_id(ioasid), id);
	return ioasid;
}

static struct ioasid_attachment *must_attach(struct kunit *test,
					     struct ioasid *ioasid,
					     struct device *dev)
{
	struct ioasid_attachment *attachment = attach(ioasid, dev);

	KUNIT_ASSERT_FALSE(test, IS_ERR(attachment));
	return attachment;
}

static void free_and_put(struct ioasid *ioasid)
{
	ioasid_free(ioasid);
	ioasid_put(ioasid);
}

/* Whether somebody has the id */
static bool is_taken(struct kunit *test, unsigned int id)
{
	struct ioasid *ioasid = alloc(test->priv, id, id);

	if (IS_ERR(ioasid)) {
		KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid), -ENOSPC);
		return true;
	}
	free_and_put(ioasid);
	return false;
}

/* Sets */

static void a_set_is_listed_until_the_last_put(struct kunit *test)
{
	struct ioasid_set *set = keep(must_have_set(test, 1));
	u32 id = set->id;

	ioasid_set_free(set);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&ioasid_sets, id), set);
	ioasid_set_put(set);
	KUNIT_EXPECT_NULL(test, xa_load(&ioasid_sets, id));

	/* Not to be taken for the next one in debugfs and traces */
	set = must_have_set(test, 1);
	KUNIT_EXPECT_NE(test, set->id, id);
	ioasid_set_free(set);
}

static void the_last_put_of_a_set_may_come_with_interrupts_off(struct kunit *test)
{
	struct ioasid_set *set = keep(must_have_set(test, 1));
	unsigned long flags;

	ioasid_set_free(set);

	local_irq_save(flags);
	ioasid_set_put(set);
	KUNIT_EXPECT_TRUE(test, irqs_disabled());
	local_irq_restore(flags);
}

/* Allocation */

struct range_case {
	const char *name;
	unsigned int min, max;
	int error;
};

static const struct range_case range_cases[] = {
	{ "zero is no id", 0, HIGH, -EINVAL },
	{ "zero alone is none either", 0, 0, -EINVAL },
	{ "empty", HIGH, LOW, -EINVAL },
	{ "empty by one", LOW + 1, LOW, -EINVAL },
	{ "beyond the space", LOW, IOASID_MAX + 1, -EINVAL },
	{ "all beyond the space", IOASID_MAX + 1, IOASID_MAX + 1, -EINVAL },
	{ "to ~0", LOW, ~0U, -EINVAL },
	{ "~0", ~0U, ~0U, -EINVAL },
	{ "from ~0", ~0U, HIGH, -EINVAL },
	{ "one id", LOW, LOW, 0 },
	{ "two ids", LOW, LOW + 1, 0 },
	{ "the first id", IOASID_MIN, IOASID_MIN, 0 },
	{ "the last id", IOASID_MAX, IOASID_MAX, 0 },
	{ "the whole space", IOASID_MIN, IOASID_MAX, 0 },
};

KUNIT_ARRAY_PARAM_DESC(range, range_cases, name);

static void alloc_gives_an_id_in_the_range(struct kunit *test)
{
	const struct range_case *c = test->param_value;
	struct ioasid *ioasid = alloc(test->priv, c->min, c->max);

	KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(ioasid), c->error);
	if (c->error)
		return;
	KUNIT_EXPECT_GE(test, ioasid_id(ioasid), c->min);
	KUNIT_EXPECT_LE(test, ioasid_id(ioasid), c->max);
	free_and_put(ioasid);
}

static void alloc_gives_the_lowest_free_id(struct kunit *test)
{
	struct ioasid *first = must_alloc(test, test->priv);
	struct ioasid *second = must_alloc(test, test->priv);
	struct ioasid *third;

	KUNIT_EXPECT_EQ(test, ioasid_id(first), LOW);
	KUNIT_EXPECT_EQ(test, ioasid_id(second), LOW + 1);
	free_and_put(first);
	third = must_alloc(test, test->priv);
	KUNIT_EXPECT_EQ(test, ioasid_id(third), LOW);
	free_and_put(second);
	free_and_put(third);
}

static void alloc_of_a_taken_id_is_refused(struct kunit *test)
{
	struct ioasid_set *other = must_have_set(test, 1);
	struct ioasid *ioasid = must_alloc_id(test, test->priv, LOW);

	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(test->priv, LOW, LOW)), -ENOSPC);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(other, LOW, LOW)), -ENOSPC);
	free_and_put(ioasid);
	ioasid_set_free(other);
}

static void alloc_of_the_last_id_in_a_range(struct kunit *test)
{
	struct ioasid *ioasid[3];
	int i;

	for (i = 0; i < 3; i++) {
		ioasid[i] = alloc(test->priv, LOW, LOW + 2);
		KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid[i]));
		KUNIT_EXPECT_EQ(test, ioasid_id(ioasid[i]), LOW + i);
	}
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(test->priv, LOW, LOW + 2)),
			-ENOSPC);
	for (i = 0; i < 3; i++)
		free_and_put(ioasid[i]);
}

static void alloc_returns_the_owners_reference(struct kunit *test)
{
	struct ioasid *ioasid = ioasid_alloc(test->priv, LOW, HIGH);
	unsigned int id;

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 1);
	id = ioasid_id(ioasid);
	ioasid_publish(ioasid);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 1);
	ioasid_free(ioasid);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
}

/* As when the user's buffer cannot be written */
static void an_ioasid_is_not_found_until_it_is_published(struct kunit *test)
{
	struct ioasid *ioasid = ioasid_alloc(test->priv, LOW, HIGH);
	struct ioasid_status status;
	unsigned int id;

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	id = ioasid_id(ioasid);
	EXPECT_COUNTS(test, test->priv, 1, 0);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	KUNIT_EXPECT_EQ(test, ioasid_query(test->priv, id, &status), -ENOENT);
	KUNIT_EXPECT_TRUE(test, is_taken(test, id));
	ioasid_put(ioasid);
	EXPECT_COUNTS(test, test->priv, 0, 0);
	KUNIT_EXPECT_EQ(test, count(test->priv).parks, 0);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));

	ioasid = ioasid_alloc(test->priv, LOW, HIGH);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	ioasid_publish(ioasid);
	KUNIT_EXPECT_PTR_EQ(test, ioasid_find(test->priv, id), ioasid);
	free_and_put(ioasid);
}

static void quota_counts_parked_ioasids(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, 2);
	struct ioasid *first, *second;

	first = must_alloc(test, set);
	second = must_alloc(test, set);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EDQUOT);
	ioasid_free(first);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EDQUOT);
	ioasid_free(second);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EDQUOT);
	ioasid_put(first);
	first = must_alloc(test, set);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EDQUOT);
	free_and_put(first);
	ioasid_put(second);
	ioasid_set_free(set);
}

static void a_set_without_quota_has_no_ioasids(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, 0);

	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EDQUOT);
	ioasid_set_free(set);
}

/* In a set that has one IOASID, with the lowest id of the range */
static const struct refused_case {
	const char *name;
	unsigned int quota, min, max;
	int error;
} refused_cases[] = {
	{ "no such range", 2, 0, HIGH, -EINVAL },
	{ "no id is free", 2, LOW, LOW, -ENOSPC },
	{ "quota", 1, LOW, HIGH, -EDQUOT },
	{ "quota, and no id is free", 1, LOW, LOW, -EDQUOT },
};

KUNIT_ARRAY_PARAM_DESC(refused, refused_cases, name);

static void a_refused_alloc_leaves_nothing(struct kunit *test)
{
	const struct refused_case *c = test->param_value;
	struct ioasid_set *set = must_have_charged_set(test, c->quota);
	struct ioasid *ioasid;
	u64 usage;

	ioasid = must_alloc_id(test, set, LOW);
	usage = misc_cg_res_total_usage(MISC_CG_RES_IOASID);

	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, c->min, c->max)), c->error);
	EXPECT_COUNTS(test, set, 1, 0);
	KUNIT_EXPECT_EQ(test, misc_cg_res_total_usage(MISC_CG_RES_IOASID), usage);
	KUNIT_EXPECT_FALSE(test, is_taken(test, LOW + 1));
	KUNIT_EXPECT_NULL(test, xa_load(&set->ioasids, LOW + 1));

	free_and_put(ioasid);
	KUNIT_EXPECT_TRUE(test, xa_empty(&set->ioasids));
	KUNIT_EXPECT_EQ(test, refcount_read(&set->refs), 1);
	ioasid_set_free(set);
}

#ifdef CONFIG_UML
/* A million IOASIDs need more memory than a small machine has */
static void the_whole_space_can_be_taken(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, UINT_MAX);
	unsigned int id, one = LOW + 12345;
	struct ioasid *ioasid = NULL;

	KUNIT_ASSERT_EQ_MSG(test, before.ioasids, 0,
			    "somebody has IOASIDs: this test needs all");
	for (id = IOASID_MIN; id <= IOASID_MAX; id++) {
		ioasid = alloc(set, IOASID_MIN, IOASID_MAX);
		if (IS_ERR(ioasid) || ioasid_id(ioasid) != id)
			break;
		ioasid_put(ioasid);
		cond_resched();
	}
	KUNIT_EXPECT_FALSE(test, IS_ERR(ioasid));
	KUNIT_EXPECT_EQ(test, id, IOASID_MAX + 1);
	EXPECT_COUNTS(test, set, IOASID_MAX, 0);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, IOASID_MIN, IOASID_MAX)),
			-ENOSPC);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(test->priv, IOASID_MIN, IOASID_MAX)),
			-ENOSPC);

	ioasid = ioasid_find(set, one);
	KUNIT_EXPECT_NOT_NULL(test, ioasid);
	if (ioasid)
		free_and_put(ioasid);
	ioasid = alloc(test->priv, IOASID_MIN, IOASID_MAX);
	KUNIT_EXPECT_FALSE(test, IS_ERR(ioasid));
	if (!IS_ERR(ioasid)) {
		KUNIT_EXPECT_EQ(test, ioasid_id(ioasid), one);
		free_and_put(ioasid);
	}
	ioasid_set_free(set);
}
#endif

/* References and states */

static void free_parks_until_the_last_put(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	EXPECT_COUNTS(test, test->priv, 1, 0);
	ioasid_free(ioasid);
	EXPECT_COUNTS(test, test->priv, 0, 1);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(test->priv, id, id)), -ENOSPC);

	ioasid_put(ioasid);
	EXPECT_COUNTS(test, test->priv, 0, 0);
	ioasid = must_alloc_id(test, test->priv, id);
	free_and_put(ioasid);
}

static void free_twice_is_harmless(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	ioasid_free(ioasid);
	ioasid_free(ioasid);
	EXPECT_COUNTS(test, test->priv, 0, 1);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 1);
	KUNIT_EXPECT_TRUE(test, is_taken(test, ioasid_id(ioasid)));
	ioasid_put(ioasid);
}

static void counts_are_of_the_set(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, 7);
	struct ioasid *foreign = must_alloc(test, test->priv);
	struct ioasid *a = must_alloc(test, set);
	struct ioasid *b = must_alloc(test, set);

	KUNIT_EXPECT_EQ(test, count(set).quota, 7);
	EXPECT_COUNTS(test, set, 2, 0);
	KUNIT_EXPECT_EQ(test, count(set).parks, 0);
	free_and_put(a);
	EXPECT_COUNTS(test, set, 1, 0);
	KUNIT_EXPECT_EQ(test, count(set).parks, 1);
	ioasid_free(b);
	ioasid_free(b);
	EXPECT_COUNTS(test, set, 0, 1);
	KUNIT_EXPECT_EQ(test, count(set).parks, 2);
	EXPECT_COUNTS(test, test->priv, 1, 0);
	ioasid_put(b);
	free_and_put(foreign);
	ioasid_set_free(set);
}

static void find_takes_a_reference(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	KUNIT_EXPECT_PTR_EQ(test, ioasid_find(test->priv, id), ioasid);
	free_and_put(ioasid);
	KUNIT_EXPECT_TRUE(test, is_taken(test, id));
	ioasid_put(ioasid);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
}

static void find_does_not_see_what_is_not_active_in_the_set(struct kunit *test)
{
	struct ioasid_set *other = must_have_set(test, 1);
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	KUNIT_EXPECT_NULL(test, ioasid_find(other, id));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id + 1));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, 0));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, IOASID_MAX + 1));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, ~0U));
	ioasid_free(ioasid);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	ioasid_put(ioasid);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	ioasid_set_free(other);
}

static void a_reference_to_a_parked_ioasid_gives_another(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	ioasid_free(ioasid);
	KUNIT_EXPECT_PTR_EQ(test, ioasid_get(ioasid), ioasid);
	ioasid_put(ioasid);
	KUNIT_EXPECT_TRUE(test, is_taken(test, id));
	ioasid_put(ioasid);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
}

/* A reader under RCU may come too late */
static void tryget_fails_after_the_last_put(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	bool taken;

	ioasid_free(ioasid);
	rcu_read_lock();
	taken = ioasid_tryget(ioasid);
	KUNIT_EXPECT_TRUE(test, taken);
	if (taken)
		ioasid_put(ioasid);
	ioasid_put(ioasid);
	KUNIT_EXPECT_FALSE(test, ioasid_tryget(ioasid));
	rcu_read_unlock();
}

static void the_owner_may_put_instead_of_free(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	ioasid_put(ioasid);
	EXPECT_COUNTS(test, test->priv, 1, 0);
	ioasid_put(ioasid);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	EXPECT_COUNTS(test, test->priv, 0, 0);
	KUNIT_EXPECT_EQ(test, count(test->priv).parks, 0);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
}

static void query_sees_parked_ioasids_of_the_set(struct kunit *test)
{
	struct ioasid_set *other = must_have_set(test, 1);
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);
	struct ioasid_status status;

	KUNIT_EXPECT_EQ(test, ioasid_query(other, id, &status), -ENOENT);
	KUNIT_EXPECT_EQ(test, ioasid_query(test->priv, id + 1, &status), -ENOENT);
	KUNIT_EXPECT_EQ(test, ioasid_query(test->priv, ~0U, &status),
			-ENOENT);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_FALSE(test, status.parked);
	KUNIT_EXPECT_EQ(test, status.references, 3);
	KUNIT_EXPECT_EQ(test, status.attachments, 1);
	ioasid_free(ioasid);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_TRUE(test, status.parked);
	KUNIT_EXPECT_EQ(test, status.references, 2);
	KUNIT_EXPECT_EQ(test, status.attachments, 1);
	ioasid_detach(attachment);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_EQ(test, status.references, 1);
	KUNIT_EXPECT_EQ(test, status.attachments, 0);
	ioasid_put(ioasid);
	KUNIT_EXPECT_EQ(test, ioasid_query(test->priv, id, &status), -ENOENT);
	ioasid_set_free(other);
}

static void find_by_fd_wants_a_file_of_dev_ioasid(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_find_by_fd(-1, LOW)),
			IS_ENABLED(CONFIG_IOASID_USER) ? -EBADF : -EOPNOTSUPP);
}

/* Contexts */

static void the_last_put_may_come_with_interrupts_off(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned long flags;

	ioasid_free(ioasid);
	local_irq_save(flags);
	ioasid_put(ioasid);
	KUNIT_EXPECT_TRUE(test, irqs_disabled());
	local_irq_restore(flags);
}

/* Of an active IOASID that is charged */
static void the_last_put_may_come_under_a_spin_lock(struct kunit *test)
{
	struct ioasid_set *set = must_have_charged_set(test, 1);
	static DEFINE_SPINLOCK(lock);
	struct ioasid *ioasid;

	ioasid = must_alloc(test, set);
	ioasid_put(ioasid);
	spin_lock(&lock);
	ioasid_put(ioasid);
	spin_unlock(&lock);
	ioasid_set_free(set);
}

struct interrupt {
	struct hrtimer timer;
	struct ioasid_set *set;
	struct ioasid *parked, *active;
	unsigned int id;
	bool in_hardirq, found;
	struct completion done;
};

static enum hrtimer_restart interrupt(struct hrtimer *timer)
{
	struct interrupt *irq = container_of(timer, struct interrupt, timer);
	struct ioasid *ioasid;

	irq->in_hardirq = in_hardirq();
	ioasid = ioasid_find(irq->set, irq->id);
	irq->found = ioasid == irq->active;
	if (ioasid)
		ioasid_put(ioasid);

	/* All that is left: nobody frees the set */
	ioasid_put(irq->parked);
	ioasid_put(irq->active);
	ioasid_set_put(irq->set);
	complete(&irq->done);
	return HRTIMER_NORESTART;
}

/* lockdep learns here that the locks are taken in an interrupt */
static void interrupts_may_find_and_put_the_last_reference(struct kunit *test)
{
	struct interrupt irq = {};

	irq.set = must_have_charged_set(test, 2);
	irq.parked = must_alloc(test, irq.set);
	ioasid_free(irq.parked);
	irq.active = must_alloc(test, irq.set);
	irq.id = ioasid_id(irq.active);
	ioasid_put(irq.active);

	init_completion(&irq.done);
	hrtimer_setup_on_stack(&irq.timer, interrupt, CLOCK_MONOTONIC,
			       HRTIMER_MODE_REL_HARD);
	hrtimer_start(&irq.timer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
	wait_for_completion(&irq.done);
	hrtimer_cancel(&irq.timer);
	destroy_hrtimer_on_stack(&irq.timer);

	KUNIT_EXPECT_TRUE(test, irq.in_hardirq);
	KUNIT_EXPECT_TRUE(test, irq.found);
}

/* The end of a set */

static void set_free_parks_what_is_left(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, 3);
	struct ioasid_attachment *attachment;
	struct ioasid *held, *parked, *left;
	unsigned int id;

	held = must_alloc(test, set);
	parked = must_alloc(test, set);
	left = must_alloc(test, set);
	id = ioasid_id(left);
	ioasid_put(left);
	ioasid_free(parked);
	attachment = must_attach(test, held, dev_a);

	ioasid_set_free(set);
	/* Nobody held it, so it is gone; the others are somebody's still */
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
	KUNIT_EXPECT_TRUE(test, held->parked);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 1);
	EXPECT_COUNTS(test, set, 0, 2);
	KUNIT_EXPECT_EQ(test, count(set).parks, 3);
	ioasid_detach(attachment);
	ioasid_put(held);
	/* The set goes with the last of its IOASIDs */
	KUNIT_EXPECT_EQ(test, refcount_read(&parked->set->refs), 1);
	ioasid_put(parked);
}

static void expect_the_set_at_its_end(struct kunit *test, struct ioasid_set *set)
{
	unsigned int id;

	for (id = LOW; id < LOW + 4; id++)
		KUNIT_EXPECT_NULL(test, ioasid_find(set, id));
	KUNIT_EXPECT_TRUE(test, count(set).freed);
	EXPECT_COUNTS(test, set, 0, 4);
}

static void no_ioasid_is_found_once_the_first_is_blocked(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, 4);
	struct ioasid_attachment *attachment[4];
	struct ioasid *ioasid[4];
	int i;

	for (i = 0; i < 4; i++) {
		ioasid[i] = must_alloc_id(test, set, LOW + i);
		attachment[i] = must_attach(test, ioasid[i], dev_a);
	}

	hw.test = test;
	hw.when_blocked = expect_the_set_at_its_end;
	ioasid_set_free(set);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 4);
	for (i = 0; i < 4; i++) {
		ioasid_detach(attachment[i]);
		ioasid_put(ioasid[i]);
	}
}

static const struct block_param {
	unsigned int ioasids, devices, batches;
	const char *name;
} block_params[] = {
	{ 0, 1, 0, "no IOASID" },
	{ 5, 0, 0, "IOASIDs without attachments" },
	{ 1, 1, 1, "one" },
	{ 31, 1, 1, "one less than a batch" },
	{ 32, 1, 1, "a batch" },
	{ 33, 1, 2, "one more than a batch" },
	{ 9, 4, 2, "more attachments than IOASIDs" },
	{ 1000, 1, 32, "many" },
};

static void block_param_name(const struct block_param *param, char *name)
{
	strscpy(name, param->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(block, block_params, block_param_name);

/* ceil(attachments / batch), however they are spread over the IOASIDs */
static void set_free_waits_once_a_batch(struct kunit *test)
{
	const struct block_param *param = test->param_value;
	unsigned int attachments = param->ioasids * param->devices;
	struct ioasid_set *set = must_have_set(test, param->ioasids);
	struct ioasid_attachment **attachment;
	struct ioasid *ioasid;
	unsigned int i, j;

	KUNIT_ASSERT_EQ(test, param->batches,
			DIV_ROUND_UP(attachments, IOASID_BATCH_SIZE));
	attachment = kunit_kcalloc(test, attachments + 1, sizeof(*attachment),
				   GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, attachment);
	for (i = 0; i < param->ioasids; i++) {
		/* More than there are from LOW to HIGH */
		ioasid = alloc(set, LOW, IOASID_MAX);
		KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
		for (j = 0; j < param->devices; j++)
			attachment[i * param->devices + j] =
				must_attach(test, ioasid, &devs[j]);
		ioasid_put(ioasid);
	}

	ioasid_set_free(set);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), attachments);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.batches), param->batches);
	for (i = 0; i < attachments; i++)
		ioasid_detach(attachment[i]);
}

/* Attachments */

static void attach_takes_a_reference(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);

	free_and_put(ioasid);
	KUNIT_EXPECT_TRUE(test, is_taken(test, id));
	ioasid_detach(attachment);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
}

static void free_blocks_each_attachment_once(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b = must_attach(test, ioasid, dev_b);

	ioasid_detach(b);
	b = must_attach(test, ioasid, dev_b);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 0);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	ioasid_detach(a);
	ioasid_put(ioasid);
	ioasid_detach(b);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.detached), 3);
}

static void attach_to_a_parked_ioasid_is_refused(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -ESHUTDOWN);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.attached), 0);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 1);
	ioasid_put(ioasid);
}

static void attach_of_the_same_device_twice_is_refused(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);

	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -EEXIST);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 3);
	KUNIT_EXPECT_EQ(test, ioasid->nr_attachments, 1);
	ioasid_detach(attachment);
	attachment = must_attach(test, ioasid, dev_a);
	ioasid_detach(attachment);
	free_and_put(ioasid);
}

static void a_device_may_attach_once_with_and_once_without_pasid(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b;

	b = __ioasid_attach(ioasid, dev_a, IOMMU_NO_PASID, NULL, &hw_ops, "kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(b));
	KUNIT_EXPECT_EQ(test, PTR_ERR(__ioasid_attach(ioasid, dev_a, IOMMU_NO_PASID,
						      NULL, &hw_ops, "kunit")),
			-EEXIST);
	KUNIT_EXPECT_EQ(test, ioasid->nr_attachments, 2);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.batches), 1);
	ioasid_detach(a);
	ioasid_detach(b);
	ioasid_put(ioasid);
}

static void a_device_may_attach_to_several_ioasids(struct kunit *test)
{
	struct ioasid *first = must_alloc(test, test->priv);
	struct ioasid *second = must_alloc(test, test->priv);
	struct ioasid_attachment *a = must_attach(test, first, dev_a);
	struct ioasid_attachment *b = must_attach(test, second, dev_a);

	ioasid_free(first);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 1);
	KUNIT_EXPECT_FALSE(test, second->parked);
	ioasid_detach(a);
	ioasid_detach(b);
	ioasid_put(first);
	free_and_put(second);
}

static void a_failed_attach_leaves_no_trace(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	hw.error = -EIO;
	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -EIO);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 2);
	KUNIT_EXPECT_EQ(test, ioasid->nr_attachments, 0);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 0);
	ioasid_put(ioasid);
}

#ifdef CONFIG_IOMMU_API
static void a_device_without_an_iommu_cannot_be_attached(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_attach(ioasid, dev_a, NULL, "kunit")),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_attach_no_pasid(ioasid, dev_a, "kunit")),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 2);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_attach(ioasid, dev_a, NULL, "kunit")),
			-ESHUTDOWN);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_attach_no_pasid(ioasid, dev_a, "kunit")),
			-ESHUTDOWN);
	ioasid_put(ioasid);
}

static void global_pasids_share_the_id_space(struct kunit *test)
{
	struct dev_iommu iommu = { .max_pasids = LOW };
	struct device dev = { .iommu = &iommu };
	unsigned long flags;
	ioasid_t pasid;

	pasid = iommu_alloc_global_pasid(&dev);
	KUNIT_ASSERT_NE(test, pasid, IOMMU_PASID_INVALID);
	KUNIT_EXPECT_LT(test, pasid, iommu.max_pasids);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, pasid));
	KUNIT_EXPECT_TRUE(test, is_taken(test, pasid));
	KUNIT_EXPECT_EQ(test, misc_cg_res_total_usage(MISC_CG_RES_IOASID),
			before.charged);

	/* As __mmdrop() may */
	local_irq_save(flags);
	iommu_free_global_pasid(pasid);
	local_irq_restore(flags);
	KUNIT_EXPECT_EQ(test, iommu_alloc_global_pasid(&dev), pasid);
	iommu_free_global_pasid(pasid);
}

static const struct pasids_case {
	const char *name;
	unsigned int max_pasids;
	bool allocated;
} pasids_cases[] = {
	{ "no PASIDs", 0, false },
	{ "only that of DMA without PASID", 1, false },
	{ "a bit", 2, true },
	{ "20 bits", IOASID_MAX + 1, true },
	{ "more than there are", UINT_MAX, true },
};

KUNIT_ARRAY_PARAM_DESC(pasids, pasids_cases, name);

static void global_pasids_are_what_the_device_supports(struct kunit *test)
{
	const struct pasids_case *c = test->param_value;
	struct dev_iommu iommu = { .max_pasids = c->max_pasids };
	struct device dev = { .iommu = &iommu };
	ioasid_t pasid = iommu_alloc_global_pasid(&dev);

	KUNIT_EXPECT_EQ(test, pasid != IOMMU_PASID_INVALID, c->allocated);
	if (pasid == IOMMU_PASID_INVALID)
		return;
	KUNIT_EXPECT_LT(test, pasid, c->max_pasids);
	iommu_free_global_pasid(pasid);
}
#endif

/* The misc cgroup */

#ifdef CONFIG_CGROUP_MISC
static u64 charged(void)
{
	return misc_cg_res_total_usage(MISC_CG_RES_IOASID) - before.charged;
}

static void an_ioasid_is_charged_until_its_last_put(struct kunit *test)
{
	struct ioasid_set *set = must_have_charged_set(test, 2);
	struct misc_cg *cg = get_current_misc_cg();
	struct ioasid *first, *second;

	first = must_alloc(test, set);
	KUNIT_EXPECT_PTR_EQ(test, first->cg, cg);
	KUNIT_EXPECT_EQ(test, charged(), 1);
	second = must_alloc(test, set);
	KUNIT_EXPECT_EQ(test, charged(), 2);
	ioasid_free(first);
	KUNIT_EXPECT_EQ(test, charged(), 2);
	ioasid_put(first);
	KUNIT_EXPECT_EQ(test, charged(), 1);
	ioasid_set_free(set);
	KUNIT_EXPECT_EQ(test, charged(), 1);
	ioasid_put(second);
	KUNIT_EXPECT_EQ(test, charged(), 0);
	put_misc_cg(cg);
}

static void the_kernels_own_sets_are_not_charged(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	KUNIT_EXPECT_NULL(test, ioasid->cg);
	KUNIT_EXPECT_EQ(test, charged(), 0);
	free_and_put(ioasid);
}

static void alloc_beyond_what_the_cgroup_may_have_is_refused(struct kunit *test)
{
	struct ioasid_set *set = must_have_charged_set(test, 2);
	struct misc_cg *cg = get_current_misc_cg();
	u64 most = IOASID_MAX - before.charged - 1;
	struct ioasid *ioasid, *next;

	KUNIT_ASSERT_EQ(test, misc_cg_try_charge(MISC_CG_RES_IOASID, cg, most), 0);
	ioasid = alloc(set, LOW, HIGH);
	KUNIT_EXPECT_FALSE(test, IS_ERR(ioasid));
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EBUSY);
	KUNIT_EXPECT_EQ(test, charged(), most + 1);
	EXPECT_COUNTS(test, set, 1, 0);
	/* Only who is charged is refused */
	next = alloc(test->priv, LOW + 1, LOW + 1);
	KUNIT_EXPECT_FALSE(test, IS_ERR(next));
	if (!IS_ERR(next))
		free_and_put(next);
	if (!IS_ERR(ioasid)) {
		ioasid_free(ioasid);
		KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, LOW, HIGH)), -EBUSY);
		ioasid_put(ioasid);
	}
	ioasid = alloc(set, LOW, HIGH);
	KUNIT_EXPECT_FALSE(test, IS_ERR(ioasid));
	if (!IS_ERR(ioasid))
		free_and_put(ioasid);
	misc_cg_uncharge(MISC_CG_RES_IOASID, cg, most);
	put_misc_cg(cg);
	ioasid_set_free(set);
}
#endif

/* Who has it */

#ifdef CONFIG_IOASID_REF_TRACKER
#define SHOWN	256

/* What debugfs shows of the holders */
static const char *shown(struct kunit *test, struct ioasid *ioasid)
{
	struct seq_file m = { .size = SHOWN };

	m.buf = kunit_kzalloc(test, SHOWN, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	ioasid_tracker_show(ioasid, &m);
	KUNIT_ASSERT_LT(test, m.count, SHOWN);
	return m.buf;
}

/* The same by hand: each %s is the test's task */
static const char *held_by(struct kunit *test, const char *format)
{
	char *text = kunit_kzalloc(test, SHOWN, GFP_KERNEL);
	char task[TASK_COMM_LEN + 16];

	KUNIT_ASSERT_NOT_NULL(test, text);
	snprintf(task, sizeof(task), "%s/%d", current->comm,
		 task_tgid_nr(current));
	snprintf(text, SHOWN, format, task, task, task);
	return text;
}

static void the_owner_is_named_until_free(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by owner (%s)"));
	ioasid_get(ioasid);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by owner (%s)"));
	ioasid_free(ioasid);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid), "");
	ioasid_put(ioasid);
	ioasid_put(ioasid);
}

static void an_attachment_is_named_until_detach(struct kunit *test)
{
	const char *all = " held by owner (%s), kunit (%s, kunit-0), kunit (%s, kunit-1)";
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b = must_attach(test, ioasid, dev_b);

	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -EEXIST);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid), held_by(test, all));
	ioasid_detach(a);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by owner (%s), kunit (%s, kunit-1)"));
	ioasid_free(ioasid);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by kunit (%s, kunit-1)"));
	ioasid_detach(b);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid), "");
	ioasid_put(ioasid);
}

static void a_holder_is_named_while_it_is_tracked(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_tracker tracker;
	unsigned long flags;

	ioasid_track(ioasid, &tracker, "guest", NULL);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by owner (%s), guest (%s)"));
	ioasid_free(ioasid);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by guest (%s)"));

	local_irq_save(flags);
	ioasid_untrack(ioasid, &tracker);
	ioasid_put(ioasid);
	local_irq_restore(flags);
}

static void a_long_list_of_holders_is_cut(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	char buf[16];
	struct seq_file m = { .buf = buf, .size = sizeof(buf) };

	/* seq_file comes again with a larger buffer then */
	ioasid_tracker_show(ioasid, &m);
	KUNIT_EXPECT_TRUE(test, seq_has_overflowed(&m));
	free_and_put(ioasid);
}
#endif

/* Without memory */

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAULT_INJECTION_DEBUG_FS)
/* It is a static variable, but its files in debugfs point at its parts */
static void *failslab_part(struct kunit *test, const char *name)
{
	struct dentry *dir = debugfs_lookup("failslab", NULL);
	struct dentry *file = debugfs_lookup(name, dir);
	void *part;

	KUNIT_ASSERT_NOT_NULL(test, dir);
	KUNIT_ASSERT_NOT_NULL(test, file);
	part = d_inode(file)->i_private;
	dput(file);
	dput(dir);
	return part;
}

struct needy {
	struct ioasid_set *set;
	struct ioasid *ioasid;		/* of the set */
	void *made;
};

/* The ID that is next needs memory for a node in the xarray, else it is a lower one */
static void go_to_the_end_of_a_node(struct kunit *test)
{
	struct ioasid_set *set;
	u32 id;

	do {
		set = must_have_set(test, 1);
		id = set->id;
		ioasid_set_free(set);
	} while ((id + 1) % XA_CHUNK_SIZE);
}

static int make_set(struct needy *needy)
{
	needy->made = ioasid_set_alloc(1, false);
	return PTR_ERR_OR_ZERO(needy->made);
}

static void unmake_set(struct needy *needy)
{
	ioasid_set_free(needy->made);
}

/* Shares no xarray node with the set's other IOASID, and needs an IDA bitmap */
#define FAR	IOASID_MAX

static int make_ioasid(struct needy *needy)
{
	needy->made = alloc(needy->set, FAR, FAR);
	return PTR_ERR_OR_ZERO(needy->made);
}

static void unmake_ioasid(struct needy *needy)
{
	free_and_put(needy->made);
}

static int make_attachment(struct needy *needy)
{
	needy->made = attach(needy->ioasid, dev_a);
	return PTR_ERR_OR_ZERO(needy->made);
}

static void unmake_attachment(struct needy *needy)
{
	ioasid_detach(needy->made);
}

static const struct memory_case {
	const char *name;
	int (*make)(struct needy *needy);
	void (*unmake)(struct needy *needy);
	bool lasting;
} memory_cases[] = {
	{ "ioasid_set_alloc, once", make_set, unmake_set, false },
	{ "ioasid_set_alloc, for good", make_set, unmake_set, true },
	{ "ioasid_alloc, once", make_ioasid, unmake_ioasid, false },
	{ "ioasid_alloc, for good", make_ioasid, unmake_ioasid, true },
	{ "ioasid_attach, once", make_attachment, unmake_attachment, false },
	{ "ioasid_attach, for good", make_attachment, unmake_attachment, true },
};

KUNIT_ARRAY_PARAM_DESC(memory, memory_cases, name);

/*
 * The first allocation fails, then the second, and so on until there is none
 * left to fail. What comes after the one that fails succeeds, or fails too: the
 * xarray tries again.
 */
static void what_finds_no_memory_leaves_nothing(struct kunit *test)
{
	struct fault_attr *fault = container_of(failslab_part(test, "probability"),
						struct fault_attr, probability);
	bool *spares_sleepers = failslab_part(test, "ignore-gfp-wait");
	const struct memory_case *c = test->param_value;
	unsigned int nth, left, failures = 0;
	int ret;

	KUNIT_ASSERT_EQ(test, fault->probability, 0);
	fault->task_filter = true;
	fault->probability = 100;
	atomic_set(&fault->times, -1);
	fault->verbose = 0;
	*spares_sleepers = false;

	for (nth = 1; nth < 100; nth++) {
		struct needy needy = { .set = must_have_charged_set(test, 2) };

		needy.ioasid = must_alloc(test, needy.set);
		go_to_the_end_of_a_node(test);

		current->fail_nth = nth;
		current->make_it_fail = c->lasting;
		ret = c->make(&needy);
		current->make_it_fail = false;
		left = current->fail_nth;
		current->fail_nth = 0;

		if (left)
			KUNIT_EXPECT_EQ(test, ret, 0);
		else if (ret)
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		failures += !!ret;
		if (!ret)
			c->unmake(&needy);

		EXPECT_COUNTS(test, needy.set, 1, 0);
		KUNIT_EXPECT_EQ(test, refcount_read(&needy.ioasid->refs), 2);
		KUNIT_EXPECT_EQ(test, needy.ioasid->nr_attachments, 0);
		KUNIT_EXPECT_EQ(test, misc_cg_res_total_usage(MISC_CG_RES_IOASID),
				before.charged + IS_ENABLED(CONFIG_CGROUP_MISC));
		KUNIT_EXPECT_EQ(test, nr_sets(), before.sets + 2);
		KUNIT_EXPECT_FALSE(test, is_taken(test, FAR));
		free_and_put(needy.ioasid);
		ioasid_set_free(needy.set);
		if (left)
			break;
	}
	fault->probability = 0;
	fault->task_filter = false;
	*spares_sleepers = true;

	KUNIT_EXPECT_LT(test, nth, 100);
	KUNIT_EXPECT_GT(test, nth, 1);
	if (c->lasting)
		KUNIT_EXPECT_GT(test, failures, 0);
	kunit_info(test, "%u of %u times without memory\n", failures, nth - 1);
}
#endif

/*
 * Races: threads that take turns for a while, and what must hold whatever the
 * order. One CPU without preemption changes threads where they sleep, and that
 * is where the hardware, or the turn itself, does.
 */
struct race {
	struct ioasid_set *set, *other;
	struct ioasid *handed_over, *offered[RACERS];
	unsigned long end;
	struct completion done;
	atomic_t met;		/* how often it came to what the race is about */
	atomic_t inside;
	const char *wrong;	/* what did not hold */
};

struct racer {
	struct race *race;
	int who;
	void (*turn)(struct racer *racer);
};

#define RACE_EXPECT(race, condition)					\
do {									\
	if (!(condition))						\
		WRITE_ONCE((race)->wrong, #condition);			\
} while (0)

static int take_turns(void *data)
{
	struct racer *racer = data;
	struct race *race = racer->race;

	do {
		racer->turn(racer);
		cond_resched();
		/* A second, and longer if nobody has been at it so far */
	} while (time_before(jiffies, race->end) ||
		 (!atomic_read(&race->met) &&
		  time_before(jiffies, race->end + 60 * HZ)));
	complete(&race->done);
	return 0;
}

/* One thread takes the one kind of turns, all others the other kind */
static void run_race(struct kunit *test, struct race *race,
		     void (*one)(struct racer *racer),
		     void (*others)(struct racer *racer))
{
	struct racer racers[RACERS];
	struct task_struct *task;
	int i, started = 0;

	hw.slow = true;
	init_completion(&race->done);
	race->end = jiffies + HZ;
	for (i = 0; i < RACERS; i++) {
		racers[i].race = race;
		racers[i].who = i;
		racers[i].turn = i ? others : one;
		task = kthread_run(take_turns, &racers[i], "ioasid-race/%d", i);
		KUNIT_EXPECT_FALSE(test, IS_ERR(task));
		started += !IS_ERR(task);
	}
	for (i = 0; i < started; i++)
		wait_for_completion(&race->done);
	KUNIT_EXPECT_STREQ(test, race->wrong ?: "", "");
	KUNIT_EXPECT_GT(test, atomic_read(&race->met), 0);
}

/* All of it with the same few ids: a reference keeps the id from others */
static void turn_of_all_kinds(struct racer *racer)
{
	struct ioasid_attachment *attachment;
	struct race *race = racer->race;
	struct ioasid *ioasid, *other;
	unsigned int id, dice = get_random_u32_below(30);

	id = LOW + get_random_u32_below(3);
	ioasid = dice % 2 ? ioasid_find(race->set, id) :
			    alloc(race->set, id, id);
	if (IS_ERR_OR_NULL(ioasid))
		return;
	RACE_EXPECT(race, ioasid_id(ioasid) == id);
	attachment = attach(ioasid, &devs[racer->who]);
	if (!IS_ERR(attachment)) {
		atomic_inc(&race->met);
		if (dice % 3)
			ioasid_free(ioasid);
		ioasid_detach(attachment);
	} else {
		RACE_EXPECT(race, PTR_ERR(attachment) == -ESHUTDOWN);
	}
	if (dice % 5)
		ioasid_free(ioasid);
	other = alloc(race->set, id, id);
	RACE_EXPECT(race, PTR_ERR(other) == -ENOSPC);
	if (!IS_ERR(other))
		free_and_put(other);
	ioasid_put(ioasid);
}

static void racing_threads_leave_nothing(struct kunit *test)
{
	struct race race = { .set = test->priv };
	struct ioasid *ioasid;
	unsigned long id;

	run_race(test, &race, turn_of_all_kinds, turn_of_all_kinds);
	xa_for_each(&race.set->ioasids, id, ioasid)
		ioasid_free(ioasid);
}

/* One thread's IOASID is freed by another, at best by two */
static void turn_to_hand_over(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid, *found;
	unsigned int id;

	ioasid = alloc(race->set, LOW, LOW + RACERS * 2);
	RACE_EXPECT(race, !IS_ERR(ioasid));
	if (IS_ERR(ioasid))
		return;
	atomic_inc(&race->met);
	found = ioasid_find(race->set, ioasid_id(ioasid));
	RACE_EXPECT(race, found == ioasid || (!found && READ_ONCE(ioasid->parked)));
	if (found)
		ioasid_put(found);
	ioasid = xchg(&race->handed_over, ioasid);
	if (!ioasid)
		return;

	id = ioasid_id(ioasid);
	sleep_at_times();
	ioasid_get(ioasid);
	ioasid_free(ioasid);
	ioasid_put(ioasid);
	/* Parked, and still mine: nobody finds it, nobody is given it */
	RACE_EXPECT(race, !ioasid_find(race->set, id));
	found = alloc(race->set, id, id);
	RACE_EXPECT(race, PTR_ERR(found) == -ENOSPC);
	ioasid_put(ioasid);

	found = ioasid_find(race->set, LOW + get_random_u32_below(RACERS * 2));
	if (found) {
		ioasid_free(found);
		ioasid_put(found);
	}
}

static void racing_frees_park_once(struct kunit *test)
{
	struct race race = { .set = test->priv };

	run_race(test, &race, turn_to_hand_over, turn_to_hand_over);
	if (race.handed_over)
		free_and_put(race.handed_over);
	KUNIT_EXPECT_EQ(test, count(test->priv).parks, atomic_read(&race.met));
}

static void turn_to_recycle(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid = alloc(race->set, LOW, LOW);

	if (IS_ERR(ioasid)) {
		/* It is a finder's still */
		RACE_EXPECT(race, PTR_ERR(ioasid) == -ENOSPC);
		sleep_at_times();
		return;
	}
	sleep_at_times();
	if (get_random_u32_below(2))
		ioasid_free(ioasid);
	else
		ioasid_put(ioasid);
	ioasid_put(ioasid);
}

static void turn_to_find(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid = ioasid_find(race->set, LOW), *other;

	if (!ioasid) {
		sleep_at_times();
		return;
	}
	atomic_inc(&race->met);
	RACE_EXPECT(race, ioasid_id(ioasid) == LOW);
	sleep_at_times();
	other = alloc(race->other, LOW, LOW);
	RACE_EXPECT(race, PTR_ERR(other) == -ENOSPC);
	if (!IS_ERR(other))
		free_and_put(other);
	ioasid_put(ioasid);
}

static void what_is_found_is_not_recycled(struct kunit *test)
{
	struct race race = { .set = test->priv };

	race.other = must_have_set(test, 10);
	run_race(test, &race, turn_to_recycle, turn_to_find);
	ioasid_set_free(race.other);
}

static void turn_to_take_the_last(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid = alloc(race->set, LOW, LOW);

	if (IS_ERR(ioasid)) {
		RACE_EXPECT(race, PTR_ERR(ioasid) == -ENOSPC);
		sleep_at_times();
		return;
	}
	atomic_inc(&race->met);
	RACE_EXPECT(race, atomic_inc_return(&race->inside) == 1);
	sleep_at_times();
	ioasid_free(ioasid);
	atomic_dec(&race->inside);
	ioasid_put(ioasid);
}

static void the_last_id_has_one_owner_at_a_time(struct kunit *test)
{
	struct race race = { .set = test->priv };

	run_race(test, &race, turn_to_take_the_last, turn_to_take_the_last);
	KUNIT_EXPECT_EQ(test, count(test->priv).parks, atomic_read(&race.met));
}

/* A set with an IOASID for each of the other threads */
static void turn_to_free_the_set(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid;
	struct ioasid_set *set;
	int i;

	set = ioasid_set_alloc(RACERS, false);
	RACE_EXPECT(race, !IS_ERR(set));
	if (IS_ERR(set))
		return;
	for (i = 1; i < RACERS; i++) {
		ioasid = alloc(set, LOW, HIGH);
		RACE_EXPECT(race, !IS_ERR(ioasid));
		if (IS_ERR(ioasid))
			continue;
		ioasid = xchg(&race->offered[i], ioasid);
		if (ioasid)
			ioasid_put(ioasid);
	}
	keep(set);
	schedule_timeout_uninterruptible(1);
	ioasid_set_free(set);
	RACE_EXPECT(race, !count(set).active);
	ioasid_set_put(set);
}

static void turn_to_use_the_set(struct racer *racer)
{
	struct ioasid_attachment *attachment;
	struct race *race = racer->race;
	struct ioasid *ioasid;

	ioasid = xchg(&race->offered[racer->who], NULL);
	if (!ioasid) {
		sleep_at_times();
		return;
	}
	attachment = attach(ioasid, &devs[racer->who]);
	if (!IS_ERR(attachment))
		atomic_inc(&race->met);
	else
		RACE_EXPECT(race, PTR_ERR(attachment) == -ESHUTDOWN);
	sleep_at_times();
	/* Else it is the set's end that frees it */
	if (get_random_u32_below(2))
		ioasid_free(ioasid);
	if (!IS_ERR(attachment))
		ioasid_detach(attachment);
	ioasid_put(ioasid);
}

static void set_free_leaves_no_ioasid_active(struct kunit *test)
{
	struct race race = {};
	int i;

	run_race(test, &race, turn_to_free_the_set, turn_to_use_the_set);
	for (i = 1; i < RACERS; i++)
		if (race.offered[i])
			ioasid_put(race.offered[i]);
}

static struct kunit_case ioasid_test_cases[] = {
	KUNIT_CASE(a_set_is_listed_until_the_last_put),
	KUNIT_CASE(the_last_put_of_a_set_may_come_with_interrupts_off),

	KUNIT_CASE_PARAM(alloc_gives_an_id_in_the_range, range_gen_params),
	KUNIT_CASE(alloc_gives_the_lowest_free_id),
	KUNIT_CASE(alloc_of_a_taken_id_is_refused),
	KUNIT_CASE(alloc_of_the_last_id_in_a_range),
	KUNIT_CASE(alloc_returns_the_owners_reference),
	KUNIT_CASE(an_ioasid_is_not_found_until_it_is_published),
	KUNIT_CASE(quota_counts_parked_ioasids),
	KUNIT_CASE(a_set_without_quota_has_no_ioasids),
	KUNIT_CASE_PARAM(a_refused_alloc_leaves_nothing, refused_gen_params),
#ifdef CONFIG_UML
	KUNIT_CASE_SLOW(the_whole_space_can_be_taken),
#endif

	KUNIT_CASE(free_parks_until_the_last_put),
	KUNIT_CASE(free_twice_is_harmless),
	KUNIT_CASE(counts_are_of_the_set),
	KUNIT_CASE(find_takes_a_reference),
	KUNIT_CASE(find_does_not_see_what_is_not_active_in_the_set),
	KUNIT_CASE(a_reference_to_a_parked_ioasid_gives_another),
	KUNIT_CASE(tryget_fails_after_the_last_put),
	KUNIT_CASE(the_owner_may_put_instead_of_free),
	KUNIT_CASE(query_sees_parked_ioasids_of_the_set),
	KUNIT_CASE(find_by_fd_wants_a_file_of_dev_ioasid),

	KUNIT_CASE(the_last_put_may_come_with_interrupts_off),
	KUNIT_CASE(the_last_put_may_come_under_a_spin_lock),
	KUNIT_CASE(interrupts_may_find_and_put_the_last_reference),

	KUNIT_CASE(set_free_parks_what_is_left),
	KUNIT_CASE(no_ioasid_is_found_once_the_first_is_blocked),
	KUNIT_CASE_PARAM(set_free_waits_once_a_batch, block_gen_params),

	KUNIT_CASE(attach_takes_a_reference),
	KUNIT_CASE(free_blocks_each_attachment_once),
	KUNIT_CASE(attach_to_a_parked_ioasid_is_refused),
	KUNIT_CASE(attach_of_the_same_device_twice_is_refused),
	KUNIT_CASE(a_device_may_attach_once_with_and_once_without_pasid),
	KUNIT_CASE(a_device_may_attach_to_several_ioasids),
	KUNIT_CASE(a_failed_attach_leaves_no_trace),
#ifdef CONFIG_IOMMU_API
	KUNIT_CASE(a_device_without_an_iommu_cannot_be_attached),
	KUNIT_CASE(global_pasids_share_the_id_space),
	KUNIT_CASE_PARAM(global_pasids_are_what_the_device_supports,
			 pasids_gen_params),
#endif

#ifdef CONFIG_CGROUP_MISC
	KUNIT_CASE(an_ioasid_is_charged_until_its_last_put),
	KUNIT_CASE(the_kernels_own_sets_are_not_charged),
	KUNIT_CASE(alloc_beyond_what_the_cgroup_may_have_is_refused),
#endif

#ifdef CONFIG_IOASID_REF_TRACKER
	KUNIT_CASE(the_owner_is_named_until_free),
	KUNIT_CASE(an_attachment_is_named_until_detach),
	KUNIT_CASE(a_holder_is_named_while_it_is_tracked),
	KUNIT_CASE(a_long_list_of_holders_is_cut),
#endif

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAULT_INJECTION_DEBUG_FS)
	KUNIT_CASE_PARAM(what_finds_no_memory_leaves_nothing, memory_gen_params),
#endif

	KUNIT_CASE_SLOW(racing_threads_leave_nothing),
	KUNIT_CASE_SLOW(racing_frees_park_once),
	KUNIT_CASE_SLOW(what_is_found_is_not_recycled),
	KUNIT_CASE_SLOW(the_last_id_has_one_owner_at_a_time),
	KUNIT_CASE_SLOW(set_free_leaves_no_ioasid_active),
	{}
};

static struct kunit_suite ioasid_test_suite = {
	.name = "ioasid",
	.init = ioasid_test_init,
	.exit = ioasid_test_exit,
	.test_cases = ioasid_test_cases,
};

kunit_test_suite(ioasid_test_suite);
