//! [`Model`]: the rules as lists that are searched from end to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::cases::{Op, Recipe, merge, retry};
use crate::{
    CutBy,
    rules::{adaptive::BatchSize, config::retry::Backoff, outcome::End, stage::Merge},
};

#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) op: Op,
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) level: u8,
    pub(crate) urgent: bool,
    pub(crate) attempts: u32,
    pub(crate) was_written: bool,
    pub(crate) in_doubt: bool,
}

pub(crate) struct Batch {
    pub(crate) part: u8,
    /// Freezes by outages before it was cut.
    pub(crate) mark: u64,
    pub(crate) at: Duration,
    pub(crate) cap: usize,
    pub(crate) is_full: bool,
    /// Writes in flight, this one included.
    pub(crate) in_flight: usize,
    pub(crate) ops: Vec<Waiting>,
}

#[derive(Default)]
pub(crate) struct Part {
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) in_flight: bool,
    pub(crate) backing_off: Option<Duration>,
    pub(crate) parts: Vec<usize>,
}

pub(crate) struct Model {
    pub(crate) recipe: Recipe,
    pub(crate) backoff: Backoff,
    /// The search for a cap has tests of its own; this model checks that it is told and obeyed.
    pub(crate) size: BatchSize,
    pub(crate) parts: BTreeMap<u8, Part>,
    pub(crate) seen: BTreeMap<(u8, u8), u64>,
    pub(crate) levels: BTreeSet<u8>,
    pub(crate) next_seq: u64,
    pub(crate) flush_below: u64,
    pub(crate) pressure_below: u64,
    pub(crate) closing: bool,
    pub(crate) paused: bool,
    pub(crate) frozen: Option<Duration>,
    /// Since when, and how many writes in a row have met it.
    pub(crate) outage: Option<(Duration, u32)>,
    pub(crate) freezes: u64,
    pub(crate) in_flight: Vec<Batch>,
    pub(crate) ends: BTreeMap<End, u64>,
    pub(crate) accepted: u64,
}

impl Model {
    pub(crate) fn new(recipe: &Recipe) -> Self {
        Self {
            recipe: recipe.clone(),
            backoff: retry(recipe).start(),
            size: BatchSize::new(&recipe.limits),
            parts: BTreeMap::new(),
            seen: BTreeMap::new(),
            levels: BTreeSet::new(),
            next_seq: 0,
            flush_below: 0,
            pressure_below: 0,
            closing: false,
            paused: false,
            frozen: None,
            outage: None,
            freezes: 0,
            in_flight: Vec::new(),
            ends: BTreeMap::new(),
            accepted: 0,
        }
    }

    pub(crate) fn part_of(&self, op: &Op) -> u8 {
        if self.recipe.partition { op.part } else { 0 }
    }

    pub(crate) fn key_of(&self, op: &Op) -> Option<u8> {
        op.key.filter(|_| self.recipe.conflate)
    }

    pub(crate) fn end(&mut self, end: End) {
        *self.ends.entry(end).or_default() += 1;
    }

    pub(crate) fn pending(&self) -> usize {
        let waiting: usize = self.parts.values().map(|part| part.waiting.len()).sum();
        waiting + self.in_flight.iter().map(|batch| batch.ops.len()).sum::<usize>()
    }

    pub(crate) fn push(&mut self, op: Op, now: u64) {
        self.accepted += 1;
        let part = self.part_of(&op);
        let level = if self.recipe.priority { op.level } else { 0 };
        self.levels.insert(level);
        if let (Some(window), Some(dup)) = (self.recipe.dedup, op.dup) {
            match self.seen.get(&(part, dup)) {
                Some(first) if now < first + window => return self.end(End::Deduplicated),
                _ => drop(self.seen.insert((part, dup), now)),
            }
        }
        let new = Waiting {
            urgent: op.urgent,
            seq: self.next_seq,
            at: now,
            level,
            attempts: 0,
            was_written: false,
            in_doubt: false,
            op,
        };
        self.next_seq += 1;
        self.enter(part, new);
        if self.pending() >= self.recipe.limits.max_pending {
            self.pressure_below = self.next_seq;
        }
    }

    /// A newer op comes in. Its key finds the newest of its key that waits.
    pub(crate) fn enter(&mut self, part: u8, new: Waiting) {
        let met = self.newest(part, &new.op);
        let waiting = &mut self.parts.entry(part).or_default().waiting;
        let Some(met) = met else { return waiting.push(new) };
        let outcome = if waiting[met].in_doubt || new.in_doubt {
            Merge::Apart { waiting: waiting[met].op.clone(), newer: new.op.clone() }
        } else {
            merge(waiting[met].op.clone(), new.op.clone())
        };
        match outcome {
            Merge::Into(op) => {
                let old = &mut waiting[met];
                old.level = old.level.max(new.level);
                old.urgent |= op.urgent;
                old.op = op;
                self.lift(part);
                self.end(End::Conflated);
            }
            Merge::Net => {
                waiting.remove(met);
                self.end(End::Netted);
                self.end(End::Netted);
            }
            Merge::Apart { .. } => {
                waiting.push(new);
                self.lift(part);
            }
        }
    }

    pub(crate) fn newest(&self, part: u8, op: &Op) -> Option<usize> {
        let key = self.key_of(op)?;
        let waiting = &self.parts.get(&part)?.waiting;
        (0..waiting.len()).filter(|i| self.key_of(&waiting[*i].op) == Some(key)).max_by_key(|i| waiting[*i].seq)
    }

    /// Within a key, nothing leaves after something newer.
    pub(crate) fn lift(&mut self, part: u8) {
        let keys: Vec<Option<u8>> = self.parts[&part].waiting.iter().map(|w| self.key_of(&w.op)).collect();
        let waiting = &mut self.parts.get_mut(&part).unwrap().waiting;
        for i in 0..waiting.len() {
            let newer = (0..waiting.len())
                .filter(|j| keys[i].is_some() && keys[*j] == keys[i] && waiting[*j].seq > waiting[i].seq);
            let level = newer.map(|j| waiting[j].level).max().unwrap_or(0);
            waiting[i].level = waiting[i].level.max(level);
        }
    }

    pub(crate) fn rank(&self, waiting: &Waiting, now: Duration) -> usize {
        let rank = self.levels.iter().position(|level| *level == waiting.level).unwrap();
        let age = now.as_millis() as u64 - waiting.at;
        let steps = self.recipe.aging.map_or(0, |after| age / after) as usize;
        (rank + steps).min((self.levels.len() - 1).max(rank))
    }

    pub(crate) fn due_by(&self, part: &Part, now: Duration) -> Option<CutBy> {
        let limits = &self.recipe.limits;
        let oldest = part.waiting.iter().min_by_key(|w| w.seq)?;
        let weight: usize = part.waiting.iter().map(|w| w.op.weight).sum();
        let lingered = now >= Duration::from_millis(oldest.at).saturating_add(limits.linger);
        [
            (part.waiting.iter().any(|w| w.was_written), CutBy::Retry),
            (part.waiting.len() >= self.size.cap() || weight >= limits.weight(), CutBy::Full),
            (part.waiting.iter().any(|w| w.urgent), CutBy::Urgent),
            (self.closing, CutBy::Close),
            (oldest.seq < self.flush_below, CutBy::Flush),
            (lingered, CutBy::Linger),
            (oldest.seq < self.pressure_below, CutBy::Pressure),
        ]
        .into_iter()
        .find_map(|(due, by)| due.then_some(by))
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.paused || self.in_flight.len() >= self.recipe.limits.max_in_flight
    }

    pub(crate) fn cut(&mut self, now: Duration) -> Option<(CutBy, Vec<u32>)> {
        if self.is_blocked() || self.frozen.is_some_and(|until| now < until) {
            return None;
        }
        self.frozen = None;
        loop {
            let best = |part: &Part| part.waiting.iter().map(|w| (std::cmp::Reverse(self.rank(w, now)), w.seq)).min();
            let (id, by) = self
                .parts
                .iter()
                .filter(|(_, part)| !part.in_flight && part.backing_off.is_none_or(|until| until <= now))
                .filter_map(|(id, part)| Some((best(part)?, *id, self.due_by(part, now)?)))
                .min_by_key(|(best, ..)| *best)
                .map(|(_, id, by)| (id, by))?;
            if let Some(ids) = self.take(id, now) {
                return Some((by, ids));
            }
        }
    }

    pub(crate) fn take(&mut self, id: u8, now: Duration) -> Option<Vec<u32>> {
        let max_weight = self.recipe.limits.weight();
        let part = self.parts.get_mut(&id).unwrap();
        if !part.waiting.iter().any(|w| w.was_written) {
            part.parts.clear();
        }
        let in_force = self.size.cap();
        let allowed = self.parts[&id].parts.last().map_or(usize::MAX, |cap| *cap).min(in_force);
        let waiting = self.parts[&id].waiting.len();
        let (cap, is_capped) = (allowed, allowed == in_force && waiting >= in_force);
        let cap = match self.recipe.page {
            Some(page) if cap.min(waiting) > page => cap.min(waiting) / page * page,
            _ => cap,
        };
        let mut ops: Vec<Waiting> = Vec::new();
        while ops.len() < cap {
            let part = &self.parts[&id];
            let best = (0..part.waiting.len())
                .min_by_key(|i| (std::cmp::Reverse(self.rank(&part.waiting[*i], now)), part.waiting[*i].seq));
            let Some(best) = best else { break };
            let weight: usize = ops.iter().map(|w| w.op.weight).sum();
            let next = &part.waiting[best];
            let expired = next.op.expires.is_some_and(|at| Duration::from_millis(at) <= now);
            let key = self.key_of(&next.op);
            let has_key = key.is_some() && ops.iter().any(|w| self.key_of(&w.op) == key);
            if has_key || (!expired && weight + next.op.weight > max_weight) {
                break;
            }
            let next = self.parts.get_mut(&id).unwrap().waiting.remove(best);
            if expired {
                self.end(if next.in_doubt { End::InDoubt } else { End::Expired });
            } else {
                ops.push(next);
            }
        }
        let part = self.parts.get_mut(&id).unwrap();
        part.backing_off = None;
        if ops.is_empty() {
            return None;
        }
        if let Some(size) = part.parts.last_mut() {
            *size -= ops.len();
            if *size == 0 {
                part.parts.pop();
            }
        }
        if part.waiting.is_empty() {
            part.parts.clear();
        }
        part.in_flight = true;
        let ids = ops.iter().map(|w| w.op.id).collect();
        let (is_full, in_flight) = (is_capped && ops.len() == cap, self.in_flight.len() + 1);
        self.in_flight.push(Batch { part: id, mark: self.freezes, at: now, cap: in_force, is_full, in_flight, ops });
        Some(ids)
    }

    /// A partition that is empty remembers nothing.
    pub(crate) fn forget_idle(&mut self) {
        self.parts.retain(|_, part| part.in_flight || !part.waiting.is_empty());
    }

    pub(crate) fn withdraw(&mut self, part: u8) -> Vec<u32> {
        let mut gone = Vec::new();
        for state in self.parts.values_mut() {
            let (out, stay): (Vec<_>, Vec<_>) = state.waiting.drain(..).partition(|w| w.op.part == part);
            state.waiting = stay;
            gone.extend(out);
        }
        gone.sort_by_key(|w| w.seq);
        gone.iter().for_each(|w| self.end(if w.in_doubt { End::InDoubt } else { End::Withdrawn }));
        gone.into_iter().map(|w| w.op.id).collect()
    }

    pub(crate) fn deadline(&self, now: Duration) -> Option<Duration> {
        if self.is_blocked() || self.parts.values().all(|part| part.waiting.is_empty()) {
            return None;
        }
        if self.frozen.is_some_and(|until| now < until) {
            return self.frozen;
        }
        let waiting = self.parts.values().filter(|part| !part.in_flight && !part.waiting.is_empty());
        waiting
            .filter_map(|part| match part.backing_off.filter(|until| now < *until) {
                Some(until) => Some(until),
                None => {
                    let oldest = part.waiting.iter().min_by_key(|w| w.seq)?;
                    Some(Duration::from_millis(oldest.at).saturating_add(self.recipe.limits.linger))
                }
            })
            .filter(|until| *until < Duration::MAX)
            .min()
    }
}
