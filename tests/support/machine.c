// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/support/machine.c - a small virtual machine: its code, its slots, and a processor that can be called back */
#include "config.h"
#include "support/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GUEST 0x10000UL /* where the segments are for the machine; its code is below */
#define OWN MACHINE_SEGMENTS /* a segment with content of an ordinary kind, to try the machine with */
#define FIRST_SLOT 1
#define PATIENCE_MS 20

/* cld; xor si,si; xor ebx,ebx; mov cx,0x400; again: lodsd; add ebx,eax; rol ebx,1; add si,60; loop again; hlt
 * One word in 64 bytes: where /dev/kvm is itself served by a machine each takes its time. */
static const unsigned char code[] = { 0xfc, 0x31, 0xf6, 0x66, 0x31, 0xdb, 0xb9, 0x00, 0x04, 0x66, 0xad, 0x66, 0x01, 0xc3,
				      0x66, 0xd1, 0xc3, 0x83, 0xc6, 0x3c, 0xe2, 0xf3, 0xf4 };

static struct {
	int vm, cpu;
	struct kvm_run *run;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t there;    /* segments that have a slot */
	uint32_t doomed;   /* of these: that lose it before the processor runs again */
	int failed;        /* to take one away */
	unsigned stand;    /* how many want the processor to stand */
	bool inside;       /* it runs */
	pthread_t thread;  /* in this one */
	unsigned calls;    /* how often it was called back */
} kvm = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static int set_memory(unsigned slot, uint64_t guest, uint64_t host, uint64_t bytes)
{
	struct kvm_userspace_memory_region r = { slot, 0, guest, bytes, host };

	return ioctl(kvm.vm, KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

static int set_segment(unsigned segment, uint64_t host, uint64_t bytes)
{
	return set_memory(FIRST_SLOT + segment, GUEST + segment * MACHINE_SEGMENT, host, bytes);
}

int machine_set(unsigned segment, uint64_t host)
{
	int err;

	pthread_mutex_lock(&kvm.lock);
	err = kvm.there & 1u << segment ? MACHINE_LOST : set_segment(segment, host, MACHINE_SEGMENT);
	if (!err)
		kvm.there |= 1u << segment;
	pthread_mutex_unlock(&kvm.lock);
	return err;
}

static void bury_locked(void)
{
	for (unsigned i = 0; i < MACHINE_SEGMENTS; i++) {
		int err = kvm.doomed & 1u << i ? set_segment(i, 0, 0) : 0;

		kvm.failed = err ? err : kvm.failed;
	}
	kvm.there &= ~kvm.doomed;
	kvm.doomed = 0;
}

/* A signal that comes just before the processor goes in is lost: they are repeated. */
static void call_back_locked(void)
{
	for (unsigned i = 0; kvm.inside && i < PATIENCE_MS; i++) {
		struct timespec soon;

		kvm.calls++;
		pthread_kill(kvm.thread, SIGUSR1);
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_nsec += 1000000;
		soon.tv_sec += soon.tv_nsec / 1000000000;
		soon.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&kvm.changed, &kvm.lock, &soon);
	}
}

/* To take a slot away the kernel waits for a processor that is in it. If that waits for a page, which may come only when we have returned,
 * and cannot be called back from there, then it takes the slots away itself as soon as it comes out. */
int machine_drop(uint32_t segments)
{
	int err;

	pthread_mutex_lock(&kvm.lock);
	kvm.doomed |= segments & kvm.there;
	kvm.stand++;
	call_back_locked();
	if (!kvm.inside)
		bury_locked();
	kvm.stand--;
	err = kvm.failed;
	pthread_cond_broadcast(&kvm.changed);
	pthread_mutex_unlock(&kvm.lock);
	return err;
}

static bool go_in(unsigned segment, unsigned *calls)
{
	bool in;

	pthread_mutex_lock(&kvm.lock);
	while (kvm.stand)
		pthread_cond_wait(&kvm.changed, &kvm.lock);
	in = kvm.inside = kvm.there & 1u << segment;
	kvm.thread = pthread_self();
	*calls = kvm.calls;
	pthread_mutex_unlock(&kvm.lock);
	return in;
}

/* False: the segment has been dropped meanwhile. */
static bool come_out(unsigned segment, unsigned calls, bool *called)
{
	bool there;

	pthread_mutex_lock(&kvm.lock);
	kvm.inside = false;
	bury_locked();
	there = kvm.there & 1u << segment;
	*called = calls != kvm.calls;
	pthread_cond_broadcast(&kvm.changed);
	pthread_mutex_unlock(&kvm.lock);
	return there;
}

static int set_registers(unsigned segment)
{
	struct kvm_regs regs = { .rip = 0, .rflags = 2 };
	struct kvm_sregs s;

	if (ioctl(kvm.cpu, KVM_GET_SREGS, &s))
		return -errno;
	s.cs.base = s.cs.selector = 0;
	s.ds.base = GUEST + segment * MACHINE_SEGMENT;
	s.ds.selector = s.ds.base >> 4;
	return ioctl(kvm.cpu, KVM_SET_SREGS, &s) || ioctl(kvm.cpu, KVM_SET_REGS, &regs) ? -errno : 0;
}

/* An access that was left to us: the kernel finishes it, with whatever, when it is next entered. Before the registers are set anew. */
static void finish_access(void)
{
	kvm.run->immediate_exit = 1;
	(void)ioctl(kvm.cpu, KVM_RUN, 0); /* EINTR */
	kvm.run->immediate_exit = 0;
}

int machine_sum(unsigned segment, uint32_t *sum)
{
	struct kvm_regs regs;
	unsigned calls;
	bool called, there;
	int err;

again:
	err = set_registers(segment);
	if (err)
		return err;
	do {
		if (!go_in(segment, &calls))
			return MACHINE_LOST;
		err = ioctl(kvm.cpu, KVM_RUN, 0) ? -errno : 0;
		there = come_out(segment, calls, &called);
	} while (err == -EINTR || (!err && kvm.run->exit_reason == KVM_EXIT_INTR));
	if (!err && kvm.run->exit_reason == KVM_EXIT_MMIO) {
		/* Where KVM itself carries the instruction out it finds no memory so, or no slot any more. */
		finish_access();
		if (there && called)
			goto again;
		err = -EFAULT;
	}
	if (!there)
		return MACHINE_LOST;
	if (err || kvm.run->exit_reason != KVM_EXIT_HLT)
		return err ? err : (int)kvm.run->exit_reason;
	if (ioctl(kvm.cpu, KVM_GET_REGS, &regs))
		return -errno;
	*sum = regs.rbx;
	return 0;
}

uint32_t machine_sum_of(const unsigned char *segment)
{
	uint32_t sum = 0, word;

	for (unsigned i = 0; i < MACHINE_SEGMENT; i += MACHINE_STEP) {
		memcpy(&word, segment + i, 4);
		sum += word;
		sum = sum << 1 | sum >> 31;
	}
	return sum;
}

static int not_here(const char *what)
{
	printf("%s: SKIPPED: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	fflush(stdout);
	return MACHINE_NOT_HERE;
}

static void called_back(int sig)
{
}

int machine_make(void)
{
	unsigned char *low = mmap(NULL, 2 * MACHINE_SEGMENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *own;
	struct sigaction sa = { .sa_handler = called_back };
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC), size, why;
	uint32_t sum;

	if (dev < 0)
		return not_here("/dev/kvm");
	kvm.vm = ioctl(dev, KVM_CREATE_VM, 0);
	if (kvm.vm < 0)
		return not_here("KVM_CREATE_VM");
	if (low == MAP_FAILED)
		return not_here("mmap of the machine's own memory");
	own = low + MACHINE_SEGMENT;
	memcpy(low, code, sizeof(code));
	memset(own, 3, MACHINE_SEGMENT);
	if (set_memory(0, 0, (uintptr_t)low, 4096) || machine_set(OWN, (uintptr_t)own))
		return not_here("KVM_SET_USER_MEMORY_REGION");
	kvm.cpu = ioctl(kvm.vm, KVM_CREATE_VCPU, 0);
	size = ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (kvm.cpu < 0 || size <= 0)
		return not_here("KVM_CREATE_VCPU");
	kvm.run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, kvm.cpu, 0);
	if (kvm.run == MAP_FAILED)
		return not_here("mmap of the virtual processor");
	sigaction(SIGUSR1, &sa, NULL); /* no SA_RESTART */
	why = machine_sum(OWN, &sum);
	if (why || sum != machine_sum_of(own)) {
		printf("%s: SKIPPED: /dev/kvm does not run a trivial machine (%d)\n", program_invocation_short_name, why);
		fflush(stdout);
		return MACHINE_NOT_HERE;
	}
	return 0;
}
