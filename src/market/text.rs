//! Short ASCII text kept inline. Text from outside comes in, a checked copy goes out: the inside of symbols and ids.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    num::NonZeroU8,
    str::{self, FromStr},
};

use serde::de::{self, Deserializer, Visitor};

use super::{InvalidField, Reason};

/// 1 to `N` bytes of printable ASCII without white space, comma and quotes.
///
/// The bytes past `len` are zero, which is below each byte that is allowed: whole arrays compare, and they compare in
/// the order of the texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    /// Never zero, so that an `Option` of it is not larger.
    len: NonZeroU8,
}

impl<const N: usize> Text<N> {
    pub(super) const fn new(text: &str) -> Result<Self, Reason> {
        const { assert!(N <= u8::MAX as usize, "the length is kept in one byte") };
        let text = text.as_bytes();
        if text.len() > N {
            return Err(Reason::TooLong { max: N, len: text.len() });
        }
        let Some(len) = NonZeroU8::new(text.len() as u8) else {
            return Err(Reason::Empty);
        };
        let mut bytes = [0; N];
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            if !is_allowed(byte) {
                return Err(Reason::BadByte { at, byte });
            }
            bytes[at] = byte;
            at += 1;
        }
        Ok(Self { bytes, len })
    }

    /// The decimal digits of a number.
    pub(super) const fn from_number(mut number: u64) -> Self {
        const { assert!(N >= 20 && N <= u8::MAX as usize, "the largest number has 20 digits") };
        let mut len = 1;
        let mut rest = number / 10;
        while rest > 0 {
            len += 1;
            rest /= 10;
        }
        let mut bytes = [0; N];
        let mut at = len;
        while at > 0 {
            at -= 1;
            bytes[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        let len = NonZeroU8::new(len as u8).expect("zero has a digit too");
        Self { bytes, len }
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(self.used()).expect("ASCII was checked when it was made")
    }

    fn used(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len.get())]
    }
}

/// Only the used bytes are hashed: most symbols and ids are shorter than 16 bytes, which fast hashers take in one
/// step. The length follows them, so that two texts in a row do not hash like two others that join to the same bytes.
impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.used());
        state.write_u8(self.len.get());
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\'' | b'`')
}

/// Reads a value from a string of any format, through the same checks as [`FromStr`].
pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = InvalidField>,
    D: Deserializer<'de>,
{
    struct FromText<T>(PhantomData<T>);

    impl<T: FromStr<Err = InvalidField>> Visitor<'_> for FromText<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(FromText(PhantomData))
}

/// Makes a public type of a [`Text`]: the same face for symbols and ids, written once.
macro_rules! inline_text {
    ($(#[$meta:meta])* $name:ident, $max:literal, $field:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::market::text::Text<$max>);

        impl $name {
            /// The longest text that fits, in bytes.
            pub const MAX_LEN: usize = $max;

            /// Copies and checks a text.
            ///
            /// # Errors
            ///
            /// The text is empty, longer than [`MAX_LEN`](Self::MAX_LEN) bytes, or contains something else than
            /// printable ASCII, or white space, a comma or a quote.
            pub const fn new(text: &str) -> Result<Self, $crate::market::InvalidField> {
                match $crate::market::text::Text::new(text) {
                    Ok(text) => Ok(Self(text)),
                    Err(reason) => Err($crate::market::InvalidField::new($field, reason)),
                }
            }

            /// The same for a text written in the program; in a `const`, a bad one does not compile.
            ///
            /// # Panics
            ///
            /// Where [`new`](Self::new) gives an error. Use that one for all that comes from outside.
            #[track_caller]
            pub const fn from_static(text: &'static str) -> Self {
                match Self::new(text) {
                    Ok(text) => text,
                    Err(_) => panic!(concat!("not a valid ", $field)),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::market::InvalidField;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $crate::market::InvalidField;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::market::InvalidField;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(&text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::market::text::deserialize(deserializer)
            }
        }
    };
}
pub(super) use inline_text;

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn text(text: &str) -> Text<8> {
        Text::new(text).expect("valid in this test")
    }

    fn hash(value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// Goal: each rule has its own reason. Method: the shortest text that breaks it, at both ends of the length.
    #[test]
    fn each_rule_is_checked() {
        assert_eq!(Text::<8>::new(""), Err(Reason::Empty));
        assert_eq!(Text::<8>::new("123456789"), Err(Reason::TooLong { max: 8, len: 9 }));
        assert_eq!(text("1").as_str(), "1");
        assert_eq!(text("12345678").as_str(), "12345678");
        for bad in [" ", "\t", "\n", "\r", "\0", "\x1f", "\x7f", ",", "\"", "'", "`"] {
            let byte = bad.as_bytes()[0];
            assert_eq!(Text::<8>::new(&format!("AB{bad}")), Err(Reason::BadByte { at: 2, byte }), "{bad:?}");
        }
        assert_eq!(Text::<8>::new("Aé"), Err(Reason::BadByte { at: 1, byte: 0xc3 }));
    }

    #[test]
    fn all_other_printable_ascii_is_allowed() {
        let allowed = (b'!'..=b'~').filter(|byte| !b",\"'`".contains(byte));
        for byte in allowed {
            let one = char::from(byte).to_string();
            assert_eq!(text(&one).as_str(), one);
        }
    }

    /// Goal: inline bytes order like strings. Method: all pairs of texts that share prefixes.
    #[test]
    fn the_order_is_that_of_strings() {
        let all = ["!", "A", "AA", "AB", "B", "BA", "a", "~", "~~~~~~~~"];
        for a in all {
            for b in all {
                assert_eq!(text(a).cmp(&text(b)), a.cmp(b), "{a} {b}");
                assert_eq!(text(a) == text(b), a == b);
            }
        }
    }

    #[test]
    fn equal_texts_hash_alike_and_pairs_do_not_run_together() {
        assert_eq!(hash(text("BTC")), hash(text("BTC")));
        assert_ne!(hash(text("BTC")), hash(text("BTD")));
        assert_ne!(hash((text("AB"), text("C"))), hash((text("A"), text("BC"))));
    }

    #[test]
    fn numbers_become_their_digits() {
        for number in [0, 7, 10, 99, 100, 1_000_000_007, u64::MAX - 1, u64::MAX] {
            let made = Text::<36>::from_number(number);
            assert_eq!(made.as_str(), number.to_string());
            assert_eq!(Ok(made), Text::new(&number.to_string()), "no trace of how it was made");
        }
    }
}
