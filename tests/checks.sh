#!/usr/bin/env bash
# Single checks of the repository, by name: `tests/checks.sh lints documentation`. Without a name it lists them. tests/run.sh runs those
# that need nothing but Rust and the crates, and a public host may run each in a job of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/need.sh

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# The sets of features that are looked at alone. All together are the step "lints".
feature_sets() {
    printf '%s\n' "" testing sqlite durable durable-file durable,testing durable-file,postgres durable-postgres durable-nats postgres \
        websocket websocket-tls
}

# The crates of the default features, at most: people embed this.
max_crates=50
# The packed crate, compressed, in KiB, at most.
max_packed=1200

# Formatting. Planted bugs, which commands of their own run, must not fall behind the code.
check_format() {
    cargo fmt --all --check
    for patch in tests/campaign/*bugs/*.patch; do
        git apply --check "$patch"
    done
}

# Lints of everything, with all features.
check_lints() { cargo clippy --workspace --all-targets --all-features --locked -- -D warnings; }

# Lints of the library with each feature alone, and of the board without any.
check_features() {
    feature_sets | while read -r features; do
        cargo clippy --quiet --locked --no-default-features --features "$features" -- -D warnings
    done
    cargo clippy --quiet --locked -p roundlot-board -- -D warnings
}

# Documentation without warnings, private items as well.
check_documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --workspace --all-features --document-private-items --quiet
}

# The crates that the default features bring along.
check_crates() {
    local crates
    crates=$(cargo tree --locked --edges normal --prefix none | sed 's/ (.*//' | sort -u | wc -l)
    echo "the default features are $((crates - 1)) crates besides this one"
    [ "$crates" -le "$max_crates" ]
}

# All tests that need no server, with the stated minimum of Rust.
check_minimum_rust() {
    local rust
    rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustup run "$rust" rustc --version 2>/dev/null || rustup toolchain install "$rust" --profile minimal
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/minimum cargo "+$rust" test --locked --workspace --all-features
}

# The library with the oldest versions of what it depends on that Cargo.toml allows. Needs a nightly compiler to choose them.
check_minimal_versions() {
    rustup run nightly rustc --version 2>/dev/null || rustup toolchain install nightly --profile minimal
    git ls-files -z | tar --null --files-from=- --create | tar --extract --directory="$tmp"
    local target=${CARGO_TARGET_DIR:-$PWD/target}/minimal
    cd "$tmp"
    # Neither other packages of the workspace nor what tests need choose versions here.
    awk '/^\[/ { skips = /^\[dev-dependencies\]/ } !skips && !/^members = /' Cargo.toml >alone.toml
    mv alone.toml Cargo.toml
    cargo +nightly update --quiet -Z direct-minimal-versions
    CARGO_TARGET_DIR=$target cargo check --locked --all-features
    cd - >/dev/null
}

# The crate as it would be published: built from its package, without a warning, and not too large.
check_packed() {
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} cargo publish --dry-run --locked --allow-dirty -p roundlot 2>&1 | tee "$tmp/packed.txt"
    # Cargo names each test that the package leaves out.
    if grep '^warning' "$tmp/packed.txt" | grep -v 'aborting upload due to dry run\|^warning: ignoring test'; then
        return 1
    fi
    local size
    size=$(sed -n 's/.*Packaged.*(\([0-9]*\)[.0-9]*KiB compressed).*/\1/p' "$tmp/packed.txt")
    echo "the package has $size KiB"
    [ "$size" -le "$max_packed" ]
}

# Licences and sources of dependencies, without the network.
check_licences() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --locked --offline check bans licenses sources
    else
        echo "left out: needs cargo-deny"
    fi
}

# The same with advisories, which are fetched.
check_dependencies() {
    cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
    cargo deny --locked check
}

# The public face against that of the last release. A release is a tag such as v0.1.0.
check_compatibility() {
    local release
    release=$(git tag --list 'v*' --sort=version:refname | tail -n 1)
    if [ -z "$release" ]; then
        echo "left out: there is no release to compare with"
        return
    fi
    cargo semver-checks --version >/dev/null 2>&1 || cargo install --locked cargo-semver-checks
    cargo semver-checks --baseline-rev "$release" --all-features -p roundlot
}

if [ $# = 0 ]; then
    declare -F | sed -n 's/^declare -f check_//p'
fi
for check in "$@"; do
    declare -F "check_$check" >/dev/null || { echo "there is no check $check" >&2; exit 2; }
    step "$check"
    "check_$check"
done
