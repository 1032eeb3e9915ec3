//! Why a subscriber could not begin ([`SubscribeError`]), and why one has ended ([`Ended`]).

use std::time::Duration;

use thiserror::Error;

use crate::rules::{batch::SinkError, config::limits::LimitsError};

/// A subscriber can't have what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Its limits or stages contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The snapshot is larger than the room for it, which is what `max_pending` leaves.
    #[error("a snapshot of {values} values, where there is room for {room}")]
    NoRoom {
        /// Values in the snapshot.
        values: usize,
        /// Room for so many.
        room: usize,
    },
    /// It names more topics than one subscriber may.
    #[error("more than {most} topics")]
    TooManyTopics {
        /// So many it may name.
        most: usize,
    },
    /// The feed is over, or the subscription is.
    #[error("the feed or the subscription has ended")]
    Closed,
}

/// Why a subscription ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// It was dropped or closed, or the feed is over.
    #[error("the subscription was closed")]
    Closed,
    /// Its sink took nothing for so long.
    #[error("the subscriber took nothing for {0:?}")]
    Stuck(Duration),
    /// Its sink will take nothing any more.
    #[error("the subscriber is gone: {}", .0.chain())]
    Failed(SinkError),
}
