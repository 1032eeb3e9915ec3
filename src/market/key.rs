//! Symbols and sides as keys: the key functions of [`Stages`](crate::Stages) may return them without `Some`.

use super::{Side, Symbol};
use crate::rules::stage::IntoKey;

impl IntoKey for Symbol {
    type Key = Self;

    fn into_key(self) -> Option<Self> {
        Some(self)
    }
}

impl IntoKey for Side {
    type Key = Self;

    fn into_key(self) -> Option<Self> {
        Some(self)
    }
}
