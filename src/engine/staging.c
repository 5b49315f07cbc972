// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/staging.c - locked memory on demand */
#include "config.h"
#include "engine/staging.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "util/err.h"
#include "util/inject.h"

int thaw_staging_new(unsigned char **out, size_t bytes, const struct thaw_log *log)
{
	void *p = THAW_INJECT("memory.staging") ? MAP_FAILED :
		  mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return thaw_err_set(-ENOMEM, "no memory for %zu KiB of staging", bytes >> 10);
	/* Not in a core dump, not in a child of the application. Huge pages would make it all resident. Advice: */
	(void)madvise(p, bytes, MADV_DONTDUMP);
	(void)madvise(p, bytes, MADV_DONTFORK);
	(void)madvise(p, bytes, MADV_NOHUGEPAGE);
	if (THAW_INJECT_ERRNO("memory.lock") || mlock2(p, bytes, MLOCK_ONFAULT))
		thaw_log_info(log, "%zu KiB of staging cannot be locked (%s): raise RLIMIT_MEMLOCK to keep restores"
			      " even when memory is short", bytes >> 10, strerror(errno));
	*out = p;
	return 0;
}

void thaw_staging_free(unsigned char *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}
