//! The side that took the liquidity: by words in a column, by a flag, or by the sign of the quantity. `layout` finds
//! the source, and `row` reads the side from it.

use roundlot::market::Side;

use super::{header::Header, names, row::is_no_value};
use crate::demo::settings::Replay;

/// The source of the side in a file.
#[derive(Debug, PartialEq)]
pub enum Sides {
    /// The file does not tell the side.
    None,
    /// A column with words.
    Words { column: usize, buy: Vec<String>, sell: Vec<String> },
    /// A negative quantity is a sell.
    Sign,
}

const BUY: &[&str] = &["buy", "b", "bid", "buyer", "buy_side", "1"];
const SELL: &[&str] = &["sell", "s", "a", "ask", "offer", "seller", "sell_side", "2", "-1"];
const MAKER_SOLD: &[&str] = &["false", "f", "0"];
const MAKER_BOUGHT: &[&str] = &["true", "t", "1"];

impl Sides {
    /// Takes the source from the settings, or else from what the first rows confirm. `values` gives the fields of a
    /// column.
    pub fn of<'a, V: Iterator<Item = &'a str>>(
        settings: &Replay,
        header: &Header<'_>,
        shape: Option<names::Shape>,
        quantity: Option<usize>,
        values: impl Fn(usize) -> V,
    ) -> Result<Self, String> {
        let plain = header.place("side", &settings.side, names::SIDE)?;
        let flag = header.place("side", &None, names::BUYER_IS_MAKER)?.or(shape.map(|shape| shape.buyer_is_maker));
        if let (Some(true), None) = (settings.side_by_sign, quantity) {
            return Err("replay.side_by_sign: it has no quantity: set replay.quantity".to_owned());
        }
        let Some(column) = plain.or(flag).filter(|_| settings.side_by_sign != Some(true)) else {
            let is_negative = |text: &str| text.starts_with('-') && text != "-" && !is_no_value(text);
            let is_signed = quantity.is_some_and(|column| values(column).any(is_negative));
            return Ok(if settings.side_by_sign.unwrap_or(is_signed) { Self::Sign } else { Self::None });
        };
        let (buy, sell) = if Some(column) == flag { (MAKER_SOLD, MAKER_BOUGHT) } else { (BUY, SELL) };
        let is_said = settings.buy.is_some() || settings.sell.is_some();
        if !is_said && Some(column) != flag && values(column).any(|text| text == "0") {
            return Err(format!(
                "column {} has 0, which may be a buy or a sell: set replay.buy and replay.sell",
                header.name(column)
            ));
        }
        let or = |said: &Option<Vec<String>>, usual: &[&str]| {
            said.clone().unwrap_or_else(|| usual.iter().map(|word| (*word).to_owned()).collect())
        };
        Ok(Self::Words { column, buy: or(&settings.buy, buy), sell: or(&settings.sell, sell) })
    }

    /// Returns the side that a word means.
    pub fn read(&self, text: &str) -> Result<Side, String> {
        let Self::Words { buy, sell, .. } = self else {
            return Err("is not expected".to_owned());
        };
        let is = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        match (is(buy), is(sell)) {
            (true, _) => Ok(Side::Buy),
            (false, true) => Ok(Side::Sell),
            (false, false) => Err("is no side: see replay.buy and replay.sell".to_owned()),
        }
    }
}
