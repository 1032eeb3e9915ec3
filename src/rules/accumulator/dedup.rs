//! [`DedupWindow`]: the keys that dedup has seen within its window, and how their ops ended, which answers repeats.

use std::{collections::VecDeque, num::NonZeroU64};

use slab::Slab;

use super::Accumulator;
use crate::rules::{
    outcome::{AckError, End, Waiters},
    panics,
    stage::REMEMBERED_KEYS,
    time::Timestamp,
};

#[derive(Debug)]
pub(super) struct DedupWindow<R> {
    keys: Slab<Key<R>>,
    /// In the order in which they were seen, which is that in which their windows end.
    by_age: VecDeque<u32>,
}

#[derive(Debug)]
struct Key<R> {
    partition: u32,
    hash: NonZeroU64,
    /// `None`: for ever.
    until: Option<Timestamp>,
    /// Its window is over; it stays only until the op that refers to it is settled.
    expired: bool,
    entry: Entry<R>,
}

#[derive(Debug)]
enum Entry<R> {
    /// The op, or the one it was merged into, is in this node.
    Pending(u32),
    Done {
        attempts: u32,
        result: Result<R, AckError>,
    },
}

impl<R> DedupWindow<R> {
    pub(super) fn new() -> Self {
        Self { keys: Slab::new(), by_age: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn capacity(&self) -> usize {
        self.keys.capacity()
    }

    /// The op of a key lives on in another node.
    pub(super) fn moved(&mut self, key: u32, slot: u32) {
        self.keys[key as usize].entry = Entry::Pending(slot);
    }
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Remembers the key that dedup has just called fresh, for the op in `slot`. Returns the number
    /// of the key, by which its repeats are answered.
    pub(super) fn remember(&mut self, partition: u32, slot: u32, now: Timestamp) -> u32 {
        let dedup = self.rules.dedup.as_mut().expect("only a dedup key is fresh here");
        let id = self.dedup.keys.vacant_key() as u32;
        let hash = dedup.index.bind(id);
        let until = now.checked_add(dedup.window);
        self.dedup.keys.insert(Key { partition, hash, until, expired: false, entry: Entry::Pending(slot) });
        self.dedup.by_age.push_back(id);
        self.schedule.partitions_mut()[partition].remember_key();
        id
    }

    /// Lets the callers of a repeat share the outcome of the first.
    pub(super) fn repeat(&mut self, key: u32, mut waiters: Waiters<A>, now: Timestamp) {
        waiters.mark(End::Deduplicated);
        match &self.dedup.keys[key as usize].entry {
            Entry::Pending(slot) => {
                let first = &mut self.nodes.cold_mut(*slot).waiters;
                waiters.for_each(|waiter| first.add(waiter));
            }
            Entry::Done { attempts, result } => {
                let (attempts, result) = (*attempts, panics::catch(|| result.clone()));
                let result = self.copied(result);
                self.answer(waiters, End::Deduplicated, attempts, result, now);
            }
        }
    }

    /// The op of a key is settled: its repeats will hear of it from here.
    pub(super) fn complete_key(&mut self, key: u32, attempts: u32, result: Result<R, AckError>) {
        if self.dedup.keys[key as usize].expired {
            self.dedup.keys.remove(key as usize);
            self.discard(result);
        } else {
            self.dedup.keys[key as usize].entry = Entry::Done { attempts, result };
        }
    }

    /// Forgets the keys whose window is over, and the oldest if there are too many.
    pub(super) fn expire_keys(&mut self, now: Timestamp) {
        while let Some(id) = self.dedup.by_age.front().copied() {
            let key = &mut self.dedup.keys[id as usize];
            let over = key.until.is_some_and(|until| until <= now);
            if !over && self.dedup.by_age.len() <= REMEMBERED_KEYS {
                break;
            }
            self.dedup.by_age.pop_front();
            let (partition, hash) = (key.partition, key.hash);
            match key.entry {
                Entry::Pending(_) => key.expired = true,
                Entry::Done { .. } => drop(panics::discard(self.dedup.keys.remove(id as usize))),
            }
            if let Some(dedup) = &mut self.rules.dedup {
                dedup.index.unbind(hash, id);
            }
            let partition_of_key = &mut self.schedule.partitions_mut()[partition];
            partition_of_key.forget_key();
            if partition_of_key.is_idle() {
                self.reschedule(partition, now);
            }
        }
    }
}
