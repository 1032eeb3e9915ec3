//! The two doors for a batcher with a log: the tokens that a batch stands for, and an op that comes in doubt, since an attempt
//! in an earlier process may have landed it. The leader of a durable log calls them.
#![cfg(feature = "durable")]

use crate::rules::{
    accumulator::{Accumulator, Cut, ledger::Entry, store::NodeMeta},
    batch::ErrorKind,
    outcome::{AckError, Answer, DeadLetter, End, Waiter, Waiters},
    panics,
    stage::Found,
    time::Timestamp,
};

/// Dead letters, each with a number of answers: the last of so many is that of its op.
pub(crate) type AnsweredLetters<T> = Vec<(usize, DeadLetter<T>)>;

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Calls `each` with the index of an op in the batch, its attempts so far, and a token that the op stands for: its own, and
    /// those of the ops that were merged into it, with how they ended.
    pub(crate) fn for_each_token(&self, cut: &Cut<T, R, A>, mut each: impl FnMut(usize, u32, &A, Option<End>)) {
        for (i, slot) in cut.slots.iter().enumerate() {
            let attempts = self.nodes.attempts(*slot);
            if let Some(cold) = self.nodes.cold(*slot) {
                cold.waiters.tokens().for_each(|(token, ended)| each(i, attempts, token, ended));
            }
        }
        let with_token = cut.taken.runs.iter().flat_map(|run| std::iter::repeat_n(run.has_tokens, run.count));
        let mut tokens = cut.taken.tokens.iter();
        for (i, has_token) in (cut.slots.len()..).zip(with_token) {
            if has_token && let Some(token) = tokens.next() {
                each(i, 0, token, None);
            }
        }
    }

    /// Takes the dead letters and the answers.
    pub(crate) fn take_ended(&mut self) -> (AnsweredLetters<T>, Vec<Answer<A, R>>) {
        let (letters, mut answers) = (self.outbox.take_answered_letters(), Vec::new());
        self.outbox.take_answers(&mut answers);
        (letters, answers)
    }

    /// Takes in an op that an earlier attempt may have landed, with the tokens of all ops that it stands for. It is sent again
    /// as it is, before anything newer of its key, and is never merged, netted or called expired.
    pub(crate) fn push_in_doubt(&mut self, op: T, tokens: Vec<(A, Timestamp)>, attempts: u32, now: Timestamp) {
        if let Some(only) = self.schedule.partitions_mut().only_mut() {
            only.queue.materialize(&mut self.nodes, &self.rules.order);
        }
        let Entry { seq, epoch } = self.ledger.next();
        let count = tokens.len().max(1);
        self.ledger.accept(count);
        self.ledger.ended(epoch, End::Conflated, None, count - 1);
        let at = tokens.iter().map(|(_, at)| *at).min().unwrap_or(now);
        let waiters = waiters_of(tokens);
        let class = match panics::catch(|| self.classify(&op)) {
            Ok(class) => class,
            Err(panic) => {
                let error = self.caught("a stage", &*panic).with_kind(ErrorKind::Ambiguous);
                self.ledger.ended(epoch, End::InDoubt, Some(&error), 1);
                self.answer(waiters, End::InDoubt, attempts, Err(AckError::InDoubt(error.clone())), now);
                return self.outbox.dead_letter(op, error, attempts, End::InDoubt);
            }
        };
        if class.is_new {
            self.bind_partition();
        }
        let super::Class { partition, level, weight, urgent, meets, .. } = class;
        let slot = self.nodes.insert(NodeMeta { seq, at, partition, level, weight, urgent, epoch });
        self.nodes.set_waiters(slot, waiters);
        let history = self.nodes.history_mut(slot);
        (history.attempts, history.in_doubt) = (attempts, true);
        self.nodes[slot].op = Some(op);
        match meets {
            Found::Unkeyed => {}
            Found::Fresh => self.bind_conflation(slot),
            Found::At(waiting) => {
                self.move_key(waiting, slot);
                self.link(waiting, slot);
                self.raise_older(slot);
            }
        }
        self.enqueue_new(slot, now);
        if let Found::At(waiting) = meets {
            let id = self.nodes[waiting].partition;
            self.reorder_due(id, now);
        }
        self.press_if_full();
    }
}

/// The callers of ops that were merged into the last of them.
fn waiters_of<A>(tokens: Vec<(A, Timestamp)>) -> Waiters<A> {
    let mut waiters = Waiters::None;
    for (token, sent_at) in tokens {
        waiters.mark(End::Conflated);
        waiters.add(Waiter::Caller { token, sent_at, ended: None });
    }
    waiters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{
        accumulator::{Arrival, Policy, Written},
        batch::SinkError,
        config::limits::Limits,
        stage::{Stages, latest},
    };

    type Buffer = Accumulator<u32, (), u64>;

    fn buffer(stages: Stages<u32>) -> Buffer {
        let policy = Policy { idempotent: true, ..Policy::default() };
        Accumulator::new(stages, &Limits::new(10), policy)
    }

    fn push(buffer: &mut Buffer, op: u32, token: u64, now: Timestamp) {
        buffer.push(Arrival { op, at: now, token: Some(token) }, now);
    }

    fn tokens(buffer: &Buffer, cut: &Cut<u32, (), u64>) -> Vec<(usize, u32, u64)> {
        let mut tokens = Vec::new();
        buffer.for_each_token(cut, |i, attempts, token, _| tokens.push((i, attempts, *token)));
        tokens
    }

    fn answers(buffer: &mut Buffer) -> Vec<(u64, End)> {
        let (letters, answers) = buffer.take_ended();
        assert!(letters.is_empty());
        answers.iter().map(|answer| (answer.token, answer.outcome.end())).collect()
    }

    /// Goal: an op in doubt stays as it is and leaves before anything newer of its key. Method: newer ops of its key come.
    #[test]
    fn an_op_in_doubt_is_sent_again_as_it_is() {
        let now = Timestamp::some();
        let mut buffer = buffer(Stages::new().conflate_by(|op: &u32| op % 10, latest));
        push(&mut buffer, 12, 1, now);
        buffer.push_in_doubt(11, vec![(2, now), (3, now)], 4, now);
        push(&mut buffer, 21, 5, now);
        push(&mut buffer, 31, 6, now);
        let cut = buffer.cut(now).expect("nothing lingers");
        assert_eq!(cut.batch.ops(), [12, 11]);
        assert_eq!(tokens(&buffer, &cut), [(0, 0, 1), (1, 4, 2), (1, 4, 3)]);
        buffer.settle(cut, Written::Failed(SinkError::transient("reset")), now);
        assert_eq!(answers(&mut buffer), []);
        let later = now.checked_add(std::time::Duration::from_secs(3600)).expect("in range");
        let mut cut = buffer.cut(later).expect("the backoff is over");
        assert_eq!(cut.batch.ops(), [12, 11]);
        let _ = cut.batch.accept_all();
        buffer.settle(cut, Written::Answered, later);
        assert_eq!(answers(&mut buffer), [(1, End::Delivered), (2, End::Conflated), (3, End::Delivered)]);
        let cut = buffer.cut(later).expect("the newer ones of the key");
        assert_eq!((cut.batch.ops(), tokens(&buffer, &cut)), (&[31][..], vec![(0, 0, 5), (0, 0, 6)]));
        let stats = buffer.stats();
        assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight);
    }

    /// Goal: the doors hold without stages, too. Method: ops of the fast path before and behind one in doubt.
    #[test]
    fn an_op_in_doubt_keeps_its_place_without_stages() {
        let now = Timestamp::some();
        let mut buffer = buffer(Stages::new());
        push(&mut buffer, 1, 1, now);
        buffer.push_in_doubt(2, vec![(2, now)], 1, now);
        push(&mut buffer, 3, 3, now);
        let cut = buffer.cut(now).expect("nothing lingers");
        assert_eq!(cut.batch.ops(), [1, 2, 3]);
        assert_eq!(tokens(&buffer, &cut), [(0, 0, 1), (1, 1, 2), (2, 0, 3)]);
    }
}
