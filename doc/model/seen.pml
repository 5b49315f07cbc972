/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* seen.pml - what has happened in a run, counted outside of the model's state, so that it costs no states.
 * A run in which nothing was refused, dropped or late would pass for no reason: the driver asks for what it has to show. */

c_decl {
	enum {
		s_drop, s_eagain, s_eagain_behind_drop, s_early_eagain, s_eexist, s_enoent, s_partial, s_overtaken,
		s_placed, s_zeroed, s_woken, s_gone, s_smaller, s_parked_again, s_demanded, s_given_up, s_remove,
		s_unmap, s_remap, s_fork, s_second_half, s_held_back, s_behind_event, s_withdrawn, s_killed, s_died,
		s_closed, s_refault, s_child_fault, s_late, s_not_enoent, s_zapped, s_hole, s_end
	};
	static const char *const seen_names[] = {
		"drop", "eagain", "eagain_behind_drop", "early_eagain", "eexist", "enoent", "partial", "overtaken",
		"placed", "zeroed", "woken", "gone", "smaller", "parked_again", "demanded", "given_up", "remove",
		"unmap", "remap", "fork", "second_half", "held_back", "behind_event", "withdrawn", "killed", "died",
		"closed", "refault", "child_fault", "late", "not_enoent", "zapped", "hole"
	};
	static unsigned long seen_counts[s_end];
	static void seen_print(void)
	{
		for (int i = 0; i < s_end; i++)
			if (seen_counts[i])
				printf("seen %s\n", seen_names[i]);
	}
	__attribute__((constructor)) static void seen_arm(void) { atexit(seen_print); }
}

#define SEEN(what) c_code { seen_counts[s_##what]++; }
