//! [`Liveness`]: which members of a log are dead, as far as this process has observed. A member's revision goes up four times per lease.
//! It is dead when reads that followed each other without a gap have seen the same revision for a whole lease: its own or this
//! process's, whichever is longer. **Silence that was not observed is no silence**: a read that fails or is late begins the
//! observation anew. The heartbeat feeds it, by its own monotonic clock.
//!
//! What a read shows was true at some moment between its sending and its answer. So silence lasts from the answer of the first read to
//! the sending of the last, and a gap from an answer to the next sending: a slow server makes deaths be noticed later, and no less.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Liveness {
    lease: Duration,
    /// When the last read was sent and answered. `None` if the last one failed.
    last: Option<Exchange>,
    members: BTreeMap<u64, Seen>,
}

/// When a read was sent, and when it was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    /// The longer one of the member's lease and this process's.
    lease: Duration,
    /// When the read was answered that has first seen this revision, of those that followed each other.
    since: Instant,
}

impl Liveness {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, last: None, members: BTreeMap::new() }
    }

    /// The longest time from the answer of a read to the sending of one that follows it.
    fn longest_gap(&self) -> Duration {
        self.lease / 3
    }

    /// A read was answered: all members with their revisions and leases.
    pub(super) fn read(&mut self, exchange: Exchange, members: impl IntoIterator<Item = (u64, u64, Duration)>) {
        let gap = |last: Exchange| exchange.sent.saturating_duration_since(last.answered);
        let follows = self.last.is_some_and(|last| gap(last) <= self.longest_gap());
        let before = std::mem::take(&mut self.members);
        let seen = |(producer, revision, lease): (u64, u64, Duration)| {
            let known = before.get(&producer).filter(|seen| follows && seen.revision == revision);
            let since = known.map_or(exchange.answered, |seen| seen.since);
            (producer, Seen { revision, lease: lease.max(self.lease), since })
        };
        self.members = members.into_iter().map(seen).collect();
        self.last = Some(exchange);
    }

    /// Whether the last read was answered.
    pub(super) fn is_observing(&self) -> bool {
        self.last.is_some()
    }

    /// A read has failed.
    pub(super) fn failed(&mut self) {
        self.last = None;
    }

    /// The revision of a member that is dead.
    pub(super) fn dead(&self, producer: u64) -> Option<u64> {
        let seen = self.members.get(&producer)?;
        let observed = self.last?.sent.saturating_duration_since(seen.since);
        (observed >= seen.lease).then_some(seen.revision)
    }

    /// Whether a member was there at the last read that was answered.
    pub(super) fn has(&self, producer: u64) -> bool {
        self.members.contains_key(&producer)
    }

    /// All members, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.members.keys().copied()
    }

    /// Members that are not dead, in order.
    pub(super) fn alive(&self) -> impl Iterator<Item = u64> {
        self.all().filter(|producer| self.dead(*producer).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1200);

    /// The silence after reads that are answered at once, each at a time in milliseconds, with the revision of member 7. No revision
    /// is a read that fails.
    fn after(reads: &[(u64, Option<u64>)]) -> Liveness {
        after_slow(0, LEASE, reads)
    }

    /// The same with reads that take so many milliseconds, and with the lease of member 7.
    fn after_slow(takes: u64, lease: Duration, reads: &[(u64, Option<u64>)]) -> Liveness {
        let (start, mut liveness) = (Instant::now(), Liveness::new(LEASE));
        for (at, revision) in reads {
            let sent = start + Duration::from_millis(*at);
            let exchange = Exchange { sent, answered: sent + Duration::from_millis(takes) };
            match revision {
                Some(revision) => liveness.read(exchange, [(7, *revision, lease), (8, at + 1, LEASE)]),
                None => liveness.failed(),
            }
        }
        liveness
    }

    /// Goal: death is noticed however long reads take, and a lease after the first one was answered. Method: reads that take most of the
    /// time between them.
    #[test]
    fn slow_reads_observe_silence() {
        for takes in [0, 100, 290] {
            let reads = |count| (0..count).map(|i| (i * 300, Some(5))).collect::<Vec<_>>();
            let first = (0..9).find(|count| after_slow(takes, LEASE, &reads(*count)).dead(7).is_some());
            assert_eq!(first, Some(if takes == 0 { 5 } else { 6 }), "{takes}");
        }
        let slow: Vec<_> = (0..5).map(|i| (i * 600, Some(5))).collect();
        assert_eq!(after_slow(600, LEASE, &slow[..3]).dead(7), None);
        assert_eq!(after_slow(600, LEASE, &slow[..4]).dead(7), Some(5));
        let late: Vec<_> = (0..5).map(|i| (i * 1100, Some(5))).collect();
        assert_eq!(
            after_slow(600, LEASE, &late).dead(7),
            None,
            "500 ms from an answer to the next sending are too many"
        );
    }

    /// Goal: a member with a longer lease than this process has is judged by that. Method: leases of other lengths.
    #[test]
    fn the_longer_lease_counts() {
        let reads: Vec<_> = (0..8).map(|i| (i * 300, Some(5))).collect();
        let dead_after = |lease| (0..8).find(|last| after_slow(0, lease, &reads[..=*last]).dead(7).is_some());
        assert_eq!(dead_after(LEASE / 2), Some(4));
        assert_eq!(dead_after(LEASE * 3 / 2), Some(6));
        assert_eq!(dead_after(LEASE * 10), None);
    }

    /// Goal: a member is dead when its silence was observed for a lease, and not before. Method: reads a quarter of a lease apart.
    #[test]
    fn observed_silence_is_death() {
        let mut reads: Vec<_> = (0..4).map(|i| (i * 300, Some(5))).collect();
        assert_eq!(after(&reads).dead(7), None);
        reads.push((1200, Some(5)));
        let liveness = after(&reads);
        assert_eq!((liveness.dead(7), liveness.dead(8), liveness.dead(9)), (Some(5), None, None));
        assert_eq!(liveness.alive().collect::<Vec<_>>(), [8]);
        reads.push((1500, Some(6)));
        assert_eq!(after(&reads).dead(7), None, "it has only been slow");
    }

    /// Goal: silence that was not observed counts for nothing. Method: a failed read, and a gap of more than a third of a lease.
    #[test]
    fn silence_that_was_not_observed_is_none() {
        let all: Vec<_> = (0..=8).map(|i| (i * 300, Some(5))).collect();
        assert_eq!(after(&all).dead(7), Some(5));
        let mut failed = all.clone();
        failed.insert(6, (1700, None));
        assert_eq!(after(&failed).dead(7), None);
        assert_eq!(after(&failed).alive().count(), 2);
        let mut late = all.clone();
        late.remove(6);
        assert_eq!(after(&late).dead(7), None);
        late.extend([(2700, Some(5)), (3000, Some(5)), (3300, Some(5))]);
        assert_eq!(after(&late).dead(7), Some(5), "a lease after the gap");
    }
}
