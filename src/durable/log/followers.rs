//! [`Followers`]: the way of new frames to the leader of each shard in this process, for engines whose frames are not on this machine.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::StoredFrame;

/// The way of new frames to the leader of each shard in this process.
#[derive(Default)]
pub(crate) struct Followers(Vec<Mutex<Option<mpsc::UnboundedSender<StoredFrame>>>>);

impl Followers {
    pub(crate) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| Mutex::default()).collect())
    }

    /// All frames that this process stores from now on.
    pub(crate) fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame> {
        let (sender, frames) = mpsc::unbounded_channel();
        if let Some(follower) = self.0.get(usize::from(shard)) {
            *follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
        frames
    }

    /// Tells the leader of a shard of a frame, in the order of the log.
    pub(crate) fn tell(&self, shard: u16, frame: &StoredFrame) {
        let Some(follower) = self.0.get(usize::from(shard)) else { return };
        if let Some(sender) = &*follower.lock().unwrap_or_else(PoisonError::into_inner) {
            // A leader that is gone reads the log when its next term begins.
            let _ = sender.send(frame.clone());
        }
    }
}
