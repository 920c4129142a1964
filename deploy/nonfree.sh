#!/usr/bin/env bash
# Fetches what the tests need of NVIDIA's (Debian non-free), into target/nonfree/<suite>: programs, to be run over the simulated
# driver as nvtop is, and the real library, to be run without a driver. Nothing is installed, and the machine's own apt is not touched. Can be
# run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# fetch SUITE PACKAGE...
fetch() {
    local suite=$1 there=target/nonfree/$1
    shift
    local complete=$there/complete
    # What was fetched before there was more to fetch.
    if [[ -e $complete && $(<"$complete") == "$*" ]]; then
        echo "present: $* of $suite"
        return
    fi
    mkdir -p "$there"/{lists/partial,cache/archives/partial,root}
    echo "deb http://deb.debian.org/debian $suite main contrib non-free" >"$there/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$PWD/$there/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::Lists=$PWD/$there/lists" -o "Dir::Cache=$PWD/$there/cache" -o Dir::State::status=/dev/null
        -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=root)
    "${apt[@]}" update
    (cd "$there" && "${apt[@]}" download "$@")
    for package in "$there"/*.deb; do
        dpkg-deb -x "$package" "$there/root"
    done
    echo "$*" >"$complete"
    echo "fetched: $* of $suite"
}

# 535 and 550.
fetch bookworm nvidia-smi libnvidia-ml1
# nvtop has `-s` since 3.2, and needs a C library that this machine may not have yet: it runs with its own.
fetch trixie nvidia-smi libnvidia-ml1 nvtop libc6 libcap2 libncursesw6 libsystemd0 libtinfo6
