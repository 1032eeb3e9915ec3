//! [`Door`]: refuses an op that no batch could ever hold, where its caller still has it. The port asks it before each push.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rules::{panics, quota::Predicate, stage::Weigh};

/// See the module's text. Made only if ops have weights or costs.
pub(crate) struct Door<T> {
    weigh: Option<Weigh<T>>,
    max_weight: AtomicUsize,
    /// Whether an op costs more than the quota ever has.
    exceeds_limit: Option<Predicate<T>>,
}

impl<T> Door<T> {
    /// `None` if every op may come in.
    pub(crate) fn new(
        weigh: Option<Weigh<T>>,
        max_weight: usize,
        exceeds_limit: Option<Predicate<T>>,
    ) -> Option<Box<Self>> {
        let asks = weigh.is_some() || exceeds_limit.is_some();
        asks.then(|| Box::new(Self { weigh, max_weight: AtomicUsize::new(max_weight), exceeds_limit }))
    }

    /// Whether ops have weights.
    pub(crate) fn weighs(&self) -> bool {
        self.weigh.is_some()
    }

    pub(crate) fn set_max_weight(&self, max_weight: usize) {
        self.max_weight.store(max_weight, Ordering::Relaxed);
    }

    /// Whether no batch could hold the op. If a function of the user panics, the task will find out and answer.
    pub(crate) fn refuses(&self, op: &T) -> bool {
        let max = self.max_weight.load(Ordering::Relaxed);
        let is_too_heavy = || self.weigh.as_ref().is_some_and(|weigh| weigh(op) > max);
        let is_too_expensive = || self.exceeds_limit.as_ref().is_some_and(|exceeds| exceeds(op));
        panics::catch(|| is_too_heavy() || is_too_expensive()).unwrap_or(false)
    }
}
