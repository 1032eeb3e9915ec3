//! [`Flagged`]: the ids of ops in the log that are flagged as possible repeats and not settled. A term asks the log for each of them
//! once, and the next term asks again; the log must not forget in between what it has answered. A term adds an id for each op that
//! it reads, and takes it out when that op is settled.

use std::collections::BTreeMap;

/// A producer and the number of an op.
type Id = (u64, u64);

#[derive(Debug, Default)]
pub(super) struct Flagged {
    /// Number of ops by id.
    ops: BTreeMap<Id, usize>,
}

impl Flagged {
    pub(super) fn add(&mut self, id: Id) {
        *self.ops.entry(id).or_default() += 1;
    }

    /// Takes one op of an id out, if there is one.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(count) = self.ops.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.ops.remove(&id);
            }
        }
    }

    pub(super) fn contains(&self, id: Id) -> bool {
        self.ops.contains_key(&id)
    }

    /// The lowest number of each producer.
    pub(super) fn lowest(&self) -> BTreeMap<u64, u64> {
        let (mut lowest, mut from) = (BTreeMap::new(), 0);
        while let Some(((producer, number), _)) = self.ops.range((from, 0)..).next() {
            lowest.insert(*producer, *number);
            from = producer + 1;
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_goes_with_its_last_op() {
        let mut flagged = Flagged::default();
        [(1, 5), (1, 7), (1, 5), (3, 2)].into_iter().for_each(|id| flagged.add(id));
        flagged.remove((1, 5));
        assert_eq!(flagged.lowest(), BTreeMap::from([(1, 5), (3, 2)]));
        [(1, 5), (3, 2), (4, 4)].into_iter().for_each(|id| flagged.remove(id));
        assert_eq!(flagged.lowest(), BTreeMap::from([(1, 7)]));
    }
}
