//! The answer to one op. In comes the verdict on the op, or on the one that it was merged into; out goes what its
//! caller awaits. The end of an op's way.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use serde::Serialize;
use thiserror::Error;

use crate::{
    rules::{
        outcome::reply::{Receiver, Sender},
        time::Moment,
    },
    sink::SinkError,
};

/// How an op ended. Each accepted op ends in exactly one of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The sink accepted it.
    Delivered,
    /// It was given up: the sink refused it, or it failed once too often. It became a dead letter.
    Refused,
    /// Nobody knows whether it landed. It became a dead letter too, to be looked into.
    InDoubt,
    /// It was merged with another op of its key, which went on.
    Conflated,
    /// It was a repeat of an op seen shortly before.
    Deduplicated,
    /// It and another op canceled out while both waited.
    Netted,
    /// It was still waiting when its time was over.
    Expired,
    /// It made room for another op in a full buffer.
    Evicted,
    /// A caller took it back out.
    Withdrawn,
    /// It was not settled when the shutdown was over, and was given back.
    Returned,
    /// The task was killed, or the sink lost it ([`ErrorKind::Lost`](crate::ErrorKind::Lost)).
    Lost,
}

impl End {
    pub(crate) const COUNT: usize = 11;
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Delivered,
        Self::Refused,
        Self::InDoubt,
        Self::Conflated,
        Self::Deduplicated,
        Self::Netted,
        Self::Expired,
        Self::Evicted,
        Self::Withdrawn,
        Self::Returned,
        Self::Lost,
    ];

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::InDoubt => "in_doubt",
            Self::Conflated => "conflated",
            Self::Deduplicated => "deduplicated",
            Self::Netted => "netted",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Withdrawn => "withdrawn",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why an op was not delivered.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum AckError {
    /// It was given up, and became a dead letter.
    #[error("the operation was refused")]
    Refused(#[source] SinkError),
    /// It may or may not have landed.
    #[error("the operation is in doubt: it may or may not have landed")]
    InDoubt(#[source] SinkError),
    /// It and another op canceled out; neither was sent.
    #[error("the operation was netted with another one and not sent")]
    Netted,
    /// Its time was over before it could be sent.
    #[error("the operation expired before it could be sent")]
    Expired,
    /// It made room for another op in a full buffer.
    #[error("the operation was evicted from a full buffer")]
    Evicted,
    /// A caller took it back out.
    #[error("the operation was withdrawn")]
    Withdrawn,
    /// The shutdown was over before it was settled; it is in the [`Summary`](crate::Summary).
    #[error("the operation was returned at shutdown")]
    Returned {
        /// Whether it was being written just then.
        in_flight: bool,
        /// Whether it may have landed: it was in flight, or an earlier attempt was ambiguous.
        in_doubt: bool,
    },
    /// The task that would have answered is gone.
    #[error("the operation was lost with its batcher")]
    Lost,
}

impl AckError {
    /// How the op ended that this is about.
    pub fn end(&self) -> End {
        match self {
            Self::Refused(_) => End::Refused,
            Self::InDoubt(_) => End::InDoubt,
            Self::Netted => End::Netted,
            Self::Expired => End::Expired,
            Self::Evicted => End::Evicted,
            Self::Withdrawn => End::Withdrawn,
            Self::Returned { .. } => End::Returned,
            Self::Lost => End::Lost,
        }
    }

    /// What happened, and the causes behind it, in one line: for logs and reports.
    pub fn chain(&self) -> String {
        match self {
            Self::Refused(error) | Self::InDoubt(error) => format!("{self}: {}", error.chain()),
            _ => self.to_string(),
        }
    }
}

/// All there is to say of one op.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome<R = ()> {
    /// The receipt, or why there is none. An op that was conflated or deduplicated has the result of the other one.
    pub result: Result<R, AckError>,
    /// How this op ended. Of two ops that were merged, it is the one that waited that is [`Conflated`](End::Conflated),
    /// whichever of their values went on.
    pub end: End,
    /// How often it, or the op it was merged into, was handed to the sink.
    pub attempts: u32,
    /// From `submit` to the verdict. Where some submits that came together share a time stamp, from the first of them.
    pub latency: Duration,
}

/// Resolves to the receipt of one submitted op, or to why there is none.
///
/// Dropping it withdraws nothing.
///
/// # Cancel safety
///
/// Cancel safe: it can be polled on, by reference, after a `select!` has dropped the borrow.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{Batcher, End, sink_fn};
///
/// let (desk, _worker) = Batcher::new(sink_fn(|batch: &mut roundlot::Batch<&str, usize>| {
///     Box::pin(async move { Ok(batch.accept_all_with(|_, name| name.len())) })
/// }))
/// .spawn();
///
/// let receipt = desk.submit("four").await?.await?;
/// assert_eq!(receipt, 4);
///
/// let outcome = desk.submit("seven").await?.outcome().await;
/// assert_eq!(outcome.end, End::Delivered);
/// println!("answered after {:?}", outcome.latency);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an ack tells what became of the operation; await it, or use `send`"]
pub struct Ack<R = ()> {
    verdict: Receiver<Packed<R>>,
    sent_at: Moment,
}

impl<R> Ack<R> {
    pub(crate) fn new(verdict: Receiver<Packed<R>>, sent_at: Moment) -> Self {
        Self { verdict, sent_at }
    }

    /// Like awaiting the ack itself, with more to read.
    ///
    /// # Cancel safety
    ///
    /// Takes the ack, so that dropping the future gives up on the answer. The op goes its way all the same.
    pub async fn outcome(self) -> Outcome<R> {
        let sent_at = self.sent_at;
        match self.verdict.await {
            Some(packed) => packed.into(),
            None => {
                let latency = Moment::now().since(sent_at);
                Outcome { result: Err(AckError::Lost), end: End::Lost, attempts: 0, latency }
            }
        }
    }
}

impl<R> Future for Ack<R> {
    type Output = Result<R, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender answers when dropped, too: no path leaves a caller waiting.
        Poll::Ready(match ready!(Pin::new(&mut self.verdict).poll(cx)) {
            Some(packed) => packed.result.map_err(|error| *error),
            None => Err(AckError::Lost),
        })
    }
}

/// The other end of an [`Ack`]. Dropped without an answer, it says that the op is lost.
pub(crate) type AckSender<R> = Sender<Packed<R>>;

/// An [`Outcome`] on its way, small enough to share a line of the CPU's caches with the slot that it travels in.
#[derive(Debug)]
pub(crate) struct Packed<R> {
    result: Result<R, Box<AckError>>,
    latency_nanos: u64,
    attempts: u32,
    end: End,
}

impl<R> From<Outcome<R>> for Packed<R> {
    fn from(outcome: Outcome<R>) -> Self {
        let Outcome { result, end, attempts, latency } = outcome;
        let latency_nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        Self { result: result.map_err(Box::new), latency_nanos, attempts, end }
    }
}

impl<R> From<Packed<R>> for Outcome<R> {
    fn from(packed: Packed<R>) -> Self {
        let Packed { result, latency_nanos, attempts, end } = packed;
        Self { result: result.map_err(|error| *error), end, attempts, latency: Duration::from_nanos(latency_nanos) }
    }
}

/// What one caller is to be told.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    to: AckSender<R>,
    packed: Packed<R>,
}

impl<R> Answer<R> {
    pub(crate) fn new(to: AckSender<R>, outcome: Outcome<R>) -> Self {
        Self { to, packed: outcome.into() }
    }

    pub(crate) fn tell(self) {
        self.to.tell(self.packed);
    }
}

/// Who wants to know what becomes of an op: nobody, its caller, or many, once ops were merged.
#[derive(Debug)]
pub(crate) enum Waiters<R> {
    None,
    One(Waiter<R>),
    Many(Vec<Waiter<R>>),
}

#[derive(Debug)]
pub(crate) enum Waiter<R> {
    Caller {
        ack: AckSender<R>,
        sent_at: Moment,
        /// How the caller's own op has ended already, if it lives on only in another.
        ended: Option<End>,
    },
    /// The memory of a key, by its number, which answers repeats.
    Memory(u32),
}

impl<R> Waiters<R> {
    pub(crate) fn of(ack: Option<AckSender<R>>, sent_at: Moment) -> Self {
        ack.map_or(Self::None, |ack| Self::One(Waiter::Caller { ack, sent_at, ended: None }))
    }

    /// The caller of an op, and the memory of its key, as far as it has them.
    pub(crate) fn of_both(ack: Option<AckSender<R>>, sent_at: Moment, memory: Option<u32>) -> Self {
        let mut waiters = Self::of(ack, sent_at);
        if let Some(key) = memory {
            waiters.add(Waiter::Memory(key));
        }
        waiters
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }

    pub(crate) fn add(&mut self, waiter: Waiter<R>) {
        *self = match self.take() {
            Self::None => Self::One(waiter),
            Self::One(first) => Self::Many(vec![first, waiter]),
            Self::Many(mut all) => {
                all.push(waiter);
                Self::Many(all)
            }
        };
    }

    /// Notes that the ops of the callers so far have ended, in this way, in another op.
    pub(crate) fn mark(&mut self, end: End) {
        let all = match self {
            Self::None => return,
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(all) => all,
        };
        for waiter in all {
            if let Waiter::Caller { ended: ended @ None, .. } = waiter {
                *ended = Some(end);
            }
        }
    }

    /// The memories of keys among them.
    pub(crate) fn memories(&self) -> impl Iterator<Item = u32> {
        let all = match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => &all[..],
        };
        all.iter().filter_map(|waiter| match waiter {
            Waiter::Memory(key) => Some(*key),
            Waiter::Caller { .. } => None,
        })
    }

    pub(crate) fn for_each(self, mut each: impl FnMut(Waiter<R>)) {
        match self {
            Self::None => {}
            Self::One(one) => each(one),
            Self::Many(all) => all.into_iter().for_each(each),
        }
    }
}
