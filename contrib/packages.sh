#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/packages.sh - installs what contrib/packages.txt lists and this machine lacks: packages.sh build|all
# Asks nothing, needs no terminal; where nothing is missing it does nothing and needs neither root nor a network.
set -eu
list=$(dirname "$0")/packages.txt

case ${1:-all} in
build) wanted=$(sed '/^# ---- tests ----/,$d; s/#.*//' "$list") ;;
all) wanted=$(sed 's/#.*//' "$list") ;;
*) echo "usage: $0 build|all" >&2; exit 2 ;;
esac

missing=
for p in $wanted; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true) in
	installed*) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

echo "installing:$missing"
if [ "$(id -u)" != 0 ]; then
	echo "$0: these packages are missing and only root can install them:$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
# A mirror that is away for a moment is asked again; a package database that somebody else holds is waited for.
options="-q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
# An index that cannot be fetched matters only if a package then cannot be, either.
# shellcheck disable=SC2086 # several words on purpose
{
	apt-get $options update </dev/null || echo "$0: apt-get update failed; trying with what is known" >&2
	apt-get $options install --no-install-recommends $missing </dev/null
}
