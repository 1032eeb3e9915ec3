//! [`Outbox`]: what has been decided and the driver has not fetched yet: answers, dead letters, ops given back, and what the
//! log should tell. The rules only add to it, and the driver only takes from it.

use std::{any::Any, mem};

use super::notices::Notices;
use crate::rules::{
    batch::SinkError,
    outcome::{Answer, DeadLetter, End, Outcome, Returned},
};

pub(super) struct Outbox<T, R, A> {
    answers: Vec<Answer<A, R>>,
    letters: Vec<DeadLetter<T>>,
    /// Answers that there were when each letter came: the last of them is that of its op.
    #[cfg(feature = "durable")]
    answers_before: Vec<usize>,
    /// Ops given back, with their order of arrival.
    returned: Vec<(u64, Returned<T>)>,
    /// `None` while there is nothing to tell, which is most of the time.
    notices: Option<Box<Notices>>,
}

impl<T, R, A> Default for Outbox<T, R, A> {
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            letters: Vec::new(),
            #[cfg(feature = "durable")]
            answers_before: Vec::new(),
            returned: Vec::new(),
            notices: None,
        }
    }
}

impl<T, R, A> Outbox<T, R, A> {
    /// Hands a token back.
    #[inline]
    pub(super) fn answer(&mut self, token: A, outcome: Outcome<R>) {
        self.answers.push(Answer::new(token, outcome));
    }

    /// Hands many back.
    pub(super) fn answer_all(&mut self, answers: impl Iterator<Item = Answer<A, R>>) {
        self.answers.extend(answers);
    }

    pub(super) fn dead_letter(&mut self, op: T, error: SinkError, attempts: u32, end: End) {
        #[cfg(feature = "durable")]
        self.answers_before.push(self.answers.len());
        self.letters.push(DeadLetter::new(op, error, attempts, end));
    }

    pub(super) fn give_back(&mut self, seq: u64, returned: Returned<T>) {
        self.returned.push((seq, returned));
    }

    /// A function of the user panicked. Returns the error that says so.
    pub(super) fn panicked(&mut self, what: &str, panic: &(dyn Any + Send)) -> SinkError {
        let error = SinkError::panicked(what, panic);
        self.notices().panicked(|| error.chain());
        error
    }

    /// The notices for the log, to add to them.
    pub(super) fn notices(&mut self) -> &mut Notices {
        self.notices.get_or_insert_default()
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Swaps the answers for the empty `into`.
    pub(super) fn take_answers(&mut self, into: &mut Vec<Answer<A, R>>) {
        mem::swap(&mut self.answers, into);
    }

    pub(super) fn take_letters(&mut self) -> Vec<DeadLetter<T>> {
        #[cfg(feature = "durable")]
        self.answers_before.clear();
        mem::take(&mut self.letters)
    }

    /// Dead letters, each with the number of answers up to that of its op. To be called before the answers are taken.
    #[cfg(feature = "durable")]
    pub(super) fn take_answered_letters(&mut self) -> Vec<(usize, DeadLetter<T>)> {
        let letters = mem::take(&mut self.letters);
        mem::take(&mut self.answers_before).into_iter().zip(letters).collect()
    }

    /// Ops given back, in the order in which they came.
    pub(super) fn take_returned(&mut self) -> Vec<Returned<T>> {
        let mut returned = mem::take(&mut self.returned);
        returned.sort_by_key(|(seq, _)| *seq);
        returned.into_iter().map(|(_, returned)| returned).collect()
    }

    pub(super) fn take_notices(&mut self) -> Option<Box<Notices>> {
        self.notices.take()
    }

    /// Room for how many answers it has.
    pub(super) fn capacity(&self) -> usize {
        self.answers.capacity()
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        if self.answers.is_empty() {
            self.answers = Vec::new();
        }
    }
}
