//! Tests of runs with settings from all sources: reports, and errors that name the mistake.

use std::fs;

use crate::common::{App, rows};

/// Goal: a run writes its report and its database. Method: a short run, and a look at the files it leaves behind.
#[test]
fn the_simulated_feed_is_traded_and_reported() {
    let app = App::new();
    let settings = ["--set", "venue.latency=1ms", "--set", "unbatched.sample=20", "--set", "progress=100ms"];
    let outcome =
        app.run_as_is(&[&["--seconds", "1", "--report", "it.json", "--database", "it.db"], &settings[..]].concat());
    outcome.succeeded();
    let report = app.report("it.json");
    let trades = report["batchers"]["trades"]["delivered"].as_u64().unwrap();
    assert_eq!(rows(&app.path("it.db")).len() as u64, trades);
    assert!(trades > 0);
    assert!(report["batchers"]["orders"]["delivered"].as_u64().unwrap() > 0);
    for batcher in ["prices", "orders", "trades"] {
        let cost = &report["unbatched"][batcher];
        assert_eq!(cost["operations"], 20, "{batcher}");
        assert!(cost["calls"].as_u64() >= Some(20) && cost["sink_seconds"].as_f64() > Some(0.0), "{cost}");
        assert_eq!(cost["sent"], cost["calls"], "each op is alone: {cost}");
        let (ran, stats) = (&report["batched"][batcher], &report["batchers"][batcher]);
        assert_eq!((&ran["sent"], &ran["calls"]), (&stats["written"], &stats["batches"]), "{batcher}");
        let queueing = &report["queueing"][batcher];
        let [busy, slots, lingering, due, in_sink] =
            ["busy_slots", "slots", "max_lingering_seconds", "min_due_seconds", "in_sink_seconds"]
                .map(|name| queueing[name].as_f64().unwrap());
        assert!(0.0 < busy && busy <= slots, "{batcher}: {queueing}");
        let waiting = stats["waiting_time"]["mean_seconds"].as_f64().unwrap();
        assert!((lingering + due - waiting).abs() < 1e-6, "{batcher}: {queueing}");
        let writing = stats["writing_time"]["mean_seconds"].as_f64().unwrap();
        assert!(0.0 < in_sink && in_sink <= writing, "{batcher}: {queueing} of {writing} s");
    }
    let words = [
        "send to verdict, mean",
        "  waiting",
        "forced flushes",
        "retries",
        "lingering, at most",
        "slots busy, mean",
        "fewer by batching",
        "a call for an op alone",
        "per batch: ",
        "portfolio ",
    ];
    for words in words {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    assert!(outcome.stdout.lines().all(|line| line.chars().count() <= 80), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("operations, ") && outcome.stderr.contains(" per batch, "), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\x1b') && !outcome.stdout.contains('\x1b'), "plain lines");
    let left: Vec<_> = fs::read_dir(app.path("")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but the database and the report is left: {left:?}");
}

/// The cells of the first table's row with this name, as numbers without commas and units.
fn row(stdout: &str, name: &str) -> [f64; 3] {
    let line = stdout.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {stdout}"));
    let cells: Vec<f64> =
        line[name.len()..].split_whitespace().filter_map(|cell| cell.replace(',', "").parse().ok()).collect();
    cells.try_into().unwrap()
}

/// Goal: the figures of the report add up, and percentiles end at the maximum. Method: a run with conflated prices,
/// netted orders, retries and refusals.
#[test]
fn the_report_adds_up() {
    let app = App::new();
    let faults = ["--set", "venue.unavailable_percent=20", "--set", "venue.reject_percent=20"];
    let outcome = app.run(&[&["--seconds", "1", "--report", "it.json"], &faults[..]].concat());
    outcome.succeeded();
    let (stdout, report) = (&outcome.stdout, app.report("it.json"));
    let lines = stdout.lines().skip_while(|line| !line.starts_with("  accepted"));
    let ends: Vec<_> = lines.skip(1).take_while(|line| line.starts_with("    ")).map(|line| &line[..26]).collect();
    assert!(ends.len() >= 4, "{stdout}");
    let [accepted, sent, batches, size] =
        ["  accepted", "  sent, with retries", "  batches", "    mean size"].map(|name| row(stdout, name));
    for (i, name) in ["prices", "orders", "trades"].into_iter().enumerate() {
        assert_eq!(ends.iter().map(|end| row(stdout, end)[i]).sum::<f64>(), accepted[i], "{name}: {stdout}");
        assert!((sent[i] / batches[i] - size[i]).abs() < 0.06, "{name}: {stdout}");
        let (times, batcher) = (&report["latency"][name], &report["batchers"][name]);
        assert_eq!(times["max_seconds"], batcher["in_buffer"]["max_seconds"], "{name}");
        let seconds = ["p50", "p90", "p99", "p99_9", "max"].map(|at| times[format!("{at}_seconds")].as_f64().unwrap());
        assert!(seconds.is_sorted() && seconds[0] > 0.0, "{name}: {times}");
    }
    let verdicts = &report["verdicts"];
    let kinds = ["delivered", "conflated", "netted", "failed_orders", "failed_cancels", "failed_amends"];
    let all: u64 = kinds.iter().map(|kind| verdicts[kind].as_u64().unwrap()).sum();
    assert_eq!(all, report["batchers"]["orders"]["accepted"], "each order has one verdict");
    let reasons = report["rejections"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
    let failed: u64 = kinds[3..].iter().map(|kind| verdicts[kind].as_u64().unwrap()).sum();
    assert!(failed > 0 && reasons == failed, "{reasons} reasons for {failed} failures: {stdout}");
}

/// Goal: the bot keeps to the limits of the venue, and the report says what they did. Method: a tenth of the orders that it
/// would send.
#[test]
fn the_venue_is_not_asked_for_more_than_it_allows() {
    let app = App::new();
    let limits = ["--set", "venue.limits.orders_per_10s=100", "--set", "orders.quota.orders_10s.limit=100"];
    let feed = ["--seconds", "1", "--report", "it.json", "--set", "sim.pairs=4", "--set", "sim.updates_per_second=200"];
    let outcome = app.run(&[&limits[..], &feed].concat());
    outcome.succeeded();
    let (report, stdout) = (app.report("it.json"), &outcome.stdout);
    let quota = &report["quota"];
    assert_eq!(["too_many", "banned", "bans"].map(|name| quota[name].as_u64().unwrap()), [0; 3], "{quota}");
    let bucket = &quota["buckets"][0];
    let [peak, limit, refusals] = ["peak", "limit", "refusals"].map(|name| bucket[name].as_u64().unwrap());
    assert!(50 <= peak && peak <= limit && limit == 100 && refusals > 0, "{bucket}");
    assert!(quota["max_seconds"].as_f64().unwrap() > 0.0, "{quota}");
    let ended = &report["batchers"]["orders"];
    let merged = ended["netted"].as_u64().unwrap() + ended["conflated"].as_u64().unwrap();
    let unsent = quota["unsent_at_most"].as_u64().unwrap();
    assert!(0 < unsent && unsent <= merged, "{unsent} of {merged}");
    for words in [" of     100 at most (", "  for the quota", "the venue answered 0 calls with 429, and 0 in 0 bans"] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
}

/// Goal: a run that ends with a backlog says how large it was. Method: a replay that is faster than its batchers.
#[test]
fn a_backlog_at_the_end_is_told() {
    let app = App::new();
    let rows: String = (0..5_000).map(|i| format!("{i},1\n")).collect();
    app.write("BTC.csv", &format!("time_ms,price\n{rows}"));
    let slow = ["--set", "trades.limits.linger=300ms", "--set", "trades.limits.max_items=20000"];
    let outcome = app.run(&[&["--replay", "BTC.csv", "--speed", "0", "--report", "it.json"], &slow[..]].concat());
    outcome.succeeded();
    let backlog = app.report("it.json")["backlog"].as_u64().unwrap();
    assert!(backlog > 0, "{}", outcome.stdout);
    assert!(outcome.stderr.contains(" s: the feed has ended; ") && outcome.stderr.contains(" are still to be settled"));
    assert!(outcome.stdout.contains(" were left to settle, which took "), "{}", outcome.stdout);
}

#[test]
fn the_environment_overrides_the_file_and_the_command_line_both() {
    let mut app = App::new();
    app.write("config/trading_app.toml", "seed = 1\nseconds = 1\n[sim]\npairs = 2\n");
    app.environment = vec![("ROUNDLOT_SIM__PAIRS", "3"), ("ROUNDLOT_SEED", "5")];
    assert!(app.run(&[]).stdout.contains("simulated feed, 3 pairs, seed 5\n"));
    assert!(app.run(&["--seed", "6"]).stdout.contains("simulated feed, 3 pairs, seed 6\n"));
    app.write("other.toml", "seconds = 1\n");
    assert!(app.run(&["--config", "other.toml", "--set", "sim.pairs=4"]).stdout.contains("4 pairs, seed 5\n"));
}

#[test]
fn wrong_settings_are_reported_before_the_run_begins() {
    let mut app = App::new();
    app.write("bad.toml", "[orders.limits]\nmax_itmes = 5\n");
    app.write("empty.csv", "");
    let cases: [(&[&str], &str); 10] = [
        (&["--config", "bad.toml"], "bad.toml: "),
        (&["--config", "bad.toml"], "bad.toml: line 2, column 1: orders.limits.max_itmes: unknown field"),
        (&["--replay", "no.csv"], "cannot replay no.csv: "),
        (&["--replay", "empty.csv"], "cannot replay empty.csv: it is empty"),
        (&["--database", "no/such/folder/it.db"], "no/such/folder/it.db"),
        (&["--database", "mysql://bob:secret@db/trades"], "it is sqlite:PATH, the PATH alone, or a postgres:// URL"),
        (&["--database", "postgres://bob:secret@127.0.0.1:1/trades"], "cannot connect to PostgreSQL"),
        (&["--database", "oracle:x"], "it is sqlite:PATH, the PATH alone, or a postgres:// URL"),
        (&["--page", "0.0.0.0:0"], "--page-open-to-all"),
        (&["--page", "no-such-host.invalid:0"], "page: cannot find the host \"no-such-host.invalid\""),
    ];
    for (arguments, expected) in cases {
        let outcome = app.run(arguments);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains("error: ") && outcome.stderr.contains(expected), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
    }
    assert!(!app.path("trading_app.db").exists() && !app.path("oracle:x").exists());
    app.environment = vec![("ROUNDLOT_ORDERS__LIMITS__MAX_ITMES", "5")];
    let outcome = app.run(&[]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("ROUNDLOT_ORDERS__LIMITS__MAX_ITMES"), "{}", outcome.stderr);
}

#[test]
fn help_explains() {
    let outcome = App::new().run(&["--help"]);
    outcome.succeeded();
    for word in
        ["--replay", "--speed", "--strict", "--seconds", "--seed", "--database", "--report", "--config", "--set"]
    {
        assert!(outcome.stdout.contains(word), "{word}");
    }
    let mut app = App::new();
    app.environment = vec![("ROUNDLOT_DATABASE", "postgres://bob:secret@db/trades")];
    assert!(!app.run(&["--help"]).stdout.contains("secret"), "help shows the environment");
    assert!(outcome.stdout.contains("ROUNDLOT_SECONDS") && outcome.stdout.contains("config/trading_app.toml"));
}

/// Goal: a venue that hangs delays the end no longer than the drain may take. Method: a venue that takes a day for a
/// call, and a batcher that is soon full.
#[test]
fn a_venue_that_hangs_ends_in_a_report() {
    let app = App::new();
    let settings = ["--set", "venue.latency=1day", "--set", "orders.limits.max_pending=9", "--set", "drain=50ms"];
    let outcome = app.run(&[&["--seconds", "1", "--report", "it.json"], &settings[..]].concat());
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("no room"), "{}", outcome.stderr);
    let report = app.report("it.json");
    assert_eq!(report["batchers"]["orders"]["returned"], 9);
    assert_eq!(report["batchers"]["trades"]["delivered"], report["batchers"]["trades"]["accepted"]);
}
