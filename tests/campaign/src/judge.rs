//! The judge: says which promises were broken on one log, by two journals that roundlot did not write: the driver's, of what calls
//! confirmed, and the destination's, of what arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    journal::{Call, Journal},
    op::{Kind, Op, sender_of},
    plan::Sort,
    wire::{Fate, Line, Mark},
};

/// Milliseconds after its expiry in which an op may still reach the sink. Expiry is looked at right before the write begins, and the
/// victim may be preempted in between.
const EXPIRY_TOLERANCE: u64 = 25;

/// Violations named per log. One fault often breaks the same promise for many ops.
const MAX_NAMED: usize = 10;

pub(crate) struct Judge<'a> {
    sort: Sort,
    shards: u16,
    journal: &'a Journal,
    /// Whether the log kept all outcomes, so that none may be forgotten.
    keeps_outcomes: bool,
    violations: Vec<String>,
    /// The first number and the line of what has landed, by each number in it.
    landed: HashMap<u64, (u64, u64)>,
    /// The numbers that landed together, by the first.
    together: HashMap<u64, Vec<u64>>,
    attempted: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// The life in which a number has ended for good, by what its caller was told.
    told: HashMap<u64, u64>,
    in_letters: BTreeMap<u64, String>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new((sort, shards): (Sort, u16), journal: &'a Journal, keeps_outcomes: bool) -> Self {
        let mut told = HashMap::new();
        for (id, ends) in &journal.ends {
            // An op that was merged away may still be sent, as a part of another one.
            for (_, life) in ends.iter().filter(|(end, _)| end != "conflated") {
                if let Some(number) = journal.numbers.get(id).filter(|number| !journal.requeued.contains(number)) {
                    told.entry(*number).and_modify(|known: &mut u64| *known = (*known).min(*life)).or_insert(*life);
                }
            }
        }
        told.extend(&journal.withdrawn);
        let letters = journal.letters.iter();
        let in_letters = letters.flat_map(|(_, numbers, end)| numbers.iter().map(move |number| (*number, end.clone())));
        Self {
            sort,
            shards,
            journal,
            keeps_outcomes,
            violations: journal.contradictions.clone(),
            landed: HashMap::new(),
            together: HashMap::new(),
            attempted: BTreeSet::new(),
            refused: BTreeSet::new(),
            told,
            in_letters: in_letters.collect(),
        }
    }

    /// The promises that were broken.
    pub(crate) fn judge(mut self, lines: &[Line]) -> Vec<String> {
        self.judge_arrivals(lines);
        self.judge_order(lines);
        self.judge_pauses(lines);
        self.judge_ends();
        if let Some((came, ended)) = self.journal.drained
            && came != ended
        {
            self.violations.push(format!("{came} ops were accepted or recovered by the last life, and {ended} ended"));
        }
        self.violations.truncate(MAX_NAMED);
        self.violations
    }

    fn breach(&mut self, text: String) {
        self.violations.push(text);
    }

    fn judge_arrivals(&mut self, lines: &[Line]) {
        for line in lines {
            let Line::Call { seq, life, begun, ops } = line else { continue };
            for (op, fate) in ops {
                self.judge_attempt(op, (*seq, *life, *begun), *fate);
            }
        }
    }

    fn judge_attempt(&mut self, op: &Op, (seq, life, begun): (u64, u64, u64), fate: Fate) {
        let journal = self.journal;
        for number in &op.numbers {
            match journal.calls.get(number) {
                None => self.breach(format!("{number} arrived, and was never sent")),
                Some(call) if call.is_not_accepted => {
                    self.breach(format!("{number} arrived, and its call said that it is not in the log"));
                }
                Some(_) => {}
            }
            if let Some(told) = self.told.get(number).copied().filter(|told| *told < life) {
                self.breach(format!("{number} was sent in life {life}, and its end was told in life {told}"));
            }
            if self.sort != Sort::Idempotent && self.landed.contains_key(number) {
                self.breach(format!("{number} was sent again at line {seq}, and had landed"));
            }
            self.attempted.insert(*number);
        }
        if op.expires.is_some_and(|expires| begun > expires + EXPIRY_TOLERANCE) {
            let late = begun - op.expires.unwrap_or_default();
            self.breach(format!("{} was sent {late} ms after it had expired", op.first()));
        }
        match fate {
            Fate::Landed => {
                for number in &op.numbers {
                    if self.landed.insert(*number, (op.first(), seq)).is_some() {
                        self.breach(format!("{number} landed twice, the second time at line {seq}"));
                    }
                }
                self.together.insert(op.first(), op.numbers.clone());
            }
            Fate::Repeated if self.together.get(&op.first()) != Some(&op.numbers) => {
                self.breach(format!("{} was sent again at line {seq} as another op: {:?}", op.first(), op.numbers));
            }
            Fate::Refused => self.refused.extend(&op.numbers),
            Fate::Repeated | Fate::NotTaken => {}
        }
    }

    /// Per partition, level and sender, ops are tried in the order in which they were accepted. Per key, nothing comes after
    /// something newer. A call that the destination takes up after those of the next life was begun before them: it says nothing.
    fn judge_order(&mut self, lines: &[Line]) {
        let (mut last_of_key, mut last_of_sender) = (HashMap::new(), HashMap::new());
        let (mut seen, mut newest) = (BTreeSet::new(), 0);
        for line in lines {
            let Line::Call { seq, life, ops, .. } = line else { continue };
            if *life < newest {
                continue;
            }
            newest = *life;
            for (op, _) in ops {
                let first = op.first();
                if let Some(key) = op.conflation_key() {
                    let last = last_of_key.insert(key, first).unwrap_or(0);
                    if first < last {
                        self.breach(format!(
                            "{first} came at line {seq} after {last}, which is newer and of the same key"
                        ));
                    }
                }
                let has_place = matches!(op.kind, Kind::Plain | Kind::New | Kind::Cancel);
                if has_place && !self.journal.requeued.contains(&first) && seen.insert(first) {
                    let queue = (sender_of(first), op.partition, op.level);
                    let last = last_of_sender.insert(queue, first).unwrap_or(0);
                    if first < last {
                        self.breach(format!("{first} came at line {seq} after {last}, which was accepted later"));
                    }
                }
            }
        }
    }

    /// After a pause nothing arrives but what it counted as under way, until a life resumes.
    fn judge_pauses(&mut self, lines: &[Line]) {
        let mut paused_by = None;
        let mut under_way: HashMap<u64, u64> = HashMap::new();
        for line in lines {
            match line {
                Line::Mark { mark: Mark::Resuming, .. } => {
                    paused_by = None;
                    under_way.clear();
                }
                Line::Mark { life, mark: Mark::Paused { under_way: count }, .. } => {
                    paused_by = Some(*life);
                    under_way.insert(*life, *count);
                }
                // Some shards may know of a pause that did not return.
                Line::Mark { mark: Mark::FoundPaused, .. } if paused_by.is_none() && self.shards > 1 => {}
                Line::Mark { life, mark: Mark::FoundPaused, .. } => {
                    paused_by = Some(*life);
                    under_way.insert(*life, 0);
                }
                Line::Call { seq, life, ops, .. } => {
                    let Some(paused_by) = paused_by else { continue };
                    let count = ops.len() as u64;
                    match under_way.get_mut(life) {
                        Some(left) if *left >= count => *left -= count,
                        // Calls of lives before the one that found the pause were under way.
                        None if *life < paused_by => {}
                        _ => self.breach(format!("line {seq} arrived, and life {paused_by} had paused")),
                    }
                }
            }
        }
    }

    fn judge_ends(&mut self) {
        let journal = self.journal;
        for (number, call) in journal.calls.iter().filter(|(_, call)| call.is_accepted) {
            match &call.id {
                Some(id) => self.judge_end(*number, call, id),
                None if !self.is_carried(*number) => {
                    self.breach(format!("{number} was accepted in life {}, and vanished", call.life));
                }
                None => {}
            }
        }
        for (id, number) in &journal.new_ids {
            let is_known =
                |(end, has_ended): &(String, bool)| *has_ended || (end == "forgotten" && !self.keeps_outcomes);
            if !journal.became.get(id).is_some_and(is_known) {
                self.breach(format!("{number} was requeued as {id}, and has no outcome"));
            }
        }
        for (id, ends) in &journal.ends {
            let last = journal.became.get(id).filter(|(_, has_ended)| *has_ended).map(|(end, _)| end);
            // A repeat that comes when its id has just been forgotten is refused.
            let is_known = |end: &&String| self.keeps_outcomes || *end != "refused";
            let all: BTreeSet<&String> = ends.iter().map(|(end, _)| end).chain(last).filter(is_known).collect();
            if all.len() > 1 {
                self.breach(format!("callers were told of {id} that it is {all:?}"));
            }
        }
        for (id, numbers, end) in &journal.letters {
            let has_landed = numbers.iter().any(|number| self.landed.contains_key(number));
            let is_requeued = numbers.iter().any(|number| journal.requeued.contains(number));
            if has_landed && end != "in_doubt" && !is_requeued {
                self.breach(format!("{id} is {end}, and has landed"));
            }
        }
        if self.keeps_outcomes && !journal.forgotten.is_empty() {
            self.breach(format!("{:?} were forgotten before their horizon", journal.forgotten));
        }
    }

    /// Whether the op of a call is somewhere: landed, in a dead letter, or given back.
    fn is_carried(&self, number: u64) -> bool {
        let Journal { withdrawn, discarded, .. } = self.journal;
        self.landed.contains_key(&number)
            || self.in_letters.contains_key(&number)
            || withdrawn.contains_key(&number)
            || discarded.contains(&number)
    }

    fn judge_end(&mut self, number: u64, call: &Call, id: &str) {
        let Some((end, has_ended)) = self.journal.became.get(id) else {
            return self.breach(format!("{number} ({id}) was accepted, and the last life was not told of it"));
        };
        if !has_ended {
            let is_forgotten = end == "forgotten" && !self.keeps_outcomes;
            // An op without an outcome is held to what one without an id is, unless it may have ended without a trace.
            let may_leave_no_trace = call.op.kind != Kind::Plain || call.op.expires.is_some() || call.op.tag > 0;
            if !is_forgotten || !(may_leave_no_trace || self.is_carried(number)) {
                self.breach(format!("{number} ({id}) was accepted in life {}, and is {end}", call.life));
            }
            return;
        }
        let journal = self.journal;
        let has_landed = self.landed.contains_key(&number);
        let may_land = journal.requeued.contains(&number);
        let is_right = match (end.as_str(), call.op.kind) {
            ("delivered", _) => has_landed,
            ("conflated", Kind::Price) => !has_landed && self.has_newer_price(&call.op),
            ("conflated", Kind::Sum) => self.is_carried(number) || self.is_withdrawn_in_silence(&call.op),
            ("netted", Kind::New | Kind::Cancel) => !has_landed && self.is_partner_netted(&call.op),
            ("expired", _) => call.op.expires.is_some() && !has_landed,
            // A sum is withdrawn by the tag of the first that it was merged of.
            ("withdrawn", kind) => (call.op.tag > 0 || kind == Kind::Sum) && !has_landed,
            ("refused", _) => (!has_landed || may_land) && self.refused.contains(&number) && self.is_dead(number),
            ("exhausted", _) => (!has_landed || may_land) && self.is_dead(number),
            ("in_doubt", _) if self.sort == Sort::Transactional => false,
            ("in_doubt", _) => self.is_dead(number) || journal.withdrawn.contains_key(&number) || call.op.tag > 0,
            _ => false,
        };
        if !is_right {
            let (landed, kind) = (if has_landed { "landed" } else { "has not landed" }, call.op.kind);
            self.breach(format!("{number} ({id}, {kind:?}, life {}) is {end}, and {landed}", call.life));
        }
    }

    /// Whether an op is kept as a dead letter, or was until a call asked for something else.
    fn is_dead(&self, number: u64) -> bool {
        let Journal { requeued, discarded, .. } = self.journal;
        self.in_letters.contains_key(&number) || requeued.contains(&number) || discarded.contains(&number)
    }

    /// Whether a sum ended in one that was withdrawn, and the process died before its caller had it.
    fn is_withdrawn_in_silence(&self, op: &Op) -> bool {
        let journal = self.journal;
        let later = journal.calls.range(op.first() + 1..).map(|(_, call)| call);
        let mut may_be_survivor = false;
        for call in later.filter(|call| call.op.conflation_key() == op.conflation_key()) {
            let number = call.op.first();
            let id = call.id.as_ref();
            let became =
                id.and_then(|id| journal.became.get(id)).filter(|(_, has_ended)| *has_ended).map(|(end, _)| end);
            let told = || Some(&journal.ends.get(id?)?.first()?.0);
            match became.or_else(told).map(String::as_str) {
                Some("conflated") => {}
                Some("withdrawn") => return may_be_survivor || !journal.withdrawn.contains_key(&number),
                Some(_) => return may_be_survivor,
                // The process died before it could confirm the call. The op may be the survivor, unless it is known where it went.
                None if !call.is_accepted => may_be_survivor |= !self.is_carried(number),
                // Its outcome is forgotten.
                None => return may_be_survivor || !self.keeps_outcomes,
            }
        }
        may_be_survivor
    }

    fn has_newer_price(&self, op: &Op) -> bool {
        let newer = self.journal.calls.range(op.first() + 1..);
        newer.into_iter().any(|(_, call)| call.op.kind == Kind::Price && call.op.key == op.key)
    }

    /// Whether order and cancel both ended as netted, as far as both are known.
    fn is_partner_netted(&self, op: &Op) -> bool {
        let mut calls = self.journal.calls.range(op.key..).map(|(_, call)| call);
        let is_partner = |other: &Op| other.conflation_key() == op.conflation_key() && other.kind != op.kind;
        let Some(partner) = calls.find(|call| is_partner(&call.op)) else {
            return false;
        };
        let became = partner.id.as_ref().and_then(|id| self.journal.became.get(id));
        !self.landed.contains_key(&partner.op.first())
            && became.is_none_or(|(end, has_ended)| !has_ended || end == "netted")
    }
}
