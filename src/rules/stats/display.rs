//! The text of [`Stats`], in one line, for logs and consoles. The fields are for programs.

use std::fmt;

use crate::rules::stats::Stats;

/// One line with what is not zero: ops accepted and what became of them, batches, time in the buffer, trouble, and the state.
/// The wording may change; programs read the fields.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ops =
            [(self.waiting, "waiting"), (self.in_flight, "in flight")].map(|(count, state)| counted(count, state));
        let outcomes = (self.ended() > 0).then(|| self.outcomes.to_string());
        let ops = join(outcomes.into_iter().chain(ops.into_iter().flatten()));
        let accepted =
            if ops.is_empty() { String::from("0 accepted") } else { format!("{} accepted: {ops}", self.accepted) };

        let batches = (self.batches > 0).then(|| {
            format!("{} of {:.1} ops on average", plural(self.batches, "batch", "batches"), self.mean_batch())
        });
        let (mean, max) = (self.in_buffer.mean, self.in_buffer.max);
        let times = (!max.is_zero()).then(|| format!("in the buffer for {mean:.1?} on average, {max:.1?} at most"));

        let trouble = join(
            [
                (self.retries, "retry", "retries"),
                (self.splits, "split", "splits"),
                (self.outages, "outage", "outages"),
                (self.panics, "panic", "panics"),
                (self.dead_letters_lost, "dead letter lost", "dead letters lost"),
            ]
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| plural(count, one, many)),
        );
        let trouble = (!trouble.is_empty()).then_some(trouble);
        let paused = self.paused.then(|| String::from("paused"));
        let outage = self.in_outage.then(|| String::from("in an outage"));

        let quota = join(self.quota.iter().map(ToString::to_string));
        let quota = (!quota.is_empty()).then(|| format!("used {quota}"));

        let parts = [Some(accepted), batches, times, trouble, quota, paused, outage];
        f.pad(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

fn counted(count: u64, state: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} {state}"))
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::stats::Times;

    #[test]
    fn a_batcher_without_ops_says_so() {
        assert_eq!(Stats::default().to_string(), "0 accepted");
        let paused = Stats { paused: true, in_outage: true, ..Stats::default() };
        assert_eq!(paused.to_string(), "0 accepted; paused; in an outage");
    }

    #[test]
    fn ops_that_only_wait_are_told() {
        let stats = Stats { accepted: 7, waiting: 5, in_flight: 2, ..Stats::default() };
        assert_eq!(stats.to_string(), "7 accepted: 5 waiting, 2 in flight");
    }

    #[test]
    fn one_line_has_all_that_is_not_zero() {
        let mut stats = Stats { accepted: 130, waiting: 4, batches: 12, written: 126, ..Stats::default() };
        (stats.outcomes.delivered, stats.outcomes.refused) = (120, 3);
        stats.in_flight = 3;
        stats.in_buffer = Times { mean: Duration::from_micros(12_340), max: Duration::from_millis(80) };
        (stats.retries, stats.splits, stats.outages, stats.panics, stats.dead_letters_lost) = (3, 1, 2, 1, 1);
        stats.in_outage = true;
        let text = "130 accepted: 120 delivered, 3 refused, 4 waiting, 3 in flight; 12 batches of 10.5 ops on average; \
                    in the buffer for 12.3ms on average, 80.0ms at most; \
                    3 retries, 1 split, 2 outages, 1 panic, 1 dead letter lost; in an outage";
        assert_eq!(stats.to_string(), text);
    }
}
