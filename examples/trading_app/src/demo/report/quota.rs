//! [`QuotaUse`]: what the orders batcher used of the venue's limits, how long its ops waited for them, and what the venue
//! answered to calls beyond them. `notes` puts it into words.

use std::{borrow::Cow, fmt};

use roundlot::Stats;
use serde::Serialize;

use crate::{
    bot::venue::{Peak, VenueCounts},
    demo::format,
};

#[derive(Debug, Serialize)]
pub struct QuotaUse {
    pub buckets: Vec<BucketUse>,
    /// Time that ops waited for the quota: the mean over all ops that were sent, and the maximum.
    pub mean_seconds: f64,
    pub max_seconds: f64,
    /// Upper bound of the ops that were never sent because of the quota: number that were conflated, netted or expired after a
    /// wait in which it held some batch back. Some of them would have ended so without a quota, too.
    pub unsent_at_most: u64,
    /// Calls that the venue answered with 429.
    pub too_many: u64,
    /// Calls that the venue answered with 418, and the bans.
    pub banned: u64,
    pub bans: u64,
}

/// The use of one limit.
#[derive(Debug, Serialize)]
pub struct BucketUse {
    pub name: Cow<'static, str>,
    /// The most that the venue counted at once, and what it allows.
    pub peak: u64,
    pub limit: u64,
    /// Times that the quota trimmed a batch or held it back, since too little was left here. A batch that is held back is
    /// asked for again and again.
    pub refusals: u64,
}

impl QuotaUse {
    /// `None` for a venue without limits.
    pub fn new(counts: Option<VenueCounts>, orders: &Stats, unsent_at_most: u64) -> Option<Self> {
        let VenueCounts { peaks, too_many, banned, bans } = counts?;
        let refusals = |name: &str| orders.quota.get(name).map_or(0, |bucket| bucket.waited);
        let buckets = peaks.into_iter().map(|Peak { name, used, limit }| {
            let refusals = refusals(&name);
            BucketUse { name, peak: used, limit, refusals }
        });
        let time = orders.quota.time();
        let [mean_seconds, max_seconds] = [time.mean, time.max].map(|time| time.as_secs_f64());
        let buckets = buckets.collect();
        Some(Self { buckets, mean_seconds, max_seconds, unsent_at_most, too_many, banned, bans })
    }
}

impl fmt::Display for QuotaUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut title = "quota";
        for BucketUse { name, peak, limit, refusals } in &self.buckets {
            let (share, refusals) = (format::percent(*peak, *limit), format::count(*refusals));
            let [peak, limit] = [*peak, *limit].map(format::count);
            writeln!(f, "{title:<10} {name:<10} {peak:>7} of {limit:>7} at most ({share}), {refusals} refusals")?;
            title = "";
        }
        let [mean, max] = [self.mean_seconds, self.max_seconds].map(format::seconds);
        let unsent = format::count(self.unsent_at_most);
        writeln!(f, "           ops that were sent waited {mean} for it on average, {max} at most;")?;
        writeln!(f, "           at most {unsent} were never sent because of it: that many were")?;
        writeln!(f, "           conflated, netted or expired after it had held some batch back;")?;
        let [too_many, banned, bans] = [self.too_many, self.banned, self.bans].map(format::count);
        writeln!(f, "           the venue answered {too_many} calls with 429, and {banned} in {bans} bans")
    }
}
