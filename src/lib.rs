//! [guide]: crate::guide
//! [start]: crate::guide::getting_started
//! [stages]: crate::guide::stages
//! [limits]: crate::guide::limits
//! [errors]: crate::guide::errors
//! [order]: crate::guide::order
//! [recipes]: crate::guide::recipes
//! [own-tests]: crate::guide::testing_your_app
//! [questions]: crate::guide::questions
//! [inside]: crate::guide::inside
//! [chains]: crate::guide::chains
//! [telemetry]: crate::telemetry
//! [alerts]: crate::telemetry#prometheus
//! [dashboard]: crate::telemetry#prometheus
#![cfg_attr(feature = "durable", doc = "[durable]: crate::guide::durable")]
#![cfg_attr(feature = "durable", doc = "[nodes]: crate::guide::nodes")]
// These targets come first, so that they hold instead of the README's, which are files.
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batcher;
mod driver;
#[cfg(feature = "durable")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable")))]
#[cfg_attr(
    not(any(feature = "durable-file", feature = "testing")),
    allow(dead_code, reason = "the rules of engines on one machine are in use with these features")
)]
pub mod durable;
pub mod fanout;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
pub mod market;
mod rules;
pub mod sink;
#[doc = include_str!("telemetry.md")]
pub mod telemetry {}
#[cfg(feature = "testing")]
pub mod testing;

pub use batcher::Batcher;
pub use driver::{
    handle::{
        Handle,
        ack::Ack,
        error::{Closed, SendAllError, SendError, SetLimitsError, TrySendError, WorkerGone},
        permit::Permit,
    },
    shared_bucket::SharedBucket,
    stream::{BatchExt, Batched, Staged},
    worker::{Shutdown, Summary, Worker, WorkerFuture},
};
pub use fanout::{Fanout, Feed, Subscription};
pub use rules::{
    batch::{Batch, CutBy, ErrorKind, Pending, Settled, SinkError},
    config::{
        batcher_config::BatcherConfig,
        limits::{Limits, LimitsError, Overflow},
        retry::Retry,
    },
    outcome::{AckError, DeadLetter, End, OpId, Outcome, Outcomes, Returned},
    quota::{Bucket, Quota, QuotaConfig, QuotaReport},
    stage::{self, Stages},
    stats::{BucketStats, CapReason, Cuts, QuotaStats, SizeStats, Stats, Times, flush::FlushReport},
};
/// Tells a batcher to stop: see [`Batcher::stop_on`].
pub use tokio_util::sync::CancellationToken;

pub use sink::{BoxSink, Sink, from_futures, from_service, sink_fn};
