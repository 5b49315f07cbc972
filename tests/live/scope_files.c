// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_files.c - open files of every kind: what waits in them, wakes a program and is mapped from them */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

static void put(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static int ino_of(const char *name)
{
	struct stat s;

	CHECK(!stat(name, &s));
	return (int)s.st_ino;
}

static void run_regular(void)
{
	char buf[8];
	struct stat s;
	int a, b, c, d;

	scope_enter();
	put("data", "0123456789");
	a = open("data", O_RDWR | O_CLOEXEC);
	b = dup(a);
	c = open("data", O_RDONLY);
	d = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
	CHECK(lseek(a, 4, SEEK_SET) == 4 && write(d, "before\n", 7) == 7);
	scope_point();
	CHECK(read(b, buf, 2) == 2 && !memcmp(buf, "45", 2) && lseek(a, 0, SEEK_CUR) == 6 && lseek(c, 0, SEEK_CUR) == 0);
	CHECK((fcntl(a, F_GETFD) & FD_CLOEXEC) && !(fcntl(b, F_GETFD) & FD_CLOEXEC) && (fcntl(d, F_GETFL) & O_APPEND));
	CHECK(write(d, "after\n", 6) == 6 && !fstat(d, &s) && s.st_size >= 13 && (int)s.st_ino == ino_of("log"));
}

static void run_deleted(void)
{
	char buf[16];
	struct stat s, t;
	char *map;
	int a, b;

	scope_enter();
	a = open("gone", O_RDWR | O_CREAT, 0640);
	CHECK(a >= 0 && write(a, "content", 7) == 7 && !ftruncate(a, 1 << 20));
	b = open("gone", O_RDONLY);
	map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
	CHECK(b >= 0 && map != MAP_FAILED && !unlink("gone"));
	memcpy(map + 70000, "mapped", 6);
	scope_point();
	CHECK(!fstat(a, &s) && !fstat(b, &t) && s.st_ino == t.st_ino && s.st_nlink == 0 && (s.st_mode & 0777) == 0640);
	CHECK(lseek(a, 0, SEEK_CUR) == 7 && read(b, buf, 7) == 7 && !memcmp(buf, "content", 7));
	CHECK(pread(a, buf, 6, 70000) == 6 && !memcmp(buf, "mapped", 6) && !memcmp(map + 70000, "mapped", 6));
	CHECK(pwrite(a, "through", 7, 90000) == 7 && !memcmp(map + 90000, "through", 7));
	CHECK(access("gone", F_OK) && errno == ENOENT);
}

static void run_memfd(void)
{
	int fd = memfd_create("scope", MFD_ALLOW_SEALING), ro;
	char *map, *ro_map, buf[8], path[40];

	CHECK(fd >= 0 && !ftruncate(fd, 1 << 20));
	map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	scope_fill(map, 1 << 20, 7);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY);
	ro_map = mmap(NULL, 1 << 16, PROT_READ, MAP_SHARED, ro, 1 << 16);
	CHECK(ro_map != MAP_FAILED && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE));
	scope_point();
	CHECK(pread(ro, buf, 1, 0) == 1 && buf[0] == map[0]);
	CHECK(scope_is_filled(map, 1 << 20, 7) && !memcmp(ro_map, map + (1 << 16), 1 << 16));
	memcpy(map + (1 << 16), "shared", 6);
	CHECK(!memcmp(ro_map, "shared", 6) && pread(fd, buf, 6, 1 << 16) == 6 && !memcmp(buf, "shared", 6));
	CHECK_IS(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
	CHECK(pwrite(fd, "x", 1, 0) < 0 && errno == EPERM);
}

static void run_directory(void)
{
	struct dirent *e;
	DIR *d;
	int n = 0, seen = 0;

	scope_enter();
	for (int i = 0; i < 500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%030d", i);
		put(name, "");
	}
	d = opendir(".");
	CHECK(d);
	for (; n < 100 && (e = readdir(d)); n++)
		seen += e->d_name[0] != '.';
	scope_point();
	while ((e = readdir(d)))
		seen += e->d_name[0] != '.';
	CHECK_IS(seen, 500);
	CHECK(faccessat(dirfd(d), "000000000000000000000000000007", F_OK, 0) == 0);
}

static void run_devices(void)
{
	int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY), random = open("/dev/urandom", O_RDONLY);
	char a[8] = "xxxxxxx", b[8];

	scope_point();
	CHECK(write(null, "x", 1) == 1 && read(null, a, 1) == 0 && read(zero, a, 8) == 8 && !memcmp(a, "\0\0\0\0\0\0\0", 8));
	CHECK(read(random, a, 8) == 8 && read(random, b, 8) == 8 && memcmp(a, b, 8));
}

static void run_pipes(void)
{
	static char buf[70000];
	int p[2], q[2], full[2];

	CHECK(!pipe(p) && !pipe2(q, O_DIRECT | O_NONBLOCK) && !pipe2(full, O_NONBLOCK));
	CHECK(write(p[1], "in the pipe", 11) == 11 && write(q[1], "a", 1) == 1 && write(q[1], "bcd", 3) == 3);
	memset(buf, 'f', sizeof(buf));
	CHECK(write(full[1], buf, sizeof(buf)) == 65536 && !close(full[1]));
	scope_point();
	CHECK(read(p[0], buf, 100) == 11 && !memcmp(buf, "in the pipe", 11) && write(p[1], "2", 1) == 1 && read(p[0], buf, 9) == 1);
	CHECK(read(q[0], buf, 100) == 1 && read(q[0], buf, 100) == 3 && read(q[0], buf, 100) < 0 && errno == EAGAIN);
	CHECK(read(full[0], buf, sizeof(buf)) == 65536 && buf[65535] == 'f' && read(full[0], buf, 1) == 0);
}

static void run_fifo(void)
{
	char buf[16];
	struct stat s;
	int r, w;

	scope_enter();
	CHECK(!mkfifo("fifo", 0600));
	r = open("fifo", O_RDONLY | O_NONBLOCK);
	w = open("fifo", O_WRONLY);
	CHECK(write(w, "waiting", 7) == 7);
	scope_point();
	CHECK(read(r, buf, 16) == 7 && !memcmp(buf, "waiting", 7) && write(w, "on", 2) == 2 && read(r, buf, 16) == 2);
	CHECK(!fstat(r, &s) && (int)s.st_ino == ino_of("fifo"));
}

/* A thread waits in epoll for all that can happen, over the checkpoint. */
static int list, happened[8];

static void *wait_for_all(void *arg)
{
	struct epoll_event e[8];
	int n;

	(void)arg;
	for (;;) {
		n = epoll_wait(list, e, 8, -1);
		if (n < 0 && errno == EINTR)
			continue;
		CHECK(n > 0);
		for (int i = 0; i < n; i++) {
			__atomic_store_n(&happened[e[i].data.u32], 1, __ATOMIC_RELEASE);
			if (e[i].data.u32 == 0)
				return NULL;
		}
	}
}

static void watch(int fd, uint32_t events, uint32_t what)
{
	struct epoll_event e = { .events = events, .data.u32 = what };

	CHECK(!epoll_ctl(list, EPOLL_CTL_ADD, fd, &e));
}

static void await(int what)
{
	double end = scope_now() + 20;

	while (!__atomic_load_n(&happened[what], __ATOMIC_ACQUIRE)) {
		CHECK(scope_now() < end);
		usleep(1000);
	}
}

static void run_events(void)
{
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	int stop, counter, timer, sig, p[2];
	uint64_t one = 1, v;
	sigset_t set;
	pthread_t t;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	list = epoll_create1(EPOLL_CLOEXEC);
	stop = eventfd(0, 0);
	counter = eventfd(0, EFD_NONBLOCK);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	sig = signalfd(-1, &set, SFD_NONBLOCK);
	CHECK(!pipe(p));
	watch(stop, EPOLLIN, 0);
	watch(counter, EPOLLIN | EPOLLET, 1);
	watch(timer, EPOLLIN | EPOLLONESHOT, 2);
	watch(sig, EPOLLIN | EPOLLONESHOT, 3);
	watch(p[0], EPOLLIN | EPOLLONESHOT, 4);
	t = scope_blocked(wait_for_all, NULL);
	scope_point();
	CHECK(!happened[1] && !happened[2] && !happened[3] && !happened[4]);
	CHECK(write(counter, &one, 8) == 8);
	await(1);
	CHECK(!timerfd_settime(timer, 0, &soon, NULL));
	await(2);
	CHECK(read(timer, &v, 8) == 8 && v == 1);
	kill(getpid(), SIGUSR1);
	await(3);
	CHECK(write(p[1], "x", 1) == 1);
	await(4);
	CHECK(write(stop, &one, 8) == 8 && !pthread_join(t, NULL));
}

static void run_timerfd(void)
{
	int rel = timerfd_create(CLOCK_MONOTONIC, 0), ticked = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	struct itimerspec its = { .it_value.tv_sec = 1000, .it_interval.tv_sec = 7 };
	struct itimerspec fast = { .it_value.tv_nsec = 1000000, .it_interval.tv_nsec = 10000000 };
	uint64_t v;

	CHECK(!timerfd_settime(rel, 0, &its, NULL) && !timerfd_settime(ticked, 0, &fast, NULL));
	usleep(50000);
	scope_point();
	CHECK(!timerfd_gettime(rel, &its) && its.it_value.tv_sec > 900 && its.it_value.tv_sec < 1000 && its.it_interval.tv_sec == 7);
	CHECK(read(ticked, &v, 8) == 8 && v >= 5);
	usleep(30000);
	CHECK(read(ticked, &v, 8) == 8);
}

static void run_inotify(void)
{
	union {
		struct inotify_event e;
		char room[4096];
	} u;
	int fd = inotify_init1(IN_NONBLOCK), wd;

	scope_enter();
	CHECK(!mkdir("watched", 0700));
	CHECK(inotify_add_watch(fd, "/tmp", IN_DELETE_SELF) == 1 && (wd = inotify_add_watch(fd, "watched", IN_CREATE)) == 2);
	scope_point();
	CHECK(read(fd, &u, sizeof(u)) < 0 && errno == EAGAIN);
	unlink("watched/new");
	put("watched/new", "");
	CHECK(read(fd, &u, sizeof(u)) > 0 && u.e.wd == wd && u.e.mask == IN_CREATE && !strcmp(u.e.name, "new"));
}

/* It saw its own files being opened, its socket bound, its removed file made again: events that nobody had caused. */
static void run_quiet(void)
{
	struct sockaddr_un u = { .sun_family = AF_UNIX, .sun_path = "bound.sock" };
	int fd = inotify_init1(IN_NONBLOCK), un = socket(AF_UNIX, SOCK_DGRAM, 0), gone, open_one, unread = -1;
	char *map;

	scope_enter();
	put("file", "content");
	put("mapped", "content");
	CHECK((open_one = open("file", O_RDWR)) >= 0 && open(".", O_RDONLY | O_DIRECTORY) >= 0);
	CHECK(!bind(un, (void *)&u, sizeof(u)) && !mkfifo("fifo", 0600) && open("fifo", O_RDWR) >= 0);
	CHECK((gone = open("gone", O_RDWR | O_CREAT, 0600)) >= 0 && !unlink("gone"));
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("mapped", O_RDONLY), 0);
	CHECK(map != MAP_FAILED && write(gone, "x", 1) == 1);
	map[0] = 'C';
	CHECK(inotify_add_watch(fd, "file", IN_ALL_EVENTS) == 1 && inotify_add_watch(fd, "/tmp", IN_DELETE_SELF) == 2);
	CHECK(!inotify_rm_watch(fd, 2) && read(fd, (char[4096]){ 0 }, 4096) > 0);
	CHECK(inotify_add_watch(fd, ".", IN_ALL_EVENTS) == 3 && inotify_add_watch(fd, "mapped", IN_ALL_EVENTS | IN_ONESHOT) == 4);
	scope_point();
	CHECK(!ioctl(fd, FIONREAD, &unread));
	CHECK_IS(unread, 0);
	CHECK(pwrite(open_one, "C", 1, 0) == 1 && !ioctl(fd, FIONREAD, &unread) && unread > 0);
}

static void run_listen(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un u = { .sun_family = AF_UNIX, .sun_path = "listen.sock" };
	int tcp = socket(AF_INET, SOCK_STREAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0), one = 1, c, s;
	socklen_t len = sizeof(a);
	struct stat st;
	char x;

	scope_enter();
	CHECK(!setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) && !bind(tcp, (void *)&a, sizeof(a)) && !listen(tcp, 7));
	CHECK(!getsockname(tcp, (void *)&a, &len));
	CHECK(!bind(un, (void *)&u, sizeof(u)) && !listen(un, 7) && !chmod("listen.sock", 0666));
	scope_point();
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!connect(c, (void *)&a, sizeof(a)) && (s = accept(tcp, NULL, NULL)) >= 0 && write(c, "x", 1) == 1 && read(s, &x, 1) == 1);
	close(c);
	close(s);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(!connect(c, (void *)&u, sizeof(u)) && (s = accept(un, NULL, NULL)) >= 0 && write(s, "y", 1) == 1 && read(c, &x, 1) == 1);
	CHECK(!stat("listen.sock", &st) && (st.st_mode & 0777) == 0666);
}

static void run_pairs(void)
{
	char buf[64];
	int s[2], d[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, s) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
	CHECK(write(s[0], "stream", 6) == 6 && !shutdown(s[0], SHUT_WR) && write(d[0], "one", 3) == 3 && write(d[0], "two", 3) == 3);
	scope_point();
	CHECK(read(s[1], buf, 64) == 6 && !memcmp(buf, "stream", 6) && read(s[1], buf, 64) == 0);
	CHECK(write(s[1], "back", 4) == 4 && read(s[0], buf, 64) == 4);
	CHECK(read(d[1], buf, 64) == 3 && read(d[1], buf, 64) == 3 && !memcmp(buf, "two", 3));
}

/* The lock of a file that is mapped: the restore opens and closes descriptors of it for the mapping. */
static void run_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 5 }, got;
	int a, b, status;
	char *map;
	pid_t pid;

	scope_enter();
	put("locked", "0123456789");
	a = open("locked", O_RDWR);
	b = open("other", O_RDWR | O_CREAT, 0600);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
	CHECK(map != MAP_FAILED && !fcntl(a, F_SETLK, &l) && !flock(b, LOCK_EX));
	scope_point();
	CHECK(map[3] == '3');
	pid = fork();
	if (!pid) {
		got = l;
		_exit(fcntl(a, F_GETLK, &got) || got.l_type != F_WRLCK || got.l_start != 5 || got.l_pid != getppid() ? 1 :
		      flock(open("other", O_RDWR), LOCK_SH | LOCK_NB) == 0 ? 2 : 0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_IS(status, 0);
}

static void run_many(void)
{
	struct rlimit r;
	struct stat s;
	int high, n = 0;

	scope_enter();
	put("many", "m");
	CHECK(!getrlimit(RLIMIT_NOFILE, &r));
	high = r.rlim_cur > 5000 ? 4999 : (int)r.rlim_cur - 1;
	CHECK(dup2(open("many", O_RDONLY), high) == high);
	while (n < 800 && open("many", O_RDONLY) < 900)
		n++;
	scope_point();
	for (int fd = 20; fd < n; fd++)
		CHECK(!fstat(fd, &s) && s.st_size == 1);
	CHECK(!fstat(high, &s) && s.st_size == 1 && fstat(high - 1, &s) < 0);
}

/* An asynchronous signal goes to the thread that asked for it. */
static volatile int sigio_tid;

static void on_io(int sig)
{
	(void)sig;
	sigio_tid = gettid();
}

static int asked[2], asked_tid, asked_end;

static void *asking(void *arg)
{
	struct f_owner_ex o = { F_OWNER_TID, gettid() };

	(void)arg;
	asked_tid = gettid();
	CHECK(!fcntl(asked[0], F_SETOWN_EX, &o) && !fcntl(asked[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	while (!__atomic_load_n(&asked_end, __ATOMIC_ACQUIRE))
		usleep(1000);
	return NULL;
}

static void run_sigio(void)
{
	struct sigaction a = { .sa_handler = on_io, .sa_flags = SA_RESTART };
	double end;
	pthread_t t;

	sigaction(SIGIO, &a, NULL);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, asked) && !pthread_create(&t, NULL, asking, NULL));
	usleep(50000);
	scope_point();
	CHECK((fcntl(asked[0], F_GETFL) & (O_ASYNC | O_NONBLOCK)) == (O_ASYNC | O_NONBLOCK));
	CHECK(write(asked[1], "x", 1) == 1);
	for (end = scope_now() + 10; !sigio_tid && scope_now() < end;)
		usleep(1000);
	CHECK_IS(sigio_tid, asked_tid);
	__atomic_store_n(&asked_end, 1, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
}

const struct scope_item scope_files[] = {
	{ "file-regular", run_regular },
	{ "file-deleted", run_deleted },
	{ "file-memfd", run_memfd },
	{ "file-directory", run_directory },
	{ "file-devices", run_devices },
	{ "file-pipes", run_pipes },
	{ "file-fifo", run_fifo },
	{ "file-events", run_events },
	{ "file-timerfd", run_timerfd },
	{ "file-inotify", run_inotify },
	{ "file-inotify-quiet", run_quiet },
	{ "file-listen", run_listen },
	{ "file-pairs", run_pairs },
	{ "file-locks", run_locks },
	{ "file-many", run_many },
	{ "file-sigio", run_sigio },
	{ NULL, NULL },
};
