# SPDX-License-Identifier: GPL-2.0
"""VT-d: registers, bits, fault reasons, invalidation descriptors."""

PAGE = 4096
DMAR = 0xfed90000
NO_PASID = None

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
