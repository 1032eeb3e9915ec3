//! [`Member`]: one log of a file, as the rules of a log see it.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use futures::future::BoxFuture;

use super::{exit, nodes::Nodes, writer::Gauges};
use crate::durable::log::{
    Size,
    lead::{Lead, Membership, News},
    local,
};

/// One log of a file, as long as it is joined.
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) gauges: Arc<Gauges>,
    pub(super) nodes: Arc<Nodes>,
    /// Set when the log has given this process its number.
    pub(super) number: OnceLock<Membership>,
    /// Whether the log is left, or about to be.
    pub(super) has_left: Arc<AtomicBool>,
}

impl Member {
    /// Leaves the log, once, when it is called. It blocks then.
    pub(super) fn leaving(&self) -> impl FnOnce() + Send + 'static {
        let (path, name, has_left) = (self.path.clone(), self.name.clone(), Arc::clone(&self.has_left));
        let (nodes, number) = (Arc::clone(&self.nodes), self.number.get().copied());
        move || {
            if !has_left.swap(true, Ordering::Relaxed) {
                number.into_iter().for_each(|number| nodes.left(number));
                exit(&path, &name);
            }
        }
    }
}

impl local::Engine for Member {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn size(&self) -> Size {
        self.gauges.size()
    }

    fn joined(&self, member: Membership) {
        // A log gives a process one number.
        let _ = self.number.set(member);
        self.nodes.joined(member);
    }

    fn members(&self, log: u16) -> Vec<Membership> {
        self.nodes.members(log)
    }

    fn is_alive(&self, member: Membership) -> bool {
        self.nodes.look_around();
        self.members(member.log).contains(&member)
    }

    fn try_lead(&self, shard: u32, member: Membership) -> Option<Lead> {
        self.nodes.try_lead(shard, member)
    }

    fn news(&self, shard: u32) -> Arc<News> {
        self.nodes.news(shard)
    }

    fn press(&self, shard: u32) {
        self.nodes.press(shard);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let leaving = self.leaving();
        Box::pin(async move { drop(tokio::task::spawn_blocking(leaving).await) })
    }
}

/// A batcher that is dropped with its runtime frees the file all the same. The writer's thread may be the one that drops it, and
/// `exit` waits for that, so another thread leaves.
impl Drop for Member {
    fn drop(&mut self) {
        if !self.has_left.load(Ordering::Relaxed) {
            // Without a thread the file stays open until the process ends.
            let _ = std::thread::Builder::new().spawn(self.leaving());
        }
    }
}
