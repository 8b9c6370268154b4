# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the test machine is made of, and nothing else: see qemu/build.
CONFIG_Q35=y
CONFIG_VTD=y
CONFIG_PASID_TEST=y
CONFIG_PCIE_PORT=y
CONFIG_PCIE_PCI_BRIDGE=y
CONFIG_PCI_BRIDGE=y
CONFIG_ISA_DEBUG=y
CONFIG_EDU=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
# Without these three 10.2 does not link
CONFIG_PXB=y
CONFIG_CXL=y
CONFIG_CXL_MEM_DEVICE=y
