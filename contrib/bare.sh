# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/bare.sh - programs that are to be checkpointed, started from a script. Sourced.
# shellcheck shell=bash

# bare COMMAND ARG...: becomes it, without the descriptors that a shell or make has beside the standard three: a process
# that shares a pipe with a stranger cannot be checkpointed
bare()
{
	local path fd
	for path in "/proc/$BASHPID/fd"/*; do
		fd=${path##*/}
		[ "$fd" -gt 2 ] && eval "exec $fd>&-"
	done
	exec "$@"
}
