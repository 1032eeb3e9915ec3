//! [`Mutex`]: what the inbox and the replies are built on, so that a model checker can put its own in its place.

#[cfg(all(test, roundlot_loom))]
use loom::sync;
#[cfg(not(all(test, roundlot_loom)))]
use std::sync;

use std::{
    hint,
    sync::{PoisonError, TryLockError},
};

pub(crate) use sync::MutexGuard;

/// How long to wait between looks at a lock, in spins of some ten nanoseconds.
const BACKOFF: &[u32] = if cfg!(roundlot_loom) { &[] } else { &[4, 8, 16, 32, 64, 128, 256] };

/// A mutex that does not care for poison: nothing that can panic runs under it, but for the allocator.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.try_lock().unwrap_or_else(|| self.lock_contended())
    }

    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the lock alone for longer and longer before it looks again, and blocks in the end.
    ///
    /// The owner appends many times in a row meanwhile, with all of it in the cache of one core. Polling the lock all the
    /// time would take the line away from there.
    #[cold]
    fn lock_contended(&self) -> MutexGuard<'_, T> {
        for spins in BACKOFF {
            (0..*spins).for_each(|_| hint::spin_loop());
            if let Some(guard) = self.try_lock() {
                return guard;
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
