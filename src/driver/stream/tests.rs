//! Streams under the rules, item by item and in batches, against the naive model of the rules. Both take the same random steps
//! on a paused clock, and must emit the same items at the same moments, and count the same ends.

use std::{
    cell::RefCell,
    collections::VecDeque,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use tokio::time::{Instant, advance};
use tokio_test::task;

use super::{BatchExt, Batched, Staged};
use crate::rules::{
    accumulator::tests::{
        cases::{Op, Recipe, Rest, merge},
        model::Model,
        ops, recipes,
    },
    config::limits::Limits,
    outcome::End,
    stats::Stats,
};

#[derive(Debug, Clone)]
enum Step {
    /// The source has these items now.
    Give(Vec<Op>),
    /// The consumer polls.
    Poll,
    /// Time passes, in milliseconds.
    Wait(u64),
}

/// The state of a source that the test fills.
#[derive(Default)]
struct Shelf {
    ready: VecDeque<Op>,
    /// Items that the last poll took.
    taken: Vec<Op>,
    is_closed: bool,
    /// The stream under test has been told of the end.
    has_ended: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Default)]
struct Source(Rc<RefCell<Shelf>>);

impl Source {
    /// Changes the shelf, and wakes the task that waits for it.
    fn change(&self, change: impl FnOnce(&mut Shelf)) {
        let mut shelf = self.0.borrow_mut();
        change(&mut shelf);
        shelf.waker.take().iter().for_each(Waker::wake_by_ref);
    }
}

impl Stream for Source {
    type Item = Op;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Op>> {
        let mut shelf = self.0.borrow_mut();
        assert!(!shelf.has_ended, "polled after its end");
        if let Some(op) = shelf.ready.pop_front() {
            shelf.taken.push(op.clone());
            return Poll::Ready(Some(op));
        }
        if shelf.is_closed {
            shelf.has_ended = true;
            return Poll::Ready(None);
        }
        shelf.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A stream under test, of which each emission is a list of items.
trait Rules: Stream {
    fn counts(&self) -> Stats;
    fn ids(item: Self::Item) -> Vec<u32>;
}

impl Rules for Staged<Source, Op> {
    fn counts(&self) -> Stats {
        self.stats()
    }

    fn ids(op: Op) -> Vec<u32> {
        vec![op.id]
    }
}

impl Rules for Batched<Source, Op> {
    fn counts(&self) -> Stats {
        self.stats()
    }

    fn ids(ops: Vec<Op>) -> Vec<u32> {
        ops.iter().map(|op| op.id).collect()
    }
}

/// The recipe, rule by rule.
fn staged(source: Source, recipe: &Recipe, start: Instant) -> Staged<Source, Op> {
    let mut staged = source.stages();
    if recipe.plain {
        return staged;
    }
    staged = staged.expire_by(move |op| Some(start + Duration::from_millis(op.expires?)));
    if asks_urgency_and_weight(recipe) {
        staged = staged.urgent_by(|op| op.urgent).weigh_by(|op| op.weight);
    }
    if recipe.partition {
        staged = staged.partition_by(|op| op.part);
    }
    if recipe.conflate {
        staged = staged.conflate_by(|op| op.key, merge);
    }
    if let Some(window) = recipe.dedup {
        staged = staged.dedup_by(|op| op.dup, Duration::from_millis(window));
    }
    if recipe.priority {
        staged = staged.priority_by(|op| op.level);
    }
    if let Some(after) = recipe.aging {
        staged = staged.aging(Duration::from_millis(after));
    }
    staged
}

/// Whether a run has these two rules. Some runs of single items do without, so that expiry is a rule by itself, too.
fn asks_urgency_and_weight(recipe: &Recipe) -> bool {
    recipe.partition || recipe.limits.max_items > 1
}

/// Whether an item that is read ahead could change what leaves next.
fn reads_ahead(recipe: &Recipe) -> bool {
    let Recipe { conflate, dedup, priority, .. } = recipe;
    asks_urgency_and_weight(recipe) && !recipe.plain || *conflate || dedup.is_some() || *priority
}

/// Both have counted the same, and no item is missing.
fn compare(stats: &Stats, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(stats.accepted, model.accepted);
    prop_assert_eq!(stats.waiting, model.pending() as u64);
    prop_assert_eq!(stats.accepted, stats.ended() + stats.waiting, "not conserved: {:?}", stats);
    for end in End::ALL {
        prop_assert_eq!(stats.outcomes[end], model.ends.get(&end).copied().unwrap_or(0), "{:?}", end);
    }
    Ok(())
}

/// The rest of a run: the stream under test, and the model of it.
struct Run<S: Rules> {
    source: Source,
    stream: task::Spawn<S>,
    model: Model,
    start: Instant,
    /// Set while the stream has nothing to emit and its source has nothing new: the deadline at which it is to be woken.
    idle_until: Option<Option<Duration>>,
}

impl<S: Rules + Unpin> Run<S> {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Polls, and lets the model take in what the poll took in. Says whether the stream has ended.
    fn poll(&mut self) -> Result<bool, TestCaseError> {
        let now = self.now();
        let polled = self.stream.poll_next();
        let has_ended = matches!(polled, Poll::Ready(None));
        for op in mem::take(&mut self.source.0.borrow_mut().taken) {
            self.model.push(op, now.as_millis() as u64);
            self.model.forget_idle();
        }
        self.model.closing = self.source.0.borrow().has_ended;
        let expected = self.model.cut(now).map(|(_, ids)| ids);
        if expected.is_some() {
            self.model.settle(0, &[], Rest::Accept, now);
        }
        self.model.forget_idle();
        self.idle_until = polled.is_pending().then(|| self.model.deadline(now));
        if polled.is_pending() {
            prop_assert!(!self.stream.is_woken(), "nothing is there to be polled for");
            prop_assert!(self.source.0.borrow().ready.is_empty(), "there is more to take in");
        }
        let emitted = match polled {
            Poll::Ready(Some(item)) => Some(S::ids(item)),
            Poll::Ready(None) | Poll::Pending => None,
        };
        prop_assert_eq!(emitted, expected);
        compare(&self.stream.counts(), &self.model)?;
        prop_assert!(!has_ended || self.model.closing && self.model.pending() == 0);
        Ok(has_ended)
    }

    /// Lets time pass. An idle stream is woken at its deadline and not before; one of single items has none.
    async fn wait(&mut self, ms: u64) -> Result<(), TestCaseError> {
        advance(Duration::from_millis(ms)).await;
        if let Some(deadline) = self.idle_until {
            let is_due = deadline.is_some_and(|until| until <= self.now());
            prop_assert_eq!(self.stream.is_woken(), is_due, "{:?}, deadline {:?}", self.now(), deadline);
        }
        Ok(())
    }

    async fn take(&mut self, steps: Vec<Step>, reads_all: bool) -> Result<(), TestCaseError> {
        for step in steps {
            match step {
                Step::Give(ops) => {
                    self.source.change(|shelf| shelf.ready.extend(ops));
                    self.idle_until = None;
                }
                Step::Wait(ms) => self.wait(ms).await?,
                Step::Poll => {
                    // The cooperative budget is another test's matter.
                    tokio::task::yield_now().await;
                    self.poll()?;
                    let is_all_in = self.source.0.borrow().ready.is_empty();
                    prop_assert!(is_all_in || !reads_all, "it decides without what its source has");
                }
            }
        }
        self.source.change(|shelf| shelf.is_closed = true);
        loop {
            tokio::task::yield_now().await;
            if self.poll()? {
                return Ok(());
            }
        }
    }
}

async fn run<S: Rules + Unpin>(
    recipe: Recipe,
    steps: Vec<Step>,
    reads_all: bool,
    stream: impl FnOnce(Source, &Recipe, Instant) -> S,
) -> Result<(), TestCaseError> {
    let (source, start) = (Source::default(), Instant::now());
    // A stream has no destination, and so no pages.
    let recipe = Recipe { page: None, ..recipe };
    let stream = task::spawn(stream(source.clone(), &recipe, start));
    let mut run = Run { source, stream, model: Model::new(&recipe), start, idle_until: None };
    run.take(steps, reads_all).await
}

fn on_a_paused_clock<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop::collection::vec(ops(), 1..6).prop_map(Step::Give),
        4 => Just(Step::Poll),
        2 => (0u64..40).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

/// The steps, with items that the recipe's rules ask nothing else of. Their ids are their order.
fn fit(mut steps: Vec<Step>, change: impl Fn(&mut Op)) -> Vec<Step> {
    let ops = steps.iter_mut().filter_map(|step| if let Step::Give(ops) = step { Some(ops) } else { None });
    for (id, op) in (0..).zip(ops.flatten()) {
        op.id = id;
        change(op);
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Goal: the rules hold item by item: what leaves next is decided at each poll, by all that the source has given.
    /// Method: random recipes and steps, compared with the naive model, for which each item is a batch without a linger.
    #[test]
    fn single_items_agree_with_the_naive_model(recipe in recipes(), steps in steps()) {
        let recipe = Recipe { limits: super::staged::one_by_one(), ..recipe };
        let steps = fit(steps, |op| if recipe.plain { *op = op.clone().plain() });
        let reads_all = reads_ahead(&recipe);
        on_a_paused_clock(run(recipe, steps, reads_all, staged))?;
    }

    /// Goal: the same rules hold in batches. Method: the same, with the limits of the recipe. Items expire only in runs
    /// whose batches are never full, in which a poll cuts once.
    #[test]
    fn batches_agree_with_the_naive_model(recipe in recipes(), steps in steps(), is_roomy in any::<bool>()) {
        let Limits { max_weight, linger, .. } = recipe.limits;
        let roomy = Limits { max_weight, ..Limits::new(1000).linger(linger) };
        let limits = if is_roomy { roomy } else { Limits { max_items: recipe.limits.max_items + 1, ..recipe.limits } };
        let recipe = Recipe { limits, ..recipe };
        let steps = fit(steps, |op| {
            if recipe.plain {
                *op = op.clone().plain();
            } else if !is_roomy {
                op.expires = None;
            }
        });
        let batched = |source, recipe: &Recipe, start| staged(source, recipe, start).batched(recipe.limits.clone());
        on_a_paused_clock(run(recipe, steps, is_roomy, batched))?;
    }
}
