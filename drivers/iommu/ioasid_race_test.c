// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the core in several threads. Slow: each runs for a second or
 * more.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>

#include "ioasid_test.h"

/*
 * Races: several threads call the core for a while, and check what must hold in
 * any order. Without preemption, a single CPU only switches threads where they
 * sleep. So the ops of the hardware sleep at times, and so do the threads.
 */
struct race {
	struct ioasid_set *set, *other;
	struct ioasid *handed_over, *offered[RACERS];
	unsigned long end;
	struct completion done;
	atomic_t met;		/* how often the raced operation was reached */
	atomic_t inside;
	const char *wrong;	/* the condition that did not hold */
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
		__ioasid_detach(attachment);
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

static void turn_to_fail(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid = alloc(race->set, LOW, LOW);

	RACE_EXPECT(race, PTR_ERR(ioasid) == -ENOSPC || PTR_ERR(ioasid) == -EDQUOT);
	sleep_at_times();
}

static void turn_to_succeed(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid = alloc(race->set, LOW + 1, HIGH);

	atomic_inc(&race->met);
	RACE_EXPECT(race, !IS_ERR(ioasid));
	if (!IS_ERR(ioasid))
		free_and_put(ioasid);
}

static void alloc_that_fails_takes_no_quota_meanwhile(struct kunit *test)
{
	struct race race = { .set = must_have_set(test, 1) };
	struct ioasid *ioasid = must_alloc_id(test, test->priv, LOW);

	run_race(test, &race, turn_to_succeed, turn_to_fail);
	free_and_put(ioasid);
	ioasid_set_free(race.set);
}

static void turn_to_recycle(struct racer *racer)
{
	struct race *race = racer->race;
	struct ioasid *ioasid = alloc(race->set, LOW, LOW);

	if (IS_ERR(ioasid)) {
		/* The id is still held by a thread that found it */
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
		__ioasid_detach(attachment);
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

static struct kunit_case ioasid_race_test_cases[] = {
	KUNIT_CASE_SLOW(racing_threads_leave_nothing),
	KUNIT_CASE_SLOW(racing_frees_park_once),
	KUNIT_CASE_SLOW(alloc_that_fails_takes_no_quota_meanwhile),
	KUNIT_CASE_SLOW(what_is_found_is_not_recycled),
	KUNIT_CASE_SLOW(the_last_id_has_one_owner_at_a_time),
	KUNIT_CASE_SLOW(set_free_leaves_no_ioasid_active),
	{}
};

static struct kunit_suite ioasid_race_test_suite = {
	.name = "ioasid_race",
	.init = ioasid_test_init,
	.exit = ioasid_test_exit,
	.test_cases = ioasid_race_test_cases,
};

kunit_test_suite(ioasid_race_test_suite);
