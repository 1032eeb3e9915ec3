//! [`Others`]: an estimate of how much other clients draw from the same limit, from what the venue reports beyond the batcher's
//! own count. It says how much they may have drawn since the last report.

use crate::rules::time::Timestamp;

#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    /// Units per window: an average that forgets within a window.
    per_window: f64,
    reported_at: Option<Timestamp>,
    /// The most that came at once beyond what was expected, of this window and the one before it.
    lumps: [u64; 2],
    lump_since: Option<Timestamp>,
}

/// Less than this many units in a window are none.
const NONE_BELOW: f64 = 0.1;

impl Others {
    /// The venue reports `beyond` units more than were known. `window` in nanoseconds.
    pub(super) fn reported(&mut self, beyond: u64, window: u64, now: Timestamp) {
        let window = window.max(1) as f64;
        let Some(before) = self.reported_at.replace(now) else {
            // The first report tells of a whole window.
            (self.per_window, self.lump_since) = (beyond as f64, Some(now));
            self.lumps = [u64::from(beyond > 0), 0];
            return;
        };
        let since = now.nanos_since(before) as f64 / window;
        let expected = self.per_window * since;
        self.per_window = self.per_window * (-since).exp() + beyond as f64;
        if self.per_window < NONE_BELOW {
            (self.per_window, self.lumps) = (0.0, [0, 0]);
            return;
        }
        if self.lump_since.is_none_or(|since| now.nanos_since(since) as f64 > window) {
            (self.lumps, self.lump_since) = ([1, self.lumps[0]], Some(now));
        }
        let lump = (beyond as f64 - expected).ceil().max(1.0) as u64;
        self.lumps[0] = self.lumps[0].max(lump);
    }

    /// What others may have drawn since the last report, at most `most`.
    pub(super) fn since_report(&self, window: u64, most: u64, now: Timestamp) -> u64 {
        let Some(reported_at) = self.reported_at.filter(|_| self.per_window > 0.0) else {
            return 0;
        };
        let windows = (now.nanos_since(reported_at) as f64 / window.max(1) as f64).min(1.0);
        let expected = (self.per_window * windows).ceil() as u64;
        expected.saturating_add(self.lumps[0].max(self.lumps[1])).min(most)
    }
}
