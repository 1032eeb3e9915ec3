//! The peer futures-batch: `chunks_timeout` on a stream, with a timer thread of its own.

use futures_batch::ChunksTimeoutStreamExt;

use super::{BATCH, LINGER, tokio_stream::send_in_chunks};
use crate::load::Load;

/// Sends ops one by one, through the same channel as tokio-stream's.
pub async fn send(load: Load) {
    send_in_chunks(load, |ops| ops.chunks_timeout(BATCH, LINGER)).await;
}
