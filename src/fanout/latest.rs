//! [`Latest`]: the latest value of each key, in the order in which the keys first came. The key's type is erased, so
//! the hub need not name it. A panic of a user's function changes nothing.

use std::{collections::HashMap, hash::Hash};

/// Slot of an update in the list of latest values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The key is known; its value is in this slot.
    Known(u32),
    /// The key is new; its value goes to the end.
    Fresh,
    /// No key: the value is in no snapshot.
    Unkeyed,
    /// The key is new, and `max_keys` keys are known.
    Full,
}

/// A map from key to slot. Each function of the user that it calls may panic; nothing is changed then.
pub(super) trait Places<T>: Send {
    /// Finds the slot of an update. A fresh one goes to `next`, unless that is `max`.
    fn find(&self, op: &T, next: u32, max: u32) -> Place;

    /// Records the slot of a fresh update.
    fn insert(&mut self, op: &T, place: u32);
}

pub(super) struct Table<K, F> {
    key: F,
    places: HashMap<K, u32>,
}

impl<K, F> Table<K, F> {
    pub(super) fn new(key: F) -> Self {
        Self { key, places: HashMap::new() }
    }
}

impl<T, K, F> Places<T> for Table<K, F>
where
    K: Hash + Eq + Send,
    F: Fn(&T) -> Option<K> + Send,
{
    fn find(&self, op: &T, next: u32, max: u32) -> Place {
        let Some(key) = (self.key)(op) else {
            return Place::Unkeyed;
        };
        match self.places.get(&key) {
            Some(place) => Place::Known(*place),
            None if next >= max => Place::Full,
            None => Place::Fresh,
        }
    }

    fn insert(&mut self, op: &T, place: u32) {
        if let Some(key) = (self.key)(op) {
            self.places.insert(key, place);
        }
    }
}

/// Latest values, in the order in which their keys first came; never more than `max`.
pub(super) struct Latest<T> {
    places: Box<dyn Places<T>>,
    pub(super) values: Vec<T>,
    max: u32,
}

impl<T: Clone> Latest<T> {
    pub(super) fn new(places: Box<dyn Places<T>>, max: u32) -> Self {
        Self { places, values: Vec::new(), max }
    }

    /// Records an update. After a panic of a user's function the value before it is still there.
    pub(super) fn put(&mut self, op: &T) -> Place {
        let next = self.values.len() as u32;
        let place = self.places.find(op, next, self.max);
        match place {
            Place::Known(at) => self.values[at as usize] = op.clone(),
            Place::Fresh => {
                let value = op.clone();
                self.places.insert(op, next);
                self.values.push(value);
            }
            Place::Unkeyed | Place::Full => {}
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_key_is_kept_in_order_of_first_arrival() {
        let key = |op: &(u8, u8)| (op.0 != 0).then_some(op.0);
        let mut latest = Latest::new(Box::new(Table::new(key)), 2);
        let places: Vec<Place> = [(7, 1), (3, 2), (7, 3), (0, 4), (5, 5)].iter().map(|op| latest.put(op)).collect();
        assert_eq!(places, [Place::Fresh, Place::Fresh, Place::Known(0), Place::Unkeyed, Place::Full]);
        assert_eq!(latest.values, [(7, 3), (3, 2)]);
    }
}
