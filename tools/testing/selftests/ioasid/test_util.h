/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What all ioasid selftests share that are built on the harness: the ids that
 * they allocate, how long a test may take, and what it must not leave behind.
 */
#ifndef TEST_UTIL_H
#define TEST_UTIL_H

#include "../kselftest_harness.h"
#include "ioasid_util.h"

/* The emulated machine may be very slow */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 600

/*
 * Ids that nothing else on the machine uses, and that need more than 16 bits.
 * They are decimal as debugfs and the trace print them so: see STR().
 */
#define ID		327680
#define OTHER_ID	327681
#define MORE_IDS	327696

/* Nobody but the owner holds the IOASID: free recycles it, the id can be allocated again */
#define EXPECT_NO_HOLDER(fd, id)			\
do {							\
	EXPECT_EQ(0, ioasid_free(fd, id));		\
	EXPECT_EQ(id, ioasid_alloc(fd, id, id));	\
} while (0)

#define __STR(x)	#x
#define STR(x)		__STR(x)

/*
 * What a test watches from before it opens its files until it has closed them.
 * The kernel log must be quiet in that time, except between loud_begin() and
 * loud_end(), where faults are expected.
 */
struct watch {
	int kmsg;
	int nr_ioasids;		/* on the machine, before the test */
	bool loud;		/* faults are expected */
	bool noisy;		/* faults were logged */
};

static inline int watch_begin(struct watch *watch)
{
	*watch = (struct watch) { .nr_ioasids = ioasid_count(NULL) };
	if (watch->nr_ioasids < 0)
		return watch->nr_ioasids;
	watch->kmsg = kmsg_open();
	return watch->kmsg < 0 ? watch->kmsg : 0;
}

/* What the kernel log has about faults since the last call */
static inline int watch_read(struct watch *watch, struct kmsg_found *found)
{
	int ret = kmsg_read(watch->kmsg, found);

	watch->noisy |= ret || found->nr;
	return ret;
}

#define EXPECT_QUIET(watch)						\
do {									\
	struct kmsg_found __found;					\
									\
	EXPECT_EQ(0, watch_read(watch, &__found));			\
	EXPECT_EQ(0, __found.nr) {					\
		TH_LOG("the kernel log has: %s", __found.first);	\
	}								\
} while (0)

/*
 * The kernel logs only some of the faults in each DEFAULT_RATELIMIT_INTERVAL.
 * Wait for its end: a quiet log must mean to the next test that there was no
 * fault.
 */
#define RATELIMIT_S 5

static inline void watch_calm_down(struct watch *watch)
{
	sleep(RATELIMIT_S + 1);
	watch->noisy = false;
}

/*
 * Faults of the device @bdf, and of @other_bdf if that is not NULL, are expected
 * from now on. A second call replaces the devices.
 */
static inline void loud_begin(struct __test_metadata *_metadata, struct watch *watch,
			      const char *bdf, const char *other_bdf)
{
	EXPECT_QUIET(watch);
	if (watch->loud)
		ASSERT_EQ(0, kmsg_say(KMSG_END));
	watch->loud = true;
	ASSERT_EQ(0, kmsg_expect(bdf, other_bdf));
}

/* Returns how many lines about faults were logged, or a negative errno */
static inline int loud_end(struct watch *watch)
{
	struct kmsg_found found;
	int ret;

	watch->loud = false;
	/* The last report is complete after that */
	watch_calm_down(watch);
	ret = kmsg_read(watch->kmsg, &found) ?: kmsg_say(KMSG_END);
	return ret ?: found.nr;
}

/* No fault was logged that was not expected */
static inline void watch_end(struct __test_metadata *_metadata, struct watch *watch)
{
	if (watch->loud)
		EXPECT_LE(0, loud_end(watch));
	EXPECT_QUIET(watch);
	if (watch->noisy)
		watch_calm_down(watch);
	close(watch->kmsg);
}

/* All files are closed: no IOASID of the test is left, and no unexpected fault */
static inline void expect_clean(struct __test_metadata *_metadata, struct watch *watch)
{
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == watch->nr_ioasids));
	watch_end(_metadata, watch);
}

#endif /* TEST_UTIL_H */
