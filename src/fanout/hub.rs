//! [`Hub`]: subscribers by topic, and the latest value of each key. Its one lock covers both, so a snapshot and the
//! updates after it have no gap. The feed's sink publishes through it; subscriptions change their topics in it.

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
    latest::{Latest, Slot},
};
use crate::{Handle, SendError, rules::panics, sink::SinkError};

/// Maximum number of topics that one subscriber may name: their names may come from a browser, and each costs memory
/// here.
const MAX_TOPICS: usize = 16_384;

pub(super) type TopicFn<T, Topic> = Arc<dyn Fn(&T) -> Topic + Send + Sync>;

/// State shared by the feed, its sink and the subscriptions.
pub(super) struct Shared<T, Topic> {
    pub(super) hub: Mutex<Hub<T, Topic>>,
    pub(super) topic: TopicFn<T, Topic>,
    pub(super) counts: Counts,
    /// Number of subscribers whose batchers have not ended; the feed's sink waits for zero when it is closed.
    pub(super) live: watch::Sender<usize>,
    /// Cancelled when the feed ends: new subscribers are refused, live ones drain and end.
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

/// Routing table of the fanout; see the module.
pub(super) struct Hub<T, Topic> {
    latest: Latest<T>,
    by_topic: HashMap<Topic, TopicEntry>,
    subscribers: HashMap<u64, Subscriber<T, Topic>>,
    /// Ids of the subscribers to all topics.
    to_all: Vec<u64>,
    next_id: u64,
    /// Pairs of subscriber and index in the chunk that is being published; empty between chunks, kept for its capacity.
    pairs: Vec<(u64, u32)>,
}

/// Entry of one topic: its subscribers, and the slots of its latest values.
#[derive(Default)]
struct TopicEntry {
    subscribers: Vec<u64>,
    slots: Vec<u32>,
}

struct Subscriber<T, Topic> {
    handle: Handle<T>,
    max_pending: usize,
    topics: Topics<Topic>,
}

enum Topics<Topic> {
    All,
    Named(HashSet<Topic>),
}

impl<T, Topic> Hub<T, Topic>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + 'static,
{
    pub(super) fn new(latest: Latest<T>) -> Self {
        Self {
            latest,
            by_topic: HashMap::new(),
            subscribers: HashMap::new(),
            to_all: Vec::new(),
            next_id: 0,
            pairs: Vec::new(),
        }
    }

    /// Adds a subscriber without any topic.
    pub(super) fn admit(&mut self, handle: Handle<T>, max_pending: usize) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.subscribers.insert(id, Subscriber { handle, max_pending, topics: Topics::Named(HashSet::new()) });
        id
    }

    /// Subscribes to topics: sends the latest values of new ones, and from then on their updates.
    pub(super) async fn subscribe(&mut self, id: u64, topics: Vec<Topic>) -> Result<(), SubscribeError> {
        let Self { subscribers, by_topic, latest, .. } = self;
        let subscriber = subscribers.get_mut(&id).ok_or(SubscribeError::Closed)?;
        let Topics::Named(subscribed) = &mut subscriber.topics else {
            return Ok(());
        };
        let (mut fresh, mut seen) = (Vec::new(), HashSet::new());
        for topic in topics {
            if !subscribed.contains(&topic) && seen.insert(topic.clone()) {
                if subscribed.len() + seen.len() > MAX_TOPICS {
                    return Err(SubscribeError::TooManyTopics { most: MAX_TOPICS });
                }
                fresh.push(topic);
            }
        }
        let slots = fresh.iter().filter_map(|topic| by_topic.get(topic)).flat_map(|entry| &entry.slots);
        let snapshot = clone_values(slots.map(|slot| &latest.values[*slot as usize]));
        subscriber.send_snapshot(snapshot).await?;
        let Topics::Named(subscribed) = &mut subscriber.topics else {
            return Ok(());
        };
        for topic in fresh {
            by_topic.entry(topic.clone()).or_default().subscribers.push(id);
            subscribed.insert(topic);
        }
        Ok(())
    }

    /// Subscribes to all topics: sends all latest values, and from then on all updates.
    pub(super) async fn subscribe_all(&mut self, id: u64) -> Result<(), SubscribeError> {
        let subscriber = self.subscribers.get_mut(&id).ok_or(SubscribeError::Closed)?;
        if matches!(subscriber.topics, Topics::All) {
            return Ok(());
        }
        subscriber.send_snapshot(clone_values(self.latest.values.iter())).await?;
        if let Topics::Named(topics) = std::mem::replace(&mut subscriber.topics, Topics::All) {
            topics.iter().for_each(|topic| self.remove_from_topic(id, topic));
        }
        self.to_all.push(id);
        Ok(())
    }

    /// Unsubscribes from these topics. Returns those that were subscribed.
    pub(super) fn unsubscribe(&mut self, id: u64, topics: &[Topic]) -> HashSet<Topic> {
        let Some(Subscriber { topics: Topics::Named(subscribed), .. }) = self.subscribers.get_mut(&id) else {
            return HashSet::new();
        };
        let gone: HashSet<Topic> = topics.iter().filter_map(|topic| subscribed.take(topic)).collect();
        gone.iter().for_each(|topic| self.remove_from_topic(id, topic));
        gone
    }

    fn remove_from_topic(&mut self, id: u64, topic: &Topic) {
        let Some(entry) = self.by_topic.get_mut(topic) else { return };
        entry.subscribers.retain(|other| *other != id);
        if entry.subscribers.is_empty() && entry.slots.is_empty() {
            self.by_topic.remove(topic);
        }
    }

    /// Removes a subscriber and its topics.
    pub(super) fn remove(&mut self, id: u64) {
        match self.subscribers.remove(&id).map(|subscriber| subscriber.topics) {
            Some(Topics::All) => self.to_all.retain(|other| *other != id),
            Some(Topics::Named(topics)) => topics.iter().for_each(|topic| self.remove_from_topic(id, topic)),
            None => {}
        }
    }

    /// Publishes updates, in order. No subscriber is waited for: an overflow evicts from its own buffer. Returns the
    /// updates at which a function of the user panicked; all other updates are published.
    pub(super) async fn publish(&mut self, ops: &[T], topic: &TopicFn<T, Topic>, counts: &Counts) -> Vec<Panicked> {
        let mut pairs = std::mem::take(&mut self.pairs);
        let mut chunk = Chunk { ops, panicked: Vec::new() };
        for n in 0..ops.len() {
            let before = pairs.len();
            chunk.attempt(n, "the topic, the key or the clone of an update", |op| {
                self.record(n as u32, op, topic, counts, &mut pairs)
            });
            if chunk.has_panicked(n) {
                pairs.truncate(before);
            }
        }
        counts.keys.store(self.latest.values.len() as u64, Relaxed);
        let mut gone = Vec::new();
        let mut updates = Vec::with_capacity(ops.len());
        for id in &self.to_all {
            updates.extend((0..ops.len()).filter_map(|n| chunk.copy(n)));
            offer(&self.subscribers, *id, updates.drain(..), counts, &mut gone).await;
        }
        // All updates of a chunk go to a subscriber at once: one lock and one wake-up.
        pairs.sort_unstable();
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            updates.extend(group.iter().filter_map(|(_, n)| chunk.copy(*n as usize)));
            offer(&self.subscribers, group[0].0, updates.drain(..), counts, &mut gone).await;
        }
        pairs.clear();
        self.pairs = pairs;
        gone.into_iter().for_each(|id| self.remove(id));
        chunk.panicked
    }

    /// Records the latest value, and adds the subscribers of the topic to `pairs`.
    fn record(&mut self, n: u32, op: &T, topic: &TopicFn<T, Topic>, counts: &Counts, pairs: &mut Vec<(u64, u32)>) {
        let topic = topic(op);
        // Cloned before anything is changed: a clone may panic.
        let name = topic.clone();
        match self.latest.put(op) {
            Slot::New => {
                let slot = self.latest.values.len() as u32 - 1;
                self.by_topic.entry(name).or_default().slots.push(slot);
            }
            Slot::Full => {
                counts.forgotten.fetch_add(1, Relaxed);
            }
            Slot::Known(_) | Slot::Unkeyed => {}
        }
        if let Some(entry) = self.by_topic.get(&topic) {
            pairs.extend(entry.subscribers.iter().map(|id| (*id, n)));
        }
    }
}

/// An update at which a function of the user panicked.
pub(super) struct Panicked {
    /// Index within the chunk.
    pub(super) op: usize,
    pub(super) error: SinkError,
}

/// Updates that are published together. One at which a function panics costs no other, and is not tried again.
struct Chunk<'a, T> {
    ops: &'a [T],
    panicked: Vec<Panicked>,
}

impl<T: Clone> Chunk<'_, T> {
    fn has_panicked(&self, n: usize) -> bool {
        self.panicked.iter().any(|panicked| panicked.op == n)
    }

    fn attempt<V>(&mut self, n: usize, what: &str, function: impl FnOnce(&T) -> V) -> Option<V> {
        match panics::catch(|| function(&self.ops[n])) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.panicked.push(Panicked { op: n, error: SinkError::panicked(what, &*panic) });
                None
            }
        }
    }

    /// Clones an update for one more subscriber; `None` if a function panicked at it.
    fn copy(&mut self, n: usize) -> Option<T> {
        if self.has_panicked(n) { None } else { self.attempt(n, "the clone of an update", T::clone) }
    }
}

/// Clones the values of a snapshot. A value whose clone panics is left out, and logged.
fn clone_values<'a, T: Clone + 'a>(values: impl Iterator<Item = &'a T>) -> Vec<T> {
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

/// Offers updates to one subscriber. The id of one that has ended is pushed to `gone`.
async fn offer<T, Topic>(
    subscribers: &HashMap<u64, Subscriber<T, Topic>>,
    id: u64,
    ops: impl ExactSizeIterator<Item = T>,
    counts: &Counts,
    gone: &mut Vec<u64>,
) {
    let Some(subscriber) = subscribers.get(&id) else { return };
    counts.offered.fetch_add(ops.len() as u64, Relaxed);
    if let Err(NotTaken { missed, has_ended }) = send_updates(&subscriber.handle, ops).await {
        counts.missed.fetch_add(missed, Relaxed);
        if has_ended {
            gone.push(id);
        }
    }
}

/// Number of updates that a subscriber did not take.
struct NotTaken {
    missed: u64,
    has_ended: bool,
}

/// Sends updates to a buffer. Skips values above the subscriber's `max_weight`.
async fn send_updates<T>(handle: &Handle<T>, ops: impl Iterator<Item = T>) -> Result<(), NotTaken> {
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

impl<T, Topic> Subscriber<T, Topic> {
    /// Sends a snapshot, whole or not at all: a part of it must not evict another.
    async fn send_snapshot(&self, values: Vec<T>) -> Result<(), SubscribeError> {
        let stats = self.handle.stats();
        let room = self.max_pending.saturating_sub((stats.waiting + stats.in_flight) as usize);
        if values.len() > room {
            return Err(SubscribeError::NoRoom { values: values.len(), room });
        }
        match send_updates(&self.handle, values.into_iter()).await {
            Err(NotTaken { has_ended: true, .. }) => Err(SubscribeError::Closed),
            // A value above `max_weight` is skipped, as in an update.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
