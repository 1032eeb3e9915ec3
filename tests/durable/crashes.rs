//! Crashes at every transaction and at random times, over several lives. Two journals judge, and roundlot writes neither: the
//! driver's (what its calls confirmed) and the destination's (what arrived).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::FutureExt;
use proptest::prelude::*;
use roundlot::{
    AckError, Batch, End, Limits, OpId, Retry, Settled, Sink, SinkError, Stages,
    durable::{Durable, Handle, JoinError, Joined, OpStatus, Term, Transaction},
    sink::Guarantee,
    stage::Merge,
    testing::{MemoryFailure, MemoryLog, Recorder},
};
use serde::{Deserialize, Serialize};

/// An op, with the numbers of all calls that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Op {
    key: u8,
    calls: Vec<u32>,
    cancels: bool,
    /// When it expires, in milliseconds of the log's clock.
    expires: Option<u64>,
}

/// A new order and its cancel net; other ops of a key add up.
fn merge(mut waiting: Op, newer: Op) -> Merge<Op> {
    if newer.cancels {
        return Merge::Net;
    }
    if waiting.cancels {
        return Merge::Apart { waiting, newer };
    }
    waiting.calls.extend(newer.calls);
    waiting.expires = newer.expires;
    Merge::Into(waiting)
}

/// The second with which the log's clock begins.
fn start() -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn stages() -> Stages<Op> {
    Stages::new()
        .partition_by(|op: &Op| op.key % 2)
        .conflate_by(|op: &Op| (op.key < 4).then_some(op.key), merge)
        .priority_by(|op: &Op| op.key / 2)
        .expire_at(|op: &Op| op.expires.map(|ms| start() + Duration::from_millis(ms)))
}

/// How the destination answers a write.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Accept,
    RefuseFirst,
    NotLanded,
    LandedUnanswered,
    NotLandedUnanswered,
    Panic,
    /// The sink stops waiting for its transaction. Other sinks land and do not answer.
    Abandon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Idempotent,
    Unknown,
    /// Not idempotent, and it can say what has landed.
    Reconciling,
    /// Its rows are in the log itself.
    Transactional,
}

/// The destination, which outlives the processes.
#[derive(Debug, Default)]
struct Destination {
    /// The ops that arrived, in order.
    arrivals: Vec<Op>,
    replies: Vec<Reply>,
    writes: usize,
    /// Whether it has refused an op.
    refuses: bool,
    /// Ops that had expired when the sink was called with them.
    late: Vec<Op>,
}

#[derive(Clone)]
struct Venue {
    kind: Kind,
    destination: Arc<Mutex<Destination>>,
    log: MemoryLog,
    term: Option<Term>,
}

impl Venue {
    /// All that has arrived, in order.
    fn arrivals(&self) -> Vec<Op> {
        if self.kind != Kind::Transactional {
            return self.state().arrivals.clone();
        }
        self.log.rows().values().map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    /// Writes in a transaction of the log.
    async fn write_rows(&self, term: &Term, batch: &mut Batch<Op, u32>, reply: Reply) -> Result<Settled, SinkError> {
        let insert = move |transaction: &mut Transaction<'_>, batch: &mut Batch<Op, u32>| {
            let rows = transaction.memory()?;
            if matches!(reply, Reply::RefuseFirst) {
                batch.refuse(0, SinkError::refused("no"));
            }
            for op in batch.pending() {
                rows.insert(format!("{:09}", rows.len()), serde_json::to_string(op).unwrap());
            }
            match reply {
                Reply::NotLanded => Err(SinkError::transient("busy")),
                _ => Ok(batch.accept_all_with(|_, op| op.calls[0])),
            }
        };
        if matches!(reply, Reply::NotLandedUnanswered) {
            return Err(SinkError::ambiguous("no answer"));
        }
        if matches!(reply, Reply::Abandon) {
            let _ = term.transaction(batch, insert).now_or_never();
            return Ok(batch.accept_all());
        }
        let settled = term.transaction(batch, insert).await?;
        match reply {
            Reply::LandedUnanswered => Err(SinkError::ambiguous("no answer")),
            Reply::Panic => panic!("a sink that panics when the batch has landed"),
            _ => Ok(settled),
        }
    }

    fn refuses(&self) -> bool {
        self.state().refuses
    }

    fn state(&self) -> MutexGuard<'_, Destination> {
        self.destination.lock().unwrap()
    }
}

impl Sink<Op, u32> for Venue {
    async fn write(&self, batch: &mut Batch<Op, u32>) -> Result<Settled, SinkError> {
        let now = self.log.now();
        let reply = {
            let mut state = self.state();
            let late =
                batch.iter().filter(|op| op.expires.is_some_and(|ms| start() + Duration::from_millis(ms) <= now));
            state.late.extend(late.cloned());
            state.writes += 1;
            let at = state.writes;
            state.replies.get(at % 16).copied().unwrap_or(Reply::Accept)
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        if matches!(reply, Reply::RefuseFirst) {
            self.state().refuses = true;
        }
        if let Some(term) = self.term.as_ref().filter(|_| self.kind == Kind::Transactional) {
            return self.write_rows(term, batch, reply).await;
        }
        if matches!(reply, Reply::RefuseFirst) {
            batch.refuse(0, SinkError::refused("no"));
        }
        if !matches!(reply, Reply::NotLanded | Reply::NotLandedUnanswered) {
            let arrived: Vec<Op> = batch.pending().cloned().collect();
            self.state().arrivals.extend(arrived);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        match reply {
            Reply::Accept | Reply::RefuseFirst => Ok(batch.accept_all_with(|_, op| op.calls[0])),
            Reply::NotLanded => Err(SinkError::transient("busy")),
            Reply::LandedUnanswered | Reply::NotLandedUnanswered | Reply::Abandon => {
                Err(SinkError::ambiguous("no answer"))
            }
            Reply::Panic => panic!("a sink that panics when the batch has landed"),
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self.kind {
            Kind::Idempotent => Guarantee::Idempotent,
            Kind::Transactional => Guarantee::Transactional,
            Kind::Unknown | Kind::Reconciling => Guarantee::Unknown,
        }
    }

    async fn reconcile(&self, batch: &mut Batch<Op, u32>) -> Result<(), SinkError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.kind == Kind::Reconciling {
            let arrivals = self.state().arrivals.clone();
            for i in batch.pending_indexes() {
                if arrivals.contains(&batch[i]) {
                    let receipt = batch[i].calls[0];
                    batch.accept(i, receipt);
                } else {
                    batch.retry(i, SinkError::transient("not there, and its process is dead"));
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send {
        key: u8,
        cancels: bool,
        expires_in: Option<u64>,
    },
    /// Takes an id first, and sends again in the next life if the call was cut short.
    SendAs {
        key: u8,
    },
    /// Sends the last op with an id of its own again.
    Again,
    SendAll {
        count: u8,
    },
    Wait {
        ms: u64,
    },
    Pause,
    Resume,
    Withdraw {
        key: u8,
    },
    Flush,
}

#[derive(Debug, Clone)]
struct Life {
    steps: Vec<Step>,
    /// A failure of a transaction of this life, counted from its first.
    failure: Option<(u64, MemoryFailure)>,
}

/// One call, as its driver knows it.
#[derive(Debug, Default, Clone)]
struct Call {
    id: Option<OpId>,
    is_accepted: bool,
    told: Option<End>,
    /// Whether the op was handed back by a withdrawal.
    is_withdrawn: bool,
    is_sent_again: bool,
    /// Whether its id was taken before it was sent.
    has_own_id: bool,
    cancels: bool,
    key: u8,
}

/// The driver's journal.
#[derive(Debug, Default)]
struct Journal {
    calls: Vec<Call>,
    /// Arrivals when the pause was confirmed, and ops under way then.
    paused: Option<(usize, u64)>,
}

#[derive(Clone)]
struct Driver {
    journal: Arc<Mutex<Journal>>,
    venue: Venue,
    shards: u16,
}

impl Driver {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    fn new_call(&self, key: u8, cancels: bool) -> u32 {
        let mut journal = self.journal();
        journal.calls.push(Call { key, cancels, ..Call::default() });
        journal.calls.len() as u32 - 1
    }

    fn call(&self, call: u32, change: impl FnOnce(&mut Call)) {
        change(&mut self.journal().calls[call as usize]);
    }

    async fn join(&self, log: &MemoryLog) -> Joined<Op, u32> {
        loop {
            let venue = self.venue.clone();
            let joined = Durable::new("orders", log.clone())
                .stages(stages)
                .shards(self.shards, |partition: &u8| [*partition])
                .limits(Limits::new(3).max_in_flight(2).max_pending(12))
                .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)).max_attempts(3))
                .sink(move |term| Venue { term: Some(term), ..venue.clone() })
                .join()
                .await;
            match joined {
                Ok(joined) => return joined,
                // The transaction that fails may be one of those by which it joins.
                Err(JoinError::Open(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn submit(&self, desk: &Handle<Op, u32>, call: u32, op: Op, id: Option<OpId>) {
        let sent = match id {
            Some(id) => desk.submit_as(id, op).await,
            None => desk.submit(op).await,
        };
        match sent {
            Ok(ack) => {
                let (id, driver) = (ack.id(), self.clone());
                self.call(call, |call| (call.id, call.is_accepted) = (Some(id), true));
                tokio::spawn(async move {
                    let end = ack.outcome().await;
                    if !matches!(end.result, Err(AckError::Detached { .. })) {
                        driver.call(call, |call| call.told = Some(end.end));
                    }
                });
            }
            Err(error) => assert!(error.is_in_doubt() || error.is_closed(), "{error:?}"),
        }
    }

    async fn step(&self, desk: &Handle<Op, u32>, step: Step, now_ms: u64) {
        let patience = Duration::from_millis(30);
        match step {
            Step::Send { key, cancels, expires_in } => {
                let call = self.new_call(key, cancels);
                let op = Op { key, calls: vec![call], cancels, expires: expires_in.map(|ms| now_ms + ms) };
                let _ = tokio::time::timeout(patience, self.submit(desk, call, op, None)).await;
            }
            Step::SendAs { key } => {
                let call = self.new_call(key, false);
                let op = Op { key, calls: vec![call], cancels: false, expires: None };
                let id = desk.next_id(&op);
                self.call(call, |call| (call.id, call.has_own_id) = (Some(id), true));
                let _ = tokio::time::timeout(patience, self.submit(desk, call, op, Some(id))).await;
            }
            Step::Again => {
                let last = (0..).zip(self.journal().calls.clone()).filter(|(_, call)| call.has_own_id).last();
                if let Some((number, Call { id, key, .. })) = last {
                    let op = Op { key, calls: vec![number], cancels: false, expires: None };
                    self.call(number, |call| call.is_sent_again = true);
                    let _ = tokio::time::timeout(patience, self.submit(desk, number, op, id)).await;
                }
            }
            Step::SendAll { count } => {
                let calls: Vec<u32> = (0..count).map(|i| self.new_call(i % 6, false)).collect();
                let op = |(i, call): (u8, &u32)| Op { key: i % 6, calls: vec![*call], cancels: false, expires: None };
                let ops: Vec<Op> = (0..count).zip(&calls).map(op).collect();
                if let Ok(Ok(())) = tokio::time::timeout(patience, desk.send_all(ops)).await {
                    calls.iter().for_each(|call| self.call(*call, |call| call.is_accepted = true));
                }
            }
            Step::Wait { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Pause => {
                // The resume of an earlier step may have been cut short by a crash: from here on it does not matter.
                if let Ok(under_way) = desk.pause().await {
                    let arrived = self.venue.arrivals().len();
                    self.journal().paused.get_or_insert((arrived, under_way));
                }
            }
            Step::Resume => {
                self.check_pause();
                self.journal().paused = None;
                let _ = desk.resume().await;
            }
            Step::Withdraw { key } => {
                for op in desk.withdraw(move |op| op.key == key).await.into_iter().flatten() {
                    op.calls.iter().for_each(|call| self.call(*call, |call| call.is_withdrawn = true));
                }
            }
            Step::Flush => drop(tokio::time::timeout(patience, desk.flush()).await),
        }
    }

    /// Nothing arrives after a pause but what was under way.
    fn check_pause(&self) {
        if let Some((arrived, under_way)) = self.journal().paused {
            let since = self.venue.arrivals().len() - arrived;
            let under_way = if self.venue.kind == Kind::Transactional { 0 } else { under_way };
            assert!(since as u64 <= under_way, "{since} ops arrived in a pause, and {under_way} were under way");
        }
    }

    /// The last life: everything that is accepted ends.
    async fn drain(&self, log: &MemoryLog) {
        let orders = self.join(log).await;
        let desk = orders.handle();
        self.check_pause();
        self.journal().paused = None;
        desk.resume().await.unwrap();
        let unsure: Vec<(u32, Call)> = (0..).zip(self.journal().calls.clone()).collect();
        for (number, call) in unsure.into_iter().filter(|(_, call)| !call.is_accepted && call.id.is_some()) {
            // The caller sends again what it does not know to be accepted.
            let op = Op { key: call.key, calls: vec![number], cancels: call.cancels, expires: None };
            self.call(number, |call| call.is_sent_again = true);
            self.submit(&desk, number, op, call.id).await;
        }
        desk.flush().await.unwrap();
        let stats = desk.stats();
        assert_eq!((stats.waiting, stats.in_flight), (0, 0), "{stats:?}");
        assert_eq!(stats.accepted + stats.recovered, stats.outcomes.total() + stats.repeats, "{stats:?}");
        self.judge(&desk).await;
        orders.leave().await.unwrap();
    }

    async fn judge(&self, desk: &Handle<Op, u32>) {
        assert_eq!(self.venue.state().late, [], "they had expired when they were sent");
        let arrivals = self.venue.arrivals();
        let mut arrived: BTreeMap<u32, usize> = BTreeMap::new();
        arrivals.iter().flat_map(|op| &op.calls).for_each(|call| *arrived.entry(*call).or_default() += 1);
        let calls = self.journal().calls.clone();
        for (number, call) in (0..).zip(calls) {
            let times = arrived.get(&number).copied().unwrap_or(0);
            if self.venue.kind != Kind::Idempotent {
                assert!(times <= 1, "call {number} arrived {times} times");
            }
            let Some(id) = call.id.filter(|_| call.is_accepted) else { continue };
            let status = desk.outcome(id).await.unwrap();
            let OpStatus::Ended(outcome) = status else {
                panic!("call {number} was accepted as {id} and is {status:?}")
            };
            if let Some(told) = call.told {
                assert_eq!(told, outcome.end, "call {number}");
            }
            // The callers of a merged op share the fate of what it was merged into.
            match &outcome.result {
                Ok(_) => assert!(times > 0, "call {number} was delivered and has not arrived"),
                Err(AckError::InDoubt(_)) => assert_ne!(self.venue.kind, Kind::Transactional, "call {number}"),
                Err(AckError::Exhausted(_)) => assert_eq!(times, 0, "call {number} was given up and has arrived"),
                Err(error) => assert_eq!(times, 0, "call {number} ended as {error:?} and has arrived"),
            }
            if call.is_withdrawn {
                let is_right = matches!(outcome.result, Err(AckError::Withdrawn | AckError::InDoubt(_)));
                assert!(is_right, "call {number} was withdrawn, and is {:?}", outcome.result);
            }
        }
        let (mut newest, mut seen) = (BTreeMap::<u8, u32>::new(), BTreeSet::new());
        for op in &arrivals {
            // A call that was sent again in the last life has its place there.
            let calls = op.calls.iter().filter(|call| !self.journal().calls[**call as usize].is_sent_again);
            let Some(last) = calls.max().copied() else { continue };
            // Two ops of no conflation key may share a batch. After a crash it is sent again as a whole, or without those
            // that landed: then one whose refusal was not recorded comes later.
            if op.key >= 4 && (!seen.insert(last) || self.venue.refuses()) {
                continue;
            }
            let before = newest.insert(op.key, last).unwrap_or_default();
            assert!(before <= last, "key {}: call {last} arrived after call {before}", op.key);
        }
    }
}

/// Runs one life in a runtime of its own, which is dropped where its tasks wait.
fn live(driver: &Driver, log: &MemoryLog, life: &Life, born_ms: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let lived = runtime.block_on(async {
        let born = tokio::time::Instant::now();
        let now_ms = || born_ms + born.elapsed().as_millis() as u64;
        if let Some((number, failure)) = life.failure {
            log.fail_at(log.transactions() + number, failure);
        }
        let work = async {
            let orders = driver.join(log).await;
            let desk = orders.handle();
            for step in &life.steps {
                driver.step(&desk, *step, now_ms()).await;
            }
            std::mem::forget(desk);
            std::mem::forget(orders);
        };
        tokio::select! {
            biased;
            () = log.crashed() => {}
            () = work => {}
        }
        born.elapsed().as_millis() as u64
    });
    drop(runtime);
    log.crash();
    lived
}

fn run(kind: Kind, shards: u16, replies: Vec<Reply>, sync_ms: u64, lives: &[Life]) {
    let log = MemoryLog::new().sync_time(Duration::from_millis(sync_ms));
    let destination = Arc::new(Mutex::new(Destination { replies, ..Destination::default() }));
    let venue = Venue { kind, destination, log: log.clone(), term: None };
    let driver = Driver { journal: Arc::default(), venue, shards };
    let mut born = 0;
    for life in lives {
        born += live(&driver, &log, life, born);
    }
    driver.venue.state().replies.clear();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(driver.drain(&log));
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..20_u64))
            .prop_map(|(key, cancels, expires_in)| Step::Send { key, cancels, expires_in }),
        2 => (0..6_u8).prop_map(|key| Step::SendAs { key }),
        2 => Just(Step::Again),
        2 => (1..9_u8).prop_map(|count| Step::SendAll { count }),
        3 => (0..8_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => (0..6_u8).prop_map(|key| Step::Withdraw { key }),
        1 => Just(Step::Flush),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        8 => Just(Reply::Accept),
        1 => Just(Reply::RefuseFirst),
        2 => Just(Reply::NotLanded),
        1 => Just(Reply::LandedUnanswered),
        1 => Just(Reply::NotLandedUnanswered),
        1 => Just(Reply::Panic),
        1 => Just(Reply::Abandon),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    use MemoryFailure::{CrashAfter, CrashBefore, Refused, UnknownLost, UnknownStored};
    let failure = prop_oneof![
        3 => Just(CrashBefore),
        3 => Just(CrashAfter),
        1 => Just(Refused),
        1 => Just(UnknownLost),
        1 => Just(UnknownStored),
    ];
    let failure = prop::option::weighted(0.8, (2..40_u64, failure));
    (prop::collection::vec(step(), 1..25), failure).prop_map(|(steps, failure)| Life { steps, failure })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        1 => Just(Kind::Idempotent),
        1 => Just(Kind::Unknown),
        1 => Just(Kind::Reconciling),
        2 => Just(Kind::Transactional),
    ]
}

/// Random cases of one run; more for a campaign, by the variable that proptest reads.
fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 300 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Goal: over crashes at any point, each accepted op ends once, nothing lands twice that must not, order holds, and a pause
    /// is one. Method: random lives, judged by the two journals.
    #[test]
    fn crashes_lose_nothing_and_repeat_nothing(
        kind in kind(),
        shards in 1..3_u16,
        replies in prop::collection::vec(reply(), 16),
        sync_ms in 0..3_u64,
        lives in prop::collection::vec(life(), 1..4),
    ) {
        run(kind, shards, replies, sync_ms, &lives);
    }
}

/// Goal: no transaction is one at which a crash does harm. Method: the same life, with a crash before and after each of its
/// transactions, for each kind of sink.
#[test]
fn a_crash_at_each_transaction_does_no_harm() {
    let send = |key, cancels| Step::Send { key, cancels, expires_in: None };
    let mut steps = vec![Step::SendAll { count: 6 }, send(1, false), Step::SendAs { key: 5 }, Step::Wait { ms: 3 }];
    steps.extend([send(1, true), send(2, false), Step::Pause, send(2, false), Step::Withdraw { key: 3 }, Step::Resume]);
    steps.extend([Step::Wait { ms: 5 }, send(4, false), send(0, false), Step::Flush, Step::Wait { ms: 30 }]);
    let mut replies = vec![Reply::Accept; 16];
    (replies[3], replies[5], replies[7]) = (Reply::NotLanded, Reply::LandedUnanswered, Reply::NotLandedUnanswered);
    for kind in [Kind::Idempotent, Kind::Unknown, Kind::Reconciling, Kind::Transactional] {
        for number in 2..60 {
            for failure in [MemoryFailure::CrashBefore, MemoryFailure::CrashAfter] {
                let life = Life { steps: steps.clone(), failure: Some((number, failure)) };
                run(kind, 1, replies.clone(), 1, &[life]);
            }
        }
    }
}

/// A sink whose process dies whenever it gets a certain op.
#[derive(Clone)]
struct Deadly {
    kind: Kind,
    log: MemoryLog,
    landed: Arc<Mutex<Vec<u32>>>,
    term: Option<Term>,
}

impl Sink<u32> for Deadly {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        if batch.ops().contains(&3) {
            self.log.crash();
            std::future::pending::<()>().await;
        }
        self.landed.lock().unwrap().extend(batch.pending());
        match self.term.as_ref().filter(|_| self.kind == Kind::Transactional) {
            Some(term) => term.transaction(batch, |_, batch| Ok(batch.accept_all())).await,
            None => Ok(batch.accept_all()),
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self.kind {
            Kind::Idempotent => Guarantee::Idempotent,
            Kind::Transactional => Guarantee::Transactional,
            Kind::Unknown | Kind::Reconciling => Guarantee::Unknown,
        }
    }

    async fn reconcile(&self, batch: &mut Batch<u32>) -> Result<(), SinkError> {
        if self.kind == Kind::Reconciling {
            let landed = self.landed.lock().unwrap().clone();
            for i in batch.pending_indexes() {
                if landed.contains(&batch[i]) {
                    batch.accept(i, ());
                } else {
                    batch.retry(i, SinkError::transient("not there"));
                }
            }
        }
        Ok(())
    }
}

/// Goal: one op can't kill a process for ever, and costs no other op its delivery. Method: a sink that dies of it.
#[test]
fn an_op_that_kills_its_process_is_given_up() {
    let kinds =
        [(Kind::Idempotent, End::InDoubt), (Kind::Reconciling, End::Exhausted), (Kind::Transactional, End::Exhausted)];
    for (kind, end) in kinds {
        let log = MemoryLog::new();
        let sink = Deadly { kind, log: log.clone(), landed: Arc::default(), term: None };
        let (mut lives, mut ids) = (0, Vec::new());
        let ends = loop {
            lives += 1;
            assert!(lives < 10, "it dies for ever");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let ends = runtime.block_on(async {
                let work = async {
                    let sink = sink.clone();
                    let orders = Durable::new("orders", log.clone())
                        .sink(move |term| Deadly { term: Some(term), ..sink.clone() })
                        .join()
                        .await
                        .unwrap();
                    let desk = orders.handle();
                    if ids.is_empty() {
                        desk.pause().await.unwrap();
                        for op in 0..6 {
                            ids.push(desk.submit(op).await.unwrap().id());
                        }
                        desk.resume().await.unwrap();
                    }
                    desk.flush().await.unwrap();
                    let mut ends = Vec::new();
                    for id in &ids {
                        let OpStatus::Ended(outcome) = desk.outcome(*id).await.unwrap() else {
                            panic!("all have ended")
                        };
                        ends.push(outcome.end);
                    }
                    assert_eq!(orders.dead_letters().list(10).await.unwrap().len(), 1);
                    ends
                };
                tokio::select! {
                    biased;
                    () = log.crashed() => None,
                    ends = work => Some(ends),
                }
            });
            drop(runtime);
            log.crash();
            if let Some(ends) = ends {
                break ends;
            }
        };
        let expected: Vec<End> = (0..6).map(|op| if op == 3 { end } else { End::Delivered }).collect();
        assert_eq!(ends, expected, "{kind:?} after {lives} lives");
    }
}

/// Goal: a term that ends in order is no sign of an op that kills its process. Method: paused processes that leave one after the other,
/// or die, and a last one whose sink notes the size of its batches.
#[test]
fn a_term_that_ends_in_order_does_not_count() {
    for (dies, sizes) in [(false, vec![6]), (true, vec![1; 6])] {
        let log = MemoryLog::new();
        for life in 0..5 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let recorder: Recorder<u32> = Recorder::new();
                let sink = recorder.clone();
                let orders = Durable::new("orders", log.clone()).sink(move |_| sink.clone()).join().await.unwrap();
                let desk = orders.handle();
                if life == 0 {
                    desk.pause().await.unwrap();
                    desk.send_all(0..6).await.unwrap();
                }
                if life == 4 {
                    desk.resume().await.unwrap();
                    desk.flush().await.unwrap();
                    assert_eq!(recorder.writes().iter().map(|written| written.ops.len()).collect::<Vec<_>>(), sizes);
                } else if !dies {
                    orders.leave().await.unwrap();
                }
            });
            drop(runtime);
            log.crash();
        }
    }
}

/// Goal: terms of processes that were replaced and live on are no sign of an op that kills them. Method: two processes that are cut off in
/// turn, so that their terms end without having settled anything, and a last one whose sink notes the size of its batches.
#[tokio::test(start_paused = true)]
async fn a_term_whose_process_survives_does_not_count() {
    let log = MemoryLog::new();
    let recorder: Recorder<u32> = Recorder::new();
    let join = async |log: &MemoryLog| {
        let sink = recorder.clone();
        Durable::new("orders", log.clone()).sink(move |_| sink.clone()).join().await.unwrap()
    };
    let logs = [log.clone(), log.another_process()];
    let nodes = [join(&logs[0]).await, join(&logs[1]).await];
    nodes[0].handle().pause().await.unwrap();
    nodes[0].handle().send_all(0..6).await.unwrap();
    for turn in 0..6 {
        let (from, to) = (turn % 2, (turn + 1) % 2);
        logs[from].isolate();
        while !nodes[to].handle().is_leading() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        logs[from].reconnect();
        // Its record is refused, which ends its term.
        nodes[from].handle().pause().await.unwrap();
        while nodes[from].handle().is_leading() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(nodes.iter().map(|node| node.stats().terms).sum::<u64>() > 6);
    nodes[0].handle().resume().await.unwrap();
    nodes[0].handle().flush().await.unwrap();
    assert_eq!(recorder.writes().iter().map(|written| written.ops.len()).collect::<Vec<_>>(), [6]);
}

/// A sink whose rows are in the log, and which gives no answer about the first op.
#[derive(Clone)]
struct Silent(Term);

impl Sink<u32> for Silent {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        if batch.pending().any(|op| *op == 1) && self.0.epoch() == 1 {
            return Err(SinkError::ambiguous("no answer"));
        }
        let insert = |transaction: &mut Transaction<'_>, batch: &mut Batch<u32>| {
            let rows = transaction.memory()?;
            batch.pending().for_each(|op| drop(rows.insert(format!("{:09}", rows.len()), op.to_string())));
            Ok(batch.accept_all())
        };
        self.0.transaction(batch, insert).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// Goal: an op that was given up does not come back behind something newer of its key. Method: the process dies when the newer one has
/// landed, which no record of the older one's end may follow.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_does_not_come_back() {
    let log = MemoryLog::new().sync_time(Duration::from_millis(1));
    let join = |log: MemoryLog| {
        let stages = || Stages::new().partition_by(|_: &u32| 0_u8);
        let orders = Durable::new("orders", log).stages(stages).limits(Limits::new(1)).retry(Retry::none());
        orders.sink(Silent).join()
    };
    let orders = join(log.clone()).await.unwrap();
    let desk = orders.handle();
    desk.send_all([1, 2]).await.unwrap();
    while log.rows().is_empty() {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    log.crash();
    drop((orders, desk));
    let orders = join(log.clone()).await.unwrap();
    orders.handle().flush().await.unwrap();
    assert_eq!(log.rows().into_values().collect::<Vec<_>>(), ["2"]);
    assert_eq!(orders.dead_letters().list(10).await.unwrap().len(), 1);
}

/// Goal: a batch that waits for the record of a dead letter is written once that has committed. Method: an op falls due at each time of
/// the sync.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_dead_letter_is_written() {
    for linger in 1..40 {
        let log = MemoryLog::new().sync_time(Duration::from_millis(10));
        let limits = Limits::new(2).linger(Duration::from_millis(linger));
        let orders = Durable::new("orders", log.clone()).limits(limits).retry(Retry::none());
        let orders = orders.sink(Silent).join().await.unwrap();
        let desk = orders.handle();
        let (sent, ack) = tokio::join!(desk.send_all([1, 1]), desk.submit(2));
        sent.unwrap();
        let written = tokio::time::timeout(Duration::from_secs(10), ack.unwrap()).await;
        written.unwrap_or_else(|_| panic!("it is written, if it is due after {linger} ms")).unwrap();
        assert_eq!(log.rows().into_values().collect::<Vec<_>>(), ["2"]);
        orders.leave().await.unwrap();
    }
}
