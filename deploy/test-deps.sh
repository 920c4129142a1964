#!/usr/bin/env bash
# Installs what the tests need beside Rust: Python's NVML clients, readers of Parquet, what simulator/otherhand needs and a server of S3 in .venv, and
# Debian packages.
# Can be run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(nvidia-ml-py nvitop nvitop-exporter gpustat kempnerpulse numpy pyarrow duckdb 'moto[s3]' flask flask-cors)

if [[ ! -x .venv/bin/python ]]; then
    if ! python3 -m venv .venv; then
        echo "missing: python3 with its venv module (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
    echo "installed: .venv"
fi
# `pip show` of several succeeds where it knows one of them.
missing=()
for package in "${packages[@]}"; do
    .venv/bin/python -m pip show --quiet "${package%%[*}" >/dev/null 2>&1 || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
    echo "present: ${packages[*]}"
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "${missing[@]}"
    echo "installed: ${missing[*]}"
fi

# Programs, and the Debian packages that have them. Where systemd runs, Debian starts the services of the last two.
needed=()
while read -r program package; do
    if command -v "$program" >/dev/null; then
        echo "present: $package"
    else
        needed+=("$package")
    fi
done <<'PACKAGES'
chromium chromium
curl curl
debootstrap debootstrap
systemd-nspawn systemd-container
prometheus prometheus
prometheus-alertmanager prometheus-alertmanager
PACKAGES

if [[ ${#needed[@]} -gt 0 && $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${needed[@]}" >/dev/null
    echo "installed: ${needed[*]}"
elif [[ ${#needed[@]} -gt 0 ]]; then
    echo "missing: ${needed[*]} (Debian: apt-get install ${needed[*]})" >&2
    exit 1
fi
