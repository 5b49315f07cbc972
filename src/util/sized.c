// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/sized.c - copies between a structure of the library and the caller's, which may be shorter or longer */
#include "config.h"
#include "util/sized.h"

#include <errno.h>
#include <string.h>

#include "util/err.h"

/* Longer than any will be: a size that was never set is not followed through memory. */
#define MOST 4096

int thaw_sized_check(size_t size, size_t least, const char *name)
{
	if (size < least || size > MOST)
		return thaw_err_set(-EINVAL, "the size in it, %zu, is not sizeof(struct %s)", size, name);
	return 0;
}

int thaw_sized_take(void *ours, size_t own, size_t least, const void *theirs, const char *name)
{
	size_t size;
	int err;

	memcpy(&size, theirs, sizeof(size));
	err = thaw_sized_check(size, least, name);
	if (err)
		return err;
	for (size_t i = own; i < size; i++)
		if (((const unsigned char *)theirs)[i])
			return thaw_err_set(-EINVAL, "struct %s of size %zu asks for something that this library does not know (it has"
					    " %zu bytes): use a later one", name, size, own);
	memset(ours, 0, own);
	memcpy(ours, theirs, size < own ? size : own);
	memcpy(ours, &own, sizeof(own));
	return 0;
}

void thaw_sized_give(void *theirs, const void *ours, size_t own)
{
	const size_t head = sizeof(size_t);
	size_t size, both;

	memcpy(&size, theirs, head);
	both = size < own ? size : own;
	memcpy((char *)theirs + head, (const char *)ours + head, both - head);
	memset((char *)theirs + both, 0, size - both);
}
