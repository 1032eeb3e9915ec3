//! [`Flaky`], a sink that fails as scripted, around one that works. Each write takes one step of the script; without
//! steps, writes pass to the inner sink.

use std::{
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    rules::batch::{Batch, Settled, verdicts::Verdict},
    sink::{Guarantee, Sink, SinkError},
};

/// A sink that fails as scripted, around one that works. A clone is another handle to the same script.
///
/// The script is a queue of steps, and each write takes one when it begins; without steps, writes pass to the inner
/// sink. Each call appends its step and returns a handle, so calls chain, before the batcher is built and while it
/// runs. [`fail_ops`](Self::fail_ops) and [`slow`](Self::slow) are not steps: they hold for all writes until they are
/// changed.
///
/// # Partitions
///
/// A step belongs to no partition: it goes to the write that begins next, whatever the partition of its batch. With
/// [`partition_by`](crate::Stages::partition_by), `fail(..).fail(..)` may fail BTC once and ETH once, and not BTC twice. To
/// fail certain ops, name them by [`fail_ops`](Self::fail_ops), which does not depend on the order of the writes.
///
/// # Cancel safety
///
/// A write that is dropped has taken its step.
///
/// # Errors
///
/// Errors of the script, and those of the inner sink.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Sink, SinkError, testing::{Flaky, Recorder}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let recorder = Recorder::new();
/// let flaky = Flaky::new(recorder.clone())
///     .fail_times(2, SinkError::transient("connection reset"))
///     .pass(1)
///     .land_and_fail(SinkError::ambiguous("no answer"));
///
/// let mut outcomes = Vec::new();
/// for op in 1..=5 {
///     outcomes.push(flaky.write(&mut Batch::for_test(vec![op])).await.is_ok());
/// }
/// assert_eq!(outcomes, [false, false, true, false, true]);
/// assert_eq!(recorder.ops(), [3, 4, 5]); // 4 landed, though its sender got an error
/// # }
/// ```
///
/// With partitions, a step for the write that begins next, and a failure for one symbol:
///
/// ```
/// use roundlot::{AckError, Batcher, SinkError, Stages, testing::{Flaky, Recorder}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let recorder = Recorder::new();
/// let flaky = Flaky::new(recorder.clone());
/// let stages = Stages::new().partition_by(|order: &(&'static str, u32)| order.0);
/// let (desk, _worker) = Batcher::new(flaky.clone()).stages(stages).spawn();
///
/// // Two steps, and both symbols are hit: each has a write of its own.
/// flaky.fail(SinkError::refused("halted")).fail(SinkError::ambiguous("no answer"));
/// let (btc, eth) = (desk.submit(("BTC", 1)).await?, desk.submit(("ETH", 1)).await?);
/// assert!(matches!(btc.await, Err(AckError::Refused(_))));
/// assert!(matches!(eth.await, Err(AckError::InDoubt(_))));
///
/// // Only BTC fails, however its ops are batched.
/// flaky.fail_ops(|order| (order.0 == "BTC").then(|| SinkError::refused("halted")));
/// let (btc, eth) = (desk.submit(("BTC", 2)).await?, desk.submit(("ETH", 2)).await?);
/// assert!(matches!(btc.await, Err(AckError::Refused(_))));
/// assert!(eth.await.is_ok());
/// assert_eq!(recorder.ops(), [("ETH", 2)]);
/// # Ok(())
/// # }
/// ```
pub struct Flaky<S, T, R = ()> {
    shared: Arc<Shared<S, T>>,
    /// Receipts of the inner sink, so that `S`, `T` and `R` are inferred together.
    receipts: PhantomData<fn() -> R>,
}

struct Shared<S, T> {
    inner: S,
    script: Mutex<Script<T>>,
}

struct Script<T> {
    steps: VecDeque<Step>,
    writes: usize,
    slow: Duration,
    fail_ops: Option<FailOps<T>>,
    close_error: Option<SinkError>,
}

type FailOps<T> = Arc<dyn Fn(&T) -> Option<SinkError> + Send + Sync>;

enum Step {
    Pass,
    Fail(SinkError),
    LandAndFail(SinkError),
    Unanswered,
    Panic,
    Hang,
}

impl<S, T, R> Flaky<S, T, R> {
    /// Passes every write to `inner` until it is told otherwise.
    pub fn new(inner: S) -> Self
    where
        S: Sink<T, R>,
    {
        let script =
            Script { steps: VecDeque::new(), writes: 0, slow: Duration::ZERO, fail_ops: None, close_error: None };
        Self { shared: Arc::new(Shared { inner, script: Mutex::new(script) }), receipts: PhantomData }
    }

    /// Adds a write that fails with `error`; nothing reaches the inner sink. The write is the next one of any partition:
    /// [`fail_ops`](Self::fail_ops) fails certain ops.
    pub fn fail(&self, error: SinkError) -> Self {
        self.fail_times(1, error)
    }

    /// Adds `times` writes that fail with `error`.
    pub fn fail_times(&self, times: usize, error: SinkError) -> Self {
        self.then(times, || Step::Fail(error.clone()))
    }

    /// Adds a write that reaches the inner sink, whose verdicts get lost on the way back: the caller gets `error` for
    /// each op.
    pub fn land_and_fail(&self, error: SinkError) -> Self {
        self.then(1, || Step::LandAndFail(error.clone()))
    }

    /// Adds `times` writes that pass to the inner sink: for failures that come later.
    pub fn pass(&self, times: usize) -> Self {
        self.then(times, || Step::Pass)
    }

    /// Adds `times` writes that panic.
    pub fn panic(&self, times: usize) -> Self {
        self.then(times, || Step::Panic)
    }

    /// Adds `times` writes that never return: each ends when it is dropped. [`Gate`](super::Gate) holds writes that can go
    /// on later.
    pub fn hang(&self, times: usize) -> Self {
        self.then(times, || Step::Hang)
    }

    /// Adds a write that returns without a verdict for any op, like a sink that overlooks part of a reply.
    pub fn unanswered(&self) -> Self {
        self.then(1, || Step::Unanswered)
    }

    /// Fails each op for which `error` returns an error, in every write from now on. All other ops go on to the step
    /// and the inner sink. Replaces the previous function.
    pub fn fail_ops(&self, error: impl Fn(&T) -> Option<SinkError> + Send + Sync + 'static) -> Self {
        self.script().fail_ops = Some(Arc::new(error));
        self.clone()
    }

    /// Delays each write from now on by this time, before its step.
    pub fn slow(&self, time: Duration) -> Self {
        self.script().slow = time;
        self.clone()
    }

    /// Lets the close fail with `error`, after the inner sink was closed.
    pub fn fail_close(&self, error: SinkError) -> Self {
        self.script().close_error = Some(error);
        self.clone()
    }

    /// Ends all failures: drops the remaining steps, and ends `fail_ops`, `slow` and `fail_close`.
    pub fn heal(&self) -> Self {
        let mut script = self.script();
        script.steps.clear();
        script.slow = Duration::ZERO;
        script.fail_ops = None;
        script.close_error = None;
        drop(script);
        self.clone()
    }

    /// Number of writes that have begun.
    pub fn writes(&self) -> usize {
        self.script().writes
    }

    /// Number of steps that no write has taken yet.
    pub fn steps_left(&self) -> usize {
        self.script().steps.len()
    }

    fn then(&self, times: usize, step: impl FnMut() -> Step) -> Self {
        self.script().steps.extend(std::iter::repeat_with(step).take(times));
        self.clone()
    }

    /// No user code runs under this lock, so it is never poisoned.
    fn script(&self) -> MutexGuard<'_, Script<T>> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the write that begins now has to go through.
    fn begin(&self) -> (Step, Duration, Option<FailOps<T>>) {
        let mut script = self.script();
        script.writes += 1;
        (script.steps.pop_front().unwrap_or(Step::Pass), script.slow, script.fail_ops.clone())
    }
}

impl<T, R, S> Sink<T, R> for Flaky<S, T, R>
where
    S: Sink<T, R>,
    T: Send + 'static,
    R: Send + 'static,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let (step, slow, fail_ops) = self.begin();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        if let Some(fail_ops) = fail_ops {
            let failures: Vec<_> = batch.pending().indexed().filter_map(|(i, op)| Some((i, fail_ops(op)?))).collect();
            for (i, error) in failures {
                batch.refuse(i, error);
            }
        }
        match step {
            Step::Pass if batch.pending().is_empty() => batch.settled(),
            Step::Pass => self.shared.inner.write(batch).await,
            Step::Fail(error) => Err(error),
            Step::LandAndFail(error) => {
                let open: Vec<usize> = batch.pending_indexes().collect();
                let _lost = self.shared.inner.write(batch).await;
                for i in open {
                    batch.verdicts_mut()[i] = Verdict::Pending;
                }
                Err(error)
            }
            Step::Unanswered => batch.settled(),
            Step::Panic => panic!("the script of a `Flaky` sink says so"),
            Step::Hang => std::future::pending().await,
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.shared.inner.close().await?;
        self.script().close_error.clone().map_or(Ok(()), Err)
    }

    fn page(&self) -> Option<usize> {
        self.shared.inner.page()
    }

    fn guarantee(&self) -> Guarantee {
        self.shared.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<T, R>) -> Result<(), SinkError> {
        self.shared.inner.reconcile(batch).await
    }

    async fn gone(&self) -> SinkError {
        self.shared.inner.gone().await
    }
}

impl<S, T, R> Clone for Flaky<S, T, R> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), receipts: PhantomData }
    }
}

impl<S, T, R> fmt::Debug for Flaky<S, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script();
        f.debug_struct("Flaky")
            .field("writes", &script.writes)
            .field("steps_left", &script.steps.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{sink::ErrorKind, testing::Recorder};

    const SECOND: Duration = Duration::from_secs(1);

    async fn write(flaky: &Flaky<Recorder<u8>, u8>, ops: &[u8]) -> (Batch<u8>, Result<(), ErrorKind>) {
        let mut batch = Batch::for_test(ops.to_vec());
        let answer = flaky.write(&mut batch).await;
        (batch, answer.map(drop).map_err(|error| error.kind()))
    }

    #[tokio::test]
    async fn steps_are_played_in_order_and_then_all_passes() {
        let recorder = Recorder::new();
        let flaky = Flaky::new(recorder.clone()).fail(SinkError::transient("a")).pass(1).unanswered();
        let handle = flaky.clone();
        handle.fail(SinkError::refused("b"));

        assert_eq!(write(&flaky, &[1]).await.1, Err(ErrorKind::Transient));
        assert_eq!(write(&flaky, &[2]).await.1, Ok(()));
        assert_eq!(write(&flaky, &[3]).await.1, Err(ErrorKind::Ambiguous));
        assert_eq!(handle.steps_left(), 1);
        assert_eq!(write(&flaky, &[4]).await.1, Err(ErrorKind::Refused));
        assert_eq!(write(&flaky, &[5]).await.1, Ok(()));
        assert_eq!(recorder.batches(), [[2], [5]]);
        assert_eq!(handle.writes(), 5);
    }

    #[tokio::test]
    async fn some_ops_fail_and_the_others_pass() {
        let recorder = Recorder::new();
        let flaky = Flaky::new(recorder.clone())
            .fail_ops(|op| (*op > 10).then(|| SinkError::refused("too large")))
            .fail(SinkError::transient("later"));
        for answer in [Err(ErrorKind::Transient), Ok(())] {
            let (batch, outcome) = write(&flaky, &[1, 11, 2]).await;
            assert_eq!(outcome, answer);
            assert_eq!(batch.verdict(1).unwrap().unwrap_err().kind(), ErrorKind::Refused);
        }
        assert_eq!(write(&flaky, &[12]).await.1, Ok(()), "each op has its verdict");
        assert_eq!(recorder.batches(), [[1, 2]], "an empty batch does not reach the sink inside");
        assert_eq!(write(&flaky.heal(), &[12]).await.1, Ok(()));
        assert_eq!(recorder.ops(), [1, 2, 12]);
    }

    #[tokio::test]
    async fn a_landed_write_can_report_an_error() {
        let recorder = Recorder::new();
        let flaky = Flaky::new(recorder.clone()).land_and_fail(SinkError::ambiguous("no answer"));
        let (batch, outcome) = write(&flaky, &[1]).await;
        assert_eq!(outcome, Err(ErrorKind::Ambiguous));
        assert!(batch.verdict(0).is_none());
        assert_eq!(recorder.ops(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_hang_panic_or_are_slow_as_scripted() {
        let flaky = Flaky::new(Recorder::new()).hang(1).panic(2);
        assert!(timeout(SECOND, write(&flaky, &[1])).await.is_err());
        for _ in 0..2 {
            let flaky = flaky.clone();
            let panicked = tokio::spawn(async move { write(&flaky, &[1]).await.1 });
            assert!(panicked.await.unwrap_err().is_panic());
        }

        let started = Instant::now();
        assert_eq!(write(&flaky.slow(SECOND), &[1]).await.1, Ok(()));
        assert_eq!(started.elapsed(), SECOND);
    }

    /// A sink for any op and any receipt.
    #[derive(Default)]
    struct Discard;

    impl<T: Send + 'static, R: Default + Send + 'static> Sink<T, R> for Discard {
        async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
            Ok(batch.accept_all())
        }
    }

    /// Goal: no type is written out for a sink of many types. Method: a batcher around it, whose sends say which they are.
    #[tokio::test]
    async fn types_are_those_of_the_batcher_around_it() {
        let flaky = Flaky::new(Discard).fail(SinkError::refused("no"));
        let (desk, _worker) = crate::Batcher::new(flaky.clone()).limits(1).spawn();
        let acks = [desk.submit("a").await.unwrap(), desk.submit("b").await.unwrap()];
        let [first, second] = acks.map(|ack| async { ack.await.map_err(|error| error.chain()) });
        let receipts: [Result<u64, String>; 2] = [first.await, second.await];
        assert_eq!(receipts, [Err("refused: no".to_owned()), Ok(0)]);
        assert_eq!(flaky.writes(), 2);
    }

    #[tokio::test]
    async fn closing_fails_after_the_sink_inside_is_closed() {
        let recorder = Recorder::<u8>::new();
        let flaky = Flaky::new(recorder.clone()).fail_close(SinkError::transient("busy"));
        assert!(flaky.close().await.is_err());
        assert!(recorder.is_closed());
    }
}
