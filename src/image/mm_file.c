// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/mm_file.c - mm-PID.img: the mappings of a process, checked */
#include "config.h"
#include "image/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/err.h"

enum {
	RECORD_MOST = 64 << 20,
	PAGE = 4096
}; /* a mapping takes some 50 bytes; the kernel allows 2^31 at most, 65530 by default */

static int check_mappings(const struct thaw_image_file *f, const ThawImage__Mm *mm)
{
	uint64_t end = 0;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		const ThawImage__Vma *v = mm->vmas[i];

		if ((v->start | v->end) % PAGE || v->start >= v->end)
			return thaw_err_set(-EBADMSG,
					    "%s: corrupt: mapping %zu is from 0x%lx to 0x%lx (record at byte %zu)",
					    f->name, i, v->start, v->end, f->record);
		if (v->start < end)
			return thaw_err_set(-EBADMSG,
					    "%s: corrupt: mapping %zu begins at 0x%lx, before the end of the one in "
					    "front of it (record at byte %zu)",
					    f->name, i, v->start, f->record);
		end = v->end;
	}
	return 0;
}

int thaw_image_mm_parse(struct thaw_image_file *f, ThawImage__Mm **mm)
{
	ProtobufCMessage *m;
	int ret = thaw_image_next(f, &thaw_image__mm__descriptor, RECORD_MOST, &m);

	*mm = NULL;
	if (!ret)
		return thaw_err_set(-EBADMSG, "%s: truncated: no record behind the magic number (byte %zu)", f->name,
				    f->at);
	if (ret < 0)
		return ret;
	ret = check_mappings(f, (ThawImage__Mm *)m);
	if (!ret && f->at != f->len)
		ret = thaw_err_set(-EBADMSG, "%s: corrupt: %zu bytes too many at byte %zu", f->name, f->len - f->at,
				   f->at);
	if (ret)
		protobuf_c_message_free_unpacked(m, NULL);
	else
		*mm = (ThawImage__Mm *)m;
	return ret;
}

int thaw_image_mm_load(int dirfd, int pid, ThawImage__Mm **mm)
{
	struct thaw_image_file f;
	char name[32];
	int ret;

	*mm = NULL;
	snprintf(name, sizeof(name), "mm-%d.img", pid);
	ret = thaw_image_load(&f, dirfd, name, THAW_IMAGE_MM_MAGIC);
	if (ret)
		return ret;
	ret = thaw_image_mm_parse(&f, mm);
	thaw_image_unload(&f);
	return ret;
}
