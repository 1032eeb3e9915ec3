//! [`Window`]: the state of one bucket, or of one key of a keyed bucket: what has been drawn from it, and whether more may be
//! drawn now. The budget asks it for each op of a batch.
//!
//! Invariant: what has been drawn and still counts is never above the limit, unless the venue reports more.

use super::{
    charges::{Alignment, Charges, Span},
    decay::Decay,
    foreign_use::ForeignUse,
    numbers::{Kind, MAX_LIMIT, Numbers},
};
use crate::rules::time::Timestamp;

/// The state of one bucket, or of one key.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    limit: u64,
    count: Count,
    foreign_use: ForeignUse,
    pace: Pace,
    /// Batches that were charged and have not been settled.
    in_flight: u32,
    /// Whether one of them left while another one was in flight.
    overlaps: bool,
    frozen_until: Option<Timestamp>,
    /// `pace.drawn_to` before the last draw, for `undo`.
    drawn_to_before: Timestamp,
}

#[derive(Debug, Clone)]
enum Count {
    Charges(Charges),
    Decay(Decay),
}

/// Spreads the rest of a window evenly, once half of it is used.
#[derive(Debug, Clone)]
struct Pace {
    is_on: bool,
    /// Moment up to which the even rate has been drawn.
    drawn_to: Timestamp,
    /// The even rate, in units per nanosecond, and when it was computed.
    rate: f64,
    rated_at: Option<Timestamp>,
}

/// One draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) cost: u64,
    /// Part of the limit that is kept from this op.
    pub(crate) reserved: u64,
    /// Whether the even rate holds for this op. Ops that may draw from the reserve are not paced.
    pub(crate) paced: bool,
}

/// Reason for which nothing was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not before this moment, which is later than now.
    Until(Timestamp),
    /// The limit is less than the cost.
    Never { limit: u64 },
}

/// Nanoseconds until a refused op is tried again where no better moment is known: a millisecond, the resolution of timers.
const TICK: u64 = 1_000_000;

/// Factor of the pace over the even rate. Timers and slots are late, so that the even rate alone leaves some of the limit unused:
/// of 300 ops in 10 s at a load of 110 % it uses 98.7 %, and with this factor 99.6 %.
const HASTE: f64 = 1.2;

impl Window {
    /// `boundary`: a moment at which a fixed window begins.
    pub(crate) fn new(numbers: &Numbers, boundary: Timestamp, now: Timestamp) -> Self {
        let jitter = nanos(numbers.jitter);
        let count = match numbers.kind {
            Kind::Rolling { window } => Count::charges(nanos(window), jitter, None),
            Kind::Fixed { window } => {
                Count::charges(nanos(window), jitter, Some(Alignment { boundary, skew: nanos(numbers.skew) }))
            }
            Kind::Decaying { per_unit } => Count::Decay(Decay::new(nanos(per_unit), jitter, now)),
        };
        let pace = Pace { is_on: numbers.paced, drawn_to: now, rate: 0.0, rated_at: None };
        Self {
            limit: numbers.limit,
            count,
            foreign_use: ForeignUse::default(),
            pace,
            in_flight: 0,
            overlaps: false,
            frozen_until: None,
            drawn_to_before: now,
        }
    }

    /// Draws `claim.cost`, or says when to ask again.
    pub(crate) fn draw(&mut self, claim: Claim, now: Timestamp) -> Result<(), Refusal> {
        self.check(claim, now)?;
        if claim.cost > 0 {
            self.pace_drawn(claim, now);
            self.count.add(claim.cost, now);
        }
        Ok(())
    }

    /// Whether so much could be drawn now.
    pub(crate) fn check(&mut self, claim: Claim, now: Timestamp) -> Result<(), Refusal> {
        let Claim { cost, reserved, .. } = claim;
        if cost == 0 {
            return Ok(());
        }
        let limit = self.limit.saturating_sub(reserved);
        if cost > limit {
            return Err(Refusal::Never { limit });
        }
        if let Some(until) = self.frozen_until(now) {
            return Err(Refusal::Until(until));
        }
        self.count.advance(now);
        let used = self.count.used(now);
        let window = self.count.window(self.limit);
        let arrives = now.plus_nanos(self.count.jitter());
        let open = limit - self.foreign_use.since_report(window, limit / 2, arrives);
        if used > 0 && used.saturating_add(cost) > open {
            let until = self.count.falls_to(open.saturating_sub(cost));
            return Err(Refusal::Until(until.unwrap_or(now).max(now.plus_nanos(TICK))));
        }
        if claim.paced && self.pace.is_on && used > 0 && used + cost > limit / 2 {
            self.check_pace(cost, limit, now)?;
        }
        Ok(())
    }

    /// Whether an even rate has come so far that it allows the cost.
    fn check_pace(&mut self, cost: u64, limit: u64, now: Timestamp) -> Result<(), Refusal> {
        if self.pace.rated_at != Some(now) {
            let rate = self.count.sustainable(limit, now) * HASTE;
            (self.pace.rate, self.pace.rated_at) = (rate, Some(now));
        }
        let time = self.pace.time_of(cost);
        if now.nanos_since(self.pace.drawn_to) >= time {
            return Ok(());
        }
        // The rate rises when charges expire, so that a distant moment is looked at again before it.
        let window = self.count.window(self.limit);
        let until = self.pace.drawn_to.plus_nanos(time).min(now.plus_nanos((window / 16).max(TICK)));
        Err(Refusal::Until(until.max(now.plus_nanos(1))))
    }

    fn pace_drawn(&mut self, claim: Claim, now: Timestamp) {
        let limit = self.limit.saturating_sub(claim.reserved);
        let is_free = self.count.used(now).saturating_add(claim.cost) <= limit / 2;
        let pace = &mut self.pace;
        self.drawn_to_before = pace.drawn_to;
        pace.drawn_to = if is_free || pace.rated_at != Some(now) {
            now
        } else {
            pace.drawn_to.plus_nanos(pace.time_of(claim.cost)).min(now)
        };
    }

    /// Takes a draw back, since another bucket refused the op. Other batchers may have drawn from a shared window in between.
    pub(crate) fn undo(&mut self, cost: u64) {
        match &mut self.count {
            Count::Charges(charges) => charges.undo(cost),
            Count::Decay(decay) => decay.undo(cost),
        }
        self.pace.drawn_to = self.drawn_to_before;
    }

    /// Notes that a batch which was charged is in flight.
    pub(crate) fn departed(&mut self) {
        self.overlaps = self.in_flight > 0;
        self.in_flight += 1;
    }

    /// Notes that a batch which was charged has come back.
    pub(crate) fn returned(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes over the venue's count, from the answer to a batch that was sent at `sent` and still counts as in flight. The larger
    /// count holds, unless the batch was charged here and no other one was in flight at the same time, which the venue may not
    /// have counted.
    pub(crate) fn correct(&mut self, used: u64, sent: Timestamp, is_charged: bool, now: Timestamp) {
        let is_alone = is_charged && self.in_flight == 1 && !self.overlaps;
        // Whatever an answer says, it stops nothing for much longer than a window.
        let used = used.min(self.limit.saturating_mul(2));
        self.count.advance(now);
        let known = self.count.used(now);
        let window = self.count.window(self.limit);
        self.foreign_use.reported(used.saturating_sub(known), window, sent);
        if used > known || is_alone {
            self.count.correct(used, now);
            self.pace.rated_at = None;
        }
    }

    /// Takes over the venue's limit.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit.min(MAX_LIMIT);
        self.pace.rated_at = None;
    }

    /// Notes that the venue asked for a pause: its windows are not aligned as they were thought to be.
    pub(crate) fn throttled(&mut self) {
        if let Count::Charges(charges) = &mut self.count {
            charges.distrust_alignment();
        }
        self.pace.rated_at = None;
    }

    /// Refuses all draws before this moment.
    pub(crate) fn freeze(&mut self, until: Timestamp) {
        self.frozen_until = self.frozen_until.max(Some(until));
    }

    /// The end of a freeze that is not over yet.
    pub(crate) fn frozen_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.frozen_until.filter(|until| now < *until)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn used(&self, now: Timestamp) -> u64 {
        self.count.used(now)
    }

    /// The same, after what has expired is forgotten.
    pub(crate) fn settled(&mut self, now: Timestamp) -> u64 {
        self.count.advance(now);
        self.used(now)
    }

    /// Whether a new window would be the same.
    /// Takes over a draw of an earlier process.
    #[cfg(feature = "durable")]
    pub(super) fn carry(&mut self, cost: u64, at: Timestamp) {
        self.count.add(cost, at);
    }

    /// When a draw made now stops counting.
    #[cfg(feature = "durable")]
    pub(super) fn expiry(&self, now: Timestamp) -> Timestamp {
        match &self.count {
            Count::Charges(charges) => charges.expiry(now),
            Count::Decay(decay) => decay.falls_to(0),
        }
    }

    /// Nanoseconds within which draws may count as one.
    #[cfg(feature = "durable")]
    pub(super) fn grain(&self) -> u64 {
        (self.count.window(self.limit) / super::charges::GRAINS).max(1)
    }

    pub(crate) fn is_idle(&self, now: Timestamp) -> bool {
        self.in_flight == 0 && self.used(now) == 0 && self.frozen_until.is_none_or(|until| until <= now)
    }
}

impl Pace {
    /// Nanoseconds in which the even rate brings so much.
    fn time_of(&self, cost: u64) -> u64 {
        // A rate of zero is one for ever, and the cast saturates.
        (cost as f64 / self.rate).ceil() as u64
    }
}

impl Count {
    fn charges(window: u64, jitter: u64, alignment: Option<Alignment>) -> Self {
        Self::Charges(Charges::new(Span { window, jitter, alignment }))
    }

    fn advance(&mut self, now: Timestamp) {
        if let Self::Charges(charges) = self {
            charges.advance(now);
        }
    }

    fn used(&self, now: Timestamp) -> u64 {
        match self {
            Self::Charges(charges) => charges.used(now),
            Self::Decay(decay) => decay.used(now),
        }
    }

    fn add(&mut self, cost: u64, now: Timestamp) {
        match self {
            Self::Charges(charges) => charges.add(cost, now),
            Self::Decay(decay) => decay.add(cost, now),
        }
    }

    fn correct(&mut self, used: u64, now: Timestamp) {
        match self {
            Self::Charges(charges) => charges.correct(used, now),
            Self::Decay(decay) => decay.correct(used, now),
        }
    }

    fn falls_to(&self, most: u64) -> Option<Timestamp> {
        match self {
            Self::Charges(charges) => charges.falls_to(most),
            Self::Decay(decay) => Some(decay.falls_to(most)),
        }
    }

    /// The most nanoseconds by which one call may take longer than another.
    fn jitter(&self) -> u64 {
        match self {
            Self::Charges(charges) => charges.jitter(),
            Self::Decay(decay) => decay.jitter(),
        }
    }

    /// Nanoseconds for which a charge counts.
    fn window(&self, limit: u64) -> u64 {
        match self {
            Self::Charges(charges) => charges.window(),
            Self::Decay(decay) => decay.window(limit),
        }
    }

    fn sustainable(&self, limit: u64, now: Timestamp) -> f64 {
        match self {
            Self::Charges(charges) => charges.sustainable(limit, now),
            Self::Decay(decay) => decay.sustainable(limit, now),
        }
    }
}

pub(super) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
