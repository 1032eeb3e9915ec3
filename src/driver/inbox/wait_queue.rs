//! [`WaitQueue`]: senders that wait for a permit, in order. A sender is in the queue until it is granted one, leaves, or the inbox is
//! closed. The inbox's state owns it.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

/// Senders by the ticket that each of them drew.
#[derive(Debug)]
#[repr(C)]
pub(super) struct WaitQueue {
    waiting: TicketMap<Waker>,
    /// Tickets that were granted a permit and whose senders have not been polled since.
    granted: TicketMap<()>,
    next: u64,
}

/// The position of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ticket {
    None,
    Drawn(u64),
}

impl WaitQueue {
    pub(super) fn new() -> Self {
        Self { waiting: TicketMap::new(), granted: TicketMap::new(), next: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.len == 0
    }

    /// Joins the queue, or asks whether a permit was granted. A waker that is not needed any more is to be dropped when
    /// the lock is free: it may own a task, and that a handle.
    pub(super) fn poll(&mut self, ticket: &mut Ticket, cx: &mut Context<'_>) -> (Poll<()>, Option<Waker>) {
        let Ticket::Drawn(number) = *ticket else {
            self.next += 1;
            *ticket = Ticket::Drawn(self.next);
            self.waiting.push(self.next, cx.waker().clone());
            return (Poll::Pending, None);
        };
        if self.granted.take(number).is_some() {
            *ticket = Ticket::None;
            return (Poll::Ready(()), None);
        }
        let waker = self.waiting.get_mut(number).filter(|waker| !waker.will_wake(cx.waker()));
        (Poll::Pending, waker.map(|waker| std::mem::replace(waker, cx.waker().clone())))
    }

    /// Grants a permit to the first sender.
    pub(super) fn grant(&mut self) -> Option<Waker> {
        let (number, waker) = self.waiting.pop()?;
        self.granted.push(number, ());
        Some(waker)
    }

    /// Leaves the queue. Returns the waker, to be dropped when the lock is free, and whether the sender held a granted
    /// permit, which is left over.
    pub(super) fn leave(&mut self, ticket: Ticket) -> (Option<Waker>, bool) {
        let Ticket::Drawn(number) = ticket else {
            return (None, false);
        };
        let waker = self.waiting.take(number);
        let was_granted = waker.is_none() && self.granted.take(number).is_some();
        (waker, was_granted)
    }

    /// Copies of the wakers of all waiting senders, to be woken when the lock is free.
    pub(super) fn wakers(&self) -> Vec<Waker> {
        self.waiting.entries.iter().filter_map(|(_, waker)| waker.clone()).collect()
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        self.waiting.entries.shrink_to_fit();
        self.granted.entries.shrink_to_fit();
    }

    /// Removes all waiters and returns their wakers; used on close.
    pub(super) fn close(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let mut waiting = std::mem::replace(&mut self.waiting, TicketMap::new());
        std::iter::from_fn(move || waiting.pop()).map(|(_, waker)| waker)
    }
}

/// Values by tickets, which only grow. A value that is taken out leaves a gap, until all before it are gone or there are more
/// gaps than values: senders may come and give up while the first waiter waits on.
#[derive(Debug)]
struct TicketMap<V> {
    entries: VecDeque<(u64, Option<V>)>,
    len: usize,
}

/// Gaps tolerated before compaction.
const MAX_GAPS: usize = 16;

impl<V> TicketMap<V> {
    fn new() -> Self {
        Self { entries: VecDeque::new(), len: 0 }
    }

    /// Adds a value under a ticket greater than all before.
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
        if self.entries.len() > 2 * self.len + MAX_GAPS {
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
        /// Goal: values are found by their ticket, and come out in its order. Method: the same steps on a sorted map.
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec((0u8..4, 0u64..100), 0..200)) {
            let (mut tickets, mut model) = (TicketMap::new(), BTreeMap::new());
            for (next, (step, number)) in steps.into_iter().enumerate() {
                let next = next as u64;
                match step {
                    0 | 1 => {
                        tickets.push(next, next);
                        model.insert(next, next);
                    }
                    2 => prop_assert_eq!(tickets.take(number), model.remove(&number)),
                    _ => prop_assert_eq!(tickets.pop(), model.pop_first()),
                }
                prop_assert_eq!(tickets.len, model.len());
                prop_assert_eq!(tickets.get_mut(number), model.get_mut(&number));
                // Gaps do not pile up.
                prop_assert!(tickets.entries.front().is_none_or(|(_, value)| value.is_some()));
                prop_assert!(tickets.entries.len() <= 2 * tickets.len + MAX_GAPS);
            }
        }
    }
}
