/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernel.pml - the kernel's half of userfaultfd: mappings, page tables, mmap_changing, the two queues, fills.
 *
 * One step is what nobody can look into: what a lock that everybody takes protects. */

#define REMOVE 1
#define UNMAP 2
#define REMAP 4
#define FORK 8

byte vma[2 * N];       /* 0: not registered, else the number of its mapping */
byte pte[2 * N];       /* what the page holds; NONE: absent */
byte last_vma = 3;
bool uffd[2];          /* somebody has the userfaultfd open */
byte changing;         /* mmap_changing. Only the process makes changes */
byte number = 1;       /* 1 + the changes raised so far; counted with NUMBERS and PATCHED only */
byte filling[2];       /* fills that hold the locks: mmap_lock for read, or a mapping's lock and map_changing_lock */

#define NO_FORK 0
#define UNBORN 1 /* copied, the parent still in fork() */
#define RUNS 2
byte forking;         /* the one fork that there may be */

/* Messages: faults, and events in the order of their queueing. */
#define UNREAD 1
#define READ 2
byte fault[THREADS];   /* 0: not asleep */
byte fault_at[THREADS];
chan queue = [THREADS] of { byte };
bool waiting[THREADS]; /* its event has not been consumed */
byte kind[THREADS], from[THREADS], to[THREADS], stamp[THREADS]; /* the event of each thread */

/* Locks. A section under mmap_lock held for write waits for every fill. Raising for a REMOVE holds it for read only: before
 * map_changing_lock it waits for nobody. */
#define SECTION filling[PROCESS] == 0
#ifdef LOCK
#define MAY_RAISE_REMOVE filling[PROCESS] == 0
#else
#define MAY_RAISE_REMOVE true
#endif

inline raise()
{
#if defined(NUMBERS) || defined(PATCHED)
	number++;
#endif
#ifdef BOOL
	changing = 1
#else
	changing++
#endif
}

inline fall()
{
#ifdef BOOL
	changing = 0
#else
	changing = (changing > 0 -> changing - 1 : 0) /* 0 only when a killed process has left */
#endif
}

#define CHANGING(m) ((m) == PROCESS && changing > 0)
#define IN_ONE_VMA(m, d, n) (vma[AT(m, d)] && ((n) == 1 || vma[AT(m, d)] == vma[AT(m, ((d) + (n) - 1))]))

/* ---- messages ---------------------------------------------------------------------------------------------------- */

#define UNREAD_FAULT(m) ((m) == PROCESS && (fault[0] == UNREAD || fault[1] == UNREAD) || (m) == CHILD && fault[2] == UNREAD)
#define EVENT(m) ((m) == PROCESS && len(queue) > 0)
#define READABLE(m) (UNREAD_FAULT(m) || EVENT(m))

inline wake_one(m_wo, d_wo, n_wo, t_wo)
{
	if
	:: MM_OF(t_wo) == m_wo && fault[t_wo] && fault_at[t_wo] >= d_wo && fault_at[t_wo] < d_wo + n_wo -> fault[t_wo] = 0; fault_at[t_wo] = 0
	:: else
	fi
}

/* UFFDIO_WAKE, and what a fill that succeeds does: needs no mapping, drops messages that are unread. */
inline wake(m_w, d_w, n_w)
{
	d_step {
		wake_one(m_w, d_w, n_w, 0);
		wake_one(m_w, d_w, n_w, 1);
		wake_one(m_w, d_w, n_w, 2)
	}
}

/* The last reference is gone: nothing is registered any more, sleepers fault again, events are let go. */
inline close_uffd(m_cu)
{
	uffd[m_cu] = 0;
	wake(m_cu, 0, N);
	if
	:: m_cu == PROCESS ->
		if
		:: waiting[0] && kind[0] == FORK -> uffd[CHILD] = 0 /* nobody has read it: the child's is let go as well */
		:: else
		fi;
		waiting[0] = 0;
		waiting[1] = 0;
		do
		:: queue?_
		:: empty(queue) -> break
		od
	:: else
	fi
}

/* ---- fills ------------------------------------------------------------------------------------------------------- */

#define OK 1
#define PARTIAL 2
#define EAGAIN 3
#define EEXIST 4
#define ENOENT 5
#define ESRCH 6
#define TO_LOCK 8 /* on the way */
#define LOCKED 9
#ifdef LOOKUP_FIRST
#define FIRST_LOOK 7
#define AHEAD 1
#else
#define FIRST_LOOK TO_LOCK
#define AHEAD 0
#endif

#ifdef MATCH_ONCE
#define MATCHES(m, g) ((m) == CHILD || number == (g) || held)
#elif defined(NUMBERS)
#define MATCHES(m, g) ((m) == CHILD || number == (g))
#else
#define MATCHES(m, g) true
#endif

/* PATCHED: behind a gap the changes are compared as well, and a look-up that finds nothing says so only where nothing has changed. */
#ifdef PATCHED
#define SAME(m) ((m) == CHILD || !held || number == sampled)
#define SAMPLE(m) if :: !held -> sampled = number :: else fi
#define ANSWER_OF_LOOK_UP(m, g) (CHANGING(m) || !SAME(m) || !MATCHES(m, g) -> EAGAIN : ENOENT)
#else
#define SAME(m) true
#define SAMPLE(m) skip
#define ANSWER_OF_LOOK_UP(m, g) ENOENT
#endif

/* UFFDIO_COPY of n pages from d on, the first of which gets c (ZERO: zeros, or UFFDIO_ZEROPAGE). Uses res, cnt, held, sampled of
 * who includes it: FIRST_LOOK before, the outcome after; the pages done; 1 + the last page whose source had to be faulted in; the
 * number at the first look. */
inline fill(m_f, d_f, n_f, c_f, g_f)
{
	do
#ifdef LOOKUP_FIRST
	:: atomic { res == FIRST_LOOK -> /* without any lock; where mappings are looked up behind, the second one says as much */
		if
		:: CHANGING(m_f) -> SEEN(early_eagain); res = EAGAIN
		:: else -> res = TO_LOCK
		fi }
#endif
	:: atomic { res == TO_LOCK ->
		if
		:: !uffd[m_f] || (m_f == PROCESS && finished) -> res = ESRCH
		:: else ->
			if
			:: AHEAD && !IN_ONE_VMA(m_f, d_f, n_f) ->
				res = ANSWER_OF_LOOK_UP(m_f, g_f);
				if
				:: res == ENOENT -> SEEN(enoent)
				:: else -> SEEN(not_enoent)
				fi;
				if
				:: res == ENOENT && CHANGING(m_f) -> SEEN(overtaken)
				:: else
				fi
			:: else ->
				if
				:: CHANGING(m_f) || !SAME(m_f) || !MATCHES(m_f, g_f) ->
					SEEN(eagain);
					if
					:: held -> SEEN(eagain_behind_drop)
					:: else
					fi;
					res = EAGAIN
				:: else ->
					if
					:: !IN_ONE_VMA(m_f, d_f, n_f) -> SEEN(enoent); res = ENOENT
					:: else -> SAMPLE(m_f); filling[m_f]++; res = LOCKED
					fi
				fi
			fi
		fi }
#ifdef DROPS
	:: atomic { res == LOCKED && held <= cnt -> /* the source of this page is not there: all locks are dropped for it */
		SEEN(drop);
		filling[m_f]--;
		held = cnt + 1;
		res = TO_LOCK }
#endif
	:: atomic { res == LOCKED ->
		if
		:: pte[AT(m_f, (d_f + cnt))] != NONE ->
			SEEN(eexist);
			filling[m_f]--;
			res = EEXIST
		:: else ->
			SEEN(placed);
			pte[AT(m_f, (d_f + cnt))] = (c_f == ZERO -> ZERO : c_f + cnt);
			cnt++;
			if
			:: cnt == n_f -> filling[m_f]--; res = OK
			:: else
			fi
		fi }
	:: atomic { res <= ESRCH ->
		if
		:: cnt > 0 && res != OK -> SEEN(partial); res = PARTIAL
		:: else
		fi;
		if
		:: cnt > 0 -> wake(m_f, d_f, cnt)
		:: else
		fi;
		break }
	od
}
