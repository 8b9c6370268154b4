# SPDX-License-Identifier: GPL-2.0
"""ATS: the endpoint's own cache of translations (ATC)."""

import random

from .device import ECAM, R
from .qtest import check, equal
from .tests import IOVA, PASIDS, test, test_kinds, test_once
from .vtd import (
    FPD, F_DTE, INVALID, NO_PASID, P, PAGE, PT, context_global, devtlb, devtlb_any, devtlb_pasid,
    iotlb_domain, iotlb_global, pc_global, pc_pasid, piotlb_pasid)


@test_kinds('ATS: the first access asks, the next one does not')
def t_ats(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0x100)
    d = m.dev
    d.enable_ats()
    m.reaches(pasid, IOVA, 0x100, 'not cached')
    equal(d.ats_counts(), (0, 1, 0), 'hits, requests and refused: not cached')
    m.reaches(pasid, IOVA, 0x100, 'cached')
    equal(d.ats_counts(), (1, 0, 0), 'hits, requests and refused: cached')
    check(d.fill(pasid, IOVA + 16, 0xabc), 'FILL is blocked')
    equal(d.ats_counts(), (0, 1, 0), 'hits, requests and refused: cached for reading, written')
    check(d.fill(pasid, IOVA + 24, 0xabd), 'FILL is blocked')
    equal(d.ats_counts(), (1, 0, 0), 'hits, requests and refused: cached for writing')
    m.reaches(pasid, IOVA, 0x100, 'cached for writing')
    equal(d.ats_counts(), (1, 0, 0), 'hits, requests and refused: cached for writing, read')
    equal((m.r64(mem + 16), m.r64(mem + 24)), (0xabc, 0xabd), 'the memory')
    m.no_fault()


@test('ATS: each PASID has translations of its own, for all queues')
def t_ats_many(m):
    d = m.dev
    everyone = (NO_PASID, 0) + PASIDS
    d.enable_ats()
    m.add_context(d.sid, rid_pasid=77)
    m.space(77, 0x2000000)
    for p in everyone[1:]:
        m.space(p, 0x1000000 + p, did=7)
    for i in range(2):
        for p in everyone:
            got = d.load(p, IOVA, n=i)
            equal(got, 0x2000000 if p is NO_PASID else 0x1000000 + p, 'what PASID %s reads' % p)
            equal(d.ats_counts(i), (i, 1 - i, 0), 'hits, requests and refused of PASID %s' % p)


@test_kinds('ATS: a cached translation does not need the IOMMU')
def t_ats_stale(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0x110)
    d = m.dev
    d.enable_ats()
    m.reaches(pasid, IOVA, 0x110, 'before')
    m.zero_entry(pasid, FPD)
    m.flush()
    m.reaches(pasid, IOVA, 0x110, 'zeroed, all but the device-TLB invalidated')
    equal(d.invalidations(), 0, 'INVALIDATIONS')
    d.mode = ()
    m.blocked(pasid, IOVA, 'zeroed, untranslated')
    d.mode = ('ATS',)
    m.inv(devtlb_any(d.sid, pasid))
    equal(d.invalidations(), 1, 'INVALIDATIONS')
    m.blocked(pasid, IOVA, 'invalidated')
    equal(d.ats_counts(), (0, 1, 1), 'hits, requests and refused')
    check(not d.fill(pasid, IOVA), 'FILL is not blocked')
    equal(m.r64(mem), 0x110, 'the memory')
    m.no_fault()


@test_kinds('ATS: a changed page table is used after the invalidation, not before')
def t_ats_remap(m, pasid):
    m.space(NO_PASID, 1)
    table, a, b = m.table(), m.page(), m.page()
    m.w64(a, 0xa)
    m.w64(b, 0xb)
    m.map(table, IOVA, a)
    m.set_entry(pasid, table, did=3)
    m.dev.enable_ats()
    m.reaches(pasid, IOVA, 0xa, 'before')
    m.map(table, IOVA, b)
    m.inv(iotlb_domain(3))
    m.reaches(pasid, IOVA, 0xa, 'only the IOTLB invalidated')
    m.inv(devtlb_any(m.dev.sid, pasid))
    m.reaches(pasid, IOVA, 0xb, 'both invalidated')


@test('ATS: a repeated transfer goes on until the invalidation, and not after it')
def t_ats_repeat(m):
    d = m.dev
    mem = m.space(5, 0)
    d.enable_ats()
    d.setup(5, 'FILL', dst=IOVA)
    d.ctrl('CLEAR', 'RUN', 'REPEAT', 'ATS')
    m.step(1)
    m.zero_entry(5, FPD)
    m.flush()
    for _ in range(5):
        m.step(100000)
    equal(d.count('GOOD', 'FAILED', 'ATC_HITS', 'ATS_REQUESTS'), (6, 0, 5, 1), 'the counters before')
    m.inv(devtlb_pasid(d.sid, 5))
    m.w64(mem, 0)
    for _ in range(5):
        m.step(100000)
    equal(d.count('GOOD', 'FAILED', 'ATS_REQUESTS', 'ATS_REFUSED'), (6, 5, 6, 5), 'the counters after')
    equal(m.r64(mem), 0, 'the memory')
    m.no_fault()


DEVTLB_SPACES = (NO_PASID, 5, 0x10005)


def devtlb_test(m, desc, gone, count):
    """Eight pages of three address spaces, cached in the device, then unmapped"""
    d = m.dev
    d.enable_ats()
    for i, p in enumerate(DEVTLB_SPACES):
        m.space(p, 0xb00 + 16 * i, pages=8)
        for page in range(8):
            m.reaches(p, IOVA + page * PAGE, 0xb00 + 16 * i + page, 'before: %s, page %d' % (p, page))
    for p in DEVTLB_SPACES:
        m.zero_entry(p, FPD)
    m.flush()
    m.inv(desc(d.sid))
    equal(d.invalidations(), count, 'INVALIDATIONS')
    for i, p in enumerate(DEVTLB_SPACES):
        for page in range(8):
            what = '%s, page %d' % (p, page)
            if page in gone.get(p, ()):
                m.blocked(p, IOVA + page * PAGE, what)
            else:
                m.reaches(p, IOVA + page * PAGE, 0xb00 + 16 * i + page, what)
    m.no_fault()


ALL = range(8)
for _name, _desc, _gone, _count in (
        ('without PASID, of page 2', lambda sid: devtlb(sid, IOVA + 2 * PAGE, 0), {NO_PASID: (2,)}, 1),
        ('without PASID, of pages 2 and 3', lambda sid: devtlb(sid, IOVA + 2 * PAGE), {NO_PASID: (2, 3)}, 1),
        ('without PASID, of pages 4 to 7', lambda sid: devtlb(sid, IOVA + 5 * PAGE), {NO_PASID: (4, 5, 6, 7)}, 1),
        ('without PASID, of all pages', devtlb, {NO_PASID: ALL}, 1),
        ('without PASID, of pages elsewhere', lambda sid: devtlb(sid, IOVA + 0x107000), {}, 1),
        ('without PASID, of another device', lambda sid: devtlb(sid + 8), {}, 0),
        ('of PASID 5, page 2', lambda sid: devtlb_pasid(sid, 5, IOVA + 2 * PAGE, 0), {5: (2,)}, 1),
        ('of PASID 5, pages 2 and 3', lambda sid: devtlb_pasid(sid, 5, IOVA + 2 * PAGE), {5: (2, 3)}, 1),
        ('of PASID 5, pages 4 to 7', lambda sid: devtlb_pasid(sid, 5, IOVA + 5 * PAGE), {5: (4, 5, 6, 7)}, 1),
        ('of PASID 5, all pages', lambda sid: devtlb_pasid(sid, 5), {5: ALL}, 1),
        ('of PASID 0x10005, all pages', lambda sid: devtlb_pasid(sid, 0x10005), {0x10005: ALL}, 1),
        ('of PASID 0, which is not "no PASID"', lambda sid: devtlb_pasid(sid, 0), {}, 0),
        ('of PASID 5 of another device', lambda sid: devtlb_pasid(sid + 8, 5), {}, 0),
        ('of every PASID (G), page 2', lambda sid: devtlb_pasid(sid, 5, IOVA + 2 * PAGE, 0, 1),
         {5: (2,), 0x10005: (2,)}, 2),
        ('of every PASID (G), all pages', lambda sid: devtlb_pasid(sid, 6, every=1), {5: ALL, 0x10005: ALL}, 2)):
    test_once('device-TLB invalidation ' + _name)(
        lambda m, desc=_desc, gone=_gone, count=_count: devtlb_test(m, desc, gone, count))


@test_kinds('ATS: no translation without permission, and no fault')
def t_ats_refused(m, pasid):
    m.space(NO_PASID, 1)
    d = m.dev
    d.enable_ats()

    def refused(what, iova=IOVA):
        for write in (0, 1):
            if write:
                check(not d.fill(pasid, iova + 8), '%s: FILL is not blocked' % what)
            else:
                m.blocked(pasid, iova, what)
            equal(d.ats_counts(), (0, 1, 1), 'hits, requests and refused: %s' % what)
            equal(d.get(0, 'FIRST_FAIL_ADDR'), iova + 8 * write, 'FIRST_FAIL_ADDR')
        m.no_fault()

    mem = m.space(pasid, 0x700, flags=0)
    refused('P=0')
    m.zero_entry(pasid)
    refused('all-zero entry')
    m.space(pasid, 0x701)
    refused('not mapped', IOVA + PAGE)
    at = m.dir_addr(pasid or 0)
    m.w64(at, m.r64(at) & ~P)
    m.flush()
    refused('directory entry not present')
    equal(m.r64(mem), 0x700, 'the memory')


@test('ATS: a page without write permission can be read, not written, and no fault')
def t_ats_readonly(m):
    table, mem = m.table(), m.page()
    m.w64(mem, 0x600)
    m.map(table, IOVA, mem, write=False)
    m.set_entry(5, table)
    m.dev.enable_ats()
    for what in ('nothing cached', 'cached'):
        check(not m.dev.fill(5, IOVA), '%s: FILL is not blocked' % what)
        equal(m.dev.ats_counts(), (0, 1, 1), 'hits, requests and refused of FILL')
        m.reaches(5, IOVA, 0x600, what)
    equal(m.dev.ats_counts(), (1, 0, 0), 'hits, requests and refused of READ')
    equal(m.r64(mem), 0x600, 'the memory')
    m.no_fault()


@test_kinds('ATS: the context entry must allow it (DTE), whatever is cached')
def t_ats_dte(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x610)
    d = m.dev
    at = m.context_addr(d.sid)
    m.w64(at, m.r64(at) & ~4)
    m.reaches(pasid, IOVA, 0x610, 'untranslated')
    d.enable_ats()
    m.blocked(pasid, IOVA, 'DTE=0')
    equal(d.ats_counts(), (0, 1, 1), 'hits, requests and refused')
    m.expect_fault(F_DTE, pasid, IOVA)
    m.w64(at, m.r64(at) | 4)
    m.inv(context_global(), pc_global(), iotlb_global())
    m.reaches(pasid, IOVA, 0x610, 'DTE=1')
    m.no_fault()


@test_kinds('ATS: only while it is enabled, disabling and resets empty the cache')
def t_ats_enable(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x620)
    d = m.dev
    d.mode = ('ATS',)
    m.reaches(pasid, IOVA, 0x620, 'never enabled')
    equal(d.ats_counts(), (0, 0, 0), 'hits, requests and refused: never enabled')
    for how in ('disabled', 'FLR', 'RESET'):
        d.enable_ats()
        m.reaches(pasid, IOVA, 0x620, 'enabled')
        m.reaches(pasid, IOVA, 0x620, 'enabled, cached')
        equal(d.ats_counts(), (1, 0, 0), 'hits, requests and refused: cached')
        if how == 'disabled':
            d.enable_ats(False)
            d.mode = ('ATS',)
            m.reaches(pasid, IOVA, 0x620, 'disabled')
            equal(d.ats_counts(), (0, 0, 0), 'hits, requests and refused: disabled')
            d.enable_ats()
        elif how == 'FLR':
            d.flr()
            equal(m.r16(d.cfg + d.ats + 6), 0, 'ATS control after FLR')
            m.w32(d.cfg + 0x10, d.bar)
            d.command(True)
            d.enable_pasid(True)
            d.enable_ats()
        else:
            m.w32(d.bar + R['RESET'], 1)
        m.reaches(pasid, IOVA, 0x620, how)
        equal(d.ats_counts(), (0, 1, 0), 'hits, requests and refused: %s' % how)


@test_kinds('ATS: what is cached is no way round bus master and PASID enable')
def t_ats_bme(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x630)
    d = m.dev
    d.enable_ats()
    m.reaches(pasid, IOVA, 0x630, 'on')
    d.command(False)
    m.blocked(pasid, IOVA, 'bus master off')
    d.command(True)
    if pasid is not NO_PASID:
        d.enable_pasid(False)
        m.blocked(pasid, IOVA, 'PASID off')
        d.enable_pasid(True)
    m.reaches(pasid, IOVA, 0x630, 'on again')
    m.no_fault()


@test_kinds('ATS: 4 KiB across pages, and more pages than the cache has')
def t_ats_copy(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0, pages=80)
    data = random.Random(4).randbytes(4096)
    m.write(mem + 0x800, data)
    d = m.dev
    d.enable_ats()
    d.setup(pasid, 'COPY', src=IOVA + 0x800, dst=IOVA + 0x2008, length=4096)
    equal(d.run()[0], True, 'COPY')
    equal(m.read(mem + 0x2008, 4096), data, 'the copy')
    equal(d.ats_counts(), (0, 4, 0), 'hits, requests and refused')
    for i in range(80):
        check(d.fill(pasid, IOVA + i * PAGE, i), 'page %d: FILL is blocked' % i)
    for i in range(80):
        m.reaches(pasid, IOVA + i * PAGE, i, 'page %d' % i)
    equal(m.r64(mem + 79 * PAGE), 79, 'the memory')


@test('ATS: each page of a 2 MiB page is cached by itself')
def t_ats_large(m):
    table, mem = m.table(), 32 << 20
    m.map_large(table, IOVA, mem)
    m.set_entry(5, table)
    d = m.dev
    d.enable_ats()
    for i in (0, 1, 511):
        m.w64(mem + i * PAGE, 0x660 + i)
        m.reaches(5, IOVA + i * PAGE, 0x660 + i, 'page %d' % i)
        equal(d.ats_counts(), (0, 1, 0), 'hits, requests and refused: page %d' % i)
    m.zero_entry(5, FPD)
    m.flush()
    m.inv(devtlb_pasid(d.sid, 5, IOVA + PAGE, 0))
    m.reaches(5, IOVA, 0x660, 'page 0 after the invalidation of page 1')
    m.blocked(5, IOVA + PAGE, 'page 1 after its invalidation')


@test_kinds('ATS: pass-through, and blocked again after it')
def t_ats_pt(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.page()
    m.w64(mem, 0xd00)
    m.set_entry(pasid, None, did=3, pgtt=PT)
    d = m.dev
    d.enable_ats()
    m.reaches(pasid, mem, 0xd00, 'pass-through')
    equal(d.ats_counts(), (0, 1, 0), 'hits, requests and refused')
    m.zero_entry(pasid, FPD)
    m.inv(pc_pasid(3, pasid), piotlb_pasid(3, pasid), devtlb_any(d.sid, pasid))
    m.blocked(pasid, mem, '{P=0, FPD=1}')
    m.no_fault()


@test('ATS: asking for a translation of 0xfeexxxxx is no fault')
def t_ats_fee(m):
    m.space(NO_PASID, 1)
    table, mem = m.table(), m.page()
    m.w64(mem, 0xfee)
    m.map(table, 0xfee00000, mem)
    m.set_entry(5, table)
    m.dev.enable_ats()
    m.reaches(5, 0xfee00000, 0xfee, 'tagged, mapped')
    m.blocked(5, 0xfee01000, 'tagged, not mapped')
    m.no_fault()
    m.blocked(NO_PASID, 0xfee00000, 'without PASID')
    equal(m.dev.ats_counts(), (0, 1, 1), 'hits, requests and refused')
    m.no_fault()


@test_once('ATS: an IOMMU without device-TLBs refuses', iommu_prop=',device-iotlb=off')
def t_ats_off(m):
    m.space(NO_PASID, 0x640)
    m.space(5, 0x641, did=2)
    m.dev.enable_pri()
    for p in (NO_PASID, 5):
        m.blocked(p, IOVA, 'ATS')
        equal(m.dev.ats_counts(), (0, 1, 1), 'hits, requests and refused')
    m.dev.mode = ()
    m.reaches(5, IOVA, 0x641, 'untranslated')


@test_once('ATS: nothing is left of the device in the IOMMU when it is unplugged',
           chipset='acpi-pci-hotplug-with-bridge-support=off')
def t_ats_unplug(m):
    m.setup_prq()
    d = m.dev
    d.enable_pri()
    for p in (NO_PASID, 5):
        m.space(p, 0x650)
        m.reaches(p, IOVA, 0x650, 'before')
        d.start(p, 'READ', IOVA + PAGE)
        m.expect_request(p, IOVA + PAGE)
        d.ctrl()
    d.enable_pasid(False)
    port = ECAM + (1 << 15)
    # The slot's power and its indicator off
    m.w16(port + m.find_cap(port, 0x10) + 0x18, 0x700)
    equal(m.r32(d.cfg), 0xffffffff, 'the ID of an empty slot')
    for p in (NO_PASID, 5):
        m.inv(devtlb_any(d.sid, p))
        m.respond(p, 0, INVALID)
    m.inv(devtlb_pasid(d.sid, 5, every=1))
