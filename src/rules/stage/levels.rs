//! [`Levels`]: levels of priority of any ordered type, numbered. Ids compare by rank. The queue of a partition keeps one list
//! per level.

use std::time::Duration;

/// How levels compare, and how age moves an op up.
///
/// Ranks are dense: 0 is the lowest level known. A level that is new shifts the ranks above it, which is cheap as long
/// as levels are few, as levels of priority are.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Levels by their ids.
    ranks: Vec<u32>,
    pub(crate) aging: Option<Duration>,
    /// Changes when ranks have shifted, so that whoever remembers one can look again.
    pub(crate) version: u64,
    /// More levels are known than are kept unchecked: unused ones are to be forgotten.
    pub(crate) is_crowded: bool,
}

impl Order {
    pub(crate) fn rank(&self, level: u32) -> u32 {
        self.ranks.get(level as usize).copied().unwrap_or(0)
    }

    /// The rank that age does not lift an op above.
    pub(crate) fn top(&self) -> u32 {
        self.ranks.len().saturating_sub(1) as u32
    }

    /// The rank of an op of this level and age.
    pub(crate) fn aged(&self, level: u32, age: Duration) -> u32 {
        let rank = self.rank(level);
        let Some(after) = self.aging else {
            return rank;
        };
        let steps = u32::try_from(age.as_nanos() / after.as_nanos()).unwrap_or(u32::MAX);
        rank.saturating_add(steps).min(self.top().max(rank))
    }
}

/// The levels that ops have been seen with, as the accumulator sees them: a table that hides their type.
pub(crate) trait Levels<T>: Send {
    /// The id of the op's level.
    fn of(&mut self, op: &T, order: &mut Order) -> u32;

    /// Forgets all levels but those whose ids are in use.
    fn forget_unused(&mut self, in_use: &dyn Fn(u32) -> bool, order: &mut Order);
}

pub(crate) type BoxLevels<T> = Box<dyn Levels<T>>;

/// Levels kept without checking whether an op has them: more than the usual few.
const REMEMBERED: usize = 64;

/// Up to so many levels are few.
const FEW: usize = 8;

pub(crate) struct LevelTable<L, F> {
    level: F,
    /// In ascending order: the level, and its id.
    sorted: Vec<(L, u32)>,
    free: Vec<u32>,
    /// Above so many it is time to forget some.
    crowded_above: usize,
}

impl<L, F> LevelTable<L, F> {
    pub(crate) fn new(level: F) -> Self {
        Self { level, sorted: Vec::new(), free: Vec::new(), crowded_above: REMEMBERED }
    }

    #[cold]
    fn insert(&mut self, rank: usize, level: L, order: &mut Order) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            order.ranks.push(0);
            order.ranks.len() as u32 - 1
        });
        self.sorted.insert(rank, (level, id));
        self.renumber(rank, order);
        id
    }

    fn renumber(&self, from: usize, order: &mut Order) {
        for (rank, (_, id)) in self.sorted.iter().enumerate().skip(from) {
            order.ranks[*id as usize] = rank as u32;
        }
        order.version += 1;
        order.is_crowded = self.sorted.len() > self.crowded_above;
    }
}

impl<T, L, F> Levels<T> for LevelTable<L, F>
where
    L: Ord + Send,
    F: Fn(&T) -> L + Send,
{
    fn of(&mut self, op: &T, order: &mut Order) -> u32 {
        let level = (self.level)(op);
        // Few levels, as they are meant to be, are looked through faster than they are searched.
        if self.sorted.len() <= FEW
            && let Some((_, id)) = self.sorted.iter().find(|(known, _)| *known == level)
        {
            return *id;
        }
        match self.sorted.binary_search_by(|(known, _)| known.cmp(&level)) {
            Ok(rank) => self.sorted[rank].1,
            Err(rank) => self.insert(rank, level, order),
        }
    }

    fn forget_unused(&mut self, in_use: &dyn Fn(u32) -> bool, order: &mut Order) {
        let free = &mut self.free;
        self.sorted.retain(|(_, id)| {
            let stays = in_use(*id);
            if !stays {
                free.push(*id);
            }
            stays
        });
        // Twice as many as are in use may come before it is worth asking again.
        self.crowded_above = REMEMBERED.max(2 * self.sorted.len());
        self.renumber(0, order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_order_of_the_levels() {
        let (mut levels, mut order) = (LevelTable::new(|op: &i32| *op), Order::default());
        let ids: Vec<u32> = [5, -3, 9, 5].iter().map(|op| levels.of(op, &mut order)).collect();
        assert_eq!(ids[0], ids[3]);
        assert!(order.rank(ids[1]) < order.rank(ids[0]) && order.rank(ids[0]) < order.rank(ids[2]));
    }

    #[test]
    fn levels_without_ops_are_forgotten_beyond_a_few() {
        let (mut levels, mut order) = (LevelTable::new(|op: &u32| *op), Order::default());
        for op in 0..10_000 {
            let id = levels.of(&op, &mut order);
            if order.is_crowded {
                Levels::<u32>::forget_unused(&mut levels, &|other| other == id, &mut order);
            }
        }
        assert!(levels.sorted.len() <= REMEMBERED + 1);
        assert!(order.ranks.len() <= REMEMBERED + 2);
    }
}
