//! [`Wall`]: whether the wall clock can be trusted, by which ops expire. A term asks before it cuts, if its stages use
//! `expire_at`; while the clock is in doubt, nothing is cut.

use std::time::Duration;

use crate::rules::time::Timestamp;

/// The least difference between the progress of both clocks that counts as a jump. A clock that is being adjusted differs by less.
const JUMP: Duration = Duration::from_millis(500);

/// The most that an adjusted clock gains or loses, as a part of the time that has passed: twice what Linux allows.
const DRIFT: u32 = 1000;

/// How long both clocks must agree after a jump before the new time counts.
const STEADY_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Wall {
    /// The wall clock in nanoseconds since 1970 when it was last looked at, and the runtime's clock then.
    last: Option<(u64, Timestamp)>,
    jumped_at: Option<Timestamp>,
    /// When the newest frame was made, in nanoseconds since 1970.
    newest: u64,
    max_skew: Duration,
}

impl Wall {
    pub(super) fn new(max_skew: Duration) -> Self {
        Self { last: None, jumped_at: None, newest: 0, max_skew }
    }

    /// A frame was read that was made at this time.
    pub(super) fn frame(&mut self, made_at: u64) {
        self.newest = self.newest.max(made_at);
    }

    /// Looks at the clock. Returns how long it is in doubt at least; `None` if it is not.
    pub(super) fn doubt(&mut self, wall: u64, now: Timestamp) -> Option<Duration> {
        if let Some((last_wall, last_now)) = self.last.replace((wall, now)) {
            let passed = now.since(last_now);
            let expected = last_wall.saturating_add(nanos(passed));
            if wall.abs_diff(expected) > nanos(JUMP + passed / DRIFT) {
                self.jumped_at = Some(now);
            }
        }
        // Frames tell the time that it was, whatever a clock says that was set back.
        let behind = self.newest.saturating_sub(wall.saturating_add(nanos(self.max_skew)));
        let unsteady = self.jumped_at.map_or(Duration::ZERO, |at| STEADY_AFTER.saturating_sub(now.since(at)));
        if unsteady.is_zero() {
            self.jumped_at = None;
        }
        let doubt = unsteady.max(Duration::from_nanos(behind));
        (!doubt.is_zero()).then_some(doubt)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Goal: a clock that is adjusted is trusted, and one that jumps only after ten steady seconds. Method: both clocks by hand.
    #[test]
    fn a_jump_is_in_doubt_for_ten_steady_seconds() {
        let mut wall = Wall::new(Duration::from_secs(2));
        let at = |seconds| Timestamp::some().checked_add(Duration::from_secs(seconds)).expect("in range");
        assert_eq!(wall.doubt(1000 * SECOND, at(0)), None);
        // An hour later, adjusted by a second.
        assert_eq!(wall.doubt(4601 * SECOND, at(3600)), None);
        assert_eq!(wall.doubt(9000 * SECOND, at(3601)), Some(Duration::from_secs(10)));
        assert_eq!(wall.doubt(9004 * SECOND, at(3605)), Some(Duration::from_secs(6)));
        assert_eq!(wall.doubt(8000 * SECOND, at(3606)), Some(Duration::from_secs(10)));
        assert_eq!(wall.doubt(8009 * SECOND, at(3615)), Some(Duration::from_secs(1)));
        assert_eq!(wall.doubt(8010 * SECOND, at(3616)), None);
        assert_eq!(wall.doubt(8011 * SECOND, at(3617)), None);
    }

    /// Goal: a clock before the newest frame is not trusted until it has caught up. Method: a frame of a later time.
    #[test]
    fn a_clock_behind_the_log_is_in_doubt() {
        let mut wall = Wall::new(Duration::from_secs(2));
        wall.frame(1005 * SECOND);
        wall.frame(900 * SECOND);
        let now = Timestamp::some();
        assert_eq!(wall.doubt(1000 * SECOND, now), Some(Duration::from_secs(3)));
        let later = now.checked_add(Duration::from_secs(3)).expect("in range");
        assert_eq!(wall.doubt(1003 * SECOND, later), None);
    }
}
