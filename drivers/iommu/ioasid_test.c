// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the core: sets, IOASIDs, references, states, who is charged
 * and named for them, and attachments to hardware that only counts. What happens
 * without memory is in ioasid_oom_test.c, races are in ioasid_race_test.c.
 */
#include <linux/completion.h>
#include <linux/hrtimer.h>
#include <linux/irqflags.h>
#include <linux/math.h>
#include <linux/seq_file.h>
#include <linux/user_namespace.h>

#include "ioasid_test.h"

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

/* Its device may not be quiet yet */
static void a_recycled_id_is_not_the_next_to_be_given(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int i, id;

	for (i = 0; i < 2 * (HIGH - LOW); i++) {
		id = ioasid_id(ioasid);
		free_and_put(ioasid);
		ioasid = must_alloc(test, test->priv);
		KUNIT_EXPECT_NE(test, ioasid_id(ioasid), id);
	}
	free_and_put(ioasid);
}

static void users_get_no_id_of_the_reserve(struct kunit *test)
{
	struct ioasid_set *set = must_have_charged_set(test, 2);
	struct ioasid *ioasid;

	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(set, 1, ioasid_reserved - 1)),
			-ENOSPC);
	ioasid = alloc(set, 1, ioasid_reserved);
	KUNIT_EXPECT_FALSE(test, IS_ERR(ioasid));
	if (!IS_ERR(ioasid)) {
		KUNIT_EXPECT_EQ(test, ioasid_id(ioasid), ioasid_reserved);
		free_and_put(ioasid);
	}
	ioasid_set_free(set);
}

static void users_get_ids_that_smaller_devices_lack(struct kunit *test)
{
	static const unsigned int max[] = { 255, 1000, 4095, 65535, IOASID_MAX };
	struct ioasid_set *set = must_have_charged_set(test, 1);
	struct ioasid *ioasid;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(max); i++) {
		for (j = 0; j < 3; j++) {
			ioasid = alloc(set, 1, max[i]);
			KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
			KUNIT_EXPECT_GT(test, ioasid_id(ioasid), max[i] / 2);
			KUNIT_EXPECT_LE(test, ioasid_id(ioasid), max[i]);
			free_and_put(ioasid);
		}
	}
	ioasid_set_free(set);
}

/* The upper half, then the upper half of the rest, and so on */
static void users_get_the_scarcest_ids_last(struct kunit *test)
{
	unsigned int max = 4 * IOASID_LOW_MAX + 3, min = IOASID_LOW_MAX - 1, n;
	struct ioasid_set *set = must_have_charged_set(test, UINT_MAX);
	struct ioasid *ioasid;
	int bits = fls(max);

	for (n = 0; ; n++) {
		ioasid = alloc(set, min, max);
		if (IS_ERR(ioasid))
			break;
		KUNIT_EXPECT_LE(test, fls(ioasid_id(ioasid)), bits);
		bits = fls(ioasid_id(ioasid));
		ioasid_put(ioasid);
	}
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid), -ENOSPC);
	KUNIT_EXPECT_EQ(test, n, max - min + 1);
	ioasid_set_free(set);
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
	unsigned long ids = 0;
	int i;

	for (i = 0; i < 3; i++) {
		ioasid[i] = alloc(test->priv, LOW, LOW + 2);
		KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid[i]));
		ids |= BIT(ioasid_id(ioasid[i]) - LOW);
	}
	KUNIT_EXPECT_EQ(test, ids, 7);
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
	id = ioasid_id(ioasid);
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
		if (IS_ERR(ioasid))
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

static void find_sees_active_ioasids_of_the_set_only(struct kunit *test)
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
	KUNIT_EXPECT_EQ(test, status.attachments, 1);
	ioasid_free(ioasid);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_TRUE(test, status.parked);
	KUNIT_EXPECT_EQ(test, status.attachments, 1);
	__ioasid_detach(attachment);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_EQ(test, status.attachments, 0);
	ioasid_put(ioasid);
	KUNIT_EXPECT_EQ(test, ioasid_query(test->priv, id, &status), -ENOENT);
	ioasid_set_free(other);
}

#ifdef CONFIG_IOASID_USER
static void find_by_fd_wants_a_file_of_dev_ioasid(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_find_by_fd(-1, LOW)), -EBADF);
}
#endif

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
			       HRTIMER_MODE_REL);
	hrtimer_start(&irq.timer, ms_to_ktime(1), HRTIMER_MODE_REL);
	wait_for_completion(&irq.done);
	hrtimer_cancel(&irq.timer);
	destroy_hrtimer_on_stack(&irq.timer);

	KUNIT_EXPECT_TRUE(test, irq.in_hardirq);
	KUNIT_EXPECT_TRUE(test, irq.found);
}

/* The end of a set */

static void set_free_parks_the_active_ioasids(struct kunit *test)
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
	/* The IOASID without a holder is recycled, the others are parked */
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
	KUNIT_EXPECT_TRUE(test, held->parked);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 1);
	EXPECT_COUNTS(test, set, 0, 2);
	KUNIT_EXPECT_EQ(test, count(set).parks, 3);
	__ioasid_detach(attachment);
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
		__ioasid_detach(attachment[i]);
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
	{ 7, 1, 1, "one less than a batch" },
	{ 8, 1, 1, "a batch" },
	{ 9, 1, 2, "one more than a batch" },
	{ 3, 4, 2, "more attachments than IOASIDs" },
	{ 1000, 1, 125, "many" },
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
	struct ioasid_set *set = must_have_set(test, max(param->ioasids, attachments));
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
		__ioasid_detach(attachment[i]);
}

static void expect_all_blocked(struct kunit *test, struct ioasid *ioasid)
{
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked),
			ioasid->set->nr_attachments);
}

static void set_free_blocks_all_before_it_waits(struct kunit *test)
{
	struct ioasid_attachment *attachment[IOASID_BATCH_SIZE + 1];
	struct ioasid_set *set = must_have_set(test, ARRAY_SIZE(attachment));
	struct ioasid *ioasid;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(attachment); i++) {
		ioasid = must_alloc(test, set);
		attachment[i] = must_attach(test, ioasid, dev_a);
		ioasid_put(ioasid);
	}

	hw.test = test;
	hw.when_finished = expect_all_blocked;
	ioasid_set_free(set);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.finished), ARRAY_SIZE(attachment));
	for (i = 0; i < ARRAY_SIZE(attachment); i++)
		__ioasid_detach(attachment[i]);
}

/* Attachments */

static void attachments_count_against_the_quota(struct kunit *test)
{
	struct ioasid_set *set = must_have_set(test, 2);
	struct ioasid *ioasid = must_alloc(test, set);
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b = must_attach(test, ioasid, dev_b);

	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, &devs[2])), -EDQUOT);
	/* The owner's, the test's, and those of the attachments */
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 4);
	__ioasid_detach(a);
	a = must_attach(test, ioasid, &devs[2]);
	ioasid_free(ioasid);
	__ioasid_detach(a);
	__ioasid_detach(b);
	ioasid_put(ioasid);
	ioasid_set_free(set);
}

static void attach_takes_a_reference(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);

	free_and_put(ioasid);
	KUNIT_EXPECT_TRUE(test, is_taken(test, id));
	__ioasid_detach(attachment);
	KUNIT_EXPECT_FALSE(test, is_taken(test, id));
}

static void free_blocks_each_attachment_once(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b = must_attach(test, ioasid, dev_b);

	__ioasid_detach(b);
	b = must_attach(test, ioasid, dev_b);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 0);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	__ioasid_detach(a);
	ioasid_put(ioasid);
	__ioasid_detach(b);
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

static void a_device_may_attach_with_and_without_pasid(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b;

	b = __ioasid_attach(ioasid, dev_a, IOMMU_NO_PASID, NULL, NULL, &hw_ops,
			    "kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(b));
	KUNIT_EXPECT_EQ(test, ioasid->nr_attachments, 2);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.batches), 1);
	__ioasid_detach(a);
	__ioasid_detach(b);
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
	__ioasid_detach(a);
	__ioasid_detach(b);
	ioasid_put(first);
	free_and_put(second);
}

static void a_pasid_need_not_be_the_id(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int other = ioasid_id(ioasid) ^ 1;
	struct ioasid_attachment *a = must_attach(test, ioasid, dev_a);
	struct ioasid_attachment *b;

	b = __ioasid_attach(ioasid, dev_a, other, NULL, NULL, &hw_ops, "kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(b));
	KUNIT_EXPECT_EQ(test, b->pasid, other);
	KUNIT_EXPECT_EQ(test, ioasid->nr_attachments, 2);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 2);
	__ioasid_detach(a);
	__ioasid_detach(b);
	ioasid_put(ioasid);
}

static void replace_works_until_the_ioasid_is_parked(struct kunit *test)
{
	struct iommu_domain *first = (struct iommu_domain *)&first;
	struct iommu_domain *second = (struct iommu_domain *)&second;
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);

	KUNIT_EXPECT_EQ(test, ioasid_replace(attachment, first, NULL), 0);
	KUNIT_EXPECT_PTR_EQ(test, attachment->domain, first);
	hw.error = -EIO;
	KUNIT_EXPECT_EQ(test, ioasid_replace(attachment, second, NULL), -EIO);
	KUNIT_EXPECT_PTR_EQ(test, attachment->domain, first);
	hw.error = 0;

	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, ioasid_replace(attachment, second, NULL),
			-ESHUTDOWN);
	KUNIT_EXPECT_PTR_EQ(test, attachment->domain, first);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.replaced), 1);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 2);
	__ioasid_detach(attachment);
	ioasid_put(ioasid);
}

/* Free while the IOMMU driver, in replace or detach, drains page requests */
static void free_it(struct kunit *test, struct ioasid *ioasid)
{
	if (mutex_is_locked(&ioasid->set->lock)) {
		KUNIT_FAIL(test, "a free would wait for the lock of the set");
		return;
	}
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 1);
}

static void free_does_not_wait_for_a_replace(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);

	hw.test = test;
	hw.when_replaced = free_it;
	KUNIT_EXPECT_EQ(test, ioasid_replace(attachment, NULL, NULL), 0);
	KUNIT_EXPECT_TRUE(test, ioasid->parked);
	__ioasid_detach(attachment);
	free_and_put(ioasid);
}

static void free_does_not_wait_for_a_detach(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *attachment = must_attach(test, ioasid, dev_a);

	hw.test = test;
	hw.when_detached = free_it;
	__ioasid_detach(attachment);
	KUNIT_EXPECT_TRUE(test, ioasid->parked);
	KUNIT_EXPECT_EQ(test, ioasid->nr_attachments, 0);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 1);
	free_and_put(ioasid);
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

	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_attach(ioasid, dev_a, NULL, 1, NULL,
						    "kunit")),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_attach(ioasid, dev_a, NULL,
						    IOMMU_NO_PASID, NULL, "kunit")),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 2);
	free_and_put(ioasid);
}

static void global_pasids_share_the_id_space(struct kunit *test)
{
	struct dev_iommu iommu = { .max_pasids = LOW };
	struct device dev = { .iommu = &iommu };
	struct ioasid *ioasid;
	unsigned long flags;
	unsigned int pasid;

	ioasid = iommu_alloc_global_ioasid(&dev);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	pasid = ioasid_id(ioasid);
	KUNIT_EXPECT_LT(test, pasid, ioasid_reserved);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, pasid));
	KUNIT_EXPECT_TRUE(test, is_taken(test, pasid));
	KUNIT_EXPECT_EQ(test, misc_cg_res_total_usage(MISC_CG_RES_IOASID),
			before.charged);

	/* As __mmdrop() may */
	local_irq_save(flags);
	ioasid_put(ioasid);
	local_irq_restore(flags);
	KUNIT_EXPECT_FALSE(test, is_taken(test, pasid));
}

static void global_pasids_may_be_more_than_the_reserve(struct kunit *test)
{
	struct dev_iommu iommu = { .max_pasids = IOASID_MAX + 1 };
	struct device dev = { .iommu = &iommu };
	unsigned int reserved = ioasid_reserved;
	struct ioasid *ioasid[3];
	int i;

	for (i = 0; i < ARRAY_SIZE(ioasid); i++) {
		WRITE_ONCE(ioasid_reserved, i);
		ioasid[i] = iommu_alloc_global_ioasid(&dev);
		KUNIT_EXPECT_FALSE(test, IS_ERR(ioasid[i]));
		WRITE_ONCE(ioasid_reserved, 2);
	}
	WRITE_ONCE(ioasid_reserved, reserved);
	for (i = 0; i < ARRAY_SIZE(ioasid); i++)
		if (!IS_ERR(ioasid[i]))
			ioasid_put(ioasid[i]);
}

static const struct pasids_case {
	const char *name;
	unsigned int max_pasids;
	int error;
} pasids_cases[] = {
	{ "no PASIDs", 0, -ENOSPC },
	{ "only that of DMA without PASID", 1, -ENOSPC },
	{ "a bit", 2, 0 },
	{ "20 bits", IOASID_MAX + 1, 0 },
	{ "more than there are", UINT_MAX, 0 },
};

KUNIT_ARRAY_PARAM_DESC(pasids, pasids_cases, name);

static void global_pasids_are_what_the_device_supports(struct kunit *test)
{
	const struct pasids_case *c = test->param_value;
	struct dev_iommu iommu = { .max_pasids = c->max_pasids };
	struct device dev = { .iommu = &iommu };
	struct ioasid *ioasid = iommu_alloc_global_ioasid(&dev);

	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(ioasid), c->error);
	if (IS_ERR(ioasid))
		return;
	KUNIT_EXPECT_LT(test, ioasid_id(ioasid), c->max_pasids);
	ioasid_put(ioasid);
}
#endif

/* The user */

static long charged_to_root(enum ucount_type type)
{
	struct ucounts *ucounts = alloc_ucounts(&init_user_ns, GLOBAL_ROOT_UID);
	long n;

	if (!ucounts)
		return -ENOMEM;
	n = atomic_long_read(&ucounts->ucount[type]);
	put_ucounts(ucounts);
	return n;
}

static const struct user_case {
	const char *name;
	enum ucount_type type;
	unsigned int min;
	unsigned int other;	/* is not counted in the limit, or 0 */
} user_cases[] = {
	{ "all ids", UCOUNT_IOASIDS, LOW, 0 },
	{ "low ids", UCOUNT_LOW_IOASIDS, IOASID_LOW_MAX - 8, LOW },
};

KUNIT_ARRAY_PARAM_DESC(user, user_cases, name);

static void a_user_has_few_ioasids_in_all_sets(struct kunit *test)
{
	const struct user_case *c = test->param_value;
	struct ioasid_set *a = must_have_charged_set(test, 3);
	struct ioasid_set *b = must_have_charged_set(test, 3);
	long limit = init_user_ns.ucount_max[c->type], n = charged_to_root(c->type);
	struct ioasid *first, *second, *third;

	WRITE_ONCE(init_user_ns.ucount_max[c->type], n + 2);
	first = alloc(a, c->min, c->min + 8);
	second = alloc(b, c->min, c->min + 8);
	KUNIT_EXPECT_EQ(test, charged_to_root(c->type), n + 2);
	KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(b, c->min, c->min + 8)), -EUSERS);
	EXPECT_COUNTS(test, b, 1, 0);
	KUNIT_EXPECT_EQ(test, charged_to_root(c->type), n + 2);
	/* Only who is charged is refused */
	third = alloc(test->priv, c->min, c->min + 8);
	KUNIT_EXPECT_FALSE(test, IS_ERR(third));
	if (!IS_ERR(third))
		free_and_put(third);
	if (c->other) {
		third = alloc(b, c->other, c->other + 8);
		KUNIT_EXPECT_FALSE(test, IS_ERR(third));
		if (!IS_ERR(third))
			free_and_put(third);
	}
	KUNIT_EXPECT_FALSE(test, IS_ERR(first));
	if (!IS_ERR(first)) {
		ioasid_free(first);
		KUNIT_EXPECT_EQ(test, PTR_ERR(alloc(a, c->min, c->min + 8)),
				-EUSERS);
		ioasid_put(first);
	}
	first = alloc(b, c->min, c->min + 8);
	KUNIT_EXPECT_FALSE(test, IS_ERR(first));
	if (!IS_ERR(first))
		free_and_put(first);
	KUNIT_EXPECT_FALSE(test, IS_ERR(second));
	if (!IS_ERR(second))
		free_and_put(second);
	KUNIT_EXPECT_EQ(test, charged_to_root(c->type), n);
	WRITE_ONCE(init_user_ns.ucount_max[c->type], limit);
	ioasid_set_free(a);
	ioasid_set_free(b);
}

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

static void alloc_beyond_the_limit_of_the_cgroup_is_refused(struct kunit *test)
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

	hw.error = -EBUSY;
	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -EBUSY);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid), held_by(test, all));
	__ioasid_detach(a);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by owner (%s), kunit (%s, kunit-1)"));
	ioasid_free(ioasid);
	KUNIT_EXPECT_STREQ(test, shown(test, ioasid),
			   held_by(test, " held by kunit (%s, kunit-1)"));
	__ioasid_detach(b);
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

static struct kunit_case ioasid_test_cases[] = {
	KUNIT_CASE(a_set_is_listed_until_the_last_put),
	KUNIT_CASE(the_last_put_of_a_set_may_come_with_interrupts_off),

	KUNIT_CASE_PARAM(alloc_gives_an_id_in_the_range, range_gen_params),
	KUNIT_CASE(a_recycled_id_is_not_the_next_to_be_given),
	KUNIT_CASE(users_get_no_id_of_the_reserve),
	KUNIT_CASE(users_get_ids_that_smaller_devices_lack),
	KUNIT_CASE(users_get_the_scarcest_ids_last),
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
	KUNIT_CASE(find_sees_active_ioasids_of_the_set_only),
	KUNIT_CASE(a_reference_to_a_parked_ioasid_gives_another),
	KUNIT_CASE(tryget_fails_after_the_last_put),
	KUNIT_CASE(the_owner_may_put_instead_of_free),
	KUNIT_CASE(query_sees_parked_ioasids_of_the_set),
#ifdef CONFIG_IOASID_USER
	KUNIT_CASE(find_by_fd_wants_a_file_of_dev_ioasid),
#endif

	KUNIT_CASE(the_last_put_may_come_with_interrupts_off),
	KUNIT_CASE(the_last_put_may_come_under_a_spin_lock),
	KUNIT_CASE(interrupts_may_find_and_put_the_last_reference),

	KUNIT_CASE(set_free_parks_the_active_ioasids),
	KUNIT_CASE(no_ioasid_is_found_once_the_first_is_blocked),
	KUNIT_CASE_PARAM(set_free_waits_once_a_batch, block_gen_params),
	KUNIT_CASE(set_free_blocks_all_before_it_waits),

	KUNIT_CASE(attachments_count_against_the_quota),
	KUNIT_CASE(attach_takes_a_reference),
	KUNIT_CASE(free_blocks_each_attachment_once),
	KUNIT_CASE(attach_to_a_parked_ioasid_is_refused),
	KUNIT_CASE(a_device_may_attach_with_and_without_pasid),
	KUNIT_CASE(a_device_may_attach_to_several_ioasids),
	KUNIT_CASE(a_pasid_need_not_be_the_id),
	KUNIT_CASE(replace_works_until_the_ioasid_is_parked),
	KUNIT_CASE(free_does_not_wait_for_a_replace),
	KUNIT_CASE(free_does_not_wait_for_a_detach),
	KUNIT_CASE(a_failed_attach_leaves_no_trace),
#ifdef CONFIG_IOMMU_API
	KUNIT_CASE(a_device_without_an_iommu_cannot_be_attached),
	KUNIT_CASE(global_pasids_share_the_id_space),
	KUNIT_CASE(global_pasids_may_be_more_than_the_reserve),
	KUNIT_CASE_PARAM(global_pasids_are_what_the_device_supports,
			 pasids_gen_params),
#endif

	KUNIT_CASE_PARAM(a_user_has_few_ioasids_in_all_sets, user_gen_params),

#ifdef CONFIG_CGROUP_MISC
	KUNIT_CASE(an_ioasid_is_charged_until_its_last_put),
	KUNIT_CASE(the_kernels_own_sets_are_not_charged),
	KUNIT_CASE(alloc_beyond_the_limit_of_the_cgroup_is_refused),
#endif

#ifdef CONFIG_IOASID_REF_TRACKER
	KUNIT_CASE(the_owner_is_named_until_free),
	KUNIT_CASE(an_attachment_is_named_until_detach),
	KUNIT_CASE(a_holder_is_named_while_it_is_tracked),
	KUNIT_CASE(a_long_list_of_holders_is_cut),
#endif
	{}
};

static struct kunit_suite ioasid_test_suite = {
	.name = "ioasid",
	.init = ioasid_test_init,
	.exit = ioasid_test_exit,
	.test_cases = ioasid_test_cases,
};

kunit_test_suite(ioasid_test_suite);
