//! [`Heap`]: a binary heap of slots whose positions are known, so that a slot can be moved or removed. The schedule keeps
//! partitions in it.

/// Marks a slot that is not in the heap.
const ABSENT: u32 = u32::MAX;

/// Least key first. Each slot is in it at most once.
#[derive(Debug)]
pub(crate) struct Heap<K> {
    items: Vec<(K, u32)>,
    /// Where in `items` each slot is.
    positions: Vec<u32>,
}

impl<K: Ord + Copy> Heap<K> {
    pub(crate) fn new() -> Self {
        Self { items: Vec::new(), positions: Vec::new() }
    }

    pub(crate) fn peek(&self) -> Option<(K, u32)> {
        self.items.first().copied()
    }

    #[cfg(test)]
    fn contains(&self, slot: u32) -> bool {
        self.position(slot).is_some()
    }

    /// The slots in no particular order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.items.iter().map(|(_, slot)| *slot)
    }

    /// Puts the slot in, or moves it if it is in.
    pub(crate) fn set(&mut self, slot: u32, key: K) {
        let at = match self.position(slot) {
            Some(at) => {
                self.items[at].0 = key;
                at
            }
            None => {
                if self.positions.len() <= slot as usize {
                    self.positions.resize(slot as usize + 1, ABSENT);
                }
                self.items.push((key, slot));
                self.items.len() - 1
            }
        };
        let at = self.sift_up(at);
        self.sift_down(at);
    }

    /// Takes the slot out, if it is in.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(at) = self.position(slot) else {
            return;
        };
        self.positions[slot as usize] = ABSENT;
        self.items.swap_remove(at);
        if at < self.items.len() {
            let at = self.sift_up(at);
            self.sift_down(at);
        }
    }

    /// Gives memory back that a peak has left behind.
    pub(crate) fn shrink(&mut self) {
        if self.items.is_empty() {
            *self = Self::new();
        }
    }

    fn position(&self, slot: u32) -> Option<usize> {
        self.positions.get(slot as usize).filter(|at| **at != ABSENT).map(|at| *at as usize)
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        let item = self.items[at];
        while at > 0 {
            let parent = self.items[(at - 1) / 2];
            if parent.0 <= item.0 {
                break;
            }
            self.put(at, parent);
            at = (at - 1) / 2;
        }
        self.put(at, item);
        at
    }

    fn sift_down(&mut self, mut at: usize) {
        let item = self.items[at];
        loop {
            let left = 2 * at + 1;
            let (least, child) = match (self.items.get(left), self.items.get(left + 1)) {
                (Some(one), Some(other)) if other.0 < one.0 => (left + 1, *other),
                (Some(one), _) => (left, *one),
                (None, _) => break,
            };
            if item.0 <= child.0 {
                break;
            }
            self.put(at, child);
            at = least;
        }
        self.put(at, item);
    }

    fn put(&mut self, at: usize, item: (K, u32)) {
        self.items[at] = item;
        self.positions[item.1 as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: the heap is a priority queue with removal. Method: the same steps on an ordered map.
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec((0u32..20, prop::option::of(0u32..50)), 0..200)) {
            let mut heap = Heap::new();
            let mut model = BTreeMap::new();
            for (slot, key) in steps {
                match key {
                    Some(key) => {
                        heap.set(slot, key);
                        model.insert(slot, key);
                    }
                    None => {
                        heap.remove(slot);
                        model.remove(&slot);
                    }
                }
                prop_assert_eq!(heap.contains(slot), model.contains_key(&slot));
                prop_assert_eq!(heap.peek().map(|(key, _)| key), model.values().min().copied());
            }
            let mut drained = Vec::new();
            while let Some((key, slot)) = heap.peek() {
                drained.push(key);
                heap.remove(slot);
            }
            let mut expected: Vec<u32> = model.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(drained, expected);
        }
    }
}
