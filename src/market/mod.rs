//! The trading nouns: symbols, prices, quantities, orders, trades and quotes. A feed makes them of text and numbers,
//! and [`TradeOp`] carries them into a batcher. This module knows no channels, timers or venues, and of the rules only
//! `Merge` and `IntoKey`.
//!
//! Three rules hold for all of it:
//!
//! * **No binary floats.** [`Price`] and [`Quantity`] are decimals that print the digits they were read from.
//! * **Checked once.** A value that exists is valid; an invalid one is an [`InvalidField`] that names the field.
//! * **Small and inline.** A [`Symbol`] is 64 bytes and `Copy`, so that a key of it costs no allocation.
//!
//! Times are `i64` nanoseconds since the Unix epoch, by the clock of the venue or program that stamped them. Exchange
//! clocks run ahead of the local one and step back at times, so a later message may have an earlier time.
//!
//! # Examples
//!
//! ```
//! use roundlot::{
//!     market::{Order, Priority, Purpose, Side, Symbol, TradeOp},
//!     stage::Merge,
//! };
//!
//! # fn main() -> Result<(), roundlot::market::InvalidField> {
//! let symbol = Symbol::new("BTCUSDT")?;
//! let order = Order::limit(42.into(), symbol, Side::Sell, "61250.10".parse()?, "0.25".parse()?)?
//!     .with_purpose(Purpose::StopLoss);
//! let cancel = TradeOp::from(order.cancel());
//! let order = TradeOp::from(order);
//!
//! assert_eq!(order.priority(), Priority::Critical);
//! assert_eq!(order.conflation_key(), cancel.conflation_key()); // so that they meet while both wait
//! assert_eq!(TradeOp::merge(order, cancel), Merge::Net); // and net: neither is sent
//! # Ok(())
//! # }
//! ```
//!
#![doc = include_str!("json.md")]

mod change;
mod decimal;
mod error;
mod id;
mod key;
mod merge;
mod op;
mod order;
mod order_kind;
mod price;
mod price_update;
mod priority;
mod purpose;
mod quantity;
mod quote;
mod side;
mod symbol;
mod text;
mod time_in_force;
mod trade;

pub use change::{Amend, Cancel};
pub use error::{InvalidField, Reason};
pub use id::{ClientOrderId, TradeId};
pub use op::{ConflationKey, TradeOp};
pub use order::Order;
pub use order_kind::OrderKind;
pub use price::Price;
pub use price_update::PriceUpdate;
pub use priority::Priority;
pub use purpose::Purpose;
pub use quantity::Quantity;
pub use quote::Quote;
pub use side::Side;
pub use symbol::Symbol;
pub use time_in_force::TimeInForce;
pub use trade::Trade;

/// The decimal that prices and quantities are made of, of the crate `rust_decimal`.
pub use rust_decimal::Decimal;

#[cfg(test)]
mod json_tests;
