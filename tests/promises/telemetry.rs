//! Tests of telemetry: a span per batch, events, metrics, and never the payload of an op.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, Once, OnceLock},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use roundlot::{
    Batch, Batcher, DeadLetter, Limits, Retry, Sink, SinkError, Stages, sink_fn, stage,
    testing::{Flaky, Gate, Recorder, until_idle},
};
use tracing::{Event, Id, Subscriber, field::Visit, span};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

use crate::{AGES, at_once, down, eventually, ms, refused, secs};

/// All spans and events as text, one a line. Values that are recorded later on a span are added to its line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

/// The id, if the line is a span, and the text.
type Line = (Option<u64>, String);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut line = format!("span {}", attributes.metadata().name());
        attributes.record(&mut Text(&mut line));
        self.0.lock().unwrap().push((Some(id.into_u64()), line));
    }

    fn on_record(&self, id: &Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let mut lines = self.0.lock().unwrap();
        if let Some((_, line)) = lines.iter_mut().rev().find(|(span, _)| *span == Some(id.into_u64())) {
            values.record(&mut Text(line));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = format!("event {}", event.metadata().level());
        event.record(&mut Text(&mut line));
        self.0.lock().unwrap().push((None, line));
    }
}

impl Log {
    /// Captures all events of this thread, which is that of the test's runtime.
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        // Without any subscriber, an event that another thread emits for the first time at this moment may stay off for ever.
        static ANY: Once = Once::new();
        ANY.call_once(|| drop(tracing::subscriber::set_global_default(tracing_subscriber::registry())));
        let log = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
        (log, guard)
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }

    fn count(&self, start: &str, part: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start) && line.contains(part)).count()
    }
}

/// Goal: a span per batch has the reason of its cut, size, attempt and outcome. Method: a write of each outcome:
/// answered, failed, hung, panicked, aborted.
#[tokio::test(start_paused = true)]
async fn each_batch_has_a_span() {
    let (log, _guard) = Log::capture();
    let flaky = Flaky::new(Recorder::new()).fail(down()).pass(1).hang(1).panic(1).hang(1);
    let limits = Limits::new(2).linger(ms(5)).write_timeout(secs(1));
    let (desk, worker) = Batcher::new(flaky).name("spans").limits(limits).retry(Retry::default().seed(1)).spawn();
    desk.send_all([1, 2]).await.unwrap();
    let _ = eventually(desk.flush()).await.unwrap();
    for op in 3..5 {
        let _ = eventually(desk.submit(op).await.unwrap().outcome()).await;
    }
    desk.send(5).await.unwrap();
    let _ = eventually(worker.shutdown().within(ms(10)).into_future()).await.unwrap();
    let spans: Vec<_> = log.lines().into_iter().filter(|line| line.starts_with("span batch")).collect();
    let prefix = "span batch batcher=\"spans\" cut_by";
    let outcomes = [
        "\"full\" size=2 attempt=1 outcome=not written for now: down",
        "\"retry\" size=2 attempt=2 outcome=\"answered\"",
        "\"linger\" size=1 attempt=1 outcome=may or may not have been written: no answer within 1s",
        "\"linger\" size=1 attempt=1 outcome=\"panicked\"",
        "\"close\" size=1 attempt=1 outcome=\"aborted\"",
    ];
    assert_eq!(spans, outcomes.map(|outcome| format!("{prefix}={outcome}")));
}

/// Goal: there are events for a retry, a dead letter, a panic and the stop, with the batcher's name. Method: one of
/// each.
#[tokio::test(start_paused = true)]
async fn retries_letters_panics_and_the_stop_are_events() {
    let (log, _guard) = Log::capture();
    let flaky = Flaky::new(Recorder::new()).fail(down()).fail(refused()).panic(1);
    let (desk, worker) = Batcher::new(flaky).name("events").limits(3).spawn();
    desk.send_all([1, 2, 3]).await.unwrap();
    let _ = eventually(desk.flush()).await.unwrap();
    desk.send(4).await.unwrap();
    let _ = eventually(desk.flush()).await.unwrap();
    let _ = worker.shutdown().await.unwrap();
    let events = [
        ("tried again batcher=\"events\" ops=3 attempt=2 pause=", 1),
        ("dead letters, dropped batcher=\"events\" count=3 in_doubt=0 attempts=2 error=\"refused: no\"", 1),
        ("dead letters, dropped batcher=\"events\" count=1 in_doubt=1 attempts=1", 1),
        ("dead letter", 2),
        ("the sink panicked", 2),
        ("closing batcher=events", 1),
        ("ended batcher=events delivered=0 returned=0", 1),
    ];
    for (part, count) in events {
        assert_eq!(log.count("event", part), count, "{part}: {:#?}", log.lines());
    }
}

/// Goal: no burst of failures floods the log: a line per turn and kind of event. Method: a thousand ops meet an outage five
/// times, are then refused one by one, and become dead letters that no sink takes.
#[tokio::test(start_paused = true)]
async fn a_burst_of_failures_is_a_few_lines() {
    let (log, _guard) = Log::capture();
    let flaky = Flaky::new(Recorder::new()).fail_times(5, SinkError::outage("disk full"));
    let flaky = flaky.fail_times(1, down()).pass(1);
    let (desk, _worker) = Batcher::new(flaky.clone()).name("burst").limits(Limits::new(1000)).spawn();
    desk.send_all(0..1000).await.unwrap();
    until_idle().await;
    flaky.fail_ops(|_: &u32| Some(refused()));
    let report = eventually(desk.flush()).await.unwrap();
    assert_eq!(report.outcomes.refused, 1000);
    let count = |part: &str| log.count("event", part);
    let lines = [
        count("WARN message=the destination is away: operations wait batcher=\"burst\" ops=1000 writes=1 pause="),
        count("INFO message=the destination is still away"),
        count("INFO message=the destination is back batcher=\"burst\" lasted="),
        count("dead letters, dropped batcher=\"burst\" count=1000"),
    ];
    assert_eq!(lines[0], 1, "{:#?}", log.lines());
    assert!(log.lines().iter().filter(|line| line.starts_with("event")).count() < 12, "{:#?}", log.lines());
    assert_eq!(lines[3], 1, "{:#?}", log.lines());
}

/// Goal: an outage that is given up says so, with the number of ops, also of those that no buffer holds any more. Method:
/// three ops, of which all or two are in the last write.
#[tokio::test(start_paused = true)]
async fn an_outage_that_is_given_up_is_an_event_with_the_number_of_ops() {
    for max_items in [3, 2] {
        let (log, _guard) = Log::capture();
        let flaky = Flaky::new(Recorder::new()).fail_times(99, SinkError::outage("disk full"));
        let retry = Retry::default().give_up_after(secs(1));
        let (desk, _worker) = Batcher::new(flaky).name("given-up").limits(max_items).retry(retry).spawn();
        desk.send_all([1, 2, 3]).await.unwrap();
        let report = eventually(desk.flush()).await.unwrap();
        assert_eq!(report.outcomes.exhausted, 3);
        let start =
            "event ERROR message=the outage has lasted too long: operations given up batcher=\"given-up\" ops=3";
        assert_eq!(log.count(start, ""), 1, "{:#?}", log.lines());
    }
}

/// Goal: sums over all batchers count an op once. Method: a batcher with dead letters, whose own batcher has names of
/// its own.
#[tokio::test(start_paused = true)]
async fn dead_letters_do_not_inflate_sums_over_all_batchers() {
    exporter();
    let letters = Recorder::<u32>::new();
    let (desk, worker) = Batcher::new(Flaky::new(Recorder::new()).fail_ops(|op: &u32| (*op < 3).then(refused)))
        .name("sums")
        .dead_letters(letters.map(|letter: &DeadLetter<u32>| letter.op))
        .spawn();
    desk.send_all(0..10).await.unwrap();
    let _ = worker.shutdown().await.unwrap();
    let of_letters = page("sums-letters");
    assert!(of_letters.iter().all(|(series, _)| series.starts_with("roundlot_dead_letters_")), "{of_letters:#?}");
    let value = |batcher: &str, name: &str| value(batcher, name, "").unwrap();
    assert_eq!(value("sums", "roundlot_ops_accepted_total"), "10");
    assert_eq!(value("sums-letters", "roundlot_dead_letters_ops_accepted_total"), "3");
}

/// Goal: no panic of the user's code is silent. Method: a merge function that panics; two ops are gone, and an event
/// must say so. Guards: ops that the merge has used up leave no letter that would be logged.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_merge_is_logged_as_an_event() {
    let (log, _guard) = Log::capture();
    let merge = |_: u32, _: u32| -> Option<u32> { panic!("cannot merge") };
    let stages = Stages::new().conflate_by(|_: &u32| (), merge);
    let (desk, _worker) = Batcher::new(Recorder::new()).stages(stages).limits(Limits::new(10)).spawn();
    desk.send_all([1, 2]).await.unwrap();
    until_idle().await;
    assert_eq!((desk.stats().outcomes.refused, desk.stats().panics), (2, 1));
    assert!(log.count("event", "panicked") > 0, "{:#?}", log.lines());
}

/// Text that no telemetry may show.
const SECRET: &str = "SECRET-7f3a";

/// An op whose `Debug` prints its secret.
#[derive(Clone)]
struct Secret(u32);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SECRET} {}", self.0)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Goal: no event, span, `Debug` or message of this crate shows the payload of an op. Method: ops that end in each way,
/// and everything that holds an op is printed.
#[tokio::test(start_paused = true)]
async fn the_payload_of_an_op_is_never_logged() {
    let (log, _guard) = Log::capture();
    let flaky = Flaky::new(Recorder::new()).fail(down()).fail(SinkError::too_large("no")).pass(1).panic(1).hang(1);
    let flaky = Gate::new(flaky.fail_ops(|op: &Secret| (op.0 == 5).then(refused)));
    let post = Flaky::new(Recorder::<String>::new()).fail(refused()).panic(1);
    let stages = Stages::new()
        .partition_by(|op: &Secret| op.0 / 100)
        .conflate_by(|op: &Secret| op.0, stage::latest)
        .priority_by(|op: &Secret| assert_ne!(op.0, 6, "no level"));
    let limits = Limits::new(4).linger(AGES).max_pending(20).write_timeout(secs(1));
    let batcher = Batcher::new(flaky.clone())
        .name("secrets")
        .stages(stages)
        .limits(limits)
        .dead_letters(post.map(|letter: &DeadLetter<Secret>| format!("{}", letter.op.0)));
    let mut told = format!("{batcher:?}");
    let (desk, worker) = batcher.spawn();
    desk.send_all((0..10).map(Secret)).await.unwrap();
    desk.send_all((0..3).map(Secret)).await.unwrap();
    let ack = desk.submit(Secret(200)).await.unwrap();
    let gone = desk.withdraw(|op| op.0 == 7).await.unwrap().len();
    assert_eq!(gone, 1);
    flaky.open();
    let report = eventually(desk.flush()).await.unwrap();
    desk.pause().await.unwrap();
    desk.send_all((10..30).map(Secret)).await.unwrap();
    write!(told, "{desk:?} {worker:?} {ack:?} {report:?} {:?}", desk.try_send(Secret(1))).unwrap();
    let summary = eventually(worker.shutdown().within(secs(9)).into_future()).await.unwrap();
    write!(told, "{:?} {:?} {summary:?}", eventually(ack.outcome()).await, desk.send_all([Secret(1)]).await).unwrap();
    for error in [desk.send(Secret(1)).await.unwrap_err(), roundlot::SendError::Full(Secret(2))] {
        write!(told, "{error:?} {error}").unwrap();
    }
    let batch = Batch::<Secret>::for_test(vec![Secret(1)]);
    write!(told, "{batch:?} {:?}", summary.dead_letters).unwrap();
    assert!(!told.contains(SECRET), "{told}");
    let lines = log.lines();
    assert!(lines.len() > 10 && !lines.iter().any(|line| line.contains(SECRET)), "{lines:#?}");
    assert!(summary.stats.outcomes.refused > 1 && summary.returned.len() > 1 && summary.stats.retries > 0);
}

/// Returns the exporter of this program's tests, which gets the metrics of all batchers with a name.
fn exporter() -> &'static PrometheusHandle {
    static EXPORTER: OnceLock<PrometheusHandle> = OnceLock::new();
    EXPORTER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

/// Returns the lines of one batcher: name and labels, and the value.
fn page(batcher: &str) -> Vec<(String, String)> {
    let page = exporter().render();
    let label = format!("batcher=\"{batcher}\"");
    let lines = page.lines().filter(|line| line.contains(&label));
    lines.map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap()).collect()
}

/// Returns the value of one series of a batcher.
fn value(batcher: &str, name: &str, label: &str) -> Option<String> {
    let found = page(batcher)
        .into_iter()
        .find(|(series, _)| series.split('{').next() == Some(name) && (label.is_empty() || series.contains(label)));
    found.map(|(_, value)| value)
}

/// Goal: the `metrics` facade gets the numbers of the statistics, histograms included. Method: ops that are delivered,
/// refused, retried and conflated, and a page of an existing exporter.
#[tokio::test(start_paused = true)]
async fn metrics_equal_the_statistics() {
    exporter();
    let flaky = Flaky::new(Recorder::new()).fail(down()).fail_ops(|op: &u32| (*op == 3).then(refused));
    let stages = Stages::new().conflate_by(|op: &u32| *op, stage::latest);
    let gate = Gate::new(flaky);
    let (desk, _worker) = Batcher::new(gate.clone()).name("metrics").stages(stages).limits((4, AGES)).spawn();
    desk.send_all([1, 2, 2, 3]).await.unwrap();
    until_idle().await;
    let value = |name: &str, label: &str| value("metrics", name, label).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(value("roundlot_ops_waiting", ""), "3");
    let mut flush = tokio_test::task::spawn(desk.flush());
    assert!(flush.poll().is_pending());
    gate.reached(1).await;
    until_idle().await;
    assert_eq!((value("roundlot_ops_in_flight", ""), value("roundlot_ops_waiting", "")), ("3".into(), "0".into()));
    gate.open();
    let _ = eventually(flush).await.unwrap();
    let stats = desk.stats();
    let counters = [
        ("roundlot_ops_accepted_total", "", stats.accepted),
        ("roundlot_ops_ended_total", "end=\"delivered\"", stats.outcomes.delivered),
        ("roundlot_ops_ended_total", "end=\"refused\"", stats.outcomes.refused),
        ("roundlot_ops_ended_total", "end=\"conflated\"", stats.outcomes.conflated),
        ("roundlot_ops_ended_total", "end=\"in_doubt\"", 0),
        ("roundlot_batches_total", "cut_by=\"flush\"", stats.cuts.flush),
        ("roundlot_batches_total", "cut_by=\"retry\"", stats.cuts.retry),
        ("roundlot_retries_total", "", stats.retries),
        ("roundlot_splits_total", "", 0),
        ("roundlot_panics_total", "", 0),
        ("roundlot_dead_letters_lost_total", "", 0),
        ("roundlot_batch_ops_count", "", stats.batches),
        ("roundlot_batch_fill_ratio_count", "", stats.batches),
        ("roundlot_op_in_buffer_seconds_count", "", 3),
        ("roundlot_op_waiting_seconds_count", "", 3),
        ("roundlot_op_backing_off_seconds_count", "", 3),
        ("roundlot_op_writing_seconds_count", "", 3),
    ];
    for (name, label, expected) in counters {
        assert_eq!(value(name, label), expected.to_string(), "{name} {label}");
    }
    assert_eq!(
        (stats.outcomes.delivered, stats.outcomes.refused, stats.outcomes.conflated, stats.retries),
        (2, 1, 1, 2)
    );
}

/// Goal: the number of series is bounded, since none is labeled by symbol. Method: one symbol and then a thousand give
/// the same series. Labels are only the batcher's name, the end, the reason of a cut and of the cap, and that of the exporter.
#[tokio::test(start_paused = true)]
async fn the_number_of_series_does_not_grow_with_the_symbols() {
    exporter();
    let sink = sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
    let stages = Stages::new().partition_by(|op: &u32| *op).conflate_by(|op: &u32| *op, stage::latest);
    let (desk, _worker) = Batcher::new(sink).name("bounded").stages(stages).limits((10, AGES)).spawn();
    desk.send(0).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    let series = || page("bounded").into_iter().map(|(series, _)| series).collect::<BTreeSet<_>>();
    let before = series();
    desk.send_all(0..1000).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(series(), before);
    let labels: BTreeSet<_> = before
        .iter()
        .flat_map(|series| series.split_once('{').unwrap().1.trim_end_matches('}').split(','))
        .map(|label| label.split_once('=').unwrap().0)
        .collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["batcher", "cut_by", "end", "quantile", "reason"]);
}
