//! The leases of shards in [`Members`]: which this process has, which it may take, and which it wants from another one. Leaders ask for
//! them, and the heartbeat does what is found here. No call waits.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Mark, Members, State, notices::Notice};
use crate::durable::{
    error::JoinError,
    log::lead::{Lead, Membership, preferred},
};

/// The lease by default: long enough for a pause of a process or its network that is no crash.
pub(crate) const DEFAULT_LEASE: Duration = Duration::from_secs(3);

/// The shortest lease: below it, the scheduling of a busy machine looks like death.
const MIN_LEASE: Duration = Duration::from_millis(200);

/// The longest lease. A leader that dies is not replaced before it is over.
const MAX_LEASE: Duration = Duration::from_secs(60);

/// Refuses a lease that is too short or too long.
pub(crate) fn check_lease(lease: Duration) -> Result<(), JoinError> {
    match (MIN_LEASE..=MAX_LEASE).contains(&lease) {
        true => Ok(()),
        false => Err(JoinError::Open(format!("a lease is from {MIN_LEASE:?} to {MAX_LEASE:?}, not {lease:?}"))),
    }
}

/// How long a process must have been the one to lead a shard before it wants it from the one that does. It says so again after as long.
const WANTED_AFTER: Duration = Duration::from_secs(1);

/// How long after the last request for it a lease is still taken. Followers ask each 50 ms, and not while they are unable to lead.
const ASKED_FOR: Duration = Duration::from_millis(500);

/// How long a lease that was taken may wait for its leader before it is free again.
const FETCHED_AFTER: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Shard {
    /// The process that has the lease; 0 if it is free, and `None` if that is not known.
    pub(super) holder: Option<u64>,
    pub(super) own: Own,
    /// When a leader of this process last asked for the lease.
    pub(super) asked_at: Option<Instant>,
    /// Since when the lease could be taken, and is another process's to have.
    pub(super) free_since: Option<Instant>,
    /// Since when another process has it and it is this one's, or when that was last said.
    pub(super) wanted_since: Option<Instant>,
    /// How far it had come at the last read.
    pub(super) mark: Mark,
}

/// The lease of a shard in this process.
#[derive(Default)]
pub(super) enum Own {
    #[default]
    None,
    /// Taken, and not fetched.
    Taken(Instant),
    /// A leader has it.
    Lent(CancellationToken),
    /// A leader has dropped it, and the table does not say so yet.
    Freeing,
}

impl Shard {
    /// Another process has the lease, or `me`, or none.
    pub(super) fn set_holder(&mut self, holder: u64, me: u64) {
        self.holder = Some(holder);
        if holder != me {
            match &self.own {
                // Its term ends by the fence at the next commit, whatever it does.
                Own::Lent(asked_back) => asked_back.cancel(),
                Own::Taken(_) => self.own = Own::None,
                Own::None | Own::Freeing => {}
            }
        }
    }

    /// Whether a leader of this process wants it.
    fn is_asked_for(&self, now: Instant) -> bool {
        self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < ASKED_FOR)
    }
}

/// A lease that may be taken: from whom, and that process's revision if it is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) shard: u16,
    pub(crate) holder: u64,
    pub(crate) revision: Option<u64>,
}

impl Members {
    /// How long a lease may be free before a process takes it that is not the one to do so.
    fn spare_after(&self) -> Duration {
        self.lease / 4
    }

    /// Takes the lead of a shard, if this process has its lease. If not, the heartbeat is asked to take that.
    pub(crate) fn try_lead(self: &Arc<Self>, shard: u16) -> Option<Lead> {
        let now = Instant::now();
        let mut state = self.state();
        if state.is_removed {
            return None;
        }
        let of_shard = state.shards.get_mut(usize::from(shard))?;
        match of_shard.own {
            Own::Taken(_) => {
                let asked_back = CancellationToken::new();
                of_shard.own = Own::Lent(asked_back.clone());
                return Some(Lead::new(asked_back, Held { members: Arc::clone(self), shard }));
            }
            Own::Lent(_) | Own::Freeing => return None,
            Own::None => of_shard.asked_at = Some(now),
        }
        let is_others = self.is_others(&state, shard);
        let may_take = self.may_take(&mut state, shard, now).is_some();
        let wants = self.wants(&mut state, shard, is_others, now);
        if may_take || wants {
            self.wake.notify_one();
        }
        None
    }

    /// The lease of a shard, if it can be taken and this process is the one to do so.
    fn may_take(&self, state: &mut State, shard: u16, now: Instant) -> Option<Wanted> {
        let is_others = self.is_others(state, shard);
        let State { liveness, shards, .. } = state;
        let of_shard = shards.get_mut(usize::from(shard))?;
        let holder = of_shard.holder?;
        let revision = liveness.dead(holder);
        let is_gone = !liveness.has(holder) || revision.is_some();
        // This process may have taken it by a request whose answer was lost.
        if holder != self.me && !is_gone {
            of_shard.free_since = None;
            return None;
        }
        let since = *of_shard.free_since.get_or_insert(now);
        let waits = is_others && holder != self.me && now.saturating_duration_since(since) < self.spare_after();
        (!waits).then_some(Wanted { shard, holder, revision })
    }

    /// Whether another process should lead a shard.
    fn is_others(&self, state: &State, shard: u16) -> bool {
        let member = |producer| Membership { log: self.log, producer };
        let alive: Vec<_> = state.liveness.alive().map(member).collect();
        preferred(&alive, shard).is_some_and(|preferred| preferred != member(self.me))
    }

    /// Whether a process that is alive has the lease, which is this one's to have, and is to be told now.
    fn wants(&self, state: &mut State, shard: u16, is_others: bool, now: Instant) -> bool {
        let State { liveness, shards, notices, .. } = state;
        let Some(of_shard) = shards.get_mut(usize::from(shard)) else { return false };
        let is_held = of_shard.holder.is_some_and(|holder| holder != self.me && liveness.has(holder));
        if is_others || !is_held {
            of_shard.wanted_since = None;
            return false;
        }
        let since = of_shard.wanted_since.get_or_insert(now);
        if now.saturating_duration_since(*since) < WANTED_AFTER {
            return false;
        }
        *since = now;
        notices.insert((Notice::Wanted, shard))
    }

    /// The leaders of this process are about to ask for each shard.
    pub(crate) fn ask_for_all(&self) {
        let now = Instant::now();
        self.state().shards.iter_mut().for_each(|shard| shard.asked_at = Some(now));
    }

    /// Leases that leaders of this process have asked for and that can be taken.
    pub(crate) fn to_take(&self) -> Vec<Wanted> {
        let now = Instant::now();
        let mut state = self.state();
        let is_asked = |shard: &Shard| shard.is_asked_for(now) && matches!(shard.own, Own::None);
        let asked: Vec<u16> = (0..).zip(&state.shards).filter(|(_, shard)| is_asked(shard)).map(|(i, _)| i).collect();
        asked.into_iter().filter_map(|shard| self.may_take(&mut state, shard, now)).collect()
    }

    /// A lease was taken, or another process has changed it meanwhile.
    pub(crate) fn took(&self, shard: u16, is_taken: bool) {
        if let Some(of_shard) = self.state().shards.get_mut(usize::from(shard)) {
            of_shard.free_since = None;
            of_shard.holder = is_taken.then_some(self.me);
            if is_taken {
                of_shard.own = Own::Taken(Instant::now());
            }
        }
        self.changed(shard);
    }

    /// Leases that are to be given up.
    pub(crate) fn to_free(&self, all: bool) -> Vec<u16> {
        let mut state = self.state();
        let now = Instant::now();
        for of_shard in &mut state.shards {
            let is_left = match of_shard.own {
                Own::Taken(at) => now.saturating_duration_since(at) >= FETCHED_AFTER,
                // Taken by a request whose answer was lost, and wanted no more.
                Own::None => of_shard.holder == Some(self.me) && !of_shard.is_asked_for(now),
                Own::Lent(_) | Own::Freeing => false,
            };
            if is_left || (all && !matches!(of_shard.own, Own::None)) {
                of_shard.own = Own::Freeing;
            }
        }
        let is_freeing = |shard: &Shard| matches!(shard.own, Own::Freeing);
        (0..).zip(&state.shards).filter(|(_, shard)| is_freeing(shard)).map(|(i, _)| i).collect()
    }

    /// Leases were given up.
    pub(crate) fn freed(&self, shards: &[u16]) {
        let mut state = self.state();
        for shard in shards {
            if let Some(of_shard) = state.shards.get_mut(usize::from(*shard)) {
                (of_shard.own, of_shard.holder) = (Own::None, Some(0));
                (of_shard.free_since, of_shard.asked_at) = (None, None);
            }
            state.notices.insert((Notice::Freed, *shard));
        }
    }

    /// Another process wants a shard.
    pub(super) fn give(&self, shard: u16) {
        let state = self.state();
        if self.is_others(&state, shard)
            && let Some(Shard { own: Own::Lent(asked_back), .. }) = state.shards.get(usize::from(shard))
        {
            asked_back.cancel();
        }
    }
}

/// The lease of a shard that this process leads.
struct Held {
    members: Arc<Members>,
    shard: u16,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(of_shard) = self.members.state().shards.get_mut(usize::from(self.shard)) {
            of_shard.own = Own::Freeing;
        }
        self.members.wake.notify_one();
    }
}
