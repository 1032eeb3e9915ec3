//! [`Permits`]: the one bound that callers feel. An op holds a permit from before its frame is made until its outcome is in the
//! log, or until the leader has merged it away. Ops that are found in the log hold one, too, which may be more than there are.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::{Notify, Semaphore};

#[derive(Debug)]
pub(crate) struct Permits {
    semaphore: Semaphore,
    state: Mutex<State>,
    /// Notified when there are fewer permits in all, since a caller may wait for more than there are.
    lowered: Notify,
}

#[derive(Debug)]
struct State {
    /// All permits, held or not.
    max: usize,
    /// Permits that are held and do not exist: the next that are released make up for them.
    debt: usize,
    /// Permits released and kept back, since merged ops stand for too many positions of the log.
    kept: usize,
    /// Positions of the log that are read and not settled.
    open: usize,
}

/// Positions that merged ops stand for, at most, for each permit. Beyond that, acceptance waits.
const POSITIONS_PER_PERMIT: usize = 8;

impl Permits {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self {
            semaphore: Semaphore::new(max),
            state: Mutex::new(State { max, debt: 0, kept: 0, open: 0 }),
            lowered: Notify::new(),
        }
    }

    /// Waits for permits, first come first served. `None` if the batcher has left. Of more than there are in all, it waits for
    /// all, and the rest is a debt.
    pub(crate) async fn acquire(self: &Arc<Self>, count: u32) -> Option<Held> {
        let taken = loop {
            let lowered = self.lowered.notified();
            tokio::pin!(lowered);
            // From here on no change of the limit is missed.
            lowered.as_mut().enable();
            let wanted = count.min(u32::try_from(self.max()).unwrap_or(u32::MAX)).max(1);
            tokio::select! {
                biased;
                permit = self.semaphore.acquire_many(wanted) => {
                    permit.ok()?.forget();
                    break wanted;
                }
                () = lowered => {}
            }
        };
        self.debit((count - taken) as usize);
        Some(Held { permits: Arc::clone(self), count: AtomicU32::new(count) })
    }

    /// Takes permits if there are enough now.
    pub(crate) fn try_acquire(self: &Arc<Self>, count: u32) -> Option<Held> {
        self.semaphore.try_acquire_many(count).ok()?.forget();
        Some(Held { permits: Arc::clone(self), count: AtomicU32::new(count) })
    }

    /// Takes as many permits as there are now, at most so many.
    pub(crate) fn take_up_to(self: &Arc<Self>, count: u32) -> Held {
        let available = u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX);
        let taken = self.try_acquire(count.min(available));
        taken.unwrap_or_else(|| Held { permits: Arc::clone(self), count: AtomicU32::new(0) })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.semaphore.is_closed()
    }

    /// Whether less than half of the permits are free, so that callers may soon wait.
    pub(crate) fn are_scarce(&self) -> bool {
        self.semaphore.available_permits() < self.state().max / 2
    }

    /// Whether callers wait, or would.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.semaphore.available_permits() == 0
    }

    /// No caller gets a permit any more.
    pub(crate) fn close(&self) {
        self.semaphore.close();
    }

    /// Takes permits for ops that are in the log already, even if there are none.
    pub(crate) fn debit(&self, count: usize) {
        let mut state = self.state();
        let forgotten = self.semaphore.forget_permits(count);
        state.debt += count - forgotten;
    }

    pub(crate) fn release(&self, count: usize) {
        let mut state = self.state();
        state.kept += count;
        self.hand_out(&mut state);
    }

    /// The leaders have read or settled positions.
    pub(crate) fn opened(&self, read: usize, settled: usize) {
        let mut state = self.state();
        state.open = (state.open + read).saturating_sub(settled);
        self.hand_out(&mut state);
    }

    pub(crate) fn set_max(&self, max: usize) {
        let max = max.min(Semaphore::MAX_PERMITS);
        let old = std::mem::replace(&mut self.state().max, max);
        if max < old {
            self.debit(old - max);
            self.lowered.notify_waiters();
        } else {
            self.release(max - old);
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.state().max
    }

    fn hand_out(&self, state: &mut State) {
        if state.open > state.max.saturating_mul(POSITIONS_PER_PERMIT) {
            return;
        }
        let count = std::mem::take(&mut state.kept);
        let paid = count.min(state.debt);
        state.debt -= paid;
        self.semaphore.add_permits(count - paid);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Permits on their way to the log. They are released when this is dropped, unless the log has the ops by then.
#[derive(Debug)]
pub(crate) struct Held {
    permits: Arc<Permits>,
    count: AtomicU32,
}

impl Held {
    /// The ops are in the log: from now on their leader releases the permits.
    pub(crate) fn pass_on(&self) -> u32 {
        self.count.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// No permits, of the same batcher.
    pub(crate) fn none(&self) -> Self {
        Self { permits: Arc::clone(&self.permits), count: AtomicU32::new(0) }
    }

    /// Takes the permits of another.
    pub(crate) fn merge(&self, other: &Self) {
        self.count.fetch_add(other.pass_on(), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = self.pass_on();
        if left > 0 {
            self.permits.release(left as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: more ops in the log than permits keep callers out until there are fewer. Method: three too many.
    #[test]
    fn a_debt_is_paid_first() {
        let permits = Arc::new(Permits::new(2));
        permits.debit(5);
        permits.release(3);
        assert!(permits.try_acquire(1).is_none());
        permits.release(1);
        let held = permits.try_acquire(1).unwrap();
        assert!(permits.try_acquire(1).is_none());
        drop(held);
        let held = permits.try_acquire(1).unwrap();
        assert_eq!(held.pass_on(), 1);
        drop(held);
        assert!(permits.try_acquire(1).is_none(), "the leader releases it");
        permits.set_max(3);
        assert!(permits.try_acquire(1).is_some());
    }

    /// Goal: a caller that wants more permits than there are is not left waiting. Method: the limit is lowered below what one
    /// waits for.
    #[tokio::test]
    async fn a_lowered_limit_leaves_no_caller_waiting() {
        let permits = Arc::new(Permits::new(10));
        let first = permits.try_acquire(10).unwrap();
        let waiting = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.acquire(8).await }
        });
        tokio::task::yield_now().await;
        permits.set_max(3);
        drop(first);
        let held = waiting.await.unwrap().unwrap();
        assert!(permits.try_acquire(1).is_none(), "five more than there are");
        drop(held);
        let all = permits.try_acquire(3);
        assert!(all.is_some() && permits.try_acquire(1).is_none(), "three again");
    }

    /// Goal: merged ops are bounded. Method: one more than eight positions per permit, and one less.
    #[test]
    fn positions_of_merged_ops_are_bounded() {
        let permits = Arc::new(Permits::new(1));
        assert_eq!(permits.try_acquire(1).unwrap().pass_on(), 1);
        permits.opened(9, 0);
        permits.release(1);
        assert!(permits.try_acquire(1).is_none());
        permits.opened(0, 1);
        assert!(permits.try_acquire(1).is_some());
    }
}
