//! The words of the venue's interface, as JSON: what `remote` asks, and what the program of the venue answers.

use std::{borrow::Cow, collections::BTreeMap};

use roundlot::market::{ClientOrderId, Order, PriceUpdate, Symbol, TradeOp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    book::{Account, Fill, VenueOrderId},
    limiter::VenueCounts,
};
use crate::bot::position::Position;

/// Says that the venue is there: the answer to `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// [`PROGRAM`].
    pub program: String,
    /// File of its journal; `None` if it remembers nothing beyond its end.
    pub journal: Option<String>,
    /// Whether an order whose client id the venue knows gets the answer of the first one.
    pub checks_client_ids: bool,
}

/// The name of the program in [`Health`].
pub const PROGRAM: &str = "roundlot paper venue";

/// A request for a session: `POST /session`. A lane has one session at a time, so that clients of different lanes leave each other
/// alone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    pub lane: u16,
}

/// The answer to [`Open`]. Calls of earlier sessions of the lane are over by then, and refused from then on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Session {
    pub session: u64,
}

/// A batch of ops: `POST /orders`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    pub lane: u16,
    pub session: u64,
    pub ops: Vec<TradeOp>,
}

/// The result of one op.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpResult {
    Accepted(VenueOrderId),
    Refused(Cow<'static, str>),
}

/// The answer to a batch: one result per op, in order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub results: Vec<OpResult>,
    pub used: Used,
}

/// The answer to a call that is refused as a whole, with 429, 418 or 503.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallRefused {
    pub reason: Cow<'static, str>,
    /// Time to wait, in milliseconds.
    pub retry_after_ms: u64,
    pub used: Used,
}

/// Use of each limit, by its name.
pub type Used = Vec<(Cow<'static, str>, u64)>;

/// A question about orders by their client ids: `POST /orders/find`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Find {
    pub lane: u16,
    pub session: u64,
    pub orders: Vec<(Symbol, ClientOrderId)>,
}

/// State of an order at the venue. The answer has one per question, `None` for an unknown order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The order rests, with all its amends applied.
    Resting(VenueOrderId, Order),
    Canceled(VenueOrderId),
    /// The order has filled, or ended because it reduced no further.
    Ended(VenueOrderId),
    Refused(Cow<'static, str>),
}

/// New prices: `POST /prices`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prices {
    /// Number of the last fill that the client knows.
    pub known_fills: u64,
    pub updates: Vec<PriceUpdate>,
}

/// The answer to new prices: all fills that the client does not know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fills {
    pub fills: Vec<Fill>,
    /// Number of the last of them.
    pub last: u64,
}

/// The account of the bot: `GET /account`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Cash that the fills have brought, negative for a cost.
    pub cash: Decimal,
    pub positions: BTreeMap<Symbol, Position>,
    pub resting: Vec<Order>,
    /// Number of fills, which is the number of the last one.
    pub fills: u64,
}

impl Statement {
    pub fn account(self) -> Account {
        let positions = self.positions.into_iter().map(|(symbol, position)| (symbol, position.quantity));
        Account { positions: positions.collect(), resting: self.resting }
    }
}

/// The answer to `GET /counts`.
pub type Counts = Option<VenueCounts>;

/// The request that ends the program, which it does when all calls are over: `POST /stop`. To `POST /idle` it is the request that is
/// answered when they are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stop {}
