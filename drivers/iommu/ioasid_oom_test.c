// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the core without memory: each allocation on a call's path fails
 * in turn.
 */
#include <linux/debugfs.h>
#include <linux/fault-inject.h>

#include "ioasid_test.h"

/* failslab is a static variable, but its debugfs files point at its members */
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

/* Let the next set need a new node in the xarray of sets: an allocation */
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
	__ioasid_detach(needy->made);
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
 * Make the first allocation of the call fail, then the second, and so on until
 * the call makes no more. The allocations after the failed one succeed, or, as
 * the xarray tries again, fail too.
 */
static void failed_allocation_leaves_nothing(struct kunit *test)
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

static struct kunit_case ioasid_oom_test_cases[] = {
	KUNIT_CASE_PARAM(failed_allocation_leaves_nothing, memory_gen_params),
	{}
};

static struct kunit_suite ioasid_oom_test_suite = {
	.name = "ioasid_oom",
	.init = ioasid_test_init,
	.exit = ioasid_test_exit,
	.test_cases = ioasid_oom_test_cases,
};

kunit_test_suite(ioasid_oom_test_suite);
