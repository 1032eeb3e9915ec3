//! [`Running`]: a term as it runs. Each turn drains frames, cuts, collects what has ended into the draft, and hands the draft to
//! the log when no record is on its way.

use std::{collections::HashMap, convert::Infallible, future::pending, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Leader, TermEnd,
    commands::CatchUp,
    doubts::Doubts,
    draft::{Draft, Effects, Start, Writing},
    flagged::Flagged,
    handover::Arrivals,
    kept::Kept,
    positions::{Ids, Token},
    quota,
    settle::Of,
    wall::Wall,
};
use crate::{
    driver::{
        actor::write::{Completed, Destination},
        clock,
        metrics::{Meter, Namespace},
        timer::Timer,
    },
    durable::{
        codec::OpCodec,
        log::{LogError, Record, StoredFrame, TermState, local::nanos},
        meter::LogMeter,
        settled::Settled,
        step::Step,
    },
    rules::{
        accumulator::{Accumulator, Policy},
        config::limits::Limits,
        outcome::OpId,
        time::Timestamp,
    },
    sink::{Guarantee, Sink},
};

/// How long an outcome that no caller waits for may wait for company in its record: syncs cost more than this delay.
const GRACE: Duration = Duration::from_millis(20);

/// Terms without a settled op from which on batches have one op each.
const SUSPICIOUS_TERMS: u32 = 3;

type Write<T, R> = BoxFuture<'static, (Writing<T, R>, Completed<T, R, Token>)>;

/// A record on its way to the log, and what happens once it has committed.
pub(super) struct Committing<T, R> {
    pub(super) answer: BoxFuture<'static, Result<(), LogError>>,
    pub(super) record: Arc<Record>,
    pub(super) effects: Effects<T, R>,
}

pub(super) struct Running<'a, T, R: Clone, S> {
    pub(super) leader: &'a mut Leader<T, R>,
    pub(super) codec: Arc<dyn OpCodec<T, R>>,
    pub(super) epoch: u64,
    pub(super) accumulator: Accumulator<T, R, Token>,
    pub(super) destination: Arc<Destination<S>>,
    pub(super) guarantee: Guarantee,
    /// Whether an op may be merged, so that what is sent is not what the log has.
    pub(super) merges: bool,
    /// Terms that count as a sign of an op that kills its process, this one included: 0 once it has settled an op.
    pub(super) idle_terms: u32,
    /// Whether batches have one op each, since earlier terms died without settling any.
    pub(super) one_by_one: bool,
    /// The position up to which ops were found in the log when the term began. They are suspected of that.
    pub(super) found_until: u64,
    pub(super) limits: Limits,
    pub(super) writes: FuturesUnordered<Write<T, R>>,
    pub(super) frames: Arrivals<'a>,
    /// Canceled when another process is to lead the shard.
    asked_back: CancellationToken,
    /// The position of the next op to read.
    pub(super) next: u64,
    pub(super) settled: Settled,
    pub(super) ids: Ids,
    /// Ops that share the outcome of an earlier one, by their id.
    pub(super) repeats: HashMap<OpId, Vec<Token>>,
    pub(super) flagged: Flagged,
    pub(super) doubts: Doubts,
    pub(super) kept: Kept,
    pub(super) wall: Wall,
    /// Whether ops may expire by the wall clock.
    pub(super) expires: bool,
    /// Whether the wall clock is in doubt, so that nothing is cut.
    pub(super) clock_in_doubt: bool,
    pub(super) meter: LogMeter,
    pub(super) draft: Draft<T, R>,
    /// Batches whose intents have committed, until the next turn begins to write them.
    pub(super) starting: Vec<Start<T, R>>,
    pub(super) committing: Option<Committing<T, R>>,
    /// When the draft is handed to the log, if not before.
    pub(super) record_at: Option<Timestamp>,
    pub(super) catch_up: CatchUp,
    pub(super) paused: bool,
    /// Whether another process has changed the pause while a record was on its way, after which it counts.
    pub(super) overlooks_pause: bool,
    pub(super) purge_at: Timestamp,
}

impl<'a, T, R, S> Running<'a, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    pub(super) fn new(
        leader: &'a mut Leader<T, R>,
        sink: S,
        frames: Arrivals<'a>,
        asked_back: CancellationToken,
        state: &TermState,
    ) -> Self {
        let log = Arc::clone(&leader.shared.log);
        let stages = (leader.recipe)().on_clock(move |time| clock::at_wall_time(time, log.now()));
        let guarantee = sink.guarantee();
        let limits = leader.shared.limits().clone();
        let policy = Policy {
            backoff: leader.retry.clone().start(),
            idempotent: guarantee != Guarantee::Unknown,
            is_certain: guarantee == Guarantee::Transactional,
            bisect: guarantee == Guarantee::Transactional,
            page: sink.page(),
        };
        let (merges, expires) = (stages.conflate.is_some(), stages.expires_at);
        let wall = Wall::new(leader.shared.max_skew);
        let one_by_one = state.idle_terms >= SUSPICIOUS_TERMS;
        let mut accumulator = Accumulator::new(stages, &applied(&limits, one_by_one), policy);
        let name: Arc<str> = leader.shared.name_of(leader.shard).into();
        if let Some(recipe) = &leader.quota {
            let quota = recipe().share(leader.shared.shards.len() as u16);
            accumulator.set_quota(quota::begin(quota, state.charges.clone(), nanos(leader.shared.log.now())));
        }
        accumulator.counters().report_to(Meter::new(Namespace::Ops, &name));
        let meter = LogMeter::new(&name);
        accumulator.set_paused(state.paused);
        let destination = Destination { batcher: name, sink, abort: CancellationToken::new() };
        leader.shared.shard(leader.shard).quota().begin();
        let now = clock::now();
        Self {
            codec: Arc::clone(&leader.shared.codec),
            leader,
            epoch: state.epoch,
            accumulator,
            destination: Arc::new(destination),
            guarantee,
            merges,
            idle_terms: state.idle_terms,
            one_by_one,
            found_until: state.next,
            limits,
            writes: FuturesUnordered::new(),
            frames,
            asked_back,
            next: state.cursor,
            settled: Settled::new(state.cursor, &state.settled),
            ids: Ids::default(),
            repeats: HashMap::new(),
            flagged: Flagged::default(),
            doubts: Doubts::default(),
            kept: Kept::default(),
            wall,
            expires,
            clock_in_doubt: false,
            meter,
            draft: Draft::new(),
            starting: Vec::new(),
            committing: None,
            record_at: None,
            catch_up: CatchUp::default(),
            paused: state.paused,
            overlooks_pause: false,
            purge_at: now,
        }
    }

    /// Runs until the process leaves, or the term ends.
    pub(super) async fn run(&mut self) -> Result<Infallible, TermEnd> {
        let mut timer = Timer::new();
        let news = self.leader.shared.log.news(self.leader.shard);
        // Commands that wait for the log go to the end again.
        for _ in 0..self.leader.account.commands.len() {
            if let Some(command) = self.leader.account.commands.pop_front() {
                self.handle_command(command).await?;
            }
        }
        loop {
            self.drain_frames().await?;
            timer.set(self.turn()?);
            let (stopping, shared) = (self.is_stopping(), Arc::clone(&self.leader.shared));
            let asked_back = self.asked_back.clone();
            let (committing, catch_up) = (&mut self.committing, &mut self.catch_up);
            let committed = async move {
                match committing {
                    Some(committing) => (&mut committing.answer).await,
                    None => pending().await,
                }
            };
            let went = tokio::select! {
                biased;
                committed = committed => self.committed(committed),
                Some((writing, completed)) = self.writes.next(), if !self.writes.is_empty() => {
                    self.written(writing, completed)
                }
                Some(frame) = self.frames.next() => {
                    // The callers of its ops were woken just now, and go first.
                    tokio::task::yield_now().await;
                    self.read_frame(frame).await
                }
                end = catch_up.end() => self.catch_up(end).await,
                Some(command) = self.leader.commands.recv() => self.handle_command(command).await,
                () = shared.shard(self.leader.shard).pressed.notified() => {
                    self.accumulator.press();
                    Ok(())
                }
                () = news.changed.notified() => self.look_at_others().await,
                () = news.pressed.notified() => {
                    let looked = self.look_at_others().await;
                    self.accumulator.press();
                    looked
                }
                () = self.leader.stop.cancelled(), if !stopping => Ok(()),
                () = asked_back.cancelled(), if !stopping => Ok(()),
                () = self.leader.abort.cancelled(), if !self.destination.abort.is_cancelled() => {
                    self.destination.abort.cancel();
                    Ok(())
                }
                () = timer.fired() => Ok(()),
            };
            went?;
        }
    }

    /// Does what is due. Returns when there is more to do by the clock.
    fn turn(&mut self) -> Result<Option<Timestamp>, TermEnd> {
        let now = clock::now();
        if self.leader.shared.permits.are_exhausted() {
            self.accumulator.press();
        }
        if self.is_stopping() {
            // The request may have come while the leader was busy. What is due and not cut would keep it awake.
            self.set_gate();
        }
        let clock_at = self.look_at_clock(now);
        self.begin_writes(now);
        self.cut(now);
        self.collect(Of::Record);
        self.send_record(now);
        self.purge(now);
        self.compact();
        self.publish();
        if self.accumulator.is_stopped() && self.is_done() {
            let why = "the sink was fenced by a newer leader, or its peer has left";
            return Err(TermEnd::Fenced(why.to_owned()));
        }
        if self.is_stopping() && self.is_done() {
            return Err(self.why_it_stops());
        }
        Ok(self.accumulator.deadline(now).into_iter().chain(self.record_at).chain(clock_at).min())
    }

    /// Whether nothing is cut any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.leader.stop.is_cancelled() || self.asked_back.is_cancelled()
    }

    /// Why nothing is.
    fn why_it_stops(&self) -> TermEnd {
        if self.leader.stop.is_cancelled() { TermEnd::Left } else { TermEnd::HandedOver }
    }

    /// The next frame of this process that was stored, without waiting.
    pub(super) fn try_next_frame(&mut self) -> Option<StoredFrame> {
        self.frames.try_next()
    }

    /// Opens the gate for batches, or shuts it.
    pub(super) fn set_gate(&mut self) {
        let is_shut = self.paused || self.draft.pause.is_some() || self.is_stopping() || self.clock_in_doubt;
        self.accumulator.set_paused(is_shut);
    }

    /// Shuts the gate while the wall clock is in doubt, by which ops expire. Returns when to look again, if it is.
    fn look_at_clock(&mut self, now: Timestamp) -> Option<Timestamp> {
        let doubt = self.expires.then(|| self.wall.doubt(nanos(self.leader.shared.log.now()), now)).flatten();
        if doubt.is_some() != self.clock_in_doubt {
            self.clock_in_doubt = doubt.is_some();
            let batcher = &self.destination.batcher;
            match doubt {
                Some(doubt) => warn!(batcher = %batcher, ?doubt, "the wall clock is in doubt: nothing is sent"),
                None => info!(batcher = %batcher, "the wall clock is trusted again"),
            }
            self.set_gate();
        }
        now.checked_add(doubt?)
    }

    /// Whether nothing is under way. What waits stays in the log.
    fn is_done(&self) -> bool {
        let gives_up = self.leader.abort.is_cancelled();
        let is_idle = || self.draft.is_empty() && self.committing.is_none() && self.leader.account.commands.is_empty();
        self.writes.is_empty() && (gives_up || is_idle())
    }

    /// Cuts what is due.
    fn cut(&mut self, now: Timestamp) {
        while !self.is_stopping()
            && let Some(cut) = self.accumulator.cut(now)
        {
            self.prepare(cut);
        }
    }

    /// Hands the draft to the log, unless a record is on its way or it may wait for company.
    fn send_record(&mut self, now: Timestamp) {
        if self.committing.is_some() || self.draft.is_empty() {
            return;
        }
        let due = *self.record_at.get_or_insert_with(|| now.checked_add(GRACE).unwrap_or(now));
        let shared = &self.leader.shared;
        let shard = self.leader.shard;
        let is_awaited = || shared.waiters.want_any(self.draft.effects.ended.iter().map(|(token, _)| token.id(shard)));
        let hurries = self.draft.is_urgent()
            || self.is_stopping()
            || self.accumulator.is_stopped()
            || !self.leader.account.flushes.is_empty()
            || shared.permits.are_scarce()
            || is_awaited();
        if !hurries && now < due {
            return;
        }
        self.record_at = None;
        let (record, effects) = std::mem::replace(&mut self.draft, Draft::new()).seal(shard, self.epoch);
        effects.steps().for_each(Step::before);
        self.store(Arc::new(record), effects);
    }

    /// Hands a record to the log.
    pub(super) fn store(&mut self, record: Arc<Record>, effects: Effects<T, R>) {
        let (log, of_answer) = (Arc::clone(&self.leader.shared.log), Arc::clone(&record));
        let batcher = Arc::clone(&self.destination.batcher);
        let answer = Box::pin(async move {
            let mut pause = super::PAUSE.0;
            loop {
                match log.record(Arc::clone(&of_answer)).await {
                    Err(error) if error.is_passing() => {
                        warn!(batcher = %batcher, %error, "a record is tried again, and the shard waits for it");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(super::PAUSE.1);
                    }
                    result => return result,
                }
            }
        });
        self.committing = Some(Committing { answer, record, effects });
    }

    /// Sets limits, for as long as batches need not have one op each.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.accumulator.set_limits(&applied(&limits, self.one_by_one), clock::now());
        self.limits = limits;
    }
}

/// The limits that the accumulator obeys. The permits bound what is pending, and what is found in the log may be more.
pub(super) fn applied(limits: &Limits, one_by_one: bool) -> Limits {
    let limits = limits.clone().max_pending(usize::MAX >> 4);
    if one_by_one { limits.max_items(1).max_in_flight(1) } else { limits }
}
