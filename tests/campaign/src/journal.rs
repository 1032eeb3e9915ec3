//! [`Journal`]: all that the victims of one log have told, by number and by id.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{op::Op, plan::Again, said::Said, wire::Mark};

/// A call that sends one op.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) op: Op,
    /// The id under which the op is sent, if it is known.
    pub(crate) id: Option<String>,
    /// Whether a call returned that the op is in the log.
    pub(crate) is_accepted: bool,
    /// Whether the only call returned that the op is not in the log.
    pub(crate) is_not_accepted: bool,
    /// Whether it was sent again after a doubt.
    pub(crate) was_in_doubt: bool,
    /// The life in which it was sent first.
    pub(crate) life: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) calls: BTreeMap<u64, Call>,
    /// The numbers of ids.
    pub(crate) numbers: HashMap<String, u64>,
    /// Ends that an ack has told, by id, with the life.
    pub(crate) ends: HashMap<String, Vec<(String, u64)>>,
    /// Ids that were refused as forgotten.
    pub(crate) forgotten: Vec<String>,
    /// Numbers that `withdraw` has returned, with the life.
    pub(crate) withdrawn: BTreeMap<u64, u64>,
    /// Numbers whose dead letters were sent again, or may have been.
    pub(crate) requeued: BTreeSet<u64>,
    /// New ids of requeued ops.
    pub(crate) new_ids: HashMap<String, u64>,
    /// Numbers whose dead letters were removed, or may have been.
    pub(crate) discarded: BTreeSet<u64>,
    /// Ends of ids and whether they have one, as the last life was told.
    pub(crate) became: HashMap<String, (String, bool)>,
    /// Numbers and ends of the dead letters that the last life found.
    pub(crate) letters: Vec<(String, Vec<u64>, String)>,
    /// Counts of the last life: accepted and recovered ops, and ended ones with repeats.
    pub(crate) drained: Option<(u64, u64)>,
    /// The state of a pause that returned last: whether the log must be found paused.
    must_be_paused: bool,
    /// Pauses, with times and lives.
    pub(crate) marks: Vec<(u64, u64, Mark)>,
    /// Words of victims that contradict each other.
    pub(crate) contradictions: Vec<String>,
}

/// The part of a life that the driver counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LifeFacts {
    /// Ops found in the log, if it was joined.
    pub(crate) recovered: Option<u64>,
    pub(crate) in_doubt: u64,
    pub(crate) has_left: bool,
}

impl Journal {
    /// Reads what one life has told.
    pub(crate) fn read(&mut self, life: u64, said: Vec<Said>) -> LifeFacts {
        let mut facts = LifeFacts::default();
        for said in said {
            match said {
                Said::Joined { recovered, in_doubt, paused, at } => {
                    if paused {
                        self.marks.push((at, life, Mark::FoundPaused));
                    }
                    (facts.recovered, facts.in_doubt) = (Some(recovered), in_doubt);
                    if self.must_be_paused && !paused {
                        self.contradictions.push(format!("life {life} found the log going on, and it was paused"));
                    }
                }
                Said::Left => facts.has_left = true,
                said => self.note(life, said),
            }
        }
        facts
    }

    fn note(&mut self, life: u64, said: Said) {
        match said {
            Said::Sending { op, id } => {
                if let Some(id) = &id {
                    self.numbers.insert(id.clone(), op.first());
                }
                let call = Call { op, id, is_accepted: false, is_not_accepted: false, was_in_doubt: false, life };
                self.calls.insert(call.op.first(), call);
            }
            Said::SendingAgain { number, id } => {
                self.numbers.insert(id.clone(), number);
                self.with(number, |call| (call.was_in_doubt, call.id) = (true, Some(id)));
            }
            Said::Accepted { number, id } => {
                if let Some(id) = &id {
                    self.numbers.insert(id.clone(), number);
                }
                self.with(number, |call| {
                    call.is_accepted = true;
                    if id.is_some() {
                        call.id = id;
                    }
                });
            }
            Said::NotAccepted { number, .. } => self.with(number, |call| call.is_not_accepted = !call.was_in_doubt),
            Said::Ended { id, end } => self.ends.entry(id).or_default().push((end, life)),
            Said::Forgotten { id, .. } => self.forgotten.push(id),
            Said::Withdrew { numbers } => self.withdrawn.extend(numbers.into_iter().map(|number| (number, life))),
            Said::Paused { under_way, at } => {
                self.must_be_paused = true;
                self.marks.push((at, life, Mark::Paused { under_way }));
            }
            Said::Resuming { at } => {
                self.must_be_paused = false;
                self.marks.push((at, life, Mark::Resuming));
            }
            Said::Resumed => self.must_be_paused = false,
            Said::Requeueing { number, .. } => drop(self.requeued.insert(number)),
            Said::Requeued { number, new, .. } => {
                self.new_ids.extend(new.map(|id| (id, number)));
            }
            Said::Discarding { numbers, .. } => self.discarded.extend(numbers),
            Said::Became { id, status, has_ended } => drop(self.became.insert(id, (status, has_ended))),
            Said::Letter { id, numbers, end } => self.letters.push((id, numbers, end)),
            Said::Drained { accepted, recovered, ended, repeats } => {
                self.drained = Some((accepted + recovered, ended + repeats));
            }
            Said::Discarded { .. } | Said::Joined { .. } | Said::Left => {}
        }
    }

    fn with(&mut self, number: u64, change: impl FnOnce(&mut Call)) {
        match self.calls.get_mut(&number) {
            Some(call) => change(call),
            None => self.contradictions.push(format!("{number} was answered, and never sent")),
        }
    }

    /// Ids that the last life is to ask for: those of all accepted ops, and of requeued ones.
    pub(crate) fn ids(&self) -> Vec<String> {
        let accepted = self.calls.values().filter(|call| call.is_accepted).filter_map(|call| call.id.clone());
        accepted.chain(self.new_ids.keys().cloned()).collect()
    }

    /// Calls to repeat: all of which the result is unknown, and some others.
    pub(crate) fn again(&self, random: &mut fastrand::Rng) -> Vec<Again> {
        let mut again = Vec::new();
        for call in self.calls.values() {
            let is_open = !call.is_accepted && !call.is_not_accepted;
            let others = if call.is_accepted { 300 } else { 0 };
            let is_wanted = is_open || (others > 0 && random.usize(0..others) == 0);
            if let Some(id) = call.id.clone().filter(|_| is_wanted) {
                again.push(Again { id, op: call.op.clone() });
            }
        }
        again
    }
}
