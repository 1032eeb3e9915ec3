//! One write, with all that may go wrong in it. In comes a batch, out it comes again with its verdicts, whatever the
//! sink did: returned, hung, panicked, or was given up on. Next room: the sink; then back to `actor`.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug_span, error, field};

use crate::{
    accumulator::{Cut, Written},
    panics,
    sink::{Sink, SinkError},
};

/// Lends a batch to the sink. The batch stays here, so that it survives whatever becomes of the sink's future.
pub(crate) async fn write<T, R, S>(
    batcher: Arc<str>,
    sink: Arc<S>,
    mut cut: Cut<T, R>,
    limit: Option<Duration>,
    abort: CancellationToken,
) -> (Cut<T, R>, Written)
where
    T: Send,
    R: Send,
    S: Sink<T, R>,
{
    let span = debug_span!(
        "batch",
        batcher = &*batcher,
        reason = cut.batch.cut_by().name(),
        size = cut.batch.len(),
        attempt = cut.batch.attempt(),
        outcome = field::Empty,
    );
    let written = async {
        let attempt = AssertUnwindSafe(async { sink.write(&mut cut.batch).await }).catch_unwind();
        tokio::select! {
            // A verdict that is there counts, even if the time is over.
            biased;
            written = bounded(limit, attempt) => written,
            () = abort.cancelled() => Written::Aborted,
        }
    }
    .instrument(span.clone())
    .await;
    record(&span, &batcher, &written);
    (cut, written)
}

async fn bounded<V>(
    limit: Option<Duration>,
    attempt: impl Future<Output = Result<Result<V, SinkError>, Box<dyn std::any::Any + Send>>>,
) -> Written {
    let answer = match limit {
        None => attempt.await,
        Some(limit) => match tokio::time::timeout(limit, attempt).await {
            Ok(answer) => answer,
            Err(_) => return Written::Failed(SinkError::ambiguous(format!("no answer within {limit:?}"))),
        },
    };
    match answer {
        Ok(Ok(_)) => Written::Answered,
        Ok(Err(error)) => Written::Failed(error),
        Err(panic) => Written::Panicked(panics::message(&*panic).to_owned()),
    }
}

fn record(span: &Span, batcher: &str, written: &Written) {
    match written {
        Written::Answered => span.record("outcome", "answered"),
        Written::Failed(error) => span.record("outcome", field::display(error.chain())),
        Written::Aborted => span.record("outcome", "aborted"),
        Written::Panicked(message) => {
            error!(parent: span, batcher, message, "the sink panicked");
            span.record("outcome", "panicked")
        }
    };
}

/// Closes the sink, within the time that is left.
pub(crate) async fn close<T, R, S: Sink<T, R>>(
    batcher: &str,
    sink: &S,
    limit: Option<Duration>,
) -> Result<(), SinkError> {
    let close = AssertUnwindSafe(async { sink.close().await }).catch_unwind();
    let closed = match limit {
        None => close.await,
        Some(limit) => match tokio::time::timeout(limit, close).await {
            Ok(closed) => closed,
            Err(_) => Ok(Err(SinkError::ambiguous("it was not closed in time"))),
        },
    };
    let result = closed.unwrap_or_else(|panic| {
        Err(SinkError::ambiguous(format!("closing it panicked: {}", panics::message(&*panic))))
    });
    if let Err(error) = &result {
        error!(batcher, error = error.chain(), "the sink was not closed properly");
    }
    result
}
