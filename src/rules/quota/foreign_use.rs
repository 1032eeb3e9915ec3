//! [`ForeignUse`]: an estimate of how much other clients draw from the same limit, from the venue's reports beyond the batcher's
//! own count. The window keeps free what they may have drawn since the last report.

use crate::rules::time::Timestamp;

#[derive(Debug, Clone, Default)]
pub(super) struct ForeignUse {
    /// Units in the last window: a sum that forgets within a window.
    recent: f64,
    first_report: Option<Timestamp>,
    reported_at: Option<Timestamp>,
    /// Most units that one report brought beyond the expected ones, in this window and in the one before.
    lumps: [u64; 2],
    lump_since: Option<Timestamp>,
}

/// Units per window below which other clients count as gone.
const NONE_BELOW: f64 = 0.1;

/// Shortest time that reports are taken to cover, as a part of a window: one twentieth. A single report would say little.
const LEAST_TIME: f64 = 0.05;

impl ForeignUse {
    /// Notes a report of `beyond` units more than were known. `window` is in nanoseconds.
    pub(super) fn reported(&mut self, beyond: u64, window: u64, now: Timestamp) {
        let window = window.max(1) as f64;
        let Some(before) = self.reported_at.replace(now) else {
            // The first report tells of a whole window.
            (self.recent, self.lump_since, self.first_report) = (beyond as f64, Some(now), Some(now));
            self.lumps = [u64::from(beyond > 0), 0];
            return;
        };
        let since = now.nanos_since(before) as f64 / window;
        let expected = self.per_window(window, before) * since;
        self.recent = self.recent * (-since).exp() + beyond as f64;
        if self.recent < NONE_BELOW {
            (self.recent, self.lumps) = (0.0, [0, 0]);
            return;
        }
        if self.lump_since.is_none_or(|since| now.nanos_since(since) as f64 > window) {
            (self.lumps, self.lump_since) = ([1, self.lumps[0]], Some(now));
        }
        let lump = (beyond as f64 - expected).ceil().max(1.0) as u64;
        self.lumps[0] = self.lumps[0].max(lump);
    }

    /// Units per window that other clients draw. Since they may have begun with the first report, a short sum is scaled up.
    fn per_window(&self, window: f64, now: Timestamp) -> f64 {
        let known = self.first_report.map_or(0.0, |first| now.nanos_since(first) as f64 / window);
        self.recent / (1.0 - (-(known + LEAST_TIME)).exp())
    }

    /// Units that other clients may have drawn since the last report, at most `most`.
    pub(super) fn since_report(&self, window: u64, most: u64, now: Timestamp) -> u64 {
        let Some(reported_at) = self.reported_at.filter(|_| self.recent > 0.0) else {
            return 0;
        };
        let window = window.max(1) as f64;
        let windows = (now.nanos_since(reported_at) as f64 / window).min(1.0);
        let expected = (self.per_window(window, reported_at) * windows).ceil() as u64;
        expected.saturating_add(self.lumps[0].max(self.lumps[1])).min(most)
    }
}
