//! Ways of batching, a file each, used as their documentation says.
//!
//! Each function sends a [`Load`](crate::load::Load) in batches to a target and checks that all ops arrived. Rows call
//! them side by side.

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

/// The most ops in a batch, for all peers but those that use [`EAGER_BATCH`].
pub const BATCH: usize = 1024;

/// The number of slots of a channel, as many as a batch has ops. `rules_by_hand` alone has more by default.
pub const SLOTS: usize = 1024;

/// The linger of a batch, for peers that have no natural batching: long enough to fill a batch under load.
pub const LINGER: Duration = Duration::from_millis(10);

/// The number of concurrent callers in `submit` jobs. Each awaits the answer to one op before it sends the next.
pub const CALLERS: u64 = 1024;

/// The most ops in a batch, for peers that begin a batch when it is full or old, not when the destination is free.
///
/// All callers together fill it eight times over, so only the last batches of a run wait for [`EAGER_LINGER`].
pub const EAGER_BATCH: usize = 128;

/// The linger of the last batches of the peers with [`EAGER_BATCH`]: short, since no further op will fill them.
pub const EAGER_LINGER: Duration = Duration::from_millis(1);
