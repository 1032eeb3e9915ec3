//! Ways of batching, a file each: in comes a load, out it goes in batches to a target. Each is used as its documentation
//! says. Next room: `rows`, where they stand side by side.

pub mod batch_aint_one;
pub mod futures_batch;
pub mod ours;
pub mod raw;
pub mod recv_many_loop;
pub mod reply_loop;
pub mod rules_by_hand;
pub mod rules_in_full;
pub mod select_loop;
pub mod std_thread;
pub mod tokio_stream;
pub mod tower_batch_control;
pub mod ultra_batch;
pub mod wakes_alone;

use std::time::Duration;

/// Ops in a batch, at most, for everybody.
pub const BATCH: usize = 1024;

/// Slots of a channel, for everybody who has one.
pub const SLOTS: usize = 1024;

/// How long a batch may wait for company, for peers that can't do without such a time.
pub const LINGER: Duration = Duration::from_millis(10);

/// Callers that wait for the answer to one op before they send the next.
pub const CALLERS: u64 = 1024;

/// For peers that begin a batch when it is full or has waited, and not when the destination is free: a batch that all
/// callers together fill several times over, so that it is never the wait that ends it, but for the last ones.
pub const EAGER_BATCH: usize = 128;

/// How long the last of those waits.
pub const EAGER_LINGER: Duration = Duration::from_millis(1);
