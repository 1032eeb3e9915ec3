//! Containment of panics in the user's functions and destructors.

use std::{any::Any, mem::needs_drop};

/// The message of a panic, as far as it has one.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "without a message"
    }
}

/// Drops a value of the user, whose destructor may panic.
#[inline]
pub(crate) fn discard<V>(value: V) -> Result<(), Box<dyn Any + Send>> {
    if needs_drop::<V>() { catch(move || drop(value)) } else { Ok(()) }
}

/// Drops values of the user one by one, so that a destructor that panics keeps none of the others. Returns the first panic.
#[inline]
pub(crate) fn discard_all<V>(values: &mut Vec<V>) -> Result<(), Box<dyn Any + Send>> {
    if !needs_drop::<V>() {
        values.clear();
        return Ok(());
    }
    let mut result = Ok(());
    while !values.is_empty() {
        let dropped = catch(|| while values.pop().is_some() {});
        result = result.and(dropped);
    }
    result
}

/// Runs a function of the user. Only functions that leave nothing half done may be caught.
pub(crate) fn catch<V>(function: impl FnOnce() -> V) -> Result<V, Box<dyn Any + Send>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(function))
}
