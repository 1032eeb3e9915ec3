//! When to stop. In come signals and the end of the time, out goes one token that is canceled.

use std::{
    io, process,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{desks::Desks, numbers, progress::Progress};

/// What shells say of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// A token that is canceled by Ctrl-C, by SIGTERM, or when the time is over. A second signal ends the program at once,
/// whatever still waits to be written, and says how much that is, once there are desks.
pub fn token(
    after: Option<Duration>,
    progress: Progress,
    desks: Arc<OnceLock<Desks>>,
) -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        progress.say("stopping: what waits is written first; a second Ctrl-C doesn't wait");
        stopped.cancel();
        signals.next().await;
        let unsettled = desks.get().map_or(0, Desks::unsettled);
        progress.say(&format!("quit: {} operations were not settled", numbers::count(unsettled)));
        process::exit(INTERRUPTED);
    });
    if let Some(after) = after {
        let stop = stop.clone();
        tokio::spawn(async move {
            sleep(after).await;
            stop.cancel();
        });
    }
    Ok(stop)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on signals no longer end the program by themselves.
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without signals there is nothing to stop for, which is not the same as being told to.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
