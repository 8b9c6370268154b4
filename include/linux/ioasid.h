/* SPDX-License-Identifier: GPL-2.0 */
/*
 * IOASIDs: reference-counted objects whose ids serve as PASIDs.
 *
 * See Documentation/driver-api/ioasid.rst for the life cycle and the rules.
 */
#ifndef __LINUX_IOASID_H
#define __LINUX_IOASID_H

#include <linux/bits.h>
#include <linux/err.h>
#include <linux/types.h>

struct device;
struct ioasid;
struct ioasid_attachment;
struct iommu_attach_handle;
struct iommu_domain;
struct ref_tracker;

#define IOASID_BITS	20
#define IOASID_MIN	1U		/* 0 is the DMA without PASID */
#define IOASID_MAX	(BIT(IOASID_BITS) - 1)

/* For holders. Owners are in drivers/iommu, see ioasid-priv.h. */

#ifdef CONFIG_IOASID
struct ioasid *ioasid_get(struct ioasid *ioasid);
void ioasid_put(struct ioasid *ioasid);
unsigned int ioasid_id(const struct ioasid *ioasid);

struct ioasid_attachment *ioasid_attach(struct ioasid *ioasid,
					struct device *dev,
					struct iommu_domain *domain,
					unsigned int pasid,
					struct iommu_attach_handle *handle,
					const char *holder);
int ioasid_replace(struct ioasid_attachment *attachment,
		   struct iommu_domain *domain,
		   struct iommu_attach_handle *handle);
bool ioasid_is_parked(const struct ioasid *ioasid);
void ioasid_detach(struct ioasid_attachment *attachment);
#else
static inline struct ioasid *ioasid_get(struct ioasid *ioasid)
{
	return ioasid;
}

static inline void ioasid_put(struct ioasid *ioasid) {}

static inline struct ioasid_attachment *
ioasid_attach(struct ioasid *ioasid, struct device *dev,
	      struct iommu_domain *domain, unsigned int pasid,
	      struct iommu_attach_handle *handle, const char *holder)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline int ioasid_replace(struct ioasid_attachment *attachment,
				 struct iommu_domain *domain,
				 struct iommu_attach_handle *handle)
{
	return -EOPNOTSUPP;
}

static inline bool ioasid_is_parked(const struct ioasid *ioasid)
{
	return false;
}

static inline void ioasid_detach(struct ioasid_attachment *attachment) {}
#endif

/**
 * struct ioasid_tracker - Who has a reference, for debugfs
 *
 * Part of the holder's own structure. Takes no space without
 * CONFIG_IOASID_REF_TRACKER.
 */
struct ioasid_tracker {
	/* private: */
#ifdef CONFIG_IOASID_REF_TRACKER
	struct list_head node;
	struct ref_tracker *ref;
	const char *holder;
	struct device *dev;
	pid_t pid;
	char comm[16];
#endif
};

#ifdef CONFIG_IOASID_REF_TRACKER
void ioasid_track(struct ioasid *ioasid, struct ioasid_tracker *tracker,
		  const char *holder, struct device *dev);
void ioasid_untrack(struct ioasid *ioasid, struct ioasid_tracker *tracker);
#else
static inline void ioasid_track(struct ioasid *ioasid,
				struct ioasid_tracker *tracker,
				const char *holder, struct device *dev)
{
}

static inline void ioasid_untrack(struct ioasid *ioasid,
				  struct ioasid_tracker *tracker)
{
}
#endif

#ifdef CONFIG_IOASID_USER
struct ioasid *ioasid_find_by_fd(int fd, unsigned int id);
#else
static inline struct ioasid *ioasid_find_by_fd(int fd, unsigned int id)
{
	return ERR_PTR(-EOPNOTSUPP);
}
#endif

#endif /* __LINUX_IOASID_H */
