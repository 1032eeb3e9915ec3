//! [`Latest`]: the latest value of each key, in the order in which the keys first came. The key's type is erased, so
//! the hub need not name it. A panic of a user's function changes nothing.

use std::{collections::HashMap, hash::Hash};

/// Slot of an update in the list of latest values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The key is known; its value is in this slot.
    Known(u32),
    /// The key is new; its value goes to the end.
    New,
    /// No key: the value is in no snapshot.
    Unkeyed,
    /// The key is new, and `max_keys` keys are known.
    Full,
}

/// A map from key to slot. Each function of the user that it calls may panic; nothing is changed then.
pub(super) trait SlotIndex<T>: Send {
    /// Finds the slot of an update. A new one goes to `next`, unless that is `max`.
    fn find(&self, op: &T, next: u32, max: u32) -> Slot;

    /// Records the slot of a new update.
    fn insert(&mut self, op: &T, slot: u32);
}

pub(super) struct KeyIndex<K, F> {
    key: F,
    slots: HashMap<K, u32>,
}

impl<K, F> KeyIndex<K, F> {
    pub(super) fn new(key: F) -> Self {
        Self { key, slots: HashMap::new() }
    }
}

impl<T, K, F> SlotIndex<T> for KeyIndex<K, F>
where
    K: Hash + Eq + Send,
    F: Fn(&T) -> Option<K> + Send,
{
    fn find(&self, op: &T, next: u32, max: u32) -> Slot {
        let Some(key) = (self.key)(op) else {
            return Slot::Unkeyed;
        };
        match self.slots.get(&key) {
            Some(slot) => Slot::Known(*slot),
            None if next >= max => Slot::Full,
            None => Slot::New,
        }
    }

    fn insert(&mut self, op: &T, slot: u32) {
        if let Some(key) = (self.key)(op) {
            self.slots.insert(key, slot);
        }
    }
}

/// Latest values, in the order in which their keys first came; never more than `max`.
pub(super) struct Latest<T> {
    slots: Box<dyn SlotIndex<T>>,
    pub(super) values: Vec<T>,
    max: u32,
}

impl<T: Clone> Latest<T> {
    pub(super) fn new(slots: Box<dyn SlotIndex<T>>, max: u32) -> Self {
        Self { slots, values: Vec::new(), max }
    }

    /// Records an update. After a panic of a user's function the value before it is still there.
    pub(super) fn put(&mut self, op: &T) -> Slot {
        let next = self.values.len() as u32;
        let slot = self.slots.find(op, next, self.max);
        match slot {
            Slot::Known(at) => self.values[at as usize] = op.clone(),
            Slot::New => {
                let value = op.clone();
                self.slots.insert(op, next);
                self.values.push(value);
            }
            Slot::Unkeyed | Slot::Full => {}
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_key_is_kept_in_order_of_first_arrival() {
        let key = |op: &(u8, u8)| (op.0 != 0).then_some(op.0);
        let mut latest = Latest::new(Box::new(KeyIndex::new(key)), 2);
        let slots: Vec<Slot> = [(7, 1), (3, 2), (7, 3), (0, 4), (5, 5)].iter().map(|op| latest.put(op)).collect();
        assert_eq!(slots, [Slot::New, Slot::New, Slot::Known(0), Slot::Unkeyed, Slot::Full]);
        assert_eq!(latest.values, [(7, 3), (3, 2)]);
    }
}
