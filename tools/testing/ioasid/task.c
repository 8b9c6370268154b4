// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks, see task.h. This file is built without sanitizers: for the thread
 * sanitizer a change of the task orders nothing, as on two processors, so it
 * finds the races of tasks that never run at the same time.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <linux/init.h>

#ifdef FOR_tsan
#include <sanitizer/tsan_interface.h>
#else
#include <sanitizer/common_interface_defs.h>
#endif

#include "task.h"

#define STACK_SIZE	(256 << 10)

/* The last is the caller of sched_run(), and code that runs without tasks */
#define CALLER	SCHED_TASKS

static struct fiber {
	struct task task;
	ucontext_t context;
	const void *stack;
	size_t size;
	void *save;
	void *tsan;
	bool live;
} fibers[SCHED_TASKS + 1];

static __thread struct task *thread_task;
static int running = CALLER;
static int nr_tasks;
static int stuck;
static void (*task_func)(int task);
static const unsigned char *next_change, *end_of_changes;
static int points_left;

struct task *sched_current(void)
{
	return thread_task ? thread_task : &fibers[running].task;
}

/* Each sanitizer wants to know of the change: before it, and after */

#ifdef FOR_tsan
static void leaving(struct fiber *from, struct fiber *to)
{
	__tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
}

static void entered(void)
{
}

static bool raced;

/* In the middle of its report nothing can be done about it */
void __tsan_on_report(const void *report)
{
	raced = true;
}

bool sched_raced(void)
{
	return raced;
}
#else
bool sched_raced(void)
{
	return false;
}

static void leaving(struct fiber *from, struct fiber *to)
{
	__sanitizer_start_switch_fiber(&from->save, to->stack, to->size);
}

static void entered(void)
{
	const void *bottom;
	size_t size;

	__sanitizer_finish_switch_fiber(fibers[running].save, &bottom, &size);
	/* Only the sanitizer knows the caller's stack */
	if (!fibers[CALLER].stack && running != CALLER) {
		fibers[CALLER].stack = bottom;
		fibers[CALLER].size = size;
	}
}
#endif

static void change_to(int next)
{
	struct fiber *from = &fibers[running], *to = &fibers[next];

	running = next;
	leaving(from, to);
	swapcontext(&from->context, &to->context);
	entered();
}

static void fetch_change(void)
{
	points_left = next_change < end_of_changes ? *next_change & 63 : -1;
}

/* The live task that is hops further than the one that runs, or CALLER */
static int other_task(int hops)
{
	int next = running, seen;

	for (seen = 0; seen < nr_tasks; seen++) {
		next = (next + 1) % nr_tasks;
		if (fibers[next].live && hops-- <= 0)
			return next;
	}
	return CALLER;
}

void sched_point(void)
{
	static __thread unsigned int count;
	int next;

	if (thread_task) {
		if (!(++count % 7))
			sched_yield();
		return;
	}
	stuck = 0;
	if (running == CALLER || points_left < 0 || points_left-- > 0)
		return;
	next = other_task(*next_change++ >> 6 & 1);
	fetch_change();
	if (next != running && next != CALLER)
		change_to(next);
}

bool sched_blocked(void)
{
	int next;

	if (thread_task) {
		sched_yield();
		return true;
	}
	next = running == CALLER ? CALLER : other_task(0);
	if (next == running || next == CALLER || ++stuck > 3 * SCHED_TASKS)
		return false;
	change_to(next);
	return true;
}

static void fiber_main(int me)
{
	entered();
	for (;;) {
		task_func(me);
		fibers[me].live = false;
		change_to(other_task(0));
	}
}

static void prepare(void)
{
	int i;

	for (i = 0; i < SCHED_TASKS; i++) {
		struct fiber *f = &fibers[i];
		void *stack = malloc(STACK_SIZE);

		if (!stack || getcontext(&f->context))
			abort();
		f->stack = stack;
		f->size = STACK_SIZE;
		f->context.uc_stack.ss_sp = stack;
		f->context.uc_stack.ss_size = STACK_SIZE;
		makecontext(&f->context, (void (*)(void))fiber_main, 1, i);
#ifdef FOR_tsan
		f->tsan = __tsan_create_fiber(0);
#endif
	}
#ifdef FOR_tsan
	fibers[CALLER].tsan = __tsan_get_current_fiber();
#endif
}

void sched_run(int n, void (*func)(int task), const unsigned char *schedule,
	       int len)
{
	int i;

	if (!fibers[0].stack)
		prepare();
	nr_tasks = n;
	task_func = func;
	next_change = schedule;
	end_of_changes = schedule + len;
	fetch_change();
	stuck = 0;
	for (i = 0; i < n; i++)
		fibers[i].live = true;
	change_to(0);
}

void sched_reached(unsigned int where)
{
	static unsigned char reached[1024]
		__section("__libfuzzer_extra_counters");

	reached[where % sizeof(reached)]++;
}

/* The threads are made once: to make one takes longer than what it does */
static pthread_barrier_t start, done;

static void *thread_main(void *arg)
{
	int me = (long)arg;

	thread_task = &fibers[me].task;
	for (;;) {
		pthread_barrier_wait(&start);
		if (me < nr_tasks)
			task_func(me);
		pthread_barrier_wait(&done);
	}
	return NULL;
}

void sched_run_threads(int n, void (*func)(int task))
{
	static bool made;
	pthread_t thread;
	long i;

	if (!made) {
		made = true;
		pthread_barrier_init(&start, NULL, SCHED_TASKS + 1);
		pthread_barrier_init(&done, NULL, SCHED_TASKS + 1);
		for (i = 0; i < SCHED_TASKS; i++)
			if (pthread_create(&thread, NULL, thread_main, (void *)i))
				abort();
	}
	nr_tasks = n;
	task_func = func;
	pthread_barrier_wait(&start);
	pthread_barrier_wait(&done);
}
