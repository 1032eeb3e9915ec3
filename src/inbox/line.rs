//! Senders in line for room. In comes a sender that found none, out it comes, first come, first served, once room is
//! there for it. Next room: `state`, which keeps the line.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll, Waker},
};

/// By the number that each sender drew.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Line {
    waiting: BTreeMap<u64, Waker>,
    next: u64,
    /// Those who have room and have not noticed yet.
    called: BTreeSet<u64>,
}

/// Where a sender stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Outside,
    Number(u64),
}

impl Line {
    pub(super) fn new() -> Self {
        Self { next: 0, waiting: BTreeMap::new(), called: BTreeSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Joins the line, or looks whether one has been called.
    pub(super) fn poll(&mut self, place: &mut Place, cx: &mut Context<'_>) -> Poll<()> {
        let number = match *place {
            Place::Number(number) => number,
            Place::Outside => {
                self.next += 1;
                *place = Place::Number(self.next);
                self.next
            }
        };
        if self.called.remove(&number) {
            *place = Place::Outside;
            return Poll::Ready(());
        }
        self.waiting.entry(number).or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        Poll::Pending
    }

    /// Calls the first in line.
    pub(super) fn call(&mut self) -> Option<Waker> {
        let (number, waker) = self.waiting.pop_first()?;
        self.called.insert(number);
        Some(waker)
    }

    /// Leaves the line. Says whether room is left over, since the sender had been called.
    pub(super) fn leave(&mut self, place: Place) -> bool {
        let Place::Number(number) = place else {
            return false;
        };
        self.waiting.remove(&number).is_none() && self.called.remove(&number)
    }

    /// Sends everyone home.
    pub(super) fn disband(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }
}
