/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the core must do, said a second time and without locks, memory or
 * pointers: a state, and for each call the steps by which it changes.
 *
 * A step is atomic. Between two steps of a call those of others may come, in
 * any order: the core is right when there is an order that explains all results
 * and the state that is found in the end.
 */
#ifndef _IOASID_MODEL_H
#define _IOASID_MODEL_H

#include <linux/types.h>

#define BANKS		3	/* who has handles: a task each */
#define BANK_SETS	3	/* the first was allocated by the bank */
#define BANK_IOASIDS	3
#define BANK_ATTACHMENTS 2
#define MAX_OPS		4	/* of a task in a parallel phase */
#define MODEL_SETS	16
#define MODEL_IOASIDS	24

enum code {
	SET_ALLOC, SET_FREE, SET_GET, SET_PUT, SET_JOIN, ALLOC, FREE, DROP, GET,
	PUT, FIND, ATTACH, REPLACE, DETACH, QUERY, COUNT, LIMIT, RECLAIM,
	WATCH, CODES
};

/* Handles are places in the bank of the task. One index serves both sets and IOASIDs. */
struct op {
	u8 code;
	u8 bank;
	u8 set;			/* which set of the bank */
	u8 ioasid;		/* which IOASID of the bank */
	u8 to;			/* where what is found goes */
	u8 attachment;
	u8 dev;			/* a device, and whether with or without PASID */
	u8 from;		/* the bank whose set is joined */
	u8 fresh;		/* index of a new set or IOASID in the model */
	bool charged;
	bool atomic;		/* interrupts are off */
	bool dev_fails;
	bool unpublished;	/* ALLOC is undone before anybody can find it */
	u8 fail_nth;
	bool fail_nowait;
	u32 min, max;		/* of ALLOC; min is the id of FIND and QUERY */
	u32 quota;
};

struct result {
	bool skipped;		/* the handles do not allow it */
	bool failed;		/* an allocation of memory did */
	int ret;
	u32 value;		/* an id */
	const void *found;	/* a set or IOASID */
	u32 count[5];
	unsigned int begin, end;	/* when, for the order */
};

struct model_ioasid {
	u8 stage;
	u8 set;
	u8 refs;
	bool parked;
	u8 attachments;
	bool charged;
	bool listed;		/* met by ioasid_set_free() */
	u8 unused;
	u32 id;
};

enum { UNUSED, RESERVED, ALLOCATED, PUBLISHED, UNPUBLISHED, RETURNED };

struct model_set {
	u8 refs;
	u8 active;
	u8 parked;
	u8 mutex;		/* whose: task + 1 */
	bool freed;
	bool charged;
	u8 alloc_mutex;		/* whose: task + 1 */
	u8 attachments;
	u32 parks;
	u32 quota;
};

/* Handles: an index + 1 into the model's sets and IOASIDs, 0 for none */
struct model_bank {
	u8 set[BANK_SETS];
	u8 ioasid[BANK_IOASIDS];
	u8 attachment[BANK_ATTACHMENTS];
	u8 dev[BANK_ATTACHMENTS];
};

struct model {
	struct model_ioasid ioasid[MODEL_IOASIDS];
	struct model_set set[MODEL_SETS];
	struct model_bank bank[BANKS];
	u8 charged;
	u8 limit;
	u8 unused[2];
};

/* What the core's pointers are to the model; grows as results come in */
const void *real_set(int index);
const void *real_ioasid(int index);
/* Whether what is found now, when nobody runs, is as in the model */
bool real_matches(const struct model *model);

struct history {
	int tasks;
	int ops[BANKS];
	const struct op *op[BANKS];
	const struct result *result[BANKS];
};

/*
 * Moves the model on to a state that explains the history. False: there is
 * none. Gives up in time, and says so.
 */
bool model_explain(struct model *model, const struct history *history,
		   bool *gave_up);
void model_print(const struct model *model);
int model_unused_set(const struct model *model, int nth);
int model_unused_ioasid(const struct model *model, int nth);

#endif /* _IOASID_MODEL_H */
