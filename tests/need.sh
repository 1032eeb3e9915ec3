# Functions of tests/run.sh and tests/nats_server.sh, which read this file.

# Tells what comes, and the seconds since the start.
step() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# need PROGRAM PACKAGE...: installs the packages if the program is missing.
need() {
    local program=$1
    shift
    command -v "$program" >/dev/null || install_packages "$@"
}

install_packages() {
    step "installing $*"
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"
}
