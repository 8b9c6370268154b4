/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The life of an IOASID. Each event has the id and the set, so that one life can
 * be followed until the id is recycled.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ioasid

#if !defined(_TRACE_IOASID_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_IOASID_H

#include <linux/device.h>
#include <linux/tracepoint.h>

struct ioasid;
struct ioasid_attachment;

/* refs: as they stand right after a get, right before a put */
DECLARE_EVENT_CLASS(ioasid,
	TP_PROTO(const struct ioasid *ioasid),
	TP_ARGS(ioasid),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, set)
		__field(unsigned int, refs)
		__field(unsigned int, attachments)
		__field(bool, parked)
	),
	TP_fast_assign(
		__entry->id = ioasid->id;
		__entry->set = ioasid->set->id;
		__entry->refs = refcount_read(&ioasid->refs);
		__entry->attachments = READ_ONCE(ioasid->nr_attachments);
		__entry->parked = READ_ONCE(ioasid->parked);
	),
	TP_printk("id=%u set=%u %s refs=%u attachments=%u", __entry->id,
		  __entry->set, __entry->parked ? "parked" : "active",
		  __entry->refs, __entry->attachments)
);

#define DEFINE_IOASID_EVENT(name)			\
DEFINE_EVENT(ioasid, name,				\
	TP_PROTO(const struct ioasid *ioasid),		\
	TP_ARGS(ioasid))

DEFINE_IOASID_EVENT(ioasid_alloc);
/* The owner frees the IOASID */
DEFINE_IOASID_EVENT(ioasid_free);
/* Its DMA is blocked */
DEFINE_IOASID_EVENT(ioasid_park);
DEFINE_IOASID_EVENT(ioasid_get);
DEFINE_IOASID_EVENT(ioasid_put);
/* The last reference is gone */
DEFINE_IOASID_EVENT(ioasid_recycle);

DECLARE_EVENT_CLASS(ioasid_attachment,
	TP_PROTO(const struct ioasid_attachment *attachment),
	TP_ARGS(attachment),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, set)
		__field(bool, parked)
		__string(dev, dev_name(attachment->dev))
		__field(unsigned int, pasid)
		__string(holder, attachment->holder)
	),
	TP_fast_assign(
		__entry->id = attachment->ioasid->id;
		__entry->set = attachment->ioasid->set->id;
		__entry->parked = READ_ONCE(attachment->ioasid->parked);
		__assign_str(dev);
		__entry->pasid = attachment->pasid;
		__assign_str(holder);
	),
	/* 0: DMA without PASID */
	TP_printk("id=%u set=%u %s dev=%s pasid=%u holder=%s", __entry->id,
		  __entry->set, __entry->parked ? "parked" : "active",
		  __get_str(dev), __entry->pasid, __get_str(holder))
);

DEFINE_EVENT(ioasid_attachment, ioasid_attach,
	TP_PROTO(const struct ioasid_attachment *attachment),
	TP_ARGS(attachment));

DEFINE_EVENT(ioasid_attachment, ioasid_detach,
	TP_PROTO(const struct ioasid_attachment *attachment),
	TP_ARGS(attachment));

#endif /* _TRACE_IOASID_H */

#include <trace/define_trace.h>
