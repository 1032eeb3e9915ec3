//! [`Budget`]: a running quota. The accumulator asks it for each op of a batch, and tells it how each batch ended.
//!
//! Invariant: what a batch costs is charged in every bucket or in none, and before the batch leaves.

use std::{any::Any, time::Duration};

#[cfg(feature = "durable")]
use super::kept::KeptDraw;
use super::{
    Predicate, Quota, Source,
    account::{Account, Saving},
    held::HeldTime,
    report::{Report, Reports},
    window::Refusal,
};
use crate::rules::{
    panics,
    stats::{QuotaStats, Times},
    time::Timestamp,
};

pub(crate) struct Budget<T> {
    accounts: Vec<Account<T>>,
    matters: Option<Predicate<T>>,
    held: HeldTime,
    /// No op at all can be cut before this moment.
    closed_until: Option<Timestamp>,
    /// The bucket that was saved for the batch that is being drawn for, and is not any more.
    unsaved: Option<usize>,
    /// Partition and rank of the batch that is being drawn for.
    batch: (u32, u128),
    /// When an op was last drawn for, or a batch settled.
    seen: Timestamp,
    /// The end of the pause that the venue asked for last.
    paused_until: Option<Timestamp>,
}

/// A window that a batch was charged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    account: usize,
    window: u32,
    cost: u64,
}

impl Charge {
    fn is_of(&self, account: usize, window: u32) -> bool {
        (self.account, self.window) == (account, window)
    }
}

/// Answer on one op.
#[derive(Debug)]
pub(crate) enum Drawn {
    /// The op is charged.
    Charged,
    /// The op is not charged, since it would make its call too expensive. It may go with the next one.
    Full,
    /// The op is not charged, and is worth asking for again then.
    Later(Timestamp),
    /// The op costs more than a limit; the text says so.
    Never(String),
    /// A function of the user panicked.
    Panicked(Box<dyn Any + Send>),
}

impl<T> Budget<T> {
    pub(super) fn new(quota: Quota<T>, unix: Duration, now: Timestamp) -> Self {
        let Quota { buckets, costs, reserve, matters, .. } = quota;
        let accounts = buckets.into_iter().map(|(name, source): (_, Source<T>)| {
            let cost = costs.iter().find(|(of, _)| *of == name).map(|(_, cost)| cost.clone());
            Account::new(name, source, cost, reserve, unix, now)
        });
        let accounts = accounts.collect();
        Self {
            accounts,
            matters,
            held: HeldTime::default(),
            closed_until: None,
            unsaved: None,
            batch: (0, 0),
            seen: now,
            paused_until: None,
        }
    }

    /// Whether nothing is left for any op. Asked when a batch is due.
    pub(crate) fn is_closed(&mut self, now: Timestamp) -> bool {
        let before = self.closed_until;
        if before.is_some_and(|until| now < until) {
            return true;
        }
        let has_reserve = self.matters.is_some();
        let closed = self.accounts.iter_mut().find_map(|account| {
            let until = account.closed_until(has_reserve, now)?;
            Some((account, until))
        });
        self.closed_until = closed.map(|(account, until)| {
            account.waited += u64::from(self.held.begin(now));
            until
        });
        if self.closed_until.is_none() {
            // Time in which nothing was due does not count.
            self.held.end(before.map_or(now, |until| until.min(now)));
        }
        self.closed_until.is_some()
    }

    /// When to ask again, if nothing was left for any op when it was last asked.
    pub(crate) fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.closed_until.filter(|until| now < *until)
    }

    /// Begins a batch of a partition. `rank` says where it stands among all that are due; less for what goes first.
    pub(crate) fn begin(&mut self, partition: u32, rank: u128, now: Timestamp) {
        (self.batch, self.seen) = ((partition, rank), now);
        self.accounts.iter_mut().for_each(|account| account.sweep(now));
        self.unsave(partition, now);
    }

    /// Saves nothing for a partition any more, nor for any whose time has come.
    fn unsave(&mut self, partition: u32, now: Timestamp) {
        self.unsaved = None;
        for (at, account) in self.accounts.iter_mut().enumerate() {
            let is_over = |saving: &mut Saving| saving.partition == partition || saving.until <= now;
            if account.saving.take_if(is_over).is_some_and(|saving| now < saving.until) {
                self.unsaved = Some(at);
            }
        }
    }

    /// Nothing waits in a partition any more. Returns whether partitions that were held up for it may go.
    pub(crate) fn emptied(&mut self, partition: u32, now: Timestamp) -> bool {
        if self.accounts.iter().all(|account| account.saving.is_none()) {
            return false;
        }
        self.unsave(partition, now);
        self.unsaved.is_some()
    }

    /// Whether a batch that has left was saved for, so that partitions that were held up for it may go.
    pub(crate) fn was_saved_for(&mut self) -> bool {
        self.unsaved.take().is_some()
    }

    /// Charges an op as number `ops` of the batch, in all buckets or in none.
    pub(crate) fn draw(&mut self, op: &T, ops: usize, charges: &mut Vec<Charge>, now: Timestamp) -> Drawn {
        let Self { accounts, matters, .. } = self;
        let asked = panics::catch(|| {
            accounts.iter_mut().for_each(|account| account.want(op, ops, now));
            matters.as_ref().is_some_and(|matters| matters(op))
        });
        let matters = match asked {
            Ok(matters) => matters,
            Err(panic) => return Drawn::Panicked(panic),
        };
        let has_reserve = self.matters.is_some();
        let (partition, rank) = self.batch;
        let before = charges.len();
        for at in 0..self.accounts.len() {
            let account = &mut self.accounts[at];
            if !account.is_wanted() {
                continue;
            }
            let saved_for = account.saving.filter(|saving| saving.rank < rank && !matters);
            let (window, cost) = (account.slot(), account.wanted_cost());
            let charged = charges[..before].iter().position(|charge| charge.is_of(at, window));
            let departs = charged.is_none();
            let drawn = match saved_for {
                Some(saving) => Err(Refusal::Until(saving.until)),
                None => account.draw(matters, has_reserve, departs, now),
            };
            match drawn {
                Ok(()) => match charged {
                    Some(charged) => charges[charged].cost += cost,
                    None => charges.push(Charge { account: at, window, cost }),
                },
                Err(refusal) => {
                    account.waited += 1;
                    let answer = match refusal {
                        Refusal::Until(until) => {
                            let saves = ops == 0 && saved_for.is_none() && !account.is_keyed();
                            if saves && account.saving.is_none_or(|saving| rank < saving.rank) {
                                account.saving = Some(Saving { partition, rank, until });
                                self.unsaved.take_if(|unsaved| *unsaved == at);
                            }
                            Drawn::Later(until)
                        }
                        Refusal::Never { .. } if ops > 0 => Drawn::Full,
                        Refusal::Never { limit } => Drawn::Never(account.refusal_text(limit)),
                    };
                    self.undo(at, charges, before);
                    return answer;
                }
            }
        }
        Drawn::Charged
    }

    /// Takes back what was drawn in the first accounts for an op that is not sent.
    fn undo(&mut self, accounts: usize, charges: &mut Vec<Charge>, before: usize) {
        for (at, account) in self.accounts[..accounts].iter_mut().enumerate().filter(|(_, account)| account.is_wanted())
        {
            account.undo(charges[before..].iter().any(|charge| charge.account == at));
            if let Some(charge) = charges[..before].iter_mut().find(|charge| charge.is_of(at, account.slot())) {
                charge.cost -= account.wanted_cost();
            }
        }
        charges.truncate(before);
    }

    /// Notes that a batch, sent at `sent`, has come back with what the venue reported. Returns the name of a bucket that does
    /// not exist, if one was reported on.
    pub(crate) fn returned(
        &mut self,
        charges: &mut Vec<Charge>,
        reports: &mut Reports,
        sent: Timestamp,
        now: Timestamp,
    ) -> Option<Box<str>> {
        self.seen = now;
        let mut unknown = None;
        for report in reports.drain() {
            self.closed_until = None;
            match self.accounts.iter().position(|account| account.name() == &*report.bucket) {
                Some(at) => self.correct(at, &report, charges, sent, now),
                None => unknown = Some(report.bucket),
            }
        }
        for Charge { account, window, .. } in charges.drain(..) {
            self.accounts[account].returned(window);
        }
        unknown
    }

    fn correct(&mut self, at: usize, report: &Report, charges: &[Charge], sent: Timestamp, now: Timestamp) {
        let account = &mut self.accounts[at];
        account.corrections += 1;
        if let Some(limit) = report.limit {
            account.set_limit(limit);
        }
        if let Some(used) = report.used {
            let charged = charges.iter().filter(|charge| charge.account == at);
            account.correct(used, charged.map(|charge| charge.window), sent, now);
        }
    }

    /// Draws of a batch, as a log keeps them. Buckets that are shared with other batchers are left out.
    #[cfg(feature = "durable")]
    pub(crate) fn draws<'a>(&'a self, charges: &'a [Charge], now: Timestamp) -> impl Iterator<Item = KeptDraw> + 'a {
        charges
            .iter()
            .filter_map(move |charge| self.accounts[charge.account].kept_draw(charge.window, charge.cost, now))
    }

    /// Takes over what an earlier process has drawn, in the order in which it was. Nothing has been drawn yet.
    #[cfg(feature = "durable")]
    pub(crate) fn carry(&mut self, draw: &KeptDraw, now: Timestamp) {
        // A bucket that the quota has no more does not count.
        if let Some(account) = self.accounts.iter_mut().find(|account| account.name() == &*draw.bucket) {
            account.carry(draw, now);
        }
    }

    /// Whether the cost of an op may change when a newer one is merged into it.
    pub(crate) fn has_costs(&self) -> bool {
        self.accounts.iter().any(Account::has_cost)
    }

    /// Notes a pause that the venue asked for, by one answer on a batch or by one on each of its ops.
    pub(crate) fn throttled(&mut self, until: Timestamp) {
        if self.paused_until.replace(until) == Some(until) {
            return;
        }
        self.accounts.iter_mut().for_each(|account| account.throttle(until));
        self.closed_until = None;
    }

    /// Nanoseconds since `from` in which nothing passed.
    pub(crate) fn held_since(&self, from: Timestamp, now: Timestamp) -> u64 {
        self.held.since(from, now)
    }

    /// Use of each bucket, as of when an op was last drawn for or settled.
    pub(crate) fn stats(&self, time: Times) -> QuotaStats {
        let now = self.seen;
        QuotaStats::new(self.accounts.iter().map(|account| account.stats(now)).collect(), time)
    }
}
