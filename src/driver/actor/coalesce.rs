//! [`Company`]: whether to drain the inbox once more before a batch is cut. The actor asks it once per turn.
//!
//! The first of several callers that wait for verdicts wakes the task, which on a worker thread often runs before the others
//! have sent: without another poll each op would be a batch of its own. A single op is sent at once. After 32 single ops in a
//! row one extra poll is tried; polling goes on while it finds more ops.

/// Polls of the inbox before a cut, at most, if senders are so fast that there is always more.
const MOST_LOOKS: u32 = 3;

/// Single ops sent at once before one extra poll is tried, and after each extra poll that found none.
const ALONE: u32 = 32;

/// What the looks have brought so far.
#[derive(Debug)]
pub(super) struct Company {
    /// Looks since something was cut.
    looks: u32,
    /// The last look was to find company for a lone op.
    seeking: bool,
    /// Single ops that are sent at once before the next extra poll.
    alone: u32,
}

impl Company {
    pub(super) fn new() -> Self {
        Self { looks: 0, seeking: false, alone: ALONE }
    }

    /// Says whether to look once more. A look has brought so many ops, and others may have run meanwhile, who may have
    /// replaced, withdrawn or paused what is about to go.
    pub(super) fn is_worth_a_look(&mut self, count: usize, yielded: bool) -> bool {
        self.looks += 1;
        if std::mem::take(&mut self.seeking) && count == 0 {
            self.alone = ALONE;
        }
        let again = match count {
            _ if yielded => self.looks < MOST_LOOKS,
            0 => false,
            1 => self.looks == 1 && self.seeks(),
            // Ops come in company, and whoever sends more of them goes first.
            _ => self.looks == 1,
        };
        if !again {
            self.looks = 0;
        }
        again
    }

    /// Whether a lone op is to wait for others to have their turn.
    fn seeks(&mut self) -> bool {
        self.seeking = self.alone == 0;
        self.alone = self.alone.saturating_sub(1);
        self.seeking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a lone op does not wait for nobody, and one whose company comes a little later finds it. Method: looks that
    /// bring nothing, and then some that do.
    #[test]
    fn the_looks_learn_from_what_they_bring() {
        let mut company = Company::new();
        for _ in 0..3 {
            for _ in 0..ALONE {
                assert!(!company.is_worth_a_look(1, false), "it is alone");
            }
            assert!(company.is_worth_a_look(1, false), "who knows");
            assert!(!company.is_worth_a_look(0, false), "nobody came");
        }
        (0..ALONE).for_each(|_| assert!(!company.is_worth_a_look(1, false)));
        for _ in 0..100 {
            assert!(company.is_worth_a_look(1, false));
            assert!(!company.is_worth_a_look(7, false), "others came, and that is it");
        }
    }

    /// Goal: what comes in company is looked for, however often that brought nothing. Method: two ops and no more.
    #[test]
    fn company_is_worth_a_look_each_time() {
        let mut company = Company::new();
        for _ in 0..3 {
            assert!(company.is_worth_a_look(2, false));
            assert!(!company.is_worth_a_look(0, false));
        }
    }

    /// Goal: fast senders do not keep the task from cutting. Method: others run during each look.
    #[test]
    fn there_is_an_end_to_the_looks() {
        let mut company = Company::new();
        for _ in 0..3 {
            let looks = (1..).find(|_| !company.is_worth_a_look(9000, true));
            assert_eq!(looks, Some(MOST_LOOKS));
        }
    }
}
