//! [`Index`]: a table from key to slot that hides the type of the key. Partitions, conflation and dedup each own one.

#[cfg(feature = "durable")]
use std::any::Any;
use std::{
    hash::{BuildHasher, Hash},
    mem::needs_drop,
    num::NonZeroU64,
};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::rules::panics;

/// The answer of an [`Index`] on an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The op has no key: the rule does not apply.
    Unkeyed,
    /// The slot that was bound under the op's key.
    At(u32),
    /// Nothing is bound under the key yet; [`Index::bind`] may follow.
    Fresh,
}

impl Found {
    pub(crate) fn slot(self) -> Option<u32> {
        match self {
            Self::At(slot) => Some(slot),
            Self::Unkeyed | Self::Fresh => None,
        }
    }
}

/// The table as the accumulator sees it. A slot stands under at most one key; `scope` is a part of the key, for keys
/// that live within a partition.
///
/// Only `find` runs code of the user (the key function, `Hash`, `Eq`), and it changes nothing but the remembered key, so
/// that a panic leaves the table whole.
pub(crate) trait Index<T>: Send {
    /// Shows `to` the key of an op, if it has one.
    #[cfg(feature = "durable")]
    fn with_key(&self, op: &T, to: &mut dyn FnMut(&dyn Any));

    /// The type of its keys.
    #[cfg(feature = "durable")]
    fn key_type(&self) -> std::any::TypeId;

    /// A hash of the op's key that is the same in each process; 0 if it has none.
    #[cfg(feature = "durable")]
    fn stable_hash(&self, op: &T) -> u64;

    /// A hash with 128 bits of the op's key, if it has one.
    #[cfg(feature = "durable")]
    fn wide_hash(&self, op: &T) -> Option<u128>;

    /// Looks the op's key up and remembers it for `bind`.
    fn find(&mut self, scope: u32, op: &T) -> Found;

    /// Binds `slot` under the key that `find` just called fresh. Returns the hash by which to unbind.
    fn bind(&mut self, slot: u32) -> NonZeroU64;

    /// Puts `new` in the place of `old`.
    fn rebind(&mut self, hash: NonZeroU64, old: u32, new: u32);

    /// Forgets `slot`.
    fn unbind(&mut self, hash: NonZeroU64, slot: u32);

    /// Gives memory back, now that nothing is bound and slots are numbered from the first one again.
    fn shrink(&mut self);
}

pub(crate) type BoxIndex<T> = Box<dyn Index<T>>;

/// The key that is bound to a slot.
struct Bound<K> {
    hash: NonZeroU64,
    scope: u32,
    key: K,
}

/// The table itself has nothing but slots, so that it stays in a cache for as long as possible: with many keys, fetching
/// its lines is what takes the time.
pub(crate) struct KeyIndex<K, F> {
    key: F,
    table: HashTable<u32>,
    /// Keys by slot, and so as long as there are slots, until it is [shrunk](Index::shrink).
    bound: Vec<Option<Bound<K>>>,
    hasher: DefaultHashBuilder,
    fresh: Option<Bound<K>>,
    /// Removals since more than an eighth of the table was last in use.
    sparse: usize,
}

impl<K, F> KeyIndex<K, F> {
    pub(crate) fn new(key: F) -> Self {
        let (table, bound, hasher) = (HashTable::new(), Vec::new(), DefaultHashBuilder::default());
        Self { key, table, bound, hasher, fresh: None, sparse: 0 }
    }

    fn hash(&self, scope: u32, key: &K) -> NonZeroU64
    where
        K: Hash,
    {
        SET | self.hasher.hash_one((scope, key))
    }

    fn place(&mut self, slot: u32, bound: Option<Bound<K>>) {
        let slot = slot as usize;
        if self.bound.len() <= slot {
            self.bound.resize_with(slot + 1, || None);
        }
        self.bound[slot] = bound;
    }
}

/// A bit that every hash has, so that none costs no memory. The table looks at the lowest and the highest ones.
const SET: NonZeroU64 = NonZeroU64::new(1 << 48).expect("it is not zero");

/// Below this many entries a table is not worth shrinking.
const SHRINK_ABOVE: usize = 4096;

/// The hash by which the table sorts a slot that is in it.
fn hash_of<K>(bound: &[Option<Bound<K>>]) -> impl Fn(&u32) -> u64 {
    |slot| bound[*slot as usize].as_ref().expect("a slot in the table is bound").hash.get()
}

impl<T, K, F> Index<T> for KeyIndex<K, F>
where
    K: Hash + Eq + Send + 'static,
    F: Fn(&T) -> Option<K> + Send,
{
    #[cfg(feature = "durable")]
    fn with_key(&self, op: &T, to: &mut dyn FnMut(&dyn Any)) {
        if let Some(key) = (self.key)(op) {
            to(&key);
        }
    }

    #[cfg(feature = "durable")]
    fn key_type(&self) -> std::any::TypeId {
        std::any::TypeId::of::<K>()
    }

    #[cfg(feature = "durable")]
    fn stable_hash(&self, op: &T) -> u64 {
        (self.key)(op).map_or(0, |key| crate::rules::stable_hash::stable_hash(&key))
    }

    #[cfg(feature = "durable")]
    fn wide_hash(&self, op: &T) -> Option<u128> {
        (self.key)(op).map(|key| crate::rules::stable_hash::wide_hash(&key))
    }

    fn find(&mut self, scope: u32, op: &T) -> Found {
        let Some(key) = (self.key)(op) else {
            return Found::Unkeyed;
        };
        let hash = self.hash(scope, &key);
        let is_it = |slot: &u32| {
            let bound = self.bound[*slot as usize].as_ref();
            bound.is_some_and(|bound| bound.scope == scope && bound.key == key)
        };
        match self.table.find(hash.get(), is_it) {
            Some(slot) => Found::At(*slot),
            None => {
                self.fresh = Some(Bound { hash, scope, key });
                Found::Fresh
            }
        }
    }

    fn bind(&mut self, slot: u32) -> NonZeroU64 {
        let bound = self.fresh.take().expect("bind follows a find that said fresh");
        let hash = bound.hash;
        self.place(slot, Some(bound));
        self.table.insert_unique(hash.get(), slot, hash_of(&self.bound));
        hash
    }

    fn rebind(&mut self, hash: NonZeroU64, old: u32, new: u32) {
        if let Some(slot) = self.table.find_mut(hash.get(), |slot| *slot == old) {
            *slot = new;
            let bound = self.bound[old as usize].take();
            self.place(new, bound);
        }
    }

    fn unbind(&mut self, hash: NonZeroU64, slot: u32) {
        if let Ok(entry) = self.table.find_entry(hash.get(), |other| *other == slot) {
            entry.remove();
            // A key that owns nothing may stay until the slot is bound again: it is elsewhere than all that is looked at here.
            if needs_drop::<K>() {
                drop(panics::discard(self.bound[slot as usize].take()));
            }
        }
        // A million keys seen once must cost nothing afterwards; but a table that fills and empties again and again is
        // left as it is.
        let (capacity, len) = (self.table.capacity(), self.table.len());
        if capacity <= SHRINK_ABOVE {
            return;
        }
        self.sparse = if len > capacity / 8 { 0 } else { self.sparse + 1 };
        if len == 0 || self.sparse > capacity {
            self.table.shrink_to(len * 2, hash_of(&self.bound));
        }
    }

    fn shrink(&mut self) {
        if self.table.is_empty() {
            (self.table, self.bound) = (HashTable::new(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_scope_until_unbound() {
        let mut index = KeyIndex::new(|op: &u32| (*op != 0).then_some(*op));
        assert_eq!(index.find(0, &0), Found::Unkeyed);
        assert_eq!(index.find(0, &7), Found::Fresh);
        let hash = Index::<u32>::bind(&mut index, 3);
        assert_eq!(index.find(0, &7), Found::At(3));
        assert_eq!(index.find(1, &7), Found::Fresh);
        Index::<u32>::rebind(&mut index, hash, 3, 4);
        assert_eq!(index.find(0, &7), Found::At(4));
        Index::<u32>::unbind(&mut index, hash, 4);
        assert_eq!(index.find(0, &7), Found::Fresh);
    }

    #[test]
    fn a_table_of_dead_keys_shrinks() {
        let mut index = KeyIndex::new(|op: &u32| Some(*op));
        let hashes: Vec<NonZeroU64> = (0..100_000)
            .map(|op| {
                assert_eq!(index.find(0, &op), Found::Fresh);
                Index::<u32>::bind(&mut index, op)
            })
            .collect();
        for (slot, hash) in hashes.into_iter().enumerate() {
            Index::<u32>::unbind(&mut index, hash, slot as u32);
        }
        assert!(index.table.capacity() <= 2 * SHRINK_ABOVE, "{}", index.table.capacity());
    }

    /// Goal: few keys that met a burst of ops without any cost nothing afterwards, either. Method: one, under a high slot.
    #[test]
    fn the_memory_of_slots_is_given_back() {
        let mut index = KeyIndex::new(|op: &u32| Some(*op));
        assert_eq!(index.find(0, &7), Found::Fresh);
        let hash = Index::<u32>::bind(&mut index, 100_000);
        Index::<u32>::shrink(&mut index);
        assert_eq!(index.find(0, &7), Found::At(100_000), "what is bound stays");
        Index::<u32>::unbind(&mut index, hash, 100_000);
        Index::<u32>::shrink(&mut index);
        assert_eq!((index.bound.capacity(), index.table.capacity()), (0, 0));
    }
}
