# SPDX-License-Identifier: GPL-2.0
"""The machine: VT-d in scalable mode, with an endpoint behind a root port."""

import functools
import re
import struct
import subprocess

from .device import Device, ECAM
from .qtest import Fail, Qtest, check, equal
from .vtd import (
    DMAR, FLT, FPD, FRCD, FSTS, FSTS_IQE, FSTS_PFO, FSTS_PPF, GCMD, GSTS, IQA, IQH, IQT, NO_PASID, P, PAGE,
    PECTL, PQA, PQH, PQT, RTADDR, SLT, context_global, iotlb_global, pc_global, response)

BRIDGE_BASE = 0xe0000000


@functools.cache
def first_stage(binary):
    """The property for first-stage tables; QEMU 11 has renamed it"""
    properties = subprocess.run([binary, '-device', 'intel-iommu,help'], stdout=subprocess.PIPE, text=True, check=False)
    return 'fsts' if re.search(r'^\s*fsts=', properties.stdout, re.M) else 'x-flts'


class Machine(Qtest):
    """The machine with VT-d set up in scalable mode, and helpers for tables"""

    def __init__(self, binary, flts, devices=None, prop='', iommu_prop='', chipset='',
                 translate=True):
        iommu = ('intel-iommu,intremap=on,x-scalable-mode=on,x-pasid-mode=on,'
                 'device-iotlb=on,%s=%s' % (first_stage(binary), 'on,aw-bits=48' if flts else 'off')) + iommu_prop
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
