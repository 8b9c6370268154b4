// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/ioasid without a device: sets, ids, quota, files that are passed on, and
 * malformed commands. Built for both ABIs.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "test_util.h"

/* Ids that nothing else on the machine uses */
#define BASE	ID
#define NOBODY	65534

#define PAUSE_ARG "--pause"

FIXTURE(node) {
};

FIXTURE_SETUP(node)
{
}

FIXTURE_TEARDOWN(node)
{
}

TEST_F(node, is_a_character_device_for_root_only)
{
	struct stat st;

	ASSERT_EQ(0, stat(IOASID_PATH, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_gid);
}

TEST_F(node, cannot_be_opened_by_others)
{
	pid_t child = fork_child();

	ASSERT_LE(0, child);
	if (!child) {
		if (setgid(NOBODY) || setuid(NOBODY))
			_exit(1);
		if (open(IOASID_PATH, O_RDWR) >= 0)
			_exit(2);
		_exit(errno == EACCES ? 0 : 3);
	}
	EXPECT_EQ(0, reap(child));
}

TEST_F(node, takes_no_ioctl_when_opened_with_o_path)
{
	struct ioasid_cmd_info info;
	int fd;

	fd = open(IOASID_PATH, O_PATH);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, ioasid_info(fd, &info));
	EXPECT_EQ(0, close(fd));
}

/* Two unrelated sets */
FIXTURE(set) {
	int fd;
	int other;
	int count;
};

FIXTURE_SETUP(set)
{
	self->count = ioasid_count(NULL);
	ASSERT_LE(0, self->count);
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	self->other = ioasid_open();
	ASSERT_LE(0, self->other);
}

FIXTURE_TEARDOWN(set)
{
	close(self->fd);
	close(self->other);
	/* No IOASID of the test is left */
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == self->count));
}

TEST_F(set, info_reports_an_empty_set)
{
	struct ioasid_cmd_info info;

	ASSERT_EQ(0, ioasid_info(self->fd, &info));
	EXPECT_EQ(sizeof(info), info.size);
	EXPECT_EQ(0, info.flags);
	EXPECT_EQ(20, pasid_bits_of(self->fd));
	EXPECT_EQ(param_get(PARAM_QUOTA), quota_of(self->fd));
	EXPECT_EQ(0, active_of(self->fd));
	EXPECT_EQ(0, parked_of(self->fd));
}

TEST_F(set, info_counts_active_ioasids_of_this_set_only)
{
	int i;

	for (i = 1; i <= 3; i++) {
		ASSERT_EQ(BASE + i, ioasid_alloc(self->fd, BASE + i, BASE + i));
		EXPECT_EQ(i, active_of(self->fd));
		EXPECT_EQ(0, parked_of(self->fd));
	}
	EXPECT_EQ(0, active_of(self->other));
	ASSERT_EQ(0, ioasid_free(self->fd, BASE + 2));
	EXPECT_EQ(2, active_of(self->fd));
}

TEST_F(set, alloc_gives_an_id_of_the_range)
{
	int i, id;

	for (i = 0; i < 64; i++) {
		id = ioasid_alloc(self->fd, BASE + 100, BASE + 200);
		EXPECT_LE(BASE + 100, id);
		EXPECT_GE(BASE + 200, id);
	}
}

TEST_F(set, alloc_gives_exactly_the_requested_id)
{
	EXPECT_EQ(BASE + 7, ioasid_alloc(self->fd, BASE + 7, BASE + 7));
}

TEST_F(set, alloc_gives_the_highest_id)
{
	__u32 last = (1U << pasid_bits_of(self->fd)) - 1;

	EXPECT_EQ(last, ioasid_alloc(self->fd, last, last));
}

TEST_F(set, alloc_of_a_taken_id_of_the_same_set_says_no_space)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, BASE, BASE));
	EXPECT_EQ(1, active_of(self->fd));
}

TEST_F(set, alloc_of_a_taken_id_of_another_set_says_no_space)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->other, BASE, BASE));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, BASE, BASE));
	EXPECT_EQ(0, active_of(self->fd));
}

TEST_F(set, alloc_in_a_full_range_says_no_space)
{
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_LE(0, ioasid_alloc(i & 1 ? self->fd : self->other, BASE, BASE + 3));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, BASE, BASE + 3));
	EXPECT_EQ(BASE + 4, ioasid_alloc(self->fd, BASE, BASE + 4));
}

TEST_F(set, alloc_refuses_an_empty_range)
{
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, BASE + 1, BASE));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, 1, 0));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, ~0U, 1));
	EXPECT_EQ(0, active_of(self->fd));
}

TEST_F(set, alloc_refuses_zero)
{
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, 0, 0));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, 0, BASE));
	EXPECT_EQ(0, active_of(self->fd));
}

TEST_F(set, alloc_refuses_ids_beyond_the_id_space)
{
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, BASE, 1U << 20));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, 1U << 20, 1U << 20));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, BASE, ~0U));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, ~0U, ~0U));
	EXPECT_EQ(-EINVAL, ioasid_alloc(self->fd, 1U << 31, 1U << 31));
	EXPECT_EQ(0, active_of(self->fd));
}

TEST_F(set, ids_of_two_sets_differ)
{
	int i, j, ids[8];

	for (i = 0; i < 8; i++) {
		ids[i] = ioasid_alloc(i & 1 ? self->fd : self->other, BASE, BASE + 7);
		ASSERT_LE(0, ids[i]);
		for (j = 0; j < i; j++)
			EXPECT_NE(ids[j], ids[i]);
	}
}

TEST_F(set, query_reports_an_active_ioasid_without_attachments)
{
	struct ioasid_cmd_query query;

	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	ASSERT_EQ(0, ioasid_query(self->fd, BASE, &query));
	EXPECT_EQ(sizeof(query), query.size);
	EXPECT_EQ(BASE, query.id);
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, BASE));
	EXPECT_EQ(0, attachments_of(self->fd, BASE));
}

TEST_F(set, query_of_an_unallocated_id_finds_nothing)
{
	EXPECT_EQ(-ENOENT, state_of(self->fd, BASE));
	EXPECT_EQ(-ENOENT, state_of(self->fd, 0));
	EXPECT_EQ(-ENOENT, state_of(self->fd, 1U << 20));
	EXPECT_EQ(-ENOENT, state_of(self->fd, ~0U));
}

TEST_F(set, free_without_holders_recycles_at_once)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	ASSERT_EQ(0, ioasid_free(self->fd, BASE));
	EXPECT_EQ(-ENOENT, state_of(self->fd, BASE));
	EXPECT_EQ(0, active_of(self->fd));
	EXPECT_EQ(BASE, ioasid_alloc(self->other, BASE, BASE));
}

TEST_F(set, file_that_is_not_writable_only_tells)
{
	int fd = open(IOASID_PATH, O_RDONLY | O_CLOEXEC);
	struct ioasid_cmd_info info;

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, ioasid_info(fd, &info));
	EXPECT_EQ(-ENOENT, state_of(fd, BASE));
	EXPECT_EQ(-EBADF, ioasid_alloc(fd, BASE, BASE));
	EXPECT_EQ(-EBADF, ioasid_free(fd, BASE));
	EXPECT_EQ(0, active_of(fd));
	close(fd);
}

TEST_F(set, reader_queries_and_does_not_free)
{
	int reader = ioasid_reader(self->fd), second;

	ASSERT_LE(0, reader);
	EXPECT_EQ(FD_CLOEXEC, fcntl(reader, F_GETFD));
	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(reader, BASE));
	EXPECT_EQ(-EBADF, ioasid_free(reader, BASE));
	EXPECT_EQ(-EBADF, ioasid_alloc(reader, BASE + 1, BASE + 1));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, BASE));
	EXPECT_EQ(1, active_of(reader));

	/* Nor does a reader that a reader has opened */
	second = ioasid_reader(reader);
	ASSERT_LE(0, second);
	close(reader);
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(second, BASE));
	EXPECT_EQ(-EBADF, ioasid_free(second, BASE));
	ASSERT_EQ(0, ioasid_free(self->fd, BASE));
	EXPECT_EQ(-ENOENT, state_of(second, BASE));
	close(second);
}

TEST_F(set, reader_does_not_keep_the_set)
{
	int fd = ioasid_open(), reader, kept;

	ASSERT_LE(0, fd);
	reader = ioasid_reader(fd);
	ASSERT_LE(0, reader);
	ASSERT_EQ(BASE, ioasid_alloc(fd, BASE, BASE));
	close(fd);
	EXPECT_EQ(0, ioasid_try(BASE));
	EXPECT_EQ(-ENOENT, state_of(reader, BASE));
	EXPECT_EQ(0, active_of(reader));
	EXPECT_EQ(-EBADF, ioasid_alloc(reader, BASE, BASE));
	kept = ioasid_reader(reader);
	EXPECT_LE(0, kept);
	close(kept);
	close(reader);
}

TEST_F(set, reader_without_a_free_fd_is_refused)
{
	struct rlimit limit, none;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, ioasid_reader(self->fd));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
}

TEST_F(set, second_free_finds_nothing)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	ASSERT_EQ(0, ioasid_free(self->fd, BASE));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, BASE));
}

TEST_F(set, free_of_an_unallocated_id_finds_nothing)
{
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, BASE));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, 0));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, 1U << 20));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, ~0U));
}

TEST_F(set, free_of_a_foreign_ioasid_finds_nothing)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->other, BASE, BASE));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, BASE));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->other, BASE));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
}

TEST_F(set, query_of_a_foreign_ioasid_finds_nothing)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->other, BASE, BASE));
	EXPECT_EQ(-ENOENT, state_of(self->fd, BASE));
}

TEST_F(set, free_does_not_reach_the_next_owner_of_an_id)
{
	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	ASSERT_EQ(0, ioasid_free(self->fd, BASE));
	ASSERT_EQ(BASE, ioasid_alloc(self->other, BASE, BASE));
	EXPECT_EQ(-ENOENT, ioasid_free(self->fd, BASE));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->other, BASE));
}

TEST_F(set, close_frees_all_ioasids)
{
	int i, fd;

	fd = ioasid_open();
	ASSERT_LE(0, fd);
	for (i = 0; i < 200; i++)
		ASSERT_EQ(BASE + i, ioasid_alloc(fd, BASE + i, BASE + i));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, BASE, BASE + 199));
	ASSERT_EQ(0, close(fd));
	for (i = 0; i < 200; i++)
		EXPECT_EQ(BASE + i, ioasid_alloc(self->fd, BASE + i, BASE + i));
}

TEST_F(set, dup_is_the_same_set)
{
	int fd, copy;

	fd = ioasid_open();
	ASSERT_LE(0, fd);
	copy = dup(fd);
	ASSERT_LE(0, copy);
	ASSERT_EQ(BASE, ioasid_alloc(fd, BASE, BASE));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(copy, BASE));

	ASSERT_EQ(0, close(fd));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(copy, BASE));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));

	ASSERT_EQ(0, close(copy));
	EXPECT_EQ(0, ioasid_try(BASE));
}

TEST_F(set, open_through_proc_is_another_set)
{
	char path[64];
	int fd;

	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENOENT, state_of(fd, BASE));
	EXPECT_EQ(-ENOENT, ioasid_free(fd, BASE));
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, BASE));
}

TEST_F(set, child_shares_an_inherited_set)
{
	pid_t child;

	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		if (ioasid_free(self->fd, BASE))
			_exit(1);
		if (ioasid_alloc(self->fd, BASE + 1, BASE + 1) != BASE + 1)
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(0, reap(child));
	EXPECT_EQ(-ENOENT, state_of(self->fd, BASE));
	/* The exit of the child was not the last close */
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, BASE + 1));
}

TEST_F(set, only_the_last_close_after_a_fork_frees)
{
	pid_t child;
	int fd;

	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(BASE, ioasid_alloc(fd, BASE, BASE));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		pause();
		_exit(0);
	}
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
	kill_and_reap(child);
	EXPECT_EQ(0, ioasid_try(BASE));
}

TEST_F(set, killed_process_gives_all_ids_back)
{
	int ready[2], i;
	pid_t child;

	ASSERT_EQ(0, pipe(ready));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		int fd = ioasid_open();

		for (i = 0; i < 50; i++)
			if (ioasid_alloc(fd, BASE + i, BASE + i) != BASE + i)
				_exit(1);
		send_byte(ready[1]);
		pause();
		_exit(0);
	}
	ASSERT_EQ(0, close(ready[1]));
	ASSERT_EQ(0, wait_byte(ready[0]));
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, BASE, BASE + 49));
	kill_and_reap(child);
	for (i = 0; i < 50; i++)
		EXPECT_EQ(BASE + i, ioasid_alloc(self->fd, BASE + i, BASE + i));
	close(ready[0]);
}

TEST_F(set, file_passed_over_a_socket_is_the_same_set)
{
	int sock[2], go[2], fd;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, pipe(go));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		close(go[1]);
		if (recv_fds(sock[1], &fd, 1))
			_exit(1);
		if (state_of(fd, BASE) != IOASID_STATE_ACTIVE)
			_exit(2);
		if (ioasid_alloc(fd, BASE + 1, BASE + 1) != BASE + 1)
			_exit(3);
		send_byte(sock[1]);
		if (wait_byte(go[0]))
			_exit(4);
		/* The sender has closed its file */
		_exit(state_of(fd, BASE) == IOASID_STATE_ACTIVE ? 0 : 5);
	}
	/* If the child fails, reads find the end of file */
	close(sock[1]);
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(BASE, ioasid_alloc(fd, BASE, BASE));
	ASSERT_EQ(0, send_fds(sock[0], &fd, 1));
	ASSERT_EQ(0, wait_byte(sock[0]));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(fd, BASE + 1));
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
	ASSERT_EQ(0, send_byte(go[1]));
	EXPECT_EQ(0, reap(child));
	/* The exit of the child was the last close */
	EXPECT_EQ(0, ioasid_try(BASE));
	EXPECT_EQ(0, ioasid_try(BASE + 1));
}

TEST_F(set, file_in_flight_keeps_ids_until_the_socket_is_gone)
{
	int sock[2], fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(BASE, ioasid_alloc(fd, BASE, BASE));
	ASSERT_EQ(0, send_fds(sock[0], &fd, 1));
	ASSERT_EQ(0, close(fd));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
	ASSERT_EQ(0, close(sock[0]));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
	ASSERT_EQ(0, close(sock[1]));
	/* The socket layer may take its time */
	EXPECT_TRUE(wait_for(!ioasid_try(BASE)));
}

static int close_some_socket(void)
{
	return close(socket(AF_UNIX, SOCK_STREAM, 0));
}

TEST_F(set, file_in_a_cycle_of_sockets_gives_all_ids_back)
{
	int sock[2], fds[3];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	fds[0] = ioasid_open();
	ASSERT_LE(0, fds[0]);
	ASSERT_EQ(BASE, ioasid_alloc(fds[0], BASE, BASE));
	fds[1] = sock[0];
	fds[2] = sock[1];
	ASSERT_EQ(0, send_fds(sock[0], fds, 3));
	ASSERT_EQ(0, close(fds[0]));
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
	ASSERT_EQ(0, close(sock[0]));
	ASSERT_EQ(0, close(sock[1]));
	/* Only the garbage collector can reach the file now. It runs when sockets are closed */
	EXPECT_TRUE(wait_for(!close_some_socket() && !ioasid_try(BASE)));
}

/* A child that has exec()ed this program. Returns its pid, or -1 */
static pid_t exec_child(int flags)
{
	char arg[16];
	int ready[2];
	pid_t child;

	if (pipe(ready))
		return -1;
	child = fork_child();
	if (!child) {
		int fd = open(IOASID_PATH, O_RDWR | flags);

		if (ioasid_alloc(fd, BASE, BASE) != BASE)
			_exit(1);
		snprintf(arg, sizeof(arg), "%d", ready[1]);
		execl("/proc/self/exe", "uapi_test", PAUSE_ARG, arg, NULL);
		_exit(2);
	}
	close(ready[1]);
	if (child > 0 && wait_byte(ready[0])) {
		kill_and_reap(child);
		child = -1;
	}
	close(ready[0]);
	return child;
}

TEST_F(set, exec_closes_with_cloexec)
{
	pid_t child = exec_child(O_CLOEXEC);

	ASSERT_LT(0, child);
	EXPECT_EQ(0, ioasid_try(BASE));
	kill_and_reap(child);
}

TEST_F(set, exec_keeps_the_set_without_cloexec)
{
	pid_t child = exec_child(0);

	ASSERT_LT(0, child);
	EXPECT_EQ(-ENOSPC, ioasid_try(BASE));
	kill_and_reap(child);
	EXPECT_EQ(0, ioasid_try(BASE));
}

TEST_F(set, knows_no_other_ioctl)
{
	struct ioasid_cmd_info info = { .size = sizeof(info) };
	const unsigned long known[] = { IOASID_INFO, IOASID_ALLOC, IOASID_FREE, IOASID_QUERY,
					IOASID_READER };
	unsigned int nr, i;

	for (nr = 0; nr < 256; nr++) {
		unsigned long cmd = _IO(IOASID_TYPE, nr);
		bool is_known = false;

		for (i = 0; i < ARRAY_SIZE(known); i++)
			is_known |= cmd == known[i];
		if (is_known)
			continue;
		EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, cmd, &info)) {
			TH_LOG("nr %#x", nr);
		}
	}
	/* Known commands with the wrong type, direction or size */
	for (i = 0; i < ARRAY_SIZE(known); i++) {
		nr = _IOC_NR(known[i]);
		EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, _IO(IOASID_TYPE + 1, nr), &info));
		EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, _IOWR(IOASID_TYPE, nr, __u32), &info));
		EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, _IOR(IOASID_TYPE, nr, __u32), &info));
	}
	EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, TCGETS, &info));
	EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, ~0UL, &info));
	EXPECT_EQ(-ENOTTY, do_ioctl(self->fd, 0, &info));
}

TEST_F(set, cannot_be_read_written_mapped_or_seeked)
{
	char byte = 0;

	EXPECT_EQ(-1, read(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(mmap(NULL, 4096, PROT_READ, MAP_SHARED, self->fd, 0) == MAP_FAILED);
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
}

/* Threads that allocate and free in one small range, in one set or in two */

#define RACE_THREADS	4
#define RACE_LOOPS	2000
#define RACE_IDS	6

static struct {
	pthread_barrier_t start;
	int taken[RACE_IDS];
	int failures;
	int allocations;
} race;

static void *race_thread(void *arg)
{
	int fd = *(int *)arg, i, id;

	pthread_barrier_wait(&race.start);
	for (i = 0; i < RACE_LOOPS; i++) {
		id = ioasid_alloc(fd, BASE, BASE + RACE_IDS - 1);
		if (id == -ENOSPC)
			continue;
		if (id < BASE || id >= BASE + RACE_IDS ||
		    __sync_fetch_and_add(&race.taken[id - BASE], 1)) {
			__sync_fetch_and_add(&race.failures, 1);
			break;
		}
		__sync_fetch_and_add(&race.allocations, 1);
		if (state_of(fd, id) != IOASID_STATE_ACTIVE)
			__sync_fetch_and_add(&race.failures, 1);
		__sync_fetch_and_sub(&race.taken[id - BASE], 1);
		if (ioasid_free(fd, id))
			__sync_fetch_and_add(&race.failures, 1);
	}
	return NULL;
}

static int race_run(int *fds)
{
	pthread_t threads[RACE_THREADS];
	int i;

	if (pthread_barrier_init(&race.start, NULL, RACE_THREADS))
		return -1;
	for (i = 0; i < RACE_THREADS; i++)
		if (pthread_create(&threads[i], NULL, race_thread, &fds[i & 1]))
			return -1;
	for (i = 0; i < RACE_THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

TEST_F(set, threads_never_get_one_id_twice)
{
	int fds[2] = { self->fd, self->fd };

	ASSERT_EQ(0, race_run(fds));
	EXPECT_EQ(0, race.failures);
	EXPECT_LT(RACE_LOOPS, race.allocations);
	EXPECT_EQ(0, active_of(self->fd));
}

TEST_F(set, threads_with_two_sets_never_get_one_id_twice)
{
	int fds[2] = { self->fd, self->other };

	ASSERT_EQ(0, race_run(fds));
	EXPECT_EQ(0, race.failures);
	EXPECT_LT(RACE_LOOPS, race.allocations);
	EXPECT_EQ(0, active_of(self->fd));
	EXPECT_EQ(0, active_of(self->other));
}

/* All threads try to free the same IOASIDs */

#define FREE_IDS 200

static struct {
	pthread_barrier_t start;
	int freed[FREE_IDS];
	int failures;
} free_race;

static void *free_thread(void *arg)
{
	int fd = *(int *)arg, i, ret;

	pthread_barrier_wait(&free_race.start);
	for (i = 0; i < FREE_IDS; i++) {
		ret = ioasid_free(fd, BASE + i);
		if (!ret)
			__sync_fetch_and_add(&free_race.freed[i], 1);
		else if (ret != -ENOENT)
			__sync_fetch_and_add(&free_race.failures, 1);
	}
	return NULL;
}

TEST_F(set, threads_freeing_one_ioasid_leave_nothing)
{
	pthread_t threads[RACE_THREADS];
	int i;

	for (i = 0; i < FREE_IDS; i++)
		ASSERT_EQ(BASE + i, ioasid_alloc(self->fd, BASE + i, BASE + i));
	ASSERT_EQ(0, pthread_barrier_init(&free_race.start, NULL, RACE_THREADS));
	for (i = 0; i < RACE_THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, free_thread, &self->fd));
	for (i = 0; i < RACE_THREADS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, free_race.failures);
	for (i = 0; i < FREE_IDS; i++) {
		/* Concurrent frees of one IOASID may all succeed */
		EXPECT_LE(1, free_race.freed[i]);
		EXPECT_EQ(0, ioasid_try(BASE + i));
	}
	EXPECT_EQ(0, active_of(self->fd));
}

/* Sets with a small quota */

#define QUOTA 4

FIXTURE(quota) {
	int saved;
	int before;
	int fd;
	int other;
};

FIXTURE_SETUP(quota)
{
	self->saved = param_get(PARAM_QUOTA);
	ASSERT_LE(0, self->saved);
	self->before = ioasid_open();
	ASSERT_LE(0, self->before);
	ASSERT_EQ(0, param_set(PARAM_QUOTA, QUOTA));
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	self->other = ioasid_open();
	ASSERT_LE(0, self->other);
}

FIXTURE_TEARDOWN(quota)
{
	EXPECT_EQ(0, param_set(PARAM_QUOTA, self->saved));
	close(self->before);
	close(self->fd);
	close(self->other);
}

static int fill_set(int fd)
{
	int i, ret;

	for (i = 0; i < QUOTA; i++) {
		ret = ioasid_alloc(fd, BASE, BASE + 999);
		if (ret < 0)
			return ret;
	}
	return 0;
}

TEST_F(quota, is_reported_by_info)
{
	EXPECT_EQ(QUOTA, quota_of(self->fd));
}

TEST_F(quota, is_fixed_at_the_open)
{
	EXPECT_EQ(self->saved, quota_of(self->before));
	ASSERT_EQ(0, param_set(PARAM_QUOTA, 2 * QUOTA));
	EXPECT_EQ(QUOTA, quota_of(self->fd));
}

TEST_F(quota, bounds_a_set)
{
	ASSERT_EQ(0, fill_set(self->fd));
	EXPECT_EQ(-EDQUOT, ioasid_alloc(self->fd, BASE, BASE + 999));
	EXPECT_EQ(QUOTA, active_of(self->fd));
}

TEST_F(quota, is_given_back_by_free)
{
	int i, id;

	id = ioasid_alloc(self->fd, BASE, BASE + 999);
	ASSERT_LT(0, id);
	for (i = 1; i < QUOTA; i++)
		ASSERT_LT(0, ioasid_alloc(self->fd, BASE, BASE + 999));
	for (i = 0; i < 10; i++) {
		EXPECT_EQ(0, ioasid_free(self->fd, id));
		id = ioasid_alloc(self->fd, BASE, BASE + 999);
		EXPECT_LT(0, id);
		EXPECT_EQ(-EDQUOT, ioasid_alloc(self->fd, BASE, BASE + 999));
	}
}

TEST_F(quota, is_not_used_up_by_failures)
{
	int i;

	ASSERT_LE(0, ioasid_alloc(self->fd, BASE, BASE));
	for (i = 0; i < 2 * QUOTA; i++)
		EXPECT_EQ(-ENOSPC, ioasid_alloc(self->fd, BASE, BASE));
	for (i = 1; i < QUOTA; i++)
		EXPECT_LE(0, ioasid_alloc(self->fd, BASE, BASE + 999));
}

TEST_F(quota, of_one_set_leaves_another_alone)
{
	ASSERT_EQ(0, fill_set(self->fd));
	ASSERT_EQ(-EDQUOT, ioasid_alloc(self->fd, BASE, BASE + 999));
	EXPECT_EQ(0, fill_set(self->other));
	EXPECT_LE(0, ioasid_alloc(self->before, BASE, BASE + 999));
}

TEST_F(quota, of_zero_gives_nothing)
{
	int fd;

	ASSERT_EQ(0, param_set(PARAM_QUOTA, 0));
	fd = ioasid_open();
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EDQUOT, ioasid_alloc(fd, BASE, BASE + 999));
	EXPECT_EQ(0, close(fd));
}

/* Users, and what is left for others */

#define RESERVED_IDS	"/sys/module/ioasid/parameters/reserved"
#define USER_IDS	"/proc/sys/user/max_ioasids"
#define USER_LOW_IDS	"/proc/sys/user/max_low_ioasids"

#define USER		1000
#define OTHER_USER	1001
#define SETS		256

/* Allocate until it fails: how many there were, or the error of that */
struct taken {
	int nr;
	int ret;
};

FIXTURE(user) {
	int set[SETS];
	int out[2];
	int nr_ioasids;
	pid_t child;
};

FIXTURE_SETUP(user)
{
	int i;

	self->nr_ioasids = ioasid_count(NULL);
	ASSERT_LE(0, self->nr_ioasids);
	self->child = 0;
	ASSERT_EQ(0, pipe2(self->out, O_CLOEXEC));
	for (i = 0; i < SETS; i++) {
		self->set[i] = ioasid_open();
		ASSERT_LE(0, self->set[i]);
	}
}

FIXTURE_TEARDOWN(user)
{
	int i;

	if (self->child > 0)
		kill_and_reap(self->child);
	for (i = 0; i < SETS; i++)
		close(self->set[i]);
	close(self->out[0]);
	close(self->out[1]);
	EXPECT_TRUE(wait_for(ioasid_count(NULL) == self->nr_ioasids));
}

/* From a set that has room */
static int alloc_in_any(const int *set, int nr, __u32 max)
{
	int i, id = -EDQUOT;

	for (i = 0; i < nr && id == -EDQUOT; i++)
		id = ioasid_alloc(set[i], 1, max);
	return id;
}

/* As another user. The sets stay open here: what was taken is not given back. */
static struct taken take_all(struct __test_metadata *_metadata, FIXTURE_DATA(user) *self,
			     uid_t uid, __u32 max)
{
	struct taken taken = { 0, 0 };
	pid_t child = fork_child();
	int i;

	ASSERT_LE(0, child);
	if (!child) {
		if (setresuid(uid, uid, uid))
			_exit(1);
		for (i = 0; i < SETS; i++) {
			while ((taken.ret = ioasid_alloc(self->set[i], 1, max)) > 0)
				taken.nr++;
			if (taken.ret != -EDQUOT)
				break;
		}
		_exit(write(self->out[1], &taken, sizeof(taken)) != sizeof(taken));
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(sizeof(taken), read(self->out[0], &taken, sizeof(taken)));
	return taken;
}

TEST_F(user, who_fills_256_sets_is_stopped_and_others_go_on)
{
	struct taken taken = take_all(_metadata, self, USER, (1 << 20) - 1);
	int i;

	EXPECT_EQ(-EUSERS, taken.ret);
	EXPECT_EQ(param_get(USER_IDS), taken.nr);
	/* Also in an empty set, and with any range */
	taken = take_all(_metadata, self, USER, 1023);
	EXPECT_EQ(-EUSERS, taken.ret);
	EXPECT_EQ(0, taken.nr);
	taken = take_all(_metadata, self, OTHER_USER, (1 << 20) - 1);
	EXPECT_EQ(-EUSERS, taken.ret);
	EXPECT_EQ(param_get(USER_IDS), taken.nr);
	EXPECT_LT(0, alloc_in_any(self->set, SETS, (1 << 20) - 1));
	/* What is freed can be allocated again */
	for (i = 0; i < SETS; i++)
		ASSERT_EQ(0, close(self->set[i]));
	for (i = 0; i < SETS; i++)
		self->set[i] = ioasid_open();
	taken = take_all(_metadata, self, USER, 65535);
	EXPECT_EQ(-EUSERS, taken.ret);
	EXPECT_EQ(param_get(USER_IDS), taken.nr);
}

TEST_F(user, who_takes_low_ids_is_stopped_and_others_go_on)
{
	struct taken taken = take_all(_metadata, self, USER, 255);

	EXPECT_EQ(-EUSERS, taken.ret);
	EXPECT_EQ(param_get(USER_LOW_IDS), taken.nr);
	taken = take_all(_metadata, self, OTHER_USER, 255);
	EXPECT_EQ(-EUSERS, taken.ret);
	EXPECT_EQ(param_get(USER_LOW_IDS), taken.nr);
	EXPECT_LT(0, alloc_in_any(self->set, SETS, 255));
}

TEST_F(user, reserve_is_not_for_users)
{
	int reserved = param_get(RESERVED_IDS);

	ASSERT_LT(1, reserved);
	EXPECT_EQ(-ENOSPC, ioasid_alloc(self->set[0], 1, reserved - 1));
	EXPECT_EQ(reserved, ioasid_alloc(self->set[0], 1, reserved));
}

/* Malformed commands */

union command {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct ioasid_cmd_info info;
	struct ioasid_cmd_alloc alloc;
	struct ioasid_cmd_free free;
	struct ioasid_cmd_query query;
	struct ioasid_cmd_reader reader;
};

struct command_files {
	int next;		/* the lowest fd that is not open */
};

#include "command_test.h"

FIXTURE_VARIANT_ADD(command, info) {
	.nr = IOASID_INFO,
	.size = sizeof(struct ioasid_cmd_info),
	.answers = true,
};

FIXTURE_VARIANT_ADD(command, alloc) {
	.nr = IOASID_ALLOC,
	.size = sizeof(struct ioasid_cmd_alloc),
	.answers = true,
};

FIXTURE_VARIANT_ADD(command, free) {
	.nr = IOASID_FREE,
	.size = sizeof(struct ioasid_cmd_free),
	.answers = false,
};

FIXTURE_VARIANT_ADD(command, query) {
	.nr = IOASID_QUERY,
	.size = sizeof(struct ioasid_cmd_query),
	.answers = true,
};

FIXTURE_VARIANT_ADD(command, reader) {
	.nr = IOASID_READER,
	.size = sizeof(struct ioasid_cmd_reader),
	.answers = true,
};

static int next_fd(void)
{
	int fd = dup(STDOUT_FILENO);

	close(fd);
	return fd;
}

static void command_begin(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			  const FIXTURE_VARIANT(command) *variant)
{
	self->fd = ioasid_open();
	ASSERT_LE(0, self->fd);
	/* For FREE and QUERY */
	ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	self->files.next = next_fd();

	switch (variant->nr) {
	case IOASID_ALLOC:
		self->cmd.alloc.min = BASE + 1;
		self->cmd.alloc.max = BASE + 1;
		break;
	case IOASID_FREE:
		self->cmd.free.id = BASE;
		break;
	case IOASID_QUERY:
		self->cmd.query.id = BASE;
		break;
	}
}

static void command_end(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self)
{
	close(self->fd);
	/* No id has leaked */
	EXPECT_EQ(0, ioasid_try(BASE));
	EXPECT_EQ(0, ioasid_try(BASE + 1));
}

static void expect_unchanged(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			     const FIXTURE_VARIANT(command) *variant)
{
	EXPECT_EQ(1, active_of(self->fd));
	EXPECT_EQ(IOASID_STATE_ACTIVE, state_of(self->fd, BASE));
	EXPECT_EQ(0, ioasid_try(BASE + 1));
	EXPECT_EQ(self->files.next, next_fd());
}

static void expect_done(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			const FIXTURE_VARIANT(command) *variant)
{
	bool alloc = variant->nr == IOASID_ALLOC, free = variant->nr == IOASID_FREE;

	EXPECT_EQ(1 + alloc - free, active_of(self->fd));
	EXPECT_EQ(free ? -ENOENT : IOASID_STATE_ACTIVE, state_of(self->fd, BASE));
	EXPECT_EQ(alloc ? IOASID_STATE_ACTIVE : -ENOENT, state_of(self->fd, BASE + 1));
	EXPECT_EQ(self->files.next + (variant->nr == IOASID_READER), next_fd());
}

static void command_undo(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			 const FIXTURE_VARIANT(command) *variant)
{
	if (variant->nr == IOASID_ALLOC) {
		ASSERT_EQ(0, ioasid_free(self->fd, BASE + 1));
	} else if (variant->nr == IOASID_FREE) {
		ASSERT_EQ(BASE, ioasid_alloc(self->fd, BASE, BASE));
	} else if (variant->nr == IOASID_READER) {
		ASSERT_EQ(0, close(self->files.next));
	}
}

int main(int argc, char **argv)
{
	/* The program that exec_child() runs */
	if (argc == 3 && !strcmp(argv[1], PAUSE_ARG)) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		send_byte(atoi(argv[2]));
		pause();
		return 0;
	}
	return test_harness_run(argc, argv);
}
