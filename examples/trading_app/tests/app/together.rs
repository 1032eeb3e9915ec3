//! Tests of several apps that share a log and a venue: each trades the symbols of the shards that it leads. Which process has decided on
//! an order is in its client id. What became of it is read from the journal of the venue, which no app writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader},
    process::{self, Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use rust_decimal::Decimal;
use serde_json::Value;

use crate::{
    common::App,
    durable::{is_paused_on_page, kill, push, receipts, start_venue, waiting},
    nats::Server,
    page::said,
    signals::signal,
};

const SHARDS: u16 = 6;

/// A log in a file.
const LOG: &[&str] = &["--log", "orders.db"];

/// Lines of the output of an app, of which ten are progress each second, until something is missed that it should have said.
const MOST_LINES: usize = 1_000;

/// A bot, and what it has said of its shards.
struct Bot {
    child: Child,
    /// The lines of its output, until it ends.
    said: Receiver<String>,
    /// Host and port of its page, and the token of the buttons there.
    host: String,
    token: String,
    /// The terms of the shards that it leads.
    leads: BTreeMap<u16, u64>,
    lines: usize,
}

impl Bot {
    /// Starts a bot on the log of these arguments.
    fn start(app: &App, log: &[&str], venue: &str, number: usize) -> Self {
        let [database, report] = ["db", "json"].map(|end| format!("bot{number}.{end}"));
        let arguments = [
            ["--venue", venue],
            ["--seconds", "0"],
            ["--database", &database],
            ["--report", &report],
            ["--set", "orders.shards=6"],
            ["--set", "orders.expire_after=1h"],
            ["--set", "sim.pairs=30"],
            ["--set", "unbatched.sample=0"],
            ["--set", "progress=100ms"],
            ["--page", "127.0.0.1:0"],
        ];
        let mut child = app.command(&[log, &arguments.concat()].concat()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let [page, token] = ["page", "token"].map(|what| said(what, &mut stderr));
        let host = page.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (say, said) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { child, said, host, token, leads: BTreeMap::new(), lines: 0 }
    }

    /// Waits for the next line of progress, and notes what the bot has said of its shards by then.
    fn read(&mut self) {
        let earlier: Vec<String> = self.said.try_iter().collect();
        earlier.iter().for_each(|line| self.note(line));
        loop {
            let line = self.said.recv().expect("the app has ended");
            self.lines += 1;
            assert!(self.lines < MOST_LINES, "too many lines; it leads {:?}", self.leads);
            self.note(&line);
            if line.contains(" operations, ") {
                return;
            }
        }
    }

    fn note(&mut self, line: &str) {
        let numbers = || line.split(|it: char| !it.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        let shard = || numbers().next().unwrap().try_into().unwrap();
        if line.starts_with("takeover ") {
            self.leads.insert(shard(), numbers().nth(1).unwrap());
        } else if line.starts_with("given up ") {
            self.leads.remove(&shard());
        }
    }

    /// Waits for the end after a signal.
    fn end(mut self) {
        let code = self.child.wait().unwrap().code();
        let rest: Vec<String> = self.said.iter().collect();
        assert_eq!(code, Some(0), "{rest:?}");
    }
}

/// Reads the output of all bots until each shard is led by one, and by the one that keeps it: the processes of a log take turns, so that
/// the numbers of a bot's shards differ by multiples of the number of bots.
fn until_spread(bots: &mut [Bot]) {
    let are_spread = |bots: &[Bot]| {
        let all: BTreeSet<u16> = bots.iter().flat_map(|bot| bot.leads.keys().copied()).collect();
        let number = bots.len() as u16;
        let turn = |bot: &Bot| bot.leads.keys().map(|shard| shard % number).collect::<BTreeSet<_>>();
        all.len() == usize::from(SHARDS) && bots.iter().all(|bot| turn(bot).len() == 1)
    };
    while !are_spread(bots) {
        bots.iter_mut().for_each(Bot::read);
    }
}

/// The journal of the venue, by symbol.
#[derive(Debug, Default)]
struct Symbols {
    /// The number of the process that decided on each accepted order, in the order of the journal.
    deciders: BTreeMap<String, Vec<String>>,
    positions: BTreeMap<String, Decimal>,
    /// Venue ids of accepted orders, by symbol and client id.
    accepted: BTreeMap<(String, String), Vec<u64>>,
    filled: BTreeMap<(String, String), u64>,
}

impl Symbols {
    fn read(app: &App) -> Self {
        let mut symbols = Self::default();
        let text = fs::read_to_string(app.path("venue.journal")).unwrap();
        // The venue may be writing the last line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for entry in whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let order = &entry["accepted"]["op"]["order"];
            if order.is_object() {
                let (symbol, id) = (text(&order["symbol"]), text(&order["id"]));
                let (_, process) = id.split_once('-').unwrap();
                symbols.deciders.entry(symbol.clone()).or_default().push(process.to_owned());
                symbols.accepted.entry((symbol, id)).or_default().push(entry["accepted"]["id"].as_u64().unwrap());
            }
            let fill = &entry["filled"];
            if fill.is_object() {
                let symbol = text(&fill["symbol"]);
                let quantity: Decimal = text(&fill["quantity"]).parse().unwrap();
                let signed = if fill["side"] == "buy" { quantity } else { -quantity };
                *symbols.positions.entry(symbol.clone()).or_default() += signed;
                *symbols.filled.entry((symbol, text(&fill["order_id"]))).or_default() += 1;
            }
        }
        symbols
    }

    /// The process whose decision was accepted last.
    fn last_decider(&self, symbol: &str) -> Option<&String> {
        self.deciders.get(symbol)?.last()
    }
}

/// A shard in the reports of bots that have ended.
struct Led {
    term: u64,
    symbols: Vec<String>,
    positions: BTreeMap<String, Decimal>,
}

/// Each shard, as the last bot reports that has traded it.
fn last_leaders(reports: &[Value]) -> BTreeMap<u64, Led> {
    let mut last: BTreeMap<u64, Led> = BTreeMap::new();
    for report in reports {
        let all = report["portfolio"]["positions"].as_object().unwrap();
        for lead in report["log"]["leads"].as_array().unwrap() {
            let [shard, term] = ["shard", "term"].map(|name| lead[name].as_u64().unwrap());
            let symbols: Vec<String> =
                lead["symbols"].as_array().unwrap().iter().map(|symbol| symbol.as_str().unwrap().to_owned()).collect();
            let position = |symbol: &String| Some((symbol.clone(), all.get(symbol)?.as_str()?.parse().unwrap()));
            let positions = symbols.iter().filter_map(position).collect();
            if last.get(&shard).is_none_or(|other| other.term < term) {
                last.insert(shard, Led { term, symbols, positions });
            }
        }
    }
    last
}

/// Goal: three bots trade as one, and the others take over what one has led that is killed. Method: kill -9 one of three. Each symbol has
/// one decider at a time, by the journal of the venue; no order is lost or doubled, by journal and log; the portfolios together are
/// what the venue has.
#[test]
fn three_bots_trade_as_one() {
    let app = App::new();
    let symbols = trade_as_one(&app, LOG);
    let arrived: BTreeSet<u64> = symbols.accepted.values().flatten().copied().collect();
    assert_eq!(waiting(&app), 0, "each op has ended");
    assert_eq!(receipts(&app), arrived, "each order that has arrived has its outcome in the log, and no other one");
    for Led { term, symbols: of_shard, .. } in last_leaders(&reports(&app)).values() {
        for symbol in of_shard {
            // A process decides on a symbol in a term of its shard alone, so the deciders change no more often than the terms.
            let changes = symbols.deciders[symbol].windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
            assert!(changes < *term, "{symbol}: {changes} changes in {term} terms");
            assert!(symbols.last_decider(symbol).is_some());
        }
    }
}

/// Goal: the same on a log in PostgreSQL. There leases say who leads, so that a takeover takes as long as one. Method: the same.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run.sh"]
fn three_bots_trade_as_one_on_a_server() {
    let app = App::new();
    trade_as_one(&app, &["--log", &schema("bots")]);
    assert!(reports(&app).iter().all(|report| report["log"]["left"] == 0), "each op has ended");
}

/// Goal: the same on a log in NATS, with its ledger in PostgreSQL. Method: the same, with a server of NATS that syncs, as it says itself.
#[test]
#[ignore = "needs nats-server and a PostgreSQL server: tests/run.sh has both"]
fn three_bots_trade_as_one_on_nats() {
    let (app, server) = (App::new(), Server::start());
    let monitoring = format!("orders.monitoring=[\"{}\"]", server.monitoring);
    trade_as_one(&app, &["--log", &server.url, "--ledger", &schema("ledger"), "--set", &monitoring]);
    assert!(reports(&app).iter().all(|report| report["log"]["left"] == 0), "each op has ended");
}

/// Goal: the app does not vouch for servers of which it knows nothing. Method: a log in NATS without monitoring URLs.
#[test]
#[ignore = "needs nats-server and a PostgreSQL server: tests/run.sh has both"]
fn a_log_on_nats_servers_that_are_not_known_to_sync_is_refused() {
    let (app, server) = (App::new(), Server::start());
    let (venue, url) = start_venue(&app, "127.0.0.1:0");
    let outcome = app.run(&["--venue", &url, "--log", &server.url, "--ledger", &schema("refused")]);
    kill(venue);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let expected = "error: orders.log NATS: the log can't be";
    assert!(outcome.stderr.contains(expected) && outcome.stderr.contains("monitoring"), "{}", outcome.stderr);
}

/// The URL of a new schema in the server of `tests/run.sh`, so that tables are a test's own, whatever ran before.
fn schema(name: &str) -> String {
    let server = env::var("ROUNDLOT_POSTGRES_URL").expect("tests/run.sh names the server in ROUNDLOT_POSTGRES_URL");
    let schema = format!("{name}_{}", process::id());
    let made = Command::new("psql").args([&server, "-qc", &format!("CREATE SCHEMA {schema}")]).status();
    assert!(made.expect("psql is there").success());
    format!("{server}?options=-csearch_path%3D{schema}")
}

/// The reports of the bots that were not killed.
fn reports(app: &App) -> [Value; 2] {
    [2, 3].map(|number| app.report(&format!("bot{number}.json")))
}

/// Lets three bots trade, of which one is killed. Returns the journal of the venue, which agrees with the portfolios and has no order
/// twice.
fn trade_as_one(app: &App, log: &[&str]) -> Symbols {
    let (venue, url) = start_venue(app, "127.0.0.1:0");
    let mut bots: Vec<Bot> = (1..=3).map(|number| Bot::start(app, log, &url, number)).collect();
    until_spread(&mut bots);
    let deciders = |symbols: &Symbols| symbols.deciders.values().filter_map(|of| of.last()).cloned().collect();
    let three = loop {
        let now: BTreeSet<String> = deciders(&Symbols::read(app));
        if now.len() == 3 {
            break now;
        }
        bots.iter_mut().for_each(Bot::read);
    };

    let killed = bots.remove(0);
    let theirs = killed.leads.clone();
    kill(killed.child);
    until_spread(&mut bots);
    for (shard, term) in theirs {
        let bot = bots.iter().find(|bot| bot.leads.contains_key(&shard)).unwrap();
        assert!(bot.leads[&shard] > term, "shard {shard} is led in a later term");
    }
    // From here on two bots decide, on all symbols that ever had an order.
    loop {
        let symbols = Symbols::read(app);
        let now: BTreeSet<String> = deciders(&symbols);
        if now.len() == 2 && symbols.deciders.len() == 30 {
            assert!(now.is_subset(&three), "{now:?} of {three:?}");
            break;
        }
        bots.iter_mut().for_each(Bot::read);
    }
    bots.iter().for_each(|bot| signal(&bot.child, "-INT"));
    bots.into_iter().for_each(Bot::end);
    kill(venue);

    let symbols = Symbols::read(app);
    assert!(symbols.accepted.values().all(|ids| ids.len() == 1), "an order was accepted twice");
    assert!(symbols.filled.iter().all(|(id, fills)| *fills == 1 && symbols.accepted.contains_key(id)));

    let last = last_leaders(&reports(app));
    assert_eq!(last.keys().copied().collect::<Vec<_>>(), (0..u64::from(SHARDS)).collect::<Vec<_>>());
    let mut positions: BTreeMap<String, Decimal> = symbols.positions.clone();
    positions.retain(|_, quantity| !quantity.is_zero());
    assert!(positions.len() > 3, "{positions:?}");
    let reported: BTreeMap<String, Decimal> = last.values().flat_map(|led| led.positions.clone()).collect();
    assert_eq!(reported, positions, "the portfolios together are what the venue has");
    let led: usize = last.values().map(|led| led.symbols.len()).sum();
    assert_eq!(led, 30, "each symbol is of one shard");
    symbols
}

/// Goal: the kill switch of one bot stops all bots that share the log, and any of them ends that. Method: two bots; the switch on one
/// page, a while of progress without an order, and the resume on the other page.
#[test]
fn the_kill_switch_of_one_bot_stops_all() {
    let app = App::new();
    let (venue, url) = start_venue(&app, "127.0.0.1:0");
    let mut bots: Vec<Bot> = (1..=2).map(|number| Bot::start(&app, LOG, &url, number)).collect();
    until_spread(&mut bots);
    let decided = |app: &App| {
        let mut decided: BTreeMap<String, usize> = BTreeMap::new();
        Symbols::read(app)
            .deciders
            .into_values()
            .flatten()
            .for_each(|process| *decided.entry(process).or_default() += 1);
        decided
    };
    while decided(&app).len() < 2 {
        bots.iter_mut().for_each(Bot::read);
    }
    let answer = push(&bots[0].host, &bots[0].token, "withdraw");
    assert!(answer.contains("all bots of the log are paused"), "{answer}");
    // The answer may come before the venue has executed the last call.
    let mut at_the_stop = BTreeMap::new();
    while decided(&app) != at_the_stop {
        at_the_stop = decided(&app);
        (0..5).for_each(|_| bots.iter_mut().for_each(Bot::read));
    }
    (0..5).for_each(|_| bots.iter_mut().for_each(Bot::read));
    assert_eq!(decided(&app), at_the_stop, "no bot trades");
    assert!(bots.iter().all(|bot| is_paused_on_page(&bot.host)));

    let answer = push(&bots[1].host, &bots[1].token, "resume");
    assert!(answer.contains("orders resumed"), "{answer}");
    // Both trade again. What had waited is sent as well.
    while !at_the_stop.iter().all(|(process, before)| decided(&app)[process] > before + 10) {
        bots.iter_mut().for_each(Bot::read);
    }
    bots.iter().for_each(|bot| signal(&bot.child, "-INT"));
    bots.into_iter().for_each(Bot::end);
    kill(venue);
    assert_eq!(waiting(&app), 0);
    assert!(Symbols::read(&app).accepted.values().all(|ids| ids.len() == 1));
}
