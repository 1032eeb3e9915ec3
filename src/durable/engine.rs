//! [`Engine`]: where a durable batcher keeps its log. The trait is sealed: what an engine has to do is not settled yet.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{error::JoinError, log::Log};

/// Where a durable batcher keeps its log: a `File`, or a [`MemoryLog`](crate::testing::MemoryLog) in tests.
pub trait Engine: Open {}

/// Opens a log.
pub trait Open: Send + 'static {
    /// Opens the log of this name, with this number of shards.
    fn open(self, name: String, shards: u16) -> BoxFuture<'static, Result<Opened, JoinError>>;
}

/// An open log.
pub struct Opened {
    pub(crate) log: Arc<dyn Log>,
}

impl Opened {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }
}
