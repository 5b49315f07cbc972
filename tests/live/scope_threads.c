// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_threads.c - what belongs to a thread: number, TLS, registers, robust lists, rseq, name, affinity */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>

static volatile bool stop;
static __thread uint64_t own[64];

static pid_t tid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

/* Every thread keeps its number, its TLS and its place; then it ends and can be waited for. */
static void *keeps_itself(void *arg)
{
	pid_t before = tid();
	uint64_t turns = 0;
	char name[16];

	snprintf(name, sizeof(name), "keeper-%ld", (long)arg);
	pthread_setname_np(pthread_self(), name);
	for (int i = 0; i < 64; i++)
		own[i] = (uint64_t)arg * 1000 + (uint64_t)i;
	while (!stop) {
		turns++;
		if (turns % 64 == 0)
			usleep(500);
		for (int i = 0; i < 64; i++)
			CHECK_IS(own[i], (uint64_t)arg * 1000 + (uint64_t)i);
	}
	CHECK_IS(tid(), before);
	memset(name, 0, sizeof(name));
	CHECK(!pthread_getname_np(pthread_self(), name, sizeof(name)) && !strncmp(name, "keeper-", 7) &&
	      atol(name + 7) == (long)arg);
	return arg;
}

static void run_tls(void)
{
	enum { N = 40 };
	pthread_t t[N];
	void *result;

	for (long i = 0; i < N; i++)
		CHECK(!pthread_create(&t[i], NULL, keeps_itself, (void *)i));
	usleep(20000);
	scope_point();
	usleep(20000);
	stop = true;
	for (long i = 0; i < N; i++) {
		CHECK(!pthread_join(t[i], &result));
		CHECK_IS((long)result, i);
	}
	CHECK(!pthread_create(&t[0], NULL, keeps_itself, (void *)5)); /* and new ones can be made */
	CHECK(!pthread_join(t[0], &result) && (long)result == 5);
}

/* A value that lives in vector registers only, in a loop that is interrupted anywhere. */
__attribute__((noinline)) static void *spin_vectors(void *arg)
{
	uint64_t seed = (uint64_t)arg, turns = 0, lanes[8], check[8];

	for (int i = 0; i < 8; i++)
		lanes[i] = seed * 0x9e3779b97f4a7c15ULL + (uint64_t)i;
	while (!stop) {
		memset(check, 0, sizeof(check));
		__asm__ volatile("movdqu (%1), %%xmm3\n movdqu 16(%1), %%xmm7\n movdqu 32(%1), %%xmm11\n movdqu 48(%1), %%xmm15\n"
				 "mov $200000, %%ecx\n"
				 "1: paddq %%xmm3, %%xmm7\n psubq %%xmm3, %%xmm7\n dec %%ecx\n jnz 1b\n"
				 "movdqu %%xmm3, (%0)\n movdqu %%xmm7, 16(%0)\n movdqu %%xmm11, 32(%0)\n movdqu %%xmm15, 48(%0)\n"
				 : : "r"(check), "r"(lanes) : "ecx", "xmm3", "xmm7", "xmm11", "xmm15", "memory");
		CHECK(!memcmp(check, lanes, sizeof(lanes)));
		turns++;
	}
	return (void *)turns;
}

#ifdef __x86_64__
__attribute__((noinline, target("avx2"))) static void *spin_avx(void *arg)
{
	uint64_t lanes[4], check[4];

	for (int i = 0; i < 4; i++)
		lanes[i] = (uint64_t)arg * 0xbf58476d1ce4e5b9ULL + (uint64_t)i;
	while (!stop) {
		__asm__ volatile("vmovdqu (%1), %%ymm4\n vmovdqu %%ymm4, %%ymm12\n"
				 "mov $200000, %%ecx\n"
				 "1: vpaddq %%ymm4, %%ymm12, %%ymm5\n vpsubq %%ymm4, %%ymm5, %%ymm12\n dec %%ecx\n jnz 1b\n"
				 "vmovdqu %%ymm12, (%0)\n"
				 : : "r"(check), "r"(lanes) : "ecx", "xmm4", "xmm5", "xmm12", "memory");
		CHECK(!memcmp(check, lanes, sizeof(lanes)));
	}
	return NULL;
}
#endif

static void run_vectors(void)
{
	enum { N = 12 };
	bool avx = __builtin_cpu_supports("avx2");
	pthread_t t[N];

	for (long i = 0; i < N; i++)
		CHECK(!pthread_create(&t[i], NULL, avx && i % 2 ? spin_avx : spin_vectors, (void *)(i + 1)));
	usleep(20000);
	scope_point();
	usleep(50000);
	stop = true;
	for (long i = 0; i < N; i++)
		CHECK(!pthread_join(t[i], NULL));
}

static pthread_mutex_t robust;

static void *owner(void *arg)
{
	(void)arg;
	CHECK(!pthread_mutex_lock(&robust));
	while (!stop)
		usleep(1000);
	return NULL; /* with the lock */
}

/* A robust mutex is given up by the kernel when its owner ends in the new life. */
static void run_robust(void)
{
	pthread_mutexattr_t a;
	pthread_t t;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	CHECK(!pthread_mutex_init(&robust, &a));
	CHECK(!pthread_create(&t, NULL, owner, NULL));
	while (!pthread_mutex_trylock(&robust)) { /* until the thread has it */
		pthread_mutex_unlock(&robust);
		usleep(1000);
	}
	scope_point();
	CHECK_IS(pthread_mutex_trylock(&robust), EBUSY);
	stop = true;
	CHECK(!pthread_join(t, NULL));
	CHECK_IS(pthread_mutex_lock(&robust), EOWNERDEAD);
	CHECK(!pthread_mutex_consistent(&robust) && !pthread_mutex_unlock(&robust));
}

/* What the kernel writes for a thread that ends lies in pages of their own that nobody else touches before: the words of three
 * robust mutexes (one of them with priority inheritance), and the one that is cleared. */
enum { MUTEXES = 3, APART = 64 * 4096 };
static char *apart;

static pthread_mutex_t *mutex_apart(int i)
{
	return (pthread_mutex_t *)(apart + i * APART);
}

static void *owns_all(void *arg)
{
	for (int i = 0; i < MUTEXES; i++)
		CHECK(!pthread_mutex_lock(mutex_apart(i)));
	*(volatile bool *)arg = true;
	while (!stop)
		usleep(1000);
	return NULL;
}

static void *is_cleared(void *arg)
{
	volatile pid_t *word = arg;

	CHECK_IS(syscall(SYS_set_tid_address, word), tid());
	*word = tid();
	while (!stop)
		usleep(1000);
	syscall(SYS_exit, 0); /* as the C library ends a thread, which knows nothing of this word */
	return NULL;
}

static void make_mutexes(void)
{
	pthread_mutexattr_t a;

	for (int i = 0; i < MUTEXES; i++) {
		CHECK(!pthread_mutexattr_init(&a) && !pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
		CHECK(!pthread_mutexattr_setprotocol(&a, i == 1 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE));
		CHECK(!pthread_mutex_init(mutex_apart(i), &a));
	}
}

static void run_ends_apart(void)
{
	volatile bool locked = false;
	volatile pid_t *word;
	char path[64];
	struct timespec limit;
	pthread_t t, raw;
	pid_t ended;

	apart = mmap(NULL, (MUTEXES + 1) * APART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(apart != MAP_FAILED);
	for (int at = 0; at < (MUTEXES + 1) * APART; at += 4096)
		apart[at] = at % APART ? 1 : 0; /* what lies between is content too */
	make_mutexes();
	CHECK(!pthread_create(&t, NULL, owns_all, (void *)&locked));
	word = (pid_t *)(apart + MUTEXES * APART);
	CHECK(!pthread_create(&raw, NULL, is_cleared, (void *)word));
	while (!locked || !*word)
		usleep(1000);
	ended = *word;
	scope_point();
	stop = true;
	CHECK(!pthread_join(t, NULL));
	for (int i = 0; i < MUTEXES; i++) {
		CHECK(!clock_gettime(CLOCK_REALTIME, &limit));
		limit.tv_sec += 20;
		CHECK_IS(pthread_mutex_timedlock(mutex_apart(i), &limit), EOWNERDEAD);
		CHECK(!pthread_mutex_consistent(mutex_apart(i)) && !pthread_mutex_unlock(mutex_apart(i)));
	}
	snprintf(path, sizeof(path), "/proc/self/task/%d", (int)ended);
	while (!access(path, F_OK))
		usleep(1000);
	CHECK_IS(*word, 0);
}

/* The kernel keeps the registered area up to date in the new life, too. */
static void *check_rseq(void *arg)
{
	struct rseq *r = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	cpu_set_t one;

	while (!stop)
		usleep(1000);
	for (int cpu = 0; __rseq_size && cpu < 2; cpu++) {
		CPU_ZERO(&one);
		CPU_SET((unsigned)cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			continue;
		sched_yield();
		CHECK_IS((int)*(volatile uint32_t *)&r->cpu_id, cpu);
	}
	CHECK(!__rseq_size || syscall(SYS_rseq, r, 32, 0, 0x53053053) < 0); /* EBUSY or EINVAL: there is one */
	return arg;
}

static void run_rseq(void)
{
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, check_rseq, NULL));
	scope_point();
	stop = true;
	CHECK(!pthread_join(t, NULL));
	check_rseq(NULL);
}

static void run_schedule(void)
{
	cpu_set_t one, now;
	int have_one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	have_one = !sched_setaffinity(0, sizeof(one), &one);
	CHECK(!setpriority(PRIO_PROCESS, 0, 7) && !prctl(PR_SET_TIMERSLACK, 123456));
	CHECK(!prctl(PR_SET_NAME, "a (new) name"));
	scope_point();
	CHECK(!sched_getaffinity(0, sizeof(now), &now) && (!have_one || CPU_EQUAL(&now, &one)));
	errno = 0;
	CHECK_IS(getpriority(PRIO_PROCESS, 0), 7);
	CHECK_IS(prctl(PR_GET_TIMERSLACK), 123456);
	char name[16];
	CHECK(!prctl(PR_GET_NAME, name) && !strcmp(name, "a (new) name"));
}

/* SCHED_BATCH in one thread, SCHED_IDLE in another. */
static void *with_policy(void *arg)
{
	struct sched_param p = { 0 };

	CHECK(!sched_setscheduler(0, (int)(long)arg, &p));
	while (!stop)
		usleep(1000);
	CHECK_IS(sched_getscheduler(0), (long)arg);
	return NULL;
}

static void run_policies(void)
{
	pthread_t a, b;

	CHECK(!pthread_create(&a, NULL, with_policy, (void *)SCHED_BATCH));
	CHECK(!pthread_create(&b, NULL, with_policy, (void *)SCHED_IDLE));
	usleep(20000);
	scope_point();
	stop = true;
	CHECK(!pthread_join(a, NULL) && !pthread_join(b, NULL));
	CHECK_IS(sched_getscheduler(0), SCHED_OTHER);
}

static pthread_mutex_t *priority;

static void *wants_priority(void *arg)
{
	(void)arg;
	CHECK(!pthread_mutex_lock(priority));
	CHECK(!pthread_mutex_unlock(priority));
	return NULL;
}

/* A thread waits in FUTEX_LOCK_PI, whose word has a page of its own: made again before that page was in, it failed with EFAULT. */
static void run_priority_lock(void)
{
	pthread_mutexattr_t a;
	pthread_t t;

	priority = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(priority != MAP_FAILED);
	CHECK(!pthread_mutexattr_init(&a) && !pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
	CHECK(!pthread_mutex_init(priority, &a) && !pthread_mutex_lock(priority));
	t = scope_blocked(wants_priority, NULL);
	scope_point();
	CHECK(!pthread_mutex_unlock(priority) && !pthread_join(t, NULL));
}

const struct scope_item scope_threads[] = {
	{ "tls", run_tls },
	{ "vectors", run_vectors },
	{ "robust", run_robust },
	{ "ends-apart", run_ends_apart },
	{ "priority-lock", run_priority_lock },
	{ "rseq", run_rseq },
	{ "schedule", run_schedule },
	{ "policies", run_policies },
	{ 0 },
};
