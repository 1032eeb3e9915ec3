//! [`Killer`]: a subscriber of trace events that kills its process at one step of the library.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use crate::plan::Failpoint;

pub(crate) struct Killer {
    failpoint: Option<Failpoint>,
    /// Hits up to the last one.
    left: AtomicU64,
}

impl Killer {
    pub(crate) fn new(failpoint: Option<(Failpoint, u64)>) -> Self {
        let (failpoint, hit) = failpoint.unzip();
        Self { failpoint, left: AtomicU64::new(hit.unwrap_or(1).max(1)) }
    }
}

/// Ends this process as `kill -9` does.
pub(crate) fn die() -> ! {
    let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal arrives before the call returns.
    panic!("the process outlives SIGKILL: {killed:?}");
}

#[derive(Debug, Default)]
struct Fields {
    step: String,
    at: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "step" => value.clone_into(&mut self.step),
            "at" => value.clone_into(&mut self.at),
            _ => {}
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

impl Subscriber for Killer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "roundlot::durable::step"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let is_it = |failpoint: &Failpoint| fields.step == failpoint.step && fields.at == failpoint.at;
        if self.failpoint.as_ref().is_some_and(is_it) && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            die();
        }
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}
