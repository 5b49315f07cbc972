/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* application.pml - the threads of the restored process, and its child: what they do, and the kernel's part of that.
 *
 * Each thread does LEFT_n things, each any of those that WORK_n allows, to any page; then it looks at one page, any. So a run
 * covers all programs of that length. */

#define DISCARD REMOVE /* MADV_DONTNEED */
#define TOUCH 16       /* a read */
#define WRITE 32
#define SPLIT 64       /* mprotect of a part: another mapping, and no message */
#define FIXED 128      /* MREMAP_FIXED onto registered memory */

#ifndef WORK_0
#define WORK_0 0
#endif
#ifndef WORK_1
#define WORK_1 0
#endif
#ifndef LEFT_0
#define LEFT_0 1
#endif
#ifndef LEFT_1
#define LEFT_1 (WORK_1 != 0)
#endif

/* ---- messages ---------------------------------------------------------------------------------------------------- */

inline send(k_s, a_s, b_s, g_s)
{
	if
	:: uffd[PROCESS] && !finished ->
		kind[t] = k_s;
		from[t] = a_s;
		to[t] = b_s;
		stamp[t] = g_s;
		waiting[t] = 1;
		queue!t
	:: else ->
		if
		:: k_s == FORK -> uffd[CHILD] = 0
		:: else
		fi
	fi
}

/* mmap_lock has been dropped since the change: another thread may get there first. */
inline send_later(k_sl, a_sl, b_sl, g_sl)
{
#ifdef PREEMPT
	atomic { send(k_sl, a_sl, b_sl, g_sl) }
#else
	skip
#endif
}

inline send_now(k_sn, a_sn, b_sn, g_sn)
{
#ifndef PREEMPT
	send(k_sn, a_sn, b_sn, g_sn)
#else
	skip
#endif
}

inline forget_message()
{
	waiting[t] = 0;
	queue??eval(t)
}

inline kill_all()
{
	SEEN(killed);
	finished = 1;
	forget_message();
	waiting[0] = 0;
	waiting[1] = 0;
	do
	:: queue?_
	:: empty(queue) -> break
	od;
	changing = 0;
	wake(PROCESS, 0, N)
}

/* Sleeps until the monitor has consumed its message; then the count falls, by this thread's hand. */
inline await()
{
	if
	:: atomic { !waiting[t] && !finished -> fall() }
	:: finished -> goto stop
	:: dead && waiting[t] -> goto stop
#ifdef KILL
	:: atomic { waiting[t] && !finished -> kill_all(); goto stop }
#endif
#ifdef KILL_ONE
	:: atomic { t == 0 && waiting[t] -> SEEN(withdrawn); forget_message(); changing = 0; goto stop }
#endif
	fi
}

/* ---- what a thread does ------------------------------------------------------------------------------------------ */

/* Uses v. */
/* Looks at the page; writes to it perhaps. */
inline use(m_u, a_u, writes_u)
{
#ifdef FAIR
	wanting[t] = 1;
#endif
	do
	:: atomic { vma[AT(m_u, a_u)] == 0 || (m_u == PROCESS && finished) -> break } /* a signal instead */
	:: atomic { vma[AT(m_u, a_u)] && !(m_u == PROCESS && finished) && (pte[AT(m_u, a_u)] != NONE || !uffd[m_u]) ->
		if
		:: pte[AT(m_u, a_u)] == NONE -> pte[AT(m_u, a_u)] = ZERO /* nobody is to be asked: the kernel's own zero */
		:: else
		fi;
		look(m_u, a_u, pte[AT(m_u, a_u)]);
		if
		:: writes_u -> pte[AT(m_u, a_u)] = OWN; want[AT(m_u, a_u)] = OWN
		:: else
		fi;
		break }
	:: atomic { vma[AT(m_u, a_u)] && pte[AT(m_u, a_u)] == NONE && uffd[m_u] && !(m_u == PROCESS && finished) ->
		fault[t] = UNREAD;
		fault_at[t] = a_u;
		if
		:: m_u == CHILD -> SEEN(child_fault)
		:: else
		fi }
		if
		:: fault[t] == 0 -> SEEN(refault)
		:: dead && fault[t] -> goto stop /* it sleeps for ever */
		fi
	od;
#ifdef FAIR
	wanting[t] = 0
#else
	skip
#endif
}

bool moving[N]; /* a mremap to here has not returned: who discards the page meanwhile may have come first */
#ifdef ORDERLY
#define KNOWN(a) (!moving[a]) /* to a program: it learns the address from a call that has returned */
#else
#define KNOWN(a) true
#endif

inline discard(a_d)
{
	atomic { MAY_RAISE_REMOVE ->
		onto = (vma[a_d] != 0);
		at_once = moving[a_d];
		b = 0;
		g = vma[a_d];
		if
		:: onto ->
			discards[a_d]++;
			if /* a fork that has not returned may have come behind */
			:: forking == UNBORN -> either[AT(CHILD, a_d)] = 1
			:: else
			fi;
			if
			:: uffd[PROCESS] -> raise(); b = number
			:: else
			fi
		:: else
		fi }
	if
	:: b ->
		atomic { send(REMOVE, a_d, 0, b) }
		await()
	:: else
	fi;
	/* mmap_lock again, the mapping looked up again: only now are the pages zapped. */
	atomic {
		if
		:: onto && vma[a_d] == g && !at_once && !moving[a_d] -> pte[a_d] = NONE; want[a_d] = ZERO; either[a_d] = 0
		:: onto && vma[a_d] == g && (at_once || moving[a_d]) -> pte[a_d] = NONE; either[a_d] = 1
#ifdef RACY
		:: onto && vma[a_d] && vma[a_d] != g -> /* what is there now came in behind the message */
			SEEN(zapped);
			pte[a_d] = NONE;
			if
			:: want[a_d] == OWN -> want[a_d] = ZERO
			:: else -> either[a_d] = 1
			fi
#endif
		:: else
		fi;
		if
		:: onto -> discards[a_d]--
		:: else
		fi;
		d_step { b = 0; g = 0; onto = 0; at_once = 0 }
	}
}

inline unmap(a_u2)
{
	atomic { SECTION ->
		b = 0;
		if
		:: vma[a_u2] && KNOWN(a_u2) ->
			vma[a_u2] = 0;
			pte[a_u2] = NONE;
			want[a_u2] = NONE;
			either[a_u2] = 0;
			if
			:: uffd[PROCESS] -> raise(); b = number; send_now(UNMAP, a_u2, 0, b)
			:: else
			fi
		:: else
		fi }
	if
	:: b ->
		send_later(UNMAP, a_u2, 0, b);
		await()
	:: else
	fi;
	b = 0
}

/* Up to three messages, one after the other, the count up for all of them from the change on. */
inline move(a_m)
{
	atomic { SECTION ->
		b = N;
		g = 0;
		if
		:: vma[a_m] && KNOWN(a_m) && a_m != 0 && (vma[0] == 0 || (WORK_0 | WORK_1) & FIXED) -> b = 0
		:: vma[a_m] && KNOWN(a_m) && a_m != 1 && (vma[1] == 0 || (WORK_0 | WORK_1) & FIXED) -> b = 1
#if N > 2
		:: vma[a_m] && KNOWN(a_m) && a_m != 2 && (vma[2] == 0 || (WORK_0 | WORK_1) & FIXED) -> b = 2
#endif
		:: else
		fi;
		if
		:: b < N ->
			onto = (vma[b] != 0);
			moving[b] = 1;
			goal = b;
			last_vma++;
			vma[b] = last_vma;
			vma[a_m] = 0;
			pte[b] = pte[a_m];
			want[b] = want[a_m];
			either[b] = either[a_m] || discards[a_m];
			pte[a_m] = NONE;
			want[a_m] = NONE;
			either[a_m] = 0;
			if
			:: uffd[PROCESS] ->
				g = number + 1;
				raise();
				raise();
				if
				:: onto -> raise(); send_now(UNMAP, b, 0, g)
				:: else -> send_now(REMAP, a_m, b, g)
				fi
			:: else
			fi
		:: else
		fi }
	if
	:: g && onto ->
		send_later(UNMAP, b, 0, g);
		await();
		atomic { g++; send(REMAP, a_m, b, g) }
	:: g && !onto -> send_later(REMAP, a_m, b, g)
	:: !g
	fi;
	if
	:: g ->
		await();
		atomic { g++; send(UNMAP, a_m, 0, g) }
		await()
	:: else
	fi;
	d_step { moving[goal] = 0; b = 0; g = 0; onto = 0; goal = 0 }
}

inline copy_page(a_cp)
{
	vma[AT(CHILD, a_cp)] = vma[a_cp];
	pte[AT(CHILD, a_cp)] = pte[a_cp];
	want[AT(CHILD, a_cp)] = want[a_cp];
	either[AT(CHILD, a_cp)] = either[a_cp] || discards[a_cp]
}

inline do_fork()
{
	atomic { SECTION -> /* thread 0 alone forks, once */
		copy_page(0);
		copy_page(1);
#if N > 2
		copy_page(2);
#endif
#ifdef DONTFORK
		vma[AT(CHILD, 1)] = 0; /* marked MADV_DONTFORK, of which no message tells */
#endif
		uffd[CHILD] = uffd[PROCESS];
		forking = UNBORN;
		if
		:: uffd[PROCESS] -> raise(); b = number; send_now(FORK, 0, 0, b)
		:: else -> b = 0
		fi }
	if
	:: b ->
		send_later(FORK, 0, 0, b);
		await()
	:: else
	fi;
	d_step { forking = RUNS; b = 0 }
}

inline select_page(a_sp)
{
	if
	:: a_sp = 0
	:: a_sp = 1
#if N > 2
	:: a_sp = 2
#endif
	fi
}

#define MAY(what) (t == 0 && (WORK_0 & what) || t == 1 && (WORK_1 & what))

proctype thread(byte t)
{
	byte left = (t == 0 -> LEFT_0 : LEFT_1), a, b, g, goal;
	bool onto, at_once;

	do
	:: atomic { left == 0 -> break }
	:: atomic { left > 0 -> left--; select_page(a) }
		if
		:: MAY(TOUCH) -> use(PROCESS, a, false)
		:: MAY(WRITE) -> use(PROCESS, a, true)
		:: MAY(DISCARD) -> discard(a); use(PROCESS, a, false)
		:: MAY(UNMAP) -> unmap(a)
		:: MAY(REMAP) -> move(a)
		:: MAY(FORK) && forking == NO_FORK -> do_fork()
		:: MAY(SPLIT) && vma[a] -> d_step { last_vma++; vma[a] = last_vma }
		:: else
		fi
	od;
	select_page(a);
	use(PROCESS, a, false);
stop:
	skip
}

proctype child()
{
	byte a, t = 2;

end_unborn:
	atomic { forking == RUNS -> select_page(a) }
	use(CHILD, a, false);
stop:
	skip
}
