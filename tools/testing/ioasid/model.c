// SPDX-License-Identifier: GPL-2.0
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/ioasid.h>

#include "model.h"

#define BUDGET		100000		/* states that are looked at */
#define SEEN_SIZE	BIT(17)

/*
 * How far a task has come. Calls that are done at once have one step, 0. Those
 * that put a reference go on with PUT_REF, for the IOASID at hand.
 */
struct progress {
	u8 op;
	u8 step;
	u8 then;		/* after PUT_REF and the steps that follow it */
	u8 ioasid;		/* at hand */
	u32 ioasids;		/* that are yet to be done: a bit each */
	u32 set;		/* of SET_FREE */
};

enum { PUT_REF = 100, ERASE, RETURN, UNCHARGE, UNCOUNT, END };

/* References of an IOASID that ioasid_alloc() has not returned */
#define NOT_YET	0xff

/* What a step says: not now, or not with this result; done; more to come */
enum verdict { NO, DONE, MORE };

struct state {
	struct model model;
	struct progress progress[BANKS];
};

int model_unused_set(const struct model *m, int nth)
{
	int i;

	for (i = 0; i < MODEL_SETS; i++)
		if (!m->set[i].refs && !nth--)
			return i;
	return -1;
}

int model_unused_ioasid(const struct model *m, int nth)
{
	int i;

	for (i = 0; i < MODEL_IOASIDS; i++)
		if (m->ioasid[i].stage == UNUSED && !nth--)
			return i;
	return -1;
}

static bool taken(const struct model *m, u32 id)
{
	int i;

	for (i = 0; i < MODEL_IOASIDS; i++)
		if (m->ioasid[i].id == id && m->ioasid[i].stage != UNUSED &&
		    m->ioasid[i].stage != RETURNED)
			return true;
	return false;
}

/* Whether all ids are taken, some by those that fail later with an unknown id */
static bool may_be_full(const struct model *m, u32 min, u32 max)
{
	int i, unknown = 0;
	u32 id;

	for (i = 0; i < MODEL_IOASIDS; i++)
		unknown += m->ioasid[i].stage == RESERVED && !m->ioasid[i].id;
	for (id = min; id <= max && unknown >= 0; id++)
		unknown -= !taken(m, id);
	return unknown >= 0;
}

/* Live: published, and referenced still */
static bool live(const struct model_ioasid *n, int set)
{
	return n->stage == PUBLISHED && n->set == set && n->refs;
}

static struct model_ioasid *by_id(struct model *m, int set, u32 id)
{
	int i;

	for (i = 0; i < MODEL_IOASIDS; i++)
		if (live(&m->ioasid[i], set) && m->ioasid[i].id == id)
			return &m->ioasid[i];
	return NULL;
}

/*
 * The IOASID that the end of the set meets next. It is listed after alloc made
 * it active, and is until free has parked it.
 */
static struct model_ioasid *next_listed(struct model *m, int set)
{
	struct model_ioasid *n, *best = NULL;

	for (n = m->ioasid; n < m->ioasid + MODEL_IOASIDS; n++)
		if (live(n, set) && n->listed &&
		    (!best || n->id < best->id))
			best = n;
	return best;
}

static void set_put(struct model_set *s)
{
	if (!--s->refs)
		memset(s, 0, sizeof(*s));
}

static void park(struct model *m, struct model_ioasid *n)
{
	n->parked = true;
	m->set[n->set].active--;
	m->set[n->set].parked++;
	m->set[n->set].parks++;
}

static enum verdict finish(struct progress *p)
{
	p->step = END;
	return DONE;
}

static enum verdict go(struct progress *p, int step)
{
	p->step = step;
	return step == END ? DONE : MORE;
}

/* Put a reference to the IOASID at hand, then go on */
static enum verdict put(struct progress *p, int ioasid, int then)
{
	p->ioasid = ioasid;
	p->then = then;
	return go(p, PUT_REF);
}

/* The steps of the last put */
static enum verdict step_put(struct model *m, struct progress *p)
{
	struct model_ioasid *n = &m->ioasid[p->ioasid];

	switch (p->step) {
	case PUT_REF:
		return go(p, --n->refs ? p->then : ERASE);
	case ERASE:
		if (n->parked)
			m->set[n->set].parked--;
		else
			m->set[n->set].active--;
		n->stage = UNPUBLISHED;
		return go(p, RETURN);
	case RETURN:
		n->stage = RETURNED;
		return go(p, UNCHARGE);
	case UNCHARGE:
		m->charged -= n->charged;
		n->charged = false;
		if (n->refs == NOT_YET)
			return go(p, UNCOUNT);
		set_put(&m->set[n->set]);
		memset(n, 0, sizeof(*n));
		return go(p, p->then);
	default:
		m->set[n->set].alloc_mutex = 0;
		memset(n, 0, sizeof(*n));
		return go(p, p->then);
	}
}

static enum verdict step_set_alloc(struct model *m, const struct op *op,
				   const struct result *r)
{
	struct model_set *s = &m->set[op->fresh];

	if (r->ret)
		return NO;
	s->refs = 1;
	s->quota = op->quota;
	s->charged = op->charged;
	m->bank[op->bank].set[0] = op->fresh + 1;
	return DONE;
}

static enum verdict step_set_free(struct model *m, const struct op *op,
				  struct progress *p)
{
	u32 set = p->step ? p->set : m->bank[op->bank].set[0] - 1;
	struct model_set *s = &m->set[set];
	struct model_ioasid *n;

	switch (p->step) {
	case 0:
		p->set = set;
		m->bank[op->bank].set[0] = 0;
		return go(p, 1);
	case 1:
		if (s->mutex)
			return NO;
		s->mutex = op->bank + 1;
		return go(p, 2);
	case 2:
		s->freed = true;
		return go(p, 3);
	case 3:
		/* One after the other */
		n = next_listed(m, set);
		if (!n) {
			s->mutex = 0;
			return go(p, 4);
		}
		if (!n->parked) {
			park(m, n);
			return go(p, 3);
		}
		n->listed = false;
		p->ioasids |= 1U << (n - m->ioasid);
		return go(p, 3);
	default:
		if (p->ioasids) {
			struct model_ioasid *first = NULL;

			for (n = m->ioasid; n < m->ioasid + MODEL_IOASIDS; n++)
				if (p->ioasids & 1U << (n - m->ioasid) &&
				    (!first || n->id < first->id))
					first = n;
			p->ioasids &= ~(1U << (first - m->ioasid));
			return put(p, first - m->ioasid, 4);
		}
		set_put(s);
		return finish(p);
	}
}

/* The IOASID is found in one step, and the reference taken in a later one */
static enum verdict step_find(struct model *m, const struct op *op,
			      const struct result *r, struct progress *p)
{
	int set = m->bank[op->bank].set[op->set] - 1;
	struct model_ioasid *n;

	if (!p->step) {
		n = by_id(m, set, op->min);
		if (n && n->parked)
			n = NULL;
		if (!n)
			return r->found ? NO : finish(p);
		p->ioasid = n - m->ioasid;
		/* The last reference may go before this one is taken */
		if (r->found && real_ioasid(p->ioasid) != r->found)
			return NO;
		return go(p, 1);
	}
	n = &m->ioasid[p->ioasid];
	if (!n->refs || n->stage != PUBLISHED)
		return r->found ? NO : finish(p);
	if (!r->found || n->id != r->value)
		return NO;
	n->refs++;
	m->bank[op->bank].ioasid[op->to] = p->ioasid + 1;
	return finish(p);
}

static enum verdict step_alloc(struct model *m, const struct op *op,
			       const struct result *r, struct progress *p,
			       bool fail)
{
	int set = m->bank[op->bank].set[op->set] - 1;
	struct model_set *s = &m->set[set];
	struct model_ioasid *n = &m->ioasid[op->fresh];

	switch (p->step) {
	case 0:
		if (op->min < IOASID_MIN || op->min > op->max ||
		    op->max > IOASID_MAX)
			return r->ret == -EINVAL ? finish(p) : NO;
		if (fail)
			return finish(p);
		return go(p, 1);
	case 1:
		if (s->alloc_mutex)
			return NO;
		if (s->active + s->parked >= s->quota)
			return r->ret == -EDQUOT ? finish(p) : NO;
		s->alloc_mutex = op->bank + 1;
		n->set = set;
		n->refs = NOT_YET;
		p->ioasid = op->fresh;
		p->then = END;
		return go(p, 2);
	case 2:
		if (s->charged && m->charged >= m->limit)
			return r->ret == -EBUSY ? go(p, UNCOUNT) : NO;
		n->charged = s->charged;
		m->charged += s->charged;
		return go(p, 3);
	case 3:
		if (fail)
			return go(p, UNCHARGE);
		if (r->ret == -ENOSPC)
			return may_be_full(m, op->min, op->max) ?
			       go(p, UNCHARGE) : NO;
		if (!r->ret && (r->value < op->min || r->value > op->max ||
				taken(m, r->value)))
			return NO;
		n->id = r->ret ? 0 : r->value;
		n->stage = RESERVED;
		return go(p, r->ret == -ENOMEM ? RETURN : 4);
	case 4:
		if (r->ret)
			return NO;
		s->active++;
		s->alloc_mutex = 0;
		return go(p, 5);
	case 5:
		s->refs++;
		n->refs = 1;
		n->stage = ALLOCATED;
		if (op->unpublished)
			return put(p, op->fresh, END);
		n->refs = 2;
		return go(p, 6);
	default:
		n->stage = PUBLISHED;
		n->listed = true;
		m->bank[op->bank].ioasid[op->to] = op->fresh + 1;
		return finish(p);
	}
}

static enum verdict step_free(struct model *m, int ioasid, const struct op *op,
			      struct progress *p)
{
	struct model_ioasid *n = &m->ioasid[ioasid];
	struct model_set *s = &m->set[n->set];

	switch (p->step) {
	case 0:
		if (s->mutex)
			return NO;
		if (n->parked)
			return finish(p);
		s->mutex = op->bank + 1;
		park(m, n);
		return go(p, 1);
	case 1:
		n->listed = false;
		s->mutex = 0;
		return put(p, ioasid, END);
	}
	return NO;
}

static enum verdict step_attach(struct model *m, int ioasid, const struct op *op,
				const struct result *r)
{
	struct model_bank *b = &m->bank[op->bank];
	struct model_ioasid *n = &m->ioasid[ioasid];
	struct model_set *s = &m->set[n->set];
	int want = 0;

	if (r->ret == -ENOMEM)
		return DONE;
	if (s->mutex)
		return NO;
	if (n->parked)
		want = -ESHUTDOWN;
	else if (s->attachments >= s->quota)
		want = -EDQUOT;
	else if (op->dev_fails)
		want = -EIO;
	if (r->ret != want)
		return NO;
	if (want)
		return DONE;
	n->refs++;
	n->attachments++;
	s->attachments++;
	b->attachment[op->attachment] = ioasid + 1;
	b->dev[op->attachment] = op->dev;
	return DONE;
}

static enum verdict step_replace(const struct model *m, const struct op *op,
				 const struct result *r)
{
	const struct model_bank *b = &m->bank[op->bank];
	const struct model_ioasid *n = &m->ioasid[b->attachment[op->attachment] - 1];
	int want = 0;

	if (n->parked)
		want = -ESHUTDOWN;
	else if (op->dev_fails)
		want = -EIO;
	return r->ret == want ? DONE : NO;
}

static enum verdict step_detach(struct model *m, const struct op *op,
				struct progress *p)
{
	struct model_bank *b = &m->bank[op->bank];
	int ioasid = b->attachment[op->attachment] - 1;
	struct model_set *s = &m->set[m->ioasid[ioasid].set];

	if (s->mutex)
		return NO;
	s->attachments--;
	b->attachment[op->attachment] = 0;
	b->dev[op->attachment] = 0;
	m->ioasid[ioasid].attachments--;
	return put(p, ioasid, END);
}

static enum verdict step_query(struct model *m, int set, const struct op *op,
			       const struct result *r)
{
	struct model_ioasid *n = by_id(m, set, op->min);

	if (m->set[set].mutex)
		return NO;
	if (!n)
		return r->ret == -ENOENT ? DONE : NO;
	return !r->ret && r->count[0] == n->parked &&
	       r->count[1] == n->attachments ? DONE : NO;
}

static enum verdict step_count(const struct model_set *s, const struct result *r)
{
	return r->count[0] == s->quota && r->count[1] == s->active &&
	       r->count[2] == s->parked && r->count[3] == s->parks &&
	       r->count[4] == s->freed ? DONE : NO;
}

/* Do the handles allow the call? The driver asks the same of its own. */
static bool allowed(const struct model *m, const struct op *op)
{
	const struct model_bank *b = &m->bank[op->bank];
	const struct model_ioasid *n = NULL;

	if (b->ioasid[op->ioasid])
		n = &m->ioasid[b->ioasid[op->ioasid] - 1];

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
		return m->bank[op->from].set[0] && !b->set[op->to];
	case ALLOC:
		return b->set[op->set] && !m->set[b->set[op->set] - 1].freed &&
		       !b->ioasid[op->to] && op->fresh != 0xff;
	case FIND:
		return b->set[op->set] && !b->ioasid[op->to];
	case QUERY:
	case COUNT:
		return b->set[op->set];
	case DROP:
		return n && !n->parked && n->refs == 2 && !n->attachments;
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

/* A step of the call. @fail: where memory may have failed, that it did. */
static enum verdict step(struct model *m, const struct op *op,
			 const struct result *r, struct progress *p, bool fail)
{
	struct model_bank *b = &m->bank[op->bank];
	int set = b->set[op->set] - 1, ioasid = b->ioasid[op->ioasid] - 1;

	if (fail && (r->ret != -ENOMEM || op->code != ALLOC ||
		     (p->step != 0 && p->step != 3)))
		return NO;
	if (p->step >= PUT_REF)
		return step_put(m, p);
	if (!p->step) {
		if (r->skipped == allowed(m, op))
			return NO;
		if (r->skipped)
			return finish(p);
		/* Short of memory, a set's id is tried from 1 on */
		if (r->failed != (r->ret == -ENOMEM) &&
		    !(r->failed && op->code == SET_ALLOC))
			return NO;
	}

	switch (op->code) {
	case SET_ALLOC:
		return r->ret == -ENOMEM ? DONE : step_set_alloc(m, op, r);
	case SET_FREE:
		return step_set_free(m, op, p);
	case SET_PUT:
		set_put(&m->set[b->set[op->to] - 1]);
		b->set[op->to] = 0;
		return DONE;
	case SET_JOIN:
		set = m->bank[op->from].set[0] - 1;
		fallthrough;
	case SET_GET:
		m->set[set].refs++;
		b->set[op->to] = set + 1;
		return DONE;
	case ALLOC:
		return step_alloc(m, op, r, p, fail);
	case FREE:
		return step_free(m, ioasid, op, p);
	case DROP:
		if (!p->step) {
			m->ioasid[ioasid].refs--;
			return go(p, 1);
		}
		b->ioasid[op->ioasid] = 0;
		return put(p, ioasid, END);
	case GET:
		m->ioasid[ioasid].refs++;
		b->ioasid[op->to] = ioasid + 1;
		return DONE;
	case PUT:
		b->ioasid[op->ioasid] = 0;
		return put(p, ioasid, END);
	case FIND:
		return step_find(m, op, r, p);
	case ATTACH:
		return step_attach(m, ioasid, op, r);
	case REPLACE:
		return step_replace(m, op, r);
	case DETACH:
		return step_detach(m, op, p);
	case QUERY:
		return step_query(m, set, op, r);
	case COUNT:
		return step_count(&m->set[set], r);
	case LIMIT:
		m->limit = op->quota;
		return DONE;
	}
	return DONE;
}

/* The search for an order */

static const struct history *history;
static u64 *seen;
static u32 seen_round[SEEN_SIZE];
static u32 seen_now;
static int looked_at;

/* Remembers a state, by its hash. True: it was there already. */
static bool was_seen(const struct state *s)
{
	const u32 *word = (const u32 *)s;
	u64 hash = 0;
	u32 i;

	static_assert(sizeof(*s) % sizeof(*word) == 0, "the hash takes words");
	for (i = 0; i < sizeof(*s) / sizeof(*word); i++) {
		hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 29;
	}
	for (i = hash % SEEN_SIZE; seen_round[i] == seen_now; i = (i + 1) % SEEN_SIZE)
		if (seen[i] == hash)
			return true;
	seen_round[i] = seen_now;
	seen[i] = hash;
	return false;
}

static bool finished(const struct state *s, int task)
{
	return s->progress[task].op >= history->ops[task];
}

static const struct result *result_of(const struct state *s, int task)
{
	return &history->result[task][s->progress[task].op];
}

/* A call does not begin before a call that has ended when it began */
static bool may_begin(const struct state *s, int task)
{
	int i;

	for (i = 0; i < history->tasks; i++)
		if (i != task && !finished(s, i) &&
		    result_of(s, i)->end < result_of(s, task)->begin)
			return false;
	return true;
}

static bool search(const struct state *s, struct state *found)
{
	bool tried[BANKS] = { }, all_finished = true;
	int i, j, best;

	for (i = 0; i < history->tasks; i++)
		all_finished = all_finished && finished(s, i);
	if (all_finished) {
		*found = *s;
		return real_matches(&s->model);
	}
	if (looked_at > BUDGET || was_seen(s))
		return false;
	looked_at++;

	for (i = 0; i < history->tasks; i++) {
		/* Who ended first most likely came first */
		best = -1;
		for (j = 0; j < history->tasks; j++)
			if (!tried[j] && !finished(s, j) &&
			    (best < 0 || result_of(s, j)->end < result_of(s, best)->end))
				best = j;
		if (best < 0)
			break;
		tried[best] = true;
		if (!s->progress[best].step && !may_begin(s, best))
			continue;
		for (j = 0; j < 2; j++) {
			struct state next = *s;
			struct progress *p = &next.progress[best];
			enum verdict verdict;

			verdict = step(&next.model, &history->op[best][p->op],
				       result_of(s, best), p, j);
			if (verdict == NO)
				continue;
			if (verdict == DONE) {
				u8 op = p->op + 1;

				memset(p, 0, sizeof(*p));
				p->op = op;
			}
			if (search(&next, found))
				return true;
		}
	}
	return false;
}

bool model_explain(struct model *model, const struct history *h, bool *gave_up)
{
	struct state s, found;

	if (!seen)
		seen = calloc(SEEN_SIZE, sizeof(*seen));
	if (!seen)
		abort();
	memset(&s, 0, sizeof(s));
	memcpy(&s.model, model, sizeof(*model));
	history = h;
	seen_now++;
	looked_at = 0;
	if (search(&s, &found)) {
		memcpy(model, &found.model, sizeof(*model));
		return true;
	}
	*gave_up = looked_at > BUDGET;
	return false;
}

static u32 id_of(const struct model *m, u8 handle)
{
	return handle ? m->ioasid[handle - 1].id : 0;
}

static void print_handle(u8 handle, u32 what)
{
	if (handle)
		fprintf(stderr, " %u", what);
	else
		fprintf(stderr, " -");
}

void model_print(const struct model *m)
{
	int i, j;

	for (i = 0; i < MODEL_SETS; i++) {
		const struct model_set *s = &m->set[i];

		if (!s->refs)
			continue;
		fprintf(stderr,
			"  set %d: quota %u, %u active, %u parked, %u references%s%s\n",
			i, s->quota, s->active, s->parked, s->refs,
			s->freed ? ", freed" : "", s->charged ? ", charged" : "");
		for (j = 0; j < MODEL_IOASIDS; j++) {
			const struct model_ioasid *n = &m->ioasid[j];

			if (n->stage != PUBLISHED || n->set != i)
				continue;
			fprintf(stderr,
				"    id %u: %s, %u references, %u attachments",
				n->id, n->parked ? "parked" : "active", n->refs,
				n->attachments);
			fputc('\n', stderr);
		}
	}
	fprintf(stderr, "  cgroup: %u of %u charged\n", m->charged, m->limit);
	for (i = 0; i < BANKS; i++) {
		const struct model_bank *b = &m->bank[i];

		fprintf(stderr, "  task %d: sets", i);
		for (j = 0; j < BANK_SETS; j++)
			print_handle(b->set[j], b->set[j] - 1);
		fprintf(stderr, ", ids");
		for (j = 0; j < BANK_IOASIDS; j++)
			print_handle(b->ioasid[j], id_of(m, b->ioasid[j]));
		fprintf(stderr, ", attachments");
		for (j = 0; j < BANK_ATTACHMENTS; j++)
			print_handle(b->attachment[j], id_of(m, b->attachment[j]));
		fputc('\n', stderr);
	}
}
