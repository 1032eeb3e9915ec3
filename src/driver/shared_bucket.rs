//! [`SharedBucket`]: a limit that several batchers draw from, such as that of an IP address. The lock is held for one draw.

use std::{fmt, sync::Arc};

use crate::{
    driver::{clock, mutex::Mutex},
    rules::{
        config::limits::LimitsError,
        quota::{Bucket, Numbers, Pool, Quota, Window},
    },
};

/// A limit that the batchers of several [`Quota`]s draw from. Cheap to clone; all clones are the same bucket.
///
/// An answer of the destination that asks for a pause stops all batchers that draw from it, since a venue bans an address as a
/// whole.
///
/// No batcher has a part of its own: each takes what is left when it cuts. One whose ops cost much may therefore wait long beside
/// others whose ops cost little. A batcher that waits looks again within a window, and so may notice late that another one heard of
/// more room.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::{Bucket, Quota, SharedBucket};
///
/// let weight = SharedBucket::new(Bucket::fixed(2400, Duration::from_secs(60)));
/// let orders = Quota::<u32>::new().shared("weight", &weight).cost("weight", |_| 5);
/// let queries = Quota::<&str>::new().shared("weight", &weight);
/// # let _ = (orders, queries);
/// ```
#[derive(Clone)]
pub struct SharedBucket {
    shared: Arc<Shared>,
}

struct Shared {
    window: Mutex<Window>,
    numbers: Result<Numbers, LimitsError>,
}

impl SharedBucket {
    /// Makes a bucket to be given to several quotas. Its count begins now.
    ///
    /// A batcher is not built if its numbers make no sense, if it counts by key, or if it has functions of its own: give those
    /// to the quotas.
    pub fn new(bucket: Bucket<()>) -> Self {
        let (numbers, window) = bucket.into_window(clock::unix(), clock::now());
        Self { shared: Arc::new(Shared { window: Mutex::new(window), numbers }) }
    }
}

impl Pool for Shared {
    fn with(&self, draw: &mut dyn FnMut(&mut Window)) {
        draw(&mut self.window.lock());
    }

    fn numbers(&self) -> Result<&Numbers, &LimitsError> {
        self.numbers.as_ref()
    }
}

impl<T> Quota<T> {
    /// Adds a limit that other batchers draw from, too. It may have a [`cost`](Self::cost) of its own here.
    pub fn shared(self, name: impl Into<Arc<str>>, bucket: &SharedBucket) -> Self {
        self.pool(name.into(), Arc::clone(&bucket.shared) as Arc<dyn Pool>)
    }
}

impl fmt::Debug for SharedBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBucket").field("numbers", &self.shared.numbers).finish_non_exhaustive()
    }
}
