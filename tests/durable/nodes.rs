//! Several processes on one log: one leads a shard, the others follow it, and all hear what becomes of their ops.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::FutureExt;
use proptest::prelude::*;
use roundlot::{
    AckError, Batch, End, Limits, Settled, Sink, SinkError, Stages,
    durable::{
        Ack, Codec, CodecError, Durable, Handle, Joined, Json, OnUndecodable, OpStatus, SendError, Stats, Term,
        Transaction, WithdrawError,
    },
    sink::Guarantee,
    stage,
    testing::{Gate, MemoryLog, Recorder, until_idle},
};

use tokio::task::unconstrained;

use crate::venue::Keyed;

type Op = (u32, u32);

/// Its rows are in the log, in the order in which they came.
#[derive(Clone)]
pub(crate) struct Rows(pub(crate) Term);

impl Sink<Op> for Rows {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (self.0.shard(), self.0.epoch());
        let insert = move |transaction: &mut Transaction<'_>, batch: &mut Batch<Op>| {
            let rows = transaction.memory()?;
            for (key, number) in batch.pending() {
                rows.insert(format!("{:09}", rows.len()), format!("{key} {number} {shard} {epoch}"));
            }
            Ok(batch.accept_all())
        };
        self.0.transaction(batch, insert).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

pub(crate) fn rows(log: &MemoryLog) -> Vec<[u64; 4]> {
    let numbers = |row: &String| row.split(' ').map(|number| number.parse().unwrap()).collect::<Vec<u64>>();
    log.rows().values().map(|row| numbers(row).try_into().unwrap()).collect()
}

/// The ops of this many consecutive numbers are withdrawn together.
const GROUP: u32 = 4;

async fn join(log: &MemoryLog, shards: u16) -> Joined<Op> {
    let stages = || {
        Stages::new()
            .partition_by(|op: &Op| op.0)
            .conflate_by(|op: &Op| op.1 / GROUP, |waiting, newer| stage::Merge::Apart { waiting, newer })
    };
    let durable = Durable::new("orders", log.clone()).stages(stages);
    durable.shards(shards, |key: &u32| key.to_le_bytes()).limits(Limits::new(10)).sink(Rows).join().await.unwrap()
}

async fn join_recorder(log: &MemoryLog, sink: impl Sink<Op> + Clone) -> Joined<Op> {
    let stages = || Stages::new().conflate_by(|op: &Op| op.0, stage::latest);
    Durable::new("orders", log.clone()).stages(stages).sink(move |_| sink.clone()).join().await.unwrap()
}

fn conserved(stats: &Stats) {
    let came = stats.accepted + stats.recovered + stats.received;
    let went = stats.outcomes.total() + stats.repeats + stats.handed_over + stats.waiting + stats.in_flight;
    assert_eq!(came, went, "{stats:?}");
}

/// Goal: a follower's ops are sent by the leader, and their outcomes come back. When the leader dies, another process goes on with all
/// that waits, in order. Method: three processes on a shard, and crashes of the first two.
#[tokio::test(start_paused = true)]
async fn a_follower_takes_over() {
    let log = MemoryLog::new().sync_time(Duration::from_millis(1));
    let logs = [log.clone(), log.another_process(), log.another_process()];
    let nodes = [join(&logs[0], 1).await, join(&logs[1], 1).await, join(&logs[2], 1).await];
    let desks = nodes.each_ref().map(Joined::handle);
    for (i, desk) in (0..).zip(&desks) {
        desk.submit((7, i)).await.unwrap().await.unwrap();
    }
    assert_eq!(desks.each_ref().map(|desk| desk.is_leading()), [true, false, false]);
    assert_eq!((desks[1].stats().accepted, desks[1].stats().outcomes.delivered, desks[1].stats().waiting), (1, 1, 0));
    assert_eq!((desks[0].stats().accepted, desks[0].stats().received, desks[0].stats().outcomes.delivered), (1, 2, 3));

    desks[2].pause().await.unwrap();
    let acks = [desks[1].submit((7, 3)).await.unwrap(), desks[2].submit((7, 4)).await.unwrap()];
    let of_dead = desks[0].submit((7, 5)).await.unwrap();
    logs[0].crash();
    assert!(matches!(of_dead.await, Err(AckError::Detached { .. })));
    desks[2].resume().await.unwrap();
    for ack in acks {
        ack.await.unwrap();
    }
    desks[2].flush().await.unwrap();
    logs[1].crash();
    desks[2].submit((7, 6)).await.unwrap().await.unwrap();
    assert!(desks[2].is_leading());
    conserved(&desks[2].stats());
    assert_eq!(rows(&log).iter().map(|row| row[1]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
}

/// Goal: shards spread over processes, and go back when one leaves, without an op that waits for it. Method: eight shards, a second
/// process that comes and goes while ops are sent.
#[tokio::test(start_paused = true)]
async fn shards_spread_and_come_back() {
    let log = MemoryLog::new().sync_time(Duration::from_millis(1));
    let first = join(&log, 8).await;
    assert_eq!(first.stats().leading, 8);
    let second = join(&log.another_process(), 8).await;
    let mut acks = Vec::new();
    for i in 0..200 {
        acks.push(first.handle().submit((i % 16, i)).await.unwrap());
        acks.push(second.handle().submit((i % 16, i)).await.unwrap());
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!((first.stats().leading, second.stats().leading), (4, 4));
    second.leave().await.unwrap();
    for i in 200..300 {
        acks.push(first.handle().submit((i % 16, i)).await.unwrap());
    }
    first.handle().flush().await.unwrap();
    assert_eq!(first.stats().leading, 8);
    for ack in acks {
        let ended = unconstrained(ack).now_or_never().expect("each caller hears");
        assert!(matches!(ended, Ok(()) | Err(AckError::Detached { .. })), "{ended:?}");
    }
    conserved(&first.stats());
    assert_eq!(rows(&log).len(), 500);
}

/// Goal: an op that its caller sends again by another process takes effect once, though the frame of the first process comes later.
/// Method: a follower that is cut off; its frame comes while the op waits, when it has ended, and in a later term.
#[tokio::test(start_paused = true)]
async fn an_op_in_doubt_is_sent_again_by_another_process() {
    for case in ["waiting", "ended", "later term"] {
        let log = MemoryLog::new();
        let recorder = Recorder::new();
        let gate = Gate::new(recorder.clone());
        let leader = join_recorder(&log, Keyed(gate.clone())).await;
        let other = log.another_process();
        let follower = join_recorder(&other, Keyed(gate.clone())).await;
        other.isolate();
        let sent = follower.handle().submit((1, 1)).await;
        let Err(SendError::InDoubt { op, id }) = sent else { panic!("{case}: {sent:?}") };
        let again = leader.handle().submit_as(id, op).await.unwrap();
        if case != "waiting" {
            gate.open();
            again.await.unwrap();
        }
        let third = log.another_process();
        let third = join_recorder(&third, Keyed(gate.clone())).await;
        if case == "later term" {
            leader.leave().await.unwrap();
        }
        other.reconnect();
        // Sent behind the frame that was on its way.
        let last = follower.handle().submit((2, 2)).await.unwrap();
        gate.open();
        last.await.unwrap();
        third.handle().flush().await.unwrap();
        assert_eq!(recorder.ops(), [(1, 1), (2, 2)], "{case}");
    }
}

/// Goal: each process flushes and pauses what another one leads; a pause keeps back what the leader has cut and not begun. Method: a
/// leader whose intent is being synced when the pause is stored.
#[tokio::test(start_paused = true)]
async fn a_follower_pauses_and_flushes() {
    let log = MemoryLog::new().sync_time(Duration::from_millis(10));
    let recorder = Recorder::new();
    let leader = join_recorder(&log, Keyed(recorder.clone())).await;
    let follower = join_recorder(&log.another_process(), Keyed(recorder.clone())).await;
    let (of_leader, of_follower) = (leader.handle(), follower.handle());
    assert_eq!(of_follower.pause().await.unwrap(), 0);
    of_leader.send((1, 1)).await.unwrap();
    of_follower.send((1, 2)).await.unwrap();
    until_idle().await;
    assert!(of_leader.stats().paused && of_follower.stats().paused);
    assert!(recorder.is_empty());
    of_leader.resume().await.unwrap();
    let report = of_follower.flush().await.unwrap();
    assert!(report.is_ok());
    assert_eq!(report.outcomes.total(), 1);
    assert_eq!(recorder.ops(), [(1, 2)], "the newest price of all processes");

    for pause_after in 0..30 {
        let number = 10 + pause_after;
        let sent = of_leader.send((number, number));
        let pausing = async {
            tokio::time::sleep(Duration::from_millis(u64::from(pause_after))).await;
            of_follower.pause().await.unwrap();
            recorder.ops().len()
        };
        let (_, before) = tokio::join!(sent, pausing);
        tokio::time::sleep(Duration::from_secs(5)).await;
        // One batch may have been under way.
        assert!(recorder.ops().len() <= before + 1);
        of_follower.resume().await.unwrap();
        of_follower.flush().await.unwrap();
    }
    assert_eq!(recorder.ops().len(), 31, "nothing is lost, and nothing comes twice");
    conserved(&of_leader.stats());
    conserved(&of_follower.stats());
}

/// Goal: what is known of an op is the same in each process, and nothing is said to be never accepted that may still come. Method: ids
/// that wait, that have ended, and of a process before and after its end.
#[tokio::test(start_paused = true)]
async fn each_process_knows_what_became_of_an_op() {
    let log = MemoryLog::new();
    let recorder = Recorder::new();
    let gate = Gate::new(recorder.clone());
    gate.open();
    let leader = join_recorder(&log, Keyed(gate.clone())).await;
    let other = log.another_process();
    let follower = join_recorder(&other, Keyed(gate.clone())).await;
    let (of_leader, of_follower) = (leader.handle(), follower.handle());
    let never_sent = of_follower.next_id(&(1, 1));
    let ended = of_follower.submit((1, 1)).await.unwrap();
    let ended_id = ended.id();
    ended.await.unwrap();
    gate.shut();
    let waiting = of_follower.submit((2, 2)).await.unwrap();
    for desk in [&of_leader, &of_follower] {
        assert!(
            matches!(desk.outcome(ended_id).await.unwrap(), OpStatus::Ended(outcome) if outcome.end == End::Delivered)
        );
        assert!(matches!(desk.outcome(waiting.id()).await.unwrap(), OpStatus::Waiting));
        assert!(matches!(desk.outcome(never_sent).await.unwrap(), OpStatus::NotYetKnown));
    }
    let of_leader_id = of_leader.submit((3, 3)).await.unwrap().id();
    assert!(matches!(of_follower.outcome(of_leader_id).await.unwrap(), OpStatus::Waiting));
    assert!(matches!(of_follower.withdraw(|_| true).await, Err(WithdrawError::Shared)));
    other.crash();
    assert!(matches!(of_leader.outcome(never_sent).await.unwrap(), OpStatus::NeverAccepted));
    assert!(matches!(of_leader.outcome(waiting.id()).await.unwrap(), OpStatus::Waiting));
    gate.open();
    of_leader.flush().await.unwrap();
    assert!(matches!(of_leader.outcome(waiting.id()).await.unwrap(), OpStatus::Ended(_)));
}

/// Goal: permits hold: a follower has as many ops in the log as it may, whatever the leader does with them, and gets all permits back.
/// Method: a leader that is stuck, and takes its time; prices that are merged.
#[tokio::test(start_paused = true)]
async fn a_follower_holds_permits() {
    let log = MemoryLog::new();
    let recorder = Recorder::new();
    let gate = Gate::new(Keyed(recorder.clone()));
    let join = |log: MemoryLog| {
        let gate = gate.clone();
        let stages = || Stages::new().conflate_by(|op: &Op| op.0, stage::latest);
        Durable::new("orders", log)
            .stages(stages)
            .limits(Limits::new(10).max_pending(20))
            .sink(move |_| gate.clone())
            .join()
    };
    let leader = join(log.clone()).await.unwrap();
    let follower = join(log.another_process()).await.unwrap();
    let desk = follower.handle();
    for i in 0..20 {
        desk.send((0, i)).await.unwrap();
    }
    assert!(tokio::time::timeout(Duration::from_secs(60), desk.send((0, 20))).await.is_err(), "20 wait");
    for i in 0..100 {
        // Merged into one op of this process, whose permits are free at once.
        leader.handle().send((1, i)).await.unwrap();
    }
    gate.open();
    desk.flush().await.unwrap();
    for i in 0..60 {
        desk.send((i, i)).await.unwrap();
        leader.handle().send((i, i)).await.unwrap();
    }
    desk.flush().await.unwrap();
    leader.handle().flush().await.unwrap();
    leader.leave().await.unwrap();
    for i in 0..60 {
        desk.send((i, i)).await.unwrap();
    }
    desk.flush().await.unwrap();
    conserved(&desk.stats());
    assert_eq!(desk.stats().waiting, 0);
}

/// Hangs with ops of odd keys while its gate is shut.
#[derive(Clone)]
struct Half(Gate<Recorder<Op>>, Recorder<Op>);

impl Sink<Op> for Half {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        if batch.iter().any(|op| op.0 % 2 == 1) { self.0.write(batch).await } else { self.1.write(batch).await }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }
}

/// Goal: ops that were sent under ids of an earlier life give their permits back, whatever else waits. Method: as many of them as there
/// are permits, while a backlog of another process is stuck.
#[tokio::test(start_paused = true)]
async fn ops_of_an_earlier_life_give_their_permits_back() {
    let log = MemoryLog::new();
    let sink = Half(Gate::new(Recorder::new()), Recorder::new());
    let join = |log: MemoryLog| {
        let sink = sink.clone();
        let stages = || Stages::new().partition_by(|op: &Op| op.0);
        let orders = Durable::new("orders", log).stages(stages).limits(Limits::new(1).max_pending(20).max_in_flight(2));
        orders.sink(move |_| sink.clone()).join()
    };
    let first = join(log.clone()).await.unwrap();
    let ids: Vec<_> = (0..20).map(|i| first.handle().next_id(&(0, i))).collect();
    first.handle().submit((0, 99)).await.unwrap().await.unwrap();
    log.crash();
    drop(first);
    until_idle().await;
    let (leader, follower) = (join(log.clone()).await.unwrap(), join(log.another_process()).await.unwrap());
    for i in 0..20 {
        follower.handle().send((1, i)).await.unwrap();
    }
    let desk = leader.handle();
    for (i, id) in (0..).zip(ids) {
        desk.submit_as(id, (0, i)).await.unwrap().await.unwrap();
    }
    for i in 0..20 {
        let sent = tokio::time::timeout(Duration::from_secs(60), desk.submit((0, i))).await;
        sent.expect("the permits of this process are free").unwrap().await.unwrap();
    }
    sink.0.open();
    desk.flush().await.unwrap();
    conserved(&desk.stats());
}

/// Goal: ops are withdrawn by a process that is about to lead, and none is dropped. Method: the leader dies, and the other process
/// withdraws before it has seen that, in each of several shards.
#[tokio::test(start_paused = true)]
async fn ops_are_withdrawn_when_the_leader_has_just_gone() {
    let log = MemoryLog::new();
    let leader = join(&log, 8).await;
    let follower = join(&log.another_process(), 8).await;
    let desk = follower.handle();
    desk.pause().await.unwrap();
    for i in 0..10 {
        desk.send((i, i)).await.unwrap();
    }
    log.crash();
    let mut ops = desk.withdraw(|_| true).await.unwrap();
    ops.sort_unstable();
    assert_eq!(ops, (0..10).map(|i| (i, i)).collect::<Vec<_>>());
    conserved(&desk.stats());
    drop(leader);
}

/// Goal: ops of a process end for their callers, though it was replaced as the leader and does not know. Method: a leader that is cut
/// off and waits before it looks again; the other process settles ops of the first one meanwhile.
#[tokio::test(start_paused = true)]
async fn ops_of_a_replaced_leader_end() {
    let log = MemoryLog::new();
    let first = join(&log, 1).await;
    let second = join(&log.another_process(), 1).await;
    let desk = first.handle();
    assert!(desk.is_leading());
    log.isolate();
    let flushing = tokio::spawn(async move { first.handle().flush().await.map(|_| first) });
    second.handle().submit((0, 0)).await.unwrap().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    log.reconnect();
    for i in 1..4 {
        let ack = desk.submit((1, i)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), ack).await.expect("its caller hears").unwrap();
    }
    let first = flushing.await.unwrap().unwrap();
    assert_eq!(rows(&log).iter().map(|row| row[1]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    conserved(&first.stats());
    conserved(&second.stats());
}

/// Writes a number, and reads those of its own version or older.
struct Version(u32);

impl Codec<u32> for Version {
    fn encode(&self, value: &u32, to: &mut Vec<u8>) -> Result<(), CodecError> {
        Json.encode(value, to)
    }

    fn decode(&self, bytes: &[u8], schema: u32) -> Result<u32, CodecError> {
        if schema > self.0 { Err("of a newer version".into()) } else { Json.decode(bytes, 0) }
    }

    fn schema(&self) -> u32 {
        self.0
    }
}

impl Codec<()> for Version {
    fn encode(&self, value: &(), to: &mut Vec<u8>) -> Result<(), CodecError> {
        Json.encode(value, to)
    }

    fn decode(&self, bytes: &[u8], schema: u32) -> Result<(), CodecError> {
        Json.decode(bytes, schema)
    }
}

/// Goal: during an upgrade a process that can't read the ops of a newer one leaves the shard to that, with all that waits. Method: an old
/// leader that reads an op of a new process.
#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_read_lets_another_one_lead() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let join = |log: MemoryLog, version: u32| {
        let sink = recorder.clone();
        Durable::<u32, _>::new("orders", log).codec(Version(version)).sink(move |_| sink.clone()).join()
    };
    let old = join(log.clone(), 0).await.unwrap();
    let new = join(log.another_process(), 1).await.unwrap();
    old.handle().submit(1).await.unwrap().await.unwrap();
    let second = new.handle().submit(2).await.unwrap();
    let third = old.handle().submit(3).await.unwrap();
    for ack in [second, third] {
        tokio::time::timeout(Duration::from_secs(10), ack).await.expect("a process leads that can read all").unwrap();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((old.stats().leading, new.stats().leading), (0, 1));
    new.handle().submit(4).await.unwrap().await.unwrap();
    assert_eq!(recorder.ops(), [1, 2, 3, 4]);
    conserved(&old.stats());
    conserved(&new.stats());
}

/// Goal: a process of an older version that takes over leaves the shard to a newer one that comes back. Method: the newer one crashes
/// while its op waits, and joins again.
#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_read_what_it_takes_over_lets_another_one_lead() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let join = |log: &MemoryLog, version: u32| {
        let sink = recorder.clone();
        Durable::<u32, _>::new("orders", log.clone()).codec(Version(version)).sink(move |_| sink.clone()).join()
    };
    let new = join(&log, 1).await.unwrap();
    let other = log.another_process();
    let old = join(&other, 0).await.unwrap();
    new.handle().pause().await.unwrap();
    new.handle().send(2).await.unwrap();
    log.crash();
    drop(new);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let new = join(&log, 1).await.unwrap();
    tokio::time::timeout(Duration::from_secs(120), new.handle().resume()).await.expect("it is stored").unwrap();
    tokio::time::timeout(Duration::from_secs(120), new.handle().flush()).await.expect("it is written").unwrap();
    assert_eq!(recorder.ops(), [2]);
    conserved(&new.stats());
    conserved(&old.stats());
}

/// Goal: ops of a process that can't read those of another one end for their callers. Method: ops of both are stored while the older
/// process does not look.
#[tokio::test(start_paused = true)]
async fn ops_behind_what_cannot_be_read_end() {
    let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(5)), Recorder::new());
    let join = |log: MemoryLog, version: u32| {
        let sink = Keyed(recorder.clone());
        let durable =
            Durable::<u32, _>::new("orders", log).codec(Version(version)).limits(Limits::new(10).max_pending(3));
        durable.on_undecodable(OnUndecodable::Hold).sink(move |_| sink.clone()).join()
    };
    let old = join(log.clone(), 0).await.unwrap();
    let new = join(log.another_process(), 1).await.unwrap();
    let (of_old, of_new) = (old.handle(), new.handle());
    let mut acks = Vec::new();
    for i in 0..10 {
        let (first, second) = tokio::join!(of_new.submit(2 * i), of_old.submit(2 * i + 1));
        acks.extend([first.unwrap(), second.unwrap()]);
        for ack in acks.drain(..) {
            let ended = tokio::time::timeout(Duration::from_secs(120), ack).await;
            ended.expect("a process leads that can read all").unwrap();
        }
    }
    assert_eq!(recorder.ops().len(), 20);
    for desk in [&of_old, &of_new] {
        desk.pause().await.unwrap();
        for i in 0..3 {
            desk.send(100 + i).await.unwrap();
        }
        assert!(
            tokio::time::timeout(Duration::from_secs(60), desk.send(200)).await.is_err(),
            "three permits, and no more"
        );
        desk.resume().await.unwrap();
        desk.flush().await.unwrap();
    }
    conserved(&old.stats());
    conserved(&new.stats());
}

/// One step of a random program.
#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    Crash(usize),
    Send {
        from: usize,
        key: u32,
        ops: u32,
    },
    Flush(usize),
    Pause(usize),
    Resume(usize),
    Wait(u64),
    /// The group of an op that was sent a while ago is withdrawn. One of the processes may die meanwhile.
    Withdraw {
        from: usize,
        back: u32,
        dies: Option<(usize, u64)>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..3_usize;
    prop_oneof![
        3 => node.clone().prop_map(Step::Join),
        1 => node.clone().prop_map(Step::Leave),
        2 => node.clone().prop_map(Step::Crash),
        10 => (node.clone(), 0..6_u32, 1..30_u32).prop_map(|(from, key, ops)| Step::Send { from, key, ops }),
        2 => node.clone().prop_map(Step::Flush),
        1 => node.clone().prop_map(Step::Pause),
        1 => node.clone().prop_map(Step::Resume),
        5 => (node.clone(), 0..12_u32, prop::option::weighted(0.3, (node, 0..8_u64)))
            .prop_map(|(from, back, dies)| Step::Withdraw { from, back, dies }),
        5 => prop_oneof![0..40_u64, 500..3000_u64].prop_map(Step::Wait),
    ]
}

/// The answers that the calls of all processes have had.
#[derive(Default)]
struct Journal {
    next: u32,
    accepted: Vec<Op>,
    in_doubt: BTreeSet<u32>,
    /// Numbers of dead letters.
    dead: BTreeSet<u32>,
    acks: Vec<Ack>,
    /// Numbers of one process, in order, with their keys.
    orders: Vec<Vec<Op>>,
    /// Numbers of ops that were handed back.
    withdrawn: BTreeSet<u32>,
    /// Groups that a process withdrew which died before it had the ops.
    maybe_withdrawn: BTreeSet<u32>,
    /// Whether nothing can be under way.
    is_paused: bool,
}

impl Journal {
    async fn send(&mut self, life: usize, desk: &Handle<Op>, key: u32, ops: u32) {
        for _ in 0..ops {
            let number = self.next;
            self.next += 1;
            match tokio::time::timeout(Duration::from_secs(30), desk.submit((key, number))).await {
                Ok(Ok(ack)) => {
                    self.accepted.push((key, number));
                    self.orders[life].push((key, number));
                    self.acks.push(ack);
                }
                Ok(Err(error)) if error.is_closed() => return,
                _ => {
                    self.in_doubt.insert(number);
                    return;
                }
            }
        }
    }
}

impl Journal {
    /// Whether an op may have been withdrawn.
    fn may_be_withdrawn(&self, number: u32) -> bool {
        self.withdrawn.contains(&number) || self.maybe_withdrawn.contains(&(number / GROUP))
    }

    /// Withdraws a group. What was accepted before is handed back, or gone before.
    async fn withdraw(&mut self, log: &MemoryLog, desk: &Handle<Op>, group: u32, death: impl Future<Output = bool>) {
        let before = self.accepted.iter().map(|(_, number)| *number).filter(|number| number / GROUP == group);
        let before: Vec<u32> = before.collect();
        let calling = tokio::time::timeout(Duration::from_secs(60), desk.withdraw_key(group));
        let (withdrawn, has_died) = tokio::join!(calling, death);
        let Ok(ops) = withdrawn.expect("some process leads") else {
            assert!(has_died, "no process has left");
            self.maybe_withdrawn.insert(group);
            return;
        };
        for (_, number) in ops {
            assert_eq!(number / GROUP, group);
            assert!(self.withdrawn.insert(number), "{number} is handed back once");
        }
        if self.is_paused {
            let there: BTreeSet<u64> = rows(log).iter().map(|row| row[1]).collect();
            let is_gone = |number: &u32| there.contains(&u64::from(*number)) || self.may_be_withdrawn(*number);
            assert!(before.iter().all(is_gone), "nothing that was accepted before is left");
        }
    }
}

async fn run(steps: Vec<Step>, shards: u16) {
    let log = MemoryLog::new().sync_time(Duration::from_millis(1));
    let logs = [log.clone(), log.another_process(), log.another_process()];
    let mut nodes: [Option<(usize, Joined<Op>)>; 3] = [None, None, None];
    let mut journal = Journal::default();
    for step in steps {
        match step {
            Step::Join(i) if nodes[i].is_none() => {
                journal.orders.push(Vec::new());
                nodes[i] = Some((journal.orders.len() - 1, join(&logs[i], shards).await));
            }
            Step::Leave(i) => {
                if let Some((_, node)) = nodes[i].take() {
                    conserved(&node.leave().await.unwrap());
                }
            }
            Step::Crash(i) if nodes[i].is_some() => {
                logs[i].crash();
                nodes[i] = None;
            }
            Step::Send { from, key, ops } => {
                if let Some((life, node)) = &nodes[from] {
                    journal.send(*life, &node.handle(), key, ops).await;
                }
            }
            Step::Flush(i) => {
                if let Some((_, node)) = &nodes[i] {
                    // A shard may be paused.
                    let _ = tokio::time::timeout(Duration::from_secs(1), node.handle().flush()).await;
                }
            }
            Step::Pause(i) | Step::Resume(i) => {
                if let Some((_, node)) = &nodes[i] {
                    if matches!(step, Step::Resume(_)) {
                        node.handle().resume().await.unwrap();
                        journal.is_paused = false;
                    } else {
                        node.handle().pause().await.unwrap();
                        journal.is_paused = true;
                        let before = rows(&log).len();
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        assert_eq!(rows(&log).len(), before, "nothing is written after a pause");
                    }
                }
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Withdraw { from, back, dies } => {
                let Some((_, node)) = &nodes[from] else { continue };
                let (desk, group) = (node.handle(), journal.next.saturating_sub(back) / GROUP);
                let death = async {
                    let Some((_, after)) = dies else { return false };
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    logs[dies.map_or(from, |(dies, _)| dies)].crash();
                    dies.is_some_and(|(dies, _)| dies == from)
                };
                journal.withdraw(&log, &desk, group, death).await;
                if let Some((dies, _)) = dies {
                    nodes[dies] = None;
                }
            }
            Step::Join(_) | Step::Crash(_) => {}
        }
    }
    if nodes.iter().all(Option::is_none) {
        nodes[0] = Some((0, join(&logs[0], shards).await));
    }
    for (_, node) in nodes.iter().flatten() {
        node.handle().resume().await.unwrap();
    }
    for (_, node) in nodes.iter().flatten() {
        tokio::time::timeout(Duration::from_secs(60), node.handle().flush()).await.expect("all is settled").unwrap();
        conserved(&node.stats());
        assert_eq!(node.stats().waiting + node.stats().in_flight, 0, "{:?}", node.stats());
    }
    let there: BTreeSet<u64> = rows(&log).iter().map(|row| row[1]).collect();
    let (_, node) = nodes.iter().flatten().next().unwrap();
    for (ack, (_, number)) in journal.acks.iter().zip(&journal.accepted) {
        // An op that was written alone while its process died, after others had died, is a dead letter.
        if !there.contains(&u64::from(*number)) {
            let OpStatus::Ended(outcome) = node.handle().outcome(ack.id()).await.unwrap() else {
                panic!("{number} vanished")
            };
            match outcome.end {
                End::Withdrawn => assert!(journal.may_be_withdrawn(*number), "no call has withdrawn {number}"),
                end => assert!(end == End::Exhausted && !journal.withdrawn.contains(number), "{number}: {end:?}"),
            }
            journal.dead.insert(*number);
        }
    }
    judge(&log, journal);
}

fn judge(log: &MemoryLog, journal: Journal) {
    let rows = rows(log);
    let mut place = BTreeMap::new();
    let mut epochs = BTreeMap::new();
    for (i, [key, number, shard, epoch]) in (0..).zip(rows) {
        assert_eq!(place.insert(number as u32, i), None, "{number} is written once");
        let last = epochs.insert(shard, epoch);
        assert!(last.is_none_or(|last| last <= epoch), "no term writes after a newer one");
        assert!(key < 6);
    }
    assert!(journal.accepted.iter().all(|(_, number)| place.contains_key(number) || journal.dead.contains(number)));
    let known: BTreeSet<u32> = journal.accepted.iter().map(|(_, number)| *number).chain(journal.in_doubt).collect();
    assert!(place.keys().all(|number| known.contains(number)));
    assert!(journal.withdrawn.iter().all(|number| known.contains(number)));
    assert!(journal.withdrawn.iter().all(|number| !place.contains_key(number)), "handed back, and written");
    for order in journal.orders {
        for key in 0..6 {
            let places: Vec<_> =
                order.iter().filter(|op| op.0 == key).filter_map(|(_, number)| place.get(number)).collect();
            assert!(places.is_sorted(), "a process's ops of a key stay in order");
        }
    }
    for (ack, (_, number)) in journal.acks.into_iter().zip(journal.accepted) {
        let ended = unconstrained(ack).now_or_never().expect("each caller hears");
        match ended {
            Ok(()) => assert!(place.contains_key(&number)),
            Err(AckError::Detached { .. }) => {}
            Err(AckError::Withdrawn) => assert!(!place.contains_key(&number)),
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Goal: whatever processes do and whichever of them die, what was accepted is written once, in order, and never by an older term, or
    /// is handed back to a process that withdraws it. Method: random programs of three processes, of one shard and of four.
    #[test]
    fn several_processes_lose_nothing(steps in prop::collection::vec(step(), 1..60), shards in prop_oneof![Just(1_u16), Just(4)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps, shards));
    }
}
