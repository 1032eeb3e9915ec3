//! [`Line`]: senders that wait for a permit, in order. A sender is in the queue until it is granted one, leaves, or the inbox is
//! closed. The inbox's state owns it.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

/// By the number that each sender drew.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Line {
    waiting: Numbered<Waker>,
    /// Those who have room and have not noticed yet.
    called: Numbered<()>,
    next: u64,
}

/// Where a sender stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Outside,
    Number(u64),
}

impl Line {
    pub(super) fn new() -> Self {
        Self { waiting: Numbered::new(), called: Numbered::new(), next: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.len == 0
    }

    /// Joins the line, or looks whether one has been called. A waker that is not needed any more is to be dropped when
    /// the lock is free: it may own a task, and that a handle.
    pub(super) fn poll(&mut self, place: &mut Place, cx: &mut Context<'_>) -> (Poll<()>, Option<Waker>) {
        let Place::Number(number) = *place else {
            self.next += 1;
            *place = Place::Number(self.next);
            self.waiting.push(self.next, cx.waker().clone());
            return (Poll::Pending, None);
        };
        if self.called.take(number).is_some() {
            *place = Place::Outside;
            return (Poll::Ready(()), None);
        }
        let waker = self.waiting.get_mut(number).filter(|waker| !waker.will_wake(cx.waker()));
        (Poll::Pending, waker.map(|waker| std::mem::replace(waker, cx.waker().clone())))
    }

    /// Calls the first in line.
    pub(super) fn call(&mut self) -> Option<Waker> {
        let (number, waker) = self.waiting.pop()?;
        self.called.push(number, ());
        Some(waker)
    }

    /// Leaves the line. Returns the waker, to be dropped when the lock is free, and says whether room is left over, since
    /// the sender had been called.
    pub(super) fn leave(&mut self, place: Place) -> (Option<Waker>, bool) {
        let Place::Number(number) = place else {
            return (None, false);
        };
        let waker = self.waiting.take(number);
        let was_called = waker.is_none() && self.called.take(number).is_some();
        (waker, was_called)
    }

    /// Copies of the wakers of all who wait, to be woken when the lock is free.
    pub(super) fn wakers(&self) -> Vec<Waker> {
        self.waiting.entries.iter().filter_map(|(_, waker)| waker.clone()).collect()
    }

    /// Gives memory back.
    pub(super) fn trim(&mut self) {
        self.waiting.entries.shrink_to_fit();
        self.called.entries.shrink_to_fit();
    }

    /// Sends everyone home.
    pub(super) fn disband(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let mut waiting = std::mem::replace(&mut self.waiting, Numbered::new());
        std::iter::from_fn(move || waiting.pop()).map(|(_, waker)| waker)
    }
}

/// Values by numbers that only grow. One that is taken out leaves a gap, until all before it are gone or there are more
/// gaps than values: senders may come and give up while the first in line waits on.
#[derive(Debug)]
struct Numbered<V> {
    entries: VecDeque<(u64, Option<V>)>,
    len: usize,
}

/// Gaps tolerated before compaction.
const FEW_GAPS: usize = 16;

impl<V> Numbered<V> {
    fn new() -> Self {
        Self { entries: VecDeque::new(), len: 0 }
    }

    /// Adds a value under a number greater than all before.
    fn push(&mut self, number: u64, value: V) {
        self.entries.push_back((number, Some(value)));
        self.len += 1;
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let at = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.entries[at].1.as_mut()
    }

    fn take(&mut self, number: u64) -> Option<V> {
        let at = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let value = self.entries[at].1.take()?;
        self.len -= 1;
        while self.entries.front().is_some_and(|(_, value)| value.is_none()) {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.len + FEW_GAPS {
            self.entries.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    fn pop(&mut self) -> Option<(u64, V)> {
        let number = self.entries.front()?.0;
        self.take(number).map(|value| (number, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: values are found by their number, and come out in its order. Method: the same steps on a sorted map.
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec((0u8..4, 0u64..100), 0..200)) {
            let (mut numbered, mut model) = (Numbered::new(), BTreeMap::new());
            for (next, (step, number)) in steps.into_iter().enumerate() {
                let next = next as u64;
                match step {
                    0 | 1 => {
                        numbered.push(next, next);
                        model.insert(next, next);
                    }
                    2 => prop_assert_eq!(numbered.take(number), model.remove(&number)),
                    _ => prop_assert_eq!(numbered.pop(), model.pop_first()),
                }
                prop_assert_eq!(numbered.len, model.len());
                prop_assert_eq!(numbered.get_mut(number), model.get_mut(&number));
                // Gaps do not pile up.
                prop_assert!(numbered.entries.front().is_none_or(|(_, value)| value.is_some()));
                prop_assert!(numbered.entries.len() <= 2 * numbered.len + FEW_GAPS);
            }
        }
    }
}
