//! The scenarios, one per hot path. Each does a number of rounds, and runs only its own path inside `in_the_count`.

use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
};

use futures::{StreamExt, stream};
use roundlot::{BatchExt, Limits, Stages};
use roundlot_bench::{
    Error,
    op::{Op, mix},
    peers::ours,
};
use tokio::runtime::Builder;

use crate::stand::{Door, Stand, at_once, in_the_count};

/// The number of ops in a round, and the most in a batch, so that a round is one batch without stages.
pub(crate) const OPS_PER_ROUND: u64 = 500;

/// The number of ops in a call of `send_all`.
const CHUNK: u64 = 100;

/// A hot path, with its name in the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    work: fn(u64),
}

impl Scenario {
    /// Runs the scenario on this thread, inside of a runtime.
    pub(crate) fn run(self, rounds: u64) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("one thread needs next to nothing");
        let _inside = runtime.enter();
        (self.work)(rounds);
    }
}

pub(crate) const ALL: [Scenario; 10] = [
    Scenario { name: "send", work: |rounds| phases(rounds, Phase::Send, Stages::new()) },
    Scenario { name: "push", work: |rounds| phases(rounds, Phase::Push, Stages::new()) },
    Scenario { name: "cut", work: |rounds| phases(rounds, Phase::Cut, Stages::new()) },
    Scenario { name: "settle", work: |rounds| phases(rounds, Phase::Settle, Stages::new()) },
    Scenario { name: "send_all", work: send_all },
    Scenario { name: "submit", work: submit },
    Scenario { name: "staged_push", work: staged_push },
    Scenario { name: "staged", work: |rounds| whole(rounds, ours::stages) },
    Scenario { name: "whole", work: |rounds| whole(rounds, Stages::new) },
    Scenario { name: "rules", work: rules },
];

pub(crate) fn named(name: &str) -> Result<Scenario, Error> {
    let found = ALL.into_iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("there is no path {name}").into())
}

/// A phase between the caller and the end of an op.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The send from the caller into the inbox.
    Send,
    /// The push from the inbox into the buffer.
    Push,
    /// The cut of a batch, up to the sink.
    Cut,
    /// The settling, from the sink's verdict to the end.
    Settle,
}

/// Counts one phase and runs all other phases uncounted. A paused batcher pushes and does not cut.
fn phases(rounds: u64, counted: Phase, stages: Stages<Op>) {
    let door = Door::default();
    let mut stand = Stand::new(door.clone(), stages);
    let count = |phase: Phase, work: &mut dyn FnMut()| if phase == counted { in_the_count(work) } else { work() };
    for round in 0..rounds {
        stand.pause();
        count(Phase::Send, &mut || send_round(&stand, round, Op::numbered));
        count(Phase::Push, &mut || stand.run());
        stand.ask_to_resume();
        count(Phase::Cut, &mut || stand.run());
        door.open();
        count(Phase::Settle, &mut || stand.run());
    }
    stand.check(rounds * OPS_PER_ROUND);
}

fn send_round(stand: &Stand, round: u64, op: impl Fn(u64) -> Op) {
    for i in 0..OPS_PER_ROUND {
        at_once(stand.desk.send(op(round * OPS_PER_ROUND + i))).expect("the batcher runs");
    }
}

/// Counts the whole way of ops by `send`, with a sink that accepts every batch without waiting.
fn whole(rounds: u64, stages: fn() -> Stages<Op>) {
    let ops = mix((rounds * OPS_PER_ROUND) as usize);
    let mut stand = Stand::new(Door::left_open(), stages());
    for round in 0..rounds {
        in_the_count(&mut || {
            send_round(&stand, round, |i| ops[i as usize]);
            stand.run();
        });
    }
    stand.check(rounds * OPS_PER_ROUND);
}

/// Counts the push from the inbox into the buffer with all three stages.
fn staged_push(rounds: u64) {
    let ops = mix((rounds * OPS_PER_ROUND) as usize);
    let mut stand = Stand::new(Door::left_open(), ours::stages());
    for round in 0..rounds {
        stand.pause();
        send_round(&stand, round, |i| ops[i as usize]);
        in_the_count(&mut || stand.run());
        stand.ask_to_resume();
        stand.run();
    }
    stand.check(rounds * OPS_PER_ROUND);
}

/// Counts the whole way of ops by `send_all`, in chunks of 100.
fn send_all(rounds: u64) {
    let mut stand = Stand::new(Door::left_open(), Stages::new());
    for round in 0..rounds {
        in_the_count(&mut || {
            for chunk in 0..OPS_PER_ROUND / CHUNK {
                let first = round * OPS_PER_ROUND + chunk * CHUNK;
                at_once(stand.desk.send_all((first..first + CHUNK).map(Op::numbered))).expect("the batcher runs");
            }
            stand.run();
        });
    }
    stand.check(rounds * OPS_PER_ROUND);
}

/// Counts the whole way of ops by `submit`, with the ack of each op.
fn submit(rounds: u64) {
    let mut stand = Stand::new(Door::left_open(), Stages::new());
    let mut acks = Vec::with_capacity(OPS_PER_ROUND as usize);
    for round in 0..rounds {
        in_the_count(&mut || {
            for i in 0..OPS_PER_ROUND {
                let op = Op::numbered(round * OPS_PER_ROUND + i);
                acks.push(at_once(stand.desk.submit(op)).expect("the batcher runs"));
            }
            stand.run();
            acks.drain(..).for_each(|ack| at_once(ack).expect("every op is accepted"));
        });
    }
    stand.check(rounds * OPS_PER_ROUND);
}

/// Counts the three rules on a stream, without an actor.
fn rules(rounds: u64) {
    let ops = mix((rounds * OPS_PER_ROUND) as usize);
    let total = ops.len() as u64;
    let mut batches = stream::iter(ops).batched(ours::stages(), Limits::new(OPS_PER_ROUND as usize));
    let mut out = 0;
    in_the_count(&mut || {
        // The batched stream yields to other tasks now and then, so `Pending` means to poll again.
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match batches.poll_next_unpin(&mut cx) {
                Poll::Ready(Some(batch)) => out += black_box(batch).len() as u64,
                Poll::Ready(None) => break,
                Poll::Pending => {}
            }
        }
    });
    assert_eq!(out + batches.stats().outcomes.conflated, total, "ops that came out or were superseded");
}
