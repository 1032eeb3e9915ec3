//! Exact decimals of text: the same digits print again. Price and quantity are made of them.

use rust_decimal::Decimal;

use super::Reason;

/// Reads decimal text without rounding: `-12.50`, and `1.814e-05` as some feeds write small prices.
///
/// The scale of the text is kept, so that it prints back as it came; a number in scientific notation prints in full.
/// `rust_decimal` has a parser too, which takes `1_000` and rounds the digits before an exponent.
pub(super) fn parse(text: &str) -> Result<Decimal, Reason> {
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let mut mantissa = 0_u128;
    let mut digits = 0;
    let mut digits_before_point = None;
    let mut exponent = 0;
    for (at, &byte) in unsigned.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let digit = u128::from(byte - b'0');
                mantissa = mantissa.checked_mul(10).and_then(|m| m.checked_add(digit)).ok_or(Reason::TooManyDigits)?;
                digits += 1;
            }
            b'.' if digits_before_point.is_none() => digits_before_point = Some(digits),
            b'e' | b'E' if digits > 0 => {
                exponent = parse_exponent(&unsigned[at + 1..])?;
                break;
            }
            _ => return Err(Reason::NotDecimal),
        }
    }
    if digits == 0 {
        return Err(Reason::NotDecimal);
    }
    let scale = i64::from(digits - digits_before_point.unwrap_or(digits)) - exponent;
    from_parts(negative, mantissa, scale)
}

/// An exponent: digits with a sign. One above `u32::MAX` is cut there, since no decimal holds the number anyway.
fn parse_exponent(text: &[u8]) -> Result<i64, Reason> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::NotDecimal);
    }
    let value = digits.iter().fold(0_i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(i64::from(u32::MAX)));
    Ok(if negative { -value } else { value })
}

/// `mantissa / 10^scale`, if a decimal holds that exactly.
fn from_parts(negative: bool, mut mantissa: u128, mut scale: i64) -> Result<Decimal, Reason> {
    if mantissa == 0 {
        scale = scale.clamp(0, i64::from(Decimal::MAX_SCALE));
    }
    while scale > i64::from(Decimal::MAX_SCALE) && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        scale -= 1;
    }
    while scale < 0 {
        mantissa = mantissa.checked_mul(10).ok_or(Reason::TooManyDigits)?;
        scale += 1;
    }
    let mantissa = i128::try_from(mantissa).map_err(|_| Reason::TooManyDigits)?;
    let scale = u32::try_from(scale).map_err(|_| Reason::TooManyDigits)?;
    from_scaled(if negative { -mantissa } else { mantissa }, scale)
}

/// `mantissa / 10^scale`, with that scale.
pub(super) fn from_scaled(mantissa: i128, scale: u32) -> Result<Decimal, Reason> {
    Decimal::try_from_i128_with_scale(mantissa, scale).map_err(|_| Reason::TooManyDigits)
}

/// [`from_scaled`] for an integer of a feed, in which the least and the greatest `i64` stand for a missing value.
pub(super) fn from_feed(mantissa: i64, scale: u32) -> Result<Decimal, Reason> {
    match mantissa {
        i64::MIN | i64::MAX => Err(Reason::Missing),
        mantissa => from_scaled(i128::from(mantissa), scale),
    }
}

/// Implements text, serde and integers for a newtype of a decimal: for price and quantity. The type brings
/// `checked(Decimal) -> Result<Self, Reason>`.
macro_rules! decimal_text {
    ($name:ident, $field:literal) => {
        impl $name {
            /// `mantissa / 10^scale`, as venues and files write it that send integers: `from_scaled(1674100, 4)` is
            /// 167.4100.
            ///
            /// # Errors
            ///
            /// The scale is above 28, or the number has no meaning in this place. `i64::MAX` and `i64::MIN` are
            /// [`Missing`](crate::market::Reason::Missing): feeds of integers send them where there is no value.
            pub fn from_scaled(mantissa: i64, scale: u32) -> Result<Self, $crate::market::InvalidField> {
                $crate::market::decimal::from_feed(mantissa, scale)
                    .and_then(Self::checked)
                    .map_err(|reason| $crate::market::InvalidField::new($field, reason))
            }

            /// The number without its meaning.
            pub const fn to_decimal(self) -> rust_decimal::Decimal {
                self.0
            }

            /// Whether it is zero.
            pub const fn is_zero(self) -> bool {
                self.0.is_zero()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::market::InvalidField;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::market::decimal::parse(text)
                    .and_then(Self::checked)
                    .map_err(|reason| $crate::market::InvalidField::new($field, reason))
            }
        }

        /// Whole numbers. The least and the greatest `i64` and the greatest `u64` are
        /// [`Missing`](crate::market::Reason::Missing), as in [`from_scaled`]($name::from_scaled).
        impl TryFrom<i64> for $name {
            type Error = $crate::market::InvalidField;

            fn try_from(number: i64) -> Result<Self, Self::Error> {
                Self::from_scaled(number, 0)
            }
        }

        impl TryFrom<u64> for $name {
            type Error = $crate::market::InvalidField;

            fn try_from(number: u64) -> Result<Self, Self::Error> {
                let missing = number == u64::MAX;
                let checked = if missing { Err($crate::market::Reason::Missing) } else { Self::checked(number.into()) };
                checked.map_err(|reason| $crate::market::InvalidField::new($field, reason))
            }
        }

        impl From<$name> for rust_decimal::Decimal {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::market::text::deserialize(deserializer)
            }
        }
    };
}
pub(super) use decimal_text;

/// Implements `From` for small integers, each of which is a price or a quantity.
macro_rules! from_integers {
    ($name:ident: $($integer:ty),+) => {$(
        impl From<$integer> for $name {
            fn from(number: $integer) -> Self {
                Self(number.into())
            }
        }
    )+};
}
pub(super) use from_integers;

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        parse(text).expect(text).to_string()
    }

    /// Goal: nothing is lost between file and database. Method: the digits of the text come back, zeros included.
    #[test]
    fn plain_text_prints_back_as_it_came() {
        let plain = [
            "0",
            "0.0",
            "5860832.0",
            "121.5800000000",
            "0.068965",
            "60157.36709703",
            "2388102.7272836664",
            "-37.63",
            "79228162514264337593543950335",
            "0.0000000000000000000000000001",
            "7.9228162514264337593543950335",
        ];
        for text in plain {
            assert_eq!(printed(text), text);
        }
    }

    #[test]
    fn scientific_notation_is_exact() {
        let cases = [
            ("1e-7", "0.0000001"),
            ("1.814e-05", "0.00001814"),
            ("1.6425e-06", "0.0000016425"),
            ("2.50E+3", "2500"),
            ("2.505e2", "250.5"),
            ("2.500e2", "250.0"),
            ("-1e3", "-1000"),
            ("0e9", "0"),
            ("0e-99", "0.0000000000000000000000000000"),
            ("79228162514264337593543950335e-28", "7.9228162514264337593543950335"),
        ];
        for (text, expected) in cases {
            assert_eq!(printed(text), expected, "{text}");
        }
    }

    #[test]
    fn signs_points_and_zeros_without_meaning_are_dropped() {
        for (text, expected) in [("+5", "5"), ("5.", "5"), (".5", "0.5"), ("-.5", "-0.5"), ("007.50", "7.50")] {
            assert_eq!(printed(text), expected, "{text}");
        }
        let zero = parse("-0.0").expect("zero");
        assert!(!zero.is_sign_negative(), "there is one zero");
    }

    #[test]
    fn zeros_past_the_last_place_cost_no_error() {
        assert_eq!(printed("1.00000000000000000000000000000000"), "1.0000000000000000000000000000");
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_never_rounded() {
        let too_many = [
            "79228162514264337593543950336",
            "0.00000000000000000000000000001",
            "7.92281625142643375935439503351",
            "1e29",
            "1e-29",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "1111111111111111111111111111111111111111111111111111111111",
        ];
        for text in too_many {
            assert_eq!(parse(text), Err(Reason::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn other_text_is_no_number() {
        assert_eq!(parse(""), Err(Reason::Empty));
        let words = ". - + -. e5 .e5 1e 1e- 1e+ 1e1.5 1e5e5 1.2.3 --1 +-1 1- 1_000 1,5 0x10 NaN inf -Infinity abc １";
        let others = words.split(' ').chain(["1 000", " 1", "1 ", "1\n"]);
        for text in others {
            assert_eq!(parse(text), Err(Reason::NotDecimal), "{text}");
        }
    }
}
