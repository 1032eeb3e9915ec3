//! [`Journal`]: what nodes say that calls confirmed, and what arrived at the destination. Roundlot writes neither. The two are compared.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::{
    destination::Row,
    op::{Kind, Op, SYMBOLS},
    word::Word,
};

/// Broken promises, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Ops that were accepted and did not arrive, or whose outcome did not come to a sender that lives.
    pub(crate) lost: u64,
    /// Orders that arrived twice, and outcomes that came twice.
    pub(crate) doubled: u64,
    /// Orders that arrived after a later one of their sender and symbol.
    pub(crate) reordered: u64,
    /// Prices that arrived after a newer one, and ops that an older term wrote after a newer one.
    pub(crate) stale: u64,
}

#[derive(Default)]
pub(crate) struct Journal {
    /// Orders in the log, by sender, with their symbols.
    accepted: BTreeMap<u64, BTreeMap<u64, u32>>,
    ended: BTreeSet<(u64, u64)>,
    arrived: BTreeSet<(u64, u64)>,
    /// The newest number that arrived, by kind, source and symbol.
    newest: BTreeMap<(bool, u64, u32), u64>,
    /// The newest price of each feed that is in the log.
    priced: BTreeMap<u64, u64>,
    epochs: BTreeMap<u16, u64>,
    /// Orders that ended without being delivered.
    failed: BTreeSet<(u64, u64)>,
    /// Ops that are dead letters: each was written alone when its process was killed, after other terms had settled nothing. A log gives
    /// such an op up, since it may be what kills the processes.
    given_up: Vec<Op>,
    prices_accepted: u64,
    prices_arrived: u64,
    /// The number of the newest row that was noted, by shard.
    last_arrivals: BTreeMap<u16, i64>,
    /// Shards and numbers of all rows that were noted.
    noted: BTreeSet<(u16, i64)>,
    broken: Broken,
}

/// Counts for the board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) orders_accepted: u64,
    pub(crate) orders_arrived: u64,
    pub(crate) prices_accepted: u64,
    pub(crate) prices_arrived: u64,
}

impl Journal {
    /// Notes what a node has said.
    pub(crate) fn hear(&mut self, word: Word) {
        match word {
            Word::Accepted { source, symbol, number } => {
                self.accepted.entry(source).or_default().insert(number, symbol);
            }
            Word::Ended { source, number, delivered } => {
                self.broken.doubled += u64::from(!self.ended.insert((source, number)));
                if !delivered {
                    self.failed.insert((source, number));
                }
            }
            Word::Priced { feed, number } => {
                self.priced.insert(feed, number);
                self.prices_accepted += u64::from(SYMBOLS);
            }
            Word::Leads { .. } | Word::Leading { .. } | Word::Finished => {}
        }
    }

    /// Notes a row at the end, unless it has been noted. One that was overlooked became visible after later rows of its shard: an older
    /// term has written it beside a newer one.
    pub(crate) fn note_once(&mut self, row: Row) {
        if self.noted.contains(&(row.shard, row.arrival)) {
            return;
        }
        let is_last = self.last_arrivals.get(&row.shard).is_none_or(|last| *last < row.arrival);
        self.broken.stale += u64::from(!is_last);
        self.note(row);
    }

    /// Notes what has arrived, in the order of the rows.
    pub(crate) fn note(&mut self, row: Row) {
        self.noted.insert((row.shard, row.arrival));
        let last = self.last_arrivals.entry(row.shard).or_default();
        *last = row.arrival.max(*last);
        let is_order = row.kind == Kind::Order;
        let is_late = match self.newest.entry((is_order, row.source, row.symbol)) {
            Entry::Vacant(entry) => {
                entry.insert(row.number);
                false
            }
            Entry::Occupied(mut entry) => {
                let newest = entry.insert(row.number.max(*entry.get()));
                row.number <= newest
            }
        };
        if is_order {
            let is_new = self.arrived.insert((row.source, row.number));
            self.broken.doubled += u64::from(!is_new);
            self.broken.reordered += u64::from(is_new && is_late);
        } else {
            self.prices_arrived += 1;
            self.broken.stale += u64::from(is_late);
        }
        let epoch = self.epochs.entry(row.shard).or_default();
        self.broken.stale += u64::from(row.epoch < *epoch);
        *epoch = row.epoch.max(*epoch);
    }

    /// Notes the dead letters of the log.
    pub(crate) fn give_up(&mut self, ops: Vec<Op>) {
        for op in ops.iter().filter(|op| op.kind == Kind::Price) {
            let newest = self.newest.entry((false, op.source, op.symbol)).or_default();
            *newest = op.number.max(*newest);
        }
        self.given_up = ops;
    }

    pub(crate) fn given_up(&self) -> usize {
        self.given_up.len()
    }

    fn is_given_up(&self, id: (u64, u64)) -> bool {
        self.given_up.iter().any(|op| op.kind == Kind::Order && (op.source, op.number) == id)
    }

    /// The number of the newest row that was noted.
    pub(crate) fn last_arrival(&self) -> i64 {
        self.last_arrivals.values().copied().max().unwrap_or(0)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            orders_accepted: self.accepted.values().map(|orders| orders.len() as u64).sum(),
            orders_arrived: self.arrived.len() as u64,
            prices_accepted: self.prices_accepted,
            prices_arrived: self.prices_arrived,
        }
    }

    /// Broken promises so far. Nothing is lost before the end.
    pub(crate) fn broken(&self) -> Broken {
        self.broken
    }

    /// Broken promises at the end, after the log has been emptied. `living` tells whether a sender lives still.
    pub(crate) fn judge(&self, living: impl Fn(u64) -> bool) -> Broken {
        Broken { lost: self.lost(living).len() as u64, ..self.broken }
    }

    /// Lost ops, in words.
    pub(crate) fn lost(&self, living: impl Fn(u64) -> bool) -> Vec<String> {
        let failed = self
            .failed
            .iter()
            .filter(|id| !self.is_given_up(**id))
            .map(|(source, number)| format!("order {number} of {source} was not delivered"));
        let mut lost: Vec<String> = failed.collect();
        for (&source, orders) in &self.accepted {
            for (&number, symbol) in orders {
                let id = (source, number);
                if !self.arrived.contains(&id) && !self.failed.contains(&id) && !self.is_given_up(id) {
                    lost.push(format!("order {number} of {source}, symbol {symbol}, did not arrive"));
                } else if living(source) && !self.ended.contains(&id) {
                    lost.push(format!("order {number} of {source} arrived, and its sender did not hear of it"));
                }
            }
        }
        for (&feed, &number) in &self.priced {
            for symbol in 0..SYMBOLS {
                let newest = self.newest.get(&(false, feed, symbol)).copied();
                if newest.is_none_or(|newest| newest < number) {
                    lost.push(format!(
                        "price {number} of feed {feed}, symbol {symbol}: {newest:?} was the last to arrive"
                    ));
                }
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, number: u64, epoch: u64) -> Row {
        Row { arrival: 0, kind, symbol: 1, source: 8, number, shard: 0, epoch }
    }

    fn accepted(journal: &mut Journal, numbers: &[u64]) {
        numbers.iter().for_each(|&number| journal.hear(Word::Accepted { source: 8, symbol: 1, number }));
    }

    /// Goal: each kind of fault is counted once, in its place. Method: a journal with one fault, or with none.
    #[test]
    fn faults_are_counted() {
        use Kind::{Order, Price};
        let cases: [(&[Row], Broken); 6] = [
            (&[row(Order, 1, 1), row(Order, 2, 1), row(Order, 3, 2)], Broken::default()),
            (&[row(Order, 1, 1), row(Order, 3, 1)], Broken { lost: 1, ..Broken::default() }),
            (
                &[row(Order, 1, 1), row(Order, 2, 1), row(Order, 2, 1), row(Order, 3, 1)],
                Broken { doubled: 1, ..Broken::default() },
            ),
            (&[row(Order, 1, 1), row(Order, 3, 1), row(Order, 2, 1)], Broken { reordered: 1, ..Broken::default() }),
            (&[row(Order, 1, 2), row(Order, 2, 1), row(Order, 3, 2)], Broken { stale: 1, ..Broken::default() }),
            (
                &[row(Order, 1, 1), row(Price, 2, 1), row(Order, 2, 1), row(Price, 1, 1), row(Order, 3, 1)],
                Broken { stale: 1, ..Broken::default() },
            ),
        ];
        for (rows, broken) in cases {
            let mut journal = Journal::default();
            accepted(&mut journal, &[1, 2, 3]);
            rows.iter().for_each(|row| journal.note(*row));
            assert_eq!(journal.judge(|_| false), broken, "{rows:?}");
        }
    }

    /// Goal: a row that becomes visible after later ones of its shard is not overlooked. Method: one with a number that was passed over, and
    /// the same rows again.
    #[test]
    fn a_row_that_was_overlooked_is_stale() {
        let mut journal = Journal::default();
        accepted(&mut journal, &[1, 2]);
        let rows = [(5, 1), (6, 2)].map(|(arrival, number)| Row { arrival, ..row(Kind::Order, number, 2) });
        rows.iter().for_each(|row| journal.note(*row));
        rows.iter().for_each(|row| journal.note_once(*row));
        assert_eq!(journal.judge(|_| false), Broken::default());
        journal.note_once(Row { arrival: 3, ..row(Kind::Order, 1, 2) });
        assert_eq!(journal.judge(|_| false), Broken { doubled: 1, stale: 1, ..Broken::default() });
    }

    /// Goal: outcomes count, too. Method: an order that arrived, whose sender lives and hears nothing, or hears twice.
    #[test]
    fn each_sender_hears_once() {
        let mut journal = Journal::default();
        accepted(&mut journal, &[1]);
        journal.note(row(Kind::Order, 1, 1));
        assert_eq!(journal.judge(|_| true).lost, 1);
        assert_eq!(journal.judge(|_| false).lost, 0);
        let ended = Word::Ended { source: 8, number: 1, delivered: true };
        journal.hear(ended);
        assert_eq!(journal.judge(|_| true), Broken::default());
        journal.hear(ended);
        assert_eq!(journal.judge(|_| true).doubled, 1);
    }

    /// Goal: dead letters are not lost. Method: an order and a price that the log has given up.
    #[test]
    fn what_was_given_up_is_not_lost() {
        let mut journal = Journal::default();
        accepted(&mut journal, &[1]);
        journal.hear(Word::Ended { source: 8, number: 1, delivered: false });
        journal.hear(Word::Priced { feed: 0, number: 5 });
        for symbol in 1..SYMBOLS {
            journal.note(Row { symbol, source: 0, ..row(Kind::Price, 6, 1) });
        }
        assert_eq!(journal.judge(|_| true).lost, 2);
        let letter = |kind, source, symbol, number| Op { kind, source, symbol, number };
        journal.give_up(vec![letter(Kind::Order, 8, 1, 1), letter(Kind::Price, 0, 0, 5)]);
        assert_eq!(journal.judge(|_| true), Broken::default());
    }

    #[test]
    fn the_last_price_arrives() {
        let mut journal = Journal::default();
        journal.hear(Word::Priced { feed: 0, number: 5 });
        assert_eq!(journal.judge(|_| true).lost, u64::from(SYMBOLS));
        for symbol in 0..SYMBOLS {
            journal.note(Row { symbol, source: 0, ..row(Kind::Price, 6, 1) });
        }
        assert_eq!(journal.judge(|_| true), Broken::default());
    }
}
