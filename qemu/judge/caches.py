# SPDX-License-Identifier: GPL-2.0
"""What stays cached, and what each kind of invalidation drops."""

from .tests import IOVA, KINDS, test, test_kinds
from .vtd import (
    DMAR, FPD, F_CONTEXT_P, GCMD, NO_PASID, P, PAGE, context_device, iotlb_domain, iotlb_global, iotlb_page,
    pc_domain, pc_global, pc_pasid, piotlb_page, piotlb_pasid)

# What stays cached until it is invalidated

@test_kinds('a cached translation outlives its entry until the IOTLB is invalidated')
def t_stale(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x900, did=3)
    m.reaches(pasid, IOVA, 0x900, 'before')
    m.or_entry(pasid, clear=P, mask=FPD)
    m.reaches(pasid, IOVA, 0x900, '{P=0, FPD=1}, nothing invalidated')
    m.zero_entry(pasid, FPD)
    m.reaches(pasid, IOVA, 0x900, 'zeroed, nothing invalidated')
    m.inv(pc_pasid(3, pasid))
    m.reaches(pasid, IOVA, 0x900, 'PASID-cache invalidated')
    m.inv(iotlb_domain(3))
    m.blocked(pasid, IOVA, 'both invalidated')
    m.no_fault()


@test_kinds('a cached entry outlives the one in memory until the PASID-cache is invalidated')
def t_stale_pc(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x910, did=3, pages=2)
    m.reaches(pasid, IOVA, 0x910, 'before')
    m.zero_entry(pasid, FPD)
    m.inv(iotlb_domain(3))
    m.reaches(pasid, IOVA, 0x910, 'only the IOTLB invalidated')
    m.reaches(pasid, IOVA + PAGE, 0x911, 'only the IOTLB invalidated, another page')
    m.inv(pc_pasid(3, pasid), iotlb_domain(3))
    m.blocked(pasid, IOVA, 'both invalidated')
    m.blocked(pasid, IOVA + PAGE, 'both invalidated, another page')
    m.no_fault()


@test_kinds('a changed entry is used after both invalidations, not before')
def t_replace(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x920, did=3)
    m.reaches(pasid, IOVA, 0x920, 'before')
    m.space(pasid, 0x921, did=4)
    m.reaches(pasid, IOVA, 0x920, 'nothing invalidated')
    m.inv(pc_pasid(4, pasid), iotlb_domain(4))
    m.reaches(pasid, IOVA, 0x920, 'the new domain invalidated')
    m.inv(pc_pasid(3, pasid), iotlb_domain(3))
    m.reaches(pasid, IOVA, 0x921, 'the old domain invalidated')


@test_kinds('a not-present entry is not cached')
def t_no_negative(m, pasid):
    m.space(NO_PASID, 1)
    m.zero_entry(pasid)
    m.blocked(pasid, IOVA, 'not present')
    m.fault()
    m.space(pasid, 0x930)
    m.reaches(pasid, IOVA, 0x930, 'present')


@test_kinds('a cached translation outlives the page table until it is invalidated')
def t_stale_pte(m, pasid):
    m.space(NO_PASID, 1)
    table, a, b = m.table(), m.page(), m.page()
    m.w64(a, 0xa)
    m.w64(b, 0xb)
    m.map(table, IOVA, a)
    m.set_entry(pasid, table, did=3)
    m.reaches(pasid, IOVA, 0xa, 'before')
    m.map(table, IOVA, b)
    m.reaches(pasid, IOVA, 0xa, 'remapped, not invalidated')
    m.inv(iotlb_domain(4))
    m.reaches(pasid, IOVA, 0xa, 'another domain invalidated')
    m.inv(iotlb_domain(3))
    m.reaches(pasid, IOVA, 0xb, 'invalidated')


@test_kinds('a cached context entry lives until it is invalidated')
def t_stale_ce(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0x940)
    m.reaches(pasid, IOVA, 0x940, 'before')
    at = m.context_addr(m.dev.sid)
    m.w64(at, m.r64(at) & ~P)
    m.inv(pc_global(), iotlb_global())
    m.reaches(pasid, IOVA, 0x940, 'the context-cache not invalidated')
    m.inv(context_device(m.dev.sid + 8), pc_global(), iotlb_global())
    m.reaches(pasid, IOVA, 0x940, 'that of another device invalidated')
    m.inv(context_device(m.dev.sid), pc_global(), iotlb_global())
    m.blocked(pasid, IOVA, 'invalidated')
    m.expect_fault(F_CONTEXT_P, pasid)


# What each kind of invalidation drops

def three(m):
    """DMA without PASID and with two PASIDs, in domains 1, 2 and 2; used, then zeroed"""
    m.space(NO_PASID, 0xa0, did=1)
    m.space(5, 0xa5, did=2)
    m.space(0x10005, 0xa6, did=2)
    alive(m, (NO_PASID, 5, 0x10005), 'before')


WORDS = {NO_PASID: 0xa0, 5: 0xa5, 0x10005: 0xa6}


def alive(m, pasids, what):
    for p in (NO_PASID, 5, 0x10005):
        if p in pasids:
            m.reaches(p, IOVA, WORDS[p], '%s: %s' % (what, p))
        else:
            m.blocked(p, IOVA, '%s: %s' % (what, p))


def pc_test(m, desc, left):
    three(m)
    for p in (NO_PASID, 5, 0x10005):
        m.zero_entry(p, FPD)
    m.inv(iotlb_global())
    alive(m, (NO_PASID, 5, 0x10005), 'before')
    # The translations of what is gone from the PASID-cache are left in the IOTLB
    m.inv(desc)
    alive(m, (NO_PASID, 5, 0x10005), 'PASID-cache only')
    m.inv(iotlb_global())
    alive(m, left, 'and the IOTLB')


for _name, _desc, _left in (
        ('global', pc_global(), ()),
        ('of domain 1', pc_domain(1), (5, 0x10005)),
        ('of domain 2', pc_domain(2), (NO_PASID,)),
        ('of domain 3', pc_domain(3), (NO_PASID, 5, 0x10005)),
        ('of PASID 5', pc_pasid(2, 5), (NO_PASID, 0x10005)),
        ('of PASID 0x10005', pc_pasid(2, 0x10005), (NO_PASID, 5)),
        ('of PASID 5 in another domain', pc_pasid(1, 5), (NO_PASID, 5, 0x10005)),
        ('of RID_PASID', pc_pasid(1, 0), (5, 0x10005))):
    test('PASID-cache invalidation ' + _name)(
        lambda m, desc=_desc, left=_left: pc_test(m, desc, left))


def iotlb_test(m, desc, left):
    three(m)
    for p in (NO_PASID, 5, 0x10005):
        m.zero_entry(p, FPD)
    m.inv(pc_global())
    alive(m, (NO_PASID, 5, 0x10005), 'before')
    m.inv(desc)
    alive(m, left, 'after')
    m.no_fault()


for _name, _desc, _left, _modes in (
        ('IOTLB invalidation, global', iotlb_global(), (), (False, True)),
        ('IOTLB invalidation of domain 1', iotlb_domain(1), (5, 0x10005), (False, True)),
        ('IOTLB invalidation of domain 2', iotlb_domain(2), (NO_PASID,), (False, True)),
        ('IOTLB invalidation of domain 3', iotlb_domain(3), (NO_PASID, 5, 0x10005), (False, True)),
        ('PASID-based IOTLB invalidation of PASID 5', piotlb_pasid(2, 5), (NO_PASID, 0x10005), (True,)),
        ('PASID-based IOTLB invalidation of PASID 0x10005', piotlb_pasid(2, 0x10005), (NO_PASID, 5), (True,)),
        ('PASID-based IOTLB invalidation of PASID 5 in another domain', piotlb_pasid(1, 5),
         (NO_PASID, 5, 0x10005), (False, True)),
        ('PASID-based IOTLB invalidation of RID_PASID', piotlb_pasid(1, 0), (5, 0x10005), (True,))):
    test(_name, modes=_modes)(lambda m, desc=_desc, left=_left: iotlb_test(m, desc, left))


def pages_test(m, pasid, desc, gone):
    """Eight pages of domain 3, used and unmapped by zeroing the entry"""
    m.space(NO_PASID, 1)
    m.space(pasid, 0xb0, did=3, pages=8)
    for i in range(8):
        m.reaches(pasid, IOVA + i * PAGE, 0xb0 + i, 'before: page %d' % i)
    m.zero_entry(pasid, FPD)
    m.inv(pc_global())
    m.inv(desc)
    for i in range(8):
        if i in gone:
            m.blocked(pasid, IOVA + i * PAGE, 'page %d' % i)
        else:
            m.reaches(pasid, IOVA + i * PAGE, 0xb0 + i, 'page %d' % i)


for _pasid, _kind in KINDS[:2]:
    for _name, _desc, _gone, _modes in (
            ('IOTLB invalidation of page 2', iotlb_page(3, IOVA + 2 * PAGE), (2,), (False,)),
            ('IOTLB invalidation of pages 4 to 7', iotlb_page(3, IOVA + 4 * PAGE, 2), (4, 5, 6, 7), (False,)),
            ('IOTLB invalidation of a page in another domain', iotlb_page(2, IOVA + 2 * PAGE), (), (False, True)),
            ('PASID-based IOTLB invalidation of page 2', piotlb_page(3, _pasid, IOVA + 2 * PAGE), (2,), (True,)),
            ('PASID-based IOTLB invalidation of pages 4 to 7', piotlb_page(3, _pasid, IOVA + 4 * PAGE, 2),
             (4, 5, 6, 7), (True,)),
            ('PASID-based IOTLB invalidation with an address mask of 33', piotlb_page(3, _pasid, 0, 33),
             range(8), (True,)),
            ('PASID-based IOTLB invalidation of a page of another PASID',
             piotlb_page(3, 6, IOVA + 2 * PAGE), (), (True,)),
            ('PASID-based IOTLB invalidation of a page leaves second-level translations',
             piotlb_page(3, _pasid, IOVA + 2 * PAGE), (), (False,))):
        test('%s (%s)' % (_name, _kind), modes=_modes)(
            lambda m, pasid=_pasid, desc=_desc, gone=_gone: pages_test(m, pasid, desc, gone))


@test_kinds('setting the root table pointer drops everything')
def t_srtp(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0xc00)
    m.reaches(pasid, IOVA, 0xc00, 'before')
    m.zero_entry(pasid, FPD)
    m.w32(DMAR + GCMD, 1 << 31 | 1 << 30 | 1 << 26)
    m.blocked(pasid, IOVA, 'after')
