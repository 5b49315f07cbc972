/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* thaw.pml - thaw's protocol between a monitor, its process and the kernel: what there is, and what must hold of it.
 *
 * README.md says what is modelled, which function each part stands for and how to run it. Everything is chosen by -D:
 *
 *	the kernel       LOCK        map_changing_lock (6.9 and later, and the patched 6.1)
 *	                 LOOKUP_FIRST  mappings are looked up before mmap_changing is compared (6.9 and later)
 *	                 DROPS       a source may have to be faulted in, for which a fill drops its locks
 *	                 BOOL        mmap_changing is a bool (5.10)
 *	                 PATCHED     a fill counts the changes in a gap, and with LOOKUP_FIRST does not say ENOENT of what is changing
 *	                 NUMBERS     messages carry a number, fills can demand one (the patched kernel, so PATCHED as well)
 *	                 PREEMPT     a thread can lose its CPU between a change and the queueing of its message
 *	the process      WORK_n      what its threads may do, see application.pml; LEFT_n: how many things (1)
 *	                 N           pages (2); THREE: the third is a mapping with content, not a gap; IN: the page that is in already
 *	                 ORDERLY     a thread moves or unmaps what another one has moved only when that call has returned
 *	                 RACY        a discard hits what another thread has just moved to the place
 *	the monitor      COPIERS     how many (1); CHUNK: pages a fill may have (2); BATCH: messages a read takes (3)
 *	                 DEMAND      content may have to be fetched: a fault is handed to a copier
 *	                 a name of a rule in capitals: that rule is left out, see monitor.pml
 *	what happens     DIES        the monitor ends at any instant; KILL: the process does; KILL_ONE: one of two that share the mm
 *	the question     FAIR=t      an LTL property instead of assertions: thread t is served */

#include "seen.pml"

#if defined(NUMBERS) && !defined(MATCH_ONCE)
#define PATCHED
#endif
#ifndef N
#define N 2 /* pages of an address space; 3 where there has to be a place to move to */
#endif
#define PROCESS 0
#define CHILD 1
#define THREADS 3 /* 0 and 1 of the process, 2 of the child */
#define MM_OF(t) ((t) == 2)
#define AT(m, a) ((m) * N + (a))

#ifndef COPIERS
#define COPIERS 1
#endif
#ifndef CHUNK
#define CHUNK 2
#endif
#ifndef BATCH
#define BATCH 3
#endif

/* What a page holds. CONTENT + i: what page i held when the checkpoint was made. */
#define NONE 0
#define ZERO 1
#define OWN 2
#define CONTENT 3

/* ---- what is true: asked by the properties only ----------------------------------------------------------------- */

byte want[2 * N];     /* what who reads the page has to find in it */
bool either[2 * N];   /* a discard and another change were at the same time: zero is as good */
byte discards[N];     /* threads that are discarding the page of the process: zero is as good */

bool stale_page, lost_content, wrong_page, child_page; /* properties: see look() */
bool lost_fault, lost_event;                           /* properties: see watch() */
bool wanting[THREADS]; /* the thread is about to use a page and has not done so */

#define VIOLATES(what) what = 1; assert(!what)

/* A thread of m finds v in page a. */
inline look(m_l, a_l, v_l)
{
	if
	:: v_l == want[AT(m_l, a_l)] || (v_l == ZERO && (either[AT(m_l, a_l)] || (m_l == PROCESS && discards[a_l])))
	:: else ->
		if
		:: m_l == CHILD -> VIOLATES(child_page)
		:: m_l != CHILD && (want[AT(m_l, a_l)] == ZERO || want[AT(m_l, a_l)] == OWN) -> VIOLATES(stale_page)
		:: m_l != CHILD && want[AT(m_l, a_l)] >= CONTENT && v_l == ZERO -> VIOLATES(lost_content)
		:: m_l != CHILD && want[AT(m_l, a_l)] >= CONTENT && v_l != ZERO -> VIOLATES(wrong_page)
		fi
	fi
}

bool dead;     /* the monitor */
bool finished; /* the process: killed */

#include "kernel.pml"
#include "application.pml"
#include "monitor.pml"
#include "copier.pml"

#ifdef DIES
/* The monitor ends between any two of its steps, in the middle of an ioctl too: its locks are dropped then. */
proctype death()
{
	atomic {
		!dead;
		SEEN(died);
		dead = 1;
		filling[PROCESS] = 0;
		filling[CHILD] = 0;
#ifdef NO_HOLDER
		close_uffd(PROCESS);
		close_uffd(CHILD);
#endif
	}
}
#endif

#ifndef FAIR
/* Nothing at all can happen any more: nobody may be asleep then, unless the monitor is dead. */
proctype watch()
{
	atomic {
		timeout;
		if
		:: !dead && (fault[0] || fault[1] || fault[2]) -> VIOLATES(lost_fault)
		:: !dead && (waiting[0] || waiting[1]) -> VIOLATES(lost_event)
		:: else
		fi
	}
}
#else
/* Thread FAIR, whenever it wants a page, gets it. */
ltl served { [] (wanting[FAIR] -> <> !wanting[FAIR]) }
#endif

init
{
	atomic {
		vma[0] = 1;
		vma[1] = 1;
		map[0] = CONTENT;
		map[1] = CONTENT + 1;
#ifdef THREE /* N of 3 */
		vma[2] = 2; /* a mapping of its own, the content not behind the other two's */
		map[2] = CONTENT + 3;
#endif
#ifdef IN
		pte[IN] = map[IN];
		done[IN] = 1;
#endif
		want[0] = map[0];
		want[1] = map[1];
#if N > 2
		want[2] = map[2];
#endif
		uffd[PROCESS] = 1;
		live[PROCESS] = 1;
		run thread(0);
		if
		:: WORK_1 || LEFT_1 -> run thread(1)
		:: else
		fi;
		run reader();
		if
		:: (WORK_0 | WORK_1) & FORK -> run child()
		:: else
		fi;
		run copier();
		if
		:: COPIERS > 1 -> run copier()
		:: else
		fi;
#ifdef DIES
		run death();
#endif
#ifndef FAIR
		run watch()
#endif
	}
}
