//! [`FromService`], a `tower` service as a sink. One request holds the pending ops of a batch, and its response gives
//! their verdicts. [`from_service`] makes it.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    sync::{Mutex, PoisonError},
};

use tower_service::Service;

use super::{ErrorKind, Sink, SinkError, map::translated};
use crate::rules::batch::{Batch, Settled};

type BoxError = Box<dyn Error + Send + Sync>;
type Classify<E> = Box<dyn Fn(E) -> SinkError + Send + Sync>;
type Answer<A, T, R> = Box<dyn Fn(A, &mut Batch<T, R>) -> Result<Settled, SinkError> + Send + Sync>;

/// Makes a sink of a [`tower_service::Service`] that takes a batch's ops as one `Vec<T>`.
///
/// Each write clones the service, waits until the clone is ready, and calls it once with clones of the pending ops.
/// Concurrency limits, rate limits, buffers and timeouts of `tower` work as elsewhere. For a service with another
/// request type, put `tower::ServiceExt::map_request` before it; for one that is not `Clone`, `tower::buffer::Buffer`.
/// Do not add `tower`'s retry: a batcher retries only the ops without a final verdict.
///
/// * A response of any type accepts all ops; [`answer`](FromService::answer) reads verdicts and receipts from it.
/// * An error that is a [`SinkError`], boxed or not, keeps its meaning. Any other is
///   [`Ambiguous`](ErrorKind::Ambiguous), because a failed request may have landed, unless
///   [`classify`](FromService::classify) says otherwise.
/// * An ambiguous error before the call is [`Transient`](ErrorKind::Transient), or [`Outage`](ErrorKind::Outage) if it
///   is an outage: nothing was sent.
/// * An op whose `clone` panics is refused alone; the rest is sent.
///
/// # Cancel safety
///
/// A dropped write drops the response future, or the wait for readiness. Nothing is sent before the call.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Sink, SinkError, from_service};
///
/// #[derive(Clone)]
/// struct Order { quantity: u32 }
///
/// // A venue that answers each order with its id, or with a reason.
/// async fn place(orders: Vec<u32>) -> Result<Vec<Result<u64, String>>, std::io::Error> {
///     # let _ = &orders;
///     // ..
///     # Ok(vec![Ok(17), Err("closed".into())])
/// }
///
/// let venue = tower::service_fn(|orders: Vec<Order>| place(orders.iter().map(|order| order.quantity).collect()));
/// let sink = from_service(venue)
///     .classify(|error| match error.kind() {
///         std::io::ErrorKind::ConnectionRefused => SinkError::outage(error),
///         std::io::ErrorKind::ConnectionReset => SinkError::connection_lost(error),
///         _ => SinkError::ambiguous(error),
///     })
///     .answer(|results, batch: &mut Batch<Order, u64>| {
///         let open: Vec<usize> = batch.pending_indexes().collect();
///         for (i, result) in open.into_iter().zip(results) {
///             match result {
///                 Ok(id) => batch.accept(i, id),
///                 Err(reason) => batch.refuse(i, SinkError::refused(reason)),
///             }
///         }
///         batch.settled() // a response that is too short leaves ops in doubt
///     });
/// # let mut batch = Batch::for_test(vec![Order { quantity: 1 }, Order { quantity: 2 }]);
/// # tokio_test::block_on(async { assert!(sink.write(&mut batch).await.is_ok()) });
/// # assert_eq!(batch.verdict(0).unwrap().unwrap(), &17);
/// # assert_eq!(batch.verdict(1).unwrap().unwrap_err().chain(), "refused: closed");
/// ```
pub fn from_service<S, T>(service: S) -> FromService<S, T>
where
    S: Service<Vec<T>>,
    S::Error: Into<BoxError>,
{
    FromService {
        service: Mutex::new(service),
        classify: Box::new(|error| match error.into().downcast::<SinkError>() {
            Ok(error) => *error,
            Err(error) => SinkError::ambiguous(error),
        }),
        answer: Box::new(|_, batch| Ok(batch.accept_all())),
    }
}

/// A [`tower_service::Service`] as a [`Sink`]; made by [`from_service`].
pub struct FromService<S: Service<Vec<T>>, T, R = ()> {
    /// Locked only to clone the service: many services are `Send` but not `Sync`, and a sink must be both.
    service: Mutex<S>,
    classify: Classify<S::Error>,
    answer: Answer<S::Response, T, R>,
}

impl<S: Service<Vec<T>>, T, R> FromService<S, T, R> {
    /// Sets the meaning of the service's errors, instead of the rules of [`from_service`].
    #[must_use]
    pub fn classify(mut self, classify: impl Fn(S::Error) -> SinkError + Send + Sync + 'static) -> Self {
        self.classify = Box::new(classify);
        self
    }

    /// Reads the verdicts and their receipts from the response, instead of accepting all.
    ///
    /// The request held the batch's [`pending`](Batch::pending) ops in their order.
    #[must_use]
    pub fn answer<Q>(
        self,
        answer: impl Fn(S::Response, &mut Batch<T, Q>) -> Result<Settled, SinkError> + Send + Sync + 'static,
    ) -> FromService<S, T, Q> {
        FromService { service: self.service, classify: self.classify, answer: Box::new(answer) }
    }
}

impl<T, R, S> Sink<T, R> for FromService<S, T, R>
where
    S: Service<Vec<T>> + Clone + Send + 'static,
    S::Future: Send,
    T: Clone + Send + 'static,
    R: Send + 'static,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        // A poisoned lock means that a `clone` panicked, and a clone leaves the original as it was.
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Readiness belongs to the clone that was polled, so that very clone is called.
        if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
            let error = (self.classify)(error);
            return Err(match error.kind() {
                ErrorKind::Ambiguous if error.is_outage() => error.with_kind(ErrorKind::Outage),
                ErrorKind::Ambiguous => error.with_kind(ErrorKind::Transient),
                _ => error,
            });
        }
        let was_empty = batch.pending().is_empty();
        let (_, request) = translated(batch, "`clone` of an op", T::clone);
        if request.is_empty() && !was_empty {
            return batch.settled();
        }
        match service.call(request).await {
            Ok(response) => (self.answer)(response, batch),
            Err(error) => Err((self.classify)(error)),
        }
    }
}

impl<S: Service<Vec<T>>, T, R> fmt::Debug for FromService<S, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromService").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
        mem,
        task::{Context, Poll},
        time::Duration,
    };

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn one_request_carries_what_has_no_verdict() {
        let service = service_fn(|ops: Vec<u8>| async move { Ok::<_, Infallible>(ops) });
        let sink = from_service(service).answer(|ops, batch: &mut Batch<u8, usize>| {
            assert_eq!(ops, [5, 7]);
            Ok(batch.accept_all_with(|i, _| i))
        });
        let mut batch = Batch::for_test(vec![5, 6, 7]);
        batch.accept(1, 100);
        assert!(sink.write(&mut batch).await.is_ok());
        let receipts: Vec<usize> = (0..3).map(|i| *batch.verdict(i).unwrap().unwrap()).collect();
        assert_eq!(receipts, [0, 100, 2]);
    }

    #[tokio::test]
    async fn an_error_is_ambiguous_unless_it_is_a_sink_error_or_classified() {
        let write = async |sink: &FromService<_, u8>| sink.write(&mut Batch::for_test(vec![1])).await.unwrap_err();

        let service = service_fn(|_: Vec<u8>| async { Err::<(), BoxError>("reset".into()) });
        assert_eq!(write(&from_service(service)).await.chain(), "may or may not have been written: reset");
        let sink = from_service(service).classify(SinkError::refused);
        assert_eq!(write(&sink).await.chain(), "refused: reset");

        let write = async |sink: &FromService<_, u8>| sink.write(&mut Batch::for_test(vec![1])).await.unwrap_err();
        let service = service_fn(|_: Vec<u8>| async { Err::<(), _>(SinkError::throttled(Duration::from_secs(9))) });
        let service = service.map_err(BoxError::from);
        let throttled = ErrorKind::Throttled { retry_after: Duration::from_secs(9) };
        assert_eq!(write(&from_service(service)).await.kind(), throttled);
    }

    /// Fails when it is polled for readiness, so a call would be a bug.
    #[derive(Clone)]
    struct NeverReady(SinkError);

    impl Service<Vec<u8>> for NeverReady {
        type Response = ();
        type Error = SinkError;
        type Future = Ready<Result<(), SinkError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
            Poll::Ready(Err(self.0.clone()))
        }

        fn call(&mut self, _: Vec<u8>) -> Self::Future {
            unreachable!("it never was ready")
        }
    }

    #[tokio::test]
    async fn before_the_call_nothing_is_ambiguous() {
        for (error, kind) in [
            (SinkError::ambiguous("closed"), ErrorKind::Transient),
            (SinkError::connection_lost("reset"), ErrorKind::Outage),
            (SinkError::outage("refused"), ErrorKind::Outage),
            (SinkError::fenced("new leader"), ErrorKind::Fenced),
        ] {
            let sink = from_service(NeverReady(error));
            assert_eq!(sink.write(&mut Batch::for_test(vec![1])).await.unwrap_err().kind(), kind);
        }
    }

    /// A connection that is lost during the call is both: the ops may have landed, and the destination is away.
    #[tokio::test]
    async fn an_outage_during_the_call_stays_one() {
        let service = service_fn(|_: Vec<u8>| async { Err::<(), _>(SinkError::connection_lost("reset")) });
        let error = from_service(service).write(&mut Batch::<u8>::for_test(vec![1])).await.unwrap_err();
        assert_eq!((error.kind(), error.is_outage()), (ErrorKind::Ambiguous, true));
    }

    /// Clones itself, unless it is 13.
    #[derive(Debug, PartialEq)]
    struct Unlucky(u8);

    impl Clone for Unlucky {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 13);
            Self(self.0)
        }
    }

    #[tokio::test]
    async fn an_op_that_cannot_be_cloned_is_refused_alone() {
        let service = service_fn(|ops: Vec<Unlucky>| async move { Ok::<_, Infallible>(ops.len()) });
        let sink = from_service(service)
            .answer(|sent, batch: &mut Batch<Unlucky, usize>| Ok(batch.accept_all_with(|_, _| sent)));
        let mut batch = Batch::for_test(vec![Unlucky(1), Unlucky(13), Unlucky(2)]);
        assert!(sink.write(&mut batch).await.is_ok());
        assert_eq!((batch.verdict(0).unwrap().unwrap(), batch.verdict(2).unwrap().unwrap()), (&2, &2));
        assert_eq!(batch.verdict(1).unwrap().unwrap_err().kind(), ErrorKind::Refused);
        let mut alone = Batch::for_test(vec![Unlucky(13)]);
        assert!(sink.write(&mut alone).await.is_ok());
        assert_eq!(alone.verdict(0).unwrap().unwrap_err().kind(), ErrorKind::Refused);
    }

    /// Must be polled until it is ready before each call, and its clones too: as a concurrency limit's permit.
    #[derive(Debug)]
    struct Strict {
        ready: bool,
        polls: u32,
    }

    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self { ready: false, polls: 0 }
        }
    }

    impl Service<Vec<u8>> for Strict {
        type Response = ();
        type Error = SinkError;
        type Future = Ready<Result<(), SinkError>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
            self.polls += 1;
            self.ready = self.polls > 2;
            if self.ready {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, _: Vec<u8>) -> Self::Future {
            assert!(mem::take(&mut self.ready), "called a clone that was not ready");
            ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_clone_that_is_called_is_the_one_that_was_ready() {
        let sink = from_service(Strict { ready: false, polls: 0 });
        let write = async || sink.write(&mut Batch::for_test(vec![1])).await.is_ok();
        assert_eq!(tokio::join!(write(), write()), (true, true));
        assert!(write().await);
    }
}
