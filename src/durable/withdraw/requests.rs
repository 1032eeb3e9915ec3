//! [`Requests`]: requests to withdraw ops that this process has put into the log of a shard and that no leader has answered. Callers
//! add them. The leader of this process takes them out, by the record that it has stored, or by what it reads in the log while it
//! follows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Withdrawn;

/// Requests of one process that a shard may hold. They take no permits of ops, and a leader answers them as soon as it has read
/// them, so that more would only wait for a leader.
const MAX_REQUESTS: usize = 64;

#[derive(Debug)]
pub(crate) struct Requests {
    places: Arc<Semaphore>,
    /// By their numbers.
    waiting: Mutex<BTreeMap<u64, Request>>,
}

#[derive(Debug)]
struct Request {
    reply: oneshot::Sender<Withdrawn>,
    /// Held until the request is answered, also if its caller has given up: the log has it.
    _place: OwnedSemaphorePermit,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_REQUESTS)), waiting: Mutex::default() }
    }

    /// Waits until there may be one more request. `None` if the batcher has left.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Adds a request that is about to be sent.
    pub(super) fn add(&self, number: u64, place: OwnedSemaphorePermit) -> oneshot::Receiver<Withdrawn> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        // Dropped at once, the reply tells the caller that the batcher has left.
        if !self.places.is_closed() {
            waiting.insert(number, Request { reply, _place: place });
        }
        answer
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// The numbers of all requests.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.waiting().keys().copied().collect()
    }

    /// A leader has answered a request.
    pub(crate) fn tell(&self, number: u64, withdrawn: Withdrawn) {
        let request = self.waiting().remove(&number);
        if let Some(request) = request {
            // A caller that gave up hears nothing.
            let _ = request.reply.send(withdrawn);
        }
    }

    /// No leader will answer a request.
    pub(crate) fn forget(&self, number: u64) {
        self.waiting().remove(&number);
    }

    /// The process leaves: callers hear of that, and none adds a request any more.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting();
        self.places.close();
        waiting.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Request>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Goal: requests are bounded, also by those whose callers have given up, and none outlives the batcher. Method: as many as there
    /// may be, one more, answers, and the end.
    #[tokio::test]
    async fn requests_are_bounded() {
        let requests = Requests::new();
        for number in 0..MAX_REQUESTS as u64 {
            let place = requests.place().await.unwrap();
            drop(requests.add(number, place));
        }
        assert!(requests.place().now_or_never().is_none(), "the log holds all of them");
        requests.tell(7, Withdrawn::new(0));
        requests.forget(8);
        let (one, other) = (requests.place().await.unwrap(), requests.place().await.unwrap());
        assert!(requests.place().now_or_never().is_none());
        let answer = requests.add(64, one);
        requests.close();
        assert!(answer.await.is_err() && requests.add(65, other).await.is_err());
        assert!(requests.place().await.is_none() && requests.numbers().is_empty());
    }
}
