//! Tests of the app with a log of its orders: it is killed in the middle, and goes on. What became of an order is read from the journal
//! of the venue, which the app does not write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr, Stdio},
};

use rusqlite::Connection;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{
    Message,
    client::{IntoClientRequest, client},
};

use crate::{
    common::App,
    page::{ask, said},
    signals::{signal, wait_for},
};

/// A venue that takes its time, fails and refuses, so that orders are in each state when the app is killed.
const LOGGED: &[&str] = &["--log", "orders.db", "--database", "it.db", "--set", "unbatched.sample=0"];
const ENDLESS: &[&str] = &["--seconds", "0", "--set", "progress=100ms"];

/// The journal of a venue, summed up.
#[derive(Debug, Default)]
struct Journal {
    /// Venue ids of the orders that were accepted, by their client ids.
    accepted: BTreeMap<String, Vec<u64>>,
    /// Number of fills of each order, by its client id.
    filled: BTreeMap<String, u64>,
    refused: u64,
    /// Number of symbols of which bought and sold quantities differ.
    held: usize,
}

fn journal(path: &Path) -> Journal {
    let mut journal = Journal::default();
    let mut quantities: BTreeMap<String, f64> = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let order = &entry["accepted"]["op"]["order"];
        if order.is_object() {
            journal.accepted.entry(text(&order["id"])).or_default().push(entry["accepted"]["id"].as_u64().unwrap());
        }
        let fill = &entry["filled"];
        if fill.is_object() {
            *journal.filled.entry(text(&fill["order_id"])).or_default() += 1;
            let quantity: f64 = text(&fill["quantity"]).parse().unwrap();
            let signed = if fill["side"] == "buy" { quantity } else { -quantity };
            *quantities.entry(text(&fill["symbol"])).or_default() += signed;
        }
        journal.refused += u64::from(entry["refused"].is_object());
    }
    journal.held = quantities.values().filter(|quantity| quantity.abs() > 1e-9).count();
    journal
}

/// Number of ops that wait in the log.
pub fn waiting(app: &App) -> u64 {
    let log = Connection::open(app.path("orders.db")).unwrap();
    let ops: i64 = log.query_row("SELECT waiting FROM roundlot_summary", [], |row| row.get(0)).unwrap();
    ops.try_into().unwrap()
}

/// Venue ids that the log has as outcomes of delivered ops.
pub fn receipts(app: &App) -> BTreeSet<u64> {
    let log = Connection::open(app.path("orders.db")).unwrap();
    let mut select = log.prepare("SELECT result FROM roundlot_ended WHERE ended = 'delivered'").unwrap();
    let results = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    results.map(|result| result.unwrap().parse().unwrap()).collect()
}

/// Starts an endless run, and returns it when it has traded.
fn start(app: &App, arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = app.command(&[LOGGED, ENDLESS, arguments].concat()).stdout(Stdio::null()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    trades(&mut stderr);
    (child, stderr)
}

/// Waits until the number of operations has grown from line to line of the progress for a while.
fn trades(stderr: &mut BufReader<ChildStderr>) {
    let (mut line, mut last, mut grown) = (String::new(), u64::MAX, 0);
    while grown < 5 {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the app has ended");
        let Some((before, _)) = line.split_once(" operations, ") else { continue };
        let operations = before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap();
        grown += u32::from(operations > last);
        last = operations;
    }
}

pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Ends the venue that a run has left behind.
fn end_venue(app: &App) {
    let url = fs::read_to_string(app.path("orders.db-venue")).unwrap();
    let host = url.trim().trim_start_matches("http://");
    assert!(ask(host, "POST /stop", "Content-Type: application/json", "{}").contains("200 OK"));
    // The venue ends when it has answered, and frees its journal.
    while std::net::TcpListener::bind(host).is_err() {
        std::thread::yield_now();
    }
}

/// Compares the journal of the venue with the log and the report of the last run.
fn compare(app: &App, journal: &Journal, report: &Value) {
    for (id, venue_ids) in &journal.accepted {
        assert_eq!(venue_ids.len(), 1, "order {id} was accepted more than once");
    }
    for (id, fills) in &journal.filled {
        assert_eq!(*fills, 1, "order {id} was filled more than once");
        assert!(journal.accepted.contains_key(id), "order {id} was filled without being accepted");
    }
    let [accepted, filled] = [&journal.accepted.len(), &journal.filled.len()];
    assert!(*filled > 5 && accepted > filled, "{accepted} accepted, {filled} filled");
    let (portfolio, log) = (&report["portfolio"], &report["log"]);
    assert_eq!(portfolio["fills"], journal.filled.len(), "the fills of all runs");
    assert_eq!(portfolio["held"], journal.held, "the positions of all runs");

    // Each op in the log has ended, and each order that has arrived has its outcome there. One whose repetition was refused is in
    // doubt, as far as the log knows.
    assert_eq!((waiting(app), &log["left"]), (0, &0.into()));
    let arrived: BTreeSet<u64> = journal.accepted.values().flatten().copied().collect();
    let receipts = receipts(app);
    assert!(receipts.is_subset(&arrived), "{:?}", receipts.difference(&arrived));
    assert_eq!(arrived.difference(&receipts).count(), 0);
}

/// Goal: a bot that is killed goes on where it was: no order is sent twice, and none that was accepted is lost. Method: kill -9 three
/// times in the middle, with a venue that knows a repeated order, and with one that has to be asked and would execute it again.
#[test]
fn a_killed_bot_goes_on_where_it_was() {
    for checks_client_ids in [true, false] {
        let app = App::new();
        let venue = format!("venue.checks_client_ids={checks_client_ids}");
        let settings = ["--set", &venue, "--set", "orders.expire_after=1h"];
        let mut in_doubt = 0;
        for run in 0..3 {
            let last = loop {
                let (child, _stderr) = start(&app, &settings);
                kill(child);
                // Now and then a run is killed while nothing is under way.
                match waiting(&app) {
                    0 => {}
                    last => break last,
                }
            };
            if run == 1 {
                // The next run starts the venue anew, from its journal.
                end_venue(&app);
            }
            if run < 2 {
                continue;
            }
            let outcome = app.run_as_is(&[LOGGED, &settings, &["--seconds", "1", "--report", "it.json"]].concat());
            outcome.succeeded();
            let report = app.report("it.json");
            let log = &report["log"];
            assert_eq!(log["recovered"], last, "{log}");
            assert!(log["recovered_in_doubt"].as_u64().unwrap() > 0, "{log}");
            in_doubt = log["in_doubt"].as_u64().unwrap();
            assert!(outcome.stdout.contains(" of earlier runs were recovered"), "{}", outcome.stdout);
            assert!(outcome.stderr.contains("recovered  "), "{}", outcome.stderr);
            compare(&app, &journal(&app.path("orders.db-venue.journal")), &report);
        }
        // A venue that is asked leaves no doubt.
        assert!(checks_client_ids || in_doubt == 0, "{in_doubt}");
        assert!(!app.path("orders.db-venue").exists(), "the venue has ended with the bot");
    }
}

/// Goal: entries and exits that are outdated when the bot comes back are not sent. Method: a venue that takes one batch at a time, so that
/// many wait, and a second run to which all of them are too old.
#[test]
fn outdated_orders_expire_while_the_bot_is_away() {
    let app = App::new();
    let (child, _stderr) = start(&app, &["--set", "orders.limits.max_in_flight=1", "--set", "venue.latency=200ms"]);
    kill(child);
    let old = ["--set", "orders.expire_after=0s", "--seconds", "3", "--report", "it.json"];
    let outcome = app.run_as_is(&[LOGGED, &old].concat());
    outcome.succeeded();
    let log = app.report("it.json")["log"].clone();
    let [expired, recovered] = ["expired_while_away", "recovered"].map(|name| log[name].as_u64().unwrap());
    assert!(0 < expired && expired <= recovered, "{log}");
    assert!(outcome.stdout.contains("had expired while the app was away"), "{}", outcome.stdout);
}

/// Pushes a button of orders on a page, and returns the answer.
pub fn push(host: &str, token: &str, what: &str) -> String {
    let unlocked = ask(host, "POST /unlock", &format!("x-roundlot-token: {token}"), "");
    let pass = unlocked.rsplit("\"pass\":\"").next().unwrap().split('"').next().unwrap().to_owned();
    let command = format!("{{\"do\":\"{what}\",\"batcher\":\"orders\"}}");
    ask(host, "POST /command", &format!("x-roundlot-pass: {pass}"), &command)
}

/// Goal: a pause outlives the program, and its orders wait for the resume. Method: pause on the page, kill -9, and look at the page of
/// the next run, which is ended once before the orders are resumed.
#[test]
fn a_pause_outlives_the_bot() {
    let app = App::new();
    let page = ["--page", "127.0.0.1:0", "--set", "orders.expire_after=1h"];
    let begin = |app: &App| {
        let mut child = app.command(&[LOGGED, ENDLESS, &page].concat()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let address = said("page", &mut stderr);
        let token = said("token", &mut stderr);
        let host = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
        (child, stderr, host, token)
    };

    let (child, mut stderr, host, token) = begin(&app);
    wait_for("operations, ", &mut stderr);
    assert!(push(&host, &token, "pause").contains("orders paused"));
    for _ in 0..3 {
        wait_for("operations, ", &mut stderr);
    }
    kill(child);
    assert!(waiting(&app) > 0);

    // An orderly end leaves paused orders in the log.
    let (mut child, mut stderr, host, _) = begin(&app);
    wait_for("orders were paused, and still are", &mut stderr);
    assert!(is_paused_on_page(&host));
    signal(&child, "-INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert!(waiting(&app) > 0, "{rest}");

    let (mut child, mut stderr, host, token) = begin(&app);
    wait_for("orders were paused, and still are", &mut stderr);
    assert!(push(&host, &token, "resume").contains("orders resumed"));
    wait_for("operations, ", &mut stderr);
    signal(&child, "-INT");
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert_eq!(waiting(&app), 0);
}

/// Whether the page shows orders as paused.
pub fn is_paused_on_page(host: &str) -> bool {
    let mut request = format!("ws://{host}/socket").into_client_request().unwrap();
    request.headers_mut().insert("origin", format!("http://{host}").parse().unwrap());
    let (mut socket, _) = client(request, TcpStream::connect(host).unwrap()).unwrap();
    loop {
        let Message::Text(text) = socket.read().unwrap() else { continue };
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        let orders = events.iter().find(|event| event["kind"] == "batcher" && event["name"] == "orders");
        if let Some(orders) = orders {
            return orders["stats"]["paused"] == true;
        }
    }
}

/// Starts a venue by hand. Returns it and its URL.
pub fn start_venue(app: &App, listen: &str) -> (Child, String) {
    let arguments = ["venue", "--journal", "venue.journal", "--listen", listen];
    let mut venue = app.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(venue.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (venue, line.trim_start_matches("venue").trim().to_owned())
}

/// Goal: the venue may be killed, too, and no order is lost or sent twice. Method: a venue of its own, kill -9 while the bot trades, and
/// the same journal and address again.
#[test]
fn a_killed_venue_goes_on_from_its_journal() {
    let app = App::new();
    let (venue, url) = start_venue(&app, "127.0.0.1:0");
    let (mut child, mut stderr) = start(&app, &["--venue", &url, "--report", "it.json"]);
    kill(venue);
    wait_for("operations, ", &mut stderr);
    let (venue, again) = start_venue(&app, url.trim_start_matches("http://"));
    assert_eq!(again, url);
    trades(&mut stderr);
    signal(&child, "-INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    compare(&app, &journal(&app.path("venue.journal")), &app.report("it.json"));
    kill(venue);
}

/// Goal: a bot with a log keeps to the limits of the venue, too. Method: a tenth of the orders that it would send, and no 429.
#[test]
fn the_quota_holds_for_a_log() {
    let app = App::new();
    let limits = ["--set", "venue.limits.orders_per_10s=100", "--set", "orders.quota.orders_10s.limit=100"];
    let run = ["--seconds", "1", "--report", "it.json", "--set", "venue.unavailable_percent=0"];
    let outcome = app.run_as_is(&[LOGGED, &limits, &run].concat());
    outcome.succeeded();
    let quota = app.report("it.json")["quota"].clone();
    assert_eq!(["too_many", "banned", "bans"].map(|name| quota[name].as_u64().unwrap()), [0; 3], "{quota}");
    let peak = quota["buckets"][0]["peak"].as_u64().unwrap();
    assert!((50..=100).contains(&peak), "{quota}");
}

#[test]
fn what_a_log_can_not_have_is_told_at_the_start() {
    let app = App::new();
    let cases: [(&[&str], &str); 6] = [
        (&["--log", "trace"], "--log-filter"),
        (&["--log", "no/such/folder/orders.db"], "no/such/folder"),
        (&["--log", "orders.db", "--set", "orders.limits.overflow=evict_oldest"], "may not evict"),
        (&["--log", "it.db", "--database", "it.db"], "orders.log: it is the database"),
        (&["--venue", "http://127.0.0.1:1"], "cannot ask the venue http://127.0.0.1:1"),
        (&["--venue", "127.0.0.1:1"], "it is http://HOST:PORT"),
    ];
    for (arguments, expected) in cases {
        let outcome = app.run(arguments);
        assert!(outcome.code == Some(1) || outcome.code == Some(2), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
    }
    // Two bots do not share a log, and the second one leaves the venue of the first alone.
    let (mut child, mut stderr) = start(&app, &[]);
    let outcome = app.run(&["--log", "orders.db", "--seconds", "1", "--database", "other.db"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("the log is in use"), "{}", outcome.stderr);
    assert!(app.path("orders.db-venue").exists());
    wait_for("operations, ", &mut stderr);
    signal(&child, "-INT");
    stderr.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let outcome = app.run(&["--log", "orders.db", "--set", "orders.shards=2", "--database", "other.db"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("the log has 1 shards, not 2"), "{}", outcome.stderr);
}
