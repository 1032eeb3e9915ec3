//! [`Settings`]: all of a durable batcher that does not depend on its codec and sink, and whether it can be had. The builder fills
//! them in.

use std::{sync::Arc, time::Duration};

use super::{
    error::JoinError,
    log::rules::GHOST_AFTER,
    shared::Router,
    term::{QuotaRecipe, Recipe},
};
use crate::{
    rules::{
        config::{
            limits::{Limits, LimitsError, Overflow},
            retry::Retry,
        },
        outcome::DeadLetter,
        quota::{Predicate, Quota},
        stage::Stages,
    },
    sink::BoxSink,
};

/// How long a send waits for the log by default: many times what a slow disk takes.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How far the wall clock may be behind the newest frame, by default: more than clocks that are adjusted differ by.
const MAX_SKEW: Duration = Duration::from_secs(2);

/// How long the work of a transactional sink may take, by default: other work on the file waits for it.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long outcomes are kept by default.
const HORIZON: Duration = Duration::from_secs(3600);

/// Policy for an op in the log that the codec can't decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnUndecodable {
    /// The shard is held: nothing of it is sent until a program comes that can read it. `join` says so.
    Hold,
    /// The op is refused, and becomes a dead letter with its bytes.
    Refuse,
}

/// Makes a router for so many shards, of a recipe's stages.
pub(super) type MakeRouter<T> = Box<dyn FnOnce(Stages<T>) -> Option<Router<T>> + Send>;

/// The settings that do not depend on codec and sink.
pub(super) struct Settings<T> {
    pub(super) name: Arc<str>,
    pub(super) recipe: Recipe<T>,
    pub(super) shards: u16,
    pub(super) router: Option<MakeRouter<T>>,
    pub(super) shard_key: &'static str,
    pub(super) limits: Limits,
    pub(super) retry: Retry,
    pub(super) quota: Option<QuotaRecipe<T>>,
    pub(super) letters: Option<BoxSink<DeadLetter<T>>>,
    pub(super) append_timeout: Duration,
    pub(super) transaction_timeout: Duration,
    pub(super) max_skew: Duration,
    pub(super) horizon: Duration,
    pub(super) on_undecodable: Option<OnUndecodable>,
}

impl<T: 'static> Settings<T> {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            recipe: Arc::new(Stages::new),
            shards: 1,
            router: None,
            shard_key: "key",
            limits: Limits::default(),
            retry: Retry::default(),
            quota: None,
            letters: None,
            append_timeout: APPEND_TIMEOUT,
            transaction_timeout: TRANSACTION_TIMEOUT,
            max_skew: MAX_SKEW,
            horizon: HORIZON,
            on_undecodable: None,
        }
    }

    /// Whether the settings can be had with a log.
    pub(super) fn check(&self, stages: &Stages<T>) -> Result<(), JoinError> {
        stages.check(&self.limits)?;
        let invalid = |field, problem: &str| Err(LimitsError::new(field, problem).into());
        if self.limits.overflow.evicts() || !matches!(self.limits.overflow, Overflow::Wait | Overflow::Reject) {
            return invalid("overflow", "may not evict what has been accepted into a log");
        }
        if stages.dedup.is_some() {
            return invalid("dedup_by", "is what ids are for in a log: see send_as");
        }
        if stages.expiry.is_some() && !stages.expires_at {
            return invalid("expire_by", "names an instant, which no log can carry: use expire_at");
        }
        if self.append_timeout.is_zero() || self.append_timeout > GHOST_AFTER / 10 {
            return invalid("append_timeout", "must be longer than zero and 6 minutes at most");
        }
        if self.transaction_timeout.is_zero() {
            return invalid("transaction_timeout", "must be longer than zero");
        }
        if self.shards == 0 {
            return invalid("shards", "must be at least 1");
        }
        let quota = self.quota_of_shard();
        Ok(quota.map_or(Ok(()), |quota| quota.check(stages.partition.is_some()))?)
    }

    /// Tells whether an op costs more than the quota ever allows, and which of its buckets are divided among the shards.
    pub(super) fn quota_facts(&self) -> (Option<Predicate<T>>, Vec<bool>) {
        let quota = self.quota_of_shard();
        let divided = quota.as_ref().map(Quota::are_divided).unwrap_or_default();
        (quota.and_then(|quota| quota.exceeds_limit()), divided)
    }

    fn quota_of_shard(&self) -> Option<Quota<T>> {
        self.quota.as_ref().map(|quota| quota().share(self.shards))
    }
}
