//! How much, as a decimal that is never negative.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    InvalidField, Reason,
    decimal::{decimal_text, from_integers},
};

const FIELD: &str = "quantity";

/// How much of an instrument, in units, contracts or shares as its venue counts. Never negative.
///
/// Zero is a quantity: an empty level of a book has it. An [`Order`](super::Order) asks for more than zero. Text and
/// serde are those of a [`Price`](super::Price).
///
/// # Examples
///
/// ```
/// use roundlot::market::Quantity;
///
/// let ordered: Quantity = "2.50".parse()?;
/// let filled: Quantity = "1.75".parse()?;
///
/// assert_eq!(ordered.checked_sub(filled), Some("0.75".parse()?));
/// assert_eq!(filled.checked_sub(ordered), None);
/// assert_eq!(Quantity::from(100_u32), "100".parse()?);
/// assert_eq!(Quantity::try_from(-100_i64).unwrap_err().to_string(), "quantity is negative");
/// assert_eq!("-1".parse::<Quantity>().unwrap_err().to_string(), "quantity is negative");
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(Decimal);

impl Quantity {
    /// The quantity of zero.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Takes a number that is not negative.
    ///
    /// # Errors
    ///
    /// The number is negative.
    pub fn new(number: Decimal) -> Result<Self, InvalidField> {
        Self::checked(number).map_err(|reason| InvalidField::new(FIELD, reason))
    }

    fn checked(number: Decimal) -> Result<Self, Reason> {
        if number < Decimal::ZERO { Err(Reason::Negative) } else { Ok(Self(number)) }
    }

    /// The sum of both. `None` if it is too large for a decimal.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// This quantity less `other`. `None` if that is negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(|rest| Self::checked(rest).ok())
    }

    /// Refuses zero, which is no quantity for an order.
    pub(super) fn positive(self) -> Result<Self, InvalidField> {
        if self.is_zero() { Err(InvalidField::new(FIELD, Reason::Zero)) } else { Ok(self) }
    }

    /// [`positive`](Self::positive), as a field of serde that may be null.
    pub(super) fn deserialize_positive_option<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Self>, D::Error> {
        Option::<Self>::deserialize(d)?.map(Self::positive).transpose().map_err(D::Error::custom)
    }
}

decimal_text!(Quantity, "quantity");
from_integers!(Quantity: u8, u16, u32);

impl TryFrom<i32> for Quantity {
    type Error = InvalidField;

    fn try_from(number: i32) -> Result<Self, Self::Error> {
        Self::new(number.into())
    }
}

impl TryFrom<Decimal> for Quantity {
    type Error = InvalidField;

    fn try_from(number: Decimal) -> Result<Self, Self::Error> {
        Self::new(number)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::{
        IntoDeserializer,
        value::{Error, StrDeserializer},
    };

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().expect(text)
    }

    #[test]
    fn negative_is_refused_on_each_way_in() {
        let negative = |error: InvalidField| (error.field(), error.reason()) == ("quantity", Reason::Negative);
        assert!(negative("-0.001".parse::<Quantity>().expect_err("text")));
        assert!(negative(Quantity::from_scaled(-1, 3).expect_err("integer")));
        assert!(negative(Quantity::new(Decimal::NEGATIVE_ONE).expect_err("decimal")));
        assert!(negative(Quantity::try_from(Decimal::NEGATIVE_ONE).expect_err("decimal")));
        assert!(negative(Quantity::try_from(-1).expect_err("small integer")));
        assert!(negative(Quantity::try_from(-1_i64).expect_err("integer")));
        assert_eq!(Quantity::try_from(u64::MAX).expect_err("missing").reason(), Reason::Missing);
        assert_eq!(Quantity::try_from(1_u64), Ok(Quantity::from(1_u8)));
        let text: StrDeserializer<'_, Error> = "-1".into_deserializer();
        assert_eq!(Quantity::deserialize(text).expect_err("serde").to_string(), "quantity is negative");
    }

    #[test]
    fn zero_is_a_quantity_but_not_for_an_order() {
        assert_eq!(quantity("0"), Quantity::ZERO);
        assert_eq!(quantity("-0"), Quantity::ZERO);
        assert_eq!(Quantity::ZERO.positive().expect_err("zero").to_string(), "quantity is zero");
        assert_eq!(quantity("1e-8").positive(), Ok(quantity("0.00000001")));
    }

    #[test]
    fn sums_are_exact_and_checked() {
        let largest = Quantity::new(Decimal::MAX).expect("positive");
        assert_eq!(quantity("0.1").checked_add(quantity("0.2")), Some(quantity("0.3")));
        assert_eq!(quantity("0.3").checked_sub(quantity("0.3")), Some(Quantity::ZERO));
        assert_eq!(quantity("0.3").checked_sub(quantity("0.4")), None);
        assert_eq!(largest.checked_add(largest), None);
    }

    #[test]
    fn the_text_is_kept() {
        for text in ["121.5800000000", "60157.36709703", "2"] {
            assert_eq!(quantity(text).to_string(), text);
        }
    }
}
