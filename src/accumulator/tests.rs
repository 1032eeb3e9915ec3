//! The state machine against a naive model of the same rules: lists that are searched from end to end. Both take the
//! same random steps, and must cut the same batches for the same reasons at the same moments, and count the same ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::{prelude::*, test_runner::FileFailurePersistence};

use super::*;
use crate::{CutBy, ErrorKind, SinkError, ack::End, command::Run, inbox::Taken, retry::Backoff, stage::Merge};

#[derive(Debug, Clone, PartialEq)]
struct Op {
    id: u32,
    part: u8,
    key: Option<u8>,
    dup: Option<u8>,
    level: u8,
    weight: usize,
    urgent: bool,
    /// In milliseconds since the start.
    expires: Option<u64>,
    meeting: Meeting,
}

/// What becomes of an op that meets a waiting one of its key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meeting {
    Replace,
    Yield,
    Net,
    Apart,
}

fn merge(waiting: Op, newer: Op) -> Merge<Op> {
    match newer.meeting {
        Meeting::Replace => Merge::Into(newer),
        Meeting::Yield => Merge::Into(waiting),
        Meeting::Net => Merge::Net,
        Meeting::Apart => Merge::Apart { waiting, newer },
    }
}

impl Op {
    /// An op of which no rule has anything to say.
    fn plain(self) -> Self {
        Self { weight: 1, urgent: false, expires: None, ..self }
    }
}

/// Which rules a run uses.
#[derive(Debug, Clone)]
struct Recipe {
    /// None at all.
    plain: bool,
    partition: bool,
    conflate: bool,
    dedup: Option<u64>,
    priority: bool,
    aging: Option<u64>,
    limits: Limits,
    max_attempts: u32,
    /// In milliseconds.
    give_up_after: Option<u64>,
    idempotent: bool,
    bisect: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<Op>),
    Wait(u64),
    Cut,
    /// Settles one of the batches in flight: a verdict per op, and one for the rest.
    Settle(usize, Vec<u8>, Rest),
    Withdraw(u8),
    Flush,
    Pause(bool),
    Press,
    Close,
}

#[derive(Debug, Clone, Copy)]
enum Rest {
    Accept,
    Transient,
    Ambiguous,
    /// Only for one op: it may have landed, and is to be tried again all the same.
    AmbiguousAgain,
    Refused,
    TooLarge,
    Throttled,
    /// The destination is away, and nothing landed.
    Outage,
    /// The connection was lost on the way.
    ConnectionLost,
    Panicked,
    Aborted,
}

const RETRY_BASE: Duration = Duration::from_millis(8);
const SEED: u64 = 5;

fn retry(recipe: &Recipe) -> Retry {
    let retry = Retry::exponential(RETRY_BASE, RETRY_BASE * 4).max_attempts(recipe.max_attempts).seed(SEED);
    match recipe.give_up_after {
        Some(limit) => retry.give_up_after(Duration::from_millis(limit)),
        None => retry,
    }
}

// The model.

#[derive(Debug, Clone)]
struct Waiting {
    op: Op,
    seq: u64,
    at: u64,
    level: u8,
    urgent: bool,
    attempts: u32,
    was_written: bool,
    in_doubt: bool,
}

struct Batch {
    part: u8,
    /// Freezes by outages before it was cut.
    mark: u64,
    ops: Vec<Waiting>,
}

#[derive(Default)]
struct Part {
    waiting: Vec<Waiting>,
    in_flight: bool,
    backing_off: Option<Duration>,
    parts: Vec<usize>,
}

struct Model {
    recipe: Recipe,
    backoff: Backoff,
    parts: BTreeMap<u8, Part>,
    seen: BTreeMap<(u8, u8), u64>,
    levels: BTreeSet<u8>,
    next_seq: u64,
    flush_below: u64,
    pressure_below: u64,
    closing: bool,
    paused: bool,
    frozen: Option<Duration>,
    /// Since when, and how many writes in a row have met it.
    outage: Option<(Duration, u32)>,
    freezes: u64,
    in_flight: Vec<Batch>,
    ends: BTreeMap<End, u64>,
    accepted: u64,
}

impl Model {
    fn new(recipe: &Recipe) -> Self {
        Self {
            recipe: recipe.clone(),
            backoff: retry(recipe).start(),
            parts: BTreeMap::new(),
            seen: BTreeMap::new(),
            levels: BTreeSet::new(),
            next_seq: 0,
            flush_below: 0,
            pressure_below: 0,
            closing: false,
            paused: false,
            frozen: None,
            outage: None,
            freezes: 0,
            in_flight: Vec::new(),
            ends: BTreeMap::new(),
            accepted: 0,
        }
    }

    fn part_of(&self, op: &Op) -> u8 {
        if self.recipe.partition { op.part } else { 0 }
    }

    fn key_of(&self, op: &Op) -> Option<u8> {
        op.key.filter(|_| self.recipe.conflate)
    }

    fn end(&mut self, end: End) {
        *self.ends.entry(end).or_default() += 1;
    }

    fn pending(&self) -> usize {
        let waiting: usize = self.parts.values().map(|part| part.waiting.len()).sum();
        waiting + self.in_flight.iter().map(|batch| batch.ops.len()).sum::<usize>()
    }

    fn push(&mut self, op: Op, now: u64) {
        self.accepted += 1;
        let part = self.part_of(&op);
        let level = if self.recipe.priority { op.level } else { 0 };
        self.levels.insert(level);
        if let (Some(window), Some(dup)) = (self.recipe.dedup, op.dup) {
            match self.seen.get(&(part, dup)) {
                Some(first) if now < first + window => return self.end(End::Deduplicated),
                _ => drop(self.seen.insert((part, dup), now)),
            }
        }
        let new = Waiting {
            urgent: op.urgent,
            seq: self.next_seq,
            at: now,
            level,
            attempts: 0,
            was_written: false,
            in_doubt: false,
            op,
        };
        self.next_seq += 1;
        self.enter(part, new);
        if self.pending() >= self.recipe.limits.pending_limit() {
            self.pressure_below = self.next_seq;
        }
    }

    /// A newer op comes in. Its key finds the newest of its key that waits.
    fn enter(&mut self, part: u8, new: Waiting) {
        let met = self.newest(part, &new.op);
        let waiting = &mut self.parts.entry(part).or_default().waiting;
        let Some(met) = met else { return waiting.push(new) };
        let outcome = if waiting[met].in_doubt || new.in_doubt {
            Merge::Apart { waiting: waiting[met].op.clone(), newer: new.op.clone() }
        } else {
            merge(waiting[met].op.clone(), new.op.clone())
        };
        match outcome {
            Merge::Into(op) => {
                let old = &mut waiting[met];
                old.level = old.level.max(new.level);
                old.urgent |= op.urgent;
                old.op = op;
                self.lift(part);
                self.end(End::Conflated);
            }
            Merge::Net => {
                waiting.remove(met);
                self.end(End::Netted);
                self.end(End::Netted);
            }
            Merge::Apart { .. } => {
                waiting.push(new);
                self.lift(part);
            }
        }
    }

    fn newest(&self, part: u8, op: &Op) -> Option<usize> {
        let key = self.key_of(op)?;
        let waiting = &self.parts.get(&part)?.waiting;
        (0..waiting.len()).filter(|i| self.key_of(&waiting[*i].op) == Some(key)).max_by_key(|i| waiting[*i].seq)
    }

    /// Within a key, nothing leaves after something newer.
    fn lift(&mut self, part: u8) {
        let keys: Vec<Option<u8>> = self.parts[&part].waiting.iter().map(|w| self.key_of(&w.op)).collect();
        let waiting = &mut self.parts.get_mut(&part).unwrap().waiting;
        for i in 0..waiting.len() {
            let newer = (0..waiting.len())
                .filter(|j| keys[i].is_some() && keys[*j] == keys[i] && waiting[*j].seq > waiting[i].seq);
            let level = newer.map(|j| waiting[j].level).max().unwrap_or(0);
            waiting[i].level = waiting[i].level.max(level);
        }
    }

    fn rank(&self, waiting: &Waiting, now: Duration) -> usize {
        let rank = self.levels.iter().position(|level| *level == waiting.level).unwrap();
        let age = now.as_millis() as u64 - waiting.at;
        let steps = self.recipe.aging.map_or(0, |after| age / after) as usize;
        (rank + steps).min((self.levels.len() - 1).max(rank))
    }

    fn due_by(&self, part: &Part, now: Duration) -> Option<CutBy> {
        let limits = &self.recipe.limits;
        let oldest = part.waiting.iter().min_by_key(|w| w.seq)?;
        let weight: usize = part.waiting.iter().map(|w| w.op.weight).sum();
        let lingered = now >= Duration::from_millis(oldest.at).saturating_add(limits.linger);
        [
            (part.waiting.iter().any(|w| w.was_written), CutBy::Retry),
            (part.waiting.len() >= limits.max_items || weight >= limits.weight(), CutBy::Full),
            (part.waiting.iter().any(|w| w.urgent), CutBy::Urgent),
            (self.closing, CutBy::Close),
            (oldest.seq < self.flush_below, CutBy::Flush),
            (lingered, CutBy::Linger),
            (oldest.seq < self.pressure_below, CutBy::Pressure),
        ]
        .into_iter()
        .find_map(|(due, by)| due.then_some(by))
    }

    fn is_blocked(&self) -> bool {
        self.paused || self.in_flight.len() >= self.recipe.limits.max_in_flight
    }

    fn cut(&mut self, now: Duration) -> Option<(CutBy, Vec<u32>)> {
        if self.is_blocked() || self.frozen.is_some_and(|until| now < until) {
            return None;
        }
        self.frozen = None;
        loop {
            let best = |part: &Part| part.waiting.iter().map(|w| (std::cmp::Reverse(self.rank(w, now)), w.seq)).min();
            let (id, by) = self
                .parts
                .iter()
                .filter(|(_, part)| !part.in_flight && part.backing_off.is_none_or(|until| until <= now))
                .filter_map(|(id, part)| Some((best(part)?, *id, self.due_by(part, now)?)))
                .min_by_key(|(best, ..)| *best)
                .map(|(_, id, by)| (id, by))?;
            if let Some(ids) = self.take(id, now) {
                return Some((by, ids));
            }
        }
    }

    fn take(&mut self, id: u8, now: Duration) -> Option<Vec<u32>> {
        let max_weight = self.recipe.limits.weight();
        let part = self.parts.get_mut(&id).unwrap();
        if !part.waiting.iter().any(|w| w.was_written) {
            part.parts.clear();
        }
        let cap = self.parts[&id].parts.last().map_or(usize::MAX, |cap| *cap).min(self.recipe.limits.max_items);
        let mut ops: Vec<Waiting> = Vec::new();
        while ops.len() < cap {
            let part = &self.parts[&id];
            let best = (0..part.waiting.len())
                .min_by_key(|i| (std::cmp::Reverse(self.rank(&part.waiting[*i], now)), part.waiting[*i].seq));
            let Some(best) = best else { break };
            let weight: usize = ops.iter().map(|w| w.op.weight).sum();
            let next = &part.waiting[best];
            let expired = next.op.expires.is_some_and(|at| Duration::from_millis(at) <= now);
            let key = self.key_of(&next.op);
            let has_key = key.is_some() && ops.iter().any(|w| self.key_of(&w.op) == key);
            if has_key || (!expired && weight + next.op.weight > max_weight) {
                break;
            }
            let next = self.parts.get_mut(&id).unwrap().waiting.remove(best);
            if expired {
                self.end(if next.in_doubt { End::InDoubt } else { End::Expired });
            } else {
                ops.push(next);
            }
        }
        let part = self.parts.get_mut(&id).unwrap();
        part.backing_off = None;
        if ops.is_empty() {
            return None;
        }
        if let Some(size) = part.parts.last_mut() {
            *size -= ops.len();
            if *size == 0 {
                part.parts.pop();
            }
        }
        if part.waiting.is_empty() {
            part.parts.clear();
        }
        part.in_flight = true;
        let ids = ops.iter().map(|w| w.op.id).collect();
        self.in_flight.push(Batch { part: id, mark: self.freezes, ops });
        Some(ids)
    }

    fn settle(&mut self, at: usize, verdicts: &[u8], rest: Rest, now: Duration) {
        let Batch { part: id, mark, ops } = self.in_flight.remove(at);
        self.parts.get_mut(&id).unwrap().in_flight = false;
        if let Rest::Throttled = rest {
            self.frozen = self.frozen.max(Some(now + THROTTLE));
        }
        let given_up = self.notice_outage(mark, &verdicts[..verdicts.len().min(ops.len())], rest, now);
        let open = (0..ops.len()).filter(|i| verdict(verdicts, *i).is_none()).count();
        let split = open > 0
            && ops.len() > 1
            && (matches!(rest, Rest::TooLarge) || self.recipe.bisect && matches!(rest, Rest::Refused));
        let (mut again, mut failed) = (Vec::new(), false);
        for (i, mut op) in ops.into_iter().enumerate() {
            op.was_written = true;
            let given = verdict(verdicts, i);
            if given.is_none() && split {
                again.push(op);
                continue;
            }
            let before = again.len();
            let ended = given.unwrap_or(rest);
            op.attempts += u32::from(!matches!(ended, Rest::Outage));
            let last = op.attempts >= self.recipe.max_attempts;
            match ended {
                Rest::Outage if !given_up => {
                    again.push(op);
                    continue;
                }
                Rest::ConnectionLost if given_up => self.end(End::InDoubt),
                Rest::Accept => self.end(End::Delivered),
                Rest::Transient | Rest::Throttled if !last => again.push(op),
                Rest::Ambiguous | Rest::ConnectionLost | Rest::Panicked => {
                    op.in_doubt = true;
                    if self.recipe.idempotent && !last { again.push(op) } else { self.end(End::InDoubt) }
                }
                Rest::AmbiguousAgain => {
                    op.in_doubt = true;
                    if last { self.end(End::InDoubt) } else { again.push(op) }
                }
                Rest::Aborted => self.end(End::Returned),
                _ => self.end(if op.in_doubt { End::InDoubt } else { End::Refused }),
            }
            failed |= again.len() > before;
        }
        let part = self.parts.get_mut(&id).unwrap();
        if split {
            part.parts.extend([open / 2, open - open / 2].into_iter().filter(|size| *size > 0));
        }
        if let Some(attempts) = again.iter().map(|op| op.attempts).max()
            && failed
        {
            part.backing_off = Some(now + self.backoff.delay(attempts));
        }
        again.sort_by_key(|op| op.seq);
        for op in again.into_iter().rev() {
            self.come_back(id, op);
        }
        if given_up {
            let waiting: Vec<Waiting> = self.parts.values_mut().flat_map(|part| part.waiting.drain(..)).collect();
            waiting.iter().for_each(|w| self.end(if w.in_doubt { End::InDoubt } else { End::Refused }));
        }
    }

    /// The gate: whether the write tells of an outage, or that one is over. Says whether an outage has lasted too long.
    fn notice_outage(&mut self, mark: u64, verdicts: &[u8], rest: Rest, now: Duration) -> bool {
        let is_answer =
            matches!(rest, Rest::Accept | Rest::Transient | Rest::Refused | Rest::TooLarge | Rest::Throttled);
        if is_answer && mark == self.freezes {
            self.outage = None;
        }
        let told = (0..verdicts.len()).any(|i| matches!(verdict(verdicts, i), Some(Rest::Outage)));
        if !told && !matches!(rest, Rest::Outage | Rest::ConnectionLost) {
            return false;
        }
        let is_new = self.outage.is_none();
        let (since, mut failures) = self.outage.unwrap_or((now, 0));
        let left = self.recipe.give_up_after.map(|limit| Duration::from_millis(limit).saturating_sub(now - since));
        if is_new || mark == self.freezes {
            failures += 1;
            let delay = self.backoff.delay(failures);
            let pause = left.filter(|left| !left.is_zero()).map_or(delay, |left| left.min(delay));
            self.frozen = self.frozen.max(Some(now + pause));
            self.freezes += 1;
        }
        self.outage = Some((since, failures));
        left.is_some_and(|left| left.is_zero())
    }

    /// An older op comes back. What waits under its key is newer; it meets the eldest of that.
    fn come_back(&mut self, part: u8, mut old: Waiting) {
        let key = self.key_of(&old.op);
        let same = |op: &Op| key.is_some() && self.key_of(op) == key;
        let waiting = &self.parts[&part].waiting;
        let met = (0..waiting.len()).filter(|i| same(&waiting[*i].op)).min_by_key(|i| waiting[*i].seq);
        let waiting = &mut self.parts.get_mut(&part).unwrap().waiting;
        let Some(met) = met else { return waiting.push(old) };
        let outcome = if old.in_doubt || waiting[met].in_doubt {
            Merge::Apart { waiting: old.op.clone(), newer: waiting[met].op.clone() }
        } else {
            merge(old.op.clone(), waiting[met].op.clone())
        };
        match outcome {
            Merge::Into(op) => {
                let newer = waiting.remove(met);
                old.level = old.level.max(newer.level);
                old.urgent |= op.urgent;
                old.op = op;
                waiting.push(old);
                self.lift(part);
                self.end(End::Conflated);
            }
            Merge::Net => {
                waiting.remove(met);
                self.end(End::Netted);
                self.end(End::Netted);
            }
            Merge::Apart { .. } => {
                waiting.push(old);
                self.lift(part);
            }
        }
    }

    /// A partition that is empty remembers nothing.
    fn forget_idle(&mut self) {
        self.parts.retain(|_, part| part.in_flight || !part.waiting.is_empty());
    }

    fn withdraw(&mut self, part: u8) -> Vec<u32> {
        let mut gone = Vec::new();
        for state in self.parts.values_mut() {
            let (out, stay): (Vec<_>, Vec<_>) = state.waiting.drain(..).partition(|w| w.op.part == part);
            state.waiting = stay;
            gone.extend(out);
        }
        gone.sort_by_key(|w| w.seq);
        gone.iter().for_each(|w| self.end(if w.in_doubt { End::InDoubt } else { End::Withdrawn }));
        gone.into_iter().map(|w| w.op.id).collect()
    }

    fn deadline(&self, now: Duration) -> Option<Duration> {
        if self.is_blocked() || self.parts.values().all(|part| part.waiting.is_empty()) {
            return None;
        }
        if self.frozen.is_some_and(|until| now < until) {
            return self.frozen;
        }
        let waiting = self.parts.values().filter(|part| !part.in_flight && !part.waiting.is_empty());
        waiting
            .filter_map(|part| match part.backing_off.filter(|until| now < *until) {
                Some(until) => Some(until),
                None => {
                    let oldest = part.waiting.iter().min_by_key(|w| w.seq)?;
                    Some(Duration::from_millis(oldest.at).saturating_add(self.recipe.limits.linger))
                }
            })
            .filter(|until| *until < Duration::MAX)
            .min()
    }
}

const THROTTLE: Duration = Duration::from_millis(30);

/// Verdicts as the steps encode them; `None` leaves the op to the rest.
fn verdict(verdicts: &[u8], i: usize) -> Option<Rest> {
    match verdicts.get(i)? {
        0 => Some(Rest::Accept),
        1 => Some(Rest::Transient),
        2 => Some(Rest::Refused),
        3 => Some(Rest::Ambiguous),
        4 => Some(Rest::AmbiguousAgain),
        5 => Some(Rest::Outage),
        _ => None,
    }
}

fn error(rest: Rest) -> SinkError {
    match rest {
        Rest::Transient => SinkError::transient("later"),
        Rest::Ambiguous | Rest::AmbiguousAgain => SinkError::ambiguous("who knows"),
        Rest::TooLarge => SinkError::too_large("half of it"),
        Rest::Throttled => ErrorKind::Throttled { retry_after: THROTTLE }.into(),
        Rest::Outage => SinkError::outage("away"),
        Rest::ConnectionLost => SinkError::connection_lost("cut"),
        _ => SinkError::refused("never"),
    }
}

fn settle(accumulator: &mut Accumulator<Op, ()>, mut cut: Box<Cut<Op, ()>>, verdicts: &[u8], rest: Rest, now: Moment) {
    for i in 0..cut.batch.len() {
        match verdict(verdicts, i) {
            None => {}
            Some(Rest::Accept) => cut.batch.accept(i, ()),
            Some(Rest::AmbiguousAgain) => cut.batch.retry(i, error(Rest::AmbiguousAgain)),
            Some(failure) => cut.batch.refuse(i, error(failure)),
        }
    }
    let written = match rest {
        Rest::Accept => {
            let _ = cut.batch.accept_all();
            Written::Answered
        }
        Rest::Panicked => Written::Panicked("ouch".into()),
        Rest::Aborted => Written::Aborted,
        failure => Written::Failed(error(failure)),
    };
    accumulator.settle(cut, written, now);
}

fn stages(recipe: &Recipe, start: Instant) -> Stages<Op> {
    if recipe.plain {
        return Stages::new();
    }
    let mut stages = Stages::new()
        .urgent_by(|op: &Op| op.urgent)
        .expire_by(move |op: &Op| op.expires.map(|ms| start + Duration::from_millis(ms)))
        .weigh_by(|op: &Op| op.weight);
    if recipe.partition {
        stages = stages.partition_by(|op| op.part);
    }
    if recipe.conflate {
        stages = stages.conflate_by(|op| op.key, merge);
    }
    if let Some(window) = recipe.dedup {
        stages = stages.dedup_by(|op| op.dup, Duration::from_millis(window));
    }
    if recipe.priority {
        stages = stages.priority_by(|op| op.level);
    }
    if let Some(after) = recipe.aging.filter(|_| recipe.priority) {
        stages = stages.aging(Duration::from_millis(after));
    }
    stages
}

/// Both have counted the same, and no op is missing.
fn compare(real: &Accumulator<Op, ()>, model: &Model) -> Result<(), TestCaseError> {
    let stats = real.stats();
    prop_assert_eq!(stats.accepted, model.accepted);
    prop_assert_eq!(stats.in_outage, model.outage.is_some());
    prop_assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight, "not conserved: {:?}", stats);
    for end in End::ALL {
        prop_assert_eq!(stats.ended_by(end), model.ends.get(&end).copied().unwrap_or(0), "{:?}", end);
    }
    Ok(())
}

/// Hands both the same ops, as one run.
fn push(real: &mut Accumulator<Op, ()>, model: &mut Model, mut ops: Vec<Op>, at: Moment, now: Duration) {
    if model.recipe.plain {
        ops = ops.into_iter().map(Op::plain).collect();
    }
    for op in &ops {
        model.push(op.clone(), now.as_millis() as u64);
        model.forget_idle();
    }
    let run = Run { count: ops.len() as u32, at, paid: true, acked: false, open_to: 0 };
    let mut taken = Taken { ops, ..Taken::new() };
    real.accept(run, &mut taken.drain().1, at);
}

/// Takes the same steps with both, comparing as it goes.
fn run(recipe: &Recipe, steps: &[Step]) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let policy = Policy { retry: retry(recipe), idempotent: recipe.idempotent, bisect: recipe.bisect };
    let mut real = Accumulator::<Op, ()>::new(stages(recipe, start), recipe.limits.clone(), policy);
    let mut model = Model::new(recipe);
    let mut cuts: Vec<Box<Cut<Op, ()>>> = Vec::new();
    let mut now = Duration::ZERO;
    for step in steps {
        let at = Moment::from(start + now);
        match step.clone() {
            Step::Push(ops) => push(&mut real, &mut model, ops, at, now),
            Step::Wait(ms) => now += Duration::from_millis(ms),
            Step::Cut => {
                let cut = real.cut(at);
                let seen =
                    cut.as_ref().map(|cut| (cut.batch.cut_by(), cut.batch.iter().map(|op| op.id).collect::<Vec<_>>()));
                prop_assert_eq!(&seen, &model.cut(now));
                if let Some(cut) = cut {
                    let weight: usize = cut.batch.iter().map(|op| op.weight).sum();
                    prop_assert!((1..=recipe.limits.max_items).contains(&cut.batch.len()));
                    prop_assert!(weight <= recipe.limits.weight());
                    cuts.push(cut);
                } else {
                    prop_assert_eq!(
                        real.deadline(at).map(|until| until.since(Moment::from(start))),
                        model.deadline(now)
                    );
                }
            }
            Step::Settle(which, verdicts, rest) if !cuts.is_empty() => {
                let which = which % cuts.len();
                settle(&mut real, cuts.remove(which), &verdicts, rest, at);
                model.settle(which, &verdicts, rest, now);
            }
            Step::Settle(..) => {}
            Step::Withdraw(part) => {
                let gone: Vec<u32> = real.withdraw(|op| op.part == part, at).into_iter().map(|op| op.id).collect();
                prop_assert_eq!(gone, model.withdraw(part));
            }
            Step::Flush => {
                let (reply, _) = tokio::sync::oneshot::channel();
                real.flush(Flush { since: Default::default(), reply });
                real.flushed();
                model.flush_below = model.next_seq;
            }
            Step::Pause(paused) => {
                real.set_paused(paused);
                model.paused = paused;
            }
            Step::Press => {
                real.press();
                model.pressure_below = model.next_seq;
            }
            Step::Close => {
                real.close();
                model.closing = true;
            }
        }
        model.forget_idle();
        compare(&real, &model)?;
    }
    Ok(())
}

fn ops() -> impl Strategy<Value = Op> {
    let meeting = prop_oneof![
        4 => Just(Meeting::Replace), 1 => Just(Meeting::Yield), 2 => Just(Meeting::Net), 1 => Just(Meeting::Apart)
    ];
    (
        0..u32::MAX,
        0u8..4,
        prop::option::of(0u8..3),
        prop::option::weighted(0.2, 0u8..3),
        0u8..4,
        1usize..6,
        prop::bool::weighted(0.1),
        prop::option::weighted(0.2, 0u64..200),
        meeting,
    )
        .prop_map(|(id, part, key, dup, level, weight, urgent, expires, meeting)| Op {
            id,
            part,
            key,
            dup,
            level,
            weight,
            urgent,
            expires,
            meeting,
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rest = prop_oneof![
        4 => Just(Rest::Accept),
        2 => Just(Rest::Transient),
        1 => Just(Rest::Ambiguous),
        1 => Just(Rest::Refused),
        1 => Just(Rest::TooLarge),
        1 => Just(Rest::Throttled),
        1 => Just(Rest::Outage),
        1 => Just(Rest::ConnectionLost),
        1 => Just(Rest::Panicked),
        1 => Just(Rest::Aborted),
    ];
    let step = prop_oneof![
        12 => prop::collection::vec(ops(), 1..4).prop_map(Step::Push),
        4 => (0u64..40).prop_map(Step::Wait),
        6 => Just(Step::Cut),
        4 => (0usize..8, prop::collection::vec(0u8..8, 0..6), rest).prop_map(|(which, v, rest)| Step::Settle(which, v, rest)),
        1 => (0u8..4).prop_map(Step::Withdraw),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Press),
    ];
    (prop::collection::vec(step, 0..120), any::<bool>()).prop_map(|(mut steps, close)| {
        if close {
            steps.insert(steps.len() * 2 / 3, Step::Close);
        }
        steps
    })
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let limits = (1usize..6, 5usize..12, prop_oneof![Just(0u64), 1u64..50, Just(u64::MAX)], 3usize..30, 1usize..4);
    let limits = limits.prop_map(|(items, weight, linger, pending, in_flight)| {
        let linger = if linger == u64::MAX { Duration::MAX } else { Duration::from_millis(linger) };
        Limits::new(items).max_weight(weight).linger(linger).max_pending(pending).max_in_flight(in_flight)
    });
    (
        (any::<bool>(), any::<bool>(), prop::option::of(1u64..100), any::<bool>(), prop::option::of(1u64..60)),
        limits,
        (1u32..5, prop::option::of(1u64..80), any::<bool>(), any::<bool>()),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(
                (partition, conflate, dedup, priority, aging),
                limits,
                (max_attempts, give_up_after, idempotent, bisect),
                plain,
            )| {
                if plain {
                    let limits = Limits { max_weight: None, ..limits };
                    let (partition, conflate, dedup, priority, aging) = (false, false, None, false, None);
                    return Recipe {
                        plain,
                        partition,
                        conflate,
                        dedup,
                        priority,
                        aging,
                        limits,
                        max_attempts,
                        give_up_after,
                        idempotent,
                        bisect,
                    };
                }
                Recipe {
                    plain,
                    partition,
                    conflate,
                    dedup,
                    priority,
                    aging: aging.filter(|_| priority),
                    limits,
                    max_attempts,
                    give_up_after,
                    idempotent,
                    bisect,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Goal: all rules hold across each other. Method: random recipes and steps, compared with the naive model.
    #[test]
    fn the_rules_agree_with_the_naive_model(recipe in recipes(), steps in steps()) {
        run(&recipe, &steps)?;
    }
}
