# SPDX-License-Identifier: GPL-2.0
"""The invalidation queue: what it accepts, and when it is executed."""

import struct

from .caches import alive, three
from .qtest import Fail, equal
from .tests import IOVA, test, test_kinds, test_once
from .vtd import (
    DMAR, FPD, FSTS, FSTS_IQE, GCMD, GSTS, INVALID, IQT, NO_PASID, PAGE, devtlb_any, iotlb_domain,
    pc_global, pc_pasid, response)

# Descriptors that Linux sends

@test_once('device-TLB invalidations are accepted (types 3 and 8)')
def t_devtlb(m):
    sid = m.dev.sid
    m.space(NO_PASID, 1)
    m.space(5, 2, did=2)
    m.reaches(5, IOVA, 2, 'before')
    for qdep in (0, 31):
        m.inv((3 | (sid & 0xf) << 12 | qdep << 16 | sid << 32, IOVA))
        m.inv((3 | (sid & 0xf) << 12 | qdep << 16 | sid << 32, 0x7ffffffffffff000 | 1))
        for p in (0, 5, 6, 0xfffff):
            m.inv((8 | qdep << 4 | sid << 16 | p << 32, IOVA))
            m.inv((8 | qdep << 4 | sid << 16 | p << 32, 0x7ffffffffffff000 | 1 << 11))
    m.reaches(5, IOVA, 2, 'after')


@test_once('a wait descriptor with page-request drain is accepted')
def t_drain(m):
    m.wait(flags=1 << 7)
    m.wait(flags=1 << 7 | 1 << 6)
    m.inv((8 | m.dev.sid << 16 | 5 << 32, 0x7ffffffffffff000 | 1 << 11))
    m.wait(flags=1 << 7)


@test_once('a wait descriptor with page-request drain needs ECAP.PDS', iommu_prop=',device-iotlb=off')
def t_no_drain(m):
    m.qi((0x25 | 1 << 7 | 1 << 32, m.wait_word))
    equal(m.r32(DMAR + FSTS) & FSTS_IQE, FSTS_IQE, 'FSTS.IQE')


@test_once('a page group response that nobody waits for is accepted')
def t_response(m):
    for p in (5, NO_PASID):
        m.inv(response(m.dev.sid, p, 3, INVALID))
    equal(m.dev.stray(), 0, 'STRAY_RESPONSES')


# The invalidation queue, executed with a delay

DELAY = 1000000
DELAYED = {'iommu_prop': ',x-inv-delay=%d' % (DELAY // 1000)}


def delay_none(m):
    m.space(NO_PASID, 0x950)
    m.reaches(NO_PASID, IOVA, 0x950, 'before')
    m.zero_entry(NO_PASID, FPD)
    m.submit(pc_pasid(1, NO_PASID), iotlb_domain(1))
    equal(m.queue(), (3, 1), 'IQH and status')
    m.blocked(NO_PASID, IOVA, 'submitted')


test_once('x-inv-delay is 0 by default: the queue is executed at once')(delay_none)
test_once('x-inv-delay=0: the queue is executed at once', iommu_prop=',x-inv-delay=0')(delay_none)


@test_kinds('x-inv-delay: what is cached translates until the queue is executed', **DELAYED)
def t_delay(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x960, did=3, pages=3)
    m.reaches(pasid, IOVA, 0x960, 'before')
    m.zero_entry(pasid, FPD)
    m.submit(pc_pasid(3, pasid), iotlb_domain(3))
    # Page 0 is in the IOTLB, others need the PASID-cache
    for page, what in ((1, 'submitted'), (2, 'just before it is executed')):
        equal(m.queue(), (0, 0), '%s: IQH and status' % what)
        m.reaches(pasid, IOVA, 0x960, what)
        m.reaches(pasid, IOVA + page * PAGE, 0x960 + page, '%s, another page' % what)
        if page == 1:
            m.step(DELAY - 1)
    m.step(1)
    equal(m.queue(), (3, 1), 'executed: IQH and status')
    for page in range(3):
        m.blocked(pasid, IOVA + page * PAGE, 'executed: page %d' % page)
    m.no_fault()


@test_kinds('x-inv-delay: the device keeps its translations until the queue is executed', **DELAYED)
def t_delay_ats(m, pasid):
    d = m.dev
    m.space(NO_PASID, 1)
    m.space(pasid, 0x970, did=3)
    d.enable_ats()
    m.reaches(pasid, IOVA, 0x970, 'before')
    m.zero_entry(pasid, FPD)
    m.submit(pc_pasid(3, pasid), iotlb_domain(3), devtlb_any(d.sid, pasid))
    m.step(DELAY - 1)
    m.reaches(pasid, IOVA, 0x970, 'submitted')
    equal(d.ats_counts(), (1, 0, 0), 'hits, requests and refused: submitted')
    equal(d.invalidations(), 0, 'INVALIDATIONS')
    m.step(1)
    m.blocked(pasid, IOVA, 'executed')
    equal(d.invalidations(), 1, 'INVALIDATIONS')
    m.no_fault()


@test('x-inv-delay: it counts from the first submission, the others go with it', **DELAYED)
def t_delay_more(m):
    three(m)
    for p in (NO_PASID, 5, 0x10005):
        m.zero_entry(p, FPD)
    m.submit(pc_global())
    m.step(DELAY // 2)
    m.submit(iotlb_domain(1))
    m.step(DELAY // 4)
    m.submit(iotlb_domain(2))
    alive(m, (NO_PASID, 5, 0x10005), 'submitted')
    m.executed_in(DELAY // 4)
    alive(m, (), 'executed')
    # The next one waits as long as the first
    m.step(DELAY // 2)
    m.submit()
    m.executed_in(DELAY)


@test_once('x-inv-delay: descriptors are executed in order', **DELAYED)
def t_delay_order(m):
    for i in range(5):
        m.submit()
        m.step(1)
    # This one stops the queue
    m.qi((0xf,))
    m.submit()
    m.step(DELAY)
    equal(m.r32(DMAR + FSTS) & FSTS_IQE, FSTS_IQE, 'FSTS.IQE')
    equal(m.queue(), (5, 5), 'IQH and status')


@test_once('x-inv-delay: an error stops the queue until cleared, and the tail written', **DELAYED)
def t_delay_error(m):
    def stopped(queue, what):
        m.step(2 * DELAY)
        equal(m.queue(), queue, what + ': IQH and status')

    # In what is executed
    m.submit((0xf,))
    m.step(DELAY)
    equal(m.r32(DMAR + FSTS) & FSTS_IQE, FSTS_IQE, 'FSTS.IQE')
    m.write(m.iq, struct.pack('<4Q', *pc_global(), 0, 0, 0))
    m.submit()
    stopped((0, 0), 'a bad descriptor, mended')
    m.w32(DMAR + FSTS, FSTS_IQE)
    stopped((0, 0), 'cleared')
    m.submit()
    m.executed_in(DELAY)
    # While something is pending: a reserved bit in the tail
    queue = m.queue()
    m.submit()
    m.step(DELAY // 2)
    m.w64(DMAR + IQT, m.iq_tail << 5 | 1 << 4)
    equal(m.r32(DMAR + FSTS) & FSTS_IQE, FSTS_IQE, 'FSTS.IQE')
    stopped(queue, 'a bad tail')
    m.w32(DMAR + FSTS, FSTS_IQE)
    m.submit()
    m.executed_in(DELAY)


@test_once('x-inv-delay: a queue that is disabled executes nothing', **DELAYED)
def t_delay_disable(m):
    def qie(on, want=None):
        m.w32(DMAR + GCMD, 1 << 31 | on << 26)
        equal(m.r32(DMAR + GSTS) >> 26 & 1, on if want is None else want, 'GSTS.QIES')

    def take_back():
        """What is pending, so that the queue can be disabled"""
        m.iq_tail -= 1
        m.w64(DMAR + IQT, m.iq_tail << 5)
        qie(0)
        m.iq_tail = 0
        m.w64(DMAR + IQT, 0)

    m.submit()
    m.step(DELAY)
    m.submit()
    qie(0, 1)
    take_back()
    m.submit()
    m.step(2 * DELAY)
    equal(m.queue(), (0, 1), 'disabled: IQH and status')
    # Enabling a queue that has something in it is a submission
    qie(1)
    m.executed_in(DELAY)
    m.submit()
    m.step(DELAY // 2)
    take_back()
    qie(1)
    m.submit()
    m.executed_in(DELAY)


@test_once('x-inv-delay: a reset forgets what is pending', **DELAYED)
def t_delay_reset(m):
    m.submit()
    m.step(DELAY // 2)
    m.cmd('outb 0xcf9 0x6')
    for _ in range(1000):
        if not m.r32(DMAR + GSTS):
            break
    else:
        raise Fail('no reset')
    equal(m.r32(m.wait_word), 0, 'the status')
    m.iq_tail = 0
    m.setup()
    m.submit()
    m.executed_in(DELAY)
