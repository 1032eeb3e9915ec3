#!/usr/bin/env bash
# Plants one bug of terms at a time into a copy of the repository, and lets the simulation of several nodes find it:
# `tests/campaign/term_bugs.sh [PATCH...]`. A line of each patch names the test. A patch that no longer applies fails, and so does a bug
# that survives all seeds. Prints a row per bug. CAMPAIGN_TARGET names a build folder that is kept.
set -euo pipefail
source "$(dirname "$0")/copy.sh"
seeds=${SEEDS:-1000}

# Seeds of one run. A bug that the first of them finds costs no more than these.
step=10

# The crate is compiled more often than it runs long.
options=(--quiet --release --locked --features durable-file --test durable --config profile.release.package.roundlot.opt-level=0)

# build: compiles the tests of the copy.
build() {
    (cd "$copy" && cargo test "${options[@]}" --no-run) >"$tmp/out" 2>&1 || { cat "$tmp/out"; exit 1; }
}

# run TEST SEEDS: runs one test of the copy. Its words go to $tmp/out. A run without an end is a find, too.
run() {
    (cd "$copy" && ROUNDLOT_SEEDS=$2 timeout 300 cargo test "${options[@]}" -- --exact "$1" --nocapture) >"$tmp/out" 2>&1
}

[ $# -gt 0 ] || set -- "$here"/term_bugs/*.patch
# The other tests of the crate take minutes to compile.
{
    echo '//! The tests that find planted bugs.'
    echo '#![allow(clippy::unwrap_used, reason = "a test may panic")]'
    sed -n 's/^Test: \([a-z_]*\)::.*/mod \1;/p' "$@" | sort -u
} >"$copy/tests/durable/main.rs"

# Without a bug nothing is found, or a find means nothing.
build
for test in $(sed -n 's/^Test: //p' "$@" | sort -u); do
    run "$test" "0..$seeds" || { cat "$tmp/out"; echo "$test fails without a planted bug"; exit 1; }
    grep -q 'test result: ok. 1 passed' "$tmp/out" || { echo "there is no test $test"; exit 1; }
done

echo "| bug | what finds it | first seed | first finding |"
echo "|---|---|---|---|"
survivors=0
for patch in "$@"; do
    patch=$(realpath "$patch")
    name=$(basename "$patch" .patch)
    test=$(sed -n 's/^Test: //p' "$patch")
    git -C "$copy" apply -C1 "$patch" || { echo "$name does not apply any more"; exit 1; }
    build
    from=0
    while [ "$from" -lt "$seeds" ] && run "$test" "$from..$((from + step))"; do
        # A test without seeds runs once.
        [ "${test%%::*}" = simulation ] && from=$((from + step)) || from=$seeds
    done
    if [ "$from" -ge "$seeds" ]; then
        echo "| $name | none of $seeds seeds of $test | | |"
        survivors=$((survivors + 1))
    else
        seed=$(sed -n 's/^seed \([0-9]*\) broke a promise/\1/p' "$tmp/out" | head -n 1)
        why=$(sed -n '/panicked at/{n;p;q}' "$tmp/out" | cut -c1-110 | tr '|' '/')
        echo "| $name | $test | $seed | ${why:-no end within 300 s} |"
    fi
    git -C "$copy" apply -R -C1 "$patch"
done
[ "$survivors" = 0 ] || { echo "$survivors bugs survived"; exit 1; }
