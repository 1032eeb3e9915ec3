//! [`ShardQuota`]: the use of a quota by one shard, over all of its terms. The leader of the shard writes it each turn; statistics of
//! the whole batcher add the shards up.

use crate::rules::stats::{BucketStats, QuotaStats, Times};

/// Statistics of a quota, and how many ops their times are of.
#[derive(Debug, Clone, Default)]
struct Timed {
    quota: QuotaStats,
    ops: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ShardQuota {
    /// Counts of the term that runs, or of the last one.
    term: Timed,
    /// Counts of all terms before it.
    before: Timed,
}

impl ShardQuota {
    /// A term begins, which counts from zero.
    pub(crate) fn begin(&mut self) {
        let term = std::mem::take(&mut self.term);
        self.before = std::mem::take(&mut self.before).plus(term, later);
    }

    /// How things stand in this term: `ops` are those of which the time is known.
    pub(crate) fn set(&mut self, quota: QuotaStats, ops: u64) {
        self.term = Timed { quota, ops };
    }

    /// Adds the shards up. `is_divided` tells of each bucket whether each shard has a part of its limit.
    pub(crate) fn sum(shards: impl Iterator<Item = Self>, is_divided: &[bool]) -> QuotaStats {
        let of_shards = shards.map(|Self { term, before }| before.plus(term, later));
        let add = |i: usize, one: &BucketStats, other: &BucketStats| match is_divided.get(i) {
            Some(true) => (one.used + other.used, one.limit + other.limit),
            // A key is in one shard, and each of them knows all of a bucket that is shared with other batchers.
            _ => (one.used.max(other.used), one.limit.max(other.limit)),
        };
        of_shards.fold(Timed::default(), |sum, shard| sum.plus(shard, add)).quota
    }
}

/// The use of a bucket by two terms: the later one knows it.
fn later(_: usize, _: &BucketStats, later: &BucketStats) -> (u64, u64) {
    (later.used, later.limit)
}

impl Timed {
    /// Adds counts and times; `used` tells use and limit of a bucket.
    fn plus(self, other: Self, used: impl Fn(usize, &BucketStats, &BucketStats) -> (u64, u64)) -> Self {
        if self.quota.is_empty() {
            return other;
        }
        if other.quota.is_empty() {
            return self;
        }
        let buckets = self.quota.iter().zip(&other.quota).enumerate().map(|(i, (one, other))| {
            let (used, limit) = used(i, one, other);
            BucketStats {
                name: one.name.clone(),
                used,
                limit,
                waited: one.waited + other.waited,
                corrections: one.corrections + other.corrections,
                throttled: one.throttled + other.throttled,
            }
        });
        let ops = self.ops + other.ops;
        let (one, two) = (self.quota.time(), other.quota.time());
        let nanos = one.mean.as_nanos() * u128::from(self.ops) + two.mean.as_nanos() * u128::from(other.ops);
        let mean = u64::try_from(nanos.checked_div(u128::from(ops)).unwrap_or(0)).unwrap_or(u64::MAX);
        let time = Times { mean: std::time::Duration::from_nanos(mean), max: one.max.max(two.max) };
        Self { quota: QuotaStats::new(buckets.collect(), time), ops }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stats(used: u64, limit: u64, waited: u64, mean: u64) -> QuotaStats {
        let bucket = |name: &str| BucketStats { name: name.into(), used, limit, waited, corrections: 1, throttled: 2 };
        let time = Times { mean: Duration::from_nanos(mean), max: Duration::from_nanos(2 * mean) };
        QuotaStats::new(vec![bucket("divided"), bucket("keyed")], time)
    }

    /// Goal: counts add up over terms and shards, use and limit as the bucket says. Method: two terms of one shard, and another shard.
    #[test]
    fn shards_and_terms_add_up() {
        let (mut first, mut second) = (ShardQuota::default(), ShardQuota::default());
        first.begin();
        first.set(stats(9, 10, 4, 100), 3);
        first.set(stats(10, 10, 5, 100), 3);
        first.begin();
        assert_eq!(ShardQuota::sum([first.clone()].into_iter(), &[true, false]), stats(10, 10, 5, 100));
        first.set(stats(2, 10, 1, 500), 1);
        second.begin();
        second.set(stats(7, 10, 2, 0), 4);
        let sum = ShardQuota::sum([first, second].into_iter(), &[true, false]);
        let divided = &sum["divided"];
        assert_eq!((divided.used, divided.limit, divided.waited), (9, 20, 8));
        assert_eq!((divided.corrections, divided.throttled), (3, 6));
        let keyed = &sum["keyed"];
        assert_eq!((keyed.used, keyed.limit, keyed.waited), (7, 10, 8));
        assert_eq!((sum.time().mean, sum.time().max), (Duration::from_nanos(100), Duration::from_nanos(1000)));
        assert!(ShardQuota::sum(std::iter::empty(), &[]).is_empty());
    }
}
