//! [`Coalescer`]: whether to drain the inbox once more before a batch is cut. The actor asks it once per turn.
//!
//! The first of several callers that wait for verdicts wakes the task, which on a worker thread often runs before the others
//! have sent: without another poll each op would be a batch of its own. A single op is sent at once. After 32 single ops in a
//! row one extra poll is tried; polling goes on while it finds more ops.

/// Polls of the inbox before a cut, at most, if senders are so fast that there is always more.
const MAX_POLLS: u32 = 3;

/// Single ops sent at once before one extra poll is tried, and after each extra poll that found none.
const SINGLES_PER_PROBE: u32 = 32;

/// The results of earlier polls.
#[derive(Debug)]
pub(super) struct Coalescer {
    /// Polls since the last cut.
    polls: u32,
    /// The last poll was a probe for a single op.
    probing: bool,
    /// Single ops that are sent at once before the next extra poll.
    singles_until_probe: u32,
}

impl Coalescer {
    pub(super) fn new() -> Self {
        Self { polls: 0, probing: false, singles_until_probe: SINGLES_PER_PROBE }
    }

    /// Whether to poll once more. `count`: ops drained by the last poll. `yielded`: other tasks ran in between, so a
    /// withdrawal or a pause may have been sent.
    pub(super) fn should_poll_again(&mut self, count: usize, yielded: bool) -> bool {
        self.polls += 1;
        if std::mem::take(&mut self.probing) && count == 0 {
            self.singles_until_probe = SINGLES_PER_PROBE;
        }
        let again = match count {
            _ if yielded => self.polls < MAX_POLLS,
            0 => false,
            1 => self.polls == 1 && self.should_probe(),
            // Several ops arrived together, and more of them may follow at once.
            _ => self.polls == 1,
        };
        if !again {
            self.polls = 0;
        }
        again
    }

    /// Whether a single op is to wait until other tasks have run.
    fn should_probe(&mut self) -> bool {
        self.probing = self.singles_until_probe == 0;
        self.singles_until_probe = self.singles_until_probe.saturating_sub(1);
        self.probing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a single op is sent at once, and ops that arrive a little later are found by a probe. Method: polls that
    /// bring nothing, and then some that do.
    #[test]
    fn the_looks_learn_from_what_they_bring() {
        let mut coalescer = Coalescer::new();
        for _ in 0..3 {
            for _ in 0..SINGLES_PER_PROBE {
                assert!(!coalescer.should_poll_again(1, false), "a single op");
            }
            assert!(coalescer.should_poll_again(1, false), "a probe");
            assert!(!coalescer.should_poll_again(0, false), "the probe found nothing");
        }
        (0..SINGLES_PER_PROBE).for_each(|_| assert!(!coalescer.should_poll_again(1, false)));
        for _ in 0..100 {
            assert!(coalescer.should_poll_again(1, false));
            assert!(!coalescer.should_poll_again(7, false), "the probe found ops");
        }
    }

    /// Goal: several ops in one poll are followed by one more, however often that found nothing. Method: two ops and no more.
    #[test]
    fn company_is_worth_a_look_each_time() {
        let mut coalescer = Coalescer::new();
        for _ in 0..3 {
            assert!(coalescer.should_poll_again(2, false));
            assert!(!coalescer.should_poll_again(0, false));
        }
    }

    /// Goal: fast senders do not keep the task from cutting. Method: others run during each look.
    #[test]
    fn there_is_an_end_to_the_looks() {
        let mut coalescer = Coalescer::new();
        for _ in 0..3 {
            let polls = (1..).find(|_| !coalescer.should_poll_again(9000, true));
            assert_eq!(polls, Some(MAX_POLLS));
        }
    }
}
