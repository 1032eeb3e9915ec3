//! Results in files: an outcome, a dead letter, a summary and a report are read as they were written.

use roundlot::{
    AckError, Batcher, DeadLetter, End, FlushReport, Limits, Outcome, Outcomes, Retry, SinkError, Stats, Summary,
    testing::{Flaky, Recorder, until_idle},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{down, ms, refused, secs};

/// Writes a value, reads it, and asserts that the value read is written in the same way.
#[track_caller]
fn read_back<V: Serialize + DeserializeOwned>(value: &V) -> V {
    let text = serde_json::to_string(value).unwrap();
    let read: V = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    read
}

/// Goal: whatever happened to an op, its outcome is read as it was written. Method: ops that are delivered, refused, in
/// doubt, exhausted and returned, each with the outcome that its caller got.
#[tokio::test(start_paused = true)]
async fn outcomes_and_the_summary_are_read_as_they_were_written() {
    let flaky = Flaky::new(Recorder::with_receipts(|op: &u32| op * 10)).pass(1);
    flaky.fail(refused()).fail(SinkError::ambiguous("no answer")).fail(down()).fail(down()).hang(1);
    let (desk, worker) =
        Batcher::new(flaky).limits(Limits::new(1)).retry(Retry::exponential(ms(10), ms(10)).max_attempts(2)).spawn();
    let mut acks = Vec::new();
    for op in 1..=6 {
        acks.push(desk.submit(op).await.unwrap());
    }
    let summary = worker.shutdown().within(secs(1)).await.unwrap();

    let mut ends = Vec::new();
    for ack in acks {
        let outcome = ack.outcome().await;
        let read: Outcome<u32> = read_back(&outcome);
        assert_eq!((read.end, read.attempts, read.latency), (outcome.end, outcome.attempts, outcome.latency));
        let result = |outcome: &Outcome<u32>| outcome.result.clone().map_err(|error| (error.chain(), error.end()));
        assert_eq!(result(&read), result(&outcome));
        ends.push(read.end);
    }
    assert_eq!(ends, [End::Delivered, End::Refused, End::InDoubt, End::Exhausted, End::Returned, End::Returned]);

    let read: Summary<u32> = read_back(&summary);
    assert_eq!(read.stats, summary.stats);
    let flags: Vec<_> = read.returned.iter().map(|op| (op.op, op.in_flight, op.in_doubt)).collect();
    assert_eq!(flags, [(5, true, true), (6, false, false)]);
}

/// Goal: the numbers of a busy batcher survive. Method: a batcher with all kinds of them, and a flush.
#[tokio::test(start_paused = true)]
async fn statistics_and_reports_are_read_as_they_were_written() {
    let flaky = Flaky::new(Recorder::new()).slow(ms(7)).fail_ops(|op: &u32| (*op == 2).then(refused));
    let (desk, _worker) = Batcher::new(flaky).limits(Limits::new(2)).spawn();
    desk.send_all(0..5).await.unwrap();
    let report = desk.flush().await.unwrap();
    until_idle().await;

    let stats: Stats = read_back(&desk.stats());
    assert_eq!(stats, desk.stats());
    assert!(stats.in_buffer.mean > ms(7) && stats.fill_mean > 0.0 && stats.outcomes.refused == 1);
    let read: FlushReport = read_back(&report);
    assert_eq!((read.outcomes, read.errors[0].chain()), (report.outcomes, report.errors[0].chain()));
}

/// Goal: files of other versions can be read, and mistakes are told. Method: less, more and wrong fields.
#[test]
fn fields_of_other_versions_are_tolerated_and_mistakes_are_told() {
    assert_eq!(serde_json::from_str::<Stats>("{}").unwrap(), Stats::default());
    let stats: Stats = serde_json::from_value(json!({"accepted": 3, "delivered": 2, "of_later": true})).unwrap();
    assert_eq!((stats.accepted, stats.outcomes.delivered), (3, 2));
    assert_eq!(serde_json::from_str::<Outcomes>("{}").unwrap(), Outcomes::default());

    let outcome = json!({"result": {"Ok": null}, "end": "delivered", "attempts": 1, "latency_seconds": 0});
    let with = |field: &str, value: Value| {
        let mut outcome = outcome.clone();
        outcome[field] = value;
        serde_json::from_value::<Outcome>(outcome).map_err(|error| error.to_string())
    };
    assert!(with("of_later", json!(1)).is_ok());
    assert!(with("latency_seconds", json!(-1)).unwrap_err().contains("no time in seconds"));
    assert!(with("end", json!("delievered")).unwrap_err().contains("unknown variant"));
    assert!(with("attempts", json!(-1)).unwrap_err().contains("invalid value"));
    let error = with("result", json!({"Err": {"returned": {"in_flight": true}}})).unwrap_err();
    assert!(error.contains("in_doubt"), "{error}");

    let letter = json!({"op": 1, "error": {"kind": "refused"}, "attempts": 1, "end": "netted"});
    let error = serde_json::from_value::<DeadLetter<u32>>(letter).unwrap_err();
    assert_eq!(error.to_string(), "no dead letter ends as netted");
    assert!(matches!(serde_json::from_value::<AckError>(json!("lost")), Ok(AckError::Lost)));
}
