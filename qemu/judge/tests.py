# SPDX-License-Identifier: GPL-2.0
"""The list of tests, and the decorators that add to it."""

from .vtd import NO_PASID

TESTS = []
IOVA = 0x40000000
# PASIDs that differ in one part only: low and high bits, table, directory
PASIDS = (1, 63, 64, 0x101, 0x10001, 0xfffff)
KINDS = ((NO_PASID, 'without PASID'), (5, 'tagged'), (0xa5a5a, 'tagged, 20 bits'))


def test(name, modes=(False, True), **machine):
    def add(func):
        for flts in modes:
            TESTS.append((name, flts, func, machine))
        return func
    return add


def test_once(name, **machine):
    return test(name, modes=(False,), **machine)


def test_kinds(name, kinds=KINDS, modes=(False, True), **machine):
    """One test for DMA without PASID, and one for each tagged kind"""
    def add(func):
        for flts in modes:
            for pasid, kind in kinds:
                TESTS.append(('%s (%s)' % (name, kind), flts,
                              lambda m, pasid=pasid: func(m, pasid), machine))
        return func
    return add
