# SPDX-License-Identifier: GPL-2.0
"""PRI: page requests and their responses."""

from .device import R
from .qtest import check, equal
from .tests import IOVA, KINDS, test, test_kinds, test_once
from .vtd import (
    DMAR, FAILURE, FPD, F_CONTEXT_P, F_DIR_P, F_PASID_INV, F_PASID_P, F_PRE, INVALID, NO_PASID, P, PAGE,
    PECTL, PRS, PRS_PPR, PRS_PRO, SUCCESS, devtlb_any, iotlb_domain, pc_pasid, response)


@test_kinds('PRI: the request is in the queue, and on success the page is reached')
def t_pri_success(m, pasid):
    m.space(NO_PASID, 1)
    m.setup_prq()
    table, mem = m.table(), m.page()
    m.w64(mem, 0x800)
    m.map(table, IOVA + PAGE, m.page())
    m.set_entry(pasid, table)
    d = m.dev
    d.enable_pri()
    for write in (0, 1):
        iova = IOVA + write * 0x200000
        d.start(pasid, 'FILL' if write else 'READ', iova + 8 * write)
        equal(d.get(0, 'STATUS'), R['STATUS_BUSY'] | R['STATUS_WAITING'], 'STATUS')
        equal(m.r32(DMAR + PRS), PRS_PPR, 'the page request status')
        equal(m.r32(DMAR + PECTL), 3 << 30, 'the page request event control')
        m.w32(DMAR + PRS, PRS_PPR)
        group = m.expect_request(pasid, iova, write)
        m.step(10000000)
        equal(d.get(0, 'STATUS'), R['STATUS_BUSY'] | R['STATUS_WAITING'], 'STATUS, no response')
        m.map(table, iova, mem)
        m.respond(pasid, group, SUCCESS)
        equal(d.get(0, 'STATUS'), R['STATUS_BUSY'], 'STATUS after the response')
        m.step(200000)
        equal(d.get(0, 'STATUS'), R['STATUS_DONE'], 'STATUS after PERIOD')
        equal(d.count('GOOD', 'FAILED'), (1, 0), 'GOOD and FAILED')
        equal(d.pri_counts(), (1, 1, 0, 0), 'page requests and responses')
        equal(d.ats_counts(), (0, 2, 1), 'hits, requests and refused')
        equal(m.request(), None, 'a second page request')
    equal(d.load(pasid, IOVA), 0x800, 'READ')
    equal(m.r64(mem + 8), 0x1111, 'the memory')
    equal(d.stray(), 0, 'STRAY_RESPONSES')
    m.no_fault()


@test_kinds('PRI: "success" without a page makes the device ask again')
def t_pri_again(m, pasid):
    m.space(NO_PASID, 1)
    m.setup_prq()
    m.space(pasid, 0)
    d = m.dev
    d.enable_pri()
    d.start(pasid, 'READ', IOVA + PAGE)
    groups = set()
    for _ in range(3):
        group = m.expect_request(pasid, IOVA + PAGE)
        groups.add(group)
        m.respond(pasid, group, SUCCESS)
        equal(m.request(), None, 'a page request before PERIOD')
        m.step(200000)
    equal(len(groups), 3, 'the number of groups')
    equal(d.pri_counts(), (4, 3, 0, 0), 'page requests and responses')
    equal(d.count('GOOD', 'FAILED'), (0, 0), 'GOOD and FAILED')


@test_kinds('PRI: "invalid request" and "response failure" end the transfer')
def t_pri_denied(m, pasid):
    m.space(NO_PASID, 1)
    m.setup_prq()
    mem = m.space(pasid, 0)
    d = m.dev
    status = d.cfg + d.pri + 6
    d.enable_pri()
    d.setup(pasid, 'COPY', IOVA, IOVA + PAGE + 8)
    d.ctrl('CLEAR', 'RUN', *d.mode)
    m.step(1)
    m.respond(pasid, m.expect_request(pasid, IOVA + PAGE, 1), INVALID)
    m.step(1)
    equal(d.get(0, 'STATUS'), R['STATUS_DONE'] | R['STATUS_ERROR'], 'STATUS, invalid')
    equal(d.count('GOOD', 'FAILED', 'FIRST_FAIL_ADDR'), (0, 1, IOVA + PAGE + 8), 'the counters, invalid')
    equal(d.pri_counts(), (1, 0, 1, 0), 'page requests and responses, invalid')
    equal(m.r16(status), 0x8000, 'the PRI status, invalid')
    d.start(pasid, 'READ', IOVA + PAGE)
    m.respond(pasid, m.expect_request(pasid, IOVA + PAGE), FAILURE)
    m.step(1)
    equal(d.get(0, 'STATUS'), R['STATUS_DONE'] | R['STATUS_ERROR'], 'STATUS, failure')
    equal(d.pri_counts(), (1, 0, 0, 1), 'page requests and responses, failure')
    equal(m.r16(status), 0x8001, 'the PRI status, failure')
    m.blocked(pasid, IOVA + PAGE, 'after the failure')
    equal(d.pri_counts(), (0, 0, 0, 0), 'page requests after the failure')
    m.w16(status - 2, 0)
    m.w16(status - 2, 2)
    equal(m.r16(status), 0x8100, 'the PRI status, reset')
    m.blocked(pasid, IOVA + PAGE, 'PRI disabled')
    equal(d.pri_counts(), (0, 0, 0, 0), 'page requests while disabled')
    d.enable_pri()
    d.start(pasid, 'READ', IOVA + PAGE)
    m.expect_request(pasid, IOVA + PAGE)
    equal(m.r64(mem), 0, 'the memory')
    m.no_fault()


@test_kinds('PRI: a request of a PASID that is gone is answered at once, and not queued')
def t_pri_dead(m, pasid):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(pasid, 0)
    d = m.dev
    d.enable_pri()

    def dead(what, reason=None):
        for mode, requests in ((d.mode, 1), (d.mode + ('GROUP',), 2)):
            d.setup(pasid, 'READ', IOVA)
            d.ctrl('CLEAR', 'RUN', *mode)
            m.step(1)
            m.step(1)
            equal(d.pri_counts(), (requests, 0, 1, 0), '%s: page requests and responses' % what)
            equal(d.get(0, 'STATUS'), R['STATUS_DONE'] | R['STATUS_ERROR'], '%s: STATUS' % what)
            equal(m.prq_used(), 0, '%s: requests in the queue' % what)
            if reason:
                m.expect_fault(reason, pasid, IOVA, read=True)
            m.no_fault()
        equal(d.stray(), 0, '%s: STRAY_RESPONSES' % what)

    m.or_entry(pasid, clear=P, mask=FPD)
    dead('{P=0, FPD=1}, the rest intact')
    m.zero_entry(pasid, FPD)
    dead('{P=0, FPD=1}')
    m.zero_entry(pasid)
    dead('all-zero entry', F_PASID_P)
    m.space(pasid, 0, pgtt=0)
    dead('an entry of type 0', F_PASID_INV)
    m.or_entry(pasid, mask=FPD)
    dead('an entry of type 0 with FPD')
    at = m.dir_addr(pasid or 0)
    m.w64(at, FPD)
    dead('directory entry {P=0, FPD=1}')
    m.w64(at, 0)
    dead('directory entry not present', F_DIR_P)
    at = m.context_addr(d.sid)
    m.w64(at, m.r64(at) & ~P | FPD)
    m.flush()
    dead('context entry {P=0, FPD=1}')
    m.w64(at, m.r64(at) & ~FPD)
    m.flush()
    dead('context entry not present', F_CONTEXT_P)
    equal(m.r32(DMAR + PRS), 0, 'the page request status')


@test_kinds('PRI: a request that was queued before the entry went is software\'s to answer')
def t_pri_queued(m, pasid):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(pasid, 0)
    d = m.dev
    d.enable_pri()
    d.start(pasid, 'READ', IOVA + PAGE)
    m.zero_entry(pasid, FPD)
    m.inv(pc_pasid(1, pasid), iotlb_domain(1), devtlb_any(d.sid, pasid))
    m.wait(flags=1 << 7)
    m.step(10000000)
    equal(m.prq_used(), 1, 'requests in the queue after a drain')
    equal(d.pri_counts(), (1, 0, 0, 0), 'page requests and responses, no response')
    m.respond(pasid, m.expect_request(pasid, IOVA + PAGE), SUCCESS)
    equal(d.pri_counts(), (1, 1, 0, 0), 'page requests and responses')
    m.step(200000)
    equal(d.pri_counts(), (2, 1, 1, 0), 'page requests and responses, asked again')
    equal(d.count('GOOD', 'FAILED'), (0, 1), 'GOOD and FAILED')
    equal(m.request(), None, 'another request')
    equal(d.stray(), 0, 'STRAY_RESPONSES')
    m.no_fault()


@test_kinds('PRI: an entry in the PASID-cache counts until it is invalidated')
def t_pri_stale(m, pasid):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(pasid, 0)
    d = m.dev
    d.enable_pri()
    for step in ('live', 'stale'):
        d.start(pasid, 'READ', IOVA + PAGE)
        m.expect_request(pasid, IOVA + PAGE)
        equal(d.pri_counts(), (1, 0, 0, 0), '%s: page requests and responses' % step)
        d.ctrl()
        m.zero_entry(pasid, FPD)
    m.inv(pc_pasid(1, pasid))
    d.start(pasid, 'READ', IOVA + PAGE)
    equal(d.pri_counts(), (1, 0, 1, 0), 'invalidated: page requests and responses')
    equal(m.request(), None, 'invalidated: a request')
    m.no_fault()


@test_kinds('PRI: requests of a PASID that is gone do not hold up others', kinds=KINDS[1:])
def t_pri_others(m, pasid):
    m.setup_prq()
    m.space(NO_PASID, 1)
    live = (6, 7)
    mem = {p: m.space(p, 0x820 + p, did=p) for p in live}
    m.zero_entry(pasid, FPD)
    d = m.dev
    d.enable_pri()
    for n, p in enumerate(live, 1):
        d.start(pasid, 'READ', IOVA)
        equal(d.pri_counts(), (1, 0, 1, 0), 'page requests and responses')
        d.start(p, 'READ', IOVA + PAGE, n=n)
        equal(d.pri_counts(n), (1, 0, 0, 0), 'queue %d: page requests and responses' % n)
    d.start(pasid, 'READ', IOVA)
    equal(m.prq_used(), 2, 'requests in the queue')
    for n, p in enumerate(live, 1):
        group = m.expect_request(p, IOVA + PAGE)
        table = m.table()
        m.map(table, IOVA + PAGE, mem[p])
        m.set_entry(p, table, did=p)
        m.inv(pc_pasid(p, p), iotlb_domain(p))
        m.respond(p, group, SUCCESS)
    m.step(200000)
    for n, p in enumerate(live, 1):
        equal(d.pri_counts(n), (1, 1, 0, 0), 'queue %d: page requests and responses' % n)
        equal(d.get(n, 'RESULT'), 0x820 + p, 'queue %d: RESULT' % n)
    equal(d.stray(), 0, 'STRAY_RESPONSES')
    m.no_fault()


@test('PRI: the IOMMU forgets its translation of the page that is asked for')
def t_pri_implicit(m):
    m.setup_prq()
    d = m.dev
    for pasid in (NO_PASID, 5):
        table, a, b = m.table(), m.page(), m.page()
        m.w64(a, 0xa)
        m.w64(b, 0xb)
        for page in (0, 1):
            m.map(table, IOVA + page * PAGE, a, write=False)
        m.set_entry(pasid, table, did=3)
        d.mode = ()
        for page in (0, 1):
            m.reaches(pasid, IOVA + page * PAGE, 0xa, 'before')
            m.map(table, IOVA + page * PAGE, b, write=False)
        d.enable_pri()
        d.start(pasid, 'FILL', IOVA)
        m.expect_request(pasid, IOVA, 1)
        d.ctrl()
        d.mode = ()
        m.reaches(pasid, IOVA, 0xb, 'asked for')
        m.reaches(pasid, IOVA + PAGE, 0xa, 'not asked for')


@test_once('PRI: the context entry must allow it (PRE)')
def t_pri_pre(m):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(5, 0)
    d = m.dev
    d.enable_pri()
    at = m.context_addr(d.sid)
    m.w64(at, m.r64(at) & ~0x10)
    d.start(5, 'READ', IOVA + PAGE)
    m.step(1)
    equal(m.prq_used(), 0, 'requests in the queue')
    equal(d.get(0, 'STATUS'), R['STATUS_DONE'] | R['STATUS_ERROR'], 'STATUS')
    equal(d.pri_counts(), (1, 0, 1, 0), 'page requests and responses')
    m.expect_fault(F_PRE, 5, IOVA + PAGE)


@test_once('PRI: an overflow of the queue is answered, and survived')
def t_pri_overflow(m):
    m.setup_prq()
    m.space(NO_PASID, 1)
    mem = m.space(5, 0x810)
    d = m.dev
    d.enable_pri()
    for i in range(127):
        d.start(5, 'READ', IOVA + PAGE)
        equal(d.pri_counts(), (1, 0, 0, 0), 'page requests and responses, %d' % i)
        d.ctrl()
    equal(m.prq_used(), 127, 'requests in the queue')
    equal(m.r32(DMAR + PRS), PRS_PPR, 'the page request status, full')
    d.start(5, 'READ', IOVA + PAGE)
    equal(m.r32(DMAR + PRS), PRS_PPR | PRS_PRO, 'the page request status, overflow')
    equal(d.pri_counts(), (1, 1, 0, 0), 'page requests and responses, overflow')
    for _ in range(10):
        m.step(100000)
    equal(d.pri_counts(), (11, 11, 0, 0), 'page requests and responses, overflow goes on')
    for _ in range(127):
        m.expect_request(5, IOVA + PAGE)
    m.step(100000)
    equal(m.request(), None, 'a request while the overflow is not cleared')
    m.w32(DMAR + PRS, PRS_PPR | PRS_PRO)
    m.step(100000)
    equal(m.r32(DMAR + PRS), PRS_PPR, 'the page request status, cleared')
    group = m.expect_request(5, IOVA + PAGE)
    table = m.table()
    m.map(table, IOVA + PAGE, mem)
    m.set_entry(5, table)
    m.inv(pc_pasid(1, 5), iotlb_domain(1))
    m.respond(5, group, SUCCESS)
    m.step(100000)
    equal(d.get(0, 'RESULT'), 0x810, 'RESULT')
    equal(d.get(0, 'STATUS'), R['STATUS_DONE'], 'STATUS')
    equal(d.stray(), 0, 'STRAY_RESPONSES')


@test_once('PRI: of a group only the last request is answered, if it does not fit')
def t_pri_group(m):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(5, 0)
    d = m.dev
    d.enable_pri()
    for i in range(126):
        d.start(5, 'READ', IOVA + PAGE)
        d.ctrl()
    d.mode += ('GROUP',)
    for used, what in ((127, 'half of it'), (127, 'nothing')):
        d.start(5, 'READ', IOVA + PAGE)
        equal(m.prq_used(), used, '%s fits: requests in the queue' % what)
        equal(m.r32(DMAR + PRS), PRS_PPR | PRS_PRO, '%s fits: the page request status' % what)
        equal(d.pri_counts(), (2, 1, 0, 0), '%s fits: page requests and responses' % what)
        d.ctrl()
    equal(d.stray(), 0, 'STRAY_RESPONSES')
    for _ in range(126):
        m.expect_request(5, IOVA + PAGE)
    m.expect_request(5, IOVA + PAGE, last=0)
    m.w32(DMAR + PRS, PRS_PPR | PRS_PRO)
    d.start(5, 'READ', IOVA + PAGE)
    first = m.expect_request(5, IOVA + PAGE, last=0)
    equal(m.expect_request(5, IOVA + PAGE), first, 'the group')
    m.respond(5, first, INVALID)
    equal(d.pri_counts(), (2, 0, 1, 0), 'all fits: page requests and responses')


@test_kinds('PRI: only the response to its own request reaches a queue', kinds=KINDS[:2])
def t_pri_stray(m, pasid):
    m.setup_prq()
    other = 6
    for p in (NO_PASID, pasid, other):
        m.space(p, 0)
    d = m.dev
    d.enable_pri()
    d.start(pasid, 'READ', IOVA + PAGE)
    d.start(other, 'READ', IOVA + 2 * PAGE, n=1)
    first = m.expect_request(pasid, IOVA + PAGE)
    second = m.expect_request(other, IOVA + 2 * PAGE)
    check(first != second, 'two requests are of one group')
    m.respond(pasid, first + 2, INVALID)
    m.respond(pasid, second, INVALID)
    m.respond(other, first, INVALID)
    equal(d.stray(), 3, 'STRAY_RESPONSES')
    m.inv(response(d.sid + 8, pasid, first, INVALID))
    m.inv(response(d.sid, 7, first, INVALID))
    m.inv(response(d.sid, 5 if pasid is NO_PASID else NO_PASID, first, INVALID))
    equal(d.stray(), 3, 'STRAY_RESPONSES of others')
    for n in (0, 1):
        equal(d.pri_counts(n), (1, 0, 0, 0), 'queue %d: page requests and responses' % n)
    m.respond(other, second, INVALID)
    m.step(1)
    equal(d.pri_counts(0), (1, 0, 0, 0), 'queue 0: page requests and responses')
    equal(d.pri_counts(1), (1, 0, 1, 0), 'queue 1: page requests and responses')
    m.respond(other, second, INVALID)
    equal(d.stray(), 4, 'STRAY_RESPONSES, answered twice')


@test_once('PRI: a queue that is stopped or reset forgets its request')
def t_pri_forget(m):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(5, 0)
    d = m.dev
    status = d.cfg + d.pri + 6
    for how in ('stop', 'RESET', 'FLR', 'PRI reset'):
        d.enable_pri()
        d.start(5, 'READ', IOVA + PAGE)
        group = m.expect_request(5, IOVA + PAGE)
        m.w16(d.cfg + d.pri + 4, 0)
        equal(m.r16(status), 0x8000, '%s: the PRI status, disabled and waiting' % how)
        if how == 'stop':
            d.ctrl()
        elif how == 'RESET':
            m.w32(d.bar + R['RESET'], 1)
        elif how == 'FLR':
            d.flr()
            m.w32(d.cfg + 0x10, d.bar)
            d.command(True)
            d.enable_pasid(True)
        else:
            m.w16(d.cfg + d.pri + 4, 2)
            m.step(1)
        equal(m.r16(status), 0x8100, '%s: the PRI status, forgotten' % how)
        check(not d.get(0, 'STATUS') & (R['STATUS_WAITING'] | R['STATUS_BUSY']), '%s: STATUS' % how)
        before = d.count('GOOD', 'FAILED', 'STATUS')
        stray = d.stray()
        m.respond(5, group, SUCCESS)
        m.step(1000000)
        equal(d.count('GOOD', 'FAILED', 'STATUS'), before, '%s: the queue after the response' % how)
        equal(d.stray(), stray + 1, '%s: STRAY_RESPONSES' % how)
        equal(m.request(), None, '%s: another request' % how)


@test_once('PRI: no more requests are out than the allocation allows')
def t_pri_alloc(m):
    m.setup_prq()
    m.space(NO_PASID, 1)
    m.space(5, 0)
    d = m.dev
    d.enable_pri(alloc=1)
    d.start(5, 'READ', IOVA + PAGE)
    d.start(5, 'READ', IOVA + 2 * PAGE, n=1)
    m.step(1000000)
    group = m.expect_request(5, IOVA + PAGE)
    equal(m.request(), None, 'a second request')
    equal(d.get(1, 'STATUS'), R['STATUS_BUSY'], 'STATUS of queue 1')
    m.respond(5, group, INVALID)
    m.step(1)
    m.step(100000)
    m.expect_request(5, IOVA + 2 * PAGE)
    equal(d.pri_counts(1), (1, 0, 0, 0), 'queue 1: page requests and responses')
