//! [`ByTime`]: the cap as the time of writes decides it, for destinations whose cost per op grows with the batch.
//! [`BatchSize`](super::BatchSize) owns it, where the user switched it on, and tells it of each batch that landed.
//!
//! It is natural batching until larger batches are proven worse. Three things happen, each only while ops queue up:
//!
//! * **Growth.** A size is tried only after half of it has landed twice and did not look much worse than smaller ones, so no
//!   batch is beyond a knee by more than a factor of two. Sizes that have landed stay allowed while they are in use.
//! * **Comparison.** [`Costs`] suspects a size. A [`Trial`] then compares sizes in groups of writes that are close in time,
//!   upward from one that seems good. Two of them differ by a factor of two.
//! * **Holding.** A cap below which sizes are fine and above which one is worse is held. It is compared with larger and smaller
//!   ones for ever, at a bounded cost in time. A larger one that is not worse replaces it, until it is let go.
//!
//! Writes that failed are no samples, and neither are those that were cut under another cap than the one compared. The time of
//! a write is divided by the number of writes in flight.

mod costs;
#[cfg(test)]
mod tests;
mod trial;

use super::batch_size::CapEvent;
use crate::rules::time::Timestamp;
use costs::{Costs, Tolerance};
use trial::{Group, Kind, Trial};

/// Ops up to which no batch is held back before larger ones are known: a knee below it is passed once, by a small factor.
const FIRST_GROWTH: usize = 256;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Time after which sizes that are not in use any more have to be tried again, in nanoseconds.
const GROWTH_WINDOW: u64 = 10 * SECOND;

/// Full batches of a doubtful size that land before it is compared.
const MAX_DOUBTFUL: u32 = 8;

/// Comparisons of a held cap may take one part in so many of the time beyond what the cap itself would.
const SHARE_OF_TIME: u64 = 40;

/// The most time for comparisons that is saved up, in nanoseconds.
const MAX_ALLOWANCE: i64 = 200_000_000;

/// The most time that comparisons may have taken too much, in nanoseconds: what the writes of a minute pay off. A single write may
/// stall for longer, and the cap would not be compared for that time 40-fold.
const MAX_DEBT: i64 = 1_500_000_000;

/// The time for comparisons after a cap was proven, in nanoseconds.
const FIRST_ALLOWANCE: i64 = 50_000_000;

/// The longest time between comparisons, in nanoseconds: an optimum that moves eightfold in a minute moves by 7 % in it.
const MAX_INTERVAL: u64 = 2 * SECOND;

/// Scatter from which on a small step cannot be told from luck, so that steps are a factor of two.
const COARSE: f64 = 0.15;

/// A batch that has landed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landing {
    pub(crate) size: usize,
    /// The cap in force when it was cut.
    pub(crate) cap: usize,
    /// The cap alone, or whole pages of it, decided the size.
    pub(crate) is_full: bool,
    /// Time of the write.
    pub(crate) nanos: u64,
    /// Writes in flight when it began, this one included.
    pub(crate) in_flight: usize,
}

/// Two sizes that were compared, and their costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Proof {
    pub(crate) small: usize,
    pub(crate) large: usize,
    /// Nanoseconds per op in batches of the small size, divided by the writes in flight.
    pub(crate) small_nanos: f64,
    /// The same in batches of the large size.
    pub(crate) large_nanos: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Natural batching, up to the growth.
    Free,
    Held,
    /// The trial decides the size of the next batch.
    Test,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct ByTime {
    most: usize,
    /// The smallest size that may be held or tried.
    floor: usize,
    costs: Costs,
    phase: Phase,
    /// A comparison that goes on, or rests until there is time for it.
    trial: Option<Trial>,
    /// The largest size that is allowed while no cap is held.
    growth: usize,
    /// Time of its last doubling, in nanoseconds.
    grown: u64,
    /// The largest size of this window and the one before, and the window's end.
    recent: [usize; 2],
    window_end: u64,
    /// Full batches of a doubtful size so far.
    doubtful: u32,
    /// The cap that is held, if one is.
    held: Option<usize>,
    /// The size that gave rise to a climb, which ends there, and when it did.
    goal: usize,
    suspected_at: u64,
    /// Comparisons in a row that left the held cap where it is.
    kept: u32,
    /// Comparisons in a row that raised it.
    raised: u32,
    /// No comparison begins before.
    next: u64,
    /// Time that comparisons of a held cap may take, in nanoseconds.
    allowance: i64,
    /// The time that all others count from: that of the first landing.
    origin: Option<Timestamp>,
}

impl ByTime {
    pub(super) fn new(most: usize, floor: usize) -> Self {
        Self {
            most,
            floor: floor.max(1),
            costs: Costs::new(),
            phase: Phase::Free,
            trial: None,
            growth: FIRST_GROWTH,
            grown: 0,
            recent: [0; 2],
            window_end: GROWTH_WINDOW,
            doubtful: 0,
            held: None,
            goal: most,
            suspected_at: 0,
            kept: 0,
            raised: 0,
            next: 0,
            allowance: 0,
            origin: None,
        }
    }

    /// The most ops that the next batch may hold.
    pub(super) fn cap(&self) -> usize {
        match (self.phase, &self.trial) {
            (Phase::Test, Some(trial)) => trial.cap().clamp(1, self.most),
            _ => self.settled_cap(),
        }
    }

    /// The cap between comparisons.
    pub(super) fn settled_cap(&self) -> usize {
        self.held.unwrap_or(self.growth.max(self.floor)).clamp(1, self.most)
    }

    /// Whether a cap was proven.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether sizes are being compared.
    pub(super) fn is_comparing(&self) -> bool {
        self.phase == Phase::Test
    }

    /// No batch is to be larger, for other reasons.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
        if self.trial.take_if(|trial| trial.large > most).is_some() {
            self.phase = if self.held.is_some() { Phase::Held } else { Phase::Free };
        }
    }

    /// The user has set other bounds.
    pub(super) fn set_bounds(&mut self, most: usize, floor: usize) {
        self.floor = floor.max(1);
        self.held = self.held.map(|held| held.max(self.floor));
        if self.trial.take_if(|trial| trial.small < floor).is_some() {
            self.phase = if self.held.is_some() { Phase::Held } else { Phase::Free };
        }
        self.set_most(most);
    }

    /// A batch has landed as a whole.
    pub(super) fn landed(&mut self, landing: &Landing, now: Timestamp) -> Option<CapEvent> {
        let now = now.nanos_since(*self.origin.get_or_insert(now));
        // Shorter times tell of the clock and of the runtime.
        let nanos = landing.nanos.max(1_000) as f64;
        let cost = (nanos / landing.size.max(1) as f64 / landing.in_flight.max(1) as f64).ln();
        match self.phase {
            Phase::Free => self.landed_free(landing, cost, now),
            Phase::Held => self.landed_held(landing, cost, now),
            Phase::Test => return self.landed_in_test(landing, cost, now),
        }
        None
    }

    fn landed_free(&mut self, landing: &Landing, cost: f64, now: u64) {
        self.costs.observe(landing.size, cost, now);
        self.recent[0] = self.recent[0].max(landing.size);
        if now >= self.window_end {
            let recent = self.recent[0].max(self.recent[1]);
            self.growth = self.growth.min(recent.saturating_mul(4).max(FIRST_GROWTH));
            (self.recent, self.window_end) = ([0, self.recent[0]], now + GROWTH_WINDOW);
        }
        let mut suspicion = self.costs.smaller_and_cheaper(landing.size, now);
        if suspicion.is_none() && landing.size > self.growth / 4 * 3 && self.growth < self.most {
            match self.costs.is_tolerable(landing.size, now) {
                // Longer writes for no gain only keep the batcher from noticing a change.
                Tolerance::Fine if self.costs.is_flat(landing.size, now) && now < self.grown + GROWTH_WINDOW => {}
                Tolerance::Fine => {
                    (self.growth, self.grown, self.doubtful) = (self.growth.saturating_mul(2), now, 0);
                }
                Tolerance::Doubtful => self.doubtful += u32::from(landing.is_full),
                Tolerance::Unknown => {}
            }
            if self.doubtful > MAX_DOUBTFUL {
                (suspicion, self.doubtful) = (Some(landing.size / 2), 0);
            }
        }
        if let Some(small) = suspicion.filter(|_| now >= self.next) {
            // A lucky write may have made a large size look good, and small ones are compared in less time.
            let small = if self.costs.noise() > 2.0 * COARSE { small.min(landing.size / 4) } else { small };
            self.suspect(landing.size, small, now);
        }
    }

    fn landed_held(&mut self, landing: &Landing, cost: f64, now: u64) {
        let Some(held) = self.held.filter(|held| landing.is_full && landing.cap == *held) else {
            return;
        };
        self.costs.observe(landing.size, cost, now);
        self.allowance = self.allowance.saturating_add_unsigned(landing.nanos / SHARE_OF_TIME).min(MAX_ALLOWANCE);
        let suspicion = self.costs.smaller_and_cheaper(landing.size, now);
        if let Some(small) = suspicion.filter(|small| *small < held - held / 5) {
            self.suspect(held, small, now);
        } else if self.allowance > 0 {
            if self.trial.is_some() {
                self.phase = Phase::Test;
            } else if now >= self.next {
                self.probe(held, now);
            }
        }
    }

    /// Compares sizes from `small` up to `goal`, which is suspected.
    fn suspect(&mut self, goal: usize, small: usize, now: u64) {
        (self.goal, self.suspected_at) = (goal, now);
        self.climb(small, now);
    }

    fn climb(&mut self, small: usize, now: u64) {
        let small = small.max(self.floor);
        self.compare(Kind::Climb, small, small.saturating_mul(2), now);
    }

    /// Compares a held cap with a larger or a smaller one, in turn.
    fn probe(&mut self, held: usize, now: u64) {
        let noise = self.costs.noise();
        let ratio = match self.kept % 4 {
            _ if noise >= COARSE => 2.0,
            0 | 1 if self.kept >= 4 => 1.12,
            _ => 1.25,
        };
        if self.kept.is_multiple_of(2) {
            self.compare(Kind::Up, held, (held as f64 * ratio).ceil() as usize, now);
        } else {
            self.compare(Kind::Down, (held as f64 / ratio).floor() as usize, held, now);
        }
    }

    fn compare(&mut self, kind: Kind, small: usize, large: usize, now: u64) {
        let (small, large) = (small.max(self.floor), large.min(self.most));
        if small < large {
            self.phase = Phase::Test;
            self.trial = Some(Trial::new(kind, small, large, self.costs.noise(), now));
            return;
        }
        // There is no such size.
        self.trial = None;
        self.kept = self.kept.wrapping_add(1);
        self.next = now + SECOND;
        self.phase = if self.held.is_some() { Phase::Held } else { Phase::Free };
    }

    fn landed_in_test(&mut self, landing: &Landing, cost: f64, now: u64) -> Option<CapEvent> {
        let trial = self.trial.as_mut()?;
        if !landing.is_full || landing.cap != trial.cap() {
            return None;
        }
        self.costs.observe(landing.size, cost, now);
        let Group { excess, is_worse } = trial.landed(landing, cost, self.costs.noise(), now)?;
        let is_probe = trial.kind != Kind::Climb;
        if is_probe {
            self.allowance = self.allowance.saturating_sub(excess as i64).clamp(-MAX_DEBT, MAX_ALLOWANCE);
        }
        if let Some(is_worse) = is_worse {
            let trial = self.trial.take()?;
            return self.conclude(&trial, is_worse, now);
        }
        if is_probe && self.allowance <= 0 {
            self.phase = Phase::Held;
        }
        None
    }

    /// A comparison has ended: the large size is worse, or it is not.
    fn conclude(&mut self, trial: &Trial, is_worse: bool, now: u64) -> Option<CapEvent> {
        let (small_nanos, large_nanos) = trial.costs();
        let proof = Proof { small: trial.small, large: trial.large, small_nanos, large_nanos };
        self.phase = Phase::Held;
        match (trial.kind, is_worse) {
            (Kind::Climb, true) => {
                // A smaller size is tried first: it costs less than a larger one.
                (self.kept, self.raised, self.allowance, self.next) = (1, 0, FIRST_ALLOWANCE, now);
                let is_new = self.held.replace(trial.small).is_none();
                return is_new.then_some(CapEvent::Held(proof));
            }
            (Kind::Climb, false) if trial.large < self.goal.min(self.most) => self.climb(trial.large, now),
            (Kind::Climb, false) => {
                self.costs.forget_before(self.suspected_at);
                if self.held.is_some() && trial.large < self.most {
                    (self.held, self.kept, self.next) = (Some(trial.large), 0, now + SECOND);
                } else {
                    return self.release(trial, now).then_some(CapEvent::Released(proof));
                }
            }
            (Kind::Up, true) | (Kind::Down, false) => {
                (self.kept, self.raised) = (self.kept.wrapping_add(1), 0);
                let pause = (SECOND / 10) << self.kept.min(5);
                self.next = now + if self.kept < 2 { 0 } else { pause.min(MAX_INTERVAL) };
            }
            (Kind::Up, false) => {
                (self.held, self.kept, self.raised) = (Some(trial.large), 0, self.raised.saturating_add(1));
                // The steps follow each other faster while they lead up, but not at first: a level may change soon again.
                self.next = now + (MAX_INTERVAL >> self.raised.saturating_sub(3).min(4));
                if trial.large >= self.most {
                    return self.release(trial, now).then_some(CapEvent::Released(proof));
                }
            }
            (Kind::Down, true) => (self.held, self.kept, self.raised, self.next) = (Some(trial.small), 1, 0, now),
        }
        None
    }

    /// Lets the cap go: no size up to that of the trial is worse. Returns whether one was held.
    fn release(&mut self, trial: &Trial, now: u64) -> bool {
        self.phase = Phase::Free;
        self.growth = trial.large.max(FIRST_GROWTH);
        let took = now.saturating_sub(trial.began);
        self.next = now + took.saturating_mul(8).min(MAX_INTERVAL);
        self.held.take().is_some()
    }
}
