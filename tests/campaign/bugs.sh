#!/usr/bin/env bash
# Plants one bug at a time into a copy of the repository, and lets the campaign find it: `tests/campaign/bugs.sh [PATCH...]`.
# A patch that no longer applies fails, and so does a bug that survives 1,000 kills. Prints a row per bug.
# CAMPAIGN_TARGET names a build folder that is kept.
set -euo pipefail
source "$(dirname "$0")/copy.sh"
kills=${KILLS:-1000}
seed=${SEED:-1}

# run KILLS: builds the copy and runs the campaign. Its words go to $tmp/out.
run() {
    (cd "$copy" && cargo build --quiet --locked -p roundlot-campaign) >"$tmp/out" 2>&1 || { cat "$tmp/out"; exit 1; }
    rm -rf "$tmp/logs"
    mkdir "$tmp/logs"
    "$CARGO_TARGET_DIR/debug/roundlot-campaign" crashes --kills "$1" --seed "$seed" --folder "$tmp/logs" >"$tmp/out" 2>&1
}

# Without a bug nothing is found, or a find means nothing.
run 80 || { cat "$tmp/out"; echo "the campaign fails without a planted bug"; exit 1; }

[ $# -gt 0 ] || set -- "$here"/bugs/*.patch
echo "| bug | kills | sort and seed of the log | first finding |"
echo "|---|---|---|---|"
survivors=0
for patch in "$@"; do
    patch=$(realpath "$patch")
    name=$(basename "$patch" .patch)
    git -C "$copy" apply -C1 "$patch" || { echo "$name does not apply any more"; exit 1; }
    if run "$kills"; then
        echo "| $name | none in $kills | | |"
        survivors=$((survivors + 1))
    else
        found=$(sed -n 's/^error: after \([0-9]*\) kills: .*/\1/p' "$tmp/out")
        [ -n "$found" ] || { cat "$tmp/out"; echo "$name: the campaign failed for another reason"; exit 1; }
        why=$(sed -n 's/^error: after [0-9]* kills: \(.*\)/\1/p' "$tmp/out" | cut -c1-110 | tr '|' '/')
        log=$(sed -n 's/^log [0-9]*, \([a-z]*\), seed \([0-9]*\), .*/\1, \2/p' "$tmp/out")
        echo "| $name | $found | $log | $why |"
    fi
    git -C "$copy" checkout --quiet .
done
[ "$survivors" = 0 ] || { echo "$survivors bugs survived"; exit 1; }
