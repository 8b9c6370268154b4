/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every way to get the argument of an ioctl wrong: its size, its flags, the
 * bytes behind what the kernel knows, and the memory that it is in. Each test
 * runs for each command.
 *
 * A program that includes this defines ahead of it
 *
 *   union command         the arguments, each of which begins with size and flags
 *   struct command_files  the files that the program opens for a command
 *
 * and behind it the variants, which are the commands, and the functions that are
 * declared here.
 */
#ifndef COMMAND_TEST_H
#define COMMAND_TEST_H

#include <sys/ioctl.h>
#include <sys/mman.h>

#include "test_util.h"

#define MEMORY_PAGES 2

FIXTURE(command) {
	struct command_files files;
	int fd;			/* takes the command */
	union command cmd;
	size_t page;
	char *memory;		/* MEMORY_PAGES, all zero ... */
	char *end;		/* ... and a page that must not be accessed */
};

FIXTURE_VARIANT(command) {
	unsigned long nr;
	size_t size;
	__u32 flags;		/* of a valid command */
	__u32 known_flags;
	bool answers;		/* the kernel writes to the argument */
	size_t answer_end;	/* where the answer ends; 0: with the argument */
	bool ignores_tail;	/* what the kernel does not know may have any value */
};

/* Opens the files, and fills in self->fd, and self->cmd except for size and flags */
static void command_begin(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			  const FIXTURE_VARIANT(command) *variant);
static void command_end(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self);

/* After a refused command, after an accepted one, and before the next one */
static void expect_unchanged(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			     const FIXTURE_VARIANT(command) *variant);
static void expect_done(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			const FIXTURE_VARIANT(command) *variant);
static void command_undo(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			 const FIXTURE_VARIANT(command) *variant);

FIXTURE_SETUP(command)
{
	self->page = sysconf(_SC_PAGESIZE);
	self->memory = mmap(NULL, (MEMORY_PAGES + 1) * self->page, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->memory != MAP_FAILED);
	self->end = self->memory + MEMORY_PAGES * self->page;
	ASSERT_EQ(0, mprotect(self->end, self->page, PROT_NONE));

	command_begin(_metadata, self, variant);
	self->cmd.size = variant->size;
	self->cmd.flags = variant->flags;
}

FIXTURE_TEARDOWN(command)
{
	munmap(self->memory, (MEMORY_PAGES + 1) * self->page);
	command_end(_metadata, self);
}

/* The command, @where and no more than @size bytes of it */
static int run_at(FIXTURE_DATA(command) *self, const FIXTURE_VARIANT(command) *variant,
		  char *where, size_t size)
{
	memcpy(where, &self->cmd, size);
	return do_ioctl(self->fd, variant->nr, where);
}

static int run(FIXTURE_DATA(command) *self, const FIXTURE_VARIANT(command) *variant)
{
	return run_at(self, variant, self->memory, variant->size);
}

TEST_F(command, is_accepted_when_valid)
{
	EXPECT_EQ(0, run(self, variant));
	expect_done(_metadata, self, variant);
}

TEST_F(command, is_accepted_at_the_end_of_a_mapping)
{
	EXPECT_EQ(0, run_at(self, variant, self->end - variant->size, variant->size));
	expect_done(_metadata, self, variant);
}

TEST_F(command, leaves_the_memory_behind_the_argument_alone)
{
	size_t i;

	memset(self->memory, 0x5a, self->page);
	EXPECT_EQ(0, run(self, variant));
	expect_done(_metadata, self, variant);
	for (i = variant->size; i < self->page; i++)
		ASSERT_EQ(0x5a, self->memory[i]);
}

TEST_F(command, leaves_the_size_unchanged)
{
	__u32 size = variant->size + 24;

	self->cmd.size = size;
	EXPECT_EQ(0, run(self, variant));
	expect_done(_metadata, self, variant);
	EXPECT_EQ(size, ((union command *)self->memory)->size);
}

TEST_F(command, is_accepted_with_a_tail_of_zeros)
{
	const size_t tails[] = { 1, 4, 8, 20, 100 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tails); i++) {
		self->cmd.size = variant->size + tails[i];
		memset(self->memory, 0, self->page);
		EXPECT_EQ(0, run(self, variant));
		expect_done(_metadata, self, variant);
		command_undo(_metadata, self, variant);
	}
}

TEST_F(command, is_accepted_with_a_tail_of_zeros_up_to_a_page)
{
	self->cmd.size = self->page;
	EXPECT_EQ(0, run(self, variant));
	expect_done(_metadata, self, variant);
}

TEST_F(command, is_refused_with_size_0)
{
	self->cmd.size = 0;
	EXPECT_EQ(-EINVAL, run(self, variant));
	expect_unchanged(_metadata, self, variant);
}

TEST_F(command, is_refused_when_shorter_than_its_first_version)
{
	for (self->cmd.size = 1; self->cmd.size < variant->size; self->cmd.size++)
		EXPECT_EQ(-EINVAL, run(self, variant));
	expect_unchanged(_metadata, self, variant);
}

/* A nonzero tail makes the command fail, unless the kernel ignores the tail */
static void run_with_tail(struct __test_metadata *_metadata, FIXTURE_DATA(command) *self,
			  const FIXTURE_VARIANT(command) *variant, int error, char *where)
{
	if (!variant->ignores_tail) {
		EXPECT_EQ(error, run_at(self, variant, where, variant->size));
		expect_unchanged(_metadata, self, variant);
		return;
	}
	EXPECT_EQ(0, run_at(self, variant, where, variant->size));
	expect_done(_metadata, self, variant);
	command_undo(_metadata, self, variant);
}

TEST_F(command, with_a_nonzero_tail_is_refused_or_ignores_it)
{
	size_t i;

	self->cmd.size = variant->size + 24;
	for (i = variant->size; i < self->cmd.size; i++) {
		memset(self->memory, 0, self->page);
		self->memory[i] = 1;
		run_with_tail(_metadata, self, variant, -E2BIG, self->memory);
	}
}

TEST_F(command, with_a_nonzero_tail_at_the_end_of_a_page_is_refused_or_ignores_it)
{
	self->cmd.size = self->page;
	self->memory[self->page - 1] = 1;
	run_with_tail(_metadata, self, variant, -E2BIG, self->memory);
}

TEST_F(command, longer_than_a_page_is_refused_or_ignores_the_tail)
{
	const __u32 sizes[] = {
		self->page + 1, MEMORY_PAGES * self->page, 1U << 30, 0x7fffffff, 1U << 31, ~0U,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		self->cmd.size = sizes[i];
		run_with_tail(_metadata, self, variant, -E2BIG, self->memory);
	}
}

TEST_F(command, with_a_tail_in_unmapped_memory_is_refused_or_ignores_it)
{
	self->cmd.size = variant->size + 8;
	run_with_tail(_metadata, self, variant, -EFAULT, self->end - variant->size - 4);
	run_with_tail(_metadata, self, variant, -EFAULT, self->end - variant->size);
}

TEST_F(command, is_refused_with_unknown_flags)
{
	int bit;

	for (bit = 0; bit < 32; bit++) {
		if (variant->known_flags & 1U << bit)
			continue;
		self->cmd.flags = variant->flags | 1U << bit;
		EXPECT_EQ(-EINVAL, run(self, variant));
	}
	self->cmd.flags = ~0U;
	EXPECT_EQ(-EINVAL, run(self, variant));
	expect_unchanged(_metadata, self, variant);
}

TEST_F(command, is_refused_in_unmapped_memory)
{
	void *const where[] = {
		NULL, (void *)1, self->end, (void *)-1L, (void *)-4096L,
		(void *)(1UL << (8 * sizeof(long) - 1)),
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(where); i++)
		EXPECT_EQ(-EFAULT, do_ioctl(self->fd, variant->nr, where[i]));
	expect_unchanged(_metadata, self, variant);
}

TEST_F(command, is_refused_partly_in_unmapped_memory)
{
	size_t size;

	for (size = 1; size < variant->size; size++)
		EXPECT_EQ(-EFAULT, run_at(self, variant, self->end - size, size));
	expect_unchanged(_metadata, self, variant);
}

/* A command with an answer changes nothing if the answer cannot be written */
static void expect_answer_needs_write(struct __test_metadata *_metadata,
				      FIXTURE_DATA(command) *self,
				      const FIXTURE_VARIANT(command) *variant, void *cmd)
{
	int i;

	if (!variant->answers) {
		EXPECT_EQ(0, do_ioctl(self->fd, variant->nr, cmd));
		expect_done(_metadata, self, variant);
		return;
	}
	for (i = 0; i < 10; i++)
		EXPECT_EQ(-EFAULT, do_ioctl(self->fd, variant->nr, cmd));
	expect_unchanged(_metadata, self, variant);
}

TEST_F(command, needs_writable_memory_only_for_an_answer)
{
	memcpy(self->memory, &self->cmd, variant->size);
	ASSERT_EQ(0, mprotect(self->memory, self->page, PROT_READ));
	expect_answer_needs_write(_metadata, self, variant, self->memory);
}

TEST_F(command, needs_writable_memory_for_the_whole_answer)
{
	size_t end = variant->answer_end ?: variant->size;
	char *boundary = self->memory + self->page;
	char *cmd = boundary - end + sizeof(__u32);

	memcpy(cmd, &self->cmd, variant->size);
	ASSERT_EQ(0, mprotect(boundary, self->page, PROT_READ));
	expect_answer_needs_write(_metadata, self, variant, cmd);
}

#endif /* COMMAND_TEST_H */
