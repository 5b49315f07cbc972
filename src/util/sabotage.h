/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/sabotage.h - one rule of the protocol broken on purpose, in debug builds, to show that the tests would notice.
 *
 * THAW_SABOTAGE=NAME in the environment when the first monitor is made; `list` writes the names to standard output and ends
 * the program with 0. The hook stands where the rule lives:
 *
 *	if (THAW_SABOTAGE(FORK_LATE))
 *		...
 *
 * Rule      compiled only into debug builds; elsewhere the macro is the constant 0. Breaks promises, never memory safety: what
 *           shows is a wrong byte or a thread that waits for ever in a restored process, not a crash of the monitor
 * Threads   any; the choice is made once
 * Errors    a name that is not in the list ends the program: a test that breaks nothing by mistake would pass */
#ifndef THAW_UTIL_SABOTAGE_H
#define THAW_UTIL_SABOTAGE_H

/* name in the code, name for THAW_SABOTAGE, what is broken and (behind the semicolon) what a workload needs to show it */
#define THAW_SABOTAGES(X) \
	X(READ_OUTSIDE_X, "read-outside-x", "messages are read before X and applied in it; discards, moves") \
	X(UPDATE_AFTER_X, "update-after-x", "messages are read in X and applied in a later one; discards, moves") \
	X(NO_GATE, "no-gate", "a copier looks up in S and copies after it; discards, moves") \
	X(RECORD_OUTSIDE_S, "record-outside-s", "what a copy did is recorded in a later S; moves to where others were") \
	X(STALE_RETRY, "stale-retry", "a copy that met EAGAIN is repeated without looking up again; discards, moves") \
	X(FAULTS_BEFORE_EVENTS, "faults-before-events", "a fault is served before the events behind it in its batch; threads") \
	X(EVENTS_REVERSED, "events-reversed", "the events of a batch are applied last to first; several threads that change memory") \
	X(EAGAIN_FORGOTTEN, "eagain-forgotten", "a fault that met EAGAIN is dropped; faults beside changes, zero pages among them") \
	X(WAKE_FORGOTTEN, "wake-forgotten", "only a reader's own copy wakes, nothing else does; several threads, copiers") \
	X(ENOENT_NOT_BISECTED, "enoent-not-bisected", "ENOENT for a run gives up all of it; mprotect or munmap within a range") \
	X(PLACED_AS_ASKED, "placed-as-asked", "a copy that was cut short counts as whole; faults beside copiers, changes") \
	X(SHORT_READ_WHOLE, "short-read-whole", "a read of content ends half way and counts as whole; content not in memory") \
	X(ZERO_INSTEAD_OF_WAITING, "zero-instead-of-waiting", "content not at hand reads as zero; content not in memory, or callbacks") \
	X(ZERO_RUNS_ON, "zero-runs-on", "zeros placed beside a fault run on over content; zeros before content, used in order") \
	X(FINISH_EARLY, "finish-early", "a space is finished with up to 16 pages absent; any") \
	X(UNREGISTER_PART, "unregister-part", "what was discarded is unregistered; mremap over a part that was discarded") \
	X(FORK_LATE, "fork-late", "a child's map is copied in an X behind that of its fork; forks beside copiers") \
	X(FORK_DROPPED, "fork-dropped", "a child's userfaultfd is closed; children that touch memory not in yet") \
	X(WIPEONFORK_IGNORED, "wipeonfork-ignored", "a child gets content where it was wiped; MADV_WIPEONFORK, forks") \
	X(UNMAP_NOT_PAIRED, "unmap-not-paired", "the UNMAP of an mremap removes what has moved in since; threads that move") \
	X(REMOVE_IGNORED, "remove-ignored", "a REMOVE changes nothing; discards") \
	X(UNMAP_IGNORED, "unmap-ignored", "an UNMAP changes nothing; munmap of an end, then growth in place") \
	X(REMAP_IGNORED, "remap-ignored", "a REMAP changes nothing; moves") \
	X(REMAP_COPIES, "remap-copies", "a moved range keeps its content, too; MREMAP_DONTUNMAP") \
	X(REMAP_TAIL_UNKNOWN, "remap-tail-unknown", "a fault where no content is known is not answered; growth, discards") \
	X(LENGTH_32, "length-32", "lengths in REMOVE, UNMAP and REMAP are cut to 32 bits; changes of 4 GiB and more")

#ifdef THAW_DEBUG
#define THAW_SABOTAGE_ID_(id, name, text) THAW_SABOTAGE_##id,
enum thaw_sabotage { THAW_SABOTAGE_NONE, THAW_SABOTAGES(THAW_SABOTAGE_ID_) THAW_SABOTAGE_COUNT };

enum thaw_sabotage thaw_sabotage_chosen(void);
void thaw_sabotage_pause(unsigned us); /* awake: the window that the rule closes, widened */

#define THAW_SABOTAGE(id) (thaw_sabotage_chosen() == THAW_SABOTAGE_##id)
#else
#define THAW_SABOTAGE(id) 0
static inline void thaw_sabotage_pause(unsigned us)
{
	(void)us;
}
#endif

#endif
