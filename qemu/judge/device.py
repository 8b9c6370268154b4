# SPDX-License-Identifier: GPL-2.0
"""The endpoint of qemu/pasid-test.c."""

import os
import re

from .qtest import Fail, equal
from .vtd import NO_PASID, PAGE

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(HERE, '../../tools/testing/selftests/ioasid/pasid-test.h')


def read_header(path):
    """The register layout, from the header that everybody uses"""
    defs = {}
    with open(path) as header:
        for line in header:
            m = re.match(r'#define\s+PASID_TEST_(\w+)\s+(0x[0-9a-f]+|\d+)\b', line)
            if m:
                defs[m.group(1)] = int(m.group(2), 0)
    return defs


R = read_header(HEADER)
ECAM = 0xb0000000


class Device:
    """One pasid-test function"""

    def __init__(self, machine, bus, devfn, bar):
        self.m = machine
        self.sid = bus << 8 | devfn
        self.cfg = ECAM + (self.sid << 12)
        self.bar = bar
        m = machine
        equal(m.r32(self.cfg), R['DEVICE_ID'] << 16 | R['VENDOR_ID'], 'the device\'s ID')
        m.w32(self.cfg + 0x10, bar)
        m.w32(self.cfg + 0x14, 0)
        self.command(True)
        equal(m.r32(bar + R['ID']), R['ID_VALUE'], 'the ID register')
        self.exp = m.find_cap(self.cfg, 0x10)
        self.msi = m.find_cap(self.cfg, 0x05)
        self.ats = self.find_ext(0x0f)
        self.pri = self.find_ext(0x13)
        self.pasid = self.find_ext(0x1b)
        self.mode = ()
        if self.pasid:
            self.enable_pasid(True)

    def find_ext(self, cap):
        at = 0x100
        while at:
            head = self.m.r32(self.cfg + at)
            if head & 0xffff == cap:
                return at
            at = head >> 20
        return 0

    def command(self, master, mem=True):
        self.m.w16(self.cfg + 4, 4 * master + 2 * mem)

    def enable_pasid(self, on):
        self.m.w16(self.cfg + self.pasid + 6, int(on))

    def enable_ats(self, on=True):
        """In the capability, and in what is run from now on"""
        self.m.w16(self.cfg + self.ats + 6, on << 15)
        self.mode = ('ATS',) if on else ()

    def enable_pri(self, alloc=32):
        self.enable_ats()
        self.m.w32(self.cfg + self.pri + 12, alloc)
        self.m.w16(self.cfg + self.pri + 4, 1)
        self.mode = ('ATS', 'PRI')

    def flr(self):
        self.m.w16(self.cfg + self.exp + 8, 0x8000)

    def q(self, n, reg):
        return self.bar + (n + 1) * PAGE + R['Q_' + reg]

    def get(self, n, reg):
        addr = self.q(n, reg)
        if R['Q_' + reg] < 0x10 or reg in ('LEN', 'DIR', 'PERIOD'):
            return self.m.r32(addr)
        return self.m.r64(addr)

    def setup(self, pasid, direction, src=0, dst=0, length=8, pattern=0, n=0):
        m = self.m
        val = 0 if pasid is NO_PASID else R['PASID_VALID'] | pasid
        m.w32(self.q(n, 'PASID'), val)
        m.w64(self.q(n, 'SRC'), src)
        m.w64(self.q(n, 'DST'), dst)
        m.w64(self.q(n, 'PATTERN'), pattern)
        m.w32(self.q(n, 'LEN'), length)
        m.w32(self.q(n, 'DIR'), R['DIR_' + direction] if isinstance(direction, str) else direction)

    def ctrl(self, *names, n=0):
        self.m.w32(self.q(n, 'CTRL'), sum(R['CTRL_' + x] for x in names))

    def run(self, n=0):
        """Do what is set up, once: (succeeded, result)"""
        self.ctrl('CLEAR', 'RUN', *self.mode, n=n)
        for _ in range(1000):
            if not self.get(n, 'STATUS') & R['STATUS_BUSY']:
                break
        else:
            raise Fail('the transfer does not end')
        good, failed = self.get(n, 'GOOD'), self.get(n, 'FAILED')
        equal(good + failed, 1, 'the number of transfers')
        equal(self.get(n, 'STATUS'),
              R['STATUS_DONE'] | (R['STATUS_ERROR'] if failed else 0), 'STATUS')
        return good == 1, self.get(n, 'RESULT')

    def fill(self, pasid, iova, pattern=0x1111, length=8, n=0):
        self.setup(pasid, 'FILL', dst=iova, pattern=pattern, length=length, n=n)
        return self.run(n)[0]

    def load(self, pasid, iova, length=8, n=0):
        """What a READ of one word returns, None if it failed"""
        self.setup(pasid, 'READ', src=iova, length=length, n=n)
        ok, result = self.run(n)
        return result if ok else None


    def start(self, pasid, direction, iova, n=0):
        """Begin a transfer that may have to wait"""
        self.setup(pasid, direction, iova, iova, pattern=0x1111, n=n)
        self.ctrl('CLEAR', 'RUN', *self.mode, n=n)
        self.m.step(1)

    def count(self, *regs, n=0):
        return tuple(self.get(n, reg) for reg in regs)

    def ats_counts(self, n=0):
        return self.count('ATC_HITS', 'ATS_REQUESTS', 'ATS_REFUSED', n=n)

    def pri_counts(self, n=0):
        return self.count('PRI_REQUESTS', 'PRI_SUCCESS', 'PRI_INVALID', 'PRI_FAILURE', n=n)

    def invalidations(self):
        return self.m.r64(self.bar + R['INVALIDATIONS'])

    def stray(self):
        return self.m.r64(self.bar + R['STRAY_RESPONSES'])
