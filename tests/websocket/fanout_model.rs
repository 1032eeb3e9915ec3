//! The fanout against a naive model: after any mix of publishing, subscribing, removing and holding back, each
//! subscriber sees what the model predicts.

use std::collections::HashMap;

use proptest::prelude::*;
use roundlot::{
    Fanout, Stages, Subscription,
    testing::{Gate, Recorder, until_idle},
};

use super::eventually;

/// A topic, a key within it, and a version that counts over all.
type Update = (u8, u8, u32);

const TOPICS: u8 = 4;

#[derive(Debug, Clone)]
enum Step {
    Publish(u8, u8),
    /// Lets the hub do what it can.
    Settle,
    Subscribe(Vec<u8>),
    SubscribeAll,
    Add(usize, u8),
    Remove(usize, u8),
    /// Lets a subscriber's sink take a batch.
    Pass(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..TOPICS, 0..3u8).prop_map(|(topic, key)| Step::Publish(topic, key)),
        4 => Just(Step::Settle),
        1 => proptest::collection::vec(0..TOPICS, 0..3).prop_map(Step::Subscribe),
        1 => Just(Step::SubscribeAll),
        1 => (0..8usize, 0..TOPICS).prop_map(|(n, topic)| Step::Add(n, topic)),
        1 => (0..8usize, 0..TOPICS).prop_map(|(n, topic)| Step::Remove(n, topic)),
        3 => (0..8usize).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..120)
}

struct Subscriber {
    subscription: Subscription<Update, u8>,
    gate: Gate<Recorder<Update>>,
    screen: Recorder<Update>,
    /// Updates that the model expects the subscriber to see if none is conflated. `wants` has the version since which
    /// it wants a topic.
    expected: Vec<Update>,
    wants: HashMap<u8, u32>,
    removed: bool,
    /// Whether the subscriber wants all topics, instead of single ones.
    all: bool,
}

/// The state of the fanout, by the model.
#[derive(Default)]
struct Model {
    published: Vec<Update>,
    /// The latest of each key, in the order in which keys came.
    latest: Vec<Update>,
}

impl Model {
    fn publish(&mut self, topic: u8, key: u8) -> Update {
        let update = (topic, key, self.published.len() as u32);
        self.published.push(update);
        match self.latest.iter_mut().find(|other| (other.0, other.1) == (topic, key)) {
            Some(latest) => *latest = update,
            None => self.latest.push(update),
        }
        update
    }

    fn of(&self, topic: u8) -> impl Iterator<Item = Update> {
        self.latest.iter().copied().filter(move |update| update.0 == topic)
    }
}

/// Goal: nothing is missing, nothing comes twice, and order holds. Method: subscribers without stages, and a feed that is
/// settled after each update, so that the model knows each one's sequence to the last update.
async fn exact(steps: Vec<Step>) {
    let (feed, _worker) = Fanout::by(|update: &Update| update.0).key_by(|update| update.1).spawn();
    let (mut model, mut subscribers) = (Model::default(), Vec::<Subscriber>::new());
    for step in steps {
        match step {
            Step::Publish(topic, key) => {
                let update = model.publish(topic, key);
                feed.publish(update).unwrap();
                feed.flush().await.unwrap();
                for subscriber in subscribers.iter_mut().filter(|subscriber| subscriber.wants.contains_key(&topic)) {
                    subscriber.expected.push(update);
                }
            }
            Step::Subscribe(topics) => {
                let screen = Recorder::new();
                let gate = Gate::new(screen.clone());
                let subscribe = feed.subscribe(gate.clone()).stages(Stages::new()).to(topics.clone());
                let subscription = subscribe.start().await.unwrap();
                let (mut expected, mut wants) = (Vec::new(), HashMap::new());
                for topic in topics {
                    if wants.insert(topic, 0).is_none() {
                        expected.extend(model.of(topic));
                    }
                }
                subscribers.push(Subscriber {
                    subscription,
                    gate,
                    screen,
                    expected,
                    wants,
                    removed: false,
                    all: false,
                });
            }
            Step::SubscribeAll => {
                let screen = Recorder::new();
                let gate = Gate::new(screen.clone());
                let subscribe = feed.subscribe(gate.clone()).stages(Stages::new()).to_all();
                let subscription = subscribe.start().await.unwrap();
                let (expected, wants) = (model.latest.clone(), (0..TOPICS).map(|topic| (topic, 0)).collect());
                subscribers.push(Subscriber { subscription, gate, screen, expected, wants, removed: false, all: true });
            }
            Step::Add(n, topic) => {
                if let Some(subscriber) = subscribers.get_mut(n) {
                    subscriber.subscription.add([topic]).await.unwrap();
                    if subscriber.wants.insert(topic, 0).is_none() {
                        subscriber.expected.extend(model.of(topic));
                    }
                }
            }
            Step::Pass(n) => {
                if let Some(subscriber) = subscribers.get(n) {
                    subscriber.gate.pass(1);
                    until_idle().await;
                }
            }
            // The updates that are taken back depend on the cuts: the other property covers them.
            Step::Settle | Step::Remove(..) => {}
        }
    }
    for subscriber in &subscribers {
        subscriber.gate.open();
        let seen = eventually(subscriber.screen.wait_for(subscriber.expected.len())).await;
        until_idle().await;
        assert_eq!(seen, subscriber.expected);
        assert_eq!(subscriber.screen.len(), seen.len());
    }
}

/// Goal: a conflated subscriber sees only newer values of each key, and in the end the latest. A
/// snapshot has the latest values alone. Method: random steps, with the default stages.
async fn conflated(steps: Vec<Step>) {
    let (feed, _worker) = Fanout::by(|update: &Update| update.0).key_by(|update| update.1).spawn();
    let (mut model, mut subscribers) = (Model::default(), Vec::<Subscriber>::new());
    // The latest value of each key that the hub is known to have: a snapshot is not older.
    let mut settled: HashMap<(u8, u8), u32> = HashMap::new();
    for step in steps {
        match step {
            Step::Publish(topic, key) => feed.publish(model.publish(topic, key)).unwrap(),
            Step::Settle => {
                feed.flush().await.unwrap();
                settled = model.latest.iter().map(|update| ((update.0, update.1), update.2)).collect();
            }
            Step::Subscribe(topics) => {
                let screen = Recorder::new();
                let gate = Gate::new(screen.clone());
                let subscription = feed.subscribe(gate.clone()).to(topics.clone()).start().await.unwrap();
                let wants = topics.into_iter().map(|topic| (topic, oldest(&settled, topic))).collect();
                subscribers.push(Subscriber {
                    subscription,
                    gate,
                    screen,
                    expected: vec![],
                    wants,
                    removed: false,
                    all: false,
                });
            }
            Step::SubscribeAll => {
                let screen = Recorder::new();
                let gate = Gate::new(screen.clone());
                let subscription = feed.subscribe(gate.clone()).to_all().start().await.unwrap();
                let wants = (0..TOPICS).map(|topic| (topic, oldest(&settled, topic))).collect();
                subscribers.push(Subscriber {
                    subscription,
                    gate,
                    screen,
                    expected: vec![],
                    wants,
                    removed: false,
                    all: true,
                });
            }
            Step::Add(n, topic) => {
                if let Some(subscriber) = subscribers.get_mut(n) {
                    subscriber.subscription.add([topic]).await.unwrap();
                    subscriber.wants.entry(topic).or_insert(oldest(&settled, topic));
                }
            }
            Step::Remove(n, topic) => {
                if let Some(subscriber) = subscribers.get_mut(n) {
                    subscriber.subscription.remove([topic]).await;
                    // A subscriber to all topics stays a subscriber to all.
                    if !subscriber.all {
                        subscriber.wants.remove(&topic);
                    }
                    subscriber.removed = true;
                }
            }
            Step::Pass(n) => {
                if let Some(subscriber) = subscribers.get(n) {
                    subscriber.gate.pass(1);
                    until_idle().await;
                }
            }
        }
    }
    feed.flush().await.unwrap();
    for subscriber in &subscribers {
        subscriber.gate.open();
        until_idle().await;
        check(subscriber, &model);
    }
}

/// The oldest version of a topic that a snapshot may show.
fn oldest(settled: &HashMap<(u8, u8), u32>, topic: u8) -> u32 {
    settled.iter().filter(|((of, _), _)| *of == topic).map(|(_, version)| *version).min().unwrap_or(0)
}

fn check(subscriber: &Subscriber, model: &Model) {
    let mut last: HashMap<(u8, u8), u32> = HashMap::new();
    for (topic, key, version) in subscriber.screen.ops() {
        let before = last.insert((topic, key), version);
        // The same value may come again where a topic was given up and wanted again.
        let is_newer = before.is_none_or(|before| before < version || subscriber.removed && before == version);
        assert!(is_newer, "{topic}/{key}: {version} after {before:?}");
        if let Some(oldest) = subscriber.wants.get(&topic)
            && !subscriber.removed
        {
            assert!(version >= *oldest, "{topic}/{key}: {version} is older than the snapshot");
        }
    }
    for topic in subscriber.wants.keys() {
        for (topic, key, version) in model.of(*topic) {
            assert_eq!(last.get(&(topic, key)), Some(&version), "the latest of {topic}/{key}");
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_subscriber_without_stages_sees_the_model(steps in steps()) {
        run(exact(steps));
    }

    #[test]
    fn a_conflated_subscriber_sees_the_latest(steps in steps()) {
        run(conflated(steps));
    }
}
