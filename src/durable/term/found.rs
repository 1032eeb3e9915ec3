//! The ops that an earlier term may have written, as intents tell when a term begins: `recover` calls it.

use std::collections::{HashMap, HashSet};

use super::{TermEnd, doubts::Unwritten, requests::Request, running::Running};
use crate::{
    durable::{
        intent::{Intent, IntentOp},
        log::TermState,
    },
    sink::Sink,
};

/// An op that an earlier term may have written.
pub(super) struct InDoubt {
    pub(super) intent: u64,
    pub(super) alone: bool,
    pub(super) schema: u32,
    pub(super) op: IntentOp,
}

/// Ops in doubt, by their first positions.
pub(super) type AllInDoubt = HashMap<u64, InDoubt>;

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// A commit without a known result has landed or not, which its positions tell. Its effects follow if it has. Returns the
    /// intents whose batches were not written, since they waited for it.
    pub(super) fn learn_unknown(&mut self) -> Unwritten {
        let mut unwritten = Unwritten::default();
        for mut effects in std::mem::take(&mut self.leader.account.unknown) {
            let announced = effects.starts.drain(..).filter_map(|start| start.writing.announced);
            unwritten.batches.extend(announced.map(|intent| (intent.number, intent.was_in_doubt)));
            unwritten.ops.extend(effects.unwritten.drain(..));
            let first = effects.settled.first();
            if first.is_some_and(|(first, _)| self.settled.contains(*first)) {
                self.take_effect(effects);
            } else {
                self.leader.account.commands.extend(effects.take_commands());
            }
        }
        unwritten
    }

    /// The ops of all intents that may have landed, and have a position which is not settled. An op of which a newer intent names a
    /// part has not landed as it was: its intent stays as long as others of its batch need it. A request is no op, though an intent
    /// names its position if all that waits was put in doubt.
    pub(super) fn open_intents(
        &mut self,
        state: &TermState,
        unwritten: &Unwritten,
        requests: &[Request],
    ) -> Result<AllInDoubt, TermEnd> {
        let (mut all, mut named) = (AllInDoubt::new(), HashSet::new());
        let requests: HashSet<u64> = requests.iter().map(|request| request.token.position).collect();
        for (number, bytes) in state.intents.iter().rev() {
            let intent = Intent::decode(bytes);
            let Intent { alone, schema, mut ops } =
                intent.ok_or_else(|| TermEnd::Unreadable(format!("intent {number} is damaged")))?;
            // An op of a batch that was not written is in doubt if it was so before.
            let mut was_in_doubt = unwritten.batches.get(number).into_iter().flatten();
            let is_certain = |first| self.settled.contains(first) || unwritten.ops.contains(&first);
            ops.retain(|op| *was_in_doubt.next().unwrap_or(&true) && !is_certain(op.first()));
            ops.retain(|op| !requests.contains(&op.first()));
            ops.retain(|op| !op.positions.iter().any(|position| named.contains(position)));
            named.extend(ops.iter().flat_map(|op| op.positions.iter().copied()));
            self.doubts.found(*number, ops.len());
            if ops.is_empty() {
                self.draft.resolved.extend(self.doubts.release(*number, 0));
            }
            all.extend(ops.into_iter().map(|op| (op.first(), InDoubt { intent: *number, alone, schema, op })));
        }
        Ok(all)
    }
}
