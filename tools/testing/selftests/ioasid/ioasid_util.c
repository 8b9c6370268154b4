// SPDX-License-Identifier: GPL-2.0
/*
 * What the ioasid selftests share, see ioasid_util.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ioasid_util.h"

__u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

bool keep_waiting(__u64 start)
{
	if (now_ms() - start > DEADLINE_MS)
		return false;
	usleep(1000);
	return true;
}

int do_ioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

/* /dev/ioasid */

int ioasid_open(void)
{
	int fd = open(IOASID_PATH, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int ioasid_info(int fd, struct ioasid_cmd_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	return do_ioctl(fd, IOASID_INFO, info);
}

int ioasid_alloc(int fd, __u32 min, __u32 max)
{
	struct ioasid_cmd_alloc cmd = {
		.size = sizeof(cmd),
		.min = min,
		.max = max,
	};
	int ret = do_ioctl(fd, IOASID_ALLOC, &cmd);

	return ret ?: (int)cmd.out_id;
}

int ioasid_free(int fd, __u32 id)
{
	struct ioasid_cmd_free cmd = { .size = sizeof(cmd), .id = id };

	return do_ioctl(fd, IOASID_FREE, &cmd);
}

int ioasid_query(int fd, __u32 id, struct ioasid_cmd_query *query)
{
	memset(query, 0, sizeof(*query));
	query->size = sizeof(*query);
	query->id = id;
	return do_ioctl(fd, IOASID_QUERY, query);
}

int ioasid_reader(int fd)
{
	struct ioasid_cmd_reader cmd = { .size = sizeof(cmd) };

	return do_ioctl(fd, IOASID_READER, &cmd) ?: cmd.out_fd;
}

int pasid_bits_of(int fd)
{
	struct ioasid_cmd_info info;

	return ioasid_info(fd, &info) ?: (int)info.out_pasid_bits;
}

int quota_of(int fd)
{
	struct ioasid_cmd_info info;

	return ioasid_info(fd, &info) ?: (int)info.out_quota;
}

int active_of(int fd)
{
	struct ioasid_cmd_info info;

	return ioasid_info(fd, &info) ?: (int)info.out_active;
}

int parked_of(int fd)
{
	struct ioasid_cmd_info info;

	return ioasid_info(fd, &info) ?: (int)info.out_parked;
}

int state_of(int fd, __u32 id)
{
	struct ioasid_cmd_query query;

	return ioasid_query(fd, id, &query) ?: (int)query.out_state;
}

int attachments_of(int fd, __u32 id)
{
	struct ioasid_cmd_query query;

	return ioasid_query(fd, id, &query) ?: (int)query.out_attachments;
}

int read_file(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t nr;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while ((nr = read(fd, buf + len, size - 1 - len)) > 0)
		len += nr;
	if (nr < 0)
		nr = -errno;
	buf[len] = '\0';
	close(fd);
	return nr;
}

int write_file(const char *path, const char *text)
{
	int fd, len = strlen(text), ret = 0;
	ssize_t nr;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	nr = write(fd, text, len);
	if (nr != len)
		ret = nr < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

const char *not_in_order(const char *text, const char *const *words)
{
	for (; *words; words++) {
		text = strstr(text, *words);
		if (!text)
			return *words;
		text += strlen(*words);
	}
	return NULL;
}

int module_load(const char *name, const char *params)
{
	char path[64];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "test_modules/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, params, 0))
		ret = -errno;
	close(fd);
	return ret;
}

int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

int param_get(const char *path)
{
	char buf[32];
	int ret;

	ret = read_file(path, buf, sizeof(buf));
	return ret ?: atoi(buf);
}

int param_set(const char *path, unsigned int value)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%u\n", value);
	return write_file(path, buf);
}

int ioasid_try(__u32 id)
{
	int fd, ret;

	fd = ioasid_open();
	if (fd < 0)
		return fd;
	ret = ioasid_alloc(fd, id, id);
	close(fd);
	return ret < 0 ? ret : 0;
}

/* Count the lines of debugfs' list that match, and keep the last of them */
static int list_read(const __u32 *id, const char *state, char *line, size_t size)
{
	char buf[1024], word[16];
	unsigned int line_id;
	int nr = 0;
	FILE *f;

	f = fopen(IOASID_LIST, "re");
	if (!f)
		return -errno;
	while (fgets(buf, sizeof(buf), f)) {
		if (sscanf(buf, "%u %15s", &line_id, word) != 2) {
			nr = -EPROTO;
			break;
		}
		if (id && line_id != *id)
			continue;
		if (state && strcmp(word, state))
			continue;
		nr++;
		if (line) {
			buf[strcspn(buf, "\n")] = '\0';
			snprintf(line, size, "%s", buf);
		}
	}
	fclose(f);
	return nr;
}

int ioasid_count(const char *state)
{
	return list_read(NULL, state, NULL, 0);
}

int ioasid_line(__u32 id, char *line, size_t size)
{
	int nr = list_read(&id, NULL, line, size);

	if (nr < 0)
		return nr;
	return nr ? 0 : -ENOENT;
}

/* Files over sockets */

#define MAX_FDS 8

int send_fds(int sock, const int *fds, int nr)
{
	char control[CMSG_SPACE(MAX_FDS * sizeof(int))] = {};
	struct iovec iov = { .iov_base = "f", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

int recv_fds(int sock, int *fds, int nr)
{
	char control[CMSG_SPACE(MAX_FDS * sizeof(int))] = {};
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	ssize_t ret;

	ret = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (ret < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!ret || !cmsg || cmsg->cmsg_type != SCM_RIGHTS ||
	    cmsg->cmsg_len != CMSG_LEN(nr * sizeof(int)))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(cmsg), nr * sizeof(int));
	return 0;
}

/* Processes */

int fork_child(void)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (!child)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

int reap(int child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

void kill_and_reap(int child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

int wait_byte(int fd)
{
	char byte;
	ssize_t nr = read(fd, &byte, 1);

	if (nr < 0)
		return -errno;
	return nr ? 0 : -EPIPE;
}

int send_byte(int fd)
{
	ssize_t nr = write(fd, "", 1);

	if (nr < 0)
		return -errno;
	return nr ? 0 : -EIO;
}

/* The kernel log */

#define KMSG_PATH	"/dev/kmsg"
#define KMSG_OURS	"ioasid-test:"

int kmsg_open(void)
{
	int fd = open(KMSG_PATH, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (lseek(fd, 0, SEEK_END) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* "DMAR: ", "dmar_fault: 99 callbacks suppressed", anything about page requests */
static bool is_about_dma(const char *text)
{
	static const char *const words[] = {
		"dmar", "iopf", "page request", "page fault", "prq", "pasid", NULL
	};
	const char *const *word;

	for (word = words; *word; word++)
		if (strcasestr(text, *word))
			return true;
	return false;
}

int kmsg_read(int fd, struct kmsg_found *found)
{
	char record[2048], *text;
	ssize_t nr;

	memset(found, 0, sizeof(*found));
	for (;;) {
		nr = read(fd, record, sizeof(record) - 1);
		if (nr < 0 && errno == EINTR)
			continue;
		if (nr < 0)
			/* Lost records, -EPIPE, are an error as well */
			return errno == EAGAIN ? 0 : -errno;
		record[nr] = '\0';
		text = strchr(record, ';');
		if (!text || !strncmp(text + 1, KMSG_OURS, strlen(KMSG_OURS)))
			continue;
		text++;
		text[strcspn(text, "\n")] = '\0';
		if (!is_about_dma(text))
			continue;
		if (!found->nr++)
			snprintf(found->first, sizeof(found->first), "%.255s", text);
	}
}

int kmsg_expect(const char *bdf, const char *other)
{
	char what[64];

	snprintf(what, sizeof(what), "expect DMAR [%.15s] [%.15s]", bdf,
		 other ? other : "none");
	return kmsg_say(what);
}

int kmsg_say(const char *what)
{
	char line[128];
	int fd, len, ret = 0;
	ssize_t nr;

	fd = open(KMSG_PATH, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* One write is one record. Not dprintf(), which tries to seek */
	len = snprintf(line, sizeof(line), KMSG_OURS " %s\n", what);
	nr = write(fd, line, len);
	if (nr != len)
		ret = nr < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}
