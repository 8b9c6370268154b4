# SPDX-License-Identifier: GPL-2.0
"""PASID-table entries: who reads which, the P bit, FPD, fault records."""

from .device import Device, R
from .machine import BRIDGE_BASE
from .qtest import check, equal
from .tests import IOVA, PASIDS, test, test_kinds, test_once
from .vtd import (
    FPD, F_CONTEXT_P, F_DIR_P, F_FS_P, F_FS_WRITE, F_PASID_INV, F_PASID_P, F_SL_READ, F_SL_WRITE, NO_PASID,
    P, PAGE, iotlb_domain, pc_pasid)

# Who reads which entry

@test_kinds('a present entry translates')
def t_present(m, pasid):
    m.space(NO_PASID, 0x100)
    mem = m.space(pasid, 0x101)
    m.reaches(pasid, IOVA, 0x101, 'READ')
    check(m.dev.fill(pasid, IOVA + 16, 0xabcdef), 'FILL is blocked')
    equal(m.r64(mem + 16), 0xabcdef, 'what FILL wrote')
    equal(m.r64(mem), 0x101, 'the word beside it')
    m.no_fault()


@test('tagged DMA and DMA without PASID use different entries')
def t_both(m):
    a = m.space(NO_PASID, 0x200, did=1)
    b = m.space(5, 0x205, did=2)
    m.reaches(NO_PASID, IOVA, 0x200, 'without PASID')
    m.reaches(5, IOVA, 0x205, 'tagged')
    check(m.dev.fill(NO_PASID, IOVA + 8, 0xaaaa), 'FILL without PASID is blocked')
    check(m.dev.fill(5, IOVA + 8, 0xbbbb), 'tagged FILL is blocked')
    equal((m.r64(a + 8), m.r64(b + 8)), (0xaaaa, 0xbbbb), 'the memory')


@test('DMA without PASID uses the entry that RID_PASID names')
def t_rid_pasid(m):
    m.add_context(m.dev.sid, rid_pasid=77)
    m.space(0, 0x300)
    m.space(77, 0x377, did=2)
    m.reaches(NO_PASID, IOVA, 0x377, 'without PASID')


@test('each PASID reaches its own memory')
def t_many(m):
    m.space(NO_PASID, 1)
    for p in PASIDS:
        m.space(p, 0x1000000 + p, did=7)
    for _ in range(2):
        for i, p in enumerate(PASIDS):
            got = m.dev.load(p, IOVA, n=i % R['NR_QUEUES'])
            equal(got, 0x1000000 + p, 'what PASID %#x reads' % p)
    m.no_fault()


@test('two functions with one PASID have each their entry', devices=[
    'pasid-test,bus=rp0,addr=0.0,multifunction=on', 'pasid-test,bus=rp0,addr=0.1'])
def t_functions(m):
    other = Device(m, 1, 1, BRIDGE_BASE + 0x10000)
    m.add_context(other.sid)
    m.space(NO_PASID, 1)
    m.space(9, 0x900, did=3)
    m.space(NO_PASID, 2, sid=other.sid)
    m.space(9, 0x901, did=3, sid=other.sid)
    m.reaches(9, IOVA, 0x900, 'function 0')
    m.reaches(9, IOVA, 0x901, 'function 1', other)
    m.blocked(9, IOVA + PAGE, 'function 1, not mapped', other)
    m.expect_fault(F_FS_P if m.flts else F_SL_READ, 9, sid=other.sid)


@test('tagged DMA does not depend on the entry of RID_PASID')
def t_no_rid_entry(m):
    m.space(5, 0x500)
    m.reaches(5, IOVA, 0x500, 'entry 0 is all zero')
    m.no_fault()
    m.zero_entry(0, FPD)
    m.flush()
    m.reaches(5, IOVA, 0x500, 'entry 0 is {P=0, FPD=1}')


@test('a page without write permission can be read, not written')
def t_readonly(m):
    table, mem = m.table(), m.page()
    m.w64(mem, 0x600)
    m.map(table, IOVA, mem, write=False)
    m.space(NO_PASID, 1)
    m.set_entry(5, table)
    for what in ('nothing cached', 'cached'):
        check(not m.dev.fill(5, IOVA), '%s: FILL is not blocked' % what)
        m.expect_fault(F_FS_WRITE if m.flts else F_SL_WRITE, 5, IOVA, read=False)
        m.reaches(5, IOVA, 0x600, what)
    equal(m.r64(mem), 0x600, 'the memory')


# The P bit

@test_kinds('P=0 does not translate, whatever the other fields')
def t_p0(m, pasid):
    if pasid is not NO_PASID:
        m.space(NO_PASID, 1)
    mem = m.space(pasid, 0x700, flags=0)
    m.blocked(pasid, IOVA, 'P=0')
    m.expect_fault(F_PASID_P, pasid, IOVA, read=True)
    check(not m.dev.fill(pasid, IOVA), 'FILL is not blocked')
    m.expect_fault(F_PASID_P, pasid, IOVA, read=False)
    equal(m.r64(mem), 0x700, 'the memory')
    m.or_entry(pasid, mask=P)
    m.reaches(pasid, IOVA, 0x700, 'P=1')


@test_kinds('P=0 after use and invalidation: DMA does not refill the caches')
def t_p0_refill(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0x710)
    m.reaches(pasid, IOVA, 0x710, 'before')
    m.or_entry(pasid, clear=P)
    m.inv(pc_pasid(1, pasid), iotlb_domain(1))
    for _ in range(3):
        m.blocked(pasid, IOVA, 'P=0')
        check(not m.dev.fill(pasid, IOVA), 'FILL is not blocked')
    m.expect_fault(F_PASID_P, pasid)
    m.zero_entry(pasid)
    m.blocked(pasid, IOVA, 'zeroed')
    equal(m.r64(mem), 0x710, 'the memory')


@test_kinds('the directory entry\'s P bit is checked')
def t_dir_p0(m, pasid):
    if pasid is not NO_PASID:
        m.space(NO_PASID, 1)
    m.space(pasid, 0x720)
    at = m.dir_addr(pasid or 0)
    m.w64(at, m.r64(at) & ~P)
    m.blocked(pasid, IOVA, 'directory entry with P=0')
    m.expect_fault(F_DIR_P, pasid)
    m.w64(at, m.r64(at) | P)
    m.reaches(pasid, IOVA, 0x720, 'P=1')


@test_kinds('an entry of a type that is not supported faults as invalid')
def t_type(m, pasid):
    if pasid is not NO_PASID:
        m.space(NO_PASID, 1)
    m.space(pasid, 0x730)
    m.or_entry(pasid, clear=7 << 6)
    m.blocked(pasid, IOVA, 'type 0')
    m.expect_fault(F_PASID_INV, pasid)


# FPD

@test_kinds('FPD silences an entry that is otherwise zero')
def t_fpd_zero(m, pasid):
    if pasid is not NO_PASID:
        m.space(NO_PASID, 1)
    m.zero_entry(pasid, FPD)
    for _ in range(3):
        m.blocked(pasid, IOVA, '{P=0, FPD=1}')
    m.no_fault()


@test_kinds('FPD silences an entry with P=0 and the rest intact')
def t_fpd_p0(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x800)
    m.reaches(pasid, IOVA, 0x800, 'before')
    m.or_entry(pasid, clear=P, mask=FPD)
    m.inv(pc_pasid(1, pasid), iotlb_domain(1))
    for _ in range(3):
        m.blocked(pasid, IOVA, '{P=0, FPD=1}')
    m.no_fault()
    m.zero_entry(pasid, FPD)
    m.blocked(pasid, IOVA, 'then zeroed but for FPD')
    m.no_fault()
    m.zero_entry(pasid)
    m.blocked(pasid, IOVA, 'then zeroed')
    m.expect_fault(F_PASID_P, pasid)


@test_kinds('an all-zero entry faults as not present')
def t_zero(m, pasid):
    if pasid is not NO_PASID:
        m.space(NO_PASID, 1)
    m.zero_entry(pasid)
    m.blocked(pasid, IOVA, 'all-zero entry')
    m.expect_fault(F_PASID_P, pasid, IOVA)


@test_kinds('FPD silences page faults of a present entry')
def t_fpd_present(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x810, flags=P | FPD)
    m.blocked(pasid, IOVA + PAGE, 'not mapped')
    m.no_fault()
    m.reaches(pasid, IOVA, 0x810, 'mapped')
    m.blocked(pasid, IOVA + PAGE, 'not mapped, entry cached')
    m.no_fault()


@test_kinds('FPD of a directory entry silences')
def t_fpd_dir(m, pasid):
    m.zero_entry(pasid)
    at = m.dir_addr(pasid or 0)
    m.w64(at, m.r64(at) | FPD)
    m.blocked(pasid, IOVA, 'entry not present')
    m.no_fault()
    m.w64(at, FPD)
    m.blocked(pasid, IOVA, 'directory entry not present')
    m.no_fault()


@test_kinds('FPD of a context entry silences')
def t_fpd_ce(m, pasid):
    m.add_context(m.dev.sid, flags=P | FPD)
    m.blocked(pasid, IOVA, 'directory entry not present')
    m.no_fault()


# Fault records

@test_kinds('a page fault is recorded with source, address and PASID')
def t_record(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x820)
    m.blocked(pasid, IOVA + 5 * PAGE, 'not mapped')
    m.expect_fault(F_FS_P if m.flts else F_SL_READ, pasid, IOVA + 5 * PAGE, read=True)
    check(not m.dev.fill(pasid, IOVA + 6 * PAGE), 'FILL is not blocked')
    m.expect_fault(F_FS_P if m.flts else F_SL_WRITE, pasid, IOVA + 6 * PAGE, read=False)


@test_kinds('a missing context entry is recorded with the PASID')
def t_record_ce(m, pasid):
    m.add_context(m.dev.sid, flags=0)
    m.blocked(pasid, IOVA, 'context entry not present')
    m.expect_fault(F_CONTEXT_P, pasid, IOVA)


@test_once('PASIDs of 20 bits are recorded whole')
def t_record_20(m):
    m.space(NO_PASID, 1)
    for p in (0xfffff, 0x10000, 0x00001, 0xf0f0f):
        if p >> 6:
            m.blocked(p, IOVA, 'directory entry not present')
            m.expect_fault(F_DIR_P, p)
        m.zero_entry(p)
        m.blocked(p, IOVA, 'not present')
        m.expect_fault(F_PASID_P, p)
