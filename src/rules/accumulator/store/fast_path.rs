//! [`FastPath`]: the tail of the queue of a batcher without stages: a FIFO with one record per run of ops, and no node. Only
//! its [`Queue`](super::Queue) sees it. An op becomes a node when it is evicted, withdrawn or retried.

use std::collections::VecDeque;

use super::{Fifo, NodeMeta};
use crate::rules::time::Timestamp;

/// Ops that came one after the other and of which the same is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedRun {
    pub(crate) count: usize,
    /// Order of arrival of the first.
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    /// Which flush covers them.
    pub(crate) epoch: u32,
    /// Each op has a token.
    pub(crate) has_tokens: bool,
}

/// Runs that were taken out of a queue, and the tokens of their ops.
#[derive(Debug)]
pub(crate) struct TakenRuns<A> {
    pub(crate) runs: Vec<QueuedRun>,
    /// The tokens of the ops that have one, in the order of the ops.
    pub(crate) tokens: Vec<A>,
}

#[derive(Debug)]
pub(super) struct FastPath<T, A> {
    ops: Fifo<T>,
    /// The tokens of the ops that have one, in the order of the ops.
    tokens: Fifo<A>,
    runs: VecDeque<QueuedRun>,
}

impl<T, A> FastPath<T, A> {
    pub(super) fn new() -> Self {
        Self { ops: Fifo::new(), tokens: Fifo::new(), runs: VecDeque::new() }
    }

    /// Order of arrival of the first, and when it was sent.
    pub(super) fn first(&self) -> Option<(u64, Timestamp)> {
        self.runs.front().map(|run| (run.seq, run.at))
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Where ops and tokens of runs go that [`record`](Self::record) tells of.
    #[inline]
    pub(super) fn contents(&mut self) -> (&mut Fifo<T>, &mut Fifo<A>) {
        (&mut self.ops, &mut self.tokens)
    }

    /// Notes what is known of ops that have been put in.
    #[inline]
    pub(super) fn record(&mut self, run: QueuedRun) {
        let QueuedRun { count, at, epoch, has_tokens, .. } = run;
        match self.runs.back_mut() {
            Some(last) if (last.at, last.epoch, last.has_tokens) == (at, epoch, has_tokens) => last.count += count,
            _ => self.runs.push_back(run),
        }
    }

    /// Takes up to `most` ops. Returns how many.
    pub(super) fn take(&mut self, most: usize, ops: &mut Vec<T>, into: &mut TakenRuns<A>) -> usize {
        if most >= self.ops.len() {
            return self.take_rest(ops, into);
        }
        let count = most;
        self.ops.take(count, ops);
        let (mut missing, mut with_token) = (count, 0);
        while missing > 0 {
            let first = self.runs.front_mut().expect("each op is in a run");
            let next = first.split_off(missing.min(first.count));
            if first.count == 0 {
                self.runs.pop_front();
            }
            missing -= next.count;
            with_token += if next.has_tokens { next.count } else { 0 };
            into.runs.push(next);
        }
        self.tokens.take(with_token, &mut into.tokens);
        count
    }

    /// Takes all ops. Returns how many they were.
    fn take_rest(&mut self, ops: &mut Vec<T>, into: &mut TakenRuns<A>) -> usize {
        let count = self.ops.len();
        self.ops.take(count, ops);
        into.runs.extend(self.runs.drain(..));
        self.tokens.take(self.tokens.len(), &mut into.tokens);
        count
    }

    /// Takes all ops, with what is known of each.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (T, NodeMeta, Option<A>)> + use<T, A> {
        let Self { ops, tokens, runs } = std::mem::replace(self, Self::new());
        let mut taken = TakenRuns { runs: runs.into(), tokens: tokens.into_iter().collect() };
        let known: Vec<_> = taken.each().collect();
        ops.into_iter().zip(known).map(|(op, (meta, token))| (op, meta, token))
    }

    /// Room for how many it has, of ops or of runs.
    pub(super) fn capacity(&self) -> usize {
        self.ops.capacity().max(self.tokens.capacity()).max(self.runs.capacity())
    }
}

impl QueuedRun {
    /// The first `count` ops of the run, which begins behind them now.
    fn split_off(&mut self, count: usize) -> Self {
        let first = Self { count, ..*self };
        self.count -= count;
        self.seq += count as u64;
        first
    }

    /// The node of each op.
    fn nodes(self) -> impl Iterator<Item = NodeMeta> {
        let Self { count, seq, at, epoch, .. } = self;
        (seq..seq + count as u64).map(move |seq| NodeMeta {
            seq,
            at,
            partition: 0,
            level: 0,
            weight: 1,
            urgent: false,
            epoch,
        })
    }
}

impl<A> TakenRuns<A> {
    pub(crate) fn new() -> Self {
        Self { runs: Vec::new(), tokens: Vec::new() }
    }

    /// Takes the node and the token of each op, in order.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = (NodeMeta, Option<A>)> {
        let mut tokens = self.tokens.drain(..);
        let nodes = self.runs.drain(..).flat_map(|run| run.nodes().map(move |node| (node, run.has_tokens)));
        nodes.map(move |(node, has_token)| (node, if has_token { tokens.next() } else { None }))
    }
}
