/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IOASID_SHIM_H
#define _IOASID_SHIM_H

#include <linux/gfp.h>
#include <linux/types.h>

/* How many allocations are not freed, but for nodes of XArrays */
long shim_allocated(void);
/* What was done up to now, to stderr; from fuzz.c */
void print_history(void);

/* lib/radix-tree.c: makes the cache of the XArrays' nodes */
void radix_tree_init(void);

/* lib/idr.c */
struct ida;
int ida_alloc_range(struct ida *ida, unsigned int min, unsigned int max,
		    gfp_t gfp);

/* What the sanitizers and libFuzzer call, from fuzz.c */
const char *__tsan_default_options(void);
void __asan_on_error(void);
void __ubsan_on_report(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#endif /* _IOASID_SHIM_H */
