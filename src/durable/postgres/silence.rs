//! [`Silence`]: which members of a log are dead, as far as this process has observed. A member's revision goes up four times per lease.
//! It is dead when reads that followed each other without a gap have seen the same revision for a whole lease. **Silence that was not
//! observed is no silence**: a read that fails or is late begins the observation anew. The pulse feeds it, by its own monotonic clock.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Silence {
    lease: Duration,
    /// When the last read was answered. `None` if the last one failed.
    read_at: Option<Instant>,
    members: BTreeMap<u64, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    /// When a read has first seen this revision, of those that followed each other.
    since: Instant,
}

impl Silence {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, read_at: None, members: BTreeMap::new() }
    }

    /// The longest time between two reads that follow each other.
    fn longest_gap(&self) -> Duration {
        self.lease / 3
    }

    /// A read was answered: all members with their revisions.
    pub(super) fn read(&mut self, now: Instant, members: impl IntoIterator<Item = (u64, u64)>) {
        let follows = self.read_at.is_some_and(|at| now.saturating_duration_since(at) <= self.longest_gap());
        let before = std::mem::take(&mut self.members);
        let seen = |(producer, revision)| {
            let known = before.get(&producer).filter(|seen| follows && seen.revision == revision);
            (producer, Seen { revision, since: known.map_or(now, |seen| seen.since) })
        };
        self.members = members.into_iter().map(seen).collect();
        self.read_at = Some(now);
    }

    /// A read has failed.
    pub(super) fn failed(&mut self) {
        self.read_at = None;
    }

    /// The revision of a member that is dead.
    pub(super) fn dead(&self, producer: u64) -> Option<u64> {
        let seen = self.members.get(&producer)?;
        let observed = self.read_at?.saturating_duration_since(seen.since);
        (observed >= self.lease).then_some(seen.revision)
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

    /// The silence after reads, each at a time in milliseconds, with the revision of member 7. No revision is a read that fails.
    fn after(reads: &[(u64, Option<u64>)]) -> Silence {
        let (start, mut silence) = (Instant::now(), Silence::new(LEASE));
        for (at, revision) in reads {
            match revision {
                Some(revision) => silence.read(start + Duration::from_millis(*at), [(7, *revision), (8, at + 1)]),
                None => silence.failed(),
            }
        }
        silence
    }

    /// Goal: a member is dead when its silence was observed for a lease, and not before. Method: reads a quarter of a lease apart.
    #[test]
    fn observed_silence_is_death() {
        let mut reads: Vec<_> = (0..4).map(|i| (i * 300, Some(5))).collect();
        assert_eq!(after(&reads).dead(7), None);
        reads.push((1200, Some(5)));
        let silence = after(&reads);
        assert_eq!((silence.dead(7), silence.dead(8), silence.dead(9)), (Some(5), None, None));
        assert_eq!(silence.alive().collect::<Vec<_>>(), [8]);
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
