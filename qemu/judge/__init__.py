# SPDX-License-Identifier: GPL-2.0
"""Judges the emulated VT-d and the pasid-test device of a QEMU binary, without booting anything: tables are built in the
machine's memory and registers are driven over QEMU's qtest protocol. What the kernel's tests conclude rests on what is
checked here: that an entry with P=0 does not translate, that FPD suppresses faults, that cached translations live until
they are invalidated, in the IOMMU and in the device, that each kind of invalidation drops what it must, with a delay of
the queue not before its time, and that no page request is lost.

qtest, vtd, device and machine are the harness, the other modules are the tests. Each test runs on a machine of its own,
with second-level and with first-level tables if it depends on them."""
