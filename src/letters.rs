//! Where dead letters go. In comes a [`DeadLetter`], out it goes to the batcher that is made for them, or to the summary.

use crate::{dead_letter::DeadLetter, handle::Handle};

/// Where a batcher puts its dead letters.
pub(crate) enum Letters<T> {
    /// Nowhere: they are counted and logged.
    Dropped,
    /// Nowhere: they are counted, and logged at debug level. Something larger that the batcher is a part of speaks for it.
    Unwanted,
    /// Into a batcher of their own, so that a sink for them that is slow, fails or panics stalls nobody.
    Posted(Handle<DeadLetter<T>>),
    /// Into the summary: this is such a batcher itself.
    Kept,
}
