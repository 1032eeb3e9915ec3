//! [`Waiters`]: the callers that wait for one op. None, one, or many once ops were merged. A node owns one; a merge moves
//! them to the survivor.

use super::End;
use crate::rules::time::Timestamp;

/// The callers that wait for an op: none, its own, or many, once ops were merged.
#[derive(Debug)]
pub(crate) enum Waiters<A> {
    None,
    One(Waiter<A>),
    /// Boxed, since each op that was merged, tried again or is awaited has room for its waiters.
    Many(Box<ManyWaiters<A>>),
}

/// Two waiters or more, in the order in which their ops came.
#[derive(Debug)]
pub(crate) struct ManyWaiters<A> {
    all: Vec<Waiter<A>>,
    /// The first so many are marked. Ops may be merged by the million, and none is looked at in each merge.
    marked: usize,
}

impl<A> ManyWaiters<A> {
    pub(crate) fn into_all(self) -> Vec<Waiter<A>> {
        self.all
    }
}

#[derive(Debug)]
pub(crate) enum Waiter<A> {
    Caller {
        token: A,
        sent_at: Timestamp,
        /// How the caller's own op has ended already, if it lives on only in another.
        ended: Option<End>,
    },
    /// A key of the dedup window, by its number: its repeats are answered from there.
    DedupKey(u32),
}

impl<A> Waiters<A> {
    pub(crate) fn of(token: Option<A>, sent_at: Timestamp) -> Self {
        token.map_or(Self::None, |token| Self::One(Waiter::Caller { token, sent_at, ended: None }))
    }

    /// The caller of an op, and its dedup key, as far as it has them.
    pub(crate) fn of_both(token: Option<A>, sent_at: Timestamp, dedup_key: Option<u32>) -> Self {
        let mut waiters = Self::of(token, sent_at);
        if let Some(key) = dedup_key {
            waiters.add(Waiter::DedupKey(key));
        }
        waiters
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }

    pub(crate) fn add(&mut self, waiter: Waiter<A>) {
        *self = match self.take() {
            Self::None => Self::One(waiter),
            Self::One(first) => {
                // Where one op was merged, more most often follow.
                let mut all = Vec::with_capacity(8);
                all.extend([first, waiter]);
                Self::Many(Box::new(ManyWaiters { all, marked: 0 }))
            }
            Self::Many(mut many) => {
                many.all.push(waiter);
                Self::Many(many)
            }
        };
    }

    /// Notes that the ops of the callers so far have ended, in this way, in another op.
    pub(crate) fn mark(&mut self, end: End) {
        let all = match self {
            Self::None => return,
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => {
                let ManyWaiters { all, marked } = &mut **many;
                let from = std::mem::replace(marked, all.len());
                &mut all[from..]
            }
        };
        for waiter in all {
            if let Waiter::Caller { ended: ended @ None, .. } = waiter {
                *ended = Some(end);
            }
        }
    }

    /// The tokens of the callers among them, in the order in which their ops came, and how the op of each has ended already.
    #[cfg(feature = "durable")]
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&A, Option<End>)> {
        let all = match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => &many.all[..],
        };
        all.iter().filter_map(|waiter| match waiter {
            Waiter::Caller { token, ended, .. } => Some((token, *ended)),
            Waiter::DedupKey(_) => None,
        })
    }

    /// The dedup keys among them.
    pub(crate) fn dedup_keys(&self) -> impl Iterator<Item = u32> {
        let all = match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => &many.all[..],
        };
        all.iter().filter_map(|waiter| match waiter {
            Waiter::DedupKey(key) => Some(*key),
            Waiter::Caller { .. } => None,
        })
    }

    pub(crate) fn for_each(self, mut each: impl FnMut(Waiter<A>)) {
        match self {
            Self::None => {}
            Self::One(one) => each(one),
            Self::Many(many) => many.all.into_iter().for_each(each),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each caller is marked once, by the first merge after it came. Method: marks between callers, and a list that is moved.
    #[test]
    fn the_first_mark_stands() {
        let caller = |token: u32| Waiter::Caller { token, sent_at: Timestamp::some(), ended: None };
        let mut waiters = Waiters::None;
        waiters.add(caller(1));
        waiters.mark(End::Conflated);
        waiters.add(caller(2));
        waiters.add(Waiter::DedupKey(7));
        waiters.mark(End::Deduplicated);
        waiters.mark(End::Conflated);
        waiters.add(caller(3));
        let mut moved = Waiters::One(caller(0));
        waiters.for_each(|waiter| moved.add(waiter));
        moved.mark(End::Conflated);
        moved.add(caller(4));
        let mut ends = Vec::new();
        moved.for_each(|waiter| {
            if let Waiter::Caller { token, ended, .. } = waiter {
                ends.push((token, ended));
            }
        });
        let (conflated, deduplicated) = (Some(End::Conflated), Some(End::Deduplicated));
        assert_eq!(ends, [(0, conflated), (1, conflated), (2, deduplicated), (3, conflated), (4, None)]);
    }
}
