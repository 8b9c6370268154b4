/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tasks that run one at a time and change only at the points where the shim
 * says so (every lock, atomic and RCU access), as the schedule commands: what
 * they do is the same every time. Without a schedule they are plain threads.
 */
#ifndef _IOASID_TASK_H
#define _IOASID_TASK_H

#include <stdbool.h>

#define SCHED_TASKS	3

/* What the shim knows of whom runs */
struct task {
	int readers;
	int rcu_depth;
	int spin_depth;
	int locks;
	int irq_off;
	/* The allocation to fail, counted from 1; whether one failed */
	int fail_nth;
	int failed;
	/* Those that may not sleep fail too */
	int fail_nowait;
	/* What it had the hardware block in this call, in how many batches */
	int blocked;
	int batches;
};

struct task *sched_current(void);
#define current		sched_current()

/* Another task may run */
void sched_point(void);
/* Another task must: this one waits for it. False if that would be forever. */
bool sched_blocked(void);
/*
 * Runs func(0) to func(n - 1) as tasks. Each byte of the schedule says after
 * how many points (low 6 bits) who is next (the high ones); when it is used up,
 * nobody is interrupted any more.
 */
void sched_run(int n, void (*func)(int task), const unsigned char *schedule,
	       int len);
/* The same in threads, all at once */
void sched_run_threads(int n, void (*func)(int task));

/* Did the thread sanitizer complain? */
bool sched_raced(void);
void __tsan_on_report(const void *report);

/* Tells libFuzzer that an input got somewhere */
void sched_reached(unsigned int where);

#endif /* _IOASID_TASK_H */
