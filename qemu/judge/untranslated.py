# SPDX-License-Identifier: GPL-2.0
"""Requests that no page table translates: pass-through, the interrupt range, VT-d off."""

from .qtest import check, equal
from .tests import IOVA, test, test_kinds, test_once
from .vtd import DMAR, FPD, FSTS, F_FS_P, F_PASID_P, F_SL_READ, GCMD, NO_PASID, PT, pc_pasid, piotlb_pasid

# Pass-through

@test_kinds('pass-through, and blocked again after it')
def t_pt(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.page()
    m.w64(mem, 0xd00)
    m.set_entry(pasid, None, did=3, pgtt=PT)
    for _ in range(2):
        m.reaches(pasid, mem, 0xd00, 'pass-through')
    m.zero_entry(pasid, FPD)
    m.inv(pc_pasid(3, pasid), piotlb_pasid(3, pasid))
    m.blocked(pasid, mem, '{P=0, FPD=1}')
    m.no_fault()
    m.space(pasid, 0xd01, did=4)
    m.reaches(pasid, IOVA, 0xd01, 'then translated')
    m.blocked(pasid, mem, 'then translated')


@test_kinds('pass-through replaced by tables')
def t_pt_replaced(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.page()
    m.w64(mem, 0xd10)
    m.set_entry(pasid, None, did=3, pgtt=PT)
    m.reaches(pasid, mem, 0xd10, 'pass-through')
    m.space(pasid, 0xd11, did=4)
    m.inv(pc_pasid(3, pasid), piotlb_pasid(3, pasid))
    m.reaches(pasid, IOVA, 0xd11, 'translated')
    m.blocked(pasid, mem, 'translated')


@test_kinds('pass-through of an untouched address space ends with its entry')
def t_pt_fresh(m, pasid):
    # The entry is there when QEMU makes the address space, and at SRTP
    mem = m.page()
    m.w64(mem, 0xd20)
    m.set_entry(0, None, did=3, pgtt=PT)
    m.set_entry(pasid, None, did=3, pgtt=PT)
    m.w32(DMAR + GCMD, 1 << 31 | 1 << 30 | 1 << 26)
    m.reaches(pasid, mem, 0xd20, 'pass-through')
    m.zero_entry(pasid, FPD)
    m.inv(pc_pasid(3, pasid), piotlb_pasid(3, pasid))
    m.blocked(pasid, mem, '{P=0, FPD=1}')


# The interrupt range

@test('tagged DMA to 0xfeexxxxx is translated like any other')
def t_fee(m):
    m.space(NO_PASID, 1)
    table, mem = m.table(), m.page()
    m.w64(mem, 0xfee)
    m.map(table, 0xfee00000, mem)
    m.set_entry(5, table)
    m.reaches(5, 0xfee00000, 0xfee, 'mapped')
    check(m.dev.fill(5, 0xfee00008, 0xeef), 'FILL is blocked')
    equal(m.r64(mem + 8), 0xeef, 'the memory')
    m.blocked(5, 0xfee01000, 'not mapped')
    m.expect_fault(F_FS_P if m.flts else F_SL_READ, 5, 0xfee01000)
    check(not m.dev.fill(6, 0xfee00000), 'FILL without an entry is not blocked')
    m.expect_fault(F_PASID_P, 6, 0xfee00000)


@test('no DMA to 0xfeexxxxx aborts QEMU')
def t_fee_any(m):
    m.space(NO_PASID, 1)
    m.set_entry(7, None, did=3, pgtt=PT)
    m.space(5, 1)
    for p in (NO_PASID, 5, 6, 7):
        for addr in (0xfee00000, 0xfeeff000, 0xfedff800, 0xfeeff800):
            for length in (8, 4096):
                m.dev.load(p, addr, length)
                m.dev.fill(p, addr, length=length, pattern=0)
    m.r32(DMAR + FSTS)


# Before VT-d is enabled

@test_once('DMA without PASID is not translated before VT-d is enabled', translate=False)
def t_off(m):
    mem = m.page()
    m.w64(mem, 0xf10)
    m.reaches(NO_PASID, mem, 0xf10, 'no translation')
