//! Steps of a test: [`until_idle`] lets tasks run, [`advance`] lets time pass. Both need a current-thread runtime.

use std::time::Duration;

/// Number of yields of [`until_idle`]. A hand-over between tasks (a send, a cut, a write, its verdict, an ack) costs at
/// most one each. This covers chains several times as long as any in this crate.
const YIELDS: usize = 64;

/// Lets all tasks run that can run, without letting time pass.
///
/// For assertions such as "nothing was written yet", which no other event announces. Where there is an event, wait
/// for it instead: [`Recorder::wait_for`](super::Recorder::wait_for), [`Gate::reached`](super::Gate::reached).
///
/// The function yields many times, since a runtime does not tell when it is idle. It is meant for a current-thread
/// runtime (that of `#[tokio::test]`), and for tasks that wait for each other, for channels and for the clock. Work on
/// other threads, such as `spawn_blocking`, and real sockets are not covered. On a multi-thread runtime it promises
/// nothing.
///
/// # Cancel safety
///
/// Dropping it does nothing.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let task = tokio::spawn(async {});
/// assert!(!task.is_finished());
/// roundlot::testing::until_idle().await;
/// assert!(task.is_finished());
/// # }
/// ```
pub async fn until_idle() {
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

/// Lets `duration` pass on a paused clock: every timer fires at its own time and in order. The tasks that the last of
/// them woke run before it returns.
///
/// `tokio::time::advance` jumps: timers due on the way fire late, all at once, and a repeated timer misses its turns.
/// This function sleeps instead, and a paused clock goes from timer to timer while every task waits. It moves in whole
/// milliseconds, the grain of tokio's timers: a fraction is rounded up.
///
/// The clock must be paused, by `start_paused` or `tokio::time::pause`; otherwise it really takes that long. Work on
/// other threads is not waited for, except that a paused clock stands still while `spawn_blocking` runs.
///
/// # Cancel safety
///
/// Dropping it stops it on the way; the time that passed has passed.
///
/// # Panics
///
/// Outside of a tokio runtime with its clock enabled.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let started = Instant::now();
/// roundlot::testing::advance(Duration::from_secs(3600)).await; // takes no time
/// assert_eq!(started.elapsed(), Duration::from_secs(3600));
/// # }
/// ```
pub async fn advance(duration: Duration) {
    // Tasks that were just spawned must set their timers first, or those would count from the end of the sleep.
    until_idle().await;
    tokio::time::sleep(duration).await;
    until_idle().await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::{sync::mpsc, time::Instant};

    use super::*;

    /// A value that goes through forty tasks arrives, and the clock has not moved.
    #[tokio::test(start_paused = true)]
    async fn until_idle_follows_a_chain_of_tasks() {
        let started = Instant::now();
        let (first, mut end) = mpsc::channel(1);
        for _ in 0..40 {
            let (next, new_end) = mpsc::channel(1);
            let mut upstream = std::mem::replace(&mut end, new_end);
            tokio::spawn(async move {
                while let Some(value) = upstream.recv().await {
                    next.send(value).await.unwrap();
                }
            });
        }
        first.send(7).await.unwrap();
        until_idle().await;
        assert_eq!(end.try_recv(), Ok(7));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn until_idle_fires_no_timer() {
        let task = tokio::spawn(tokio::time::sleep(Duration::from_millis(1)));
        until_idle().await;
        assert!(!task.is_finished());
    }

    /// Two timers that are set again and again fire at their own times, the last at the very end of the step.
    #[tokio::test(start_paused = true)]
    async fn advance_fires_timers_in_order() {
        let started = Instant::now();
        let fired = Arc::new(Mutex::new(Vec::new()));
        for period in [20, 30] {
            let fired = fired.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(period)).await;
                    fired.lock().unwrap().push(started.elapsed().as_millis());
                }
            });
        }
        advance(Duration::from_millis(90)).await;
        assert_eq!(*fired.lock().unwrap(), [20, 30, 40, 60, 60, 80, 90]);
        assert_eq!(started.elapsed(), Duration::from_millis(90));
    }
}
