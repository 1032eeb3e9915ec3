//! The three rules by hand, as an app would write them: a `VecDeque` per level, and the hash table that roundlot uses.
//!
//! A batch has ops of one symbol, the greatest level first, and one op per key. There are no verdicts, retries,
//! deadlines or limits. The rows `rules` and `staged` call it.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tokio::sync::mpsc;

use super::{BATCH, ours::PENDING};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// The number of levels of priority, as in the mix of ops.
const LEVELS: usize = 4;

/// An entry in the queue of a level: the slot of a waiting op, and the number that it got when it joined the queue.
type Ticket = (usize, u64);

/// A waiting op.
struct Waiting {
    /// The latest op of its key.
    op: Op,
    /// The number of its last ticket. Tickets with other numbers are void.
    number: u64,
}

/// Waiting ops by partition, level and key. Each waiting op has one slot, one key, and one ticket that is not void.
#[derive(Default)]
pub struct ByHand {
    /// The index in `queues` per symbol.
    partitions: HashMap<u32, usize>,
    queues: Vec<[VecDeque<Ticket>; LEVELS]>,
    /// The slot of the waiting op per key.
    keys: HashMap<u64, usize>,
    slots: Vec<Option<Waiting>>,
    /// Slots without an op.
    free: Vec<usize>,
    /// The number of the latest push.
    number: u64,
    /// The partition of the last cut.
    turn: usize,
}

impl ByHand {
    /// The number of waiting ops.
    pub fn waiting(&self) -> usize {
        self.keys.len()
    }

    /// Takes an op in. Returns whether it was conflated with a waiting op.
    pub fn push(&mut self, mut op: Op) -> bool {
        let queues = &mut self.queues;
        let partition = *self.partitions.entry(op.symbol).or_insert_with(|| {
            queues.push(Default::default());
            queues.len() - 1
        });
        self.number += 1;
        if let Some(slot) = self.keys.get(&op.key)
            && let Some(waiting) = &mut self.slots[*slot]
        {
            if op.level > waiting.op.level {
                waiting.number = self.number;
                self.queues[partition][usize::from(op.level)].push_back((*slot, self.number));
            }
            op.level = op.level.max(waiting.op.level);
            waiting.op = op;
            return true;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Waiting { op, number: self.number });
        self.keys.insert(op.key, slot);
        self.queues[partition][usize::from(op.level)].push_back((slot, self.number));
        false
    }

    /// Cuts a batch of at most `most` ops from the partition whose turn it is. The batch may be empty.
    pub fn cut(&mut self, most: usize) -> Vec<Op> {
        self.turn = (self.turn + 1) % self.queues.len().max(1);
        let mut batch = Vec::new();
        for queue in self.queues.get_mut(self.turn).into_iter().flat_map(|levels| levels.iter_mut().rev()) {
            while batch.len() < most
                && let Some((slot, number)) = queue.pop_front()
            {
                if let Some(waiting) = self.slots[slot].take_if(|waiting| waiting.number == number) {
                    self.keys.remove(&waiting.op.key);
                    self.free.push(slot);
                    batch.push(waiting.op);
                }
            }
        }
        batch
    }
}

/// Sends ops one by one, through a bare channel. The task pushes all received ops, then cuts until no op waits.
pub async fn send(load: Load, op: impl Fn(u64) -> Op + Copy + Send + 'static) {
    let target = Target::default();
    let (desk, mut inbox) = mpsc::channel(PENDING);
    let producers = load.start(|share| {
        let desk = desk.clone();
        async move {
            for i in share {
                desk.send(op(i)).await.expect("the other end is there");
            }
        }
    });
    drop(desk);
    let counts = target.clone();
    let consumer = tokio::spawn(async move {
        let (mut rules, mut merged) = (ByHand::default(), 0);
        let mut came = Vec::with_capacity(PENDING);
        while inbox.recv_many(&mut came, PENDING).await > 0 {
            merged += came.drain(..).filter(|op| rules.push(*op)).count() as u64;
            while rules.waiting() > 0 {
                let batch = rules.cut(BATCH);
                if !batch.is_empty() {
                    counts.take(&batch);
                }
            }
        }
        merged
    });
    join(producers).await;
    let merged = consumer.await.expect("the consumer does not panic");
    target.check(load.ops - merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_op_of_a_key_leaves_with_the_greatest_level() {
        let mut rules = ByHand::default();
        let op = |id, key, level| Op { key, level, ..Op::numbered(id) };
        let merged = [op(1, 7, 0), op(2, 8, 1), op(3, 9, 1), op(4, 7, 3), op(5, 8, 0)].map(|op| rules.push(op));
        assert_eq!(merged, [false, false, false, true, true]);
        let ids = |batch: Vec<Op>| batch.iter().map(|op| op.id).collect::<Vec<_>>();
        assert_eq!(ids(rules.cut(2)), [4, 5]);
        assert_eq!(ids(rules.cut(2)), [3]);
        assert_eq!((rules.waiting(), rules.cut(2).len()), (0, 0));
    }
}
