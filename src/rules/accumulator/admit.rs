//! Accepts an op: dedup, partition, conflate, priority, in this order. Afterwards the op is a node in a queue, or has ended and
//! its caller has an answer. The driver calls [`Accumulator::push`] and `accept`.

mod doubt;

use std::{collections::HashSet, iter};

use super::{
    Accumulator, Intake,
    arrivals::{Arrival, Run},
    ledger::Entry,
    store::NodeMeta,
};
use crate::rules::{
    batch::SinkError,
    outcome::{End, Waiters},
    panics,
    stage::Found,
    time::Timestamp,
};

/// The answers of the stages on an op, before anything has been changed.
struct Class {
    /// The partition; if its key is new, the number that it will get.
    partition: u32,
    is_new: bool,
    repeat_of: Found,
    meets: Found,
    level: u32,
    weight: usize,
    urgent: bool,
}

impl Class {
    /// The class of any op for which no stage is asked.
    const UNASKED: Self = Self {
        partition: 0,
        is_new: false,
        repeat_of: Found::Unkeyed,
        meets: Found::Unkeyed,
        level: 0,
        weight: 1,
        urgent: false,
    };
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Takes an op in.
    pub(crate) fn push(&mut self, arrival: Arrival<T, A>, now: Timestamp) {
        if self.intake == Intake::Plain {
            let Arrival { op, at, token } = arrival;
            let run = Run { count: 1, at, has_permit: true, has_tokens: token.is_some(), open_to: 0 };
            return self.append_run(run, iter::once(op), token.into_iter(), now);
        }
        let Entry { seq, epoch } = self.ledger.next();
        self.ledger.accept(1);
        let class = if self.intake == Intake::Unasked {
            Class::UNASKED
        } else {
            self.expire_keys(now);
            // The user's functions are called before anything changes, so that a panic in one
            // of them leaves the buffer as it was.
            match panics::catch(|| self.classify(&arrival.op)) {
                Ok(class) => class,
                Err(panic) => return self.refuse_arrival(arrival, epoch, &*panic, now),
            }
        };
        // The op and its token stay where they are until it is known where they go, as they are large.
        let at = arrival.at;
        if let Found::At(key) = class.repeat_of {
            self.ledger.ended(epoch, End::Deduplicated, None, 1);
            self.discard(arrival.op);
            self.repeat(key, Waiters::of(arrival.token, at), now);
            return;
        }
        if class.is_new {
            self.bind_partition();
        }
        let mut dedup_key = None;
        if class.repeat_of == Found::Fresh {
            let slot = class.meets.slot().unwrap_or(self.nodes.vacant());
            dedup_key = Some(self.remember(class.partition, slot, now));
        }
        let Class { partition, level, weight, urgent, meets, .. } = class;
        let meta = NodeMeta { seq, at, partition, level, weight, urgent, epoch };
        if let Found::At(waiting) = meets {
            self.conflate_arrival(waiting, arrival.op, meta, Waiters::of_both(arrival.token, at, dedup_key), now);
        } else {
            let slot = self.nodes.insert(meta);
            self.nodes.set_waiters(slot, Waiters::of_both(arrival.token, at, dedup_key));
            self.nodes[slot].op = Some(arrival.op);
            if meets == Found::Fresh {
                self.bind_conflation(slot);
            }
            self.enqueue_new(slot, now);
        }
        self.press_if_full();
        if self.rules.order.is_crowded {
            self.forget_levels();
        }
    }

    /// Forgets the levels that no op has.
    #[cold]
    fn forget_levels(&mut self) {
        let in_use: HashSet<u32> = self.nodes.iter().map(|(_, node)| node.level).collect();
        if let Some(levels) = &mut self.rules.priority {
            levels.forget_unused(&|level| in_use.contains(&level), &mut self.rules.order);
        }
    }

    fn classify(&mut self, op: &T) -> Class {
        let rules = &mut self.rules;
        let weight = rules.weight.as_ref().map_or(1, |weigh| weigh(op));
        let urgent = rules.urgent.as_ref().is_some_and(|urgent| urgent(op));
        let (partition, is_new) = match &mut rules.partition {
            None => (0, false),
            Some(index) => match index.find(0, op) {
                Found::At(id) => (id, false),
                Found::Unkeyed | Found::Fresh => (self.schedule.partitions().vacant(), true),
            },
        };
        let repeat_of = rules.dedup.as_mut().map_or(Found::Unkeyed, |dedup| dedup.index.find(partition, op));
        let meets = rules.conflate.as_mut().map_or(Found::Unkeyed, |conflate| conflate.index.find(partition, op));
        let level = rules.priority.as_mut().map_or(0, |levels| levels.of(op, &mut rules.order));
        Class { partition, is_new, repeat_of, meets, level, weight, urgent }
    }

    fn bind_partition(&mut self) {
        let index = self.rules.partition.as_mut().expect("only a key makes a partition");
        let partitions = self.schedule.partitions_mut();
        let hash = index.bind(partitions.vacant());
        partitions.add(hash);
    }

    pub(super) fn bind_conflation(&mut self, slot: u32) {
        let conflate = self.rules.conflate.as_mut().expect("only a conflation key is fresh here");
        self.nodes[slot].conflate = Some(conflate.index.bind(slot));
    }

    /// Lets an op wait that has just come: it is newer than all that do.
    #[inline(always)]
    pub(super) fn enqueue_new(&mut self, slot: u32, now: Timestamp) {
        self.ledger.queued(1);
        let node = &self.nodes[slot];
        let (id, urgent) = (node.partition, node.urgent);
        let queue = self.schedule.queue_mut(id);
        let heads_its_level = queue.append(&mut self.nodes, &self.rules.order, slot);
        let full = self.caps.is_full(queue.len(), queue.weight());
        if self.victims.is_some() {
            self.list_victim(slot);
        }
        if self.rules.together && self.schedule.next_due().is_some() {
            self.schedule.gather_below(self.ledger.next_seq());
        }
        if heads_its_level || full || urgent {
            self.reschedule_joined(id, slot, full || urgent, now);
        }
    }

    /// Places a partition that an op has joined which may have changed its place.
    #[inline(never)]
    fn reschedule_joined(&mut self, id: u32, slot: u32, hurries: bool, now: Timestamp) {
        let queue = self.schedule.queue(id);
        // The place of a partition that is due already, or can't be cut yet, does not depend on what joins it.
        if queue.len() == 1 || (hurries && self.schedule.is_lingering(id)) {
            self.reschedule(id, now);
        } else if queue.next(&self.nodes, &self.rules.order, now) == Some(slot) {
            self.reorder_due(id, now);
        }
    }

    /// Puts a node into its queue; `comes_back` says that it is older than most there.
    pub(super) fn insert(&mut self, slot: u32, comes_back: bool) {
        let id = self.nodes[slot].partition;
        self.schedule.queue_mut(id).insert(&mut self.nodes, &self.rules.order, slot, comes_back);
    }

    pub(super) fn take_op(&mut self, slot: u32) -> T {
        self.nodes[slot].op.take().expect("an op that waits is in its node")
    }

    /// An op may outgrow the cap when it is merged, or when the cap is lowered.
    pub(super) fn too_heavy(&self, weight: usize) -> SinkError {
        SinkError::refused(format!("it weighs {weight}, and max_weight is {}", self.caps.weight))
    }
}
