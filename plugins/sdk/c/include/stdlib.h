/* What the generated bindings want of a C library. Memory is an arena that is
 * empty again after each call, so `free` does nothing. */
#ifndef WAYPOST_STDLIB_H
#define WAYPOST_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);
void free(void *memory);
_Noreturn void abort(void);

#endif
