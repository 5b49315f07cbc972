// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/restorer.c - a restorer of CRIU images that does what CRIU does beside a lazy-pages daemon, and no more */
#include "config.h"
#include "lazy/restorer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/image.h"
#include "image/write.h"

#define READY_MS 120000
#define NAME_ROOM 64

/* One task at a time speaks on the connection, which all of them share. */
struct rest_shared {
	pthread_mutex_t turn;
};

_Atomic int *rest_words;

bool rest_await(unsigned word, int least)
{
	for (unsigned i = 0; i < 100000; i++) {
		if (rest_words[word] >= least)
			return true;
		poll(NULL, 0, 2);
	}
	fprintf(stderr, "waited in vain for word %u\n", word);
	return false;
}

/* ---- images ------------------------------------------------------------------------------------------------ */
static void put(struct thaw_image_writer *w, const ProtobufCMessage *m)
{
	if (thaw_image_put(w, m))
		LIVE_DIE("image: cannot be written");
}

static struct thaw_image_writer *create(struct rest *r, const char *name, uint32_t magic)
{
	struct thaw_image_writer *w;

	unlinkat(r->dir.fd, name, 0);
	w = thaw_image_create(r->dir.fd, name, magic);
	if (!w)
		LIVE_DIE("%s: cannot be made: %s", name, thaw_get_error());
	return w;
}

static void put_tree(struct rest *r)
{
	ThawImage__Inventory inv = THAW_IMAGE__INVENTORY__INIT;
	struct thaw_image_writer *w = create(r, "inventory.img", THAW_IMAGE_INVENTORY_MAGIC);

	inv.img_version = 2;
	inv.has_fdinfo_per_id = inv.fdinfo_per_id = true;
	put(w, &inv.base);
	LIVE_CHECK(!thaw_image_close(w));
	w = create(r, "pstree.img", THAW_IMAGE_PSTREE_MAGIC);
	for (unsigned i = 0; i < r->n; i++) {
		ThawImage__Pstree p = THAW_IMAGE__PSTREE__INIT;
		uint32_t tid = r->task[i].pid;

		p.pid = p.pgid = p.sid = tid;
		p.ppid = i ? r->task[0].pid : 0;
		p.n_threads = 1;
		p.threads = &tid;
		put(w, &p.base);
	}
	LIVE_CHECK(!thaw_image_close(w));
}

static void put_mm(struct rest *r, const struct rest_task *t)
{
	ThawImage__Mm mm = THAW_IMAGE__MM__INIT;
	ThawImage__Vma *vmas = calloc(t->n_vmas, sizeof(*vmas)), **list = calloc(t->n_vmas, sizeof(*list));
	char name[NAME_ROOM];
	struct thaw_image_writer *w;

	snprintf(name, sizeof(name), "mm-%d.img", t->pid);
	w = create(r, name, THAW_IMAGE_MM_MAGIC);
	for (unsigned i = 0; i < t->n_vmas; i++) {
		thaw_image__vma__init(&vmas[i]);
		vmas[i].start = t->vma[i].addr;
		vmas[i].end = t->vma[i].addr + t->vma[i].pages * LIVE_PAGE;
		vmas[i].prot = t->vma[i].prot ? t->vma[i].prot : PROT_READ | PROT_WRITE;
		vmas[i].flags = MAP_PRIVATE | MAP_ANONYMOUS;
		vmas[i].status = THAW_VMA_REGULAR | THAW_VMA_ANON_PRIVATE;
		vmas[i].fd = -1;
		vmas[i].has_madv = t->vma[i].madv;
		vmas[i].madv = t->vma[i].madv;
		list[i] = &vmas[i];
	}
	mm.n_vmas = t->n_vmas;
	mm.vmas = list;
	put(w, &mm.base);
	LIVE_CHECK(!thaw_image_close(w));
	free(vmas);
	free(list);
}

static void put_pages(int fd, const struct rest_task *t, const struct rest_run *run)
{
	static unsigned char buf[64 * LIVE_PAGE];

	for (uint64_t i = 0; i < run->pages;) {
		size_t n = 0;

		for (; n < sizeof(buf) && i < run->pages; n += LIVE_PAGE, i++)
			live_fill(buf + n, t->pid, run->addr + i * LIVE_PAGE, 0);
		if (write(fd, buf, n) != (ssize_t)n)
			LIVE_DIE("pages file: %s", strerror(errno));
	}
}

static void put_memory(struct rest *r, unsigned number)
{
	const struct rest_task *t = &r->task[number];
	ThawImage__PagemapHead head = THAW_IMAGE__PAGEMAP_HEAD__INIT;
	struct thaw_image_writer *w;
	char name[NAME_ROOM];
	int pages;

	snprintf(name, sizeof(name), "pages-%u.img", number + 1);
	unlinkat(r->dir.fd, name, 0);
	pages = openat(r->dir.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	snprintf(name, sizeof(name), "pagemap-%d.img", t->pid);
	w = create(r, name, THAW_IMAGE_PAGEMAP_MAGIC);
	head.pages_id = number + 1;
	put(w, &head.base);
	for (unsigned i = 0; i < t->n_runs; i++) {
		ThawImage__PagemapEntry e = THAW_IMAGE__PAGEMAP_ENTRY__INIT;

		e.vaddr = t->run[i].addr;
		e.has_flags = true;
		e.flags = t->run[i].flags;
		e.compat_nr_pages = r->wide ? 0 : t->run[i].pages;
		e.has_nr_pages = r->wide;
		e.nr_pages = t->run[i].pages;
		put(w, &e.base);
		if (t->run[i].flags & THAW_PE_PRESENT)
			put_pages(pages, t, &t->run[i]);
	}
	LIVE_CHECK(!thaw_image_close(w));
	close(pages);
}

void rest_images(struct rest *r)
{
	put_tree(r);
	for (unsigned i = 0; i < r->n; i++) {
		if (r->task[i].zombie)
			continue;
		put_mm(r, &r->task[i]);
		put_memory(r, i);
	}
}

void rest_begin(struct rest *r, const struct rest_task *task, unsigned n, bool wide)
{
	pthread_mutexattr_t a;

	LIVE_CHECK(n <= REST_MOST);
	*r = (struct rest){ .task = task, .n = n, .wide = wide, .daemon = -1, .conn = -1 };
	scratch_begin(&r->dir);
	r->shared = mmap(NULL, sizeof(*r->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	LIVE_CHECK(r->shared != MAP_FAILED);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&r->shared->turn, &a);
	if (!rest_words)
		rest_words = mmap(NULL, LIVE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < 16; i++)
		rest_words[i] = 0;
	rest_images(r);
}

/* ---- the daemon -------------------------------------------------------------------------------------------- */
static _Noreturn void be_daemon(struct rest *r, int status_fd, va_list ap)
{
	const char *argv[64] = { "thaw", "lazy-pages", "--no-default-config", "-D", r->dir.path };
	const char *build = getenv("THAW_BUILDDIR");
	char program[512], number[16];
	unsigned n = 5;
	int err = openat(r->dir.fd, "said", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(program, sizeof(program), "%s/thaw", build ? build : ".");
	snprintf(number, sizeof(number), "%d", status_fd);
	argv[n++] = "--status-fd";
	argv[n++] = number;
	while (n < 63 && (argv[n] = va_arg(ap, const char *)))
		n++;
	dup2(err, 1);
	dup2(err, 2);
	close(err);
	execv(program, (char **)argv);
	fprintf(stderr, "%s: %s\n", program, strerror(errno));
	_exit(127);
}

bool rest_daemon(struct rest *r, ...)
{
	struct pollfd p;
	char byte = 'x';
	int status[2];
	va_list ap;
	ssize_t n;

	LIVE_CHECK(!pipe(status));
	fflush(NULL);
	r->daemon = fork();
	if (!r->daemon) {
		close(status[0]);
		va_start(ap, r);
		be_daemon(r, status[1], ap);
	}
	close(status[1]);
	p = (struct pollfd){ .fd = status[0], .events = POLLIN };
	if (poll(&p, 1, READY_MS) != 1)
		LIVE_DIE("the daemon does not say that it listens");
	n = read(status[0], &byte, 1);
	close(status[0]);
	LIVE_CHECK(n == 0 || byte == 0);
	return n == 1;
}

char *rest_read(struct rest *r, const char *name)
{
	int fd = openat(r->dir.fd, name, O_RDONLY | O_CLOEXEC);
	char *text = calloc(1, 1 << 20);
	ssize_t n = fd < 0 ? 0 : read(fd, text, (1 << 20) - 1);

	LIVE_CHECK(n >= 0);
	if (fd >= 0)
		close(fd);
	return text;
}

static void read_said(struct rest *r)
{
	free(r->said);
	r->said = rest_read(r, "said");
}

static unsigned long long number_behind(struct rest *r, const char *name, const char *word, const char *key)
{
	char want[64], *text = rest_read(r, name), *at = strstr(text, word);
	unsigned long long v;

	snprintf(want, sizeof(want), "\"%s\":", key);
	at = at ? strstr(at, want) : NULL;
	if (!at)
		LIVE_DIE("%s: there is no %s in it, or not behind \"%s\": %s", name, key, word, text);
	v = strtoull(at + strlen(want), NULL, 10);
	free(text);
	return v;
}

unsigned long long rest_number(struct rest *r, const char *name, const char *key)
{
	return number_behind(r, name, "", key);
}

unsigned long long rest_task_number(struct rest *r, const char *name, int pid, const char *key)
{
	char word[32];

	snprintf(word, sizeof(word), "\"pid\": %d,", pid);
	return number_behind(r, name, word, key);
}

static char *stat_of(pid_t pid, char *line, size_t len)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	*line = '\0';
	if (f && !fgets(line, (int)len, f))
		*line = '\0';
	if (f)
		fclose(f);
	return strrchr(line, ')');
}

void rest_await_said(struct rest *r, const char *words)
{
	for (unsigned i = 0; i < 6000; i++) {
		char *said = rest_read(r, "said");
		bool found = strstr(said, words);

		free(said);
		if (found)
			return;
		usleep(10000);
	}
	LIVE_DIE("the daemon does not say '%s', but: %s", words, rest_read(r, "said"));
}

char rest_state(pid_t pid)
{
	char line[1024], *at = stat_of(pid, line, sizeof(line));

	return at ? at[2] : '?';
}

unsigned long rest_ticks(pid_t pid)
{
	char line[1024], *at = stat_of(pid, line, sizeof(line));
	unsigned long user = 0, system = 0;

	if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		LIVE_DIE("/proc/%d/stat cannot be read", (int)pid);
	return user + system;
}

bool rest_sleeps(pid_t pid)
{
	unsigned calm = 0;

	for (unsigned i = 0; i < 100000 && calm < 150; i++) {
		char state = rest_state(pid);

		if (state == 'Z' || state == '?' || state == 'X')
			return false;
		calm = state == 'S' || state == 'D' ? calm + 1 : 0;
		poll(NULL, 0, 2);
	}
	return calm >= 150;
}

void rest_ended(struct rest *r, int status, const char *words)
{
	int have = 0;

	LIVE_CHECK(waitpid(r->daemon, &have, 0) == r->daemon);
	r->daemon = -1;
	have = WIFEXITED(have) ? WEXITSTATUS(have) : 128 + WTERMSIG(have);
	read_said(r);
	if (have != status)
		LIVE_DIE("the daemon ended with status %d instead of %d; it said: %s", have, status, r->said);
	if (words && !strstr(r->said, words))
		LIVE_DIE("the daemon did not say '%s', but: %s", words, r->said);
	if (getenv("LIVE_VERBOSE"))
		fputs(r->said, stderr);
}

/* ---- what is said on the socket ---------------------------------------------------------------------------- */
void rest_connect(struct rest *r)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/lazy-pages.socket", r->dir.fd);
	r->conn = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(r->conn, (void *)&a, sizeof(a)))
		LIVE_DIE("lazy-pages.socket: %s", strerror(errno));
}

static void send_bytes(struct rest *r, const void *buf, size_t len)
{
	/* A daemon that has refused us is no reason to die of SIGPIPE. */
	(void)send(r->conn, buf, len, MSG_NOSIGNAL);
}

void rest_send_pid(struct rest *r, int32_t pid)
{
	send_bytes(r, &pid, sizeof(pid));
}

void rest_send_word(struct rest *r, uint32_t word)
{
	send_bytes(r, &word, sizeof(word));
}

void rest_send_fds(struct rest *r, const int *fds, unsigned n, unsigned bytes)
{
	char data[8] = { 0 }, control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct iovec iov = { data, bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	LIVE_CHECK(n <= 16);
	if (n) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	(void)sendmsg(r->conn, &msg, MSG_NOSIGNAL);
}

void rest_hang_up(struct rest *r)
{
	if (r->conn >= 0)
		close(r->conn);
	r->conn = -1;
}

/* ---- a task ------------------------------------------------------------------------------------------------ */
static const struct rest_run *run_at(const struct rest_task *t, uint64_t addr)
{
	for (unsigned i = 0; i < t->n_runs; i++)
		if (addr >= t->run[i].addr && addr - t->run[i].addr < t->run[i].pages * LIVE_PAGE)
			return &t->run[i];
	return NULL;
}

bool rest_page_is(const struct rest_task *t, uint64_t addr)
{
	return run_at(t, addr) ? live_is(addr, 1, t->pid, 0) : live_is_zero(addr, 1);
}

int rest_whole(const struct rest_task *t)
{
	for (unsigned i = 0; i < t->n_vmas; i++)
		for (uint64_t k = 0; k < t->vma[i].pages; k++)
			if (!rest_page_is(t, t->vma[i].addr + k * LIVE_PAGE)) {
				fprintf(stderr, "task %d, mapping %u, page %llu\n", t->pid, i, (unsigned long long)k);
				return 1;
			}
	return 0;
}

/* Memory is made somewhere else first, with the pages that are not lazy in it. */
static void *premap(const struct rest_task *t, const struct rest_vma *v)
{
	char *at = mmap(NULL, v->pages * LIVE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		LIVE_DIE("mmap: %s", strerror(errno));
	madvise(at, v->pages * LIVE_PAGE, MADV_NOHUGEPAGE);
	for (unsigned i = 0; i < t->n_runs; i++) {
		const struct rest_run *run = &t->run[i];

		for (uint64_t k = 0; !(run->flags & THAW_PE_LAZY) && k < run->pages; k++) {
			uint64_t addr = run->addr + k * LIVE_PAGE;

			if (addr >= v->addr && addr - v->addr < v->pages * LIVE_PAGE)
				live_fill(at + (addr - v->addr), t->pid, addr, 0);
		}
	}
	return at;
}

static void place(const struct rest_vma *v, void *from, int uffd)
{
	void *to = (void *)(uintptr_t)v->addr;
	size_t len = v->pages * LIVE_PAGE;
	struct uffdio_register u = { .range = { v->addr, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		LIVE_DIE("mremap to %p: %s", to, strerror(errno));
	for (int n = 0; n < 64; n++)
		if (v->madv >> n & 1 && madvise(to, len, n))
			LIVE_DIE("madvise %d: %s", n, strerror(errno));
	if (v->prot && mprotect(to, len, v->prot))
		LIVE_DIE("mprotect: %s", strerror(errno));
	if (!v->unregistered && ioctl(uffd, UFFDIO_REGISTER, &u))
		LIVE_DIE("UFFDIO_REGISTER: %s", strerror(errno));
}

static void pass(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(90);
}

static void await(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(91); /* the restorer is gone */
}

static _Noreturn void be_task(struct rest *r, const struct rest_task *t, pid_t parent)
{
	void **at = calloc(t->n_vmas, sizeof(*at));
	int uffd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(92);
	close(r->tracks[0][0]);
	close(r->tracks[1][1]);
	for (unsigned i = 0; i < t->n_vmas; i++)
		at[i] = premap(t, &t->vma[i]);
	uffd = thaw_uffd_open();
	if (uffd < 0)
		LIVE_DIE("%s", thaw_get_error());
	if (t->before && t->before(t))
		_exit(94);
	pthread_mutex_lock(&r->shared->turn);
	rest_send_pid(r, t->pid);
	rest_send_fds(r, &uffd, 1, 1);
	pthread_mutex_unlock(&r->shared->turn);
	close(r->conn);
	for (unsigned i = 0; i < t->n_vmas; i++)
		place(&t->vma[i], at[i], uffd);
	close(uffd);
	if (t->early && t->early(t))
		_exit(93);
	pass(r->tracks[0][1]);
	await(r->tracks[1][0]);
	close(r->tracks[0][1]);
	_exit((t->body ? t->body : rest_whole)(t));
}

/* ---- the restore ------------------------------------------------------------------------------------------- */
void rest_spawn(struct rest *r)
{
	pid_t self = getpid();

	LIVE_CHECK(!pipe2(r->tracks[0], O_CLOEXEC) && !pipe2(r->tracks[1], O_CLOEXEC));
	fflush(NULL);
	for (unsigned i = 0; i < r->n; i++) {
		if (r->task[i].zombie) {
			pthread_mutex_lock(&r->shared->turn);
			rest_send_pid(r, -r->task[i].pid);
			pthread_mutex_unlock(&r->shared->turn);
			continue;
		}
		r->pids[i] = fork();
		if (!r->pids[i])
			be_task(r, &r->task[i], self);
		LIVE_CHECK(r->pids[i] > 0);
	}
	close(r->tracks[0][1]);
	close(r->tracks[1][0]);
}

void rest_gather(struct rest *r)
{
	char c;

	for (unsigned i = 0; i < r->n; i++)
		if (!r->task[i].zombie && read(r->tracks[0][0], &c, 1) != 1)
			LIVE_DIE("a task ended before it had registered its memory");
}

void rest_release(struct rest *r)
{
	rest_send_word(r, REST_END);
	for (unsigned i = 0; i < r->n; i++)
		if (!r->task[i].zombie)
			pass(r->tracks[1][1]);
	rest_hang_up(r);
}

int rest_wait(struct rest *r)
{
	int first = 0;

	for (unsigned i = 0; i < r->n; i++) {
		int status = 0;

		if (r->pids[i] <= 0)
			continue;
		LIVE_CHECK(waitpid(r->pids[i], &status, 0) == r->pids[i]);
		r->pids[i] = 0;
		status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (status)
			fprintf(stderr, "task %d ended with status %d\n", r->task[i].pid, status);
		first = first ? first : status;
	}
	close(r->tracks[0][0]);
	close(r->tracks[1][1]);
	return first;
}

void rest_restore(struct rest *r)
{
	rest_connect(r);
	rest_spawn(r);
	rest_gather(r);
	rest_release(r);
	LIVE_CHECK(rest_wait(r) == 0);
}

void rest_end(struct rest *r)
{
	rest_hang_up(r);
	for (unsigned i = 0; i < r->n; i++) {
		if (r->pids[i] <= 0)
			continue;
		kill(r->pids[i], SIGKILL);
		waitpid(r->pids[i], NULL, 0);
	}
	if (r->daemon > 0) {
		kill(r->daemon, SIGKILL);
		waitpid(r->daemon, NULL, 0);
	}
	free(r->said);
	munmap(r->shared, sizeof(*r->shared));
	scratch_end(&r->dir);
}
