/* SPDX-License-Identifier: GPL-2.0 */
/* The tracepoints only read what the real ones read */
#ifndef _IOASID_TRACE_EVENTS_IOASID_H
#define _IOASID_TRACE_EVENTS_IOASID_H

static inline void trace_ioasid(const struct ioasid *ioasid)
{
	READ_ONCE(ioasid->set->id);
	READ_ONCE(ioasid->id);
	refcount_read(&ioasid->refs);
	READ_ONCE(ioasid->nr_attachments);
	READ_ONCE(ioasid->parked);
}

static inline void trace_attachment(const struct ioasid_attachment *attachment)
{
	trace_ioasid(attachment->ioasid);
	READ_ONCE(attachment->pasid);
	READ_ONCE(*attachment->holder);
}

#define trace_ioasid_alloc	trace_ioasid
#define trace_ioasid_free	trace_ioasid
#define trace_ioasid_park	trace_ioasid
#define trace_ioasid_get	trace_ioasid
#define trace_ioasid_put	trace_ioasid
#define trace_ioasid_recycle	trace_ioasid
#define trace_ioasid_attach	trace_attachment
#define trace_ioasid_detach	trace_attachment

#endif /* _IOASID_TRACE_EVENTS_IOASID_H */
