//! The token that stops the app, and the signals that cancel it. `main` asks for the token once, at the start.

use std::{
    io, process,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::batchers::Batchers,
    demo::{format, progress::Progress},
};

/// Exit status of a program that Ctrl-C has ended, by the convention of shells.
const INTERRUPTED: i32 = 130;

/// Time after the first signal within which a signal is the same command. `timeout` sends one to the app and one to its
/// group, and a shell passes on the Ctrl-C of the terminal. Both take milliseconds; people take longer.
const SAME_COMMAND: Duration = Duration::from_millis(500);

/// Returns a token that is canceled by Ctrl-C, SIGTERM or SIGHUP, or after this time. A later signal ends the program
/// at once and prints the number of unsettled ops, if the batchers were opened.
pub fn token(
    after: Option<Duration>,
    progress: Progress,
    batchers: Arc<OnceLock<Batchers>>,
) -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut commands = Commands::default();
        loop {
            signals.next().await;
            match commands.on_signal(Instant::now()) {
                Command::Drain => {
                    progress.say("stopping: what waits is written first; Ctrl-C once more doesn't wait");
                    stopped.cancel();
                }
                Command::Same => {}
                Command::Quit => break,
            }
        }
        let unsettled = batchers.get().map_or(0, Batchers::unsettled);
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

/// Maps signals to commands.
#[derive(Default)]
struct Commands {
    /// Time of the first signal.
    first: Option<Instant>,
}

/// The command that a signal means.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// Stop, and write waiting ops.
    Drain,
    /// The command of the first signal again.
    Same,
    /// End without a drain.
    Quit,
}

impl Commands {
    fn on_signal(&mut self, at: Instant) -> Command {
        match self.first {
            None => {
                self.first = Some(at);
                Command::Drain
            }
            Some(first) if at.saturating_duration_since(first) < SAME_COMMAND => Command::Same,
            Some(_) => Command::Quit,
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP. SIGQUIT (Ctrl-\) is left to the system: it ends the app at once, with a core dump.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// The SIGHUP stream; `None` if the app was started with the signal ignored, as `nohup` does.
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Installs the handlers, so that signals no longer end the program by themselves.
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

/// Whether SIGHUP is ignored. Linux shows a mask in hexadecimal in the status of the process, whose lowest bit is
/// signal 1. Other systems have no such file, and the signal counts as not ignored.
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
        // An error means that no signal can be received, and counts as no signal to stop.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: two signals for one command drain, and a later one ends. Method: step the time from signal to signal.
    #[test]
    fn signals_within_half_a_second_are_one_command() {
        let began = Instant::now();
        let commands_at = |times: &[u64]| {
            let mut commands = Commands::default();
            times.iter().map(|ms| commands.on_signal(began + Duration::from_millis(*ms))).collect::<Vec<_>>()
        };
        assert_eq!(commands_at(&[0, 0, 499]), [Command::Drain, Command::Same, Command::Same]);
        assert_eq!(commands_at(&[7, 507]), [Command::Drain, Command::Quit]);
        assert_eq!(
            commands_at(&[0, 499, 501]),
            [Command::Drain, Command::Same, Command::Quit],
            "counted from the first"
        );
    }

    #[cfg(unix)]
    #[test]
    fn an_ignored_hang_up_is_found_in_the_process_status() {
        assert!(ignores_hang_up("Name:\tapp\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hang_up("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hang_up(""));
    }
}
