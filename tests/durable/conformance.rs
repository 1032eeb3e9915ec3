//! Duties of each engine, whatever it keeps its log in. A new engine implements [`Place`] and is added to the list at the end.

use roundlot::{
    AckError, End, Limits, Sink, SinkError, Stages,
    durable::{Codec, CodecError, Durable, Engine, JoinError, Joined, Json, OpStatus, Raw, SendError, WithdrawError},
    stage,
    testing::{Flaky, Gate, MemoryLog, Recorder},
};

use crate::venue::Keyed;

type Op = (u32, u32);

/// A place where a log is kept, which outlives the batchers that join it.
trait Place {
    type Engine: Engine;

    /// The engine of the log, for one more batcher.
    fn engine(&self) -> Self::Engine;
}

impl Place for MemoryLog {
    type Engine = Self;

    fn engine(&self) -> Self {
        self.clone()
    }
}

#[cfg(feature = "durable-file")]
impl Place for tempfile::TempDir {
    type Engine = roundlot::durable::File;

    fn engine(&self) -> Self::Engine {
        roundlot::durable::File::at(self.path().join("orders.db"))
    }
}

#[cfg(all(feature = "durable-file", feature = "postgres"))]
impl Place for crate::ledger::Place {
    type Engine = roundlot::durable::File;

    fn engine(&self) -> Self::Engine {
        self.file()
    }
}

#[cfg(feature = "postgres")]
impl Place for crate::postgres::Place {
    type Engine = roundlot::durable::PostgreSql;

    fn engine(&self) -> Self::Engine {
        self.engine()
    }
}

#[cfg(feature = "durable-nats")]
impl Place for crate::nats::Place {
    type Engine = roundlot::durable::Nats;

    fn engine(&self) -> Self::Engine {
        self.engine()
    }
}

fn stages() -> Stages<Op> {
    Stages::new().partition_by(|op: &Op| op.0).conflate_by(|op: &Op| (op.0 >= 100).then_some(op.0), stage::latest)
}

async fn join(place: &impl Place, sink: impl Sink<Op> + Clone) -> Joined<Op> {
    Durable::new("orders", place.engine()).stages(stages).sink(move |_| Keyed(sink.clone())).join().await.unwrap()
}

/// Checks that all ops are accounted for, and leaves.
async fn leave(orders: Joined<Op>) {
    let stats = orders.leave().await.unwrap();
    let came = stats.accepted + stats.recovered + stats.received;
    let went = stats.outcomes.total() + stats.repeats + stats.handed_over + stats.waiting + stats.in_flight;
    assert_eq!(came, went, "{stats:?}");
}

/// Ops that were accepted and did not end are found by the next batcher, in order.
async fn what_waits_is_found_again(place: impl Place) {
    let recorder = Recorder::new();
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send((1, 0)).await.unwrap();
    desk.send_all((1..2500).map(|i| (1, i))).await.unwrap();
    let ack = desk.submit((1, 2500)).await.unwrap();
    leave(orders).await;
    assert!(matches!(ack.await, Err(AckError::Detached { .. })));
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    let stats = desk.stats();
    assert_eq!((stats.recovered, stats.recovered_in_doubt, stats.paused), (2501, 0, true));
    assert!(recorder.is_empty(), "a restart stays paused");
    desk.resume().await.unwrap();
    assert!(desk.flush().await.unwrap().is_ok());
    assert_eq!(recorder.ops(), (0..=2500).map(|i| (1, i)).collect::<Vec<_>>());
    leave(orders).await;
}

/// The outcome of an op is known after its batcher has gone, and so is that an id was never accepted.
async fn outcomes_are_known_later(place: impl Place) {
    let orders = join(&place, Recorder::new()).await;
    let desk = orders.handle();
    let ack = desk.submit((1, 1)).await.unwrap();
    let ended = ack.id();
    ack.await.unwrap();
    let unsent = desk.next_id(&(1, 2));
    assert!(matches!(desk.outcome(unsent).await.unwrap(), OpStatus::NotYetKnown));
    leave(orders).await;
    let orders = join(&place, Recorder::new()).await;
    let desk = orders.handle();
    let OpStatus::Ended(outcome) = desk.outcome(ended).await.unwrap() else { panic!("it has ended") };
    assert!(outcome.end == End::Delivered && outcome.result.is_ok());
    assert!(matches!(desk.outcome(unsent).await.unwrap(), OpStatus::NeverAccepted));
    leave(orders).await;
}

/// An id takes effect once, in one life and over two.
async fn an_id_takes_effect_once(place: impl Place) {
    let recorder = Recorder::new();
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    let (waiting, ended) = (desk.next_id(&(1, 1)), desk.next_id(&(2, 2)));
    desk.submit_as(ended, (2, 2)).await.unwrap().await.unwrap();
    desk.pause().await.unwrap();
    desk.send_as(waiting, (1, 1)).await.unwrap();
    desk.send_as(waiting, (1, 1)).await.unwrap();
    leave(orders).await;
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    let acks = [desk.submit_as(waiting, (1, 1)).await.unwrap(), desk.submit_as(ended, (2, 2)).await.unwrap()];
    desk.resume().await.unwrap();
    for ack in acks {
        ack.await.unwrap();
    }
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(2, 2), (1, 1)]);
    leave(orders).await;
}

/// An id of another log or shard is refused, and its op given back.
async fn a_strange_id_is_refused(place: impl Place) {
    let orders = join(&place, Recorder::new()).await;
    let desk = orders.handle();
    let strange = "77-3-5".parse().unwrap();
    assert!(matches!(desk.send_as(strange, (1, 1)).await, Err(SendError::Forgotten { op: (1, 1), .. })));
    leave(orders).await;
}

/// Ops under one key are merged, also over a restart, and each caller hears.
async fn rules_hold_over_a_restart(place: impl Place) {
    let recorder = Recorder::new();
    let orders = join(&place, recorder.clone()).await;
    orders.handle().pause().await.unwrap();
    orders.handle().send_all([(100, 1), (101, 1), (100, 2)]).await.unwrap();
    leave(orders).await;
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    let ack = desk.submit((100, 3)).await.unwrap();
    desk.resume().await.unwrap();
    ack.await.unwrap();
    desk.flush().await.unwrap();
    let mut ops = recorder.ops();
    ops.sort_unstable();
    assert_eq!(ops, [(100, 3), (101, 1)]);
    assert_eq!(desk.stats().outcomes.conflated, 2);
    leave(orders).await;
}

/// Ops that were withdrawn are handed back, and do not come again.
async fn what_was_withdrawn_does_not_come_back(place: impl Place) {
    let recorder = Recorder::new();
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all([(1, 1), (2, 2), (100, 1), (101, 1)]).await.unwrap();
    assert_eq!(desk.withdraw(|op| op.0 == 2).await.unwrap(), [(2, 2)]);
    assert_eq!(desk.withdraw_key(100_u32).await.unwrap(), [(100, 1)]);
    assert_eq!(desk.withdraw_key(100_u32).await.unwrap(), []);
    leave(orders).await;
    let orders = join(&place, recorder.clone()).await;
    let desk = orders.handle();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    let mut ops = recorder.ops();
    ops.sort_unstable();
    assert_eq!(ops, [(1, 1), (101, 1)]);
    leave(orders).await;
    assert!(matches!(desk.withdraw(|_| true).await, Err(WithdrawError::Left(_))));
}

/// A refused op is a dead letter, which can be sent again or discarded, in a later life too.
async fn dead_letters_stay(place: impl Place) {
    let recorder = Recorder::new();
    let flaky = Flaky::new(recorder.clone()).fail(SinkError::refused("not listed")).fail(SinkError::refused("halted"));
    let orders = join(&place, flaky).await;
    let desk = orders.handle();
    let mut ids = Vec::new();
    for i in [1, 2] {
        let ack = desk.submit((i, i)).await.unwrap();
        ids.push(ack.id());
        assert!(matches!(ack.await, Err(AckError::Refused(_))));
    }
    leave(orders).await;
    let orders = join(&place, recorder.clone()).await;
    let letters = orders.dead_letters();
    let listed: Vec<_> = letters.list(10).await.unwrap().into_iter().map(|(id, letter)| (id, letter.op)).collect();
    assert_eq!(listed, [(ids[0], (1, 1)), (ids[1], (2, 2))]);
    let new = letters.requeue(ids[0]).await.unwrap().unwrap();
    assert!(letters.discard(ids[1]).await.unwrap());
    assert!(!letters.discard(ids[1]).await.unwrap() && letters.requeue(ids[0]).await.unwrap().is_none());
    let desk = orders.handle();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(1, 1)]);
    assert!(matches!(desk.outcome(new).await.unwrap(), OpStatus::Ended(outcome) if outcome.end == End::Delivered));
    assert!(letters.list(10).await.unwrap().is_empty());
    leave(orders).await;
}

/// An op whose write was given up may have landed. A sink that is not idempotent does not get it again.
async fn a_write_that_was_given_up_is_in_doubt(place: impl Place) {
    let recorder = Recorder::new();
    let gate = Gate::new(recorder.clone());
    gate.shut();
    let join = async |sink: Gate<Recorder<Op>>| {
        let orders = Durable::new("orders", place.engine()).stages(stages).limits(Limits::new(1));
        orders.sink(move |_| sink.clone()).join().await.unwrap()
    };
    let orders = join(gate.clone()).await;
    let ack = orders.handle().submit((1, 1)).await.unwrap();
    let id = ack.id();
    orders.handle().send((1, 2)).await.unwrap();
    gate.reached(1).await;
    orders.leave().within(std::time::Duration::ZERO).await.unwrap();
    assert!(matches!(ack.await, Err(AckError::Detached { .. })));
    gate.open();
    let orders = join(gate).await;
    let desk = orders.handle();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(1, 2)]);
    assert!(matches!(desk.outcome(id).await.unwrap(), OpStatus::Ended(outcome) if outcome.end == End::InDoubt));
    assert_eq!(orders.dead_letters().list(10).await.unwrap().len(), 1);
    leave(orders).await;
}

/// Names are logs of their own, and the number of shards is fixed for the life of one.
async fn names_and_shards_are_kept_apart(place: impl Place) {
    let recorder = Recorder::new();
    let join = |name: &str, shards: u16| {
        let sink = Keyed(recorder.clone());
        let durable = Durable::new(name, place.engine()).stages(stages);
        durable.shards(shards, |key: &u32| key.to_le_bytes()).sink(move |_| sink.clone()).join()
    };
    let orders = join("orders", 4).await.unwrap();
    orders.handle().pause().await.unwrap();
    orders.handle().send_all((0..50).map(|i| (i, i))).await.unwrap();
    leave(orders).await;
    assert!(matches!(join("orders", 3).await, Err(JoinError::Shards { .. })));
    let prices = join("prices", 2).await.unwrap();
    assert_eq!((prices.stats().recovered, prices.stats().paused), (0, false));
    prices.handle().submit((1, 1)).await.unwrap().await.unwrap();
    leave(prices).await;
    let orders = join("orders", 4).await.unwrap();
    assert_eq!(orders.stats().recovered, 50);
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    assert_eq!(recorder.ops().len(), 51);
    leave(orders).await;
}

/// Writes and reads numbers of one schema.
struct Of(u32);

impl Codec<u64> for Of {
    fn encode(&self, value: &u64, to: &mut Vec<u8>) -> Result<(), CodecError> {
        Raw.encode(value, to)
    }

    fn decode(&self, bytes: &[u8], _schema: u32) -> Result<u64, CodecError> {
        Raw.decode(bytes, 0)
    }

    fn schema(&self) -> u32 {
        self.0
    }

    fn reads(&self, schema: u32) -> bool {
        schema == self.0
    }
}

impl Codec<()> for Of {
    fn encode(&self, value: &(), to: &mut Vec<u8>) -> Result<(), CodecError> {
        Json.encode(value, to)
    }

    fn decode(&self, bytes: &[u8], schema: u32) -> Result<(), CodecError> {
        Json.decode(bytes, schema)
    }
}

/// A batcher does not join a log of which it can't read an op, and changes nothing of it.
async fn what_can_not_be_read_is_refused(place: impl Place) {
    let recorder = Recorder::new();
    let join = |schema: u32| {
        let sink = recorder.clone();
        Durable::<u64, _>::new("orders", place.engine()).codec(Of(schema)).sink(move |_| sink.clone()).join()
    };
    let orders = join(1).await.unwrap();
    orders.handle().pause().await.unwrap();
    orders.handle().send(7).await.unwrap();
    orders.leave().await.unwrap();
    assert!(matches!(join(2).await, Err(JoinError::Unreadable(_))));
    let orders = join(1).await.unwrap();
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    assert_eq!(recorder.ops(), [7]);
    orders.leave().await.unwrap();
}

/// Each term of a shard has a higher epoch, over all batchers that have joined.
async fn epochs_rise(place: impl Place) {
    let mut last = 0;
    for _ in 0..3 {
        let epoch = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (of_term, recorder) = (std::sync::Arc::clone(&epoch), Recorder::<Op>::new());
        let sink = move |term: roundlot::durable::Term| {
            of_term.store(term.epoch(), std::sync::atomic::Ordering::Relaxed);
            Keyed(recorder.clone())
        };
        let orders = Durable::new("orders", place.engine()).stages(stages).sink(sink).join().await.unwrap();
        leave(orders).await;
        let epoch = epoch.load(std::sync::atomic::Ordering::Relaxed);
        assert!(epoch > last);
        last = epoch;
    }
}

/// Runs the checks on each engine.
macro_rules! conformance {
    ($($check:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::MemoryLog::new()).await;
            })*
        }

        #[cfg(feature = "durable-file")]
        mod file {
            $(#[tokio::test]
            async fn $check() {
                super::$check(tempfile::tempdir().unwrap()).await;
            })*
        }

        #[cfg(all(feature = "durable-file", feature = "postgres"))]
        mod ledger {
            $(#[tokio::test]
            #[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
            async fn $check() {
                super::$check(crate::ledger::Place::new().await).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test]
            #[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
            async fn $check() {
                super::$check(crate::postgres::Place::new().await).await;
            })*
        }

        #[cfg(feature = "durable-nats")]
        mod nats {
            $(#[tokio::test]
            #[ignore = "needs nats-server and a PostgreSQL server: tests/run.sh has both"]
            async fn $check() {
                super::$check(crate::nats::Place::new().await).await;
            })*
        }
    };
}

conformance! {
    what_waits_is_found_again
    outcomes_are_known_later
    an_id_takes_effect_once
    a_strange_id_is_refused
    rules_hold_over_a_restart
    what_was_withdrawn_does_not_come_back
    dead_letters_stay
    a_write_that_was_given_up_is_in_doubt
    names_and_shards_are_kept_apart
    what_can_not_be_read_is_refused
    epochs_rise
}
