//! Tests of auto traits: which public types and futures are `Send`, `Sync` and `Unpin`, for ops that are only `Send`.

use std::{cell::Cell, marker::PhantomData, rc::Rc};

use futures::stream::Empty;
use roundlot::{
    Ack, AckError, Batch, Batched, Batcher, BatcherConfig, BoxSink, Closed, CutBy, Cuts, DeadLetter, End, ErrorKind,
    FlushReport, Handle, Limits, LimitsError, Outcome, Overflow, Pending, Permit, Retry, Returned, SendAllError,
    SendError, SetLimitsError, Settled, Shutdown, Sink, SinkError, Staged, Stages, Stats, Summary, Times, TrySendError,
    Worker, WorkerFuture, WorkerGone,
    stage::Merge,
    testing::{Flaky, Gate, Recorder, Written},
};

/// An op that may be sent to another thread, and not be shared with one.
type Op = Cell<u32>;

/// A receipt of the same kind.
type Receipt = Cell<u64>;

/// Whether a type has a trait: the inherent constant is there, and preferred, only if it has.
macro_rules! is {
    ($type:ty, $trait:ident) => {{
        #[allow(dead_code, reason = "one of the two constants is not used")]
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "as above")]
        trait No {
            const IS: bool = false;
        }
        impl<T: ?Sized> No for Probe<T> {}
        #[allow(dead_code, reason = "as above")]
        impl<T: ?Sized + $trait> Probe<T> {
            const IS: bool = true;
        }
        Probe::<$type>::IS
    }};
}

macro_rules! assert_traits {
    ($([$send:literal $sync:literal $unpin:literal] $($type:ty),+;)+) => {$($(
        let is = [is!($type, Send), is!($type, Sync), is!($type, Unpin)];
        assert_eq!(is, [$send, $sync, $unpin], "{} is [Send, Sync, Unpin]", stringify!($type));
    )+)+};
}

/// Goal: the probe detects traits. Method: types of std whose traits are known.
#[test]
fn the_auto_trait_probe_is_correct_for_std_types() {
    assert_traits! {
        [true true true] u32;
        [true false true] Cell<u32>;
        [false false true] Rc<u32>;
        [true true false] std::marker::PhantomPinned;
    }
}

/// Goal: the types that callers hold can be shared and sent, though the ops cannot be shared. Method: each public type.
#[test]
fn public_types_have_the_expected_auto_traits() {
    assert_traits! {
        [true true true] Handle<Op, Receipt>, Permit<'static, Op, Receipt>, Ack<Receipt>;
        [true true true] Worker<Op>, Shutdown<Op>;
        [true true true] Closed, SendError<u32>, TrySendError<u32>, SendAllError<u32>, SetLimitsError, LimitsError, WorkerGone;
        [true true true] AckError, SinkError, ErrorKind, End, CutBy, Cuts, Stats, Times, FlushReport;
        [true true true] Limits, BatcherConfig, Overflow, Retry, Settled, BoxSink<Op, Receipt>;
        [true true true] Batch<u32>, Pending<'static, u32>, DeadLetter<u32>, Summary<u32>, Returned<u32>, Merge<u32>;
        [true true true] Recorder<Op>, Gate<Recorder<Op>>, Flaky<Recorder<Op>, Op>, Written<u32>;
        // Types that hold an op by value are shared only if the op can be.
        [true false true] Batch<Op>, DeadLetter<Op>, Returned<Op>, Summary<Op>, SendError<Op>, Merge<Op>;
        [true false true] Outcome<Receipt>, SendAllError<Op>;
        [false false true] Pending<'static, Op>;
        // Functions of the user are asked to be `Send` only.
        [true false true] Stages<Op>, Batcher<Op, Receipt, Recorder<u32>>, WorkerFuture<Op>;
        [true false true] Batched<Empty<Op>, Op>, Staged<Empty<Op>, Op>;
    }
}

fn is_send<F: Future + Send>(future: F) -> F {
    future
}

async fn handles(desk: Handle<Op, Receipt>, ack: Ack<Receipt>, workers: [Worker<Op>; 2]) {
    let op = || Cell::new(1);
    let _ = is_send(desk.send(op())).await;
    let _ = is_send(desk.send_all(vec![op()])).await;
    let _ = is_send(desk.reserve()).await;
    let _ = is_send(desk.submit(op())).await;
    let _ = is_send(desk.flush()).await;
    let _ = is_send(desk.withdraw(|_| true)).await;
    let _ = is_send(ack.outcome()).await;
    let [worker, other] = workers;
    let _ = is_send(worker.join()).await;
    let _ = is_send(other.shutdown().into_future()).await;
}

async fn sinks<S: Sink<Op, Receipt>>(sink: S, mut batch: Batch<Op, Receipt>) {
    let _ = is_send(sink.write(&mut batch)).await;
    let _ = is_send(sink.close()).await;
}

async fn tools(recorder: Recorder<u32>, gate: Gate<Recorder<u32>>) {
    let _ = is_send(recorder.wait_for(1)).await;
    let _ = is_send(recorder.wait_for_writes(1)).await;
    is_send(recorder.wait_closed()).await;
    is_send(gate.reached(1)).await;
    is_send(roundlot::testing::advance(crate::ms(1))).await;
    is_send(roundlot::testing::until_idle()).await;
}

/// Goal: each public future can be spawned. Method: this test compiles.
#[test]
fn public_futures_are_send() {
    let _ = (handles, sinks::<BoxSink<Op, Receipt>>, tools);
}
