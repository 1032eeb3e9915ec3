//! Leases, terms and ids of a log in a database, against a real server.

use super::*;
use crate::durable::{
    intent::{Intent, IntentOp},
    members::Wanted,
};

/// Goal: a lease goes over if it is as it was seen, its holder has shown no life since, and who takes it was not removed. Method: each
/// of them not so, and then all of them so.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_lease_is_compared_and_set() {
    let place = Place::new().await;
    let (first, second) = (place.join().await, place.join().await);
    let holder = "SELECT holder FROM roundlot_leases WHERE shard = 0";
    let (one, two) = (first.producer(), second.producer());
    assert_eq!(place.number(holder).await as u64, one, "the first one had no company");
    let server = Arc::new(place.settings.server.server().unwrap());
    let tables = Arc::new(second.frames.tables().clone());
    let heartbeat = Heartbeat::begin(Arc::clone(&second.members), tables, server, Arc::clone(&second.clock));
    let mut heartbeat = heartbeat.await.unwrap();
    let mut take = async |holder: u64, revision: Option<u64>| {
        heartbeat.take(Wanted { shard: 0, holder, revision }).await.unwrap();
    };
    let revision = place.number(&format!("SELECT revision FROM roundlot_members WHERE producer = {one}")).await as u64;
    // Seen free, or another one's; seen dead, and renewed since; seen without a row, and there.
    for (seen, seen_revision) in [(0, None), (77, None), (one, Some(revision + 1)), (one, None)] {
        take(seen, seen_revision).await;
        assert_eq!(place.number(holder).await as u64, one);
    }
    take(one, Some(revision)).await;
    assert_eq!(place.number(holder).await as u64, two);
    place.client.execute("UPDATE roundlot_leases SET holder = 0", &[]).await.unwrap();
    take(0, None).await;
    assert_eq!(place.number(holder).await as u64, two);
    let free = format!("UPDATE roundlot_leases SET holder = 77; DELETE FROM roundlot_members WHERE producer = {two}");
    place.client.batch_execute(&free).await.unwrap();
    take(77, None).await;
    assert_eq!(place.number(holder).await, 77, "a process that was removed leads nothing");
    first.close().await;
    second.close().await;
}

/// Goal: ids whose outcomes are forgotten are never taken for new ones, and outcomes that an op may still repeat stay. Method: outcomes
/// of two processes, purged once with an op that may repeat one.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn ids_are_forgotten_before_their_outcomes() {
    let place = Place::new().await;
    let (log, other) = (place.join().await, place.join().await);
    let epoch = log.begin(0).await.unwrap().epoch;
    let outcome = |producer, first, count| OutcomeRow {
        producer,
        first,
        count,
        end: "delivered",
        attempts: 1,
        at: 0,
        schema: 0,
        result: b"+null".to_vec(),
        lengths: Vec::new(),
    };
    let (me, it) = (log.producer(), other.producer());
    let outcomes = vec![outcome(me, 1, 5), outcome(me, 10, 5), outcome(it, 1, 3)];
    log.record(Arc::new(Record { epoch, outcomes, ..Record::default() })).await.unwrap();
    let run = |producer, first, count| IdRun { producer, first, count };
    let ended = async |runs: Vec<IdRun>| {
        let rows = log.ended(0, runs).await.unwrap();
        rows.iter().map(|row| (row.producer, row.first)).collect::<Vec<_>>()
    };
    assert_eq!(ended(vec![run(me, 3, 1), run(it, 9, 9)]).await, [(me, 1)]);
    assert_eq!(ended(vec![run(me, 6, 4), run(me, 15, 100)]).await, []);
    assert_eq!(ended(vec![run(me, 2, 9), run(it, 0, 9)]).await, [(me, 1), (me, 10), (it, 1)]);

    let mut packer = Packer::new(it);
    packer.push(Entry { producer: me, number: 12, handle: 0, may_repeat: true, withdraws: false }, b"again");
    let client = connect(&place.url).await;
    store(&other, &client, vec![(0, packer.seal(1, nanos(log.now()), 0))]).await.unwrap();
    let now = nanos(log.now()) + 1_000_000_000;
    let purge = Purge { before: now, now, ..Purge::default() };
    log.purge(0, purge.clone()).await.unwrap();
    let find = async |producer, number| log.find(OpId::new(producer, 0, number)).await.unwrap();
    assert_eq!((find(me, 3).await, find(it, 2).await), (Found::Forgotten, Found::Forgotten));
    assert!(matches!(find(me, 12).await, Found::Ended(_)));
    assert_eq!((find(me, 15).await, find(it, 4).await), (Found::Unknown, Found::Unknown));
    log.purge(0, Purge { unread: 1, ..purge }).await.unwrap();
    assert_eq!(find(me, 12).await, Found::Forgotten);
    assert_eq!(place.number("SELECT count(*) FROM roundlot_outcomes").await, 0);
    // A repeat of the frame, and the next one, find the row of their process as it is.
    assert_eq!(store(&other, &client, vec![(0, young(&other, 2, 1))]).await.unwrap(), [Ok(1)]);
    log.close().await;
    other.close().await;
}

/// Goal: a pause that another process has stored lets no batch begin, and says how many ops may be under way; what has ended is recorded
/// all the same. Method: records of a leader before, during and after it, and a dead letter whose op is in a frame.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_pause_of_another_process_stops_intents() {
    let place = Place::new().await;
    let (log, other) = (place.join().await, place.join().await);
    let client = connect(&place.url).await;
    store(&log, &client, vec![(0, young(&log, 1, 4))]).await.unwrap();
    let epoch = log.begin(0).await.unwrap().epoch;
    let op = |position| IntentOp { positions: vec![position], attempts: 1, op: None };
    let intent = Intent { alone: false, schema: 0, ops: vec![op(0), op(1)] }.encode();
    let starts = |number| {
        let intents = vec![(number, intent.clone())];
        log.record(Arc::new(Record { epoch, intents, starts: true, ..Record::default() }))
    };
    starts(0).await.unwrap();
    assert_eq!(other.set_paused(0, true).await.unwrap(), 2);
    assert_eq!(starts(1).await, Err(LogError::Paused));
    let letter = |number, position| LetterRow {
        producer: log.producer(),
        number,
        position: Some(position),
        op: Vec::new(),
        schema: 0,
        end: "refused",
        attempts: 1,
        error: Vec::new(),
        at: 0,
    };
    let letters = vec![letter(1003, 3), letter(1000, 0), letter(1001, 1)];
    let ends = Record { epoch, resolved: vec![0], settled: vec![(0, 1), (3, 3)], letters, ..Record::default() };
    log.record(Arc::new(ends)).await.unwrap();
    let ops: Vec<_> = other.letters(0, None, 9).await.unwrap().into_iter().map(|letter| letter.op).collect();
    assert_eq!(ops, [b"1000", b"1001", b"1003"]);
    assert_eq!(other.set_paused(0, false).await.unwrap(), 0);
    starts(1).await.unwrap();
    log.close().await;
    other.close().await;
}

/// Goal: no term begins without the lease. Method: a process that has it, and one that has not.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_term_needs_the_lease() {
    let place = Place::new().await;
    let (first, second) = (place.join().await, place.join().await);
    assert_eq!(second.begin(0).await.unwrap_err(), LogError::Fenced);
    assert_eq!(first.begin(0).await.unwrap().epoch, 1);
    first.close().await;
    second.close().await;
}
