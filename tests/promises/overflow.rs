//! Proves the overflow policies: wait, reject, evict the oldest, evict the lowest.

use roundlot::{
    Batcher, Limits, Overflow,
    testing::{Recorder, until_idle},
};

use crate::AGES;

/// Goal: the bound holds when the policy changes under ops that came to evict. Method: a full, paused buffer, three ops
/// more under `EvictOldest`, and `Wait` before the task has looked.
#[tokio::test(start_paused = true)]
async fn ops_on_their_way_to_evict_keep_the_bound_when_the_policy_becomes_wait() {
    // Guards: the task takes the new limits before the ops that were sent under the old ones, and then evicts for none.
    let limits = Limits::new(100).linger(AGES).max_pending(2).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(limits.clone()).spawn();
    desk.pause();
    until_idle().await;
    for op in 0..5u32 {
        desk.try_send(op).unwrap();
    }
    desk.set_limits(limits.overflow(Overflow::Wait)).unwrap();
    until_idle().await;
    assert!(desk.stats().waiting <= 2, "{:?}", desk.stats());
}
