# SPDX-License-Identifier: GPL-2.0
"""What VT-d and the endpoint report."""

from .device import R
from .qtest import check, equal
from .tests import IOVA, test, test_once
from .vtd import DMAR, ECAP, NO_PASID


@test('VT-d reports what Linux needs')
def t_ecap(m):
    ecap = m.r64(DMAR + ECAP)
    equal(ecap >> 35 & 31, 19, 'ECAP.PSS')
    for bit, name in ((1, 'QI'), (2, 'DT'), (3, 'IR'), (29, 'PRS'), (40, 'PASID'),
                      (42, 'PDS'), (43, 'SMTS'), (48, 'SMPWC')):
        check(ecap >> bit & 1, 'ECAP.%s is clear' % name)
    equal(ecap >> 47 & 1, int(m.flts), 'ECAP.FLTS')
    equal(ecap >> 46 & 1, int(not m.flts), 'ECAP.SLTS')


@test_once('page request support needs device-TLBs', iommu_prop=',device-iotlb=off')
def t_no_prs(m):
    ecap = m.r64(DMAR + ECAP)
    equal(ecap >> 29 & 1, 0, 'ECAP.PRS')
    equal(ecap >> 42 & 1, 0, 'ECAP.PDS')


@test_once('the device has the capabilities that Linux needs')
def t_caps(m):
    d = m.dev
    check(d.pasid and d.ats and d.pri and d.msi and d.exp, 'a capability is missing')
    equal(m.r16(d.cfg + d.pasid + 4) >> 8 & 31, 20, 'the PASID width')
    equal(m.r16(d.cfg + d.ats + 4) >> 5 & 1, 1, 'ATS page aligned request')
    equal(m.r16(d.cfg + d.ats + 4) >> 6 & 1, 1, 'ATS global invalidate')
    equal(m.r16(d.cfg + d.pri + 6) >> 15, 1, 'PRG response PASID required')
    equal(m.r32(d.cfg + d.exp + 4) >> 28 & 1, 1, 'DEVCAP.FLR')
    equal(m.r32(d.cfg + d.exp + 0x24) >> 21 & 1, 1, 'DEVCAP2.End-End TLP prefix')
    equal(m.r16(d.cfg + d.msi + 2) >> 1 & 7, 3, 'log2 of the MSI vectors')
    equal(m.r32(d.bar + R['QUEUES']), R['NR_QUEUES'], 'the number of queues')


@test_once('pasid=off: no PASID capability, tagged transfers fail, those without PASID work', prop=',pasid=off')
def t_no_pasid(m):
    equal(m.dev.pasid, 0, 'the PASID capability')
    m.space(NO_PASID, 0x77)
    m.space(5, 0x78, did=2)
    m.reaches(NO_PASID, IOVA, 0x77, 'without PASID')
    m.blocked(5, IOVA, 'tagged')
    m.no_fault()


@test_once('pasid-bits=8: wider PASIDs cannot be sent', prop=',pasid-bits=8')
def t_bits(m):
    equal(m.r16(m.dev.cfg + m.dev.pasid + 4) >> 8 & 31, 8, 'the PASID width')
    m.space(NO_PASID, 1)
    m.space(255, 0x78, did=2)
    m.space(256, 0x79, did=3)
    m.reaches(255, IOVA, 0x78, '255')
    m.blocked(256, IOVA, '256')
    m.no_fault()


@test_once('ats=off,pri=off: neither capability', prop=',ats=off,pri=off')
def t_no_ats(m):
    equal((m.dev.ats, m.dev.pri), (0, 0), 'the capabilities')
    check(m.dev.pasid, 'the PASID capability is missing')


@test_once('PRI is stopped unless enabled, reset and FLR disable')
def t_pri(m):
    d = m.dev
    ctrl, status = d.cfg + d.pri + 4, d.cfg + d.pri + 6
    equal(m.r16(status), 0x8100, 'the PRI status')
    m.w32(d.cfg + d.pri + 12, 32)
    m.w16(ctrl, 1)
    equal(m.r16(ctrl), 1, 'PRI control, enabled')
    equal(m.r16(status), 0x8000, 'the PRI status, enabled')
    m.w16(ctrl, 0)
    equal(m.r16(status), 0x8100, 'the PRI status, disabled')
    m.w16(ctrl, 2)
    equal(m.r16(ctrl), 0, 'PRI control after a reset')
    m.w16(ctrl, 1)
    m.w16(d.cfg + d.ats + 6, 0x8000)
    d.flr()
    equal(m.r16(ctrl), 0, 'PRI control after FLR')
    equal(m.r16(status), 0x8100, 'the PRI status after FLR')
    equal(m.r16(d.cfg + d.ats + 6), 0, 'ATS control after FLR')
