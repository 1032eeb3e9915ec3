//! [`Account`]: one bucket of a running quota, with what an op costs in it and what has happened to it.

use std::{sync::Arc, time::Duration};

use super::{
    Cost, Pool, Source,
    bucket::{Bucket, CallCost},
    keyed::Keyed,
    part_of,
    window::{Claim, Refusal, Window, nanos},
};
use crate::rules::{
    quota::numbers::{Kind, Numbers},
    stats::BucketStats,
    time::Timestamp,
};

pub(super) struct Account<T> {
    name: Arc<str>,
    cost: Option<Cost<T>>,
    call: Call,
    /// Cost of a call of one op, beside the op.
    first: u64,
    windows: Windows<T>,
    /// In millionths.
    reserve: u32,
    /// Batches that were charged and have not been settled.
    in_flight: u32,
    /// Batches that were trimmed, or not cut, because of this bucket.
    pub(super) waited: u64,
    pub(super) corrections: u64,
    pub(super) throttled: u64,
    /// An op that was refused, and for which what is left is saved.
    pub(super) saving: Option<Saving>,
    /// Cost and window of the op that is being drawn for; set by `want`.
    wanted: (u64, u32),
}

/// A bucket is saved for the op that comes first. Ops that cost less would otherwise use it up again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saving {
    pub(super) partition: u32,
    /// Less for what goes first.
    pub(super) rank: u128,
    pub(super) until: Timestamp,
}

/// Cost of a call, beside its ops.
enum Call {
    /// A call costs nothing, and an op 1 unless a function says otherwise.
    Free,
    Fixed(u64),
    By(CallCost),
}

enum Windows<T> {
    One(Box<Window>),
    Keyed(Box<Keyed<T>>),
    Shared(Arc<dyn Pool>),
}

const CHECKED: &str = "the quota was checked";

/// Slot of the window of a bucket that is not keyed.
const ONLY: u32 = 0;

/// Slot of an op that has no key in this bucket.
const NO_WINDOW: u32 = u32::MAX;

impl Call {
    fn new(by: Option<CallCost>, numbers: &Numbers) -> Self {
        match (by, numbers.per_call) {
            (Some(by), _) => Self::By(by),
            (None, Some(cost)) => Self::Fixed(cost),
            (None, None) => Self::Free,
        }
    }

    /// Cost by which a call of `ops` ops grows with one more.
    fn of_op(&self, ops: usize) -> u64 {
        match self {
            Self::Free => 0,
            Self::Fixed(cost) => {
                if ops == 0 {
                    *cost
                } else {
                    0
                }
            }
            Self::By(cost) if ops == 0 => cost(1),
            Self::By(cost) => cost(ops + 1).saturating_sub(cost(ops)),
        }
    }
}

/// Least cost of a call of one op.
pub(super) fn least_of<T>(source: &Source<T>, has_cost: bool) -> u64 {
    let per_call = match source {
        Source::Own(Bucket { call_cost: Some(cost), .. }) => Some(cost(1)),
        source => source.numbers().and_then(|numbers| numbers.per_call),
    };
    per_call.unwrap_or(u64::from(!has_cost))
}

impl<T> Account<T> {
    pub(super) fn new(
        name: Arc<str>,
        source: Source<T>,
        cost: Option<Cost<T>>,
        reserve: u32,
        unix: Duration,
        now: Timestamp,
    ) -> Self {
        let (call, windows) = match source {
            Source::Shared(pool) => (Call::new(None, pool.numbers().expect(CHECKED)), Windows::Shared(pool)),
            Source::Own(Bucket { numbers, key, call_cost, boundary }) => {
                let numbers = numbers.expect(CHECKED);
                let boundary = boundary.unwrap_or_else(|| boundary_of(numbers.kind, unix, now));
                let call = Call::new(call_cost, &numbers);
                let windows = match key {
                    Some(key) => Windows::Keyed(Box::new(Keyed::new(key, numbers, boundary))),
                    None => Windows::One(Box::new(Window::new(&numbers, boundary, now))),
                };
                (call, windows)
            }
        };
        Self {
            name,
            cost,
            first: call.of_op(0),
            call,
            windows,
            reserve,
            in_flight: 0,
            waited: 0,
            corrections: 0,
            throttled: 0,
            saving: None,
            wanted: (0, ONLY),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Looks up cost and window of an op as number `ops` of its batch. Calls functions of the user, and charges nothing.
    pub(super) fn want(&mut self, op: &T, ops: usize, now: Timestamp) {
        let slot = match &mut self.windows {
            Windows::One(_) | Windows::Shared(_) => ONLY,
            Windows::Keyed(keyed) => keyed.slot(op, now).unwrap_or(NO_WINDOW),
        };
        let cost = match (&self.cost, &self.call) {
            _ if slot == NO_WINDOW => 0,
            (Some(cost), call) => cost(op).saturating_add(call.of_op(ops)),
            (None, Call::Free) => 1,
            (None, call) => call.of_op(ops),
        };
        self.wanted = (cost, slot);
    }

    /// Draws the cost of that op, and counts its batch as in flight if it `departs` with it. Both happen under one lock, so that
    /// a report to another batcher can't come in between.
    pub(super) fn draw(
        &mut self,
        matters: bool,
        has_reserve: bool,
        departs: bool,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (cost, slot) = self.wanted;
        if cost == 0 {
            return Ok(());
        }
        let reserve = if matters { 0 } else { self.reserve };
        let (paced, least) = (!(matters && has_reserve), self.least());
        // A venue may lower the limit so far that nothing but the reserve would be left.
        let reserved = |limit: u64| part_of(limit, reserve).min(limit.saturating_sub(least));
        self.with(slot, |window| {
            window.draw(Claim { cost, reserved: reserved(window.limit()), paced }, now)?;
            if departs {
                window.departed();
            }
            Ok(())
        })?;
        self.in_flight += u32::from(departs);
        if let Windows::Keyed(keyed) = &mut self.windows {
            keyed.changed(slot, now);
        }
        Ok(())
    }

    /// Least limit by which anything can be sent.
    fn least(&self) -> u64 {
        self.first.max(1)
    }

    /// Window of the op that is being drawn for.
    pub(super) fn wanted_cost(&self) -> u64 {
        self.wanted.0
    }

    #[cfg(feature = "durable")]
    pub(super) fn name_arc(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// A window that no other batcher draws from, and the hash of its key.
    #[cfg(feature = "durable")]
    pub(super) fn own_window(&self, slot: u32) -> Option<(&Window, u64)> {
        match &self.windows {
            Windows::One(window) => Some((&**window, 0)),
            Windows::Keyed(keyed) => Some(keyed.keyed_window(slot)),
            Windows::Shared(_) => None,
        }
    }

    /// Takes over a draw of an earlier process.
    #[cfg(feature = "durable")]
    pub(super) fn carry(&mut self, draw: &super::kept::KeptDraw, now: Timestamp) {
        match &mut self.windows {
            Windows::One(window) => {
                window.carry(draw.cost, draw.at);
                window.settled(now);
            }
            Windows::Keyed(keyed) => keyed.carry(draw.key, draw.at, draw.cost),
            Windows::Shared(_) => {}
        }
    }

    pub(super) fn slot(&self) -> u32 {
        self.wanted.1
    }

    /// Whether the op that is being drawn for costs something here.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.0 > 0
    }

    /// Whether a function says what an op costs.
    pub(super) fn has_cost(&self) -> bool {
        self.cost.is_some()
    }

    pub(super) fn is_keyed(&self) -> bool {
        matches!(self.windows, Windows::Keyed(_))
    }

    /// Error text of an op that costs more than the limit.
    pub(super) fn refusal_text(&self, limit: u64) -> String {
        format!("it costs {} in bucket `{}`, where it may use {limit}", self.wanted.0, self.name)
    }

    /// Takes the draw of an op back, and the departure of its batch if it has `departed` with it.
    pub(super) fn undo(&mut self, departed: bool) {
        let (cost, slot) = self.wanted;
        self.in_flight -= u32::from(departed);
        self.with(slot, |window| {
            window.undo(cost);
            if departed {
                window.returned();
            }
        });
    }

    /// Moment to look again, if every op costs something here and nothing is left for any of them. A venue that bans an address
    /// refuses what costs nothing, too.
    pub(super) fn closed_until(&mut self, has_reserve: bool, now: Timestamp) -> Option<Timestamp> {
        if self.is_keyed() {
            return None;
        }
        let cost = match (&self.cost, &self.call) {
            (None, Call::Free) => 1,
            _ => self.first,
        };
        let refusal = self.with(ONLY, |window| match window.frozen_until(now) {
            Some(until) => Err(Refusal::Until(until)),
            None => window.check(Claim { cost, reserved: 0, paced: !has_reserve }, now),
        });
        match refusal {
            Err(Refusal::Until(until)) => Some(until),
            Ok(()) | Err(Refusal::Never { .. }) => None,
        }
    }

    /// Notes that a batch which was charged has come back.
    pub(super) fn returned(&mut self, slot: u32) {
        self.in_flight -= 1;
        self.with(slot, Window::returned);
    }

    /// Takes over the venue's count from the answer to a batch with these windows.
    pub(super) fn correct(&mut self, used: u64, charged: impl Iterator<Item = u32>, sent: Timestamp, now: Timestamp) {
        let mut is_charged = false;
        for slot in charged {
            is_charged = true;
            self.with(slot, |window| window.correct(used, sent, true, now));
            if let Windows::Keyed(keyed) = &mut self.windows {
                keyed.changed(slot, now);
            }
        }
        if !is_charged && !self.is_keyed() {
            self.with(ONLY, |window| window.correct(used, sent, false, now));
        }
    }

    /// Calls the function with one of the windows.
    pub(super) fn with<V>(&mut self, slot: u32, mut with: impl FnMut(&mut Window) -> V) -> V {
        match &mut self.windows {
            Windows::One(window) => with(window),
            Windows::Keyed(keyed) => with(keyed.window(slot)),
            Windows::Shared(pool) => {
                let mut answer = None;
                pool.with(&mut |window| answer = Some(with(window)));
                answer.expect("a pool calls the function")
            }
        }
    }

    /// Takes over the venue's limit, but for one by which nothing could be sent any more, nor a better limit be heard of.
    pub(super) fn set_limit(&mut self, limit: u64) {
        let limit = limit.max(self.least());
        match &mut self.windows {
            Windows::Keyed(keyed) => keyed.set_limit(limit),
            _ => self.with(ONLY, |window| window.set_limit(limit)),
        }
    }

    /// Notes that the venue asks for a pause until then. A shared bucket is frozen for all its batchers.
    pub(super) fn throttle(&mut self, until: Timestamp) {
        self.throttled += 1;
        match &mut self.windows {
            Windows::One(window) => window.throttled(),
            Windows::Keyed(keyed) => keyed.throttled(),
            Windows::Shared(pool) => pool.with(&mut |window| {
                window.throttled();
                window.freeze(until);
            }),
        }
    }

    /// Forgets idle windows.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if let Windows::Keyed(keyed) = &mut self.windows {
            keyed.sweep(now);
        }
    }

    pub(super) fn stats(&self, now: Timestamp) -> BucketStats {
        let (used, limit) = match &self.windows {
            Windows::One(window) => (window.used(now), window.limit()),
            Windows::Keyed(keyed) => (keyed.most_used(now), keyed.limit()),
            Windows::Shared(pool) => {
                let mut answer = (0, 0);
                pool.with(&mut |window| answer = (window.used(now), window.limit()));
                answer
            }
        };
        let (waited, corrections, throttled) = (self.waited, self.corrections, self.throttled);
        BucketStats { name: Arc::clone(&self.name), used, limit, waited, corrections, throttled }
    }
}

/// A task that is dropped leaves no batch in flight in a bucket that others share.
impl<T> Drop for Account<T> {
    fn drop(&mut self) {
        if let Windows::Shared(pool) = &self.windows {
            let in_flight = self.in_flight;
            pool.with(&mut |window| (0..in_flight).for_each(|_| window.returned()));
        }
    }
}

/// The last multiple of the window since 1970. `unix` is the time since then that it is now.
pub(super) fn boundary_of(kind: Kind, unix: Duration, now: Timestamp) -> Timestamp {
    let Kind::Fixed { window } = kind else {
        return now;
    };
    let since = u64::try_from(unix.as_nanos() % window.as_nanos().max(1)).unwrap_or(0);
    Timestamp::from_nanos(now.nanos().saturating_sub(since.min(nanos(window))))
}
