//! The quota of a shard: its leader begins with what earlier terms have drawn, and tells the log what each batch draws, with the
//! intent or the transaction of the batch.

use std::sync::Arc;

use super::{positions::Token, running::Running};
use crate::{
    driver::clock,
    durable::log::{local::nanos, store::ChargeRow},
    rules::{
        accumulator::Cut,
        quota::{Budget, Quota, kept::KeptDraw},
        time::Timestamp,
    },
    sink::Sink,
};

/// The recipe of the quota, called once per term.
pub(crate) type QuotaRecipe<T> = Arc<dyn Fn() -> Quota<T> + Send + Sync>;

/// A quota that begins with what was drawn. `wall` is the log's clock, in nanoseconds since 1970.
pub(super) fn begin<T>(quota: Quota<T>, mut charges: Vec<ChargeRow>, wall: u64) -> Budget<T> {
    let now = clock::now();
    let mut budget = quota.start(std::time::Duration::from_nanos(wall), now);
    charges.sort_by_key(|row| row.at);
    for ChargeRow { bucket, key, grain, at, cost, expires } in charges {
        let expires = timestamp(expires, wall, now);
        if expires > now {
            budget.carry(&KeptDraw { bucket, key, at: timestamp(at, wall, now), cost, expires, grain }, now);
        }
    }
    budget
}

/// The runtime's time at a time of the wall clock.
fn timestamp(at: u64, wall: u64, now: Timestamp) -> Timestamp {
    match at.checked_sub(wall) {
        Some(ahead) => now.plus_nanos(ahead),
        None => Timestamp::from_nanos(now.nanos().saturating_sub(wall - at)),
    }
}

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Rows of what a batch has drawn.
    pub(super) fn charges_of(&self, cut: &Cut<T, R, Token>) -> Vec<ChargeRow> {
        let now = clock::now();
        let draws = self.accumulator.draws(cut, now);
        if draws.is_empty() {
            return Vec::new();
        }
        let wall = nanos(self.leader.shared.log.now());
        let row = |KeptDraw { bucket, key, at, cost, expires, grain }| {
            let at = wall - now.nanos_since(at).min(wall);
            let expires = wall.saturating_add(expires.nanos_since(now));
            ChargeRow { bucket, key, grain: at / grain, at, cost, expires }
        };
        draws.into_iter().map(row).collect()
    }
}
