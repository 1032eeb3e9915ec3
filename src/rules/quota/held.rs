//! [`HeldTime`]: the spans of time in which a budget let nothing pass, so that the time that an op waited for it is known.

use std::collections::VecDeque;

use crate::rules::time::Timestamp;

/// Spans that are remembered. An op that waits through more of them is said to have waited less than it did.
const MAX_SPANS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct HeldTime {
    /// Begin and end of each span, and the length of all up to it, in nanoseconds. The oldest first.
    spans: VecDeque<(Timestamp, Timestamp, u64)>,
    /// The begin of the span that lasts.
    since: Option<Timestamp>,
}

impl HeldTime {
    /// Nothing passes from now on. Returns whether something did before.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        let Some(since) = self.since.take() else {
            return;
        };
        let before = self.spans.back().map_or(0, |(.., total)| *total);
        if now > since {
            self.spans.push_back((since, now, before.saturating_add(now.nanos_since(since))));
        }
        if self.spans.len() > MAX_SPANS {
            self.spans.pop_front();
        }
    }

    /// Nanoseconds since `from` in which nothing passed.
    pub(super) fn since(&self, from: Timestamp, now: Timestamp) -> u64 {
        let running = self.since.map_or(0, |since| now.nanos_since(since.max(from)));
        let at = self.spans.partition_point(|(_, end, _)| *end <= from);
        let Some(&(begin, _, up_to)) = self.spans.get(at) else {
            return running;
        };
        let (_, end, _) = self.spans[at];
        let first = end.nanos_since(begin.max(from));
        let all = self.spans.back().map_or(0, |(.., total)| *total);
        (all - up_to).saturating_add(first).saturating_add(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spans_after_the_op_came_count() {
        let (start, mut held) = (Timestamp::some(), HeldTime::default());
        let at = |nanos| start.plus_nanos(nanos);
        assert!(held.begin(at(10)));
        assert!(!held.begin(at(15)));
        held.end(at(20));
        held.begin(at(30));
        held.end(at(50));
        held.begin(at(60));
        let expected = [(0, 40), (10, 40), (15, 35), (20, 30), (25, 30), (45, 15), (55, 10), (65, 5)];
        for (from, waited) in expected {
            assert_eq!(held.since(at(from), at(70)), waited, "from {from}");
        }
    }
}
