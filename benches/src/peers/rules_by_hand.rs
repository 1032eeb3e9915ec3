//! The three rules by hand, with a `VecDeque` per level and the hash table that roundlot uses: what an app would write for
//! itself. In come ops, out come batches of one symbol, greatest level first, with one op per key. It has no verdicts,
//! retries, deadlines or limits.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tokio::sync::mpsc;

use super::{BATCH, ours::PENDING};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

const LEVELS: usize = 4;

/// Where an op waits, and the number under which it joined its level.
type Ticket = (usize, u64);

/// What waits: the op, and the number of its last ticket, as earlier ones are void.
struct Waiting {
    op: Op,
    number: u64,
}

#[derive(Default)]
pub struct ByHand {
    partitions: HashMap<u32, usize>,
    queues: Vec<[VecDeque<Ticket>; LEVELS]>,
    keys: HashMap<u64, usize>,
    slots: Vec<Option<Waiting>>,
    free: Vec<usize>,
    number: u64,
    turn: usize,
}

impl ByHand {
    pub fn waiting(&self) -> usize {
        self.keys.len()
    }

    /// Takes an op in. Says whether it has taken up the place of another one.
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

    /// The next batch of the partition whose turn it is, which may be empty.
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

/// One `send` per op, through a bare channel. What has come in is taken in before anything is cut; then all of it is.
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
    fn the_latest_of_a_key_leaves_with_the_greatest_level() {
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
