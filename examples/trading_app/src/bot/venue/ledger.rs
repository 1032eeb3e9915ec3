//! The memory of the paper venue as a program of its own: [`Ledger`] has its orders by their client ids, the fills by their
//! numbers, and the positions. `paper` asks it before an op is executed, and tells it afterwards.
//!
//! Invariant: whatever has been answered is in the journal, if there is one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
};

use roundlot::market::{ClientOrderId, Symbol, TradeOp};
use rust_decimal::Decimal;

use super::{
    book::{Book, Fill, Reached, VenueOrderId},
    journal::{Entry, Journal},
    wire::{Known, Statement},
};
use crate::bot::{Error, position::Position};

/// Number of orders that have ended, and of fills, which are remembered: those of some minutes, since a client asks for those of
/// the moment when it was interrupted.
const MAX_REMEMBERED: usize = 100_000;

pub struct Ledger {
    /// `None` for a venue that remembers nothing beyond its end.
    journal: Option<Journal>,
    /// Why a change could not be written. The venue then answers nothing any more.
    failure: Option<Error>,
    checks_client_ids: bool,
    orders: HashMap<Id, State>,
    /// Orders that have ended, the oldest first: at most [`MAX_REMEMBERED`].
    ended: VecDeque<Id>,
    /// The latest fills, the oldest first: at most [`MAX_REMEMBERED`].
    fills: VecDeque<Fill>,
    /// Number of all fills.
    filled: u64,
    /// Cash that the fills have brought, negative for a cost.
    cash: Decimal,
    positions: BTreeMap<Symbol, Position>,
}

/// Client ids are unique within a symbol.
type Id = (Symbol, ClientOrderId);

/// The result of an op.
pub type OpAnswer = Result<VenueOrderId, Cow<'static, str>>;

#[derive(Debug, Clone)]
enum State {
    Resting(VenueOrderId),
    Canceled(VenueOrderId),
    Ended(VenueOrderId),
    Refused(Cow<'static, str>),
}

impl Ledger {
    /// Opens a journal, if a path is given, and restores the orders that are in it.
    pub fn open(journal: Option<&Path>, checks_client_ids: bool, book: &mut Book) -> Result<Self, Error> {
        let (journal, entries) = match journal {
            Some(path) => {
                let (journal, entries) = Journal::open(path)?;
                (Some(journal), entries)
            }
            None => (None, Vec::new()),
        };
        let mut ledger = Self {
            journal,
            failure: None,
            checks_client_ids,
            orders: HashMap::new(),
            ended: VecDeque::new(),
            fills: VecDeque::new(),
            filled: 0,
            cash: Decimal::ZERO,
            positions: BTreeMap::new(),
        };
        for entry in entries {
            match &entry {
                Entry::Accepted { op, id } => book.restore(op, *id),
                Entry::Filled(fill) => book.restore_fill(fill),
                Entry::Ended { symbol, order_id } => book.remove(*symbol, *order_id),
                Entry::Refused { .. } => {}
            }
            ledger.remember(entry);
        }
        Ok(ledger)
    }

    /// Returns the answer that an op had before, if the venue checks client ids: a repeated order gets the result of the first, and
    /// a repeated cancel that of the first cancel. An amend sets absolute values, and may be executed again.
    pub fn answered(&self, op: &TradeOp) -> Option<OpAnswer> {
        if !self.checks_client_ids {
            return None;
        }
        match op {
            TradeOp::Order(order) => Some(match self.orders.get(&(order.symbol(), order.id()))? {
                State::Resting(id) | State::Canceled(id) | State::Ended(id) => Ok(*id),
                State::Refused(reason) => Err(reason.clone()),
            }),
            TradeOp::Cancel(cancel) => match self.orders.get(&(cancel.symbol, cancel.order_id))? {
                State::Canceled(id) => Some(Ok(*id)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Notes the result of an op.
    pub fn note(&mut self, op: &TradeOp, answer: &OpAnswer) {
        let entry = match (answer, op) {
            (Ok(id), _) => Entry::Accepted { op: op.clone(), id: *id },
            (Err(reason), TradeOp::Order(order)) => {
                Entry::Refused { symbol: order.symbol(), order_id: order.id(), reason: reason.to_string() }
            }
            _ => return,
        };
        self.add(entry);
    }

    /// Notes the orders of a symbol that a price has reached.
    pub fn note_reached(&mut self, symbol: Symbol, reached: &Reached) {
        reached.fills.iter().for_each(|fill| self.add(Entry::Filled(fill.clone())));
        reached.ended.iter().for_each(|order_id| self.add(Entry::Ended { symbol, order_id: *order_id }));
    }

    /// Writes what was noted. It may be answered afterwards.
    pub fn write(&mut self) -> Result<(), Error> {
        if self.failure.is_none()
            && let Some(journal) = &mut self.journal
        {
            self.failure = journal.write().err();
        }
        self.failure.as_ref().map_or(Ok(()), |failure| Err(format!("cannot write the journal: {failure}").into()))
    }

    /// Returns what is known of an order.
    pub fn find(&self, symbol: Symbol, id: ClientOrderId, book: &Book) -> Option<Known> {
        Some(match self.orders.get(&(symbol, id))? {
            State::Resting(venue_id) => Known::Resting(*venue_id, book.find(symbol, id)?.clone()),
            State::Canceled(id) => Known::Canceled(*id),
            State::Ended(id) => Known::Ended(*id),
            State::Refused(reason) => Known::Refused(reason.clone()),
        })
    }

    /// Returns the fills behind this number, and the number of the last; `None` if they are no longer remembered, or never were.
    pub fn fills_after(&self, known: u64) -> Option<(Vec<Fill>, u64)> {
        let unknown = usize::try_from(self.filled.checked_sub(known)?).ok()?;
        let skipped = self.fills.len().checked_sub(unknown)?;
        Some((self.fills.iter().skip(skipped).cloned().collect(), self.filled))
    }

    /// Returns the account without its resting orders.
    pub fn statement(&self) -> Statement {
        let (cash, positions) = (self.cash, self.positions.clone());
        Statement { cash, positions, resting: Vec::new(), fills: self.filled }
    }

    fn add(&mut self, entry: Entry) {
        if let Some(journal) = &mut self.journal {
            let added = journal.add(&entry);
            self.failure = self.failure.take().or(added.err());
        }
        self.remember(entry);
    }

    fn remember(&mut self, entry: Entry) {
        match entry {
            Entry::Accepted { op: TradeOp::Order(order), id } => {
                self.orders.insert((order.symbol(), order.id()), State::Resting(id));
            }
            Entry::Accepted { op: TradeOp::Cancel(cancel), id } => {
                self.end((cancel.symbol, cancel.order_id), State::Canceled(id));
            }
            Entry::Accepted { .. } => {}
            Entry::Refused { symbol, order_id, reason } => self.end((symbol, order_id), State::Refused(reason.into())),
            Entry::Ended { symbol, order_id } => self.end_resting((symbol, order_id)),
            Entry::Filled(fill) => {
                self.end_resting((fill.symbol, fill.order_id));
                let cash = self.positions.entry(fill.symbol).or_default().book(&fill);
                self.cash = self.cash.saturating_add(cash);
                self.filled += 1;
                self.fills.push_back(fill);
                if self.fills.len() > MAX_REMEMBERED {
                    self.fills.pop_front();
                }
            }
        }
    }

    fn end_resting(&mut self, id: Id) {
        if let Some(State::Resting(venue_id)) = self.orders.get(&id) {
            let venue_id = *venue_id;
            self.end(id, State::Ended(venue_id));
        }
    }

    fn end(&mut self, id: Id, state: State) {
        self.orders.insert(id, state);
        self.ended.push_back(id);
        if self.ended.len() > MAX_REMEMBERED
            && let Some(oldest) = self.ended.pop_front()
            // Without a check of client ids, an order of the same id may rest again.
            && !matches!(self.orders.get(&oldest), Some(State::Resting(_)))
        {
            self.orders.remove(&oldest);
        }
    }
}
