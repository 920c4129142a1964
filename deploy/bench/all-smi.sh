#!/usr/bin/env bash
# Builds all-smi, the peer that `make bench` compares with, as its own release profile has it: some ten minutes the first time. It
# needs protoc with its standard definitions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.22.0
if [[ -x target/tools/bin/all-smi && $(target/tools/bin/all-smi --version) == *" $version" ]]; then
    echo "present: all-smi $version"
    exit
fi
if ! command -v protoc >/dev/null || [[ ! -e /usr/include/google/protobuf/timestamp.proto ]]; then
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "missing: protoc (Debian: apt-get install protobuf-compiler libprotobuf-dev)" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends protobuf-compiler libprotobuf-dev >/dev/null
    echo "installed: protobuf-compiler libprotobuf-dev"
fi
cargo install all-smi --version "$version" --locked --root target/tools
