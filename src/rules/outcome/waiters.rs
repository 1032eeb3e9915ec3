//! [`Waiters`]: the callers that wait for one op. None, one, or many once ops were merged. A node owns one; a merge moves
//! them to the survivor.

use super::End;
use crate::rules::time::Timestamp;

/// The callers that wait for an op: none, its own, or many, once ops were merged.
#[derive(Debug)]
pub(crate) enum Waiters<A> {
    None,
    One(Waiter<A>),
    Many(Vec<Waiter<A>>),
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
                Self::Many(all)
            }
            Self::Many(mut all) => {
                all.push(waiter);
                Self::Many(all)
            }
        };
    }

    /// Notes that the ops of the callers so far have ended, in this way, in another op.
    pub(crate) fn mark(&mut self, end: End) {
        let all = match self {
            Self::None => return,
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(all) => all,
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
            Self::Many(all) => &all[..],
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
            Self::Many(all) => &all[..],
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
            Self::Many(all) => all.into_iter().for_each(each),
        }
    }
}
