//! Waking of tasks whose wakers may panic, which is no reason not to wake the next one.

use std::task::Waker;

use crate::rules::panics;

/// Wakes a task. A panic of its waker ends here.
pub(crate) fn wake_contained(waker: Waker) {
    drop(panics::catch(|| waker.wake()));
}
