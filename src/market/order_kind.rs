//! The kind of an order. A kind has exactly the prices that it needs; orders, files and requests make it.

use serde::{Deserialize, Serialize};

use super::{InvalidField, Price, Reason};

/// The kind of an order, with the prices that belong to it.
///
/// Unknown fields are skipped when a kind is read. A price that the kind has no use for is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "Unchecked")]
#[non_exhaustive]
pub enum OrderKind {
    /// Trades at once, at the best prices there are.
    Market,
    /// Trades at the price or a better one.
    Limit {
        /// The worst price at which it trades.
        price: Price,
    },
    /// A market order once the market reaches the stop price.
    Stop {
        /// Trigger price.
        stop_price: Price,
    },
    /// A limit order once the market reaches the stop price.
    StopLimit {
        /// Trigger price.
        stop_price: Price,
        /// The worst price at which it trades.
        price: Price,
    },
}

impl OrderKind {
    /// The kind that a row of a file or a request describes by its word, `market`, `limit`, `stop` or `stop_limit` in
    /// any case, and by the prices that came with it.
    ///
    /// # Errors
    ///
    /// The word is unknown, or a price that the kind needs is missing, or one is given that it has no use for.
    pub fn from_parts(word: &str, price: Option<Price>, stop_price: Option<Price>) -> Result<Self, InvalidField> {
        let is = |known: &str| word.eq_ignore_ascii_case(known);
        let needed = |value: Option<Price>, field| value.ok_or(InvalidField::new(field, Reason::Missing));
        let absent = |value: Option<Price>, field| match value {
            None => Ok(()),
            Some(_) => Err(InvalidField::new(field, Reason::Unexpected)),
        };
        if is("market") {
            absent(price, "price")?;
            absent(stop_price, "stop price")?;
            Ok(Self::Market)
        } else if is("limit") {
            absent(stop_price, "stop price")?;
            Ok(Self::Limit { price: needed(price, "price")? })
        } else if is("stop") {
            absent(price, "price")?;
            Ok(Self::Stop { stop_price: needed(stop_price, "stop price")? })
        } else if is("stop_limit") {
            Ok(Self::StopLimit { stop_price: needed(stop_price, "stop price")?, price: needed(price, "price")? })
        } else {
            Err(InvalidField::new("order kind", Reason::UnknownWord))
        }
    }

    /// The kind with the new prices that are given, each of which it must have already.
    pub(super) fn amended(self, price: Option<Price>, stop_price: Option<Price>) -> Result<Self, InvalidField> {
        let amended = |old: Option<Price>, new: Option<Price>, field| match (old, new) {
            (None, Some(_)) => Err(InvalidField::new(field, Reason::Unexpected)),
            (old, new) => Ok(new.or(old)),
        };
        let price = amended(self.price(), price, "price")?;
        let stop_price = amended(self.stop_price(), stop_price, "stop price")?;
        Ok(match (price, stop_price) {
            (None, None) => Self::Market,
            (Some(price), None) => Self::Limit { price },
            (None, Some(stop_price)) => Self::Stop { stop_price },
            (Some(price), Some(stop_price)) => Self::StopLimit { stop_price, price },
        })
    }

    /// The limit, if the kind has one.
    pub const fn price(&self) -> Option<Price> {
        match *self {
            Self::Limit { price } | Self::StopLimit { price, .. } => Some(price),
            Self::Market | Self::Stop { .. } => None,
        }
    }

    /// The stop price, if the kind has one.
    pub const fn stop_price(&self) -> Option<Price> {
        match *self {
            Self::Stop { stop_price } | Self::StopLimit { stop_price, .. } => Some(stop_price),
            Self::Market | Self::Limit { .. } => None,
        }
    }
}

/// A kind as it is read: each with both prices, so that one which does not belong to the kind is found.
#[derive(Deserialize)]
#[serde(rename = "OrderKind", rename_all = "snake_case")]
enum Unchecked {
    Market,
    Limit(Prices),
    Stop(Prices),
    StopLimit(Prices),
}

#[derive(Deserialize)]
struct Prices {
    price: Option<Price>,
    stop_price: Option<Price>,
}

impl TryFrom<Unchecked> for OrderKind {
    type Error = InvalidField;

    fn try_from(read: Unchecked) -> Result<Self, InvalidField> {
        match read {
            Unchecked::Market => Ok(Self::Market),
            Unchecked::Limit(Prices { price, stop_price }) => Self::from_parts("limit", price, stop_price),
            Unchecked::Stop(Prices { price, stop_price }) => Self::from_parts("stop", price, stop_price),
            Unchecked::StopLimit(Prices { price, stop_price }) => Self::from_parts("stop_limit", price, stop_price),
        }
    }
}
