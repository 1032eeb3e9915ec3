#!/usr/bin/env bash
# Runs all tests on a Debian-like system that has Rust, and installs missing packages. The steps: formatting, lints,
# documentation, each feature by itself, all tests, fuzz targets, every example, alerts, the trading app with its page in a browser,
# bench.
# Exits with 0 only if all steps passed. `--quick` leaves out the steps that a change of code rarely breaks.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
[ "${1:-}" = "--quick" ] && quick=true

tmp=$(mktemp -d)
server="" # the folder of the PostgreSQL server, while there is one
clean_up() {
    [ -z "$server" ] || as_postgres pg_ctl -D "$server/data" -m immediate stop >/dev/null || true
    rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

. tests/need.sh

# PostgreSQL's programs are not on the path of Debian, and do not run as root.
as_postgres() {
    local program=$1
    shift
    program=$(command -v "$program" || ls -d /usr/lib/postgresql/*/bin/"$program" | sort -V | tail -n 1)
    if [ "$(id -u)" = 0 ]; then
        (cd "$server" && runuser -u postgres -- "$program" "$@")
    else
        (cd "$server" && "$program" "$@")
    fi
}

# Starts a private server on a free port of the loopback interface, and exports its URL to the tests.
start_postgres() {
    server=$tmp/postgres
    mkdir "$server"
    chmod 711 "$tmp"
    [ "$(id -u)" != 0 ] || chown postgres "$server"
    as_postgres initdb -D "$server/data" -U roundlot --auth=trust -E UTF8 --no-sync >"$tmp/initdb.txt"
    local port
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 12000))
        local options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$server"
        if as_postgres pg_ctl -D "$server/data" -l "$server/log" -o "$options" -w start >/dev/null; then
            export ROUNDLOT_POSTGRES_URL="postgres://roundlot@127.0.0.1:$port/postgres"
            return
        fi
    done
    cat "$server/log"
    return 1
}

# Runs tests that need what a machine may not have. The packages and features are those of the step "tests", so that nothing is compiled again.
test_ignored() { cargo test --locked --workspace --all-features "$@" -- --ignored; }

# A C compiler, since SQLite is compiled from source.
need cc gcc libc6-dev
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done

# The clock of the steps goes on in there.
SECONDS=$SECONDS tests/checks.sh format crates licences lints
$quick || SECONDS=$SECONDS tests/checks.sh features documentation

step "tests"
cargo test --locked --workspace --all-features

if ! $quick; then
    step "the channel under a model checker"
    # The model checker has a build folder of its own, since its flags apply to every crate.
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom RUSTFLAGS="--cfg roundlot_loom" \
        cargo test --quiet --release --locked --lib driver::inbox::model
fi

if ! $quick; then
    step "fuzz targets, 20 seconds each"
    if cargo +nightly fuzz --version >/dev/null 2>&1; then
        cargo +nightly fuzz build
        for target in $(cargo +nightly fuzz list); do
            mkdir "$tmp/$target"
            cargo +nightly fuzz run "$target" "$tmp/$target" "fuzz/seeds/$target" -- \
                -max_total_time=20 -max_len=4096 -dict=fuzz/dictionary >"$tmp/fuzz.txt" 2>&1 || {
                cat "$tmp/fuzz.txt"
                exit 1
            }
            echo "$target: $(grep -o 'Done [0-9]* runs' "$tmp/fuzz.txt")"
        done
    else
        echo "left out: needs a nightly compiler and cargo-fuzz; their properties were tested with the others"
    fi
fi

step "tests that need a small disk"
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    test_ignored --test sqlite
else
    echo "left out: mounting one takes root"
fi

step "tests that need a PostgreSQL server"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql
need openssl openssl
# Debian installs pgbouncer in /usr/sbin, which is not on every user's path.
[ -x /usr/sbin/pgbouncer ] || need pgbouncer pgbouncer
start_postgres
test_ignored --test postgres
test_ignored --test durable ledger::
test_ignored --lib durable::ledger
test_ignored --test durable postgres::
test_ignored --lib durable::postgres
# Tests that read URLs as libpq does.
test_ignored --lib sink::postgres

step "tests that need nats-server and a PostgreSQL server"
ROUNDLOT_NATS_SERVER=$(tests/nats_server.sh)
export ROUNDLOT_NATS_SERVER
"$ROUNDLOT_NATS_SERVER" --version
test_ignored --test durable nats::

step "bots that trade as one on servers"
test_ignored --test app
# The variables are no longer exported, since the trading app takes every variable of this prefix for a setting.
export -n ROUNDLOT_POSTGRES_URL ROUNDLOT_NATS_SERVER

step "WebSockets with TLS, against a private server, and without"
test_ignored --test websocket
$quick || cargo test --locked --features websocket --test websocket -- wss_without_tls

step "examples"
cargo build --quiet --locked --workspace --all-features --examples
for source in examples/*.rs; do
    name=$(basename "$source" .rs)
    "${CARGO_TARGET_DIR:-target}/debug/examples/$name" >"$tmp/$name.txt" 2>&1 || {
        cat "$tmp/$name.txt"
        echo "example $name failed"
        exit 1
    }
    lines=$(wc -l <"$tmp/$name.txt")
    [ "$lines" -ge 3 ] || { echo "example $name printed $lines lines"; exit 1; }
    echo "$name: $lines lines"
done

step "metrics, alerts and dashboard, read by Prometheus's own tool"
need promtool prometheus
"${CARGO_TARGET_DIR:-target}/debug/examples/metrics" 2>/dev/null | promtool check metrics
promtool check rules config/prometheus/alerts.yml
promtool test rules config/prometheus/alerts_test.yml
test_ignored --test telemetry

step "trading app"
# Together with what later steps run, so that the library is compiled once for all of them.
packages=(-p trading_app)
$quick || packages+=(-p roundlot-campaign -p nodes -p roundlot-power)
cargo build --quiet --release --locked --bins "${packages[@]}"
release=${CARGO_TARGET_DIR:-target}/release
"$release/trading_app" --seconds 3 --database "$tmp/app.db" --report "$tmp/app.json"
grep -q '"delivered"' "$tmp/app.json"
"$release/trading_app" --seconds 3 --database "$ROUNDLOT_POSTGRES_URL" >"$tmp/app.txt"
grep -q 'rows written to PostgreSQL' "$tmp/app.txt"
logged() { "$release/trading_app" --log "$tmp/orders.db" --database "$tmp/logged.db" "$@"; }
logged --seconds 2 >/dev/null
logged --seconds 2 --report "$tmp/logged.json" >/dev/null
grep -q '"recovered": 0' "$tmp/logged.json" # an orderly end leaves nothing in the log

step "the live page, in a browser"
need chromium chromium
need chromedriver chromium-driver
cargo build --locked -p trading_app -p roundlot-board --bins --examples
cargo test --locked -p roundlot-browser-tests -- --ignored --test-threads 1
ls "${CARGO_TARGET_DIR:-target}"/page-*.png

# Release builds, callgrind and servers to compare with: steps that take more than a minute.
if ! $quick; then
    need valgrind valgrind
    need sqlite3 sqlite3

    step "instructions per op"
    # The bench is built by itself, since features that others ask for would change its counts.
    cargo run --quiet --release --locked -p roundlot-bench --bin instructions

    step "durable batchers that are killed"
    "$release/roundlot-campaign" crashes --kills 150

    # Nodes whose clocks are wrong.
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || install_packages libfaketime
    step "nodes whose leaders die"
    # Each fault has a line.
    "$release/nodes" --faults 40 --every 500ms --controls | grep -v ' s  '
    "$release/nodes" --postgres --faults 40 --every 400ms --lease 400ms --controls | grep -v ' s  '

    # Two and a half minutes on two busy cores, a third of them for the control.
    step "nodes on NATS servers whose leaders die"
    ROUNDLOT_NATS_SERVER=$ROUNDLOT_NATS_SERVER "$release/nodes" --nats --faults 40 --every 400ms --lease 400ms --controls |
        grep -v ' s  '

    step "every row of the bench, too short to mean anything"
    cargo run --quiet --release --locked -p roundlot-bench -- --scale 0.01 --plot >"$tmp/bench.txt" 2>&1 || {
        cat "$tmp/bench.txt"
        exit 1
    }
    grep '^figure' "$tmp/bench.txt"

    step "power loss, full disks and flipped bits under a log"
    "$release/roundlot-power" short

    step "simulated destinations, a few of them"
    cargo run --quiet --release --locked -p roundlot-bench --bin simulator -- --short
    cargo run --quiet --release --locked -p roundlot-bench --bin simulator -- --short --quotas
fi

printf '\nall tests passed in %d s\n' "$SECONDS"
