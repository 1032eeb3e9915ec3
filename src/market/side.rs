//! Buy or sell.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::{InvalidField, Reason, text};

/// The direction of an order or a trade.
///
/// A side prints as `buy` or `sell` and is read from `buy`, `b`, `sell` and `s` in any case. `bid` and `ask` are not
/// read: a bid order buys, but feeds that mark a trade `bid` mean that it hit the bid, which is a sell.
///
/// # Examples
///
/// ```
/// use roundlot::market::Side;
///
/// assert_eq!("BUY".parse::<Side>()?, Side::Buy);
/// assert_eq!("s".parse::<Side>()?.to_string(), "sell");
/// assert_eq!(Side::Buy.opposite(), Side::Sell);
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Adds to the position.
    Buy,
    /// Takes from the position.
    Sell,
}

impl Side {
    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// The side of the taker of liquidity, from the flag that feeds call "is buyer maker": if the buyer's order was
    /// resting, the trade is a sell.
    #[must_use]
    pub const fn of_taker(buyer_is_maker: bool) -> Self {
        if buyer_is_maker { Self::Sell } else { Self::Buy }
    }

    /// `buy` or `sell`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Side {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        if is("buy") || is("b") {
            Ok(Self::Buy)
        } else if is("sell") || is("s") {
            Ok(Self::Sell)
        } else {
            Err(InvalidField::new("side", if text.is_empty() { Reason::Empty } else { Reason::UnknownWord }))
        }
    }
}

impl<'de> Deserialize<'de> for Side {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::{
        IntoDeserializer,
        value::{Error, StrDeserializer},
    };

    use super::*;

    #[test]
    fn common_spellings_are_read_in_any_case() {
        for text in ["buy", "Buy", "BUY", "b", "B"] {
            assert_eq!(text.parse(), Ok(Side::Buy), "{text}");
        }
        for text in ["sell", "Sell", "SELL", "s", "S"] {
            assert_eq!(text.parse(), Ok(Side::Sell), "{text}");
        }
    }

    #[test]
    fn words_of_two_meanings_are_not_read() {
        for text in ["bid", "ask", "long", "short", "1", "2", " buy", "buyer"] {
            let error = text.parse::<Side>().expect_err(text);
            assert_eq!(error.to_string(), "side is an unknown word");
        }
        assert_eq!("".parse::<Side>().expect_err("empty").to_string(), "side is empty");
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for side in [Side::Buy, Side::Sell] {
            assert_eq!(side.to_string().parse(), Ok(side));
            assert_eq!(side.opposite().opposite(), side);
            let text: StrDeserializer<'_, Error> = side.as_str().into_deserializer();
            assert_eq!(Side::deserialize(text), Ok(side));
        }
    }

    #[test]
    fn a_resting_buyer_makes_the_trade_a_sell() {
        assert_eq!(Side::of_taker(true), Side::Sell);
        assert_eq!(Side::of_taker(false), Side::Buy);
    }
}
