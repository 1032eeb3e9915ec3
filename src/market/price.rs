//! The price of one unit, as a decimal.

use rust_decimal::Decimal;

use super::{
    Quantity, Reason,
    decimal::{decimal_text, from_integers},
};

/// The price of one unit, in the currency that the symbol is quoted in.
///
/// A price may be zero or negative: spreads and, on a bad day, oil trade there. The digits of its text are kept:
/// `5860832.0` prints back as `5860832.0`. Scientific notation, `1.814e-05`, is read too. Equal numbers are equal
/// whatever their scale. A binary float cannot become a price; in serde a price is a string.
///
/// # Examples
///
/// ```
/// use roundlot::market::{Price, Quantity};
///
/// let price: Price = "1.20".parse()?;
/// let quantity: Quantity = "0.5".parse()?;
///
/// assert_eq!(price.to_string(), "1.20");
/// assert_eq!(Price::from_scaled(12000, 4)?, price);
/// assert_eq!(Price::from(64_000), "64000".parse()?);
/// assert_eq!(Price::try_from(64_000_u64)?, Price::from(64_000));
/// assert_eq!(price.checked_mul(quantity).unwrap().to_string(), "0.600");
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(Decimal);

impl Price {
    /// The price of zero, as in a swap of equal things.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Each decimal is a price.
    pub const fn new(number: Decimal) -> Self {
        Self(number)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the face it shares with `Quantity` can refuse a number")]
    const fn checked(number: Decimal) -> Result<Self, Reason> {
        Ok(Self(number))
    }

    /// The notional: what this quantity costs. `None` if it is too large for a decimal.
    ///
    /// The product is exact while it fits 28 digits after the point and 28 in all; beyond that its last digit is
    /// rounded.
    pub fn checked_mul(self, quantity: Quantity) -> Option<Decimal> {
        self.0.checked_mul(quantity.to_decimal())
    }

    /// The sum of both. `None` if it is too large for a decimal.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The distance from `other` to this price. `None` if it is too large for a decimal.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

decimal_text!(Price, "price");
from_integers!(Price: i8, i16, i32, u8, u16, u32);

impl From<Decimal> for Price {
    fn from(number: Decimal) -> Self {
        Self::new(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde::{
        Deserialize,
        de::{
            IntoDeserializer,
            value::{Error, F64Deserializer, StrDeserializer},
        },
    };

    use super::*;

    fn price(text: &str) -> Price {
        text.parse().expect(text)
    }

    #[test]
    fn a_price_may_be_zero_or_negative() {
        assert_eq!(price("-37.63").to_string(), "-37.63");
        assert!(price("-37.63") < Price::ZERO);
        assert!(price("0.00").is_zero());
    }

    #[test]
    fn the_scale_is_kept_and_does_not_count_in_comparisons() {
        assert_eq!(price("1.50"), price("1.5"));
        assert_eq!(price("1.50").to_string(), "1.50");
        let distinct: HashSet<Price> = ["1.5", "1.50", "1.500", "15e-1", "1.51"].map(price).into();
        assert_eq!(distinct.len(), 2);
    }

    #[test]
    fn numbers_order_as_numbers() {
        let mut prices = ["10", "9.5", "-1", "9.49", "100e-2"].map(price);
        prices.sort_unstable();
        assert_eq!(prices, ["-1", "1", "9.49", "9.5", "10"].map(price));
    }

    #[test]
    fn integers_with_a_scale_become_prices() {
        assert_eq!(Price::from_scaled(1_674_100, 4).expect("fits").to_string(), "167.4100");
        assert_eq!(Price::from_scaled(-5, 0).expect("fits").to_string(), "-5");
        assert_eq!(Price::from_scaled(1, 28).expect("fits"), price("1e-28"));
        for none in [i64::MIN, i64::MAX] {
            let error = Price::from_scaled(none, 9).expect_err("no price");
            assert_eq!((error.reason(), error.to_string()), (Reason::Missing, "price is missing".to_owned()));
        }
        assert!(Price::from_scaled(i64::MAX - 1, 9).is_ok());
        let error = Price::from_scaled(1, 29).expect_err("scale");
        assert_eq!((error.field(), error.reason()), ("price", Reason::TooManyDigits));
    }

    #[test]
    fn whole_numbers_become_prices() {
        assert_eq!([Price::from(-5), Price::from(7_u8), Price::from(u32::MAX)], ["-5", "7", "4294967295"].map(price));
        assert_eq!(Price::try_from(u64::MAX - 1), Ok(price("18446744073709551614")));
        assert_eq!(Price::try_from(-1_i64), Ok(price("-1")));
        for error in [Price::try_from(u64::MAX), Price::try_from(i64::MIN), Price::try_from(i64::MAX)] {
            assert_eq!(error.expect_err("no price").to_string(), "price is missing");
        }
    }

    #[test]
    fn arithmetic_is_exact_and_checked() {
        let largest = Price::new(Decimal::MAX);
        assert_eq!(price("0.1").checked_add(price("0.2")), Some(price("0.3")));
        assert_eq!(price("100.10").checked_sub(price("100.25")), Some(price("-0.15")));
        assert_eq!(largest.checked_add(price("1")), None);
        assert_eq!(Price::new(Decimal::MIN).checked_sub(price("1")), None);
        let quantity: Quantity = "0.00000003".parse().expect("valid");
        assert_eq!(price("61250.1").checked_mul(quantity), Some(price("0.001837503").to_decimal()));
        assert_eq!(largest.checked_mul("2".parse().expect("valid")), None);
    }

    #[test]
    fn serde_reads_text_and_no_floats() {
        let text: StrDeserializer<'_, Error> = "1.814e-05".into_deserializer();
        assert_eq!(Price::deserialize(text), Ok(price("0.00001814")));
        let text: StrDeserializer<'_, Error> = "12,5".into_deserializer();
        assert_eq!(Price::deserialize(text).expect_err("comma").to_string(), "price is not a decimal number");
        let float: F64Deserializer<Error> = 1.5.into_deserializer();
        assert!(Price::deserialize(float).is_err());
    }
}
