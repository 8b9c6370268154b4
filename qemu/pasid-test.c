/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pasid-test: a PCI Express endpoint that does DMA with and without PASIDs
 *
 * Eight queues, each in a page of its own of BAR 0 and each with a PASID
 * register of its own, do one small DMA transfer, or the same one again and
 * again, and count what succeeded and what did not. The registers are
 * described in pasid-test.h.
 *
 * What the model takes care of:
 *
 * - A transfer is tried page by page, and each page is probed before it is
 *   accessed. A page that the IOMMU blocks thus costs one translation and one
 *   fault. Without the probe, the memory API would try every four bytes of it.
 * - Bus Master Enable, the PASID capability's enable bit and width stop DMA
 *   with the next transfer. For requests with PASID this is up to
 *   pci_device_iommu_pasid_address_space(), which is asked for each transfer.
 * - Transfers are done by timers, never from within a register access. A
 *   device that does DMA to its own registers can do no worse than to stop
 *   itself.
 * - A function-level reset and a conventional reset stop all queues and
 *   clear the enable bits of PASID, ATS and PRI.
 *
 * The ATS and PRI capabilities can be enabled and disabled, but the device
 * makes neither translation requests nor page requests.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/misc/pasid-test.h"
#include "hw/pci/msi.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "qom/object.h"

#define TYPE_PASID_TEST "pasid-test"
OBJECT_DECLARE_SIMPLE_TYPE(PasidTestState, PASID_TEST)

#define PASID_TEST_MAX_LEN      4096
#define PASID_TEST_PERIOD_RESET 100
#define PASID_TEST_PERIOD_MAX   1000000
#define PASID_TEST_CTRL_FLAGS   (PASID_TEST_CTRL_REPEAT | PASID_TEST_CTRL_IRQ)
#define PASID_TEST_MSI_VECTORS  8

typedef struct PasidTestQueue {
    PasidTestState *dev;
    QEMUTimer *timer;

    uint32_t pasid;
    uint32_t ctrl;              /* RUN while busy, and PASID_TEST_CTRL_FLAGS */
    uint32_t status;            /* DONE and ERROR */
    uint32_t vector;

    uint64_t src;
    uint64_t dst;
    uint64_t pattern;
    uint32_t len;
    uint32_t dir;
    uint32_t period;

    uint64_t good;
    uint64_t failed;
    uint64_t last_good_time;
    uint64_t first_fail_time;
    uint64_t first_fail_good;
    uint64_t first_fail_addr;
    uint64_t result;
} PasidTestQueue;

struct PasidTestState {
    PCIDevice parent_obj;

    MemoryRegion bar;
    PasidTestQueue queue[PASID_TEST_NR_QUEUES];

    bool has_pasid;
    bool has_ats;
    bool has_pri;
    uint8_t pasid_bits;
};

static uint64_t pasid_test_clock(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* --- Transfers ---------------------------------------------------------- */

static bool pasid_test_busy(PasidTestQueue *q)
{
    return q->ctrl & PASID_TEST_CTRL_RUN;
}

/* The address space of the queue's requests, NULL if none may be made */
static AddressSpace *pasid_test_as(PasidTestQueue *q)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);

    if (q->pasid & PASID_TEST_PASID_VALID) {
        return pci_device_iommu_pasid_address_space(pdev,
                                        q->pasid & PASID_TEST_PASID_MASK);
    }
    return pdev->is_master ? pci_get_address_space(pdev) : NULL;
}

/* Returns false, and the address that failed, if it was not all accessed */
static bool pasid_test_access(AddressSpace *as, uint64_t addr, uint8_t *buf,
                              uint32_t len, bool is_write, uint64_t *fail_addr)
{
    const uint64_t page = 4096;

    while (len) {
        uint32_t part = MIN(len, page - (addr & (page - 1)));

        *fail_addr = addr;
        if (!as ||
            !address_space_access_valid(as, addr, part, is_write,
                                        MEMTXATTRS_UNSPECIFIED) ||
            address_space_rw(as, addr, MEMTXATTRS_UNSPECIFIED, buf, part,
                             is_write) != MEMTX_OK) {
            return false;
        }
        addr += part;
        buf += part;
        len -= part;
    }
    return true;
}

static bool pasid_test_transfer(PasidTestQueue *q, uint64_t *result,
                                uint64_t *fail_addr)
{
    AddressSpace *as = pasid_test_as(q);
    uint8_t buf[PASID_TEST_MAX_LEN];
    uint32_t i;

    *fail_addr = q->dir == PASID_TEST_DIR_FILL ? q->dst : q->src;
    if (q->len < 8 || q->len > sizeof(buf) || q->len % 8) {
        return false;
    }

    switch (q->dir) {
    case PASID_TEST_DIR_FILL:
        for (i = 0; i < q->len; i += 8) {
            stq_le_p(buf + i, q->pattern + q->good);
        }
        break;
    case PASID_TEST_DIR_READ:
    case PASID_TEST_DIR_COPY:
        if (!pasid_test_access(as, q->src, buf, q->len, false, fail_addr)) {
            return false;
        }
        *result = 0;
        for (i = 0; i < q->len; i += 8) {
            *result ^= ldq_le_p(buf + i);
        }
        break;
    default:
        return false;
    }

    if (q->dir == PASID_TEST_DIR_READ) {
        return true;
    }
    return pasid_test_access(as, q->dst, buf, q->len, true, fail_addr);
}

/* The transfer, or the last of the transfers, has ended */
static void pasid_test_done(PasidTestQueue *q)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);

    timer_del(q->timer);
    q->ctrl &= ~PASID_TEST_CTRL_RUN;
    q->status |= PASID_TEST_STATUS_DONE;
    if (q->ctrl & PASID_TEST_CTRL_IRQ && msi_enabled(pdev)) {
        msi_notify(pdev, q->vector % msi_nr_vectors_allocated(pdev));
    }
}

static void pasid_test_timer(void *opaque)
{
    PasidTestQueue *q = opaque;
    uint64_t result = 0, fail_addr = 0;
    bool ok = pasid_test_transfer(q, &result, &fail_addr);
    uint64_t now = pasid_test_clock();

    if (!pasid_test_busy(q)) {
        /* It wrote to its own registers and has stopped itself */
        return;
    }

    if (ok) {
        q->good++;
        q->last_good_time = now;
        q->result = result;
    } else {
        if (!q->failed) {
            q->first_fail_time = now;
            q->first_fail_good = q->good;
            q->first_fail_addr = fail_addr;
        }
        q->failed++;
        q->status |= PASID_TEST_STATUS_ERROR;
    }

    if (q->ctrl & PASID_TEST_CTRL_REPEAT) {
        timer_mod(q->timer, now + q->period * (uint64_t)SCALE_US);
    } else {
        pasid_test_done(q);
    }
}

static void pasid_test_clear(PasidTestQueue *q)
{
    q->good = 0;
    q->failed = 0;
    q->last_good_time = 0;
    q->first_fail_time = 0;
    q->first_fail_good = 0;
    q->first_fail_addr = 0;
    q->result = 0;
    q->status = 0;
}

static void pasid_test_ctrl(PasidTestQueue *q, uint32_t val)
{
    bool run = val & PASID_TEST_CTRL_RUN;

    q->ctrl &= ~PASID_TEST_CTRL_FLAGS;
    q->ctrl |= val & PASID_TEST_CTRL_FLAGS;

    if (!run && pasid_test_busy(q)) {
        pasid_test_done(q);
    }
    if (val & PASID_TEST_CTRL_CLEAR) {
        pasid_test_clear(q);
    }
    if (run && !pasid_test_busy(q)) {
        q->ctrl |= PASID_TEST_CTRL_RUN;
        q->status &= ~PASID_TEST_STATUS_DONE;
        timer_mod(q->timer, pasid_test_clock());
    }
}

static void pasid_test_reset_queues(PasidTestState *s)
{
    int i;

    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        PasidTestQueue *q = &s->queue[i];

        timer_del(q->timer);
        pasid_test_clear(q);
        q->pasid = 0;
        q->ctrl = 0;
        q->vector = 0;
        q->src = 0;
        q->dst = 0;
        q->pattern = 0;
        q->len = 0;
        q->dir = 0;
        q->period = PASID_TEST_PERIOD_RESET;
    }
}

/* --- Registers ---------------------------------------------------------- */

/* 64-bit accesses come as two of 32 bits, the low half first */
static uint32_t half(uint64_t val, hwaddr addr)
{
    return addr & 4 ? val >> 32 : val;
}

static void set_half(uint64_t *reg, hwaddr addr, uint32_t val)
{
    *reg = deposit64(*reg, addr & 4 ? 32 : 0, 32, val);
}

static uint32_t pasid_test_queue_read(PasidTestQueue *q, hwaddr reg)
{
    switch (reg) {
    case PASID_TEST_Q_PASID:
        return q->pasid;
    case PASID_TEST_Q_CTRL:
        return q->ctrl;
    case PASID_TEST_Q_STATUS:
        return q->status | (pasid_test_busy(q) ? PASID_TEST_STATUS_BUSY : 0);
    case PASID_TEST_Q_VECTOR:
        return q->vector;
    case PASID_TEST_Q_LEN:
        return q->len;
    case PASID_TEST_Q_DIR:
        return q->dir;
    case PASID_TEST_Q_PERIOD:
        return q->period;
    }

    switch (reg & ~4ULL) {
    case PASID_TEST_Q_SRC:
        return half(q->src, reg);
    case PASID_TEST_Q_DST:
        return half(q->dst, reg);
    case PASID_TEST_Q_PATTERN:
        return half(q->pattern, reg);
    case PASID_TEST_Q_GOOD:
        return half(q->good, reg);
    case PASID_TEST_Q_FAILED:
        return half(q->failed, reg);
    case PASID_TEST_Q_LAST_GOOD_TIME:
        return half(q->last_good_time, reg);
    case PASID_TEST_Q_FIRST_FAIL_TIME:
        return half(q->first_fail_time, reg);
    case PASID_TEST_Q_FIRST_FAIL_GOOD:
        return half(q->first_fail_good, reg);
    case PASID_TEST_Q_FIRST_FAIL_ADDR:
        return half(q->first_fail_addr, reg);
    case PASID_TEST_Q_RESULT:
        return half(q->result, reg);
    }
    return 0;
}

static void pasid_test_queue_write(PasidTestQueue *q, hwaddr reg, uint32_t val)
{
    switch (reg) {
    case PASID_TEST_Q_CTRL:
        pasid_test_ctrl(q, val);
        return;
    case PASID_TEST_Q_STATUS:
        q->status &= ~(val & (PASID_TEST_STATUS_DONE |
                              PASID_TEST_STATUS_ERROR));
        return;
    case PASID_TEST_Q_VECTOR:
        q->vector = val;
        return;
    case PASID_TEST_Q_PERIOD:
        q->period = MIN(MAX(val, 1), PASID_TEST_PERIOD_MAX);
        return;
    }

    /* The rest is fixed while the queue is busy */
    if (pasid_test_busy(q)) {
        return;
    }

    switch (reg) {
    case PASID_TEST_Q_PASID:
        q->pasid = val & (PASID_TEST_PASID_MASK | PASID_TEST_PASID_VALID);
        return;
    case PASID_TEST_Q_LEN:
        q->len = val;
        return;
    case PASID_TEST_Q_DIR:
        q->dir = val;
        return;
    }

    switch (reg & ~4ULL) {
    case PASID_TEST_Q_SRC:
        set_half(&q->src, reg, val);
        return;
    case PASID_TEST_Q_DST:
        set_half(&q->dst, reg, val);
        return;
    case PASID_TEST_Q_PATTERN:
        set_half(&q->pattern, reg, val);
        return;
    }
}

/* The queue that an address belongs to, NULL for the page of the device */
static PasidTestQueue *pasid_test_find_queue(PasidTestState *s, hwaddr addr)
{
    unsigned page = addr / PASID_TEST_QUEUE_SIZE;

    return page ? &s->queue[page - 1] : NULL;
}

static uint64_t pasid_test_read(void *opaque, hwaddr addr, unsigned size)
{
    PasidTestState *s = opaque;
    PasidTestQueue *q;

    if (addr >= PASID_TEST_QUEUE(PASID_TEST_NR_QUEUES)) {
        return 0;
    }

    q = pasid_test_find_queue(s, addr);
    if (q) {
        return pasid_test_queue_read(q, addr % PASID_TEST_QUEUE_SIZE);
    }

    switch (addr) {
    case PASID_TEST_ID:
        return PASID_TEST_ID_VALUE;
    case PASID_TEST_QUEUES:
        return PASID_TEST_NR_QUEUES;
    case PASID_TEST_CLOCK:
    case PASID_TEST_CLOCK + 4:
        return half(pasid_test_clock(), addr);
    }
    return 0;
}

static void pasid_test_write(void *opaque, hwaddr addr, uint64_t val,
                             unsigned size)
{
    PasidTestState *s = opaque;
    PasidTestQueue *q;

    if (addr >= PASID_TEST_QUEUE(PASID_TEST_NR_QUEUES)) {
        return;
    }

    q = pasid_test_find_queue(s, addr);
    if (q) {
        pasid_test_queue_write(q, addr % PASID_TEST_QUEUE_SIZE, val);
    } else if (addr == PASID_TEST_RESET && val & 1) {
        pasid_test_reset_queues(s);
    }
}

static const MemoryRegionOps pasid_test_ops = {
    .read = pasid_test_read,
    .write = pasid_test_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 4,
        .max_access_size = 8,
    },
    .impl = {
        .min_access_size = 4,
        .max_access_size = 4,
    },
};

/* --- Configuration space ------------------------------------------------ */

/* PRI: Stopped says that there are no requests, and reset takes no time */
static void pasid_test_update_pri(PCIDevice *pdev)
{
    uint8_t *ctrl = pdev->config + pdev->exp.pri_cap + PCI_PRI_CTRL;
    uint8_t *status = pdev->config + pdev->exp.pri_cap + PCI_PRI_STATUS;

    if (pci_get_word(ctrl) & PCI_PRI_CTRL_ENABLE) {
        pci_word_test_and_clear_mask(status, PCI_PRI_STATUS_STOPPED);
    } else {
        pci_word_test_and_set_mask(status, PCI_PRI_STATUS_STOPPED);
        if (pci_get_word(ctrl) & PCI_PRI_CTRL_RESET) {
            pci_word_test_and_clear_mask(status,
                                         PCI_PRI_STATUS_RF |
                                         PCI_PRI_STATUS_UPRGI);
        }
    }
    pci_word_test_and_clear_mask(ctrl, PCI_PRI_CTRL_RESET);
}

static void pasid_test_config_write(PCIDevice *pdev, uint32_t addr,
                                    uint32_t val, int len)
{
    uint16_t pri = pdev->exp.pri_cap;

    pci_default_write_config(pdev, addr, val, len);
    if (pdev->exp.exp_cap) {
        pcie_cap_flr_write_config(pdev, addr, val, len);
    }
    if (pri && ranges_overlap(addr, len, pri + PCI_PRI_CTRL, 2)) {
        pasid_test_update_pri(pdev);
    }
}

/* Conventional and function-level reset */
static void pasid_test_reset_hold(Object *obj, ResetType type)
{
    PasidTestState *s = PASID_TEST(obj);
    PCIDevice *pdev = PCI_DEVICE(obj);

    pasid_test_reset_queues(s);

    if (pdev->exp.pasid_cap) {
        pci_set_word(pdev->config + pdev->exp.pasid_cap + PCI_PASID_CTRL, 0);
    }
    if (pdev->exp.ats_cap) {
        pci_set_word(pdev->config + pdev->exp.ats_cap + PCI_ATS_CTRL, 0);
    }
    if (pdev->exp.pri_cap) {
        pci_set_long(pdev->config + pdev->exp.pri_cap + PCI_PRI_ALLOC_REQ, 0);
        pci_set_word(pdev->config + pdev->exp.pri_cap + PCI_PRI_CTRL,
                     PCI_PRI_CTRL_RESET);
        pasid_test_update_pri(pdev);
    }
}

/* --- Device ------------------------------------------------------------- */

static void pasid_test_realize(PCIDevice *pdev, Error **errp)
{
    PasidTestState *s = PASID_TEST(pdev);
    uint16_t cap = PCI_CONFIG_SPACE_SIZE;
    int i;

    if (!s->pasid_bits || s->pasid_bits > PCI_EXT_CAP_PASID_MAX_WIDTH) {
        error_setg(errp, "pasid-bits must be 1 to %d",
                   PCI_EXT_CAP_PASID_MAX_WIDTH);
        return;
    }
    if (s->has_pri && !s->has_ats) {
        error_setg(errp, "pri=on needs ats=on");
        return;
    }

    if (msi_init(pdev, 0, PASID_TEST_MSI_VECTORS, true, false, errp)) {
        return;
    }

    /* Behind a conventional bridge this is a conventional device */
    if (pci_bus_is_express(pci_get_bus(pdev))) {
        if (pcie_endpoint_cap_init(pdev, 0) < 0) {
            error_setg(errp, "no room for the PCI Express capability");
            msi_uninit(pdev);
            return;
        }
        pcie_cap_flr_init(pdev);
        /* The first one has to be where the extended space begins */
        if (s->has_ats) {
            pcie_ats_init(pdev, cap, true);
            cap += PCI_EXT_CAP_ATS_SIZEOF;
        }
        if (s->has_pri) {
            pcie_pri_init(pdev, cap, 32, true);
            cap += PCI_EXT_CAP_PRI_SIZEOF;
        }
        if (s->has_pasid) {
            pcie_pasid_init(pdev, cap, s->pasid_bits, false, false);
        }
    }

    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        s->queue[i].dev = s;
        s->queue[i].timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, pasid_test_timer,
                                         &s->queue[i]);
    }

    memory_region_init_io(&s->bar, OBJECT(s), &pasid_test_ops, s,
                          TYPE_PASID_TEST, PASID_TEST_BAR_SIZE);
    pci_register_bar(pdev, 0, PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->bar);
}

static void pasid_test_exit(PCIDevice *pdev)
{
    PasidTestState *s = PASID_TEST(pdev);
    int i;

    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        timer_free(s->queue[i].timer);
    }
    if (pdev->exp.exp_cap) {
        pcie_cap_exit(pdev);
    }
    msi_uninit(pdev);
}

static void pasid_test_instance_init(Object *obj)
{
    PCI_DEVICE(obj)->cap_present |= QEMU_PCI_CAP_EXPRESS;
}

static const Property pasid_test_properties[] = {
    DEFINE_PROP_BOOL("pasid", PasidTestState, has_pasid, true),
    DEFINE_PROP_UINT8("pasid-bits", PasidTestState, pasid_bits,
                      PCI_EXT_CAP_PASID_MAX_WIDTH),
    DEFINE_PROP_BOOL("ats", PasidTestState, has_ats, true),
    DEFINE_PROP_BOOL("pri", PasidTestState, has_pri, true),
};

static const VMStateDescription pasid_test_vmstate = {
    .name = TYPE_PASID_TEST,
    .unmigratable = 1,
};

static void pasid_test_class_init(ObjectClass *klass, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    pc->realize = pasid_test_realize;
    pc->exit = pasid_test_exit;
    pc->config_write = pasid_test_config_write;
    pc->vendor_id = PASID_TEST_VENDOR_ID;
    pc->device_id = PASID_TEST_DEVICE_ID;
    pc->revision = 1;
    pc->class_id = PCI_CLASS_OTHERS;
    rc->phases.hold = pasid_test_reset_hold;
    dc->desc = "endpoint that does DMA with PASIDs, for tests";
    dc->vmsd = &pasid_test_vmstate;
    device_class_set_props(dc, pasid_test_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo pasid_test_info = {
    .name = TYPE_PASID_TEST,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(PasidTestState),
    .instance_init = pasid_test_instance_init,
    .class_init = pasid_test_class_init,
    .interfaces = (const InterfaceInfo[]) {
        { INTERFACE_PCIE_DEVICE },
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { }
    },
};

static void pasid_test_register_types(void)
{
    type_register_static(&pasid_test_info);
}

type_init(pasid_test_register_types)
