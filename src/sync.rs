//! The mutex that the inbox is built on, so that a model checker can put its own in the place of the usual one.

#[cfg(roundlot_loom)]
use loom::sync;
#[cfg(not(roundlot_loom))]
use std::sync;

use std::sync::PoisonError;

pub(crate) use sync::MutexGuard;

/// A mutex that does not care for poison: nothing that can panic runs under it, but for the allocator.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
