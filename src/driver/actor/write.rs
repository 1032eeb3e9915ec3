//! One write of one batch. Whatever the sink does (return, hang, panic, or be given up on), the batch survives and comes back
//! with the verdicts that it has. The actor starts writes; the accumulator settles what they return.

use std::{
    any::Any,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug_span, error, field};

use crate::{
    rules::{
        accumulator::{Cut, Written},
        batch::SinkError,
        panics,
    },
    sink::Sink,
};

/// Where the writes of a batcher go.
pub(crate) struct Destination<S> {
    /// Its name, for the log.
    pub(crate) batcher: Arc<str>,
    pub(crate) sink: S,
    /// Writes are given up on when it is canceled.
    pub(crate) abort: CancellationToken,
}

/// A batch that has come back, and how its write ended.
pub(crate) type Completed<T, R, A> = (Box<Cut<T, R, A>>, Written);

/// Lends a batch to the sink. The batch stays here, so that it survives whatever becomes of the sink's future.
pub(crate) async fn write<T, R, A, S>(
    destination: Arc<Destination<S>>,
    mut cut: Box<Cut<T, R, A>>,
    limit: Option<Duration>,
) -> Completed<T, R, A>
where
    T: Send,
    R: Send,
    A: Send,
    S: Sink<T, R>,
{
    let Destination { batcher, sink, abort } = &*destination;
    let span = debug_span!(
        "batch",
        batcher = &**batcher,
        cut_by = cut.batch.cut_by().name(),
        size = cut.batch.len(),
        attempt = cut.batch.attempt(),
        outcome = field::Empty,
    );
    let ended = {
        let attempt = pin!(Some(async { sink.write(&mut cut.batch).await }));
        let contained = pin!(contained(attempt, limit, abort.cancelled()));
        // Most spans are switched off.
        if span.is_disabled() { contained.await } else { contained.instrument(span.clone()).await }
    };
    let written = match ended {
        Ended::Done(Ok(_)) => Written::Answered,
        Ended::Done(Err(error)) => Written::Failed(error),
        Ended::Panicked(message) => Written::Panicked(message),
        Ended::TimedOut(limit) => Written::Failed(SinkError::ambiguous(format!("no answer within {limit:?}"))),
        Ended::Aborted => Written::Aborted,
    };
    if !span.is_disabled() {
        record(&span, &written);
    }
    (cut, written)
}

/// Closes the sink, within the time that is left.
pub(crate) async fn close<T, R, S: Sink<T, R>>(
    batcher: &str,
    sink: &S,
    limit: Option<Duration>,
) -> Result<(), SinkError> {
    let attempt = pin!(Some(async { sink.close().await }));
    let result = match contained(attempt, limit, std::future::pending()).await {
        Ended::Done(result) => result,
        Ended::Panicked(message) => Err(SinkError::ambiguous(format!("closing it panicked: {message}"))),
        Ended::TimedOut(_) | Ended::Aborted => Err(SinkError::ambiguous("it was not closed in time")),
    };
    if let Err(error) = &result {
        error!(batcher, error = error.chain(), "the sink was not closed properly");
    }
    result
}

/// How a future of the user ended.
enum Ended<V> {
    Done(V),
    Panicked(String),
    TimedOut(Duration),
    Aborted,
}

/// Runs a future of the user until it is done, its time is over or it is given up on. A panic in it, also while it is
/// being dropped, ends there.
async fn contained<V>(
    mut attempt: Pin<&mut Option<impl Future<Output = V>>>,
    limit: Option<Duration>,
    abort: impl Future<Output = ()>,
) -> Ended<V> {
    let ended = {
        let polls = poll_fn(|cx| match attempt.as_mut().as_pin_mut() {
            Some(attempt) => attempt.poll(cx),
            None => unreachable!("it is dropped only below"),
        });
        let polls = AssertUnwindSafe(polls).catch_unwind();
        tokio::select! {
            // A verdict that is there counts, even if the time is over.
            biased;
            ended = bounded(limit, polls) => ended,
            () = abort => Ended::Aborted,
        }
    };
    match panics::catch(|| Pin::set(&mut attempt, None)) {
        Ok(()) => ended,
        Err(panic) => Ended::Panicked(panics::message(&*panic).to_owned()),
    }
}

async fn bounded<V>(
    limit: Option<Duration>,
    attempt: impl Future<Output = Result<V, Box<dyn Any + Send>>>,
) -> Ended<V> {
    let answer = match limit {
        None => attempt.await,
        Some(limit) => match tokio::time::timeout(limit, attempt).await {
            Ok(answer) => answer,
            Err(_) => return Ended::TimedOut(limit),
        },
    };
    match answer {
        Ok(value) => Ended::Done(value),
        Err(panic) => Ended::Panicked(panics::message(&*panic).to_owned()),
    }
}

fn record(span: &Span, written: &Written) {
    match written {
        Written::Answered => span.record("outcome", "answered"),
        Written::Failed(error) => span.record("outcome", field::display(error.chain())),
        Written::Aborted => span.record("outcome", "aborted"),
        Written::Panicked(_) => span.record("outcome", "panicked"),
    };
}
