//! [`Emitted`]: the metrics, spans and events of a run, as a recorder and a subscriber for the whole program get them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use metrics::Unit;
use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use tracing::{
    Event, Id, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// A metric, as the facade knows it, over all its series.
#[derive(Debug, Default)]
pub(crate) struct Metric {
    pub(crate) kind: &'static str,
    pub(crate) unit: Option<Unit>,
    pub(crate) is_described: bool,
    /// Names of the labels, each with the values whose series have moved and those that never did.
    pub(crate) labels: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
    pub(crate) has_moved: bool,
}

/// A span, or an event with its message as the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub(crate) level: String,
    pub(crate) name: String,
    pub(crate) fields: BTreeSet<String>,
}

#[derive(Default)]
struct Log {
    spans: BTreeSet<Site>,
    events: BTreeSet<Site>,
    /// Values of the field `outcome`, which is recorded when a write has ended.
    outcomes: BTreeSet<String>,
}

/// Everything that this crate has emitted so far.
#[derive(Clone)]
pub(crate) struct Emitted {
    snapshotter: Snapshotter,
    metrics: Arc<Mutex<BTreeMap<String, Metric>>>,
    log: Arc<(Mutex<Log>, Condvar)>,
}

impl Emitted {
    /// Installs recorder and subscriber for the whole program, since the thread of the SQLite sink has no others.
    pub(crate) fn install() -> Self {
        let recorder = DebuggingRecorder::new();
        let emitted = Self { snapshotter: recorder.snapshotter(), metrics: Arc::default(), log: Arc::default() };
        recorder.install().unwrap();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(emitted.clone())).unwrap();
        emitted
    }

    /// Notes which series have moved by now. Gauges have to be looked at while they are not zero.
    pub(crate) fn collect(&self) {
        let mut metrics = self.metrics.lock().unwrap();
        for (key, unit, description, value) in self.snapshotter.snapshot().into_vec() {
            let (kind, key) = key.into_parts();
            let metric = metrics.entry(key.name().to_owned()).or_default();
            metric.kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            (metric.unit, metric.is_described) = (unit, description.is_some());
            let has_moved = match value {
                DebugValue::Counter(count) => count > 0,
                DebugValue::Gauge(value) => value.0 != 0.0,
                DebugValue::Histogram(values) => !values.is_empty(),
            };
            metric.has_moved |= has_moved;
            for label in key.labels() {
                let (moved, unmoved) = metric.labels.entry(label.key().to_owned()).or_default();
                let values = if has_moved { moved } else { unmoved };
                values.insert(label.value().to_owned());
            }
        }
    }

    pub(crate) fn metrics(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Metric>> {
        self.collect();
        self.metrics.lock().unwrap()
    }

    pub(crate) fn spans(&self) -> BTreeSet<Site> {
        self.log.0.lock().unwrap().spans.clone()
    }

    pub(crate) fn events(&self) -> BTreeSet<Site> {
        self.log.0.lock().unwrap().events.clone()
    }

    pub(crate) fn outcomes(&self) -> BTreeSet<String> {
        self.log.0.lock().unwrap().outcomes.clone()
    }

    /// Blocks until another thread has emitted this event, for half a minute at most.
    pub(crate) fn wait_for(&self, message: &str) {
        let (log, changed) = &*self.log;
        let is_missing = |log: &mut Log| log.events.iter().all(|event| event.name != message);
        let (_log, waited) =
            changed.wait_timeout_while(log.lock().unwrap(), Duration::from_secs(30), is_missing).unwrap();
        assert!(!waited.timed_out(), "never emitted: {message}");
    }
}

/// The fields of a record by name, as text.
#[derive(Default)]
struct Values(BTreeMap<&'static str, String>);

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target().split("::").next() == Some("roundlot")
}

fn site(metadata: &Metadata<'_>, name: String) -> Site {
    let fields = metadata.fields().iter().map(|field| field.name().to_owned()).filter(|name| name != "message");
    Site { level: metadata.level().as_str().to_lowercase(), name, fields: fields.collect() }
}

impl<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>> Layer<S> for Emitted {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        if is_own(metadata) {
            self.log.0.lock().unwrap().spans.insert(site(metadata, metadata.name().to_owned()));
        }
    }

    fn on_record(&self, id: &Id, record: &span::Record<'_>, context: Context<'_, S>) {
        let mut values = Values::default();
        record.record(&mut values);
        if context.span(id).is_some_and(|span| is_own(span.metadata())) {
            self.log.0.lock().unwrap().outcomes.extend(values.0.remove("outcome"));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if is_own(event.metadata()) {
            let mut values = Values::default();
            event.record(&mut values);
            let message = values.0.remove("message").unwrap_or_default();
            self.log.0.lock().unwrap().events.insert(site(event.metadata(), message));
            self.log.1.notify_all();
        }
    }
}
