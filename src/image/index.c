// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/index.c - a directory of images: its version and its processes */
#include "config.h"
#include "image/image.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

enum { INVENTORY_MOST = 1 << 20, PSTREE_MOST = 32 << 20, TASKS_MOST = 1 << 16 };

int thaw_image_inventory_parse(struct thaw_image_file *f, unsigned *version)
{
	ProtobufCMessage *m;
	int ret = thaw_image_next(f, &thaw_image__inventory__descriptor, INVENTORY_MOST, &m);

	if (!ret)
		return thaw_err_set(-EBADMSG, "%s: truncated: no record behind the magic number (byte %zu)", f->name,
				    f->at);
	if (ret < 0)
		return ret;
	*version = ((ThawImage__Inventory *)m)->img_version;
	protobuf_c_message_free_unpacked(m, NULL);
	if (*version < 1 || *version > 2)
		return thaw_err_set(-ENOTSUP, "%s: image version %u at byte %zu: versions 1 and 2 are read", f->name,
				    *version, f->record);
	return 0;
}

static int add_task(const struct thaw_image_file *f, struct thaw_image_index *index, const ThawImage__Pstree *m)
{
	struct thaw_image_task *bigger;

	if (!m->pid || m->pid > INT_MAX)
		return thaw_err_set(-EBADMSG, "%s: corrupt: process number %u at byte %zu", f->name, m->pid, f->record);
	for (size_t i = 0; i < index->n; i++)
		if (index->task[i].pid == (int)m->pid)
			return thaw_err_set(-EBADMSG, "%s: corrupt: process %u for the second time at byte %zu",
					    f->name, m->pid, f->record);
	if (index->n == TASKS_MOST)
		return thaw_err_set(-EBADMSG, "%s: more than %d processes (byte %zu)", f->name, TASKS_MOST, f->record);
	bigger = realloc(index->task, (index->n + 1) * sizeof(*bigger));
	if (!bigger)
		return thaw_err_set(-ENOMEM, "%s: no memory for %zu processes", f->name, index->n + 1);
	index->task = bigger;
	index->task[index->n++] = (struct thaw_image_task){
		(int)m->pid, (int)m->ppid, (int)m->pgid, (int)m->sid, (unsigned)m->n_threads,
	};
	return 0;
}

int thaw_image_pstree_parse(struct thaw_image_file *f, struct thaw_image_index *index)
{
	ProtobufCMessage *m;
	int ret;

	while ((ret = thaw_image_next(f, &thaw_image__pstree__descriptor, PSTREE_MOST, &m)) > 0) {
		ret = add_task(f, index, (ThawImage__Pstree *)m);
		protobuf_c_message_free_unpacked(m, NULL);
		if (ret)
			return ret;
	}
	if (!ret && !index->n)
		ret = thaw_err_set(-EBADMSG, "%s: truncated: no process behind the magic number (byte %zu)", f->name,
				   f->at);
	return ret;
}

int thaw_image_index_load(int dirfd, struct thaw_image_index *index)
{
	struct thaw_image_file f;
	int ret;

	memset(index, 0, sizeof(*index));
	ret = thaw_image_check_owner(dirfd, "image directory");
	if (!ret)
		ret = thaw_image_load(&f, dirfd, "inventory.img", THAW_IMAGE_INVENTORY_MAGIC);
	if (ret)
		return ret;
	ret = thaw_image_inventory_parse(&f, &index->version);
	thaw_image_unload(&f);
	if (!ret)
		ret = thaw_image_load(&f, dirfd, "pstree.img", THAW_IMAGE_PSTREE_MAGIC);
	if (ret)
		return ret;
	ret = thaw_image_pstree_parse(&f, index);
	thaw_image_unload(&f);
	if (ret)
		thaw_image_index_free(index);
	return ret;
}

void thaw_image_index_free(struct thaw_image_index *index)
{
	free(index->task);
	memset(index, 0, sizeof(*index));
}
