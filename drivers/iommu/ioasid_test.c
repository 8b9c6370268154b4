// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the core: sets, numbers, references, states, and attachments
 * to hardware that only counts.
 *
 * The range that the tests allocate in is far from what the kernel itself may
 * have allocated on the machine.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/random.h>

#include "ioasid-priv.h"

#define LOW	900000U
#define HIGH	900099U

struct test_hardware {
	atomic_t attached;
	atomic_t blocked;
	atomic_t detached;
	int error;	/* what attach returns */
	atomic_t blocked_while_active;
};

static struct test_hardware hw;

static int hw_attach(struct ioasid_attachment *attachment)
{
	if (hw.error)
		return hw.error;
	atomic_inc(&hw.attached);
	return 0;
}

static void hw_block(struct ioasid_attachment *attachment)
{
	atomic_inc(&hw.blocked);
	if (!attachment->ioasid->parked)
		atomic_inc(&hw.blocked_while_active);
}

static void hw_detach(struct ioasid_attachment *attachment)
{
	atomic_inc(&hw.detached);
}

static const struct ioasid_attachment_ops hw_ops = {
	.attach = hw_attach,
	.block = hw_block,
	.detach = hw_detach,
	.name = "test",
};

static struct ioasid_attachment *attach(struct ioasid *ioasid,
					struct device *dev)
{
	return ioasid_attach_ops(ioasid, dev, NULL, &hw_ops, "kunit");
}

/* The core tells devices apart, and debugfs prints their names: that is all */
#define RACERS		4

static struct device devs[RACERS] = {
	{ .init_name = "kunit-0" }, { .init_name = "kunit-1" },
	{ .init_name = "kunit-2" }, { .init_name = "kunit-3" },
};

static struct device *const dev_a = &devs[0];
static struct device *const dev_b = &devs[1];

static int ioasid_test_init(struct kunit *test)
{
	memset(&hw, 0, sizeof(hw));
	test->priv = ioasid_set_alloc(100);
	return PTR_ERR_OR_ZERO(test->priv);
}

/* Whatever a test leaves in its set would be found by the next one as taken */
static void ioasid_test_exit(struct kunit *test)
{
	struct ioasid_set_counts counts;
	struct ioasid_set *set = test->priv;

	if (IS_ERR_OR_NULL(set))
		return;
	ioasid_set_count(set, &counts);
	KUNIT_EXPECT_EQ(test, counts.parked, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.attached),
			atomic_read(&hw.detached));
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked_while_active), 0);
	ioasid_set_free(set);
}

static struct ioasid *must_alloc(struct kunit *test, struct ioasid_set *set)
{
	struct ioasid *ioasid = ioasid_alloc(set, LOW, HIGH);

	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	return ioasid;
}

static void free_and_put(struct ioasid *ioasid)
{
	ioasid_free(ioasid);
	ioasid_put(ioasid);
}

struct range_case {
	const char *name;
	unsigned int min, max;
	int error;
};

static const struct range_case range_cases[] = {
	{ "zero is no number", 0, HIGH, -EINVAL },
	{ "empty", HIGH, LOW, -EINVAL },
	{ "beyond the space", LOW, IOASID_MAX + 1, -EINVAL },
	{ "all ones", UINT_MAX, UINT_MAX, -EINVAL },
	{ "one number", LOW, LOW, 0 },
	{ "the last number", IOASID_MAX, IOASID_MAX, 0 },
	{ "the whole space", IOASID_MIN, IOASID_MAX, 0 },
};

KUNIT_ARRAY_PARAM_DESC(range, range_cases, name);

static void alloc_gives_a_number_in_the_range(struct kunit *test)
{
	const struct range_case *c = test->param_value;
	struct ioasid *ioasid = ioasid_alloc(test->priv, c->min, c->max);

	KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(ioasid), c->error);
	if (c->error)
		return;
	KUNIT_EXPECT_GE(test, ioasid_id(ioasid), c->min);
	KUNIT_EXPECT_LE(test, ioasid_id(ioasid), c->max);
	free_and_put(ioasid);
}

static void alloc_gives_the_lowest_free_number(struct kunit *test)
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

static void alloc_of_a_taken_number_is_refused(struct kunit *test)
{
	struct ioasid_set *other = ioasid_set_alloc(1);
	struct ioasid *ioasid = must_alloc(test, test->priv);

	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, LOW, LOW)), -ENOSPC);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(other, LOW, LOW)), -ENOSPC);
	free_and_put(ioasid);
	ioasid_set_free(other);
}

static void alloc_of_the_last_number_in_a_range(struct kunit *test)
{
	struct ioasid *ioasid[3];
	int i;

	for (i = 0; i < 3; i++) {
		ioasid[i] = ioasid_alloc(test->priv, LOW, LOW + 2);
		KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid[i]));
		KUNIT_EXPECT_EQ(test, ioasid_id(ioasid[i]), LOW + i);
	}
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, LOW, LOW + 2)),
			-ENOSPC);
	for (i = 0; i < 3; i++)
		free_and_put(ioasid[i]);
}

static void quota_counts_parked_numbers(struct kunit *test)
{
	struct ioasid_set *set = ioasid_set_alloc(2);
	struct ioasid *first, *second;

	KUNIT_ASSERT_FALSE(test, IS_ERR(set));
	first = must_alloc(test, set);
	second = must_alloc(test, set);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(set, LOW, HIGH)), -EDQUOT);
	ioasid_free(first);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(set, LOW, HIGH)), -EDQUOT);
	ioasid_put(first);
	first = must_alloc(test, set);
	free_and_put(first);
	free_and_put(second);
	ioasid_set_free(set);
}

static void a_failed_alloc_does_not_count(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_set_counts counts;

	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, LOW, LOW)), -ENOSPC);
	ioasid_set_count(test->priv, &counts);
	KUNIT_EXPECT_EQ(test, counts.active, 1);
	free_and_put(ioasid);
}

static void free_parks_until_the_last_put(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_set_counts counts;

	ioasid_free(ioasid);
	ioasid_set_count(test->priv, &counts);
	KUNIT_EXPECT_EQ(test, counts.active, 0);
	KUNIT_EXPECT_EQ(test, counts.parked, 1);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, id, id)), -ENOSPC);

	ioasid_put(ioasid);
	ioasid_set_count(test->priv, &counts);
	KUNIT_EXPECT_EQ(test, counts.parked, 0);
	ioasid = ioasid_alloc(test->priv, id, id);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	free_and_put(ioasid);
}

static void free_twice_is_harmless(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	ioasid_free(ioasid);
	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, id, id)), -ENOSPC);
	ioasid_put(ioasid);
}

static void find_takes_a_reference(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	KUNIT_EXPECT_PTR_EQ(test, ioasid_find(test->priv, id), ioasid);
	ioasid_free(ioasid);
	ioasid_put(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, id, id)), -ENOSPC);
	ioasid_put(ioasid);
}

static void find_does_not_see_what_is_not_active_in_the_set(struct kunit *test)
{
	struct ioasid_set *other = ioasid_set_alloc(1);
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	KUNIT_EXPECT_NULL(test, ioasid_find(other, id));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id + 1));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, 0));
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, UINT_MAX));
	ioasid_free(ioasid);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	ioasid_put(ioasid);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	ioasid_set_free(other);
}

static void a_holder_of_a_parked_number_may_split_its_reference(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);

	ioasid_free(ioasid);
	KUNIT_EXPECT_PTR_EQ(test, ioasid_get(ioasid), ioasid);
	ioasid_put(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, id, id)), -ENOSPC);
	ioasid_put(ioasid);
}

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

static void the_owner_may_put_instead_of_free(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_set_counts counts;

	ioasid_put(ioasid);
	ioasid_put(ioasid);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, id));
	ioasid_set_count(test->priv, &counts);
	KUNIT_EXPECT_EQ(test, counts.active, 0);
}

static void query_sees_parked_numbers_of_the_set(struct kunit *test)
{
	struct ioasid_set *other = ioasid_set_alloc(1);
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_status status;

	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	KUNIT_EXPECT_EQ(test, ioasid_query(other, id, &status), -ENOENT);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_FALSE(test, status.parked);
	KUNIT_EXPECT_EQ(test, status.references, 2);
	ioasid_free(ioasid);
	KUNIT_ASSERT_EQ(test, ioasid_query(test->priv, id, &status), 0);
	KUNIT_EXPECT_TRUE(test, status.parked);
	KUNIT_EXPECT_EQ(test, status.references, 1);
	ioasid_put(ioasid);
	KUNIT_EXPECT_EQ(test, ioasid_query(test->priv, id, &status), -ENOENT);
	ioasid_set_free(other);
}

static void set_free_parks_what_is_left(struct kunit *test)
{
	struct ioasid_set *set = ioasid_set_alloc(3);
	struct ioasid_attachment *attachment;
	struct ioasid *held, *parked, *left;
	unsigned int id;

	KUNIT_ASSERT_FALSE(test, IS_ERR(set));
	held = must_alloc(test, set);
	parked = must_alloc(test, set);
	left = must_alloc(test, set);
	id = ioasid_id(left);
	ioasid_put(left);
	ioasid_free(parked);
	attachment = attach(held, dev_a);
	KUNIT_ASSERT_FALSE(test, IS_ERR(attachment));

	ioasid_set_free(set);
	/* Nobody held it, so it is gone; the others are somebody's still */
	left = ioasid_alloc(test->priv, id, id);
	KUNIT_ASSERT_FALSE(test, IS_ERR(left));
	free_and_put(left);
	KUNIT_EXPECT_TRUE(test, held->parked);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.blocked), 1);
	ioasid_detach(attachment);
	ioasid_put(held);
	/* The set goes with the last of its numbers */
	KUNIT_EXPECT_EQ(test, refcount_read(&parked->set->refs), 1);
	ioasid_put(parked);
}

static void attach_holds_the_number(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	unsigned int id = ioasid_id(ioasid);
	struct ioasid_attachment *attachment = attach(ioasid, dev_a);

	KUNIT_ASSERT_FALSE(test, IS_ERR(attachment));
	free_and_put(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, id, id)), -ENOSPC);
	ioasid_detach(attachment);
	ioasid = ioasid_alloc(test->priv, id, id);
	KUNIT_ASSERT_FALSE(test, IS_ERR(ioasid));
	free_and_put(ioasid);
}

static void free_blocks_each_attachment_once(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *a = attach(ioasid, dev_a);
	struct ioasid_attachment *b = attach(ioasid, dev_b);

	KUNIT_ASSERT_FALSE(test, IS_ERR(a) || IS_ERR(b));
	ioasid_detach(b);
	b = attach(ioasid, dev_b);
	KUNIT_ASSERT_FALSE(test, IS_ERR(b));
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

static void attach_to_a_parked_number_is_refused(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);

	ioasid_free(ioasid);
	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -ESHUTDOWN);
	KUNIT_EXPECT_EQ(test, atomic_read(&hw.attached), 0);
	ioasid_put(ioasid);
}

static void attach_of_the_same_device_twice_is_refused(struct kunit *test)
{
	struct ioasid *ioasid = must_alloc(test, test->priv);
	struct ioasid_attachment *attachment = attach(ioasid, dev_a);

	KUNIT_ASSERT_FALSE(test, IS_ERR(attachment));
	KUNIT_EXPECT_EQ(test, PTR_ERR(attach(ioasid, dev_a)), -EEXIST);
	KUNIT_EXPECT_EQ(test, refcount_read(&ioasid->refs), 3);
	ioasid_detach(attachment);
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
static void the_kernels_own_numbers_are_of_the_same_space(struct kunit *test)
{
	struct dev_iommu iommu = { .max_pasids = LOW };
	struct device dev = { .iommu = &iommu };
	unsigned long flags;
	ioasid_t pasid;

	pasid = iommu_alloc_global_pasid(&dev);
	KUNIT_ASSERT_NE(test, pasid, IOMMU_PASID_INVALID);
	KUNIT_EXPECT_LT(test, pasid, iommu.max_pasids);
	KUNIT_EXPECT_NULL(test, ioasid_find(test->priv, pasid));
	KUNIT_EXPECT_EQ(test, PTR_ERR(ioasid_alloc(test->priv, pasid, pasid)), -ENOSPC);

	/* As __mmdrop() may */
	local_irq_save(flags);
	iommu_free_global_pasid(pasid);
	local_irq_restore(flags);
	KUNIT_EXPECT_EQ(test, iommu_alloc_global_pasid(&dev), pasid);
	iommu_free_global_pasid(pasid);

	iommu.max_pasids = 0;
	KUNIT_EXPECT_EQ(test, iommu_alloc_global_pasid(&dev), IOMMU_PASID_INVALID);
}
#endif

/*
 * Threads that allocate, find, free, attach and put in the same few numbers.
 * What must hold: a number that a thread has a reference to stays the same
 * object, and at the end nothing is left.
 */
#define RACES		2000

struct racer {
	struct ioasid_set *set;
	struct completion *done;
	struct device *dev;
	int errors;
};

static int race(void *data)
{
	struct racer *racer = data;
	struct ioasid_attachment *attachment;
	struct ioasid *ioasid, *other;
	unsigned int id;
	int i;

	for (i = 0; i < RACES; i++) {
		id = LOW + get_random_u32_below(3);
		ioasid = i % 2 ? ioasid_find(racer->set, id) :
				 ioasid_alloc(racer->set, id, id);
		if (IS_ERR_OR_NULL(ioasid))
			continue;
		if (ioasid_id(ioasid) != id)
			racer->errors++;
		attachment = attach(ioasid, racer->dev);
		if (!IS_ERR(attachment)) {
			if (i % 3)
				ioasid_free(ioasid);
			ioasid_detach(attachment);
		} else if (PTR_ERR(attachment) != -ESHUTDOWN) {
			racer->errors++;
		}
		if (i % 5)
			ioasid_free(ioasid);
		/* Held, so nobody else can have got the number */
		other = ioasid_alloc(racer->set, id, id);
		if (!IS_ERR(other)) {
			racer->errors++;
			free_and_put(other);
		}
		ioasid_put(ioasid);
		cond_resched();
	}
	complete(racer->done);
	return 0;
}

static void racing_threads_leave_nothing(struct kunit *test)
{
	struct racer racers[RACERS] = {};
	DECLARE_COMPLETION_ONSTACK(done);
	struct task_struct *task;
	struct ioasid_set_counts counts;
	struct ioasid *ioasid;
	int i, started = 0;

	for (i = 0; i < RACERS; i++) {
		racers[i].set = test->priv;
		racers[i].done = &done;
		racers[i].dev = &devs[i];
		task = kthread_run(race, &racers[i], "ioasid-race/%d", i);
		KUNIT_EXPECT_FALSE(test, IS_ERR(task));
		started += !IS_ERR(task);
	}
	for (i = 0; i < started; i++)
		wait_for_completion(&done);
	for (i = 0; i < RACERS; i++)
		KUNIT_EXPECT_EQ(test, racers[i].errors, 0);

	for (i = 0; i < 3; i++) {
		ioasid = ioasid_find(test->priv, LOW + i);
		if (ioasid)
			free_and_put(ioasid);
	}
	ioasid_set_count(test->priv, &counts);
	KUNIT_EXPECT_EQ(test, counts.active, 0);
}

static struct kunit_case ioasid_test_cases[] = {
	KUNIT_CASE_PARAM(alloc_gives_a_number_in_the_range, range_gen_params),
	KUNIT_CASE(alloc_gives_the_lowest_free_number),
	KUNIT_CASE(alloc_of_a_taken_number_is_refused),
	KUNIT_CASE(alloc_of_the_last_number_in_a_range),
	KUNIT_CASE(quota_counts_parked_numbers),
	KUNIT_CASE(a_failed_alloc_does_not_count),
	KUNIT_CASE(free_parks_until_the_last_put),
	KUNIT_CASE(free_twice_is_harmless),
	KUNIT_CASE(find_takes_a_reference),
	KUNIT_CASE(find_does_not_see_what_is_not_active_in_the_set),
	KUNIT_CASE(a_holder_of_a_parked_number_may_split_its_reference),
	KUNIT_CASE(the_last_put_may_come_with_interrupts_off),
	KUNIT_CASE(the_owner_may_put_instead_of_free),
	KUNIT_CASE(query_sees_parked_numbers_of_the_set),
	KUNIT_CASE(set_free_parks_what_is_left),
	KUNIT_CASE(attach_holds_the_number),
	KUNIT_CASE(free_blocks_each_attachment_once),
	KUNIT_CASE(attach_to_a_parked_number_is_refused),
	KUNIT_CASE(attach_of_the_same_device_twice_is_refused),
	KUNIT_CASE(a_failed_attach_leaves_no_trace),
#ifdef CONFIG_IOMMU_API
	KUNIT_CASE(the_kernels_own_numbers_are_of_the_same_space),
#endif
	KUNIT_CASE_SLOW(racing_threads_leave_nothing),
	{}
};

static struct kunit_suite ioasid_test_suite = {
	.name = "ioasid",
	.init = ioasid_test_init,
	.exit = ioasid_test_exit,
	.test_cases = ioasid_test_cases,
};

kunit_test_suite(ioasid_test_suite);
