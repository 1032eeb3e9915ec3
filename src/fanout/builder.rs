//! [`Fanout`], the builder: topic and key functions, limits, and the start of the feed. Settings are checked before a
//! task is spawned.

use std::{fmt, hash::Hash, sync::Arc};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Feed,
    feed_sink::FeedSink,
    hub::{Counts, Hub, Shared, TopicFn},
    latest::{KeyIndex, Latest, SlotIndex},
};
use crate::{
    Worker,
    batcher::Batcher,
    rules::{
        config::{
            limits::{Limits, LimitsError, Overflow},
            retry::Retry,
        },
        stage::{IntoKey, Stages, latest},
    },
};

/// Default number of keys whose latest value is kept for snapshots: more than a large venue has symbols, at a few MB
/// for small updates.
const DEFAULT_MAX_KEYS: u32 = 65_536;

/// Builds one feed for many subscribers; see the [module](super).
///
/// An update is cloned once for each subscriber of its topic, so it should be small, or an `Arc`.
#[must_use = "a fanout does nothing until it is spawned"]
pub struct Fanout<T, Topic> {
    topic: TopicFn<T, Topic>,
    slots: Box<dyn SlotIndex<T>>,
    stages: Arc<dyn Fn() -> Stages<T> + Send + Sync>,
    limits: Limits,
    max_keys: u32,
    name: Arc<str>,
}

impl<T, Topic> Fanout<T, Topic>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// A fanout with a topic for each update, such as its symbol: subscribers choose by topic. By default the latest
    /// update of a topic replaces the one before; [`key_by`](Self::key_by) changes that.
    pub fn by(topic: impl Fn(&T) -> Topic + Send + Sync + 'static) -> Self {
        let bare = Self {
            topic: Arc::new(topic),
            slots: Box::new(KeyIndex::new(|_: &T| None::<()>)),
            stages: Arc::new(Stages::new),
            limits: Limits::new(1024).overflow(Overflow::EvictOldest),
            max_keys: DEFAULT_MAX_KEYS,
            name: Arc::from("fanout"),
        };
        bare.key_by(|_| ())
    }

    /// Sets the key within a topic: an update replaces the one of the same key. Updates with the key `None`, such as
    /// fills, are never replaced: all are published, and none is in a snapshot.
    pub fn key_by<K: IntoKey>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        let topic = Arc::clone(&self.topic);
        let key = Arc::new(move |op: &T| key(op).into_key().map(|key| (topic(op), key)));
        let by = Arc::clone(&key);
        Self {
            slots: Box::new(KeyIndex::new(move |op: &T| by(op))),
            stages: Arc::new(move || {
                let by = Arc::clone(&key);
                Stages::new().conflate_by(move |op: &T| by(op), latest)
            }),
            ..self
        }
    }

    /// Maximum number of keys with a remembered value: 65,536 by default. Updates of further keys are published, are in
    /// no snapshot, and are [counted](super::FanoutStats::forgotten).
    pub fn max_keys(self, max_keys: u32) -> Self {
        Self { max_keys, ..self }
    }

    /// Limits of the feed's own batcher: by default up to 1024 updates are published at a time, and `max_pending` is
    /// 65,536. `overflow` is always [`EvictOldest`](Overflow::EvictOldest), because a publisher never waits.
    pub fn limits(self, limits: impl Into<Limits>) -> Self {
        Self { limits: limits.into().overflow(Overflow::EvictOldest), ..self }
    }

    /// Name of the feed in logs and metrics; `fanout` by default.
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Starts the fanout on the current runtime. The worker ends when the last [`Feed`] is dropped or when it is shut
    /// down, and then ends every subscription.
    ///
    /// # Panics
    ///
    /// If the limits contradict themselves, or outside of a Tokio runtime with time enabled. Where settings come from a
    /// file, use [`try_spawn`](Self::try_spawn).
    pub fn spawn(self) -> (Feed<T, Topic>, Worker<T>) {
        self.try_spawn().unwrap_or_else(|error| panic!("invalid fanout: {error}"))
    }

    /// Like [`spawn`](Self::spawn), for settings that may be wrong.
    ///
    /// # Errors
    ///
    /// Names the setting that contradicts itself or another.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled.
    pub fn try_spawn(self) -> Result<(Feed<T, Topic>, Worker<T>), LimitsError> {
        let Self { topic, slots, stages, limits, max_keys, name } = self;
        let shared = Arc::new(Shared {
            hub: Mutex::new(Hub::new(Latest::new(slots, max_keys))),
            topic,
            counts: Counts::default(),
            live: watch::Sender::new(0),
            over: CancellationToken::new(),
        });
        let (handle, worker) = Batcher::new(FeedSink::new(Arc::clone(&shared)))
            .name(name)
            .stages(stages())
            .limits(limits)
            .retry(Retry::none())
            .try_spawn()?;
        Ok((Feed { handle, shared, usual_stages: stages }, worker))
    }
}

impl<T, Topic> fmt::Debug for Fanout<T, Topic> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}
