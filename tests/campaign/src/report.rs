//! [`Report`]: the counts of a campaign.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    driver::Hits,
    journal::{Journal, LifeFacts},
    plan::{Failpoint, Plan, Sort},
    wire::{Fate, Line},
};

/// Ops between acceptance and outcome at a kill, above which the kill counts as one under load.
const LOADED: u64 = 100;

/// The counts of one sort of destination.
#[derive(Debug, Default)]
struct Counts {
    logs: u64,
    kills: u64,
    /// Kills after which the next life found more than [`LOADED`] ops.
    loaded: u64,
    /// Kills after which no life has joined yet.
    unknown: u64,
    /// Ops that were written and not settled when their process died.
    recovered_in_doubt: u64,
    accepted: u64,
    attempts: u64,
    landed: u64,
    repeated: u64,
    /// Milliseconds after its expiry at which the latest op was sent.
    latest: u64,
    ends: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    sorts: BTreeMap<Sort, Counts>,
    hits: Hits,
    hits_by_sort: BTreeMap<Sort, Hits>,
}

impl Report {
    pub(crate) fn new() -> Self {
        let (sorts, hits) = (BTreeMap::new(), Hits::new());
        Self { started: Instant::now(), sorts, hits, hits_by_sort: BTreeMap::new() }
    }

    pub(crate) fn kills(&self) -> u64 {
        self.sorts.values().map(|counts| counts.kills).sum()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a life, whose log shows what the kills before it have left.
    pub(crate) fn life(&mut self, sort: Sort, facts: LifeFacts, plan: &Plan) {
        let counts = self.sorts.entry(sort).or_default();
        if plan.life == 1 {
            counts.logs += 1;
            counts.unknown = 0;
        }
        if let Some(recovered) = facts.recovered {
            counts.loaded += if recovered > LOADED { counts.unknown } else { 0 };
            counts.unknown = 0;
            counts.recovered_in_doubt += facts.in_doubt;
        }
    }

    pub(crate) fn kill(&mut self, sort: Sort, hit: Option<Failpoint>) {
        let counts = self.sorts.entry(sort).or_default();
        counts.kills += 1;
        counts.unknown += 1;
        if let Some(failpoint) = hit {
            *self.hits.entry(failpoint.clone()).or_default() += 1;
            *self.hits_by_sort.entry(sort).or_default().entry(failpoint).or_default() += 1;
        }
    }

    /// Counts what became of the ops of one log.
    pub(crate) fn log(&mut self, sort: Sort, journal: &Journal, lines: &[Line]) {
        let counts = self.sorts.entry(sort).or_default();
        counts.accepted += journal.calls.values().filter(|call| call.is_accepted).count() as u64;
        for (end, _) in journal.became.values() {
            *counts.ends.entry(end.clone()).or_default() += 1;
        }
        for line in lines {
            let Line::Call { begun, ops, .. } = line else { continue };
            let late = ops.iter().filter_map(|(op, _)| begun.checked_sub(op.expires?));
            counts.latest = counts.latest.max(late.max().unwrap_or(0));
            counts.attempts += ops.len() as u64;
            counts.landed += ops.iter().filter(|(_, fate)| *fate == Fate::Landed).count() as u64;
            counts.repeated += ops.iter().filter(|(_, fate)| *fate == Fate::Repeated).count() as u64;
        }
    }

    /// A failpoint that was hit less often than most.
    pub(crate) fn rarest(&self, sort: Sort, random: &mut fastrand::Rng) -> Failpoint {
        let none = Hits::new();
        let hits = self.hits_by_sort.get(&sort).unwrap_or(&none);
        let mut all = Failpoint::all(sort);
        random.shuffle(&mut all);
        // Any one now and then, so that those that are hard to hit do not take all kills.
        all.truncate(8);
        let least = all.into_iter().min_by_key(|failpoint| hits.get(failpoint).copied().unwrap_or(0));
        least.unwrap_or_else(|| Failpoint { step: "commit".to_owned(), at: "after".to_owned() })
    }

    /// The least number of hits of a failpoint.
    pub(crate) fn least_hits(&self, sorts: &[Sort]) -> u64 {
        let all = sorts.iter().flat_map(|sort| Failpoint::all(*sort));
        all.map(|failpoint| self.hits.get(&failpoint).copied().unwrap_or(0)).min().unwrap_or(0)
    }

    /// The share of kills with more than [`LOADED`] ops between acceptance and outcome.
    pub(crate) fn loaded(&self) -> f64 {
        let loaded: u64 = self.sorts.values().map(|counts| counts.loaded).sum();
        loaded as f64 / self.kills().max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}{:>8}{:>8}", "step", "before", "after")?;
        for step in crate::plan::STEPS {
            let hits = |at: &str| {
                let failpoint = Failpoint { step: step.to_owned(), at: at.to_owned() };
                self.hits.get(&failpoint).copied().unwrap_or(0)
            };
            writeln!(f, "{step:<24}{:>8}{:>8}", hits("before"), hits("after"))?;
        }
        for (sort, counts) in &self.sorts {
            let Counts { logs, kills, loaded, recovered_in_doubt, accepted, .. } = counts;
            let Counts { attempts, landed, repeated, latest, ends, .. } = counts;
            writeln!(
                f,
                "\n{}: {kills} kills, {loaded} of them with more than {LOADED} ops open, {logs} logs",
                sort.name()
            )?;
            writeln!(f, "  {accepted} accepted, {recovered_in_doubt} found in doubt after a kill")?;
            writeln!(f, "  {attempts} sent, {landed} landed, {repeated} sent again")?;
            writeln!(f, "  the latest was sent {latest} ms after its expiry")?;
            let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
            writeln!(f, "  of those with an id: {}", ends.join(", "))?;
        }
        let share = 100.0 * self.loaded();
        writeln!(
            f,
            "\n{} kills in {:.0} s, {share:.0} % of them under load",
            self.kills(),
            self.elapsed().as_secs_f64()
        )
    }
}
