//! The token by which everything stops, and the signals that cancel it. `main` asks for it once, at the start.

use std::{
    io, process,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::batchers::Desks,
    demo::{format, progress::Progress},
};

/// What shells say of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Signals within this time of the first one are the same wish. `timeout` sends one to the app and one to its group, and a
/// shell passes on the Ctrl-C that the app had from the terminal; both take milliseconds. People take longer.
const ONE_WISH: Duration = Duration::from_millis(500);

/// A token that is canceled by Ctrl-C, SIGTERM or SIGHUP, or when the time is over. A later signal ends the program at
/// once, whatever still waits to be written, and says how much that is, once there are desks.
pub fn token(
    after: Option<Duration>,
    progress: Progress,
    desks: Arc<OnceLock<Desks>>,
) -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut wishes = Wishes::default();
        loop {
            signals.next().await;
            match wishes.hear(Instant::now()) {
                Wish::Drain => {
                    progress.say("stopping: what waits is written first; Ctrl-C once more doesn't wait");
                    stopped.cancel();
                }
                Wish::Same => {}
                Wish::Quit => break,
            }
        }
        let unsettled = desks.get().map_or(0, Desks::unsettled);
        progress.say(&format!("quit: {} operations were not settled", format::count(unsettled)));
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

/// The signals that came so far.
#[derive(Default)]
struct Wishes {
    first: Option<Instant>,
}

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// Stop, and write what waits.
    Drain,
    /// What the first signal asked for already.
    Same,
    /// End without a drain.
    Quit,
}

impl Wishes {
    fn hear(&mut self, at: Instant) -> Wish {
        match self.first {
            None => {
                self.first = Some(at);
                Wish::Drain
            }
            Some(first) if at.saturating_duration_since(first) < ONE_WISH => Wish::Same,
            Some(_) => Wish::Quit,
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP. SIGQUIT (Ctrl-\) is left to the system: it ends the app at once, with a core dump.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// `None` if whoever started the app had it ignore them, as `nohup` does.
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    /// From now on signals no longer end the program by themselves.
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = if ignores_hang_up(&status) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether SIGHUP is ignored, by what Linux says of the process: a mask in hexadecimal, whose lowest bit is signal 1.
/// Other systems say nothing, and it counts as not ignored.
#[cfg(unix)]
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: two signals for one wish drain, and a later one ends. Method: step the time from signal to signal.
    #[test]
    fn signals_of_one_moment_are_one_wish() {
        let began = Instant::now();
        let heard = |times: &[u64]| {
            let mut wishes = Wishes::default();
            times.iter().map(|ms| wishes.hear(began + Duration::from_millis(*ms))).collect::<Vec<_>>()
        };
        assert_eq!(heard(&[0, 0, 499]), [Wish::Drain, Wish::Same, Wish::Same]);
        assert_eq!(heard(&[7, 507]), [Wish::Drain, Wish::Quit]);
        assert_eq!(heard(&[0, 499, 501]), [Wish::Drain, Wish::Same, Wish::Quit], "counted from the first");
    }

    #[cfg(unix)]
    #[test]
    fn a_hang_up_may_be_ignored() {
        assert!(ignores_hang_up("Name:\tapp\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hang_up("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hang_up(""));
    }
}
