//! [`Outcomes`]: how many ops ended in each way. The statistics and the reports of flushes embed it.

use std::{
    fmt,
    ops::{AddAssign, Index, Sub},
};

use serde::{Deserialize, Serialize};

use super::End;

/// How many ops ended in each way, by [`End`].
///
/// ```
/// use roundlot::{End, Outcomes};
///
/// let outcomes = Outcomes::default();
/// assert_eq!(outcomes[End::Delivered], outcomes.delivered);
/// assert_eq!(outcomes.total(), 0);
/// ```
///
/// Its text has the counts that are not zero, for a log or a report:
///
/// ```
/// use roundlot::Outcomes;
///
/// let outcomes: Outcomes = serde_json::from_str(r#"{"delivered":120,"refused":3,"in_doubt":1}"#)?;
/// assert_eq!(outcomes.to_string(), "120 delivered, 3 refused, 1 in doubt");
/// assert_eq!(Outcomes::default().to_string(), "nothing yet");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Outcomes {
    /// Ops the sink accepted.
    pub delivered: u64,
    /// Ops that the destination refused, or that no batch can hold.
    pub refused: u64,
    /// Ops whose retries were used up, or that were given up in an outage that lasted too long.
    pub exhausted: u64,
    /// Ops that may or may not have landed.
    pub in_doubt: u64,
    /// Ops merged into another one.
    pub conflated: u64,
    /// Repeats that were not queued.
    pub deduplicated: u64,
    /// Ops that canceled out with another one.
    pub netted: u64,
    /// Ops whose time was over before they could be sent.
    pub expired: u64,
    /// Ops that made room for others.
    pub evicted: u64,
    /// Ops that a caller took back out.
    pub withdrawn: u64,
    /// Ops given back at shutdown.
    pub returned: u64,
    /// Ops lost because the task was killed, or by the sink.
    pub lost: u64,
}

impl Outcomes {
    /// Ops that have ended, in whatever way.
    pub fn total(&self) -> u64 {
        End::ALL.into_iter().map(|end| self[end]).sum()
    }

    /// Ops that were not done as they were meant to be: refused, exhausted, in doubt, evicted, returned or lost.
    pub fn failed(&self) -> u64 {
        self.refused + self.exhausted + self.in_doubt + self.evicted + self.returned + self.lost
    }

    /// Counts ops that have ended in this way.
    #[inline]
    pub(crate) fn add(&mut self, end: End, count: u64) {
        *self.of(end) += count;
    }

    #[inline]
    fn of(&mut self, end: End) -> &mut u64 {
        match end {
            End::Delivered => &mut self.delivered,
            End::Refused => &mut self.refused,
            End::Exhausted => &mut self.exhausted,
            End::InDoubt => &mut self.in_doubt,
            End::Conflated => &mut self.conflated,
            End::Deduplicated => &mut self.deduplicated,
            End::Netted => &mut self.netted,
            End::Expired => &mut self.expired,
            End::Evicted => &mut self.evicted,
            End::Withdrawn => &mut self.withdrawn,
            End::Returned => &mut self.returned,
            End::Lost => &mut self.lost,
        }
    }
}

impl Index<End> for Outcomes {
    type Output = u64;

    fn index(&self, end: End) -> &u64 {
        match end {
            End::Delivered => &self.delivered,
            End::Refused => &self.refused,
            End::Exhausted => &self.exhausted,
            End::InDoubt => &self.in_doubt,
            End::Conflated => &self.conflated,
            End::Deduplicated => &self.deduplicated,
            End::Netted => &self.netted,
            End::Expired => &self.expired,
            End::Evicted => &self.evicted,
            End::Withdrawn => &self.withdrawn,
            End::Returned => &self.returned,
            End::Lost => &self.lost,
        }
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends: Vec<String> = End::ALL
            .into_iter()
            .filter(|end| self[*end] > 0)
            .map(|end| format!("{} {}", self[end], end.name().replace('_', " ")))
            .collect();
        f.pad(if ends.is_empty() { "nothing yet".to_owned() } else { ends.join(", ") }.as_str())
    }
}

impl AddAssign for Outcomes {
    fn add_assign(&mut self, other: Self) {
        End::ALL.into_iter().for_each(|end| *self.of(end) += other[end]);
    }
}

impl Sub for Outcomes {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        End::ALL.into_iter().for_each(|end| *self.of(end) -= other[end]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_a_count_of_its_own() {
        let mut all = Outcomes::default();
        for (count, end) in (1..).zip(End::ALL) {
            all.add(end, count);
            assert_eq!(all[end], count);
        }
        let counts = serde_json::to_value(all).unwrap();
        assert!(End::ALL.iter().all(|end| counts[end.name()] == all[*end]));
        assert_eq!(all.total(), (1..=End::ALL.len() as u64).sum::<u64>());
        let mut twice = all;
        twice += all;
        assert_eq!(twice - all, all);
    }

    #[test]
    fn the_text_has_the_counts_that_are_not_zero() {
        let mut all = Outcomes::default();
        assert_eq!(format!("{all:>12}"), " nothing yet");
        End::ALL.into_iter().for_each(|end| all.add(end, 2));
        let text = "2 delivered, 2 refused, 2 exhausted, 2 in doubt, 2 conflated, 2 deduplicated, 2 netted, 2 expired, \
                    2 evicted, 2 withdrawn, 2 returned, 2 lost";
        assert_eq!(all.to_string(), text);
    }
}
