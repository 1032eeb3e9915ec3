//! Errors of a fanout: why a subscriber could not begin ([`SubscribeError`]), and why a subscription has ended
//! ([`Ended`]).

use std::time::Duration;

use thiserror::Error;

use crate::rules::{batch::SinkError, config::limits::LimitsError};

/// Why a subscriber could not begin, or could not add topics.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The limits or stages of the subscriber contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The snapshot is larger than the free part of the subscriber's `max_pending`.
    #[error("a snapshot of {values} values, where there is room for {room}")]
    NoRoom {
        /// Values in the snapshot.
        values: usize,
        /// Updates for which the buffer has room now.
        room: usize,
    },
    /// More topics than one subscriber may name.
    #[error("more than {most} topics")]
    TooManyTopics {
        /// Maximum number of topics of one subscriber.
        most: usize,
    },
    /// The feed or the subscription has ended.
    #[error("the feed or the subscription has ended")]
    Closed,
}

/// Why a subscription ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The subscription was dropped or closed, or the feed has ended.
    #[error("the subscription was closed")]
    Closed,
    /// The sink took nothing for this long while there was something to take.
    #[error("the subscriber took nothing for {0:?}")]
    Stuck(Duration),
    /// The sink reported that it will take nothing any more.
    #[error("the subscriber is gone: {}", .0.chain())]
    Failed(SinkError),
}
