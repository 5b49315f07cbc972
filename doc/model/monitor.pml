/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* monitor.pml - the page map, the gate, and the reader of a space: X, then the faults that it has found.
 *
 * Rules that can be left out, or replaced by what looks as good:
 *	NO_GATE               neither S nor X
 *	READ_OUTSIDE          read() in front of X: the map is updated in it
 *	CHECK_BEFORE          no gate; a sequence number is looked at again before the ioctl
 *	CHECK_AFTER           no gate; it is looked at again behind the ioctl
 *	APPLY_OUTSIDE         the map is changed behind X
 *	FAULTS_FIRST          the faults of a batch are served before its events are applied
 *	EAGAIN_FORGOTTEN      a fault that was refused is not tried again
 *	NO_PROBE              ENOENT means gone
 *	NO_BISECT             of any length
 *	NOT_PAIRED            the second half of a mremap removes what is there
 *	NOT_DISPLACED         a message that was overtaken takes away what has come since
 *	FORK_LATE             the child's space is made behind X
 *	NO_HOLES              a page that was moved into a discard is taken for one that is there
 *	HOLES_STAY            and when it moves on, it is
 *	NO_WAKE               EEXIST, ENOENT and "it is in" wake nobody
 *	ZERO_FOR_WAITING      a page whose content is not at hand gets a zero
 *	RECORD_OUTSIDE        done is marked behind S
 *	NO_HOLDER             the userfaultfds are closed when the monitor dies
 *	WAKE_FIRST            the end of a fetch wakes its sleepers while it still counts as under way
 *	READ_ORDER            (NUMBERS) messages are applied in the order of reading
 *	MATCH_ONCE            (NUMBERS) the kernel does not compare again when it has had to drop its locks */

byte map[2 * N];    /* content of a page; NONE: zero, or nothing at all */
bool done[2 * N];
bool parked[2 * N]; /* a fault to be served; one that is on the list already adds nothing */
bool under_way[2 * N]; /* handed to a copier */
bool live[2];       /* there is a space for it, and its userfaultfd is ours */
bool paired[N];     /* a REMAP from here waits for its UNMAP */
byte displaced[N];  /* content that a REMAP has met: its own message is to come */
bool displaced_done[N];
bool discarded[N];  /* a discard of the place may still be carried out */
bool hole[2 * N];   /* what has come to such a place, wherever it is now; or a child's, which may have been wiped: done may not mean there */
bool guessed;      /* a message was late, or never came: the map may be wrong, and nothing is a hole any more */
bool settled;

bool closed[2];     /* X wants in, or is in */
byte inside[2];     /* threads in S */
byte sequence;      /* X sections that have ended (CHECK_*) */

byte applied = 1;   /* NUMBERS: the number of the last message applied. Fills of the process demand it */
#ifdef NUMBERS
byte held_kind[16], held_from[16], held_to[16]; /* messages read, by number */
byte holding;                                   /* how many */
#endif

#if defined(NO_GATE) || defined(CHECK_BEFORE) || defined(CHECK_AFTER) || defined(NUMBERS)
#define GATE 0
#else
#define GATE 1
#endif
#if !defined(NOT_PAIRED) && !defined(NOT_DISPLACED) && !defined(NUMBERS)
#define DISPLACED
#endif
#if GATE && !defined(READ_OUTSIDE)
#define READ_IN_X 1
#else
#define READ_IN_X 0
#endif

#ifdef NO_HOLES
#define HOLES 0
#else
#define HOLES 1
#endif

#define ABSENT_AT(m, a) (map[AT(m, a)] && !done[AT(m, a)])
#if N > 2
#define ABSENT(m) (ABSENT_AT(m, 0) || ABSENT_AT(m, 1) || ABSENT_AT(m, 2))
#define SOMETHING_DISPLACED (displaced[0] || displaced[1] || displaced[2])
#define PARKED(m) (parked[AT(m, 0)] || parked[AT(m, 1)] || parked[AT(m, 2)])
#define FETCHING(m) (under_way[AT(m, 0)] || under_way[AT(m, 1)] || under_way[AT(m, 2)])
#define FORGET(array, i) array[i] = 0; array[(i) + 1] = 0; array[(i) + 2] = 0
#else
#define ABSENT(m) (ABSENT_AT(m, 0) || ABSENT_AT(m, 1))
#define SOMETHING_DISPLACED (displaced[0] || displaced[1])
#define PARKED(m) (parked[AT(m, 0)] || parked[AT(m, 1)])
#define FETCHING(m) (under_way[AT(m, 0)] || under_way[AT(m, 1)])
#define FORGET(array, i) array[i] = 0; array[(i) + 1] = 0
#endif

#define NOTHING_DISPLACED(m) ((m) == CHILD || settled || !SOMETHING_DISPLACED)

/* ---- events: changes to the map --------------------------------------------------------------------------------- */

inline clone_page(a_cp2)
{
	map[AT(CHILD, a_cp2)] = map[a_cp2];
	done[AT(CHILD, a_cp2)] = done[a_cp2];
	hole[AT(CHILD, a_cp2)] = HOLES /* inherited */
}

inline fork_child()
{
	clone_page(0);
	clone_page(1);
#if N > 2
	clone_page(2);
#endif
	live[CHILD] = 1
}

inline guess()
{
	guessed = 1;
	FORGET(discarded, 0);
	FORGET(hole, 0)
}

inline apply(k_a2, a_a2, b_a2)
{
	if
	:: settled && SOMETHING_DISPLACED -> guess()
	:: else
	fi;
	if
	:: settled -> settled = 0; FORGET(paired, 0); FORGET(displaced, 0); FORGET(displaced_done, 0)
	:: else
	fi;
	if
	:: k_a2 == REMOVE -> SEEN(remove); map[a_a2] = NONE; done[a_a2] = 0; hole[a_a2] = 0; discarded[a_a2] = HOLES && !guessed
	:: k_a2 == UNMAP ->
		SEEN(unmap);
		if
#ifndef NOT_PAIRED
		:: paired[a_a2] -> SEEN(second_half); paired[a_a2] = 0
#endif
#ifdef DISPLACED
		:: !paired[a_a2] && displaced[a_a2] -> SEEN(late); displaced[a_a2] = NONE; displaced_done[a_a2] = 0; guess()
#endif
		:: else -> map[a_a2] = NONE; done[a_a2] = 0; hole[a_a2] = 0
		fi
	:: k_a2 == REMAP ->
		SEEN(remap);
#ifdef DISPLACED
		if
		:: map[b_a2] -> displaced[b_a2] = map[b_a2]; displaced_done[b_a2] = done[b_a2]
		:: else
		fi;
#endif
		if
#ifdef DISPLACED
		:: displaced[a_a2] ->
			SEEN(late);
			map[b_a2] = displaced[a_a2];
			done[b_a2] = displaced_done[a_a2];
			displaced[a_a2] = NONE;
			displaced_done[a_a2] = 0;
			guess()
#endif
		:: else ->
			map[b_a2] = map[a_a2];
			done[b_a2] = done[a_a2];
#ifdef HOLES_STAY
			hole[b_a2] = discarded[b_a2];
#else
			hole[b_a2] = hole[a_a2] || discarded[b_a2];
#endif
			map[a_a2] = NONE;
			done[a_a2] = 0;
			hole[a_a2] = 0
		fi;
		paired[a_a2] = 1
	:: k_a2 == FORK ->
		SEEN(fork);
#ifdef FORK_LATE
		born = 1
#else
		fork_child()
#endif
	fi
}

#ifdef NUMBERS
/* NUMBERS: the messages whose turn it is. Their numbers are in the order of the changes (of a REMOVE: of its being announced). */
inline apply_in_turn()
{
	do
	:: held_kind[applied + 1] ->
		applied++;
		holding--;
		FORGET(paired, 0);
		apply(held_kind[applied], held_from[applied], held_to[applied]);
		held_kind[applied] = 0;
		held_from[applied] = 0;
		held_to[applied] = 0
	:: else -> break
	od
}
#endif

inline apply_batch()
{
	d_step {
		a = 0;
		do
		:: a < events ->
#if defined(NUMBERS) && !defined(READ_ORDER)
			if
			:: ek[a] && es[a] != applied + 1 -> SEEN(held_back)
			:: else
			fi;
			holding++;
			held_kind[es[a]] = ek[a];
			held_from[es[a]] = ef[a];
			held_to[es[a]] = et[a];
			apply_in_turn();
#else
			apply(ek[a], ef[a], et[a]);
#ifdef NUMBERS
			applied = (es[a] > applied -> es[a] : applied);
#endif
#endif
			ek[a] = 0;
			ef[a] = 0;
			et[a] = 0;
			es[a] = 0;
			a++
		:: else -> break
		od;
		a = 0;
		events = 0
	}
}

/* ---- what a fill's answer means --------------------------------------------------------------------------------- */

inline maybe_wake(m_mw, d_mw, n_mw)
{
#ifndef NO_WAKE
	SEEN(woken);
	wake(m_mw, d_mw, n_mw)
#else
	skip
#endif
}

/* NUMBERS: what was done under a number is recorded under it, or not at all. */
#ifdef NUMBERS
#define STILL(m, g) ((m) == CHILD || applied == (g))
#else
#define STILL(m, g) true
#endif

inline mark_one(m_mo, d_mo)
{
	if
	:: map[AT(m_mo, d_mo)] -> done[AT(m_mo, d_mo)] = 1
	:: else
	fi
}

inline mark(m_m2, d_m2, n_m2)
{
	if
	:: n_m2 > 0 -> mark_one(m_m2, (d_m2))
	:: else
	fi;
	if
	:: n_m2 > 1 -> mark_one(m_m2, (d_m2 + 1))
	:: else
	fi
}

/* Sets res to EAGAIN when the page may only have moved. */
inline probe(m_p, g_p)
{
#ifndef NO_PROBE
	if
	:: res == ENOENT && (CHANGING(m_p) || !MATCHES(m_p, g_p)) -> res = EAGAIN
	:: res == ENOENT && !(CHANGING(m_p) || !MATCHES(m_p, g_p)) -> SEEN(gone)
	:: else
	fi
#else
	skip
#endif
}

inline record(m_r2, d_r2, n_r2, g_r2)
{
	if
	:: STILL(m_r2, g_r2) && (res == OK || res == PARTIAL) -> mark(m_r2, d_r2, cnt); settled = (m_r2 == PROCESS || settled)
	:: STILL(m_r2, g_r2) && res == EEXIST -> mark(m_r2, d_r2, 1); settled = (m_r2 == PROCESS || settled); maybe_wake(m_r2, d_r2, 1)
	:: STILL(m_r2, g_r2) && res == ENOENT -> mark(m_r2, d_r2, n_r2); maybe_wake(m_r2, d_r2, n_r2)
	:: !STILL(m_r2, g_r2) && (res == EEXIST || res == ENOENT) -> maybe_wake(m_r2, d_r2, 1)
	:: else
	fi
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

inline clear()
{
	d_step { a = 0; what = 0; res = FIRST_LOOK; cnt = 0; held = 0; g = 0; sampled = 0 }
}

inline refused(m_r3)
{
#ifdef EAGAIN_FORGOTTEN
	parked[AT(m_r3, a)] = 0;
#else
	SEEN(parked_again);
#endif
	refusal = 1
}

/* Only the owner is here, and nobody else can consume an event: no S. */
inline serve(m_s)
{
	do
	:: atomic { PARKED(m_s) && !refusal ->
		a = (parked[AT(m_s, 0)] -> 0 : (parked[AT(m_s, 1)] -> 1 : 2));
		g = applied;
		what = (map[AT(m_s, a)] == NONE || done[AT(m_s, a)] && hole[AT(m_s, a)] -> ZERO :
			(done[AT(m_s, a)] -> NONE : map[AT(m_s, a)])) }
		if
		:: what == ZERO ->
			fill(m_s, a, 1, ZERO, g);
			atomic {
				if
				:: res == OK ->
					SEEN(zeroed);
					if
					:: map[AT(m_s, a)] -> SEEN(hole)
					:: else
					fi;
					parked[AT(m_s, a)] = 0;
					settled = (m_s == PROCESS || settled)
				:: res == EEXIST || res == ENOENT -> parked[AT(m_s, a)] = 0; maybe_wake(m_s, a, 1)
				:: res == EAGAIN -> refused(m_s)
				:: res == ESRCH -> parked[AT(m_s, a)] = 0
				fi;
				clear()
			}
		:: atomic { what == NONE ->
			parked[AT(m_s, a)] = 0;
			maybe_wake(m_s, a, 1);
			clear() }
#ifdef DEMAND
		:: atomic { what >= CONTENT -> /* not in memory: it comes, unless it does already */
			SEEN(demanded);
			under_way[AT(m_s, a)] = 1;
			parked[AT(m_s, a)] = 0;
			clear() }
#endif
		:: what >= CONTENT ->
#ifdef ZERO_FOR_WAITING
			fill(m_s, a, 1, ZERO, g);
#else
			fill(m_s, a, 1, what, g);
#endif
			atomic {
				probe(m_s, g);
				record(m_s, a, 1, g);
				if
				:: res == EAGAIN -> refused(m_s)
				:: else -> parked[AT(m_s, a)] = 0
				fi;
				clear()
			}
		fi
	:: atomic { !PARKED(m_s) || refusal -> refusal = 0; break }
	od
}

/* ---- the reader of space m, its owner ---------------------------------------------------------------------------- */

inline take_fault(m_tf)
{
	if
	:: fault[0] == UNREAD && MM_OF(0) == m_tf -> fault[0] = READ; parked[AT(m_tf, fault_at[0])] = 1
	:: fault[1] == UNREAD && MM_OF(1) == m_tf -> fault[1] = READ; parked[AT(m_tf, fault_at[1])] = 1
	:: fault[2] == UNREAD && MM_OF(2) == m_tf -> fault[2] = READ; parked[AT(m_tf, fault_at[2])] = 1
	fi;
	if
	:: events -> SEEN(behind_event)
	:: else
	fi
}

/* The kernel's: faults first, as long as there are any and at each turn, then the oldest event. */
inline read_batch(m_rb)
{
	msgs = 0;
	do
	:: atomic { msgs < BATCH && UNREAD_FAULT(m_rb) ->
		msgs++;
		take_fault(m_rb) }
	:: atomic { msgs < BATCH && !UNREAD_FAULT(m_rb) && EVENT(m_rb) ->
		queue?a;
		ek[events] = kind[a];
		ef[events] = from[a];
		et[events] = to[a];
		es[events] = stamp[a];
		kind[a] = 0;
		from[a] = 0;
		to[a] = 0;
		stamp[a] = 0;
		waiting[a] = 0;
		a = 0;
		events++;
		msgs++ }
	:: atomic { msgs == BATCH || !READABLE(m_rb) -> break }
	od
}

#ifdef NUMBERS
#define HOLDS_NOTHING(m) ((m) == CHILD || holding == 0)
#else
#define HOLDS_NOTHING(m) true
#endif

/* Within X: is it over? */
inline end_space(m_es)
{
	if
	:: m_es == PROCESS && finished && live[m_es] -> live[m_es] = 0; uffd[m_es] = 0
	:: live[m_es] && !(m_es == PROCESS && finished) && msgs == 0 && !ABSENT(m_es) && NOTHING_DISPLACED(m_es) && HOLDS_NOTHING(m_es) ->
		SEEN(closed);
		live[m_es] = 0;
		close_uffd(m_es);
		FORGET(parked, AT(m_es, 0))
	:: else
	fi
}

#define SOMETHING(m) (live[m] && (READABLE(m) || PARKED(m) || !ABSENT(m) && NOTHING_DISPLACED(m) || (m) == PROCESS && finished))

proctype reader() provided (!dead)
{
	byte m, a, msgs, events, what, res = FIRST_LOOK, cnt, held, g, sampled;
	byte ek[BATCH], ef[BATCH], et[BATCH], es[BATCH];
	bool refusal, born;

end_idle:
	do
	:: atomic {
		if
		:: SOMETHING(PROCESS) -> m = PROCESS
		:: SOMETHING(CHILD) -> m = CHILD
		fi;
		closed[m] = READ_IN_X;
		!READ_IN_X || inside[m] == 0 }
		read_batch(m);
#ifdef READ_OUTSIDE
		atomic { closed[m] = 1; inside[m] == 0 }
#endif
#ifdef FAULTS_FIRST
		serve(m);
#endif
#ifdef APPLY_OUTSIDE
		closed[m] = 0;
#endif
		atomic {
			apply_batch();
			end_space(m);
#if defined(CHECK_BEFORE) || defined(CHECK_AFTER)
			sequence++;
#endif
			closed[m] = 0
		}
#ifdef FORK_LATE
		atomic {
			if
			:: born -> fork_child(); born = 0
			:: else
			fi
		}
#endif
		/* Is all quiet? Asked when no fill will tell. */
		atomic {
			msgs = 0;
			if
			:: m == PROCESS && live[m] && !PARKED(m) && !CHANGING(m) -> settled = 1
			:: else
			fi
		}
		if
		:: live[m] && PARKED(m) -> serve(m)
		:: else
		fi
	od
}
