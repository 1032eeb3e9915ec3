//! Each token is handed back once, with the end of the op that it rode with, whatever that was.

use std::collections::HashMap;

use super::*;
use crate::rules::{outcome::Outcomes, stage::Merge};

/// The tokens of a run, and how the ops ended whose tokens were handed back.
#[derive(Default)]
pub(super) struct Tokens {
    issued: u64,
    ends: HashMap<u64, End>,
}

impl Tokens {
    /// Issues new tokens.
    pub(super) fn issue(&mut self, count: usize) -> Vec<u64> {
        let first = self.issued;
        self.issued += count as u64;
        (first..self.issued).collect()
    }

    /// Takes what has been handed back; none of it twice, and nothing before its op has ended.
    pub(super) fn check<T>(&mut self, accumulator: &mut Accumulator<T, (), u64>) -> Result<(), TestCaseError> {
        let mut answers = Vec::new();
        accumulator.take_answers(&mut answers);
        for Answer { token, outcome } in answers {
            let end = outcome.end();
            prop_assert!(token < self.issued, "there is no token {}", token);
            prop_assert_eq!(self.ends.insert(token, end), None, "token {} was handed back twice", token);
        }
        prop_assert!(self.ends.len() as u64 <= accumulator.stats().ended());
        Ok(())
    }

    /// All of them have been handed back, with the ends that the statistics count.
    pub(super) fn check_all<T>(&mut self, accumulator: &mut Accumulator<T, (), u64>) -> Result<(), TestCaseError> {
        self.check(accumulator)?;
        prop_assert_eq!(self.ends.len() as u64, self.issued, "a token is missing");
        let mut outcomes = Outcomes::default();
        self.ends.values().for_each(|end| outcomes.add(*end, 1));
        prop_assert_eq!(outcomes, accumulator.stats().outcomes);
        Ok(())
    }
}

/// An accumulator whose merges panic.
fn panicking() -> Accumulator<u32, (), u64> {
    let stages = Stages::new().conflate_by(|_: &u32| 0, |_, _| -> Merge<u32> { panic!("no merge") });
    Accumulator::new(stages, &Limits::new(1), Policy::default())
}

fn push_one(accumulator: &mut Accumulator<u32, (), u64>, token: u64) {
    let now = Timestamp::some();
    accumulator.push(Arrival { op: 7, at: now, token: Some(token) }, now);
}

/// Goal: a merge that panics uses two ops up, and no token. Method: an op meets one that waits.
#[test]
fn an_arriving_op_that_a_panicking_merge_used_up_hands_its_token_back() {
    let (mut accumulator, mut tokens) = (panicking(), Tokens::default());
    tokens.issue(2).into_iter().for_each(|token| push_one(&mut accumulator, token));
    tokens.check_all(&mut accumulator).unwrap();
    assert_eq!(tokens.ends, HashMap::from([(0, End::Refused), (1, End::Refused)]));
}

/// The same for an op that comes back from a write and meets a newer one.
#[test]
fn a_returning_op_that_a_panicking_merge_used_up_hands_its_token_back() {
    let (mut accumulator, mut tokens) = (panicking(), Tokens::default());
    let now = Timestamp::some();
    push_one(&mut accumulator, tokens.issue(1)[0]);
    let cut = accumulator.cut(now).expect("one op waits");
    push_one(&mut accumulator, tokens.issue(1)[0]);
    accumulator.settle(cut, Written::Failed(SinkError::transient("later")), now);
    tokens.check_all(&mut accumulator).unwrap();
    assert_eq!(tokens.ends, HashMap::from([(0, End::Refused), (1, End::Refused)]));
}
