//! Proves what is told of a batcher: a span per batch, events, metrics, and never the payload of an op.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use roundlot::{
    Batcher, Limits, Stages,
    testing::{Recorder, until_idle},
};
use tracing::{Event, Id, Subscriber, field::Visit, span};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

/// All spans and events as text, one a line: what was recorded later on a span is added to its line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

/// The id, if it is a span, and the text.
type Line = (Option<u64>, String);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut line = format!("span {}", attributes.metadata().name());
        attributes.record(&mut Text(&mut line));
        self.0.lock().unwrap().push((Some(id.into_u64()), line));
    }

    fn on_record(&self, id: &Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let mut lines = self.0.lock().unwrap();
        if let Some((_, line)) = lines.iter_mut().rev().find(|(span, _)| *span == Some(id.into_u64())) {
            values.record(&mut Text(line));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = format!("event {}", event.metadata().level());
        event.record(&mut Text(&mut line));
        self.0.lock().unwrap().push((None, line));
    }
}

impl Log {
    /// Captures all that happens on this thread, which is that of the test's runtime.
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
        (log, guard)
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, line)| line.clone()).filter(|line| line.contains("batcher=")).collect()
    }

    fn count(&self, start: &str, part: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start) && line.contains(part)).count()
    }
}

/// Goal: no panic of the user's code is silent. Method: a merge function that panics; two ops are gone, and an event must
/// say so.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_merge_is_told_in_an_event() {
    // Guards: both ops are used up by the merge, so that there is no letter to log, and nothing else is logged.
    let (log, _guard) = Log::capture();
    let merge = |_: u32, _: u32| -> Option<u32> { panic!("cannot merge") };
    let stages = Stages::new().conflate_by(|_: &u32| (), merge);
    let (desk, _worker) = Batcher::new(Recorder::new()).stages(stages).limits(Limits::new(10)).spawn();
    desk.send_all([1, 2]).await.unwrap();
    until_idle().await;
    assert_eq!((desk.stats().refused, desk.stats().panics), (2, 1));
    assert!(log.count("event", "panicked") > 0, "{:#?}", log.lines());
}
