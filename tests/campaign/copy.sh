# Sourced by the scripts that plant bugs. Makes a copy of the repository at $copy, which is removed when the script ends, beside a folder
# $tmp for what it writes. CAMPAIGN_TARGET names a build folder that is kept.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tmp=$(mktemp -d)
copy=$tmp/repository
clean_up() {
    git -C "$root" worktree remove --force "$copy" 2>/dev/null || true
    rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
git -C "$root" worktree add --quiet --detach "$copy" HEAD
export CARGO_TARGET_DIR=${CAMPAIGN_TARGET:-$tmp/target} CARGO_INCREMENTAL=0
