//! The row `keys`: the cost of an update with 1,000 and with 10,000 live keys. Ops conflate by key and nothing is cut.

use std::{
    cell::Cell,
    collections::HashMap,
    future::poll_fn,
    hint::black_box,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, stream};
use roundlot::{BatchExt, Batched, Limits, Stages, stage};
use tokio::runtime::{Builder, Runtime};

use super::Row;
use crate::{
    Error,
    bench::Bench,
    clock::{Span, thread_cpu},
    measure::{Variant, measure, named},
    op::{Dice, Op},
    report::Report,
};

pub(super) const ROW: Row = Row { name: "keys", about: "cost of an update with 1,000 and with 10,000 live keys", run };

/// The numbers of live keys that are compared, a factor of ten apart.
const SMALL: u64 = 1000;
const LARGE: u64 = 10_000;

fn run(bench: &Bench) -> Result<Report, Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let runtime = &runtime;
    let many = bench.sized(LARGE).max(SMALL);
    let (mut few_live, mut many_live) = (Live::new(runtime, SMALL), Live::new(runtime, many));
    let (mut few_map, mut many_map) = (plain_map(SMALL), plain_map(many));
    let variants = vec![
        Variant::timed("roundlot, 1,000 keys", |updates| few_live.update(runtime, updates)),
        Variant::timed("roundlot, 10,000 keys", |updates| many_live.update(runtime, updates)),
        Variant::timed("HashMap, 1,000 keys", |updates| update_map(&mut few_map, updates)),
        Variant::timed("HashMap, 10,000 keys", |updates| update_map(&mut many_map, updates)),
    ];
    let results = measure(bench, variants);
    few_live.check();
    many_live.check();
    let growth = |of: [&str; 2]| named(&results, of[1]).cpu_against(named(&results, of[0]));
    let ours = growth(["roundlot, 1,000 keys", "roundlot, 10,000 keys"]);
    let map = growth(["HashMap, 1,000 keys", "HashMap, 10,000 keys"]);
    Ok(Report::of(&results)
        .left_out("all peers", "none has this rule")
        .note("CPU time of one thread; updates come in random order, drawn as they come.")
        .note(format!(
            "A HashMap of the standard library, key to op, grows by {map:.2}: what the caches of the CPU do."
        ))
        .figure("keys_growth", ours))
}

type Updates = Pin<Box<dyn Stream<Item = Op>>>;

/// A batched stream in which all keys wait. Only `update` gives it further ops.
struct Live {
    batches: Batched<Updates, Op>,
    /// The number of ops that the stream has left to give; `update` sets it, the stream counts it down.
    given: Rc<Cell<u64>>,
    /// The number of live keys.
    keys: u64,
    /// The number of updates so far, not counting the first op of each key.
    updated: u64,
}

impl Live {
    fn new(runtime: &Runtime, keys: u64) -> Self {
        let given = Rc::new(Cell::new(0));
        let left = Rc::clone(&given);
        let (mut dice, mut next) = (Dice::new(keys), 0);
        // The first ops have one key each. Later ops have a random key.
        let ops: Updates = Box::pin(stream::poll_fn(move |_| {
            if left.get() == 0 {
                return Poll::Pending;
            }
            left.set(left.get() - 1);
            let key = if next < keys { next } else { dice.below(keys) };
            next += 1;
            Poll::Ready(Some(Op { key, ..Op::numbered(next) }))
        }));
        // No batch is ever full and no linger ever ends, so nothing is cut.
        let more_than_keys = 2 * keys as usize;
        let limits = Limits::new(more_than_keys).max_pending(2 * more_than_keys).linger(Duration::MAX);
        let stages = Stages::new().conflate_by(|op: &Op| op.key, stage::latest);
        let _inside = runtime.enter();
        let mut live = Self { batches: ops.batched(stages, limits), given, keys, updated: 0 };
        live.update(runtime, keys);
        live.updated = 0;
        live
    }

    fn update(&mut self, runtime: &Runtime, updates: u64) -> (u64, Span) {
        self.given.set(updates);
        self.updated += updates;
        let (at, cpu) = (Instant::now(), thread_cpu());
        runtime.block_on(poll_fn(|cx| {
            assert!(self.batches.next().poll_unpin(cx).is_pending(), "nothing is due");
            if self.given.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        }));
        (updates, Span { cpu: Duration::from_nanos(thread_cpu() - cpu), wall: at.elapsed() })
    }

    /// Checks the stream's statistics.
    ///
    /// # Panics
    ///
    /// Panics unless all keys wait and every update was conflated.
    fn check(&self) {
        let stats = self.batches.stats();
        assert_eq!((stats.waiting, stats.outcomes.conflated), (self.keys, self.updated), "keys that wait, and updates");
    }
}

fn plain_map(keys: u64) -> (HashMap<u64, Op>, Dice) {
    ((0..keys).map(|key| (key, Op::numbered(key))).collect(), Dice::new(keys))
}

fn update_map((map, dice): &mut (HashMap<u64, Op>, Dice), updates: u64) -> (u64, Span) {
    let keys = map.len() as u64;
    let (at, cpu) = (Instant::now(), thread_cpu());
    for i in 0..updates {
        let key = dice.below(keys);
        map.insert(key, black_box(Op { key, ..Op::numbered(i) }));
    }
    let span = Span { cpu: Duration::from_nanos(thread_cpu() - cpu), wall: at.elapsed() };
    assert_eq!(map.len() as u64, keys, "keys that wait");
    (updates, span)
}
