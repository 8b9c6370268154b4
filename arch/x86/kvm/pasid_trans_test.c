// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the PASID-translation structures. The walk below is written
 * after the specification, with its bit positions as literals, and knows nothing
 * of how the structures are built.
 */
#include <kunit/test.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/sched.h>

#include "pasid_trans.h"

#define NONE		(-1)
#define BROKEN		(-2)	/* a reserved bit is set */
#define NR_NUMBERS	0x100000U

/* As the CPU translates: the host's PASID, or NONE, where it would exit */
static int walk(u64 low, u64 high, u32 pasid)
{
	u64 dir = pasid & 0x80000 ? high : low;
	u64 dir_entry;
	u32 entry;

	dir_entry = READ_ONCE(*(u64 *)__va(dir + 8 * ((pasid >> 10) & 0x1ff)));
	if (!(dir_entry & 1))
		return NONE;
	/* 11:1 and 63:52 are reserved */
	if (dir_entry & 0xfff0000000000ffeULL)
		return BROKEN;
	entry = READ_ONCE(*(u32 *)__va((dir_entry & 0x000ffffffffff000ULL) +
				       4 * (pasid & 0x3ff)));
	if (!(entry & 0x80000000))
		return entry ? BROKEN : NONE;
	/* 30:20 are reserved */
	return entry & 0x7ff00000 ? BROKEN : entry & 0xfffff;
}

struct pasid_trans_fixture {
	struct kvm_pasid_trans *trans;
	u64 low;
	u64 high;
};

static int pasid_trans_init(struct kunit *test)
{
	struct pasid_trans_fixture *f;

	f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	if (!f)
		return -ENOMEM;
	f->trans = kvm_pasid_trans_alloc();
	if (!f->trans)
		return -ENOMEM;
	f->low = kvm_pasid_trans_dir(f->trans, false);
	f->high = kvm_pasid_trans_dir(f->trans, true);
	test->priv = f;
	return 0;
}

static void pasid_trans_exit(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;

	if (f)
		kvm_pasid_trans_free(f->trans);
}

static int translate(struct kunit *test, u32 pasid)
{
	struct pasid_trans_fixture *f = test->priv;

	return walk(f->low, f->high, pasid);
}

/* A PASID of the host for each of the guest's, each a different one */
static u32 host_of(u32 guest)
{
	return guest ^ 0xa5a5a;
}

/* How many entries there are, or BROKEN if one is not as set by host_of() */
static int count(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	u32 table, pasid;
	int ret, nr = 0;
	u64 dir;

	for (table = 0; table < NR_NUMBERS; table += 1024) {
		dir = table & 0x80000 ? f->high : f->low;
		/* No table: none of its PASIDs is translated */
		if (!*(u64 *)__va(dir + 8 * ((table >> 10) & 0x1ff)))
			continue;
		for (pasid = table; pasid < table + 1024; pasid++) {
			ret = translate(test, pasid);
			if (ret == NONE)
				continue;
			if (ret != host_of(pasid))
				return BROKEN;
			nr++;
		}
		cond_resched();
	}
	return nr;
}

static void directories_are_two_pages(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;

	KUNIT_EXPECT_EQ(test, f->low & 0xfff, 0);
	KUNIT_EXPECT_EQ(test, f->high & 0xfff, 0);
	KUNIT_EXPECT_NE(test, f->low, f->high);
	KUNIT_EXPECT_EQ(test, count(test), 0);
}

static void each_bit_of_a_guest_pasid_selects(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	int bit, nr = 0;

	for (bit = 0; bit < 20; bit++) {
		KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, BIT(bit),
							  host_of(BIT(bit))), 0);
		nr++;
		KUNIT_EXPECT_EQ(test, translate(test, BIT(bit)),
				host_of(BIT(bit)));
	}
	KUNIT_EXPECT_EQ(test, count(test), nr);
}

static void each_bit_of_a_host_pasid_is_kept(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	int bit;

	for (bit = 0; bit < 20; bit++) {
		KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, 7,
							  BIT(bit)), 0);
		KUNIT_EXPECT_EQ(test, translate(test, 7), BIT(bit));
		KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, 7,
							  0xfffff ^ BIT(bit)), 0);
		KUNIT_EXPECT_EQ(test, translate(test, 7), 0xfffff ^ BIT(bit));
	}
}

/* The raw entries of a table, each at its place and nowhere else */
static void every_entry_of_a_table(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	const u32 bases[] = { 0, 0x155 << 10, 0x80000, 0xffc00 };
	u32 *table, i, j, nr;
	u64 dir;

	for (i = 0; i < ARRAY_SIZE(bases); i++) {
		dir = bases[i] & 0x80000 ? f->high : f->low;
		for (j = 0; j < 1024; j++)
			KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, bases[i] + j,
								  host_of(bases[i] + j)), 0);
		dir = *(u64 *)__va(dir + 8 * ((bases[i] >> 10) & 0x1ff));
		KUNIT_ASSERT_EQ(test, dir & 0xfff0000000000fffULL, 1);
		table = __va(dir & ~1ULL);
		for (j = 0; j < 1024; j++)
			KUNIT_EXPECT_EQ(test, table[j], 0x80000000 | host_of(bases[i] + j));
		KUNIT_EXPECT_EQ(test, count(test), 1024 * (i + 1));
	}

	/* And away again, one by one */
	nr = 1024 * ARRAY_SIZE(bases);
	for (j = 0; j < 1024; j++) {
		kvm_pasid_trans_clear(f->trans, bases[1] + j);
		KUNIT_EXPECT_EQ(test, translate(test, bases[1] + j), NONE);
	}
	KUNIT_EXPECT_EQ(test, count(test), nr - 1024);
}

/* An entry in every table of both directories */
static void every_entry_of_the_directories(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	u32 i, pasid;

	for (i = 0; i < 1024; i++) {
		pasid = (i << 10) | (i * 37 & 0x3ff);
		KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, pasid, host_of(pasid)), 0);
		KUNIT_EXPECT_EQ(test, translate(test, pasid), host_of(pasid));
	}
	KUNIT_EXPECT_EQ(test, count(test), 1024);
	for (i = 0; i < 1024; i++) {
		pasid = (i << 10) | (i * 37 & 0x3ff);
		kvm_pasid_trans_clear(f->trans, pasid);
		KUNIT_EXPECT_EQ(test, translate(test, pasid), NONE);
	}
}

static void sparse(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	u32 pasid, nr = 0;

	/* A prime: every bit changes */
	for (pasid = 0; pasid < NR_NUMBERS; pasid += 8191, nr++)
		KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, pasid, host_of(pasid)), 0);
	KUNIT_EXPECT_EQ(test, count(test), nr);
}

static void dense(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	u32 pasid;

	for (pasid = 0; pasid < NR_NUMBERS; pasid++) {
		if (kvm_pasid_trans_set(f->trans, pasid, host_of(pasid)))
			break;
		cond_resched();
	}
	KUNIT_ASSERT_EQ(test, pasid, NR_NUMBERS);
	KUNIT_EXPECT_EQ(test, count(test), NR_NUMBERS);
	for (pasid = 1; pasid < NR_NUMBERS; pasid += 2)
		kvm_pasid_trans_clear(f->trans, pasid);
	KUNIT_EXPECT_EQ(test, count(test), NR_NUMBERS / 2);
}

static void clear_of_what_is_not_there(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;

	kvm_pasid_trans_clear(f->trans, 7);
	kvm_pasid_trans_clear(f->trans, 0xfffff);
	KUNIT_EXPECT_EQ(test, count(test), 0);
	KUNIT_ASSERT_EQ(test, kvm_pasid_trans_set(f->trans, 8, host_of(8)), 0);
	kvm_pasid_trans_clear(f->trans, 7);
	KUNIT_EXPECT_EQ(test, count(test), 1);
}

/* PASIDs that come and go in all tables, while another thread walks */
#define WALKED_STEP	1021
#define WALKED_ROUNDS	20
/* So long the walker is waited for: on one CPU it may run late */
#define WALKED_SECONDS	60

struct walker {
	struct pasid_trans_fixture *f;
	unsigned long good;
	unsigned long bad;
};

static int walker_run(void *arg)
{
	struct walker *walker = arg;
	u32 pasid = 0;
	int ret;

	while (!kthread_should_stop()) {
		ret = walk(walker->f->low, walker->f->high, pasid);
		if (ret == host_of(pasid))
			WRITE_ONCE(walker->good, walker->good + 1);
		else if (ret != NONE)
			WRITE_ONCE(walker->bad, walker->bad + 1);
		pasid += WALKED_STEP;
		if (pasid >= NR_NUMBERS)
			pasid = 0;
		cond_resched();
	}
	return 0;
}

static void entries_go_while_a_reader_walks(struct kunit *test)
{
	struct pasid_trans_fixture *f = test->priv;
	struct walker walker = { .f = f };
	struct task_struct *task;
	int round, failed = 0;
	unsigned long end;
	u32 i;

	task = kthread_run(walker_run, &walker, "pasid_walker");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	end = jiffies + WALKED_SECONDS * HZ;
	for (round = 0; round < WALKED_ROUNDS ||
	     (!READ_ONCE(walker.good) && time_before(jiffies, end)); round++) {
		for (i = 0; i < NR_NUMBERS; i += WALKED_STEP) {
			failed |= kvm_pasid_trans_set(f->trans, i, host_of(i));
			/* Who comes after sees it */
			failed |= translate(test, i) != host_of(i);
			cond_resched();
		}
		for (i = 0; i < NR_NUMBERS; i += WALKED_STEP) {
			kvm_pasid_trans_clear(f->trans, i);
			failed |= translate(test, i) != NONE;
			cond_resched();
		}
	}
	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, failed, 0);
	KUNIT_EXPECT_EQ(test, walker.bad, 0);
	KUNIT_EXPECT_GT(test, walker.good, 0);
}

static struct kunit_case pasid_trans_cases[] = {
	KUNIT_CASE(directories_are_two_pages),
	KUNIT_CASE(each_bit_of_a_guest_pasid_selects),
	KUNIT_CASE(each_bit_of_a_host_pasid_is_kept),
	KUNIT_CASE(every_entry_of_a_table),
	KUNIT_CASE(every_entry_of_the_directories),
	KUNIT_CASE(sparse),
	KUNIT_CASE(dense),
	KUNIT_CASE(clear_of_what_is_not_there),
	KUNIT_CASE(entries_go_while_a_reader_walks),
	{}
};

static struct kunit_suite pasid_trans_suite = {
	.name = "kvm-pasid-trans",
	.init = pasid_trans_init,
	.exit = pasid_trans_exit,
	.test_cases = pasid_trans_cases,
};

kunit_test_suite(pasid_trans_suite);
