#!/usr/bin/env bash
# Installs what the tests need beside Rust: Python's NVML clients in .venv, chromium, Prometheus and Alertmanager. Can be run
# again at any time.
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

# A program, and the Debian package that has it. Where systemd runs, Debian starts the two services with it.
while read -r program package; do
    if command -v "$program" >/dev/null; then
        echo "present: $package"
    elif [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >/dev/null </dev/null
        echo "installed: $package"
    else
        echo "missing: $package (Debian: apt-get install $package)" >&2
        missing=1
    fi
done <<'PACKAGES'
chromium chromium
prometheus prometheus
prometheus-alertmanager prometheus-alertmanager
PACKAGES
exit "$missing"
