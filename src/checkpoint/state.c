// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/state.c - thaw.img, the state of the process beside its memory, as a file */
#include "config.h"
#include "checkpoint/state.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "util/crc32.h"
#include "util/err.h"

#define MAGIC "thawimg\n"
#define MAGIC_LEN 8
#define FILE_MAX_BYTES (1u << 30)

struct record {
	uint32_t len, crc;
};

/* ---- write ------------------------------------------------------------------------------------------------- */
static int write_all(int fd, const unsigned char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return thaw_err_set(-errno, THAW_STATE_FILE ": %s", strerror(errno));
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static void put_record(unsigned char **at, const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_pack(m, *at + sizeof(struct record));
	struct record rec = { htole32((uint32_t)len), htole32(thaw_crc32(0, *at + sizeof(struct record), len)) };

	memcpy(*at, &rec, sizeof(rec));
	*at += sizeof(rec) + len;
}

int thaw_state_write(int dirfd, const ThawState__Head *head, const ThawState__Process *p)
{
	size_t len = MAGIC_LEN + 2 * sizeof(struct record) + protobuf_c_message_get_packed_size(&head->base) +
		     protobuf_c_message_get_packed_size(&p->base);
	unsigned char *buf, *at;
	int fd, r;

	if (len > FILE_MAX_BYTES)
		return thaw_err_set(-EFBIG, THAW_STATE_FILE ": would have %zu bytes, more than 1 GiB", len);
	buf = malloc(len);
	if (!buf)
		return thaw_err_set(-ENOMEM, THAW_STATE_FILE ": no memory for %zu bytes", len);
	memcpy(buf, MAGIC, MAGIC_LEN);
	at = buf + MAGIC_LEN;
	put_record(&at, &head->base);
	put_record(&at, &p->base);
	fd = openat(dirfd, THAW_STATE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		r = thaw_err_set(-errno, THAW_STATE_FILE ": %s", strerror(errno));
	else
		r = write_all(fd, buf, len);
	free(buf);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

void thaw_state_boot_id(char id[64])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, 63);

	id[n > 0 ? n : 0] = '\0';
	id[strcspn(id, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

/* ---- read -------------------------------------------------------------------------------------------------- */
static int record_at(const unsigned char *buf, size_t len, size_t *at, const ProtobufCMessageDescriptor *type, const char *what,
		     ProtobufCMessage **out)
{
	struct record rec;

	if (len - *at < sizeof(rec))
		return thaw_err_set(-EBADMSG, THAW_STATE_FILE ": cut off at byte %zu, before the %s", len, what);
	memcpy(&rec, buf + *at, sizeof(rec));
	rec.len = le32toh(rec.len);
	rec.crc = le32toh(rec.crc);
	if (len - *at - sizeof(rec) < rec.len)
		return thaw_err_set(-EBADMSG, THAW_STATE_FILE ": cut off at byte %zu, within the %s", len, what);
	if (thaw_crc32(0, buf + *at + sizeof(rec), rec.len) != rec.crc)
		return thaw_err_set(-EBADMSG, THAW_STATE_FILE ": corrupt: wrong checksum of the %s (bytes %zu to %zu)", what,
				    *at + sizeof(rec), *at + sizeof(rec) + rec.len);
	*out = protobuf_c_message_unpack(type, NULL, rec.len, buf + *at + sizeof(rec));
	if (!*out)
		return thaw_err_set(-EBADMSG, THAW_STATE_FILE ": corrupt: the %s at byte %zu cannot be read", what,
				    *at + sizeof(rec));
	*at += sizeof(rec) + rec.len;
	return 0;
}

int thaw_state_parse(const unsigned char *buf, size_t len, ThawState__Head **head, ThawState__Process **p)
{
	size_t at = MAGIC_LEN;
	int r;

	*head = NULL;
	*p = NULL;
	if (len < MAGIC_LEN || memcmp(buf, MAGIC, MAGIC_LEN))
		return thaw_err_set(-EBADMSG, THAW_STATE_FILE ": is not a thaw image (wrong first bytes)");
	r = record_at(buf, len, &at, &thaw_state__head__descriptor, "head", (ProtobufCMessage **)head);
	if (r == 0 && (*head)->version > THAW_STATE_VERSION)
		r = thaw_err_set(-ENOTSUP, THAW_STATE_FILE ": version %u, this thaw reads up to %d: use a newer one",
				 (*head)->version, THAW_STATE_VERSION);
	if (r == 0 && (*head)->version < THAW_STATE_VERSION)
		r = thaw_err_set(-ENOTSUP, THAW_STATE_FILE ": version %u, which had no checksums of memory: it is not restored, since nothing "
				 "tells whether it is right; checkpoint the process anew", (*head)->version);
	if (r == 0)
		r = record_at(buf, len, &at, &thaw_state__process__descriptor, "process", (ProtobufCMessage **)p);
	if (r == 0 && at != len)
		r = thaw_err_set(-EBADMSG, THAW_STATE_FILE ": corrupt: %zu bytes too many at byte %zu", len - at, at);
	if (r < 0) {
		thaw_state_free(*head, *p);
		*head = NULL;
		*p = NULL;
	}
	return r;
}

static int slurp(int fd, unsigned char **buf, size_t *len)
{
	struct stat st;
	size_t done = 0;

	if (fstat(fd, &st) < 0)
		return thaw_err_set(-errno, THAW_STATE_FILE ": %s", strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES)
		return thaw_err_set(-EBADMSG, THAW_STATE_FILE ": is not a regular file of at most 1 GiB");
	*len = (size_t)st.st_size;
	*buf = malloc(*len + 1);
	if (!*buf)
		return thaw_err_set(-ENOMEM, THAW_STATE_FILE ": no memory for %zu bytes", *len);
	while (done < *len) {
		ssize_t n = read(fd, *buf + done, *len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return thaw_err_set(n ? -errno : -EBADMSG, THAW_STATE_FILE ": at byte %zu: %s", done,
					    n ? strerror(errno) : "shorter than it was");
		done += (size_t)n;
	}
	return 0;
}

int thaw_state_load(int dirfd, ThawState__Head **head, ThawState__Process **p)
{
	unsigned char *buf = NULL;
	size_t len = 0;
	int fd, r;

	*head = NULL;
	*p = NULL;
	r = thaw_image_check_owner(dirfd, "image directory");
	if (r < 0)
		return r;
	fd = openat(dirfd, THAW_STATE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return thaw_err_set(-errno, THAW_STATE_FILE ": %s", errno == ENOENT ?
				    "no such file: is this the directory of a complete thaw checkpoint?" : strerror(errno));
	r = thaw_image_check_owner(fd, THAW_STATE_FILE);
	if (r == 0)
		r = slurp(fd, &buf, &len);
	if (r == 0)
		r = thaw_state_parse(buf, len, head, p);
	free(buf);
	close(fd);
	return r;
}

void thaw_state_free(ThawState__Head *head, ThawState__Process *p)
{
	if (head)
		thaw_state__head__free_unpacked(head, NULL);
	if (p)
		thaw_state__process__free_unpacked(p, NULL);
}
