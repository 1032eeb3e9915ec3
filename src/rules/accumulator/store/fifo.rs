//! [`Fifo`]: a queue that moves items in bulk.
//!
//! Two stacks: items are appended to one, which is turned over into the other when that is empty. `VecDeque` does the same in one
//! piece, but pops one item at a time.

/// First in, first out.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    /// The first is last.
    front: Vec<T>,
    /// Items that came in since `front` was filled, in order.
    back: Vec<T>,
}

impl<T> Fifo<T> {
    pub(crate) fn new() -> Self {
        Self { front: Vec::new(), back: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.back.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn extend(&mut self, items: impl Iterator<Item = T>) {
        self.back.extend(items);
    }

    /// Takes all of `items`, and leaves it empty, though not without memory.
    pub(crate) fn append(&mut self, items: &mut Vec<T>) {
        if self.back.is_empty() {
            std::mem::swap(&mut self.back, items);
        } else {
            self.back.append(items);
        }
    }

    /// Moves the first `count` items to the end of `into`.
    pub(crate) fn take(&mut self, count: usize, into: &mut Vec<T>) {
        let from_front = count.min(self.front.len());
        into.extend(self.front.drain(self.front.len() - from_front..).rev());
        let missing = count - from_front;
        if missing > 0 && missing == self.back.len() {
            if into.is_empty() {
                std::mem::swap(into, &mut self.back);
            } else {
                into.append(&mut self.back);
            }
        } else if missing > 0 {
            self.back.reverse();
            std::mem::swap(&mut self.front, &mut self.back);
            into.extend(self.front.drain(self.front.len() - missing..).rev());
        }
    }

    /// Memory for so many items. Those without a size take none.
    pub(crate) fn capacity(&self) -> usize {
        if size_of::<T>() == 0 { 0 } else { self.front.capacity() + self.back.capacity() }
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = T> {
        self.front.into_iter().rev().chain(self.back)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: it is a queue. Method: the same steps on a `VecDeque`.
        #[test]
        fn agrees_with_a_deque(steps in prop::collection::vec((0usize..20, 0usize..20, any::<bool>()), 0..50)) {
            let (mut queue, mut model) = (Fifo::new(), VecDeque::new());
            let mut numbers = 0u32..;
            for (comes, goes, at_once) in steps {
                let mut items: Vec<u32> = numbers.by_ref().take(comes).collect();
                model.extend(items.iter().copied());
                if at_once {
                    queue.append(&mut items);
                } else {
                    queue.extend(items.into_iter());
                }
                let goes = goes.min(model.len());
                let mut gone = Vec::new();
                queue.take(goes, &mut gone);
                prop_assert_eq!(gone, model.drain(..goes).collect::<Vec<_>>());
                prop_assert_eq!(queue.len(), model.len());
            }
            prop_assert_eq!(queue.into_iter().collect::<Vec<_>>(), Vec::from(model));
        }
    }
}
