//! Short text kept inline, the inside of symbols and ids. A text that exists was checked: it survives a file, a log line
//! and a request unquoted.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    num::NonZeroU8,
    str::{self, FromStr},
};

use serde::de::{self, Deserializer, Visitor};

use super::{InvalidField, Reason};

/// The letters that a text may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// Printable ASCII without white space, comma and quotes: ids, which venues restrict likewise.
    Token,
    /// The same, blanks inside, and all of Unicode that is seen: names of instruments.
    Name,
}

/// 1 to `N` bytes of UTF-8.
///
/// The bytes past `len` are zero, which is below each byte that is allowed: whole arrays compare in the order of the
/// texts. The length comes first in memory, beside the bytes that most comparisons are decided by.
#[derive(Clone, Copy, Eq)]
#[repr(C)]
pub(super) struct Text<const N: usize> {
    /// Never zero, so that an `Option` of it is not larger.
    len: NonZeroU8,
    bytes: [u8; N],
}

/// Texts are compared in parts, each with the length a whole number of a CPU's 16-byte registers, and no further than the
/// longer text goes: most names end in the first part, and the last one is for those that are longer than 31 bytes.
const FIRST: usize = 15;
const SECOND: usize = 31;

impl<const N: usize> Text<N> {
    pub(super) const fn new(text: &str, letters: Letters) -> Result<Self, Reason> {
        const { assert!(N > SECOND && N <= u8::MAX as usize, "the length is kept in one byte") };
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
            let (letter, end) = letter_at(text, at);
            if !letters.allow(letter) {
                return Err(Reason::BadLetter { at, letter });
            }
            while at < end {
                bytes[at] = text[at];
                at += 1;
            }
        }
        if text[0] == b' ' || text[text.len() - 1] == b' ' {
            return Err(Reason::OuterBlank);
        }
        Ok(Self { len, bytes })
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
        Self { len, bytes }
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(self.used()).expect("it was copied from a str")
    }

    fn used(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len.get())]
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        let len = usize::from(self.len.get());
        self.len == other.len
            && self.bytes[..FIRST] == other.bytes[..FIRST]
            && (len <= FIRST || self.bytes[FIRST..SECOND] == other.bytes[FIRST..SECOND])
            && (len <= SECOND || self.bytes[SECOND..] == other.bytes[SECOND..])
    }
}

impl<const N: usize> Ord for Text<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        let head = self.bytes[..SECOND].cmp(&other.bytes[..SECOND]);
        head.then_with(|| self.bytes[SECOND..].cmp(&other.bytes[SECOND..]))
    }
}

impl<const N: usize> PartialOrd for Text<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Only the used bytes are hashed: most symbols and ids are shorter than 16 bytes, which fast hashers take in one
/// step. The length follows them, so that two texts in a row do not hash like two others that join to the same bytes.
///
/// A text above 31 bytes hashes all `N`. The length is then a constant, and the code of a hasher for input of any
/// length stays out of the way of the short ones.
impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.bytes[..SECOND].get(..usize::from(self.len.get())) {
            Some(short) => state.write(short),
            None => state.write(&self.bytes),
        }
        state.write_u8(self.len.get());
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Letters {
    const fn allow(self, letter: char) -> bool {
        match letter {
            ',' | '"' | '\'' | '`' => false,
            '!'..='~' => true,
            ' ' => matches!(self, Self::Name),
            _ => matches!(self, Self::Name) && !letter.is_ascii() && !is_unseen(letter),
        }
    }
}

/// Letters that leave no mark of their own, or change how others are shown: two names that look alike would be two
/// symbols, and a log line could be made to read backwards. Unicode calls them control, format, white space, default
/// ignorable, private use and noncharacters; U+FFFD stands for text that was decoded wrongly.
const fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{80}'..='\u{a0}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{1680}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3000}'
            | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{ffff}'
            | '\u{13430}'..='\u{13455}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..
    ) || letter as u32 & 0xfffe == 0xfffe
}

/// The letter that begins at this byte of UTF-8, and the byte behind it. The standard library can't do it in a `const`.
const fn letter_at(text: &[u8], at: usize) -> (char, usize) {
    let first = text[at] as u32;
    let (mut number, len) = match first {
        0..0x80 => (first, 1),
        0x80..0xe0 => (first & 0x1f, 2),
        0xe0..0xf0 => (first & 0x0f, 3),
        _ => (first & 0x07, 4),
    };
    let mut next = at + 1;
    while next < at + len {
        number = number << 6 | (text[next] & 0x3f) as u32;
        next += 1;
    }
    (char::from_u32(number).expect("it came from a str"), next)
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
    ($(#[$meta:meta])* $name:ident, $max:literal, $letters:ident, $field:literal) => {
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
            /// The text is empty, longer than [`MAX_LEN`](Self::MAX_LEN) bytes, or has a letter that the type's
            /// documentation excludes.
            pub const fn new(text: &str) -> Result<Self, $crate::market::InvalidField> {
                match $crate::market::text::Text::new(text, $crate::market::text::Letters::$letters) {
                    Ok(text) => Ok(Self(text)),
                    Err(reason) => Err($crate::market::InvalidField::new($field, reason)),
                }
            }

            /// The same for a text written in the program; in a `const`, a bad one does not compile.
            ///
            /// # Panics
            ///
            /// If [`new`](Self::new) gives an error. Use `new` for text from outside.
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
#[path = "text_tests.rs"]
mod tests;
