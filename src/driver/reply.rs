//! A reply: one value from the task to one caller. [`ReplyPool`] is a pool of their memory.
//!
//! A reply does what a oneshot channel does, without the allocation that each of those is, the largest part of the cost of an ack.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::{
    driver::{mutex::Mutex, wake::wake_contained},
    rules::{
        outcome::{Answer, Packed},
        panics,
        stats::flush::{Cursor, FlushCaller, FlushReport},
    },
};

/// Slots that have been used, the one that has been in use longest first.
#[derive(Debug)]
pub(crate) struct ReplyPool<V> {
    slots: Mutex<VecDeque<Arc<Slot<V>>>>,
}

#[derive(Debug)]
struct Slot<V>(Mutex<State<V>>);

#[derive(Debug)]
enum State<V> {
    /// Nothing has happened yet.
    Open,
    /// The receiver waits.
    Waiting(Waker),
    Ready(V),
    /// The sender is gone without an answer, or the receiver is gone.
    Closed,
}

/// The end that answers. Dropped without an answer, it tells that there will be none.
#[derive(Debug)]
pub(crate) struct Sender<V>(Option<Arc<Slot<V>>>);

/// The other end of an [`Ack`](crate::Ack). Dropped without an answer, it says that the op is lost.
pub(crate) type AckSender<R> = Sender<Packed<R>>;

/// The end that waits: for the answer, or `None` if there will be none.
#[derive(Debug)]
pub(crate) struct Receiver<V>(Option<Arc<Slot<V>>>);

/// Slots of so many bytes are kept: with a small answer, for a thousand acks of one handle that wait at a time.
const MAX_RETAINED_BYTES: usize = 65_536;

/// Slots examined for reuse before allocating. With callers that wait about equally long, the first one is free.
const MAX_EXAMINED: usize = 2;

/// Both ends of a reply in memory of its own, for what is rare.
pub(crate) fn pair<V>() -> (Sender<V>, Receiver<V>) {
    let slot = Arc::new(Slot(Mutex::new(State::Open)));
    (Sender(Some(Arc::clone(&slot))), Receiver(Some(slot)))
}

impl<V> ReplyPool<V> {
    /// Slots kept for reuse.
    const MAX_RETAINED: usize = MAX_RETAINED_BYTES / (size_of::<Slot<V>>() + 2 * size_of::<usize>());

    pub(crate) fn new() -> Self {
        Self { slots: Mutex::new(VecDeque::new()) }
    }

    /// Both ends of a new reply.
    pub(crate) fn pair(&self) -> (Sender<V>, Receiver<V>) {
        let mut slots = self.slots.lock();
        let slot = (0..MAX_EXAMINED).find_map(|_| {
            let mut first = slots.pop_front()?;
            // A free slot has no other owner.
            match Arc::get_mut(&mut first) {
                Some(slot) => {
                    *slot.0.get_mut() = State::Open;
                    Some(first)
                }
                None => {
                    slots.push_back(first);
                    None
                }
            }
        });
        let slot = slot.unwrap_or_else(|| Arc::new(Slot(Mutex::new(State::Open))));
        if slots.len() < Self::MAX_RETAINED {
            slots.push_back(Arc::clone(&slot));
        }
        (Sender(Some(Arc::clone(&slot))), Receiver(Some(slot)))
    }
}

impl<V> Slot<V> {
    fn end(&self, end: State<V>) {
        let mut state = self.0.lock();
        let before = match &*state {
            State::Open | State::Waiting(_) => mem::replace(&mut *state, end),
            // A receiver that is gone does not want to know.
            State::Ready(_) | State::Closed => {
                drop(state);
                // A receipt belongs to the user: its destructor may panic.
                return drop(panics::discard(end));
            }
        };
        drop(state);
        if let State::Waiting(waker) = before {
            wake_contained(waker);
        }
    }
}

impl<V> Sender<V> {
    /// Whether the receiver is gone, so that an answer would be dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_none_or(|slot| matches!(*slot.0.lock(), State::Closed))
    }

    pub(crate) fn tell(mut self, value: V) {
        if let Some(slot) = self.0.take() {
            slot.end(State::Ready(value));
        }
    }
}

/// Tells a caller what became of its op.
pub(crate) fn tell<R>(answer: Answer<AckSender<R>, R>) {
    answer.token.tell(answer.outcome);
}

impl FlushCaller for Sender<(FlushReport, Cursor)> {
    fn is_gone(&self) -> bool {
        self.is_abandoned()
    }

    fn tell(self: Box<Self>, report: FlushReport, cursor: Cursor) {
        (*self).tell((report, cursor));
    }
}

impl<V> Drop for Sender<V> {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            slot.end(State::Closed);
        }
    }
}

impl<V> Future for Receiver<V> {
    type Output = Option<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<V>> {
        let Some(slot) = &self.0 else {
            return Poll::Ready(None);
        };
        let mut state = slot.0.lock();
        match &mut *state {
            State::Open => {
                *state = State::Waiting(cx.waker().clone());
                return Poll::Pending;
            }
            State::Waiting(waker) => {
                // Dropped when the lock is free: a waker may own a task, and that whatever it likes.
                let before = (!waker.will_wake(cx.waker())).then(|| mem::replace(waker, cx.waker().clone()));
                drop(state);
                drop(before);
                return Poll::Pending;
            }
            State::Ready(_) | State::Closed => {}
        }
        let end = mem::replace(&mut *state, State::Closed);
        drop(state);
        self.0 = None;
        Poll::Ready(match end {
            State::Ready(value) => Some(value),
            _ => None,
        })
    }
}

impl<V> Drop for Receiver<V> {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            // A value that will not be read is not kept until the slot is used again.
            let left = mem::replace(&mut *slot.0.lock(), State::Closed);
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    /// Goal: an answer arrives whichever comes first, the answer or the wait for it. Method: both orders.
    #[test]
    fn an_answer_arrives() {
        let replies = ReplyPool::new();
        let (sender, receiver) = replies.pair();
        let mut early = task::spawn(receiver);
        assert_pending!(early.poll());
        sender.tell(1);
        assert!(early.is_woken());
        assert_ready_eq!(early.poll(), Some(1));

        let (sender, receiver) = replies.pair();
        sender.tell(2);
        assert_ready_eq!(task::spawn(receiver).poll(), Some(2));
    }

    /// Goal: no path leaves a caller waiting. Method: the sender is dropped.
    #[test]
    fn a_sender_that_is_dropped_answers_that_there_is_no_answer() {
        let replies = ReplyPool::<u32>::new();
        let (sender, receiver) = replies.pair();
        let mut waits = task::spawn(receiver);
        assert_pending!(waits.poll());
        drop(sender);
        assert!(waits.is_woken());
        assert_ready_eq!(waits.poll(), None);
    }

    /// Goal: memory is used again, and only when both ends are gone. Method: count the slots.
    #[test]
    fn slots_are_used_again_when_both_ends_are_gone() {
        let replies = ReplyPool::new();
        for value in 0..100 {
            let (sender, receiver) = replies.pair();
            sender.tell(value);
            assert_ready_eq!(task::spawn(receiver).poll(), Some(value));
        }
        assert_eq!(replies.slots.lock().len(), 1);

        let (sender, receiver) = replies.pair();
        drop(receiver);
        let (_other, receiver) = replies.pair();
        sender.tell(1);
        assert_pending!(task::spawn(receiver).poll());
        assert_eq!(replies.slots.lock().len(), 2);
    }

    /// Goal: what is kept is bounded in bytes, and an unread answer is not kept. Method: many at a time, small
    /// ones and large ones.
    #[test]
    fn a_burst_leaves_no_more_than_so_many_bytes() {
        fn burst<V: Clone>(value: &V) -> ReplyPool<V> {
            let replies = ReplyPool::new();
            let burst: Vec<_> = (0..5000).map(|_| replies.pair()).collect();
            for (sender, receiver) in burst {
                sender.tell(value.clone());
                drop(receiver);
            }
            replies
        }
        let value = Arc::new(());
        let small = burst(&value);
        assert_eq!(Arc::strong_count(&value), 1);
        let large = burst(&[0_u8; 512]);
        for bytes in [small.slots.lock().len() * 40, large.slots.lock().len() * 544] {
            assert!((MAX_RETAINED_BYTES / 2..=MAX_RETAINED_BYTES).contains(&bytes), "{bytes}");
        }
    }
}
