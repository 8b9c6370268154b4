/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the ioasid selftests share: the user API as functions, debugfs, the
 * kernel log.
 *
 * Functions return 0 or a value, or a negative errno. Nothing here judges: that
 * is for the tests.
 */
#ifndef IOASID_UTIL_H
#define IOASID_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/ioasid.h>
#include <linux/types.h>

#define IOASID_PATH	"/dev/ioasid"

/* The emulated machine may be very slow: what has not happened by then never will. */
#define DEADLINE_MS	120000

/* Sleep for a moment; false if DEADLINE_MS have passed since @start. */
__u64 now_ms(void);
bool keep_waiting(__u64 start);

/*
 * Wait until @cond holds; false if it did not.
 */
#define wait_for(cond)						\
({								\
	__u64 __start = now_ms();				\
	bool __ok;						\
								\
	while (!(__ok = !!(cond)) && keep_waiting(__start))	\
		;						\
	__ok;							\
})

/* /dev/ioasid */

int ioasid_open(void);
int ioasid_info(int fd, struct ioasid_cmd_info *info);
int ioasid_alloc(int fd, __u32 min, __u32 max);
int ioasid_free(int fd, __u32 id);
int ioasid_query(int fd, __u32 id, struct ioasid_cmd_query *query);
int ioasid_reader(int fd);

/* What INFO says of a set */
int pasid_bits_of(int fd);
int quota_of(int fd);
int active_of(int fd);
int parked_of(int fd);
/* What QUERY says of an IOASID */
int state_of(int fd, __u32 id);
int attachments_of(int fd, __u32 id);

/* The quota of sets that are opened from now on */
#define PARAM_QUOTA	"/sys/module/ioasid_user/parameters/quota"

int param_get(const char *path);
int param_set(const char *path, unsigned int value);

/* Whether a new owner can allocate the id: 0, or a negative errno */
int ioasid_try(__u32 id);

#define IOASID_DEBUGFS	"/sys/kernel/debug/iommu/ioasid"
#define IOASID_LIST	IOASID_DEBUGFS "/ioasids"

/*
 * debugfs' list of all IOASIDs: how many lines have the word @state ("active",
 * "parked", or NULL for any), and the line of one IOASID.
 */
int ioasid_count(const char *state);
int ioasid_line(__u32 id, char *line, size_t size);

/* An ioctl whose result is 0 or a value, or -errno */
int do_ioctl(int fd, unsigned long cmd, void *arg);

/* A file, or as much of it as fits, as a string */
int read_file(const char *path, char *buf, size_t size);
int write_file(const char *path, const char *text);

/* The first of @words that is not in @text behind the ones before; NULL: all are */
const char *not_in_order(const char *text, const char *const *words);

/* A module of test_modules/, with its parameters */
int module_load(const char *name, const char *params);
int module_unload(const char *name);

/* Files over sockets */

int send_fds(int sock, const int *fds, int nr);
int recv_fds(int sock, int *fds, int nr);

/* Processes */

/* A child that dies with its parent */
int fork_child(void);
/* The exit status of the child, or -1 */
int reap(int child);
void kill_and_reap(int child);

/* Wait for a byte from the other end of a pipe or socket, and send one */
int wait_byte(int fd);
int send_byte(int fd);

/* The kernel log, from kmsg_open() on */

struct kmsg_found {
	int nr;			/* lines about DMA or page requests */
	char first[256];	/* the first of them */
};

int kmsg_open(void);
int kmsg_read(int fd, struct kmsg_found *found);
int kmsg_say(const char *what);
/* Until kmsg_say(KMSG_END), faults of the device, or of two, are not reported as splats */
int kmsg_expect(const char *bdf, const char *other);
#define KMSG_END	"end expect"

#endif /* IOASID_UTIL_H */
