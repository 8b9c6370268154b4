/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_LINUX_RWSEM_H
#define _IOASID_LINUX_RWSEM_H

#include <pthread.h>

struct rw_semaphore {
	pthread_rwlock_t lock;
};

#define DECLARE_RWSEM(x)						\
	struct rw_semaphore x = { .lock = PTHREAD_RWLOCK_INITIALIZER }

void down_read(struct rw_semaphore *sem);
void up_read(struct rw_semaphore *sem);
void down_write(struct rw_semaphore *sem);
void up_write(struct rw_semaphore *sem);

#endif /* _IOASID_LINUX_RWSEM_H */
