// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/owner.c - the owner's word: compare and exchange between three states, and a second word for its sleep */
#include "config.h"
#include "engine/owner.h"

enum { NOBODY, HERE, NOTED };

/* The race test builds this file with one of the rules broken, to show that it would notice. */
#ifdef THAW_OWNER_BREAK_NOTE
#define LEAVES_NOTES 0
#else
#define LEAVES_NOTES 1
#endif
#ifdef THAW_OWNER_BREAK_DOZE
#define LOOKS_BEFORE_DOZING 0
#else
#define LOOKS_BEFORE_DOZING 1
#endif

static bool move(struct thaw_owner *o, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong(&o->word, &from, to);
}

bool thaw_owner_take(struct thaw_owner *o, uint32_t *nudge)
{
	for (;;) {
		uint32_t word = atomic_load(&o->word);

		if (word == NOBODY && move(o, NOBODY, HERE))
			return true;
		/* It cannot let go without seeing the note. One that is there is ours too: an exchange all the same, so that whoever
		 * reads it sees what we have done before. */
		if (word != NOBODY && (!LEAVES_NOTES || move(o, word, NOTED))) {
			*nudge = atomic_load(&o->dozer); /* behind the note: see thaw_owner_doze() */
			return false;
		}
	}
}

bool thaw_owner_try(struct thaw_owner *o)
{
	return move(o, NOBODY, HERE);
}

bool thaw_owner_drop(struct thaw_owner *o)
{
	if (move(o, HERE, NOBODY))
		return true;
	atomic_exchange(&o->word, HERE);
	return false;
}

bool thaw_owner_hand_on(struct thaw_owner *o)
{
	return atomic_exchange(&o->word, NOBODY) == NOTED;
}

bool thaw_owner_is_noted(const struct thaw_owner *o)
{
	return atomic_load(&o->word) == NOTED;
}

bool thaw_owner_awake(struct thaw_owner *o)
{
	atomic_store(&o->dozer, 0);
	return atomic_exchange(&o->word, HERE) == NOTED;
}

bool thaw_owner_doze(struct thaw_owner *o, uint32_t who)
{
	/* Store, then load; who leaves a note does the same with the roles exchanged: either we see the note, or it sees us doze. */
	atomic_store(&o->dozer, who);
	if (!LOOKS_BEFORE_DOZING || atomic_load(&o->word) == HERE)
		return true;
	thaw_owner_awake(o);
	return false;
}
