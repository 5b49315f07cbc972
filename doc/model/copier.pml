/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copier.pml - a thread that fills ahead, and places what a fault has had fetched: S, one fill each. */

#ifdef NO_BACKGROUND
#define WORK_FOR(m) (live[m] && FETCHING(m))
#else
#define WORK_FOR(m) (live[m] && (ABSENT(m) || FETCHING(m)))
#endif

/* The content has been prepared outside; here, in S, it is looked up what it belongs to. */
inline look_up(m_lu)
{
	n = 0;
	fetched = 0;
	if
	:: !live[m_lu] -> skip
	:: live[m_lu] && FETCHING(m_lu) ->
		fetched = 1;
		a = (under_way[AT(m_lu, 0)] -> 0 : (under_way[AT(m_lu, 1)] -> 1 : 2));
		n = ABSENT_AT(m_lu, a)
	:: live[m_lu] && !FETCHING(m_lu) && ABSENT(m_lu) ->
		a = (ABSENT_AT(m_lu, 0) -> 0 : (ABSENT_AT(m_lu, 1) -> 1 : 2));
		n = 1
	:: else
	fi;
	if
	:: n -> c = map[AT(m_lu, a)]
	:: else
	fi;
	if
	:: n && !fetched && limit > 1 && a + 1 < N && ABSENT_AT(m_lu, (a + 1)) && map[AT(m_lu, (a + 1))] == c + 1 -> n = 2
	:: else
	fi
}

inline leave(m_l2)
{
	if
	:: GATE -> inside[m_l2]--
	:: else
	fi
}

inline wake_in_s(m_w2)
{
	atomic { !(GATE && closed[m_w2]) ->
		if
		:: live[m_w2] -> wake(m_w2, a, 1)
		:: else
		fi }
}

/* The fetch ends: placed, or not absent any more, or after many refusals. First it is not under way any more, then all who
 * may sleep are woken: who comes in between is not told to wait for it. */
inline end_fetch(m_ef)
{
	if
	:: n && res == EAGAIN -> SEEN(given_up)
	:: else
	fi;
#ifdef WAKE_FIRST
	wake_in_s(m_ef);
	under_way[AT(m_ef, a)] = 0
#else
	under_way[AT(m_ef, a)] = 0;
	wake_in_s(m_ef)
#endif
}

proctype copier() provided (!dead)
{
	byte m, a, n, c, res = FIRST_LOOK, cnt, held, g, sampled, seen_sequence, limit = CHUNK;
	bool fetched;

end_idle:
	do
	:: atomic {
		if
		:: WORK_FOR(PROCESS) && !(GATE && closed[PROCESS]) -> m = PROCESS
		:: WORK_FOR(CHILD) && !(GATE && closed[CHILD]) -> m = CHILD
		fi;
		inside[m] = inside[m] + GATE;
#ifdef NUMBERS
		g = applied } /* first, and then the map, which may be a newer one */
	atomic {
#endif
		look_up(m);
#if defined(CHECK_BEFORE) || defined(CHECK_AFTER)
		seen_sequence = sequence
#endif
		}
#ifdef CHECK_BEFORE
		if
		:: seen_sequence != sequence -> n = 0
		:: else
		fi;
#endif
		if
		:: n -> fill(m, a, n, c, g)
		:: else
		fi;
#ifdef CHECK_AFTER
		if
		:: seen_sequence != sequence -> res = FIRST_LOOK
		:: else
		fi;
#endif
#ifdef RECORD_OUTSIDE
		leave(m);
#endif
		atomic {
#ifndef NO_BISECT
			if
			:: res == ENOENT && n > 1 -> SEEN(smaller); limit = 1; res = EAGAIN
			:: else -> limit = CHUNK
			fi;
#endif
			probe(m, g);
			if
			:: n && live[m] -> record(m, a, n, g)
			:: else
			fi;
#ifndef RECORD_OUTSIDE
			leave(m)
#endif
		}
		if
		:: fetched -> end_fetch(m)
		:: else
		fi;
		d_step { m = 0; a = 0; n = 0; c = 0; res = FIRST_LOOK; cnt = 0; held = 0; g = 0; sampled = 0; seen_sequence = 0; fetched = 0 }
	od
}
