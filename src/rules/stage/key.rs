//! [`IntoKey`]: what a closure may return as a key: a key, or `None` for no key.

use std::{hash::Hash, sync::Arc};

/// A type that the key functions of [`conflate_by`](crate::Stages::conflate_by) and [`dedup_by`](crate::Stages::dedup_by)
/// may return: an `Option` of any key, where `None` means that the rule does not apply to the op; or, for the usual
/// types of keys, the key itself.
///
/// # Examples
///
/// ```
/// use roundlot::{Stages, stage};
///
/// struct Row { id: u64, note: Option<String> }
///
/// let by_id = Stages::<Row>::new().conflate_by(|row| row.id, stage::latest);
/// let by_note = Stages::<Row>::new().conflate_by(|row| row.note.clone(), stage::latest);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key by itself",
    note = "return `Some(key)`: any type that is `Hash + Eq + Send` will do inside an `Option`"
)]
pub trait IntoKey {
    /// The key that ops are compared by.
    type Key: Hash + Eq + Send + 'static;

    /// The key, or `None` if the rule does not apply.
    fn into_key(self) -> Option<Self::Key>;
}

impl<K: Hash + Eq + Send + 'static> IntoKey for Option<K> {
    type Key = K;

    fn into_key(self) -> Option<K> {
        self
    }
}

macro_rules! keys {
    ($($key:ty),* $(,)?) => {$(
        impl IntoKey for $key {
            type Key = Self;

            fn into_key(self) -> Option<Self> {
                Some(self)
            }
        }
    )*};
}

keys!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, bool, char, ());
keys!(String, &'static str, Box<str>, Arc<str>, Vec<u8>);

macro_rules! tuple_keys {
    ($($part:ident),+) => {
        impl<$($part: Hash + Eq + Send + 'static),+> IntoKey for ($($part,)+) {
            type Key = Self;

            fn into_key(self) -> Option<Self> {
                Some(self)
            }
        }
    };
}

tuple_keys!(A, B);
tuple_keys!(A, B, C);
tuple_keys!(A, B, C, D);

impl<E: Hash + Eq + Send + 'static, const N: usize> IntoKey for [E; N] {
    type Key = Self;

    fn into_key(self) -> Option<Self> {
        Some(self)
    }
}
