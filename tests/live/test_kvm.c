// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_kvm.c - a real second MMU: a small virtual machine whose memory is a range that is being restored lazily.
 *
 * The worker makes a machine with one processor in real mode, which adds up the words of a segment. Its memory is absent at first, so
 * the machine's own faults bring it in; then the worker discards parts, moves others in and forks, and the machine, whose translations are
 * dropped by the kernel, must see the new content every time. Skipped where /dev/kvm does not run such a machine. */
#include "config.h"
#include "support/live.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 91
#define SEGMENTS 8
#define SEGMENT 0x10000UL
#define BYTES (SEGMENTS * SEGMENT)
#define SPARES (LIVE_BASE + (1ULL << 30))
#define GUEST 0x10000UL /* where the segments are for the machine; its code is below */
#define NOT_HERE 77

/* cld; xor si,si; xor ebx,ebx; mov cx,0x400; again: lodsd; add ebx,eax; rol ebx,1; add si,60; loop again; hlt
 * One word in 64 bytes: where /dev/kvm is itself served by a machine each takes its time. */
static const unsigned char code[] = { 0xfc, 0x31, 0xf6, 0x66, 0x31, 0xdb, 0xb9, 0x00, 0x04, 0x66, 0xad, 0x66, 0x01, 0xc3,
				      0x66, 0xd1, 0xc3, 0x83, 0xc6, 0x3c, 0xe2, 0xf3, 0xf4 };
#define STEP 64

static struct {
	int vm, cpu;
	struct kvm_run *run;
} kvm;

static int not_here(const char *what)
{
	printf("test_kvm: SKIPPED: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	return NOT_HERE;
}

static int set_memory(unsigned slot, uint64_t guest, void *host, uint64_t bytes)
{
	struct kvm_userspace_memory_region r = { slot, 0, guest, bytes, (uintptr_t)host };

	return ioctl(kvm.vm, KVM_SET_USER_MEMORY_REGION, &r);
}

/* The sum of the segment that begins at `base`, by the machine. 0, or why it did not end in its hlt. */
static int sum_by_machine(uint64_t base, uint32_t *sum)
{
	struct kvm_regs regs = { .rip = 0, .rflags = 2 };
	struct kvm_sregs s;
	int ret;

	if (ioctl(kvm.cpu, KVM_GET_SREGS, &s))
		return -1;
	s.cs.base = s.cs.selector = 0;
	s.ds.base = base;
	s.ds.selector = base >> 4;
	if (ioctl(kvm.cpu, KVM_SET_SREGS, &s) || ioctl(kvm.cpu, KVM_SET_REGS, &regs))
		return -1;
	do
		ret = ioctl(kvm.cpu, KVM_RUN, 0);
	while ((ret && errno == EINTR) || (!ret && kvm.run->exit_reason == KVM_EXIT_INTR));
	if (ret || kvm.run->exit_reason != KVM_EXIT_HLT)
		return ret ? -1 : (int)kvm.run->exit_reason;
	if (ioctl(kvm.cpu, KVM_GET_REGS, &regs))
		return -1;
	*sum = regs.rbx;
	return 0;
}

static uint32_t sum_of(const unsigned char *bytes)
{
	uint32_t sum = 0, word;

	for (unsigned i = 0; i < SEGMENT; i += STEP) {
		memcpy(&word, bytes + i, 4);
		sum += word;
		sum = sum << 1 | sum >> 31;
	}
	return sum;
}

static int make_machine(void)
{
	void *low = mmap(NULL, 2 * SEGMENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC), size, why;
	uint32_t sum;

	if (dev < 0)
		return not_here("/dev/kvm");
	kvm.vm = ioctl(dev, KVM_CREATE_VM, 0);
	if (kvm.vm < 0)
		return not_here("KVM_CREATE_VM");
	memcpy(low, code, sizeof(code));
	memset((char *)low + SEGMENT, 3, SEGMENT); /* content of an ordinary kind, behind the machine's end */
	if (set_memory(0, 0, low, 4096) || set_memory(1, GUEST, (void *)(uintptr_t)LIVE_BASE, BYTES) ||
	    set_memory(2, GUEST + BYTES, (char *)low + SEGMENT, SEGMENT))
		return not_here("KVM_SET_USER_MEMORY_REGION");
	kvm.cpu = ioctl(kvm.vm, KVM_CREATE_VCPU, 0);
	size = ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (kvm.cpu < 0 || size <= 0)
		return not_here("KVM_CREATE_VCPU");
	kvm.run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, kvm.cpu, 0);
	if (kvm.run == MAP_FAILED)
		return not_here("mmap of the virtual processor");
	why = sum_by_machine(GUEST + BYTES, &sum);
	if (why || sum != sum_of((unsigned char *)low + SEGMENT)) {
		printf("test_kvm: SKIPPED: /dev/kvm does not run a trivial machine (exit reason %d)\n", why);
		fflush(stdout);
		return NOT_HERE;
	}
	return 0;
}

/* ---- what it must see ------------------------------------------------------------------------------------------ */
static unsigned char expected[BYTES];

static void *host(uint64_t at)
{
	return (void *)(uintptr_t)(LIVE_BASE + at);
}

static void check(unsigned segment, const char *when)
{
	uint32_t sum = 0;
	int why = sum_by_machine(GUEST + segment * SEGMENT, &sum);

	if (why)
		LIVE_DIE("%s: the machine ends with %d: %s", when, why, strerror(errno));
	if (sum != sum_of(expected + segment * SEGMENT))
		LIVE_DIE("%s: the machine sees another content in segment %u than there is", when, segment);
}

static void discard(uint64_t at, uint64_t bytes)
{
	if (madvise(host(at), bytes, MADV_DONTNEED))
		LIVE_DIE("madvise: %s", strerror(errno));
	memset(expected + at, 0, bytes);
}

static void move_in(uint64_t at, uint64_t spare)
{
	if (mremap((void *)(uintptr_t)(SPARES + spare), LIVE_PAGE, LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, host(at)) == MAP_FAILED)
		LIVE_DIE("mremap: %s", strerror(errno));
	live_fill(expected + at, SEED, SPARES + spare, 0);
}

static _Atomic bool stop;

static void *run_on(void *arg)
{
	uint32_t sum;

	while (!stop) /* translations are made all the time while they become void */
		for (unsigned i = 0; i < SEGMENTS && !stop; i++)
			if (sum_by_machine(GUEST + i * SEGMENT, &sum))
				LIVE_DIE("the machine stops: %s", strerror(errno));
	return NULL;
}

static int work(void *arg, int sock)
{
	uint64_t rnd = 3, spare = 0;
	int why = make_machine(), status;
	pthread_t t;
	pid_t child;

	if (why)
		return why;
	for (uint64_t at = 0; at < BYTES; at += LIVE_PAGE)
		live_fill(expected + at, SEED, LIVE_BASE + at, 0);
	check(0, "restored by the machine's own faults");
	discard(0, SEGMENT / 2);
	check(0, "discarded after it was seen");
	discard(SEGMENT, SEGMENT / 4);
	check(1, "discarded before it was seen");
	move_in(SEGMENT / 2, spare++ * LIVE_PAGE);
	check(0, "absent memory moved in");
	child = fork();
	if (!child)
		_exit(memcmp(host(0), expected, SEGMENT) != 0);
	*(uint32_t *)host(STEP) = 0x12345678; /* a copy is made: the machine's translation was that of the child */
	memcpy(expected + STEP, &(uint32_t){ 0x12345678 }, 4);
	check(0, "written after a fork");
	if (waitpid(child, &status, 0) != child || status)
		LIVE_DIE("the child sees another content");
	for (unsigned round = 0; round < 5; round++) {
		stop = false;
		pthread_create(&t, NULL, run_on, NULL);
		for (unsigned i = 0; i < 10; i++) {
			uint64_t at = live_random(&rnd) % (BYTES / LIVE_PAGE) * LIVE_PAGE;

			if (i % 2)
				discard(at, LIVE_PAGE);
			else
				move_in(at, spare++ * LIVE_PAGE);
		}
		stop = true;
		pthread_join(t, NULL);
		for (unsigned i = 0; i < SEGMENTS; i++)
			check(i, "after changes beside the running machine");
	}
	return 0;
}

static int run(enum thaw_background policy)
{
	struct thaw_range r[2] = { { LIVE_BASE, BYTES, THAW_KIND_ANON, 3, 0 }, { SPARES, 100 * LIVE_PAGE, THAW_KIND_ANON, 3, 0 } };
	struct thaw_memfile_range file[2];
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, policy);
	struct thaw_source *s;
	struct live l;
	int fd, status;

	live_start(&l, r, 2, work, NULL);
	fd = live_file(false, SEED, r, 2, file);
	s = thaw_source_memfile(fd, file, 2);
	live_add(h, &l, s, r, 2);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	if (status && status != NOT_HERE)
		LIVE_DIE("policy %d: the worker ended with %d", policy, status);
	LIVE_OK(thaw_wait(h, 0, 60000));
	thaw_close(h);
	close(fd);
	return status;
}

int main(void)
{
	int status;

	alarm(250);
	status = run(THAW_BACKGROUND_STAY_LAZY);
	return status ? status : run(THAW_BACKGROUND_RUN);
}
