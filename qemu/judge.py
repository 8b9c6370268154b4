#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
#
# Judge the emulated VT-d and the pasid-test device of a QEMU binary, without
# booting anything: tables are built in the machine's memory and registers are
# driven over QEMU's qtest protocol. What the kernel's tests conclude rests on
# what is checked here: that an entry with P=0 does not translate, that FPD
# silences, that cached translations live until they are invalidated, in the
# IOMMU and in the device, that each kind of invalidation drops what it must,
# with a delay of the queue not before its time, and that no page request is
# lost.
#
#	qemu/judge.py [-v] <qemu-binary> [words...]
#
# With words, only tests whose name has one of them are run. -v shows what
# QEMU printed. Prints TAP; the exit status is 0 if all tests passed. Each test
# is run on a machine of its own, with second-level and with first-level
# tables if it depends on them.

import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(HERE, '../tools/testing/selftests/ioasid/pasid-test.h')


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
PAGE = 4096
DMAR = 0xfed90000
ECAM = 0xb0000000
BRIDGE_BASE = 0xe0000000
NO_PASID = None
# What is freed must not look as if it were not
MALLOC = 'glibc.malloc.tcache_count=0:glibc.malloc.perturb=165'

# VT-d registers
CAP, ECAP, GCMD, GSTS, RTADDR = 0x08, 0x10, 0x18, 0x1c, 0x20
FSTS, IQH, IQT, IQA, FRCD = 0x34, 0x80, 0x88, 0x90, 0x220
PQH, PQT, PQA, PRS, PECTL = 0xc0, 0xc8, 0xd0, 0xdc, 0xe0
PRS_PPR, PRS_PRO = 1, 2
FSTS_PFO, FSTS_PPF, FSTS_IQE = 1, 2, 0x10

# Fault reasons
F_CONTEXT_P, F_SL_WRITE, F_SL_READ = 0x02, 0x05, 0x06
F_DTE, F_PRE = 0x44, 0x47
F_DIR_P, F_PASID_P, F_PASID_INV = 0x51, 0x59, 0x5b
F_FS_P, F_FS_WRITE = 0x71, 0x85

# PASID-table entries
P, FPD = 1, 2
FLT, SLT, PT = 1, 2, 4


class Fail(Exception):
    pass


def check(cond, text):
    if not cond:
        raise Fail(text)


def equal(got, want, what):
    if got != want:
        show = lambda v: hex(v) if isinstance(v, int) and not isinstance(v, bool) else repr(v)
        raise Fail('%s is %s, not %s' % (what, show(got), show(want)))


class Qtest:
    """A machine, driven over the qtest protocol"""

    def __init__(self, binary, args):
        self.log = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        cmd = [binary, '-machine', 'q35', '-accel', 'qtest', '-m', '64M',
               '-nodefaults', '-display', 'none',
               '-chardev', 'socket,id=qtest,fd=%d' % theirs.fileno(),
               '-qtest', 'chardev:qtest', '-qtest-log', 'none']
        for path in ('/usr/share/seabios', '/usr/share/qemu'):
            if os.path.isdir(path):
                cmd += ['-L', path]
        self.proc = subprocess.Popen(cmd + args, stdin=subprocess.DEVNULL,
                                     stdout=self.log, stderr=self.log,
                                     pass_fds=[theirs.fileno()],
                                     env=dict(os.environ, GLIBC_TUNABLES=MALLOC))
        theirs.close()
        ours.settimeout(20)
        self.sock = ours
        self.file = ours.makefile('r')

    def cmd(self, text):
        try:
            self.sock.sendall((text + '\n').encode())
            while True:
                line = self.file.readline()
                if not line:
                    raise Fail('QEMU died at "%s"' % text[:60])
                words = line.split()
                if words[0] == 'OK':
                    return words[1:]
                if words[0] == 'FAIL' or words[0] == 'ERR':
                    raise Fail('qtest: %s' % line.strip())
        except ConnectionError:
            raise Fail('QEMU died at "%s"' % text[:60]) from None
        except OSError as err:
            raise Fail('QEMU does not answer "%s": %s' % (text[:60], err)) from None

    def close(self):
        self.sock.close()
        self.proc.kill()
        self.proc.wait()

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def r16(self, addr):
        return int(self.cmd('readw %#x' % addr)[0], 16)

    def r32(self, addr):
        return int(self.cmd('readl %#x' % addr)[0], 16)

    def r64(self, addr):
        return int(self.cmd('readq %#x' % addr)[0], 16)

    def w16(self, addr, val):
        self.cmd('writew %#x %#x' % (addr, val))

    def w32(self, addr, val):
        self.cmd('writel %#x %#x' % (addr, val))

    def w64(self, addr, val):
        self.cmd('writeq %#x %#x' % (addr, val & (2**64 - 1)))

    def write(self, addr, data):
        self.cmd('write %#x %#x 0x%s' % (addr, len(data), data.hex()))

    def read(self, addr, size):
        return bytes.fromhex(self.cmd('read %#x %#x' % (addr, size))[0][2:])

    def zero(self, addr, size):
        self.cmd('memset %#x %#x 0' % (addr, size))

    def step(self, ns):
        return int(self.cmd('clock_step %d' % ns)[0])


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


class Machine(Qtest):
    """The machine with VT-d set up in scalable mode, and helpers for tables"""

    def __init__(self, binary, flts, devices=None, prop='', iommu_prop='', chipset='',
                 translate=True):
        iommu = ('intel-iommu,intremap=on,x-scalable-mode=on,x-pasid-mode=on,'
                 'device-iotlb=on,x-flts=%s' % ('on,aw-bits=48' if flts else 'off')) + iommu_prop
        args = ['-global', 'ICH9-LPC.' + chipset] if chipset else []
        args += ['-device', iommu, '-device', 'pcie-root-port,id=rp0,addr=1.0,chassis=1,slot=1']
        if devices is None:
            devices = ['pasid-test,bus=rp0' + prop]
        for dev in devices:
            args += ['-device', dev]
        super().__init__(binary, args)
        self.flts = flts
        self.translate = translate
        self.next_page = 0x100000
        self.iq_tail = 0
        self.wait_seq = 0

    def setup(self):
        self.setup_pci()
        self.dev = Device(self, 1, 0, BRIDGE_BASE)
        if self.translate:
            self.setup_vtd()

    def setup_pci(self):
        # ECAM, by way of the host bridge's PCIEXBAR
        for reg, val in ((0x64, 0), (0x60, ECAM | 1)):
            self.cmd('outl 0xcf8 %#x' % (0x80000000 | reg))
            self.cmd('outl 0xcfc %#x' % val)
        port = ECAM + (1 << 15)
        self.w32(port + 0x18, 0x00010100)
        self.w32(port + 0x20, (BRIDGE_BASE + 0x100000) & 0xfff00000 | BRIDGE_BASE >> 16)
        self.w16(port + 4, 6)

    def find_cap(self, cfg, cap):
        at = self.r16(cfg + 0x34) & 0xff
        while at:
            head = self.r16(cfg + at)
            if head & 0xff == cap:
                return at
            at = head >> 8
        return 0

    def page(self, count=1):
        addr = self.next_page
        self.next_page += count * PAGE
        check(self.next_page < 60 << 20, 'the test uses too much memory')
        return addr

    # --- Tables

    def setup_vtd(self):
        self.root = self.page()
        self.iq = self.page()
        self.wait_word = self.page()
        self.pasid_dirs = {}
        self.add_context(self.dev.sid)
        self.w64(DMAR + RTADDR, self.root | 1 << 10)
        self.w32(DMAR + GCMD, 1 << 30)
        self.w64(DMAR + IQA, self.iq | 1 << 11)
        self.w32(DMAR + GCMD, 1 << 26)
        self.w32(DMAR + GCMD, 1 << 31 | 1 << 26)
        equal(self.r32(DMAR + GSTS) >> 26, 0b110001, 'GSTS')

    def context_addr(self, sid):
        bus, devfn = sid >> 8, sid & 0xff
        slot = self.root + 16 * bus + 8 * (devfn >> 7)
        if not self.r64(slot) & 1:
            self.w64(slot, self.page() | 1)
        return (self.r64(slot) & ~0xfff) + 32 * (devfn & 0x7f)

    def add_context(self, sid, rid_pasid=0, flags=P):
        pdir = self.page(32)
        self.pasid_dirs[sid] = pdir
        addr = self.context_addr(sid)
        # DTE, PASIDE, PRE, and a directory for 20 bits
        self.write(addr, struct.pack('<4Q', pdir | 7 << 9 | 0x1c | flags, rid_pasid, 0, 0))

    def dir_addr(self, pasid, sid=None):
        return self.pasid_dirs[self.dev.sid if sid is None else sid] + 8 * (pasid >> 6)

    def entry_addr(self, pasid, sid=None):
        pasid = pasid or 0
        at = self.dir_addr(pasid, sid)
        if not self.r64(at) & P:
            self.w64(at, self.page() | P | self.r64(at) & FPD)
        return (self.r64(at) & ~0xfff) + 64 * (pasid & 63)

    def set_entry(self, pasid, table, did=1, flags=P, pgtt=None, sid=None):
        """table: of table(), or None"""
        if pgtt is None:
            pgtt = FLT if self.flts else SLT
        lo = flags | 2 << 2 | pgtt << 6
        fl = 0
        if pgtt == FLT:
            fl = table
        elif pgtt == SLT:
            lo |= table
        self.write(self.entry_addr(pasid, sid), struct.pack('<8Q', lo, did, fl, 0, 0, 0, 0, 0))

    def or_entry(self, pasid, clear=0, mask=0):
        """Change the low 64 bits of an entry, and nothing else"""
        at = self.entry_addr(pasid)
        self.w64(at, self.r64(at) & ~clear | mask)

    def zero_entry(self, pasid, mask=0):
        self.write(self.entry_addr(pasid), struct.pack('<8Q', mask, 0, 0, 0, 0, 0, 0, 0))

    def table(self):
        return self.page()

    def map(self, table, iova, addr, write=True, levels=(3, 2, 1)):
        for level in levels:
            at = table + 8 * (iova >> (12 + 9 * level) & 511)
            if not self.r64(at):
                self.w64(at, self.page() | (7 if self.flts else 3))
            table = self.r64(at) & ~0xfff
        bits = (5 | 2 * write) if self.flts else (1 | 2 * write)
        level = levels[-1] - 1
        self.w64(table + 8 * (iova >> (12 + 9 * level) & 511), addr | bits | (level == 1) << 7)

    def map_large(self, table, iova, addr):
        """2 MiB"""
        self.map(table, iova, addr, levels=(3, 2))

    def space(self, pasid, word, did=1, iova=0x40000000, pages=1, **kw):
        """A PASID with tables of its own: returns the memory mapped at iova,
        the first word of each page being word, word + 1..."""
        table = self.table()
        mem = self.page(pages)
        for i in range(pages):
            self.w64(mem + i * PAGE, word + i)
            self.map(table, iova + i * PAGE, mem + i * PAGE)
        self.set_entry(pasid, table, did, **kw)
        return mem

    # --- Invalidation queue

    def qi(self, *descs):
        for desc in descs:
            desc = (list(desc) + [0, 0, 0])[:4]
            self.write(self.iq + 32 * self.iq_tail, struct.pack('<4Q', *desc))
            self.iq_tail = (self.iq_tail + 1) % 128
        self.w64(DMAR + IQT, self.iq_tail << 5)

    def submit(self, *descs, flags=0):
        """With a wait descriptor behind them, which is not waited for"""
        self.wait_seq += 1
        self.qi(*descs, (0x25 | flags | self.wait_seq << 32, self.wait_word))

    def wait(self, flags=0):
        self.submit(flags=flags)
        equal(self.r32(DMAR + FSTS) & FSTS_IQE, 0, 'FSTS.IQE')
        equal(self.r32(self.wait_word), self.wait_seq, 'the status word of the wait descriptor')

    def inv(self, *descs):
        self.qi(*descs)
        self.wait()

    def queue(self):
        """The head of the queue, and the last wait descriptor that was executed"""
        return self.r64(DMAR + IQH) >> 5, self.r32(self.wait_word)

    def executed_in(self, ns):
        """Nothing of the queue is executed for a time, and all at its end"""
        before = self.queue()
        check(before[1] != self.wait_seq, 'the queue is executed at once')
        self.step(ns - 1)
        equal(self.queue(), before, 'IQH and status before the delay is over')
        self.step(1)
        equal(self.r32(DMAR + FSTS) & FSTS_IQE, 0, 'FSTS.IQE')
        equal(self.queue(), (self.iq_tail, self.wait_seq), 'IQH and status after the delay')

    def flush(self):
        """All there is"""
        self.inv(context_global(), pc_global(), iotlb_global())

    # --- Page request queue

    def setup_prq(self):
        """128 descriptors, of which one stays empty; the interrupt is masked"""
        self.prq = self.page()
        self.w32(DMAR + PECTL, 1 << 31)
        self.w64(DMAR + PQA, self.prq)
        self.w64(DMAR + PQH, 0)
        self.w64(DMAR + PQT, 0)

    def prq_used(self):
        return (self.r64(DMAR + PQT) - self.r64(DMAR + PQH)) // 32 % 128

    def request(self):
        """The oldest page request, taken out of the queue, or None"""
        head = self.r64(DMAR + PQH)
        if head == self.r64(DMAR + PQT):
            return None
        lo, hi = struct.unpack('<2Q', self.read(self.prq + head, 16))
        self.w64(DMAR + PQH, (head + 32) % PAGE)
        return {'type': lo & 0xff, 'pasid': lo >> 32 & 0xfffff if lo >> 8 & 1 else NO_PASID,
                'sid': lo >> 16 & 0xffff, 'others': lo & 0xfff000000000fe00,
                'read': hi & 1, 'write': hi >> 1 & 1, 'last': hi >> 2 & 1,
                'group': hi >> 3 & 0x1ff, 'addr': hi & ~0xfff}

    def expect_request(self, pasid, addr, write=0, last=1):
        """Returns the group, which respond() wants to know"""
        got = self.request()
        check(got is not None, 'there is no page request in the queue')
        group = got.pop('group')
        equal(got, {'type': 1, 'pasid': pasid, 'sid': self.dev.sid, 'others': 0, 'read': 1 - write,
                    'write': write, 'last': last, 'addr': addr}, 'the page request')
        return group

    def respond(self, pasid, group, code):
        self.inv(response(self.dev.sid, pasid, group, code))

    # --- Faults

    def fault(self):
        """The recorded fault, cleared, or None"""
        fsts = self.r32(DMAR + FSTS)
        lo, hi = self.r64(DMAR + FRCD), self.r64(DMAR + FRCD + 8)
        equal(fsts >> 1 & 1, hi >> 63, 'FSTS.PPF')
        if not fsts & FSTS_PPF:
            return None
        self.w64(DMAR + FRCD + 8, 1 << 63)
        self.w32(DMAR + FSTS, FSTS_PFO)
        check(not self.r32(DMAR + FSTS) & FSTS_PPF, 'a cleared fault stays')
        return {'reason': hi >> 32 & 0xff, 'sid': hi & 0xffff, 'addr': lo,
                'pasid': hi >> 40 & 0xfffff if hi >> 31 & 1 else NO_PASID,
                'read': bool(hi >> 62 & 1)}

    def no_fault(self):
        got = self.fault()
        check(got is None, 'a fault is recorded: %s' % got)

    def expect_fault(self, reason, pasid, addr=None, read=None, sid=None):
        got = self.fault()
        check(got is not None, 'no fault is recorded')
        equal(got['reason'], reason, 'the fault reason')
        equal(got['sid'], self.dev.sid if sid is None else sid, 'the fault\'s source ID')
        equal(got['pasid'], pasid, 'the fault\'s PASID')
        if addr is not None:
            equal(got['addr'], addr, 'the fault\'s address')
        if read is not None:
            equal(got['read'], read, 'the fault\'s type (read)')

    # --- Both at once

    def reaches(self, pasid, iova, word, what, dev=None):
        got = (dev or self.dev).load(pasid, iova)
        check(got is not None, '%s: the DMA is blocked' % what)
        equal(got, word, '%s: what DMA reads' % what)

    def blocked(self, pasid, iova, what, dev=None):
        got = (dev or self.dev).load(pasid, iova)
        if got is not None:
            raise Fail('%s: DMA reads %#x' % (what, got))


# Invalidation descriptors

def context_global():
    return (1 | 1 << 4,)


def context_device(sid):
    return (1 | 3 << 4 | sid << 32,)


def pc_global():
    return (7 | 3 << 4,)


def pc_domain(did):
    return (7 | did << 16,)


def pc_pasid(did, pasid):
    return (7 | 1 << 4 | did << 16 | (pasid or 0) << 32,)


def iotlb_global():
    return (2 | 1 << 4 | 3 << 6,)


def iotlb_domain(did):
    return (2 | 2 << 4 | 3 << 6 | did << 16,)


def iotlb_page(did, iova, am=0):
    return (2 | 3 << 4 | 3 << 6 | did << 16, iova | am)


def piotlb_pasid(did, pasid):
    return (6 | 2 << 4 | did << 16 | (pasid or 0) << 32,)


def piotlb_page(did, pasid, iova, am=0):
    return (6 | 3 << 4 | did << 16 | (pasid or 0) << 32, iova | am)


def devtlb(sid, addr=0x7ffffffffffff000, size=1):
    """Of requests without PASID, all pages unless told"""
    return (3 | sid << 32, addr | size)


def devtlb_pasid(sid, pasid, addr=0x7ffffffffffff000, size=1, every=0):
    return (8 | sid << 16 | pasid << 32, addr | size << 11 | every)


def devtlb_any(sid, pasid):
    return devtlb(sid) if pasid is NO_PASID else devtlb_pasid(sid, pasid)


SUCCESS, INVALID, FAILURE = 0, 1, 0xf


def response(sid, pasid, group, code):
    return (9 | (pasid is not NO_PASID) << 4 | code << 12 | sid << 16 | (pasid or 0) << 32,
            group << 3 | 1 << 2)


# --- Tests -------------------------------------------------------------------

TESTS = []
IOVA = 0x40000000
# Tagged numbers that differ in one part only: low and high bits, table, directory
PASIDS = (1, 63, 64, 0x101, 0x10001, 0xfffff)
KINDS = ((NO_PASID, 'untagged'), (5, 'tagged'), (0xa5a5a, 'tagged, 20 bits'))


def test(name, modes=(False, True), **machine):
    def add(func):
        for flts in modes:
            TESTS.append((name, flts, func, machine))
        return func
    return add


def test_once(name, **machine):
    return test(name, modes=(False,), **machine)


def test_kinds(name, kinds=KINDS, modes=(False, True), **machine):
    """One test for untagged and one for tagged DMA"""
    def add(func):
        for flts in modes:
            for pasid, kind in kinds:
                TESTS.append(('%s (%s)' % (name, kind), flts,
                              lambda m, pasid=pasid: func(m, pasid), machine))
        return func
    return add


# What is reported

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


@test_once('pasid=off: no PASID capability, tagged transfers fail, untagged work', prop=',pasid=off')
def t_no_pasid(m):
    equal(m.dev.pasid, 0, 'the PASID capability')
    m.space(NO_PASID, 0x77)
    m.space(5, 0x78, did=2)
    m.reaches(NO_PASID, IOVA, 0x77, 'untagged')
    m.blocked(5, IOVA, 'tagged')
    m.no_fault()


@test_once('pasid-bits=8: wider numbers cannot be sent', prop=',pasid-bits=8')
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


@test('tagged and untagged DMA use different entries')
def t_both(m):
    a = m.space(NO_PASID, 0x200, did=1)
    b = m.space(5, 0x205, did=2)
    m.reaches(NO_PASID, IOVA, 0x200, 'untagged')
    m.reaches(5, IOVA, 0x205, 'tagged')
    check(m.dev.fill(NO_PASID, IOVA + 8, 0xaaaa), 'untagged FILL is blocked')
    check(m.dev.fill(5, IOVA + 8, 0xbbbb), 'tagged FILL is blocked')
    equal((m.r64(a + 8), m.r64(b + 8)), (0xaaaa, 0xbbbb), 'the memory')


@test('untagged DMA uses the entry that RID_PASID names')
def t_rid_pasid(m):
    m.add_context(m.dev.sid, rid_pasid=77)
    m.space(0, 0x300)
    m.space(77, 0x377, did=2)
    m.reaches(NO_PASID, IOVA, 0x377, 'untagged')


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
    """Untagged and two PASIDs, in domains 1, 2 and 2; used, then zeroed"""
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


# The device's own cache of translations (ATC)

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
    m.blocked(NO_PASID, 0xfee00000, 'untagged')
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


# Page requests

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


# The device

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
    m.reaches(NO_PASID, IOVA, 0xe10, 'off, untagged')
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


@test_once('untagged DMA is not translated before VT-d is enabled', translate=False)
def t_off(m):
    mem = m.page()
    m.w64(mem, 0xf10)
    m.reaches(NO_PASID, mem, 0xf10, 'no translation')


def main():
    args = sys.argv[1:]
    verbose = '-v' in args
    args = [a for a in args if a != '-v']
    if not args:
        sys.exit('usage: judge.py [-v] <qemu-binary> [words...]')
    binary, words = args[0], args[1:]
    if not os.access(binary, os.X_OK):
        sys.exit('judge.py: %s cannot be run' % binary)

    tests = [t for t in TESTS if not words or any(w in t[0] for w in words)]
    once = {t[0] for t in tests if sum(u[0] == t[0] for u in tests) == 1}
    print('TAP version 13\n1..%d' % len(tests))
    failed = 0
    for num, (name, flts, func, machine) in enumerate(tests, 1):
        if name not in once:
            name += ', first level' if flts else ', second level'
        m = Machine(binary, flts, **machine)
        error = None
        try:
            m.setup()
            func(m)
            m.r32(DMAR + GSTS)
        except Fail as err:
            error = str(err)
        finally:
            m.close()
        output = m.output()
        failed += error is not None
        print('%sok %d - %s' % ('not ' if error else '', num, name))
        if error:
            print('# ' + error)
        if (error or verbose) and output:
            for line in output.splitlines()[:20]:
                print('# qemu: ' + line)
        sys.stdout.flush()
    print('# %d passed, %d failed' % (len(tests) - failed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
