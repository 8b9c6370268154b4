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
 * - Bus Master Enable, the power state (with pm=on), the PASID capability's
 *   enable bit and width stop DMA with the next transfer. For requests with
 *   PASID, but for the power state, this is up to
 *   pci_device_iommu_pasid_address_space(), which is asked for each transfer.
 * - Transfers are done by timers, never from within a register access. A
 *   device that does DMA to its own registers can do no worse than to stop
 *   itself.
 * - A translation of the ATC is used without asking the IOMMU, as hardware
 *   does: what keeps it from a page is that the translation is dropped. The
 *   IOMMU's invalidation requests do so from within its notifier, before it
 *   looks at what comes after them. Each address space of the device has a
 *   notifier from its first translation on.
 * - A response to a page request only arms the timer: it comes from within a
 *   register access of the IOMMU, or of the page request itself if the IOMMU
 *   answers by itself.
 * - A function-level reset and a conventional reset stop all queues, clear the
 *   enable bits of PASID, ATS and PRI, and empty the ATC.
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
#define PASID_TEST_CTRL_FLAGS   \
    (PASID_TEST_CTRL_REPEAT | PASID_TEST_CTRL_IRQ | \
     PASID_TEST_CTRL_ATS | PASID_TEST_CTRL_PRI | PASID_TEST_CTRL_GROUP)
#define PASID_TEST_MSI_VECTORS  8
#define PASID_TEST_PAGE         4096ULL
#define PASID_TEST_ATC_SIZE     64
#define PASID_TEST_PAGE_REQS    32

/* No name in pci_regs.h: the function knows invalidations of all PASIDs */
#define PASID_TEST_ATS_GLOBAL   0x40

/* A page of the ATC, unused if it gives no permission */
typedef struct PasidTestTranslation {
    uint32_t pasid;             /* PCI_NO_PASID if there is none */
    uint64_t page;
    uint64_t addr;
    IOMMUAccessFlags perm;
} PasidTestTranslation;

/* An address space that the device has had translations of, or asked for */
typedef struct PasidTestSpace {
    PasidTestState *dev;
    uint32_t pasid;
    IOMMUNotifier inval;
    IOMMUPRINotifier response;
    bool has_inval;
    bool has_response;
} PasidTestSpace;

/* How a transfer ends, or does not end yet */
typedef enum PasidTestOutcome {
    PASID_TEST_OK,
    PASID_TEST_FAIL,
    PASID_TEST_WAIT,            /* the response to a page request goes on */
    PASID_TEST_LATER,           /* too many page requests are out */
} PasidTestOutcome;

/* What is known of the queue's page request */
typedef enum PasidTestPRI {
    PASID_TEST_PRI_NONE,
    PASID_TEST_PRI_SENT,
    PASID_TEST_PRI_DENIED,      /* the timer will count the failure */
} PasidTestPRI;

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

    PasidTestPRI pri;
    uint16_t pri_index;
    uint64_t pri_addr;

    uint64_t atc_hits;
    uint64_t ats_requests;
    uint64_t ats_refused;
    uint64_t pri_requests;
    uint64_t pri_success;
    uint64_t pri_invalid;
    uint64_t pri_failure;
} PasidTestQueue;

struct PasidTestState {
    PCIDevice parent_obj;

    MemoryRegion bar;
    PasidTestQueue queue[PASID_TEST_NR_QUEUES];

    uint32_t flr_time;          /* ms */
    int64_t flr_until;          /* ns, of pasid_test_clock() */

    PasidTestTranslation atc[PASID_TEST_ATC_SIZE];
    unsigned atc_next;
    uint16_t pri_next;
    GHashTable *spaces;         /* PasidTestSpace, by PASID */
    uint64_t invalidations;
    uint64_t stray_responses;

    bool has_pasid;
    bool has_ats;
    bool has_pri;
    bool has_pm;
    uint8_t pasid_bits;
};

static uint64_t pasid_test_clock(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static bool pasid_test_busy(PasidTestQueue *q)
{
    return q->ctrl & PASID_TEST_CTRL_RUN;
}

/* The PASID of the queue's requests, PCI_NO_PASID if they have none */
static uint32_t pasid_test_pasid(PasidTestQueue *q)
{
    return q->pasid & PASID_TEST_PASID_VALID ?
           q->pasid & PASID_TEST_PASID_MASK : PCI_NO_PASID;
}

static PasidTestSpace *pasid_test_space(PasidTestState *s, uint32_t pasid)
{
    gpointer key = GUINT_TO_POINTER(pasid);
    PasidTestSpace *space = g_hash_table_lookup(s->spaces, key);

    if (!space) {
        space = g_new0(PasidTestSpace, 1);
        space->dev = s;
        space->pasid = pasid;
        g_hash_table_insert(s->spaces, key, space);
    }
    return space;
}

/* --- The translation cache (ATC) ---------------------------------------- */

static PasidTestTranslation *pasid_test_atc_find(PasidTestState *s,
                                                 uint32_t pasid, uint64_t page)
{
    int i;

    for (i = 0; i < PASID_TEST_ATC_SIZE; i++) {
        PasidTestTranslation *t = &s->atc[i];

        if (t->perm != IOMMU_NONE && t->pasid == pasid && t->page == page) {
            return t;
        }
    }
    return NULL;
}

static void pasid_test_atc_empty(PasidTestState *s)
{
    memset(s->atc, 0, sizeof(s->atc));
}

/* An invalidation request of the IOMMU */
static void pasid_test_invalidate(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    PasidTestSpace *space = n->opaque;
    PasidTestState *s = space->dev;
    uint64_t last = entry->iova + entry->addr_mask;
    int i;

    s->invalidations++;
    for (i = 0; i < PASID_TEST_ATC_SIZE; i++) {
        PasidTestTranslation *t = &s->atc[i];

        if (t->pasid == space->pasid && t->page <= last &&
            t->page + (PASID_TEST_PAGE - 1) >= entry->iova) {
            t->perm = IOMMU_NONE;
        }
    }
}

/* Returns what may be done with the page, and where it is */
static IOMMUAccessFlags pasid_test_ask(PasidTestQueue *q, uint64_t page,
                                       bool is_write, uint64_t *addr)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);
    IOMMUTLBEntry entry;
    uint32_t errors;

    q->ats_requests++;
    if (pci_ats_request_translation(pdev, pasid_test_pasid(q), false, false,
                                    page, PASID_TEST_PAGE, !is_write, &entry,
                                    1, &errors) != 1) {
        return IOMMU_NONE;
    }
    *addr = entry.translated_addr + (page & entry.addr_mask);
    /* The answer to a request for reading does not permit to write */
    return entry.perm & (is_write ? IOMMU_RW : IOMMU_RO);
}

/* Returns false if the IOMMU does not let the queue access the page */
static bool pasid_test_translate(PasidTestQueue *q, uint64_t page,
                                 bool is_write, uint64_t *addr)
{
    PasidTestState *s = q->dev;
    IOMMUAccessFlags need = is_write ? IOMMU_WO : IOMMU_RO;
    uint32_t pasid = pasid_test_pasid(q);
    PasidTestTranslation *t = pasid_test_atc_find(s, pasid, page);
    PasidTestSpace *space;
    IOMMUAccessFlags perm;

    if (t && t->perm & need) {
        q->atc_hits++;
        *addr = t->addr;
        return true;
    }

    perm = pasid_test_ask(q, page, is_write, addr);
    if (!(perm & need)) {
        q->ats_refused++;
        return false;
    }

    space = pasid_test_space(s, pasid);
    if (!space->has_inval) {
        PCIDevice *pdev = PCI_DEVICE(s);

        if (pci_iommu_init_iotlb_notifier(pdev, &space->inval,
                                          pasid_test_invalidate, space) ||
            pci_iommu_register_iotlb_notifier(pdev, pasid, &space->inval)) {
            /* What cannot be invalidated must not be cached */
            return true;
        }
        space->has_inval = true;
    }
    if (!t) {
        t = &s->atc[s->atc_next++ % PASID_TEST_ATC_SIZE];
    }
    *t = (PasidTestTranslation) {
        .pasid = pasid, .page = page, .addr = *addr, .perm = perm,
    };
    return true;
}

/* --- Page requests (PRI) ------------------------------------------------ */

static unsigned pasid_test_waiting(PasidTestState *s)
{
    unsigned n = 0;
    int i;

    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        n += s->queue[i].pri == PASID_TEST_PRI_SENT;
    }
    return n;
}

/* Stopped says that PRI is disabled, and no response is waited for */
static void pasid_test_update_stopped(PasidTestState *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    uint8_t *status = pdev->config + pdev->exp.pri_cap + PCI_PRI_STATUS;

    if (!pdev->exp.pri_cap) {
        return;
    }
    if (pcie_pri_enabled(pdev) || pasid_test_waiting(s)) {
        pci_word_test_and_clear_mask(status, PCI_PRI_STATUS_STOPPED);
    } else {
        pci_word_test_and_set_mask(status, PCI_PRI_STATUS_STOPPED);
    }
}

/* A response to it, should one come, is a stray one */
static void pasid_test_forget_request(PasidTestQueue *q)
{
    q->pri = PASID_TEST_PRI_NONE;
    pasid_test_update_stopped(q->dev);
}

/* The page is not to be had: the timer ends the transfer */
static void pasid_test_deny(PasidTestQueue *q)
{
    q->pri = PASID_TEST_PRI_DENIED;
    timer_mod(q->timer, pasid_test_clock());
}

static void pasid_test_answer(PasidTestQueue *q, IOMMUPRIResponseCode code)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);

    switch (code) {
    case IOMMU_PRI_RESP_SUCCESS:
        q->pri_success++;
        q->pri = PASID_TEST_PRI_NONE;
        timer_mod(q->timer,
                  pasid_test_clock() + q->period * (uint64_t)SCALE_US);
        break;
    case IOMMU_PRI_RESP_INVALID_REQUEST:
        q->pri_invalid++;
        pasid_test_deny(q);
        break;
    default:
        q->pri_failure++;
        pasid_test_deny(q);
        pci_word_test_and_set_mask(pdev->config + pdev->exp.pri_cap +
                                   PCI_PRI_STATUS, PCI_PRI_STATUS_RF);
        break;
    }
    pasid_test_update_stopped(q->dev);
}

/* A page group response, of software or of the IOMMU itself */
static void pasid_test_response(IOMMUPRINotifier *n, IOMMUPRIResponse *resp)
{
    PasidTestSpace *space = container_of(n, PasidTestSpace, response);
    PasidTestState *s = space->dev;
    int i;

    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        PasidTestQueue *q = &s->queue[i];

        if (q->pri == PASID_TEST_PRI_SENT && q->pri_index == resp->prgi &&
            pasid_test_pasid(q) == space->pasid) {
            pasid_test_answer(q, resp->response_code);
            return;
        }
    }
    s->stray_responses++;
}

/* The translation was refused: ask for the page, if possible */
static PasidTestOutcome pasid_test_request_page(PasidTestQueue *q,
                                                uint64_t addr, bool is_write)
{
    PasidTestState *s = q->dev;
    PCIDevice *pdev = PCI_DEVICE(s);
    uint32_t pasid = pasid_test_pasid(q);
    PasidTestSpace *space;
    bool last = !(q->ctrl & PASID_TEST_CTRL_GROUP);

    if (!pasid_test_busy(q) || !(q->ctrl & PASID_TEST_CTRL_PRI) ||
        !pcie_pri_enabled(pdev) ||
        pci_get_word(pdev->config + pdev->exp.pri_cap + PCI_PRI_STATUS) &
        PCI_PRI_STATUS_RF) {
        return PASID_TEST_FAIL;
    }
    if (pasid_test_waiting(s) >= pcie_pri_get_req_alloc(pdev)) {
        return PASID_TEST_LATER;
    }

    space = pasid_test_space(s, pasid);
    if (!space->has_response) {
        space->response.notify = pasid_test_response;
        if (pci_pri_register_notifier(pdev, pasid, &space->response)) {
            return PASID_TEST_FAIL;
        }
        space->has_response = true;
    }

    /* The response may come before pci_pri_request_page() returns */
    q->pri = PASID_TEST_PRI_SENT;
    q->pri_index = s->pri_next++ & PCI_PRI_PRGI_MASK;
    q->pri_addr = addr;
    for (;; last = true) {
        q->pri_requests++;
        if (pci_pri_request_page(pdev, pasid, false, false,
                                 addr & ~(PASID_TEST_PAGE - 1), last,
                                 q->pri_index, !is_write, is_write)) {
            q->pri_requests--;
            pasid_test_forget_request(q);
            return PASID_TEST_FAIL;
        }
        if (last) {
            return PASID_TEST_WAIT;
        }
    }
}

/* --- Transfers ---------------------------------------------------------- */

/* In D3hot it may make no requests; its BAR is the PCI core's to take away */
static bool pasid_test_sleeps(PCIDevice *pdev)
{
    return pdev->pm_cap &&
           pci_get_word(pdev->config + pdev->pm_cap + PCI_PM_CTRL) &
           PCI_PM_CTRL_STATE_MASK;
}

/* The address space of the queue's requests, NULL if none may be made */
static AddressSpace *pasid_test_as(PasidTestQueue *q)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);

    if (pasid_test_sleeps(pdev)) {
        return NULL;
    }
    if (q->pasid & PASID_TEST_PASID_VALID) {
        return pci_device_iommu_pasid_address_space(pdev,
                                        q->pasid & PASID_TEST_PASID_MASK);
    }
    return pdev->is_master ? pci_get_address_space(pdev) : NULL;
}

/* Returns false if it was not accessed */
static bool pasid_test_rw(AddressSpace *as, uint64_t addr, uint8_t *buf,
                          uint32_t len, bool is_write)
{
    return address_space_access_valid(as, addr, len, is_write,
                                      MEMTXATTRS_UNSPECIFIED) &&
           address_space_rw(as, addr, MEMTXATTRS_UNSPECIFIED, buf, len,
                            is_write) == MEMTX_OK;
}

/* Accesses it all, or says at which address it ended */
static PasidTestOutcome pasid_test_access(PasidTestQueue *q, AddressSpace *as,
                                          uint64_t addr, uint8_t *buf,
                                          uint32_t len, bool is_write,
                                          uint64_t *fail_addr)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);

    while (len) {
        uint64_t offset = addr & (PASID_TEST_PAGE - 1);
        uint64_t page = addr - offset;
        uint32_t part = MIN(len, PASID_TEST_PAGE - offset);
        bool ok;

        *fail_addr = addr;
        if (!as) {
            return PASID_TEST_FAIL;
        }
        if (q->ctrl & PASID_TEST_CTRL_ATS && pcie_ats_enabled(pdev)) {
            uint64_t translated;

            if (!pasid_test_translate(q, page, is_write, &translated)) {
                return pasid_test_request_page(q, addr, is_write);
            }
            ok = pasid_test_rw(&address_space_memory, translated + offset,
                               buf, part, is_write);
        } else {
            ok = pasid_test_rw(as, addr, buf, part, is_write);
        }
        if (!ok) {
            return PASID_TEST_FAIL;
        }
        addr += part;
        buf += part;
        len -= part;
    }
    return PASID_TEST_OK;
}

static PasidTestOutcome pasid_test_transfer(PasidTestQueue *q,
                                            uint64_t *result,
                                            uint64_t *fail_addr)
{
    AddressSpace *as = pasid_test_as(q);
    uint8_t buf[PASID_TEST_MAX_LEN];
    PasidTestOutcome outcome;
    uint32_t i;

    *fail_addr = q->dir == PASID_TEST_DIR_FILL ? q->dst : q->src;
    if (q->len < 8 || q->len > sizeof(buf) || q->len % 8) {
        return PASID_TEST_FAIL;
    }

    switch (q->dir) {
    case PASID_TEST_DIR_FILL:
        for (i = 0; i < q->len; i += 8) {
            stq_le_p(buf + i, q->pattern + q->good);
        }
        break;
    case PASID_TEST_DIR_READ:
    case PASID_TEST_DIR_COPY:
        outcome = pasid_test_access(q, as, q->src, buf, q->len, false,
                                    fail_addr);
        if (outcome != PASID_TEST_OK) {
            return outcome;
        }
        *result = 0;
        for (i = 0; i < q->len; i += 8) {
            *result ^= ldq_le_p(buf + i);
        }
        break;
    default:
        return PASID_TEST_FAIL;
    }

    if (q->dir == PASID_TEST_DIR_READ) {
        return PASID_TEST_OK;
    }
    return pasid_test_access(q, as, q->dst, buf, q->len, true, fail_addr);
}

/* The transfer, or the last of the transfers, has ended */
static void pasid_test_done(PasidTestQueue *q)
{
    PCIDevice *pdev = PCI_DEVICE(q->dev);

    timer_del(q->timer);
    pasid_test_forget_request(q);
    q->ctrl &= ~PASID_TEST_CTRL_RUN;
    q->status |= PASID_TEST_STATUS_DONE;
    if (q->ctrl & PASID_TEST_CTRL_IRQ && msi_enabled(pdev)) {
        msi_notify(pdev, q->vector % msi_nr_vectors_allocated(pdev));
    }
}

static void pasid_test_timer(void *opaque)
{
    PasidTestQueue *q = opaque;
    uint64_t result = 0, fail_addr = q->pri_addr;
    PasidTestOutcome outcome = PASID_TEST_FAIL;
    uint64_t now;

    if (q->pri != PASID_TEST_PRI_DENIED) {
        outcome = pasid_test_transfer(q, &result, &fail_addr);
    }
    now = pasid_test_clock();

    if (!pasid_test_busy(q)) {
        /* It wrote to its own registers and has stopped itself */
        return;
    }

    switch (outcome) {
    case PASID_TEST_WAIT:
        return;
    case PASID_TEST_LATER:
        timer_mod(q->timer, now + q->period * (uint64_t)SCALE_US);
        return;
    case PASID_TEST_OK:
        q->good++;
        q->last_good_time = now;
        q->result = result;
        break;
    case PASID_TEST_FAIL:
        pasid_test_forget_request(q);
        if (!q->failed) {
            q->first_fail_time = now;
            q->first_fail_good = q->good;
            q->first_fail_addr = fail_addr;
        }
        q->failed++;
        q->status |= PASID_TEST_STATUS_ERROR;
        break;
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
    q->atc_hits = 0;
    q->ats_requests = 0;
    q->ats_refused = 0;
    q->pri_requests = 0;
    q->pri_success = 0;
    q->pri_invalid = 0;
    q->pri_failure = 0;
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

static void pasid_test_reset(PasidTestState *s)
{
    int i;

    pasid_test_atc_empty(s);
    s->invalidations = 0;
    s->stray_responses = 0;

    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        PasidTestQueue *q = &s->queue[i];

        timer_del(q->timer);
        pasid_test_clear(q);
        pasid_test_forget_request(q);
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
        return q->status | (pasid_test_busy(q) ? PASID_TEST_STATUS_BUSY : 0) |
               (q->pri == PASID_TEST_PRI_SENT ? PASID_TEST_STATUS_WAITING : 0);
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
    case PASID_TEST_Q_ATC_HITS:
        return half(q->atc_hits, reg);
    case PASID_TEST_Q_ATS_REQUESTS:
        return half(q->ats_requests, reg);
    case PASID_TEST_Q_ATS_REFUSED:
        return half(q->ats_refused, reg);
    case PASID_TEST_Q_PRI_REQUESTS:
        return half(q->pri_requests, reg);
    case PASID_TEST_Q_PRI_SUCCESS:
        return half(q->pri_success, reg);
    case PASID_TEST_Q_PRI_INVALID:
        return half(q->pri_invalid, reg);
    case PASID_TEST_Q_PRI_FAILURE:
        return half(q->pri_failure, reg);
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
    case PASID_TEST_INVALIDATIONS:
    case PASID_TEST_INVALIDATIONS + 4:
        return half(s->invalidations, addr);
    case PASID_TEST_STRAY_RESPONSES:
    case PASID_TEST_STRAY_RESPONSES + 4:
        return half(s->stray_responses, addr);
    case PASID_TEST_FLR_TIME:
        return s->flr_time;
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
        pasid_test_reset(s);
    } else if (addr == PASID_TEST_FLR_TIME) {
        s->flr_time = MIN(val, PASID_TEST_FLR_TIME_MAX);
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

/* A reset of PRI, which takes no time: the responses will not come */
static void pasid_test_reset_pri(PasidTestState *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    int i;

    pci_word_test_and_clear_mask(pdev->config + pdev->exp.pri_cap +
                                 PCI_PRI_STATUS,
                                 PCI_PRI_STATUS_RF | PCI_PRI_STATUS_UPRGI);
    for (i = 0; i < PASID_TEST_NR_QUEUES; i++) {
        if (s->queue[i].pri == PASID_TEST_PRI_SENT) {
            pasid_test_deny(&s->queue[i]);
        }
    }
}

/* The control register has been written: Reset works while PRI is disabled */
static void pasid_test_update_pri(PasidTestState *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    uint8_t *ctrl = pdev->config + pdev->exp.pri_cap + PCI_PRI_CTRL;

    if (pci_word_test_and_clear_mask(ctrl, PCI_PRI_CTRL_RESET) &&
        !pcie_pri_enabled(pdev)) {
        pasid_test_reset_pri(s);
    }
    pasid_test_update_stopped(s);
}

/* A device that is slow to come back from a function-level reset */
static bool pasid_test_in_flr(PasidTestState *s)
{
    return pasid_test_clock() < s->flr_until;
}

static uint32_t pasid_test_config_read(PCIDevice *pdev, uint32_t addr, int len)
{
    if (pasid_test_in_flr(PASID_TEST(pdev))) {
        /* Request Retry Status, as a root port shows it to software */
        uint32_t val = addr == PCI_VENDOR_ID ? 0xffff0001 : UINT32_MAX;

        return val & MAKE_64BIT_MASK(0, 8 * len);
    }
    return pci_default_read_config(pdev, addr, len);
}

static void pasid_test_config_write(PCIDevice *pdev, uint32_t addr,
                                    uint32_t val, int len)
{
    PasidTestState *s = PASID_TEST(pdev);
    uint16_t ats = pdev->exp.ats_cap;
    uint16_t pri = pdev->exp.pri_cap;

    if (pasid_test_in_flr(s)) {
        return;
    }
    pci_default_write_config(pdev, addr, val, len);
    if (pdev->exp.exp_cap) {
        if (pci_get_word(pdev->config + pdev->exp.exp_cap + PCI_EXP_DEVCTL) &
            PCI_EXP_DEVCTL_BCR_FLR) {
            s->flr_until = pasid_test_clock() +
                           (int64_t)s->flr_time * SCALE_MS;
            s->flr_time = 0;
        }
        pcie_cap_flr_write_config(pdev, addr, val, len);
    }
    if (ats && ranges_overlap(addr, len, ats + PCI_ATS_CTRL, 2) &&
        !pcie_ats_enabled(pdev)) {
        pasid_test_atc_empty(s);
    }
    if (pri && ranges_overlap(addr, len, pri + PCI_PRI_CTRL, 2)) {
        pasid_test_update_pri(s);
    }
}

/* Conventional and function-level reset */
static void pasid_test_reset_hold(Object *obj, ResetType type)
{
    PasidTestState *s = PASID_TEST(obj);
    PCIDevice *pdev = PCI_DEVICE(obj);

    pasid_test_reset(s);

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
        pasid_test_update_pri(s);
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

    if (s->has_pm) {
        int pm = pci_pm_init(pdev, 0, errp);

        if (pm < 0) {
            msi_uninit(pdev);
            return;
        }
        pci_set_word(pdev->config + pm + PCI_PM_PMC, 3);
        pci_set_word(pdev->config + pm + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
        pci_set_word(pdev->wmask + pm + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
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
            pci_word_test_and_set_mask(pdev->config + cap + PCI_ATS_CAP,
                                       PASID_TEST_ATS_GLOBAL);
            cap += PCI_EXT_CAP_ATS_SIZEOF;
        }
        if (s->has_pri) {
            pcie_pri_init(pdev, cap, PASID_TEST_PAGE_REQS, true);
            cap += PCI_EXT_CAP_PRI_SIZEOF;
        }
        if (s->has_pasid) {
            pcie_pasid_init(pdev, cap, s->pasid_bits, false, false);
        }
    }

    s->spaces = g_hash_table_new_full(NULL, NULL, NULL, g_free);
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
    PasidTestSpace *space;
    GHashTableIter iter;
    int i;

    g_hash_table_iter_init(&iter, s->spaces);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&space)) {
        if (space->has_inval) {
            pci_iommu_unregister_iotlb_notifier(pdev, space->pasid,
                                                &space->inval);
        }
        if (space->has_response) {
            pci_pri_unregister_notifier(pdev, space->pasid);
        }
    }
    g_hash_table_destroy(s->spaces);

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
    DEFINE_PROP_BOOL("pm", PasidTestState, has_pm, false),
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
    pc->config_read = pasid_test_config_read;
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
