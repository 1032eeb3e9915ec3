//! Who wants what. In come updates and wishes, out go updates to each subscriber's batcher, and snapshots. One lock covers
//! both, so that a snapshot and what follows it have no gap. Next room: the batchers of the subscribers.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    error::{Ended, SubscribeError},
    latest::{Latest, Place},
};
use crate::{Handle, SendError, rules::panics, sink::SinkError};

/// The most topics that one subscriber may ask for by name: they may come from a browser.
const MOST_TOPICS: usize = 16_384;

pub(super) type Topic<T, S> = Arc<dyn Fn(&T) -> S + Send + Sync>;

/// What the feed, its sink and the subscriptions share.
pub(super) struct Shared<T, S> {
    pub(super) hub: Mutex<Hub<T, S>>,
    pub(super) topic: Topic<T, S>,
    pub(super) counts: Counts,
    /// Subscribers whose batchers have not ended.
    pub(super) live: watch::Sender<usize>,
    /// The feed is over: no more subscribers are let in, and those that are there drain and end.
    pub(super) over: CancellationToken,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) subscribed: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) stuck: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) offered: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) keys: AtomicU64,
    pub(super) forgotten: AtomicU64,
}

impl Counts {
    pub(super) fn ended(&self, ended: &Ended) {
        let count = match ended {
            Ended::Closed => &self.closed,
            Ended::Stuck(_) => &self.stuck,
            Ended::Failed(_) => &self.failed,
        };
        count.fetch_add(1, Relaxed);
    }
}

/// See the module's text.
pub(super) struct Hub<T, S> {
    latest: Latest<T>,
    interest: HashMap<S, Interest>,
    members: HashMap<u64, Member<T, S>>,
    /// Those who want everything.
    want_all: Vec<u64>,
    next_id: u64,
    /// Who is to get which of the updates in hand; kept for its memory.
    pairs: Vec<(u64, u32)>,
}

/// One topic: who wants it, and where its latest values are.
#[derive(Default)]
struct Interest {
    wanted_by: Vec<u64>,
    places: Vec<u32>,
}

struct Member<T, S> {
    handle: Handle<T>,
    max_pending: usize,
    wants: Wants<S>,
}

enum Wants<S> {
    All,
    Topics(HashSet<S>),
}

impl<T, S> Hub<T, S>
where
    T: Clone + Send + Sync + 'static,
    S: Hash + Eq + Clone + Send + 'static,
{
    pub(super) fn new(latest: Latest<T>) -> Self {
        Self {
            latest,
            interest: HashMap::new(),
            members: HashMap::new(),
            want_all: Vec::new(),
            next_id: 0,
            pairs: Vec::new(),
        }
    }

    /// Takes a subscriber in, who wants nothing yet.
    pub(super) fn admit(&mut self, handle: Handle<T>, max_pending: usize) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.members.insert(id, Member { handle, max_pending, wants: Wants::Topics(HashSet::new()) });
        id
    }

    /// Sends the latest values of topics that a subscriber does not want yet, and from here on their updates.
    pub(super) async fn want(&mut self, id: u64, topics: Vec<S>) -> Result<(), SubscribeError> {
        let Self { members, interest, latest, .. } = self;
        let member = members.get_mut(&id).ok_or(SubscribeError::Closed)?;
        let Wants::Topics(wants) = &mut member.wants else {
            return Ok(());
        };
        let (mut fresh, mut seen) = (Vec::new(), HashSet::new());
        for topic in topics {
            if !wants.contains(&topic) && seen.insert(topic.clone()) {
                if wants.len() + seen.len() > MOST_TOPICS {
                    return Err(SubscribeError::TooManyTopics { most: MOST_TOPICS });
                }
                fresh.push(topic);
            }
        }
        let places = fresh.iter().filter_map(|topic| interest.get(topic)).flat_map(|interest| &interest.places);
        let snapshot = copies(places.map(|place| &latest.values[*place as usize]));
        member.send_snapshot(snapshot).await?;
        let Wants::Topics(wants) = &mut member.wants else {
            return Ok(());
        };
        for topic in fresh {
            interest.entry(topic.clone()).or_default().wanted_by.push(id);
            wants.insert(topic);
        }
        Ok(())
    }

    /// Sends all latest values, and from here on all updates.
    pub(super) async fn want_all(&mut self, id: u64) -> Result<(), SubscribeError> {
        let member = self.members.get_mut(&id).ok_or(SubscribeError::Closed)?;
        if matches!(member.wants, Wants::All) {
            return Ok(());
        }
        member.send_snapshot(copies(self.latest.values.iter())).await?;
        if let Wants::Topics(topics) = std::mem::replace(&mut member.wants, Wants::All) {
            topics.iter().for_each(|topic| self.lose_interest(id, topic));
        }
        self.want_all.push(id);
        Ok(())
    }

    /// Sends no more updates of these topics. Returns those that were wanted.
    pub(super) fn unwant(&mut self, id: u64, topics: &[S]) -> HashSet<S> {
        let Some(Member { wants: Wants::Topics(wants), .. }) = self.members.get_mut(&id) else {
            return HashSet::new();
        };
        let gone: HashSet<S> = topics.iter().filter_map(|topic| wants.take(topic)).collect();
        gone.iter().for_each(|topic| self.lose_interest(id, topic));
        gone
    }

    fn lose_interest(&mut self, id: u64, topic: &S) {
        let Some(interest) = self.interest.get_mut(topic) else { return };
        interest.wanted_by.retain(|other| *other != id);
        if interest.wanted_by.is_empty() && interest.places.is_empty() {
            self.interest.remove(topic);
        }
    }

    /// Forgets a subscriber.
    pub(super) fn leave(&mut self, id: u64) {
        match self.members.remove(&id).map(|member| member.wants) {
            Some(Wants::All) => self.want_all.retain(|other| *other != id),
            Some(Wants::Topics(topics)) => topics.iter().for_each(|topic| self.lose_interest(id, topic)),
            None => {}
        }
    }

    /// Hands updates on, in order. No subscriber is waited for: room is made in its own buffer. Returns the ops at which a
    /// function of the user panicked; the others are handed on.
    pub(super) async fn spread(&mut self, ops: &[T], topic: &Topic<T, S>, counts: &Counts) -> Vec<Fault> {
        let mut pairs = std::mem::take(&mut self.pairs);
        let mut chunk = Chunk { ops, faults: Vec::new() };
        for n in 0..ops.len() {
            let before = pairs.len();
            chunk.attempt(n, "the topic, the key or the clone of an update", |op| {
                self.take(n as u32, op, topic, counts, &mut pairs)
            });
            if chunk.is_faulty(n) {
                pairs.truncate(before);
            }
        }
        counts.keys.store(self.latest.values.len() as u64, Relaxed);
        let mut gone = Vec::new();
        let mut wanted = Vec::with_capacity(ops.len());
        for id in &self.want_all {
            wanted.extend((0..ops.len()).filter_map(|n| chunk.copy(n)));
            offer(&self.members, *id, wanted.drain(..), counts, &mut gone).await;
        }
        // A subscriber gets all that is for it at once: one lock and one wake-up for each.
        pairs.sort_unstable();
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            wanted.extend(group.iter().filter_map(|(_, n)| chunk.copy(*n as usize)));
            offer(&self.members, group[0].0, wanted.drain(..), counts, &mut gone).await;
        }
        pairs.clear();
        self.pairs = pairs;
        gone.into_iter().for_each(|id| self.leave(id));
        chunk.faults
    }

    /// Remembers one update, and notes who wants it.
    fn take(&mut self, n: u32, op: &T, topic: &Topic<T, S>, counts: &Counts, pairs: &mut Vec<(u64, u32)>) {
        let topic = topic(op);
        // Cloned before anything is changed: a clone may panic.
        let name = topic.clone();
        match self.latest.put(op) {
            Place::Fresh => {
                let place = self.latest.values.len() as u32 - 1;
                self.interest.entry(name).or_default().places.push(place);
            }
            Place::Full => {
                counts.forgotten.fetch_add(1, Relaxed);
            }
            Place::Known(_) | Place::Unkeyed => {}
        }
        if let Some(interest) = self.interest.get(&topic) {
            pairs.extend(interest.wanted_by.iter().map(|id| (*id, n)));
        }
    }
}

/// An update at which a function of the user panicked.
pub(super) struct Fault {
    /// Its index among the updates that were to be handed on.
    pub(super) op: usize,
    pub(super) error: SinkError,
}

/// Updates that are handed on together. One at which a function panics costs no other, and is not tried again.
struct Chunk<'a, T> {
    ops: &'a [T],
    faults: Vec<Fault>,
}

impl<T: Clone> Chunk<'_, T> {
    fn is_faulty(&self, n: usize) -> bool {
        self.faults.iter().any(|fault| fault.op == n)
    }

    fn attempt<V>(&mut self, n: usize, what: &str, function: impl FnOnce(&T) -> V) -> Option<V> {
        match panics::catch(|| function(&self.ops[n])) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.faults.push(Fault { op: n, error: SinkError::panicked(what, &*panic) });
                None
            }
        }
    }

    /// An update for one more subscriber.
    fn copy(&mut self, n: usize) -> Option<T> {
        if self.is_faulty(n) { None } else { self.attempt(n, "the clone of an update", T::clone) }
    }
}

/// Copies for a snapshot. A value whose clone panics is left out: it keeps no other from the subscriber.
fn copies<'a, T: Clone + 'a>(values: impl Iterator<Item = &'a T>) -> Vec<T> {
    let (least, _) = values.size_hint();
    let (mut copies, mut failed) = (Vec::with_capacity(least), 0);
    for value in values {
        match panics::catch(|| value.clone()) {
            Ok(copy) => copies.push(copy),
            Err(_) => failed += 1,
        }
    }
    if failed > 0 {
        error!(values = failed, "values are missing in a snapshot: their clone panicked");
    }
    copies
}

/// Hands updates to one subscriber. One that has ended is noted.
async fn offer<T, S>(
    members: &HashMap<u64, Member<T, S>>,
    id: u64,
    ops: impl ExactSizeIterator<Item = T>,
    counts: &Counts,
    gone: &mut Vec<u64>,
) {
    let Some(member) = members.get(&id) else { return };
    counts.offered.fetch_add(ops.len() as u64, Relaxed);
    if let Err(NotTaken { missed, has_ended }) = hand_over(&member.handle, ops).await {
        counts.missed.fetch_add(missed, Relaxed);
        if has_ended {
            gone.push(id);
        }
    }
}

/// What a subscriber did not take.
struct NotTaken {
    missed: u64,
    has_ended: bool,
}

/// Hands over what a subscriber takes. A value that is too heavy for it keeps nothing behind it from it.
async fn hand_over<T>(handle: &Handle<T>, ops: impl Iterator<Item = T>) -> Result<(), NotTaken> {
    let mut missed = 0;
    let mut sent = handle.send_all(ops).await;
    while let Err(error) = sent {
        let (is_heavy, has_ended) = match error.reason() {
            SendError::TooHeavy(()) => (true, false),
            reason => (false, reason.is_closed()),
        };
        let rest = error.into_inner();
        if !is_heavy {
            return Err(NotTaken { missed: missed + rest.len() as u64, has_ended });
        }
        missed += 1;
        sent = handle.send_all(rest.into_iter().skip(1)).await;
    }
    if missed == 0 { Ok(()) } else { Err(NotTaken { missed, has_ended: false }) }
}

impl<T, S> Member<T, S> {
    /// A snapshot of which a part would push out another would be a lie.
    async fn send_snapshot(&self, values: Vec<T>) -> Result<(), SubscribeError> {
        let stats = self.handle.stats();
        let room = self.max_pending.saturating_sub((stats.waiting + stats.in_flight) as usize);
        if values.len() > room {
            return Err(SubscribeError::NoRoom { values: values.len(), room });
        }
        match hand_over(&self.handle, values.into_iter()).await {
            Err(NotTaken { has_ended: true, .. }) => Err(SubscribeError::Closed),
            // What is too heavy for it is not for it.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
