//! [`Verdicts`]: the verdict on each op of a batch. The batch owns one; `settle` reads it.

#[cfg(feature = "durable")]
use crate::rules::batch::ErrorKind;
use crate::rules::batch::SinkError;

/// The verdict of a sink on one op.
#[derive(Debug)]
pub(crate) enum Verdict<R> {
    Pending,
    Accepted(R),
    /// The error's kind tells whether it is tried again.
    Failed(SinkError),
    /// The op is tried again, whatever the kind.
    Again(SinkError),
}

/// A verdict for each op of a batch.
///
/// Most batches are accepted from the first op to the last, and then the receipts are all there is to keep.
#[derive(Debug)]
pub(crate) struct Verdicts<R> {
    /// The first so many ops are accepted, and the others pending; unless all are listed.
    receipts: Vec<R>,
    /// Empty, or as many as there are ops.
    listed: Vec<Verdict<R>>,
}

impl<R> Default for Verdicts<R> {
    fn default() -> Self {
        Self { receipts: Vec::new(), listed: Vec::new() }
    }
}

impl<R> Verdicts<R> {
    pub(crate) fn clear(&mut self) {
        self.receipts.clear();
        self.listed.clear();
    }

    /// Whether no op has a verdict.
    pub(crate) fn are_none(&self) -> bool {
        self.receipts.is_empty() && self.listed.iter().all(|verdict| matches!(verdict, Verdict::Pending))
    }

    #[inline]
    pub(crate) fn is_pending(&self, i: usize) -> bool {
        if self.listed.is_empty() {
            return i >= self.receipts.len();
        }
        matches!(self.listed[i], Verdict::Pending)
    }

    /// Accepts all ops, of so many, that have no verdict yet.
    pub(crate) fn accept_all(&mut self, count: usize, mut receipt: impl FnMut(usize) -> R) {
        if self.listed.is_empty() {
            let rest = self.receipts.len()..count;
            return self.receipts.extend(rest.map(receipt));
        }
        for (i, verdict) in self.listed.iter_mut().enumerate() {
            if matches!(verdict, Verdict::Pending) {
                *verdict = Verdict::Accepted(receipt(i));
            }
        }
    }

    /// Gives op `i`, of so many, its verdict, unless it has one.
    pub(crate) fn give(&mut self, i: usize, count: usize, verdict: Verdict<R>) {
        match verdict {
            Verdict::Accepted(receipt) if self.listed.is_empty() && i == self.receipts.len() && i < count => {
                self.receipts.push(receipt);
            }
            verdict => {
                let given = &mut self.list(count)[i];
                if matches!(given, Verdict::Pending) {
                    *given = verdict;
                }
            }
        }
    }

    /// The verdicts on so many ops, each by itself.
    pub(crate) fn list(&mut self, count: usize) -> &mut Vec<Verdict<R>> {
        if self.listed.is_empty() {
            self.listed.extend(self.receipts.drain(..).map(Verdict::Accepted));
            self.listed.resize_with(count, || Verdict::Pending);
        }
        &mut self.listed
    }

    /// The errors among the verdicts.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &SinkError> {
        self.listed.iter().filter_map(|verdict| match verdict {
            Verdict::Failed(error) | Verdict::Again(error) => Some(error),
            Verdict::Pending | Verdict::Accepted(_) => None,
        })
    }

    /// Whether one of them is an answer of the destination.
    pub(crate) fn have_answer(&self) -> bool {
        let is_accepted = |verdict: &Verdict<R>| matches!(verdict, Verdict::Accepted(_));
        !self.receipts.is_empty() || self.listed.iter().any(is_accepted) || self.errors().any(SinkError::is_answer)
    }

    /// The receipts, if all ops, of so many, are accepted.
    pub(crate) fn receipts(&mut self, count: usize) -> Option<&mut Vec<R>> {
        if !self.listed.is_empty() && self.listed.iter().all(|verdict| matches!(verdict, Verdict::Accepted(_))) {
            let receipts = self.listed.drain(..).filter_map(|verdict| match verdict {
                Verdict::Accepted(receipt) => Some(receipt),
                Verdict::Pending | Verdict::Failed(_) | Verdict::Again(_) => None,
            });
            self.receipts.extend(receipts);
        }
        (self.listed.is_empty() && self.receipts.len() == count).then_some(&mut self.receipts)
    }

    /// Forgets the places of ops that are left out of the batch. Their indexes are in order, and none has a receipt.
    #[cfg(feature = "durable")]
    pub(crate) fn leave_out(&mut self, ops: &[usize]) {
        let mut indexes = 0..;
        self.listed.retain(|_| indexes.next().is_some_and(|i| ops.binary_search(&i).is_err()));
    }

    /// The end of op `i`, if its verdict is one: accepted, or refused and not to be tried again.
    #[cfg(feature = "durable")]
    pub(crate) fn end_of(&self, i: usize) -> Option<Result<&R, &SinkError>> {
        if self.listed.is_empty() {
            return self.receipts.get(i).map(Ok);
        }
        match &self.listed[i] {
            Verdict::Accepted(receipt) => Some(Ok(receipt)),
            Verdict::Failed(error) if error.kind() == ErrorKind::Refused => Some(Err(error)),
            Verdict::Pending | Verdict::Failed(_) | Verdict::Again(_) => None,
        }
    }

    /// The verdict on op `i`.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn get(&self, i: usize) -> Option<Result<&R, &SinkError>> {
        if self.listed.is_empty() {
            return self.receipts.get(i).map(Ok);
        }
        match &self.listed[i] {
            Verdict::Pending => None,
            Verdict::Accepted(receipt) => Some(Ok(receipt)),
            Verdict::Failed(error) | Verdict::Again(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Accept(usize),
        Refuse(usize),
        AcceptAll,
        List,
        AskReceipts,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0usize..6).prop_map(Step::Accept),
            1 => (0usize..6).prop_map(Step::Refuse),
            1 => Just(Step::AcceptAll),
            1 => Just(Step::List),
            1 => Just(Step::AskReceipts),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        /// Goal: the first verdict on each op stands, however they are kept. Method: the same steps on one place per op,
        /// with the number of the step as the receipt.
        #[test]
        fn agree_with_one_place_per_op(steps in steps()) {
            const COUNT: usize = 6;
            let (mut verdicts, mut model) = (Verdicts::default(), [None; COUNT]);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Accept(i) => {
                        verdicts.give(i, COUNT, Verdict::Accepted(number));
                        model[i].get_or_insert(Ok(number));
                    }
                    Step::Refuse(i) => {
                        verdicts.give(i, COUNT, Verdict::Failed(SinkError::refused("no")));
                        model[i].get_or_insert(Err(()));
                    }
                    Step::AcceptAll => {
                        verdicts.accept_all(COUNT, |i| 100 * number + i);
                        model.iter_mut().enumerate().for_each(|(i, place)| {
                            place.get_or_insert(Ok(100 * number + i));
                        });
                    }
                    Step::List => prop_assert_eq!(verdicts.list(COUNT).len(), COUNT),
                    Step::AskReceipts => {
                        let all: Option<Vec<usize>> = model.iter().map(|place| place.and_then(Result::ok)).collect();
                        prop_assert_eq!(verdicts.receipts(COUNT).cloned(), all);
                    }
                }
                for (i, place) in model.iter().enumerate() {
                    prop_assert_eq!(verdicts.is_pending(i), place.is_none());
                    prop_assert_eq!(verdicts.get(i).map(|verdict| verdict.copied().map_err(drop)), *place);
                }
            }
        }
    }
}
