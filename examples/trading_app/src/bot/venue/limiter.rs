//! The limits of the paper venue: [`Limiter`] counts calls as they arrive, and answers those beyond a limit as a real venue
//! does, with 429 and, if calls go on coming all the same, with a ban. `venue` asks it under its lock.
//!
//! Invariant: a call counts in every limit or, if it is refused, in none. The time comes in, by the venue's clock.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::bot::settings::VenueLimits;

/// Names of the limits. The quota of the batcher has its buckets by the same names.
pub const ORDERS_10S: &str = "orders_10s";
pub const CALLS_1M: &str = "calls_1m";
pub const WEIGHT_1M: &str = "weight_1m";

const TEN_SECONDS: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// Ops of a call that weigh as much as one more call.
const OPS_PER_WEIGHT: usize = 5;

/// Weight of a call with so many ops.
pub fn weight(ops: usize) -> u64 {
    1 + (ops / OPS_PER_WEIGHT) as u64
}

/// Costs of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Orders and amends in it.
    pub orders: u64,
    /// All ops in it.
    pub ops: usize,
}

/// Why a call is refused. Both name the moment from which on calls are welcome again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 429: the call is beyond a limit, or comes in spite of such an answer.
    TooMany { until: Duration },
    /// 418: too many calls have come in spite of such answers.
    Banned { until: Duration },
}

/// Counts of the venue in its whole life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueCounts {
    /// The most that was used of each limit at once.
    pub peaks: Vec<Peak>,
    /// Calls that were answered with 429.
    pub too_many: u64,
    /// Calls that were answered with 418, during a ban.
    pub banned: u64,
    pub bans: u64,
}

/// The most that was used of a limit at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    pub name: Cow<'static, str>,
    pub used: u64,
    pub limit: u64,
}

/// Counts of the calls, against the limits.
#[derive(Debug)]
pub struct Limiter {
    orders: Limit,
    calls: Limit,
    weight: Limit,
    ignored_before_ban: u64,
    ban: Duration,
    /// The 429 that lasts longest.
    notice: Option<Notice>,
    /// Arrivals of calls in spite of a 429 within the last minute. At most `ignored_before_ban`, since a ban clears them.
    ignored: VecDeque<Duration>,
    banned_until: Option<Duration>,
    too_many: u64,
    banned: u64,
    bans: u64,
}

/// An answer with 429.
#[derive(Debug, Clone, Copy)]
struct Notice {
    /// Calls that arrive later were sent after the caller had the answer, and ignore it.
    told: Duration,
    until: Duration,
}

#[derive(Debug)]
struct Limit {
    name: &'static str,
    limit: u64,
    window: Window,
    peak: u64,
}

#[derive(Debug)]
enum Window {
    /// Arrivals and costs that count within any span of this length, the oldest first. Each costs at least one, so
    /// that there are no more of them than the limit.
    Rolling { length: Duration, charges: VecDeque<(Duration, u64)>, used: u64 },
    /// Sum of the costs within a window of the clock, which begins at a multiple of its length since 1970.
    Fixed { length: Duration, begin: Duration, used: u64 },
}

impl Limiter {
    pub fn new(limits: &VenueLimits) -> Self {
        let VenueLimits { orders_per_10s, calls_per_minute, weight_per_minute, ignored_before_ban, ban } = *limits;
        let rolling = Window::Rolling { length: TEN_SECONDS, charges: VecDeque::new(), used: 0 };
        let minute = || Window::Fixed { length: MINUTE, begin: Duration::ZERO, used: 0 };
        let limit = |name, limit, window| Limit { name, limit, window, peak: 0 };
        Self {
            orders: limit(ORDERS_10S, orders_per_10s, rolling),
            calls: limit(CALLS_1M, calls_per_minute, minute()),
            weight: limit(WEIGHT_1M, weight_per_minute, minute()),
            ignored_before_ban,
            ban,
            notice: None,
            ignored: VecDeque::new(),
            banned_until: None,
            too_many: 0,
            banned: 0,
            bans: 0,
        }
    }

    /// Counts a call that arrives now, or refuses it. A call that arrives after `told` ignores the refusal.
    pub fn admit(&mut self, call: Call, now: Duration, told: Duration) -> Result<(), Refusal> {
        self.each_mut().into_iter().for_each(|limit| limit.window.advance(now));
        self.notice = self.notice.filter(|notice| now < notice.until);
        self.banned_until = self.banned_until.filter(|until| now < *until);
        if let Some(notice) = self.notice.filter(|notice| notice.told < now) {
            self.ignore(now);
            if self.banned_until.is_none() {
                return self.refuse(notice.until, told);
            }
        }
        if let Some(until) = self.banned_until {
            self.banned += 1;
            return Err(Refusal::Banned { until });
        }
        let costs = [call.orders, 1, weight(call.ops)];
        let waits = self.each_mut().into_iter().zip(costs).filter_map(|(limit, cost)| limit.free_at(cost, now));
        if let Some(until) = waits.max() {
            return self.refuse(until, told);
        }
        self.each_mut().into_iter().zip(costs).for_each(|(limit, cost)| limit.charge(cost, now));
        Ok(())
    }

    /// Returns the use of each limit, as the headers of an answer say.
    pub fn used(&mut self, now: Duration) -> [(&'static str, u64); 3] {
        self.each_mut().map(|limit| {
            limit.window.advance(now);
            (limit.name, limit.window.used())
        })
    }

    pub fn counts(&self) -> VenueCounts {
        let Self { too_many, banned, bans, .. } = *self;
        let limits = [&self.orders, &self.calls, &self.weight];
        let peaks = limits.map(|limit| Peak { name: limit.name.into(), used: limit.peak, limit: limit.limit });
        VenueCounts { peaks: peaks.into(), too_many, banned, bans }
    }

    fn refuse(&mut self, until: Duration, told: Duration) -> Result<(), Refusal> {
        self.too_many += 1;
        let notice = self.notice.get_or_insert(Notice { told, until });
        notice.until = notice.until.max(until);
        Err(Refusal::TooMany { until })
    }

    /// Counts a call that comes in spite of a 429, and bans the caller if there are too many.
    fn ignore(&mut self, now: Duration) {
        self.ignored.push_back(now);
        while self.ignored.front().is_some_and(|at| *at + MINUTE <= now) {
            self.ignored.pop_front();
        }
        if self.ignored.len() as u64 >= self.ignored_before_ban {
            self.ignored.clear();
            self.bans += 1;
            (self.banned_until, self.notice) = (Some(now + self.ban), None);
        }
    }

    fn each_mut(&mut self) -> [&mut Limit; 3] {
        [&mut self.orders, &mut self.calls, &mut self.weight]
    }
}

impl Limit {
    /// The moment from which on so much is left; `None` if it is now. What never fits is put off by a window.
    fn free_at(&self, cost: u64, now: Duration) -> Option<Duration> {
        let over = (self.window.used() + cost).saturating_sub(self.limit);
        if cost == 0 || over == 0 {
            return None;
        }
        Some(match &self.window {
            Window::Fixed { length, begin, .. } => *begin + *length,
            Window::Rolling { length, charges, .. } => {
                let mut freed = 0;
                let freeing = charges.iter().find(|(_, cost)| {
                    freed += cost;
                    freed >= over
                });
                freeing.map_or(now, |(at, _)| *at) + *length
            }
        })
    }

    fn charge(&mut self, cost: u64, now: Duration) {
        match &mut self.window {
            Window::Fixed { used, .. } => *used += cost,
            Window::Rolling { charges, used, .. } => {
                *used += cost;
                charges.extend((cost > 0).then_some((now, cost)));
            }
        }
        self.peak = self.peak.max(self.window.used());
    }
}

impl Window {
    /// Forgets what no longer counts.
    fn advance(&mut self, now: Duration) {
        match self {
            Self::Fixed { length, begin, used } => {
                let current = Duration::from_secs(now.as_secs() / length.as_secs() * length.as_secs());
                if *begin != current {
                    (*begin, *used) = (current, 0);
                }
            }
            Self::Rolling { length, charges, used } => {
                while let Some((_, cost)) = charges.front().filter(|(at, _)| *at + *length <= now) {
                    *used -= cost;
                    charges.pop_front();
                }
            }
        }
    }

    fn used(&self) -> u64 {
        match self {
            Self::Fixed { used, .. } | Self::Rolling { used, .. } => *used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment by the clock of the venue: a minute begins at 0.
    fn at(millis: u64) -> Duration {
        MINUTE * 1000 + Duration::from_millis(millis)
    }

    fn limiter(orders: u64, calls: u64, weight: u64) -> Limiter {
        Limiter::new(&VenueLimits {
            orders_per_10s: orders,
            calls_per_minute: calls,
            weight_per_minute: weight,
            ignored_before_ban: 3,
            ban: Duration::from_secs(120),
        })
    }

    /// A call of orders alone. Its caller has the answer 10 ms later.
    fn send(limiter: &mut Limiter, orders: u64, millis: u64) -> Result<(), Refusal> {
        limiter.admit(Call { orders, ops: orders as usize }, at(millis), at(millis + 10))
    }

    fn too_many(until: u64) -> Result<(), Refusal> {
        Err(Refusal::TooMany { until: at(until) })
    }

    #[test]
    fn orders_count_for_ten_seconds_each_one_of_a_batch() {
        let mut venue = limiter(10, 100, 100);
        assert_eq!(send(&mut venue, 4, 0), Ok(()));
        assert_eq!(send(&mut venue, 6, 5_000), Ok(()));
        assert_eq!(venue.used(at(9_999))[0], (ORDERS_10S, 10));
        assert_eq!(send(&mut venue, 1, 9_999), too_many(10_000), "the first four count until then");
        assert_eq!(send(&mut venue, 4, 10_000), Ok(()));
        assert_eq!(send(&mut venue, 3, 10_020), too_many(15_000));
        assert_eq!(venue.used(at(20_000))[0], (ORDERS_10S, 0));
        assert_eq!(venue.counts().peaks[0], Peak { name: ORDERS_10S.into(), used: 10, limit: 10 });
    }

    #[test]
    fn calls_and_weight_count_to_the_end_of_the_minute() {
        let mut venue = limiter(1_000, 3, 1_000);
        for millis in [59_000, 59_100, 59_200] {
            assert_eq!(send(&mut venue, 1, millis), Ok(()));
        }
        assert_eq!(send(&mut venue, 0, 59_300), too_many(60_000));
        assert_eq!(send(&mut venue, 0, 60_000), Ok(()), "a new minute");

        let mut venue = limiter(1_000, 1_000, 6);
        assert_eq!([0, 4, 5, 20].map(weight), [1, 1, 2, 5]);
        assert_eq!(send(&mut venue, 20, 0), Ok(()));
        assert_eq!(send(&mut venue, 5, 1_000), too_many(60_000), "two more than six");
        assert_eq!(
            venue.used(at(1_000)),
            [(ORDERS_10S, 20), (CALLS_1M, 1), (WEIGHT_1M, 5)],
            "a refused call costs nothing"
        );
    }

    #[test]
    fn cancels_are_no_orders() {
        let mut venue = limiter(1, 10, 100);
        assert_eq!(send(&mut venue, 1, 0), Ok(()));
        assert_eq!(venue.admit(Call { orders: 0, ops: 20 }, at(1), at(11)), Ok(()));
        assert_eq!(venue.used(at(2)), [(ORDERS_10S, 1), (CALLS_1M, 2), (WEIGHT_1M, 6)]);
    }

    #[test]
    fn calls_in_spite_of_a_429_lead_to_a_ban() {
        let mut venue = limiter(1, 100, 100);
        assert_eq!(send(&mut venue, 1, 0), Ok(()));
        assert_eq!(send(&mut venue, 1, 100), too_many(10_000));
        // The caller has the answer 10 ms later. Calls until then do not ignore it.
        for millis in [100, 105, 110] {
            assert_eq!(send(&mut venue, 1, millis), too_many(10_000));
        }
        // Also a call that would fit is not welcome before the end.
        assert_eq!(send(&mut venue, 0, 111), too_many(10_000));
        assert_eq!(send(&mut venue, 1, 200), too_many(10_000));
        let banned = Err(Refusal::Banned { until: at(120_300) });
        assert_eq!(send(&mut venue, 1, 300), banned);
        assert_eq!(send(&mut venue, 0, 120_299), banned, "it outlasts the limit");
        assert_eq!(send(&mut venue, 1, 120_300), Ok(()));
        let counts = venue.counts();
        assert_eq!((counts.too_many, counts.banned, counts.bans), (6, 2, 1));
    }

    #[test]
    fn ignored_answers_are_forgotten_after_a_minute() {
        let mut venue = limiter(1, 100, 100);
        for minute in 0..4 {
            let start = minute * 60_000;
            assert_eq!(send(&mut venue, 1, start), Ok(()));
            assert_eq!(send(&mut venue, 1, start + 1), too_many(start + 10_000));
            assert_eq!(send(&mut venue, 1, start + 500), too_many(start + 10_000));
            assert_eq!(send(&mut venue, 1, start + 600), too_many(start + 10_000));
        }
        assert_eq!(venue.counts().bans, 0);
    }
}
