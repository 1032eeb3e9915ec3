//! futures-batch: `chunks_timeout` on any stream, with a timer thread of its own. In come ops, out go chunks.

use futures_batch::ChunksTimeoutStreamExt;

use super::{BATCH, LINGER, tokio_stream::send_in_chunks};
use crate::load::Load;

/// One `send` per op, through the same channel as tokio-stream's.
pub async fn send(load: Load) {
    send_in_chunks(load, |ops| ops.chunks_timeout(BATCH, LINGER)).await;
}
