//! [`Partition`]: the queue of one key, and what keeps it from being cut. At most one batch of it is in flight. Idle partitions
//! are kept for a while and then forgotten.

use std::num::NonZeroU64;

use crate::rules::time::Timestamp;

use super::{Accumulator, store::Queue};

/// Where a partition stands in the schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Slot {
    /// It is empty, or being written.
    #[default]
    Unscheduled,
    /// It lingers, and is not due.
    Lingering,
    BackingOff,
    Due,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) queue: Queue,
    /// Hash by which the table of keys finds it; `None` for the one partition of a batcher that has no keys.
    pub(crate) hash: Option<NonZeroU64>,
    /// At most one batch of a partition is being written, so that its order holds.
    pub(crate) in_flight: bool,
    pub(crate) backing_off: Option<Timestamp>,
    /// Sizes of the parts that a batch was split into, the next one last. Empty: no part is smaller than the limits say.
    pub(crate) parts: Vec<usize>,
    /// It is in the list of those that rest, though it may be in use again.
    pub(crate) in_idle_list: bool,
    /// How many remembered keys name this partition.
    pub(crate) remembered: usize,
    pub(crate) slot: Slot,
    /// When its oldest op came, as far as it lingers: order of arrival, and time of sending.
    pub(crate) oldest: Option<(u64, Timestamp)>,
}

impl Partition {
    /// Nothing would be lost if it were forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.in_flight && self.remembered == 0
    }

    /// How many ops the next batch may hold.
    pub(crate) fn cap(&mut self, max_items: usize) -> usize {
        if !self.queue.is_retried() {
            // None of the ops is left that the parts were made for.
            self.parts.clear();
        }
        self.parts.last().map_or(max_items, |part| max_items.min(*part))
    }

    /// Remembers that `count` ops that failed together are to be tried in two halves.
    pub(crate) fn split(&mut self, count: usize) {
        self.parts.extend([count / 2, count - count / 2].into_iter().filter(|part| *part > 0));
    }

    /// Counts what was cut against the part that it was meant for; `left` says how much still waits.
    pub(crate) fn cut(&mut self, count: usize, left: usize) {
        if left == 0 {
            return self.parts.clear();
        }
        if let Some(part) = self.parts.last_mut() {
            *part = part.saturating_sub(count);
            if *part == 0 {
                self.parts.pop();
            }
        }
    }
}

/// Idle partitions that are kept.
const RESTING: usize = if cfg!(test) { 2 } else { 128 };

impl<T, R> Accumulator<T, R> {
    /// Lets a partition rest that has become idle.
    pub(super) fn rest(&mut self, id: u32) {
        let partition = &mut self.partitions[id as usize];
        if partition.hash.is_none() || std::mem::replace(&mut partition.in_idle_list, true) {
            return;
        }
        self.resting.push_back(id);
        if self.resting.len() > RESTING {
            self.forget_eldest();
        }
    }

    /// Forgets all that are idle.
    pub(super) fn forget_resting(&mut self) {
        while !self.resting.is_empty() {
            self.forget_eldest();
        }
    }

    /// Forgets the one that was the first to rest, unless it is in use by now: then it will rest again.
    fn forget_eldest(&mut self) {
        let Some(id) = self.resting.pop_front() else {
            return;
        };
        let partition = &mut self.partitions[id as usize];
        partition.in_idle_list = false;
        if !partition.is_idle() {
            return;
        }
        let forgotten = self.partitions.remove(id as usize);
        if let (Some(index), Some(hash)) = (&mut self.rules.partition, forgotten.hash) {
            index.unbind(hash, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn buffer() -> Accumulator<u32, ()> {
        Accumulator::new(Stages::new().partition_by(|op: &u32| *op), Limits::new(10), Policy::default())
    }

    /// Sends one op all the way.
    fn pass(buffer: &mut Accumulator<u32, ()>, op: u32) {
        let now = Timestamp::some();
        buffer.push(Arrival { op, at: now, ack: None }, now);
        assert_eq!(buffer.hand_over(now), Some(vec![op]));
    }

    /// Goal: keys seen once cost nothing afterwards. Method: many of them, one after the other.
    #[test]
    fn few_rest() {
        let mut buffer = buffer();
        (0..1000).for_each(|op| pass(&mut buffer, op));
        assert_eq!(buffer.partitions.len(), RESTING);
        buffer.shrink();
        assert_eq!((buffer.partitions.len(), buffer.resting.len()), (0, 0));
    }

    /// Goal: a partition that is in use is not forgotten, although it rested. Method: one is, while others come and go.
    #[test]
    fn who_is_in_use_stays() {
        let (mut buffer, now) = (buffer(), Timestamp::some());
        pass(&mut buffer, 0);
        buffer.set_paused(true);
        buffer.push(Arrival { op: 0, at: now, ack: None }, now);
        let others = 1..=2 * RESTING as u32;
        others.clone().for_each(|op| buffer.push(Arrival { op, at: now, ack: None }, now));
        assert_eq!(buffer.withdraw(|op| *op > 0, now).len(), others.count());
        buffer.set_paused(false);
        assert_eq!(buffer.hand_over(now), Some(vec![0]));
        assert_eq!(buffer.partitions.len(), RESTING);
    }
}
