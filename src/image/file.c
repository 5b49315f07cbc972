// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/file.c - an image file opened, checked for who could have written it, and cut into records */
#include "config.h"
#include "image/image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"

#define FILE_MOST (INT64_C(1) << 32) /* 100 million pagemap entries are less */
#define SPARSE_LEAST (64 << 20)

/* ---- files ------------------------------------------------------------------------------------------------- */
static bool has_caller;
static uid_t caller;

void thaw_image_trust_caller(void)
{
	const char *text = geteuid() ? NULL : secure_getenv("SUDO_UID");
	unsigned long long n;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return;
	errno = 0;
	n = strtoull(text, &end, 10);
	has_caller = !errno && !*end && n < (uid_t)-1;
	caller = (uid_t)n;
}

bool thaw_image_is_ours(uid_t uid)
{
	return !uid || uid == geteuid() || (has_caller && uid == caller);
}

int thaw_image_check_owner(int fd, const char *name)
{
	struct stat st;

	if (fstat(fd, &st))
		return thaw_err_set(-errno, "%s: %s", name, strerror(errno));
	if (!thaw_image_is_ours(st.st_uid))
		return thaw_err_set(-EPERM, "%s: belongs to user %u: only your own images, or root's, are read; chown it if you trust its"
				    " content", name, st.st_uid);
	if (st.st_mode & 022)
		return thaw_err_set(-EPERM,
				    "%s: others can write it (mode %04o): chmod go-w it if you trust its content", name,
				    st.st_mode & 07777);
	return 0;
}

int thaw_image_open_file(int dirfd, const char *name)
{
	/* O_NONBLOCK: a FIFO in the file's place must not hold us */
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int ret;

	if (fd < 0) {
		ret = -errno;
		return thaw_err_set(ret, "%s: %s", name,
				    ret == -ENOENT  ? "no such file: is the image directory complete?"
				    : ret == -ELOOP ? "is a symbolic link: images are plain files"
						    : strerror(-ret));
	}
	ret = thaw_image_check_owner(fd, name);
	if (!ret && fstat(fd, &st))
		ret = thaw_err_set(-errno, "%s: %s", name, strerror(errno));
	if (!ret && !S_ISREG(st.st_mode))
		ret = thaw_err_set(-EBADMSG, "%s: is not a regular file", name);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

static int slurp(struct thaw_image_file *f, int fd)
{
	struct stat st;
	size_t done = 0;

	if (fstat(fd, &st))
		return thaw_err_set(-errno, "%s: %s", f->name, strerror(errno));
	if (st.st_size > FILE_MOST)
		return thaw_err_set(-EFBIG, "%s: %ld bytes are more than such a file can have", f->name,
				    (long)st.st_size);
	/* A hole of gigabytes would be read into memory before its first record is seen to be none. */
	if (st.st_size > SPARSE_LEAST && st.st_blocks < st.st_size / 512 / 64)
		return thaw_err_set(-EBADMSG, "%s: corrupt: of its %ld bytes hardly any are on the disk", f->name,
				    (long)st.st_size);
	f->owned = malloc((size_t)st.st_size + 1);
	if (!f->owned)
		return thaw_err_set(-ENOMEM, "%s: no memory for its %ld bytes", f->name, (long)st.st_size);
	while (done < (size_t)st.st_size) {
		ssize_t n = pread(fd, f->owned + done, (size_t)st.st_size - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return thaw_err_set(-errno, "%s: at byte %zu: %s", f->name, done, strerror(errno));
		if (!n)
			return thaw_err_set(-EBADMSG, "%s: became shorter while it was read (byte %zu)", f->name, done);
		done += (size_t)n;
	}
	f->buf = f->owned;
	f->len = done;
	return 0;
}

/* ---- framing ----------------------------------------------------------------------------------------------- */
static uint32_t u32_at(const struct thaw_image_file *f, size_t at)
{
	uint32_t v;

	memcpy(&v, f->buf + at, sizeof(v));
	return le32toh(v);
}

static int check_magic(struct thaw_image_file *f, uint32_t magic)
{
	size_t len = magic == THAW_IMAGE_INVENTORY_MAGIC ? 4 : 8;

	if (f->len < len)
		return thaw_err_set(-EBADMSG, "%s: truncated: %zu bytes are not even its magic number", f->name,
				    f->len);
	if (len == 8 && u32_at(f, 0) != THAW_IMAGE_COMMON_MAGIC) {
		/* The oldest images have only their own. */
		if (u32_at(f, 0) != magic)
			return thaw_err_set(-EBADMSG, "%s: is not an image: magic number 0x%08x at byte 0", f->name,
					    u32_at(f, 0));
		f->at = 4;
		return 0;
	}
	if (u32_at(f, len - 4) != magic)
		return thaw_err_set(-EBADMSG,
				    "%s: is another kind of image: magic number 0x%08x at byte %zu, not 0x%08x",
				    f->name, u32_at(f, len - 4), len - 4, magic);
	f->at = len;
	return 0;
}

int thaw_image_parse(struct thaw_image_file *f, const char *name, const void *buf, size_t len, uint32_t magic)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->buf = buf;
	f->len = len;
	return check_magic(f, magic);
}

int thaw_image_load(struct thaw_image_file *f, int dirfd, const char *name, uint32_t magic)
{
	int fd, ret;

	memset(f, 0, sizeof(*f));
	snprintf(f->name, sizeof(f->name), "%s", name);
	fd = thaw_image_open_file(dirfd, name);
	if (fd < 0)
		return fd;
	ret = slurp(f, fd);
	close(fd);
	if (!ret)
		ret = check_magic(f, magic);
	if (ret)
		thaw_image_unload(f);
	return ret;
}

void thaw_image_unload(struct thaw_image_file *f)
{
	free(f->owned);
	f->owned = NULL;
	f->buf = NULL;
}

int thaw_image_next(struct thaw_image_file *f, const ProtobufCMessageDescriptor *type, size_t most,
		    ProtobufCMessage **out)
{
	size_t left = f->len - f->at;
	uint32_t len;

	f->record = f->at;
	if (!left)
		return 0;
	if (left < 4)
		return thaw_err_set(-EBADMSG, "%s: truncated: ends within a record's length at byte %zu", f->name,
				    f->at);
	len = u32_at(f, f->at);
	if (len > most)
		return thaw_err_set(-EBADMSG,
				    "%s: corrupt: a record of %u bytes at byte %zu (at most %zu are possible)", f->name,
				    len, f->at, most);
	if (len > left - 4)
		return thaw_err_set(-EBADMSG, "%s: truncated: the record at byte %zu has %zu of its %u bytes", f->name,
				    f->at, left - 4, len);
	*out = protobuf_c_message_unpack(type, NULL, len, f->buf + f->at + 4);
	if (!*out)
		return thaw_err_set(-EBADMSG, "%s: corrupt: the record at byte %zu cannot be read", f->name, f->at);
	f->at += 4 + (size_t)len;
	return 1;
}
