# SPDX-License-Identifier: GPL-2.0
"""The endpoint: transfers, queues, resets, power, MSI."""

import random
import struct

from .device import R
from .qtest import check, equal
from .tests import IOVA, KINDS, test, test_kinds, test_once
from .vtd import (
    DMAR, FPD, FSTS, FSTS_IQE, F_FS_P, F_SL_WRITE, NO_PASID, P, PAGE, PQH, PQT, PRS, devtlb, devtlb_pasid,
    iotlb_domain, pc_pasid, response)


@test_kinds('bus master enable')
def t_bme(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0xe00)
    m.reaches(pasid, IOVA, 0xe00, 'on')
    m.dev.command(False)
    m.blocked(pasid, IOVA, 'off')
    check(not m.dev.fill(pasid, IOVA), 'off: FILL is not blocked')
    equal(m.r64(mem), 0xe00, 'the memory')
    m.dev.command(True)
    m.reaches(pasid, IOVA, 0xe00, 'on again')
    m.no_fault()


@test('PASID enable')
def t_pasid_enable(m):
    m.space(NO_PASID, 0xe10)
    m.space(5, 0xe15)
    m.reaches(5, IOVA, 0xe15, 'on')
    m.dev.enable_pasid(False)
    m.blocked(5, IOVA, 'off')
    m.reaches(NO_PASID, IOVA, 0xe10, 'off, without PASID')
    m.dev.enable_pasid(True)
    m.reaches(5, IOVA, 0xe15, 'on again')
    m.no_fault()


def repeat(m, pasid, period=100, n=0):
    m.dev.setup(pasid, 'FILL', dst=IOVA, pattern=0x5000, length=64, n=n)
    m.w32(m.dev.q(n, 'PERIOD'), period)
    m.dev.ctrl('CLEAR', 'RUN', 'REPEAT', n=n)
    m.step(1)


@test_kinds('pm=on: in D3hot the device does nothing, in D0 it goes on', prop=',pm=on')
def t_pm(m, pasid):
    def state(d):
        m.w16(pmcsr, d)
        equal(m.r16(pmcsr) & 3, d, 'the power state')

    m.space(NO_PASID, 1)
    mem = m.space(pasid, 2)
    pmcsr = m.find_cap(m.dev.cfg, 0x01) + m.dev.cfg + 4
    repeat(m, pasid)
    m.step(1000000)
    good = m.dev.get(0, 'GOOD')
    check(good >= 5 and not m.dev.get(0, 'FAILED'), 'D0: no DMA')
    state(3)
    check(m.r32(m.dev.bar + R['ID']) != R['ID_VALUE'], 'D3hot: the registers are there')
    m.w64(mem, 0x77)
    m.step(1000000)
    equal(m.r64(mem), 0x77, 'the memory in D3hot')
    state(0)
    equal(m.dev.get(0, 'GOOD'), good, 'the transfers that succeeded until D0')
    check(m.dev.get(0, 'FAILED') >= 5, 'D3hot: no transfer was tried')
    m.step(1000000)
    check(m.dev.get(0, 'GOOD') > good, 'D0 again: no DMA')
    m.no_fault()


@test_kinds('repeat mode: period, counters, memory, stop')
def t_repeat(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0)
    repeat(m, pasid)
    d = m.dev
    equal(d.get(0, 'STATUS'), R['STATUS_BUSY'], 'STATUS')
    for _ in range(10):
        now = m.step(100000)
    equal(d.get(0, 'GOOD'), 11, 'GOOD after 1 ms')
    equal(m.r64(d.bar + R['CLOCK']), now, 'CLOCK')
    check(now - 100000 <= d.get(0, 'LAST_GOOD_TIME') <= now, 'LAST_GOOD_TIME is off')
    equal(m.r64(mem), 0x5000 + 10, 'the first word')
    equal(m.r64(mem + 56), 0x5000 + 10, 'the last word')
    d.ctrl()
    equal(d.get(0, 'STATUS'), R['STATUS_DONE'], 'STATUS')
    m.step(1000000)
    equal(d.get(0, 'GOOD'), 11, 'GOOD after the stop')
    equal(m.r64(mem), 0x5000 + 10, 'the memory after the stop')


@test_kinds('repeat mode: blocked while it runs, first failure latched')
def t_repeat_block(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0)
    d = m.dev
    repeat(m, pasid)
    m.step(100000)
    m.or_entry(pasid, clear=P, mask=FPD)
    m.inv(pc_pasid(1, pasid), iotlb_domain(1))
    before = m.r64(mem)
    then = m.step(100000)
    for _ in range(4):
        m.step(100000)
    equal((d.get(0, 'GOOD'), d.get(0, 'FAILED')), (2, 5), 'GOOD and FAILED')
    equal(d.get(0, 'STATUS'), R['STATUS_BUSY'] | R['STATUS_ERROR'], 'STATUS')
    equal(d.get(0, 'FIRST_FAIL_GOOD'), 2, 'FIRST_FAIL_GOOD')
    equal(d.get(0, 'FIRST_FAIL_ADDR'), IOVA, 'FIRST_FAIL_ADDR')
    check(then - 100000 < d.get(0, 'FIRST_FAIL_TIME') <= then, 'FIRST_FAIL_TIME is off')
    equal(m.r64(mem), before, 'the memory')
    m.no_fault()
    d.ctrl('RUN', 'REPEAT', 'CLEAR')
    equal((d.get(0, 'GOOD'), d.get(0, 'FAILED'), d.get(0, 'FIRST_FAIL_TIME')), (0, 0, 0), 'after CLEAR')


@test_kinds('FLR and the RESET register stop the queues', kinds=KINDS[:2])
def t_flr(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0)
    d = m.dev
    for how in ('FLR', 'RESET'):
        repeat(m, pasid)
        repeat(m, pasid, n=7)
        m.step(1000000)
        check(m.r64(mem), '%s: nothing was written before' % how)
        if how == 'FLR':
            d.flr()
            equal(m.r16(d.cfg + d.pasid + 6), 0, 'PASID control after FLR')
            equal(m.r16(d.cfg + 4), 0, 'the command register after FLR')
            m.w32(d.cfg + 0x10, d.bar)
            d.command(True)
            d.enable_pasid(True)
        else:
            m.w32(d.bar + R['RESET'], 1)
        m.w64(mem, 0)
        m.step(1000000)
        for n in (0, 7):
            equal(d.get(n, 'STATUS'), 0, '%s: STATUS' % how)
            equal(d.get(n, 'GOOD'), 0, '%s: GOOD' % how)
            equal(d.get(n, 'PASID'), 0, '%s: PASID' % how)
            equal(d.get(n, 'PERIOD'), 100, '%s: PERIOD' % how)
        equal(m.r64(mem), 0, '%s: the memory' % how)


@test_once('registers are fixed while the queue is busy')
def t_fixed(m):
    m.space(NO_PASID, 1)
    m.space(5, 0)
    d = m.dev
    repeat(m, 5)
    m.w32(d.q(0, 'PASID'), 0)
    m.w64(d.q(0, 'DST'), 0x1000)
    m.w64(d.q(0, 'PATTERN'), 0x1000)
    m.w32(d.q(0, 'LEN'), 16)
    m.w32(d.q(0, 'DIR'), 1)
    equal(d.get(0, 'PASID'), R['PASID_VALID'] | 5, 'PASID')
    equal(d.get(0, 'DST'), IOVA, 'DST')
    equal(d.get(0, 'PATTERN'), 0x5000, 'PATTERN')
    equal(d.get(0, 'LEN'), 64, 'LEN')
    equal(d.get(0, 'DIR'), 0, 'DIR')
    d.ctrl()
    m.w32(d.q(0, 'PASID'), 0)
    equal(d.get(0, 'PASID'), 0, 'PASID, stopped')


@test_once('queues are independent')
def t_queues(m):
    m.space(NO_PASID, 0xf00, did=1)
    for n in range(1, R['NR_QUEUES']):
        m.space(n, 0xf00 + n, did=2)
    for n in range(R['NR_QUEUES']):
        m.dev.setup(n or NO_PASID, 'READ', src=IOVA, n=n)
    for n in range(R['NR_QUEUES']):
        m.dev.ctrl('CLEAR', 'RUN', 'REPEAT', n=n)
    m.step(1000)
    m.dev.ctrl(n=3)
    m.step(1000000)
    for n in range(R['NR_QUEUES']):
        equal(m.dev.get(n, 'RESULT'), 0xf00 + n, 'queue %d: RESULT' % n)
        equal(m.dev.get(n, 'STATUS'), R['STATUS_DONE'] if n == 3 else R['STATUS_BUSY'],
              'queue %d: STATUS' % n)


@test_kinds('COPY, READ and 4 KiB across pages')
def t_copy(m, pasid):
    m.space(NO_PASID, 1)
    mem = m.space(pasid, 0, pages=4)
    data = random.Random(1).randbytes(4096)
    m.write(mem + 0x800, data)
    xor = 0
    for word in struct.unpack('<512Q', data):
        xor ^= word
    m.dev.setup(pasid, 'COPY', src=IOVA + 0x800, dst=IOVA + 0x2008, length=4096)
    equal(m.dev.run(), (True, xor), 'COPY')
    equal(m.read(mem + 0x2008, 4096), data, 'the copy')
    equal(m.dev.load(pasid, IOVA + 0x2008, 4096), xor, 'READ')


@test_kinds('the address that failed, across pages')
def t_across(m, pasid):
    m.space(NO_PASID, 1)
    m.space(pasid, 0)
    check(not m.dev.fill(pasid, IOVA + 0xff8, length=16), 'FILL is not blocked')
    equal(m.dev.get(0, 'FIRST_FAIL_ADDR'), IOVA + PAGE, 'FIRST_FAIL_ADDR of FILL')
    m.expect_fault(F_FS_P if m.flts else F_SL_WRITE, pasid, IOVA + PAGE)
    m.dev.setup(pasid, 'COPY', src=IOVA, dst=IOVA + 3 * PAGE)
    equal(m.dev.run()[0], False, 'COPY')
    equal(m.dev.get(0, 'FIRST_FAIL_ADDR'), IOVA + 3 * PAGE, 'FIRST_FAIL_ADDR of COPY')


@test_once('descriptors that make no sense fail')
def t_bad(m):
    m.space(NO_PASID, 0)
    for length in (0, 4, 9, 4100, 4104, 0xfffffff8, 0xffffffff):
        check(not m.dev.fill(NO_PASID, IOVA, length=length), 'LEN=%#x is accepted' % length)
    for direction in (3, 0xffffffff):
        m.dev.setup(NO_PASID, direction, src=IOVA, dst=IOVA)
        equal(m.dev.run()[0], False, 'DIR=%#x' % direction)
    check(not m.dev.fill(NO_PASID, 2**64 - 8, length=4096), 'the end of the address space')
    check(not m.dev.fill(5, 2**64 - 8, length=16), 'the end of the address space, tagged')


@test_once('MSI comes when DONE gets set')
def t_msi(m):
    d = m.dev
    mem = m.space(NO_PASID, 0, pages=2)
    m.w32(d.cfg + d.msi + 4, IOVA + PAGE)
    m.w32(d.cfg + d.msi + 8, 0)
    m.w16(d.cfg + d.msi + 12, 0x40)
    m.w16(d.cfg + d.msi + 2, 1 | 3 << 4)
    for vector, want in ((0, 0x40), (5, 0x45), (9, 0x41)):
        m.w32(d.q(0, 'VECTOR'), vector)
        m.w32(mem + PAGE, 0)
        check(d.fill(NO_PASID, IOVA), 'FILL is blocked')
        equal(m.r32(mem + PAGE), 0, 'the message without CTRL_IRQ')
        d.ctrl('RUN', 'IRQ')
        m.step(1)
        equal(m.r32(mem + PAGE), want, 'the message')


@test_once('the device can do DMA to its own registers')
def t_own(m):
    d = m.dev
    table = m.table()
    for i in range(16):
        m.map(table, IOVA + i * PAGE, d.bar + i * PAGE)
    m.set_entry(NO_PASID, table)
    rnd = random.Random(2)
    for pattern in [0, 1, R['CTRL_RUN'] << 32, 2**64 - 1] + [rnd.getrandbits(64) for _ in range(20)]:
        d.setup(NO_PASID, 'FILL', dst=IOVA, pattern=pattern, length=4096)
        for page in (0, 1, 2, 9):
            m.w64(d.q(0, 'DST'), IOVA + page * PAGE)
            d.ctrl('RUN', 'REPEAT', 'CLEAR')
            m.step(1000000)
            d.ctrl()
            m.w32(d.bar + R['RESET'], 1)
            d.setup(NO_PASID, 'FILL', dst=IOVA, pattern=pattern, length=4096)


@test_once('no register access aborts QEMU')
def t_fuzz(m):
    d = m.dev
    m.space(NO_PASID, 0, pages=16)
    m.space(5, 0, pages=16)
    rnd = random.Random(3)
    for _ in range(1500):
        page = rnd.choice((0, 1, 2, 8, 9, 15))
        size = rnd.choice('lq')
        off = rnd.choice((rnd.randrange(0, 0x80), rnd.randrange(0, 0x1000))) & (~3 if size == 'l' else ~7)
        val = rnd.choice((rnd.getrandbits(64), rnd.getrandbits(4), IOVA, R['PASID_VALID'] | 5))
        if size == 'l':
            val &= 0xffffffff
        if rnd.random() < .7:
            m.cmd('write%s %#x %#x' % (size, d.bar + page * PAGE + off, val))
        else:
            m.cmd('read%s %#x' % (size, d.bar + page * PAGE + off))
        if rnd.random() < .05:
            m.step(rnd.randrange(1, 1000000))


@test_once('no register access and no response aborts QEMU, with ATS and PRI')
def t_fuzz_pri(m):
    d = m.dev
    m.setup_prq()
    m.space(NO_PASID, 0, pages=4)
    m.space(5, 0, pages=4)
    d.enable_pri()
    rnd = random.Random(5)
    for _ in range(1500):
        n = rnd.randrange(R['NR_QUEUES'])
        what = rnd.random()
        if what < .3:
            m.w32(d.q(n, 'CTRL'), rnd.getrandbits(7))
        elif what < .5:
            d.setup(rnd.choice((NO_PASID, 5, 6)), rnd.randrange(3), IOVA + rnd.randrange(0xc00) * 8,
                    rnd.choice((IOVA, 2**64 - PAGE, d.bar)) + rnd.randrange(0x200) * 8,
                    rnd.choice((8, 4096)), rnd.getrandbits(64), n)
        elif what < .6:
            m.qi(response(d.sid, rnd.choice((NO_PASID, 5, 6)), rnd.randrange(512), rnd.choice((0, 1, 15))))
        elif what < .7:
            m.qi(rnd.choice((devtlb(d.sid), devtlb_pasid(d.sid, 5), devtlb_pasid(d.sid, 5, every=1))))
        elif what < .75:
            m.w16(d.cfg + rnd.choice((d.ats + 6, d.pri + 4, d.pasid + 6)), rnd.getrandbits(16))
        elif what < .85:
            d.enable_pasid(True)
            d.enable_pri(rnd.randrange(9))
        elif what < .9:
            m.w32(DMAR + PRS, 3)
            m.w64(DMAR + PQH, m.r64(DMAR + PQT))
        else:
            m.step(rnd.randrange(1, 1000000))
    equal(m.r32(DMAR + FSTS) & FSTS_IQE, 0, 'FSTS.IQE')
