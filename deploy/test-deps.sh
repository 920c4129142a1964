#!/usr/bin/env bash
# Installs what the tests need beside Rust: Python's NVML clients in .venv, and chromium. Can be run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=0
packages=(nvidia-ml-py nvitop gpustat)

if [[ ! -x .venv/bin/python ]]; then
    if ! python3 -m venv .venv; then
        echo "missing: python3 with its venv module (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
    echo "installed: .venv"
fi
if .venv/bin/python -m pip show --quiet "${packages[@]}" >/dev/null 2>&1; then
    echo "present: ${packages[*]}"
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
    echo "installed: ${packages[*]}"
fi

if command -v chromium >/dev/null; then
    echo "present: chromium"
elif [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
    echo "installed: chromium"
else
    echo "missing: chromium (Debian: apt-get install chromium)" >&2
    missing=1
fi
exit "$missing"
