//! Tests of the report's text: rows that add up, and words for what the figures do not say.

use roundlot::Outcomes;

use super::*;
use crate::bot::venue::{Peak, VenueCounts};

/// A report with a few of everything.
fn report() -> Report {
    let mut stats = FinalStats {
        prices: Stats::default(),
        orders: Stats::default(),
        trades: Stats::default(),
        rejections: BTreeMap::new(),
        log: None,
    };
    stats.prices.accepted = 1_000;
    (stats.prices.outcomes.delivered, stats.prices.outcomes.conflated) = (600, 400);
    (stats.prices.batches, stats.prices.written) = (10, 600);
    stats.orders.accepted = 2_000;
    let Outcomes { delivered, netted, refused, exhausted, withdrawn, .. } = &mut stats.orders.outcomes;
    (*delivered, *netted, *refused, *exhausted, *withdrawn) = (1_100, 888, 7, 2, 3);
    (stats.orders.batches, stats.orders.written, stats.orders.retries) = (556, 1_112, 3);
    let peak = |name: &'static str, used| Peak { name: name.into(), used, limit: 10_000 };
    let peaks = vec![peak("orders_10s", 9_500), peak("calls_1m", 100)];
    let counts = VenueCounts { peaks, too_many: 3, banned: 2, bans: 1 };
    let times = Percentiles { count: 1_109, p50: 0.012, p90: 0.02, p99: 0.099, p99_9: 0.1015, max: 0.102 };
    let cost = |operations, sent, calls, sink_seconds| Cost { operations, sent, calls, sink_seconds, seconds: 10.0 };
    let queueing = |slots, busy_slots| Queueing {
        slots,
        busy_slots,
        max_lingering_seconds: 0.005,
        min_due_seconds: 0.007,
        in_sink_seconds: 0.003,
    };
    Report {
        feed: "a test".to_owned(),
        strict: false,
        seconds: 10.0,
        measured: Measured {
            latency: Latency { prices: times, orders: times, trades: Percentiles::default() },
            queueing: Queues { prices: queueing(1, 0.04), orders: queueing(16, 14.56), trades: queueing(1, 0.0) },
            batched: Batched {
                prices: cost(1_000, 600, 10, 0.006),
                orders: cost(2_000, 1_112, 556, 11.12),
                trades: cost(0, 0, 0, 0.0),
            },
        },
        order_batches: Some(OrderBatches {
            partitions: 200,
            ops_at_once: 2.0,
            seconds_between: 0.1,
            linger: "5ms".to_owned(),
        }),
        quota: QuotaUse::new(Some(counts), &stats.orders, 1_234),
        log: None,
        unbatched: Some(Unbatched {
            prices: cost(500, 500, 500, 0.001),
            orders: cost(500, 510, 510, 5.1),
            trades: None,
        }),
        end: Drained::new(57, 0.25, stats),
        rows: RowLog::default(),
        verdicts: Verdicts {
            delivered: 1_100,
            netted: 888,
            failed_orders: 5,
            failed_cancels: 6,
            failed_amends: 1,
            mean_seconds: 0.01,
            max_seconds: 0.102,
            ..Verdicts::default()
        },
        rejections: BTreeMap::from([("there is no such order".to_owned(), 7), ("unavailable".to_owned(), 2)]),
        portfolio: valuation(),
        database: "it.db".to_owned(),
    }
}

fn valuation() -> Valuation {
    let (start, end) = ("1,000.00".to_owned(), "999.00".to_owned());
    Valuation { start, end, held: 3, fills: 12, positions: BTreeMap::new() }
}

/// The cells of a row, without the commas of its numbers.
fn cells(text: &str, name: &str) -> [String; 3] {
    let line =
        text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    let words: Vec<String> = line.split_whitespace().map(|word| word.replace(',', "")).collect();
    std::array::from_fn(|i| words[words.len() - 3 + i].clone())
}

#[test]
fn the_ends_of_a_batcher_add_up() {
    let text = report().to_string();
    let rows = ["delivered", "conflated", "netted", "refused", "exhausted", "withdrawn"];
    for batcher in 0..3 {
        let count = |name| cells(&text, name)[batcher].parse::<u64>().unwrap();
        assert_eq!(rows.iter().map(|row| count(row)).sum::<u64>(), count("accepted"), "{text}");
    }
    assert!(!text.contains("evicted"), "an end that did not happen, and is not usual, has no row: {text}");
    for line in ["is the sum of the rows below it", "A dash: none, or not measured"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn no_percentile_is_above_the_maximum() {
    let text = report().to_string();
    for (row, expected) in [("send to verdict, p50", "12.0"), ("p99.9", "102"), ("max", "102")] {
        let line = text.lines().find(|line| line.trim_start().starts_with(row)).unwrap();
        assert_eq!(line.split_whitespace().rev().nth(2), Some(expected), "{line}");
    }
}

#[test]
fn the_text_explains_its_figures() {
    let text = report().to_string();
    for words in [
        "3,000 operations in 10.0 s: 300 per second\nat the end 57 were left to settle, which took 250 ms\n",
        "orders     2.0 per batch: a batch holds one symbol and side. The bot sends\n           2.0 for one of them at a time, ",
        "the next ones 100 ms later on\n           average, while a batch lingers 5ms. (200 had orders.)\n",
        "slots      14.6 of 16 for orders were busy on average: most of the waiting\n           is for a slot,",
        "first 500 prices, 500 orders and no\n  trades were sent again, ",
        "(The app makes no scratch table on a PostgreSQL server",
        "quota      orders_10s   9,500 of  10,000 at most (95.0 %), 0 refusals\n",
        "           calls_1m       100 of  10,000 at most (1.0 %), 0 refusals\n",
        "at most 1,234 were never sent because of it: that many were\n",
        "the venue answered 3 calls with 429, and 2 in 1 bans\n",
        "verdicts   2,000: 1,100 delivered, 0 conflated,\n           888 netted, 12 failed;\n",
        "failed     5 orders, 6 cancels, 1 moved stops:\n",
        "     3 withdrawn, or not settled at the end\n           (No such order: a cancel",
        "(Other reasons may be made up: the paper venue rejects some",
        "portfolio  999.00 at the end; it began with 1,000.00 in cash\n           and no positions; 12 orders filled, 3 ",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    let mut quiet = report();
    quiet.rejections.clear();
    quiet.measured.queueing.orders.busy_slots = 8.0;
    quiet.unbatched = None;
    quiet.quota = None;
    (quiet.end.backlog, quiet.order_batches, quiet.verdicts) = (0, None, Verdicts::default());
    let text = quiet.to_string();
    assert!(text.contains("at the end none was left to settle\n"), "{text}");
    for words in ["No such order", "made up", "per batch", "moved stops", "slots   ", "An op alone", "scratch", "429"] {
        assert!(!text.contains(words), "{words}: {text}");
    }
}

/// Goal: ops that were never sent are told from those that shared a call, and a time is of an op that was sent.
/// Method: a report whose ratios and times are known.
#[test]
fn calls_are_saved_by_not_sending_and_by_batching() {
    let text = report().to_string();
    for (row, expected) in [
        ("calls, one for each op", ["1000", "2000", "0"]),
        ("for each op sent", ["600", "1112", "0"]),
        ("in batches, as they were", ["10", "556", "0"]),
    ] {
        assert_eq!(cells(&text, row), expected, "{row}: {text}");
    }
    for (row, expected) in [
        ("fewer by not sending", "1.7 x 1.8 x -"),
        ("fewer by batching", "60 x 2.0 x -"),
        ("time of a call", "600 µs 20.0 ms -"),
        ("per op in it", "10.0 µs 10.0 ms -"),
        ("a call for an op alone", "2.00 µs 10.0 ms -"),
        ("lingering, at most", "5.00 ms 5.00 ms 5.00 ms"),
        ("for a slot, at least", "7.00 ms 7.00 ms 7.00 ms"),
        ("in the sink", "3.00 ms 3.00 ms 3.00 ms"),
        ("slots busy, mean", "0.0 of 1 14.6 of 16 0.0 of 1"),
    ] {
        let mut lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(row));
        let words: Vec<&str> = lines.next().unwrap_or_else(|| panic!("no {row}: {text}")).split_whitespace().collect();
        assert_eq!(words.join(" "), expected, "{row}: {text}");
    }
}
