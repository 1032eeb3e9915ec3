//! [`Live`]: a board that is shown. [`Publisher`] is what panels publish by.

use std::{sync::Arc, time::Duration};

use axum::Router;
use roundlot::{CancellationToken, Feed, Worker};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::event::{Body, Event};

/// Time for the last frame and the close handshake of all browsers at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A board that is shown, from [`Board::start`](crate::Board::start). Dropped, it goes on without an end that browsers are told of.
pub struct Live {
    pub(crate) feed: Feed<Event, Arc<str>>,
    pub(crate) worker: Worker<Event>,
    /// Ends the sampler, which then publishes the last state.
    pub(crate) done: CancellationToken,
    pub(crate) sampler: JoinHandle<u64>,
    pub(crate) router: Router,
    pub(crate) token: String,
}

impl Live {
    /// The routes, to be nested or served. Each call returns the same ones.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The token that unlocks the buttons, as people read it. Print it where only they see it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The publisher of panels.
    pub fn publisher(&self) -> Publisher {
        Publisher(self.feed.clone())
    }

    /// Publishes the last state, tells each browser that the run has ended, with the number of ops that were not settled, and closes the
    /// connections. Call it when the batchers have ended.
    ///
    /// # Cancel safety
    ///
    /// Takes the board: dropped, it leaves browsers with a connection that is lost.
    pub async fn close(self, unsettled: u64) {
        let Self { feed, worker, done, sampler, .. } = self;
        done.cancel();
        // A sampler that panicked has nothing more to publish.
        let operations = sampler.await.unwrap_or_default();
        // Only a feed that has ended by itself refuses the event, and then no browser is left.
        if let Ok(event) = (Body::Ended { operations, unsettled }).event() {
            let _ = feed.publish(event);
        }
        // A browser that does not read delays the end by this time at most.
        let _ = worker.shutdown().within(CLOSE_TIMEOUT).await;
    }
}

/// Publishes events of panels. A clone publishes to the same browsers.
#[derive(Clone)]
pub struct Publisher(pub(crate) Feed<Event, Arc<str>>);

impl Publisher {
    /// Publishes an event, whose field `kind` names what keeps it in the browser. An event that a browser has not read yet is replaced by a
    /// newer one of its topic, and a new browser gets the latest of each topic. Never waits.
    ///
    /// Returns whether it was taken: not if it can't be encoded as JSON, or the board is closed.
    pub fn publish(&self, topic: impl Into<Arc<str>>, event: &impl Serialize) -> bool {
        Event::new(topic, event).is_ok_and(|event| self.send(event))
    }

    pub(crate) fn send(&self, event: Event) -> bool {
        self.0.publish(event).is_ok()
    }

    pub(crate) fn browsers(&self) -> u64 {
        self.0.stats().subscribers
    }
}
