//! [`ask`]: requests to the log that a leader repeats until they are answered.

use tokio_util::sync::CancellationToken;

use super::{PAUSE, TermEnd};
use crate::durable::log::Answer;

/// Repeats a request that changes nothing until the log answers it, or the time to leave is over.
pub(super) async fn ask<'a, V>(abort: &CancellationToken, request: impl Fn() -> Answer<'a, V>) -> Result<V, TermEnd> {
    let mut pause = PAUSE.0;
    loop {
        let answer = tokio::select! {
            biased;
            answer = request() => answer,
            () = abort.cancelled() => return Err(TermEnd::Left),
        };
        match answer {
            Err(error) if error.is_passing() => tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                () = abort.cancelled() => return Err(error.into()),
            },
            result => return Ok(result?),
        }
    }
}
