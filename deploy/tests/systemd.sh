#!/usr/bin/env bash
# Both packages in a booted Debian: do systemd and the daemons do what the units promise? SUITE=trixie tests another Debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

begun=$SECONDS
step() { printf '[%3d s] %s\n' $((SECONDS - begun)) "$*"; }

die() {
    echo "FAILED: $*" >&2
    if [[ -v leader ]]; then
        echo "--- journal" >&2
        node journalctl --no-pager --output=short-precise --unit='gridstep-*' >&2 || true
    fi
    exit 1
}

# A condition is waited for, long enough for a machine that is busy with something else.
wait_for() { # seconds what command…
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || die "not within its time: $what ($*)"
        sleep 0.1
    done
}

source deploy/tests/node.sh
source deploy/tests/checks.sh
own_namespaces "$0"

step "a small Debian ($suite)"
make_base
step "packages"
make_packages
make_root
step "boot"
boot
for check in $(compgen -A function | grep '^check_' | sort); do
    step "${check#check_[0-9][0-9]_}"
    "$check"
done
step "passed"
