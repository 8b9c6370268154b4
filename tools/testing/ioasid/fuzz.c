// SPDX-License-Identifier: GPL-2.0
/*
 * Drives the core with what libFuzzer gives, and compares all that it does with
 * the model.
 *
 * An input is a row of phases. In a sequential one each call is compared before
 * the next is made. In a parallel one up to three tasks make up to four calls
 * each, and the model must know an order of their steps that explains all of
 * it. The tasks are threads, or they change where the input says so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/user_namespace.h>

#include "ioasid-priv.h"
#include "model.h"
#include "shim.h"

#define DEVS		2
#define MAX_HISTORY	512
#define OP_BYTES	4
#define SCHEDULE_BYTES	8

/* --- what is attached to */

/* The core only tells devices apart */
static char devices[DEVS];

/*
 * An attachment: in place of the domain, which the core only hands on. Who
 * checks a free reads state, IOASID and set under no lock, and does not follow
 * the pointers: they may be stale. hw_lock stands for the locks of the IOMMU
 * core and its driver.
 */
struct hw {
	int state;
	const struct ioasid_attachment *attachment;	/* the last one */
	const struct ioasid *ioasid;
	const struct ioasid_set *set;
};

enum { IDLE, ATTACHED, BLOCKED };

static struct hw hw[BANKS][BANK_ATTACHMENTS];
static struct hw hw_fails;
static DEFINE_MUTEX(hw_lock);

/* Not by attachment->domain, which a replacement may change */
static struct hw *hw_of(const struct ioasid_attachment *attachment)
{
	struct hw *h;
	int i, j;

	lockdep_assert_held(&hw_lock);
	for (i = 0; i < BANKS; i++) {
		for (j = 0; j < BANK_ATTACHMENTS; j++) {
			h = &hw[i][j];
			if (h->attachment != attachment)
				continue;
			if (h->state != IDLE && h->ioasid != attachment->ioasid)
				shim_bug("an attachment of another IOASID");
			return h;
		}
	}
	return NULL;
}

static void hw_set(struct hw *h, int state)
{
	sched_point();
	__atomic_store_n(&h->state, state, __ATOMIC_RELAXED);
}

static int hw_attach(struct ioasid_attachment *attachment,
		     struct iommu_attach_handle *handle)
{
	struct hw *h = (struct hw *)attachment->domain, *freed;

	if (attachment->ioasid->parked)
		shim_bug("attach to a PARKED IOASID");
	if (h == &hw_fails)
		return -EIO;
	lockdep_assert_held(&attachment->ioasid->set->lock);
	mutex_lock(&hw_lock);
	/* The memory of an earlier one may be used again */
	freed = hw_of(attachment);
	if (freed && freed->state != IDLE)
		shim_bug("an attachment in state %d was freed", freed->state);
	if (freed)
		freed->attachment = NULL;
	if (h->state != IDLE)
		shim_bug("attach in state %d", h->state);
	h->attachment = attachment;
	__atomic_store_n(&h->ioasid, attachment->ioasid, __ATOMIC_RELAXED);
	__atomic_store_n(&h->set, attachment->ioasid->set, __ATOMIC_RELAXED);
	hw_set(h, ATTACHED);
	mutex_unlock(&hw_lock);
	return 0;
}

static int hw_replace(struct ioasid_attachment *attachment,
		      struct iommu_domain *domain,
		      struct iommu_attach_handle *handle)
{
	struct hw *h;
	int ret = 0;

	mutex_lock(&hw_lock);
	h = hw_of(attachment);
	if (!h || h->state == IDLE)
		shim_bug("another page table for what is not attached");
	if (h->state == BLOCKED)
		ret = -ESHUTDOWN;
	else if ((struct hw *)domain == &hw_fails)
		ret = -EIO;
	sched_point();
	mutex_unlock(&hw_lock);
	return ret;
}

static void hw_block(const struct ioasid_batch *batch)
{
	struct task *me = current;
	unsigned int i;
	struct hw *h;

	if (!batch->count || batch->count > IOASID_BATCH_SIZE)
		shim_bug("a batch of %u attachments", batch->count);
	me->batches++;
	for (i = 0; i < batch->count; i++) {
		me->blocked++;
		if (!batch->attachments[i]->ioasid->parked)
			shim_bug("block of an ACTIVE IOASID");
		lockdep_assert_held(&batch->attachments[i]->ioasid->set->lock);
		mutex_lock(&hw_lock);
		h = hw_of(batch->attachments[i]);
		if (!h || h->state == BLOCKED)
			shim_bug("block of what is blocked, or was never attached");
		/* Else it is being detached */
		if (h->state == ATTACHED)
			hw_set(h, BLOCKED);
		mutex_unlock(&hw_lock);
	}
}

static void hw_finish_block(struct ioasid_attachment *attachment)
{
	struct hw *h;

	lockdep_assert_held(&attachment->ioasid->set->lock);
	mutex_lock(&hw_lock);
	h = hw_of(attachment);
	if (!h || h->state == ATTACHED)
		shim_bug("finish_block of what is not blocked");
	mutex_unlock(&hw_lock);
}

static void hw_detach(struct ioasid_attachment *attachment)
{
	struct hw *h;

	mutex_lock(&hw_lock);
	h = hw_of(attachment);
	if (!h || h->state == IDLE)
		shim_bug("detach of what is not attached");
	hw_set(h, IDLE);
	mutex_unlock(&hw_lock);
}

static const struct ioasid_attachment_ops hw_ops = {
	.attach = hw_attach,
	.replace = hw_replace,
	.block = hw_block,
	.finish_block = hw_finish_block,
	.detach = hw_detach,
};

/* --- the handles of each task, and what was done */

static struct bank {
	struct ioasid_set *set[BANK_SETS];
	struct ioasid *ioasid[BANK_IOASIDS];
	struct ioasid_attachment *attachment[BANK_ATTACHMENTS];
} banks[BANKS];

static struct model model;
static const void *real_sets[MODEL_SETS];
static const void *real_ioasids[MODEL_IOASIDS];

static struct phase {
	bool parallel;
	bool threads;
	int tasks;
	int nr[BANKS];
	struct op op[BANKS][MAX_OPS];
	struct result result[BANKS][MAX_OPS];
	u8 schedule[SCHEDULE_BYTES];
} phases[MAX_HISTORY], *phase;
static struct model model_before;
static unsigned int clock_now;

static struct {
	unsigned long inputs, phases, calls;
} statistics;

const void *real_set(int index)
{
	return real_sets[index];
}

const void *real_ioasid(int index)
{
	return real_ioasids[index];
}

static const char *const names[CODES] = {
	[SET_ALLOC] = "set_alloc", [SET_FREE] = "set_free",
	[SET_GET] = "set_get", [SET_PUT] = "set_put",
	[SET_JOIN] = "set_join", [ALLOC] = "alloc", [FREE] = "free",
	[DROP] = "put the owner's", [GET] = "get", [PUT] = "put",
	[FIND] = "find",
	[ATTACH] = "attach", [REPLACE] = "replace", [DETACH] = "detach",
	[QUERY] = "query",
	[COUNT] = "set_count", [LIMIT] = "limit the cgroup",
	[RECLAIM] = "a grace period", [WATCH] = "a look at all sets",
};

static void print_op(const struct op *op, const struct result *r)
{
	fprintf(stderr, "    task %u: %s(", op->bank, names[op->code]);
	switch (op->code) {
	case SET_ALLOC:
		fprintf(stderr, "quota %u%s", op->quota,
			op->charged ? ", charged" : "");
		break;
	case SET_GET:
		fprintf(stderr, "set@%u, to set@%u", op->set, op->to);
		break;
	case SET_PUT:
		fprintf(stderr, "set@%u", op->to);
		break;
	case SET_JOIN:
		fprintf(stderr, "task %u, to set@%u", op->from, op->to);
		break;
	case ALLOC:
		fprintf(stderr, "set@%u, %u..%u, to ioasid@%u%s", op->set, op->min,
			op->max, op->to, op->unpublished ? ", then put" : "");
		break;
	case FIND:
		fprintf(stderr, "set@%u, %u, to ioasid@%u", op->set, op->min,
			op->to);
		break;
	case GET:
		fprintf(stderr, "ioasid@%u, to ioasid@%u", op->ioasid, op->to);
		break;
	case ATTACH:
		fprintf(stderr, "ioasid@%u, dev%u%s%s, to attachment@%u",
			op->ioasid, op->dev / 2,
			op->dev % 2 ? " without PASID" : "", op->dev_fails ? " that fails" : "",
			op->attachment);
		break;
	case REPLACE:
		fprintf(stderr, "attachment@%u%s", op->attachment,
			op->dev_fails ? " that fails" : "");
		break;
	case DETACH:
		fprintf(stderr, "attachment@%u", op->attachment);
		break;
	case QUERY:
		fprintf(stderr, "set@%u, %u", op->set, op->min);
		break;
	case COUNT:
		fprintf(stderr, "set@%u", op->set);
		break;
	case LIMIT:
		fprintf(stderr, "%u", op->quota);
		break;
	case FREE: case DROP: case PUT:
		fprintf(stderr, "ioasid@%u", op->ioasid);
		break;
	}
	fprintf(stderr, ")%s%s", op->atomic ? " in interrupt" : "",
		op->fail_nowait ? " short of memory" : "");
	if (op->fail_nth)
		fprintf(stderr, " failing allocation %u", op->fail_nth);
	if (!r->end)
		fprintf(stderr, r->begin ? " ...\n" : ": not begun\n");
	else if (r->skipped)
		fprintf(stderr, ": skipped\n");
	else if (r->ret)
		fprintf(stderr, " = -%s [%u-%u]\n", strerrorname_np(-r->ret),
			r->begin, r->end);
	else if (op->code == QUERY)
		fprintf(stderr, " = %s, %u attachments [%u-%u]\n",
			r->count[0] ? "parked" : "active", r->count[1],
			r->begin, r->end);
	else if (op->code == COUNT)
		fprintf(stderr, " = quota %u, %u active, %u parked, %u parks%s [%u-%u]\n",
			r->count[0], r->count[1], r->count[2], r->count[3],
			r->count[4] ? ", freed" : "", r->begin, r->end);
	else if (op->code == FIND && !r->found)
		fprintf(stderr, " = NULL [%u-%u]\n", r->begin, r->end);
	else
		fprintf(stderr, " = %u [%u-%u]\n", r->value, r->begin, r->end);
}

void print_history(void)
{
	static unsigned long printed;
	const struct phase *p;
	int i, j;

	/* At an abort it comes here from two sides */
	if (!phase || printed == statistics.inputs)
		return;
	printed = statistics.inputs;
	fprintf(stderr, "What was done ([when it began-when it ended]):\n");
	for (p = phases; p <= phase; p++) {
		if (p->parallel) {
			fprintf(stderr, "  %d %s at once:", p->tasks,
				p->threads ? "threads" : "tasks");
			for (i = 0; i < SCHEDULE_BYTES && !p->threads; i++)
				fprintf(stderr, " %02x", p->schedule[i]);
			fputc('\n', stderr);
		}
		for (i = 0; i < p->tasks; i++)
			for (j = 0; j < p->nr[i]; j++)
				print_op(&p->op[i][j], &p->result[i][j]);
	}
	fprintf(stderr, "The model before the last of it:\n");
	model_print(&model_before);
}

/* --- one call */

static void check_blocked(const struct ioasid *ioasid, const struct ioasid_set *set)
{
	int i, j;

	for (i = 0; i < BANKS; i++) {
		for (j = 0; j < BANK_ATTACHMENTS; j++) {
			const struct hw *h = &hw[i][j];

			if (__atomic_load_n(&h->state, __ATOMIC_RELAXED) != ATTACHED)
				continue;
			if ((ioasid && ioasid == __atomic_load_n(&h->ioasid, __ATOMIC_RELAXED)) ||
			    (set && set == __atomic_load_n(&h->set, __ATOMIC_RELAXED)))
				shim_bug("free returned, and an attachment is not blocked");
		}
	}
}

/* As debugfs does */
static void watch(void)
{
	struct ioasid_set_counts counts;
	struct ioasid_set *set;
	unsigned long id;

	rcu_read_lock();
	xa_for_each(&ioasid_sets, id, set) {
		if (!refcount_inc_not_zero(&set->refs))
			continue;
		rcu_read_unlock();
		ioasid_set_count(set, &counts);
		ioasid_set_put(set);
		rcu_read_lock();
	}
	rcu_read_unlock();
}

static void *unless_error(void *p, struct result *r)
{
	if (!IS_ERR(p))
		return p;
	r->ret = PTR_ERR(p);
	return NULL;
}

/* The same question is asked of the model's handles, see allowed() there */
static bool allowed(const struct bank *b, const struct op *op)
{
	const struct ioasid *n = b->ioasid[op->ioasid];

	switch (op->code) {
	case SET_ALLOC:
		return !b->set[0] && op->fresh != 0xff;
	case SET_FREE:
		return b->set[0];
	case SET_GET:
		return b->set[op->set] && !b->set[op->to];
	case SET_PUT:
		return b->set[op->to];
	case SET_JOIN:
		return banks[op->from].set[0] && !b->set[op->to];
	case ALLOC:
		/* No call of SET_FREE is running: see run_phase() */
		return b->set[op->set] && !b->set[op->set]->freed &&
		       !b->ioasid[op->to] && op->fresh != 0xff;
	case FIND:
		return b->set[op->set] && !b->ioasid[op->to];
	case QUERY:
	case COUNT:
		return b->set[op->set];
	case DROP:
		return n && !n->parked && refcount_read(&n->refs) == 2 &&
		       !n->nr_attachments;
	case GET:
		return n && !b->ioasid[op->to];
	case ATTACH:
		return n && !b->attachment[op->attachment];
	case REPLACE:
	case DETACH:
		return b->attachment[op->attachment];
	case FREE:
	case PUT:
		return n;
	}
	return true;
}

static void call(const struct op *op, struct result *r)
{
	struct bank *b = &banks[op->bank];
	struct ioasid_set *set = b->set[op->set];
	struct ioasid **ioasid = &b->ioasid[op->ioasid], *new;
	struct ioasid_set_counts counts;
	struct ioasid_status status;
	struct ioasid_attachment *attachment;
	struct hw *h;

	switch (op->code) {
	case SET_ALLOC:
		set = unless_error(ioasid_set_alloc(op->quota, op->charged), r);
		r->found = set;
		if (!set)
			break;
		b->set[0] = set;
		break;
	case SET_FREE:
		set = b->set[0];
		ioasid_set_free(set);
		/* With threads about, that can be another set by now */
		if (!phase->threads)
			check_blocked(NULL, set);
		b->set[0] = NULL;
		break;
	case SET_GET:
		refcount_inc(&set->refs);
		b->set[op->to] = set;
		break;
	case SET_PUT:
		ioasid_set_put(b->set[op->to]);
		b->set[op->to] = NULL;
		break;
	case SET_JOIN:
		set = banks[op->from].set[0];
		refcount_inc(&set->refs);
		b->set[op->to] = set;
		break;
	case ALLOC:
		new = unless_error(ioasid_alloc(set, op->min, op->max), r);
		r->found = new;
		if (!new)
			break;
		r->value = ioasid_id(new);
		if (op->unpublished) {
			/* As when the user's buffer cannot be written */
			ioasid_put(new);
			break;
		}
		/* As an owner and a holder */
		b->ioasid[op->to] = ioasid_get(new);
		ioasid_publish(new);
		break;
	case FREE:
		ioasid_free(*ioasid);
		check_blocked(*ioasid, NULL);
		break;
	case DROP:
		ioasid_put(*ioasid);
		ioasid_put(*ioasid);
		*ioasid = NULL;
		break;
	case GET:
		b->ioasid[op->to] = ioasid_get(*ioasid);
		break;
	case PUT:
		ioasid_put(*ioasid);
		*ioasid = NULL;
		break;
	case FIND:
		b->ioasid[op->to] = ioasid_find(set, op->min);
		r->found = b->ioasid[op->to];
		if (r->found)
			r->value = ioasid_id(r->found);
		break;
	case ATTACH:
		h = op->dev_fails ? &hw_fails : &hw[op->bank][op->attachment];
		attachment = __ioasid_attach(*ioasid,
					     (struct device *)&devices[op->dev / 2],
					     op->dev % 2 ? 0 : ioasid_id(*ioasid),
					     (struct iommu_domain *)h, NULL,
					     &hw_ops, "fuzz");
		b->attachment[op->attachment] = unless_error(attachment, r);
		break;
	case REPLACE:
		h = op->dev_fails ? &hw_fails : &hw[op->bank][op->attachment];
		r->ret = ioasid_replace(b->attachment[op->attachment],
					(struct iommu_domain *)h, NULL);
		break;
	case DETACH:
		__ioasid_detach(b->attachment[op->attachment]);
		b->attachment[op->attachment] = NULL;
		break;
	case QUERY:
		r->ret = ioasid_query(set, op->min, &status);
		if (r->ret)
			break;
		r->count[0] = status.parked;
		r->count[1] = status.attachments;
		break;
	case COUNT:
		ioasid_set_count(set, &counts);
		r->count[0] = counts.quota;
		r->count[1] = counts.active;
		r->count[2] = counts.parked;
		r->count[3] = counts.parks;
		r->count[4] = counts.freed;
		break;
	case LIMIT:
		shim_cg.limit = op->quota;
		break;
	case RECLAIM:
		rcu_reclaim();
		break;
	case WATCH:
		watch();
		break;
	}
}

static void do_op(const struct op *op, struct result *r, bool threads)
{
	struct task *me = current;

	r->begin = __atomic_add_fetch(&clock_now, 1, __ATOMIC_RELAXED);
	r->skipped = !allowed(&banks[op->bank], op);
	if (!r->skipped) {
		me->failed = false;
		me->fail_nth = op->fail_nth;
		me->fail_nowait = op->fail_nowait;
		me->irq_off += op->atomic;
		me->blocked = 0;
		me->batches = 0;
		call(op, r);
		me->irq_off -= op->atomic;
		me->fail_nth = 0;
		me->fail_nowait = false;
		r->failed = me->failed;
		if (me->locks || me->spin_depth || me->rcu_depth || me->irq_off)
			shim_bug("a lock, or RCU, is still held");
		if (me->batches != (me->blocked + IOASID_BATCH_SIZE - 1) / IOASID_BATCH_SIZE)
			shim_bug("%d attachments are blocked in %d batches",
				 me->blocked, me->batches);
	}
	r->end = __atomic_add_fetch(&clock_now, 1, __ATOMIC_RELAXED);
	/* What each call can return, apart for alone and with others */
	sched_reached(op->code * 16 + phase->parallel * 512 +
		      (r->skipped ? 0 : r->ret ? 8 + -r->ret % 8 : 1 + !r->found));
	/* As early as can be; but it orders threads that nothing else does */
	if (!threads)
		rcu_reclaim();
}

/* --- phases */

static void remember(const struct op *op, const struct result *r)
{
	if (op->code == SET_ALLOC && r->found)
		real_sets[op->fresh] = r->found;
	if (op->code == ALLOC && r->found)
		real_ioasids[op->fresh] = r->found;
}

static bool ioasid_matches(const struct model_ioasid *m, const struct ioasid *n)
{
	return ioasid_id(n) == m->id && n->parked == m->parked &&
	       refcount_read(&n->refs) == m->refs &&
	       n->nr_attachments == m->attachments;
}

static bool set_matches(const struct model *model, int index, struct ioasid_set *s)
{
	const struct model_set *m = &model->set[index];
	const struct model_ioasid *n;
	struct ioasid_set_counts counts;
	struct ioasid_status status;

	/* Those too that nobody here holds */
	for (n = model->ioasid; n < model->ioasid + MODEL_IOASIDS; n++)
		if (n->stage == PUBLISHED && n->set == index &&
		    (ioasid_query(s, n->id, &status) ||
		     status.parked != n->parked ||
		     status.attachments != n->attachments ||
		     !ioasid_matches(n, xa_load(&s->ioasids, n->id))))
			return false;
	ioasid_set_count(s, &counts);
	return counts.quota == m->quota && counts.active == m->active &&
	       counts.parked == m->parked && counts.parks == m->parks &&
	       refcount_read(&s->refs) == m->refs &&
	       counts.freed == m->freed;
}

bool real_matches(const struct model *m)
{
	int i, j;

	for (i = 0; i < BANKS; i++) {
		const struct model_bank *mb = &m->bank[i];
		struct bank *b = &banks[i];

		for (j = 0; j < BANK_SETS; j++) {
			if (!mb->set[j] != !b->set[j])
				return false;
			if (b->set[j] &&
			    (b->set[j] != real_sets[mb->set[j] - 1] ||
			     !set_matches(m, mb->set[j] - 1, b->set[j])))
				return false;
		}
		for (j = 0; j < BANK_IOASIDS; j++) {
			if (!mb->ioasid[j] != !b->ioasid[j])
				return false;
			if (b->ioasid[j] &&
			    (b->ioasid[j] != real_ioasids[mb->ioasid[j] - 1] ||
			     !ioasid_matches(&m->ioasid[mb->ioasid[j] - 1],
					     b->ioasid[j])))
				return false;
		}
		for (j = 0; j < BANK_ATTACHMENTS; j++) {
			int want = IDLE;

			if (!mb->attachment[j] != !b->attachment[j])
				return false;
			if (mb->attachment[j])
				want = m->ioasid[mb->attachment[j] - 1].parked ?
				       BLOCKED : ATTACHED;
			if (hw[i][j].state != want)
				return false;
		}
	}
	return shim_cg.usage == m->charged && (u64)shim_cg.refs == m->charged &&
	       shim_user.ucount[UCOUNT_IOASIDS] == m->charged;
}

static void explain(void)
{
	struct history h = { .tasks = phase->tasks };
	bool gave_up = false;
	int i, j;

	for (i = 0; i < phase->tasks; i++) {
		h.ops[i] = phase->nr[i];
		h.op[i] = phase->op[i];
		h.result[i] = phase->result[i];
		for (j = 0; j < phase->nr[i]; j++)
			remember(&phase->op[i][j], &phase->result[i][j]);
	}
	statistics.calls += phase->nr[0] + phase->nr[1] + phase->nr[2];
	if (sched_raced())
		shim_bug("a data race, see above");
	if (model_explain(&model, &h, &gave_up))
		return;
	shim_bug(gave_up ? "the model gave up" : phase->parallel ?
		 "no order of the calls explains what they returned, or left behind" :
		 "the last call did not do, or return, what the model does");
}

static void run_one(const struct op *op)
{
	if (phase == &phases[MAX_HISTORY - 1])
		shim_bug("the input is too long");
	phase = phase ? phase + 1 : phases;
	memset(phase, 0, sizeof(*phase));
	phase->tasks = 1;
	phase->nr[0] = 1;
	phase->op[0][0] = *op;
	model_before = model;
	do_op(op, &phase->result[0][0], false);
	explain();
}

static int nr_done;

/* What comes before is there for the task, and what it did for who goes on */
static void task(int me)
{
	int i;

	__atomic_load_n(&nr_done, __ATOMIC_ACQUIRE);
	for (i = 0; i < phase->nr[me]; i++)
		do_op(&phase->op[me][i], &phase->result[me][i], phase->threads);
	__atomic_fetch_add(&nr_done, 1, __ATOMIC_RELEASE);
}

static void run_parallel(void)
{
	model_before = model;
	statistics.phases++;
	__atomic_store_n(&nr_done, 0, __ATOMIC_RELEASE);
	if (phase->threads)
		sched_run_threads(phase->tasks, task);
	else
		sched_run(phase->tasks, task, phase->schedule, SCHEDULE_BYTES);
	if (__atomic_load_n(&nr_done, __ATOMIC_ACQUIRE) != phase->tasks)
		shim_bug("a task did not end");
	explain();
	rcu_reclaim();
}

/* --- from bytes to calls */

static const u32 ranges[][2] = {
	{ 1, 4 }, { 1, IOASID_MAX }, { 3, 3 }, { 1, 2 }, { 7, 9 },
	{ 1022, 1026 }, { IOASID_MAX - 1, IOASID_MAX }, { 4, 9 },
	{ 0, 4 }, { 5, 4 }, { IOASID_MAX, IOASID_MAX + 1 }, { ~0U, ~0U },
};

static const u32 ids[] = {
	1, 2, 3, 4, 7, 8, 1022, 1023, 1024, IOASID_MAX - 1, IOASID_MAX,
	0, IOASID_MAX + 1, ~0U, 5, 6,
};

static const u32 quotas[] = { 2, 1, 3, 6, ~0U, 0, 4, 2 };

#define PICK(table, x)	((table)[(x) % (sizeof(table) / sizeof((table)[0]))])

static void decode(struct op *op, const u8 *in, bool parallel, int *fresh_sets,
		   int *fresh_ioasids)
{
	u8 arg = in[2], how = in[3];
	int fresh = -1;

	memset(op, 0, sizeof(*op));
	op->code = in[0] % CODES;
	op->bank = (in[1] & 3) % BANKS;
	op->set = (in[1] >> 2 & 3) % BANK_SETS;
	op->ioasid = (in[1] >> 4 & 3) % BANK_IOASIDS;
	op->to = (in[1] >> 6) % BANK_IOASIDS;
	op->attachment = in[1] >> 6 & 1;
	op->dev = arg & 3;
	op->dev_fails = (how & 0x60) == 0x60;
	op->from = (arg & 3) % BANKS;
	op->min = PICK(ids, arg);
	op->quota = PICK(quotas, arg >> 2);
	if (how & 8)
		op->fail_nth = 1 + (how & 7);
	op->fail_nowait = how & 0x10;

	switch (op->code) {
	case SET_ALLOC:
		op->charged = how & 0x20;
		if (model_unused_set(&model, 6) >= 0)
			fresh = model_unused_set(&model, (*fresh_sets)++);
		break;
	case SET_JOIN:
		/* The set is another task's: nobody else may free it meanwhile */
		if (parallel)
			op->code = RECLAIM;
		fallthrough;
	case SET_GET:
	case SET_PUT:
		op->to = 1 + (op->to & 1);
		break;
	case ALLOC:
		op->min = PICK(ranges, arg)[0];
		op->max = PICK(ranges, arg)[1];
		op->unpublished = (how & 0x60) == 0x60;
		if (model_unused_ioasid(&model, 12) >= 0)
			fresh = model_unused_ioasid(&model, (*fresh_ioasids)++);
		break;
	case DROP:
	case LIMIT:
		/* Who puts the owner's reference knows that nobody else is there */
		if (parallel)
			op->code = RECLAIM;
		break;
	}
	op->fresh = fresh < 0 ? 0xff : fresh;
	switch (op->code) {
	case SET_GET: case SET_PUT: case SET_JOIN: case GET: case PUT:
	case FIND:
		op->atomic = how & 0x80;
	}
}

struct input {
	const u8 *at;
	size_t left;
};

static bool take(struct input *in, void *to, size_t n)
{
	if (in->left < n)
		return false;
	memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
	return true;
}

/* Nobody frees a set while another task may allocate in it: it has the file */
static void forbid_free_at_alloc(struct phase *p)
{
	bool allocs = false;
	int i, j;

	for (i = 0; i < p->tasks; i++)
		for (j = 0; j < p->nr[i]; j++)
			allocs |= p->op[i][j].code == ALLOC;
	for (i = 0; allocs && i < p->tasks; i++)
		for (j = 0; j < p->nr[i]; j++)
			if (p->op[i][j].code == SET_FREE)
				p->op[i][j].code = WATCH;
}

/*
 * The first byte. Bits 0 and 1: one more than that are the tasks, but 0 and 3
 * are a sequence of calls, as many as the other bits say. Bit 2: threads. Bits
 * 4 and 5: how many calls each makes, less one.
 */
static bool run_phase(struct input *in)
{
	int i, j, sets = 0, ioasids = 0;
	u8 bytes[OP_BYTES], kind;
	struct op op;

	if (!take(in, &kind, 1))
		return false;
	if (!(kind & 3) || (kind & 3) == 3) {
		for (i = 0; i <= (kind >> 2) % 16; i++) {
			if (!take(in, bytes, OP_BYTES))
				return false;
			sets = 0;
			ioasids = 0;
			decode(&op, bytes, false, &sets, &ioasids);
			run_one(&op);
		}
		return true;
	}
	phase = phase ? phase + 1 : phases;
	memset(phase, 0, sizeof(*phase));
	phase->parallel = true;
	phase->threads = kind & 4;
	phase->tasks = 1 + (kind & 3);
	take(in, phase->schedule, SCHEDULE_BYTES);
	for (i = 0; i < phase->tasks; i++) {
		for (j = 0; j <= (kind >> 4 & 3) && take(in, bytes, OP_BYTES); j++) {
			decode(&phase->op[i][j], bytes, true, &sets, &ioasids);
			phase->op[i][j].bank = i;
			phase->nr[i]++;
		}
	}
	forbid_free_at_alloc(phase);
	run_parallel();
	return true;
}

/* Detach and put everything: nothing may be left */
static void clean_up(void)
{
	struct op op = { };
	unsigned long id = 0;
	int i, j;

	for (i = 0; i < BANKS; i++) {
		op.bank = i;
		for (j = 0; j < BANK_ATTACHMENTS; j++) {
			op.code = DETACH;
			op.attachment = j;
			if (banks[i].attachment[j])
				run_one(&op);
		}
		for (j = 0; j < BANK_IOASIDS; j++) {
			op.code = PUT;
			op.ioasid = j;
			if (banks[i].ioasid[j])
				run_one(&op);
		}
		op.code = SET_FREE;
		if (banks[i].set[0])
			run_one(&op);
		op.code = SET_PUT;
		for (op.to = 1; op.to < BANK_SETS; op.to++)
			if (banks[i].set[op.to])
				run_one(&op);
	}
	rcu_reclaim();
	if (xa_find(&ioasid_sets, &id, ULONG_MAX, XA_PRESENT))
		shim_bug("a set is left");
	if (shim_allocated())
		shim_bug("%ld allocations are left", shim_allocated());
}

static void print_statistics(void)
{
	fprintf(stderr, "ioasid: %lu inputs, %lu calls, %lu parallel phases\n",
		statistics.inputs, statistics.calls, statistics.phases);
}

/* --- what the sanitizers ask for, and call */

const char *__tsan_default_options(void)
{
	/* libFuzzer's own handlers are not what is tested */
	return "report_signal_unsafe=0";
}

void __asan_on_error(void)
{
	print_history();
}

void __ubsan_on_report(void)
{
	print_history();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	radix_tree_init();
	atexit(print_statistics);
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };

	if (size > 600)
		return -1;
	phase = NULL;
	clock_now = 0;
	/* Everybody may have all ids */
	ioasid_reserved = 0;
	memset(&model, 0, sizeof(model));
	model.limit = 3;
	shim_cg.limit = 3;
	statistics.inputs++;
	while (run_phase(&in))
		;
	clean_up();
	if (getenv("VERBOSE"))
		print_history();
	phase = NULL;
	return 0;
}
