//! [`Control`]: what the buttons do. [`Buttons`] is that of a board by itself; an app may have its own, such as a kill switch.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use roundlot::Outcomes;
use serde::Deserialize;
use tokio::time::timeout;

use crate::watch::Watched;

/// Maximum time until the answer to a flush: two seconds, since a person waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A button that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Action to take.
    #[serde(rename = "do")]
    pub action: Action,
    /// The name of the batcher, which is on the board.
    pub batcher: String,
}

/// Effect of a button to a batcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// Stops cutting batches.
    Pause,
    /// Starts cutting batches again.
    Resume,
    /// Settles all that was accepted.
    Flush,
    /// The [stop button](crate::StopButton).
    Withdraw,
}

/// The meaning of the buttons of a board.
pub trait Control: Send + Sync + 'static {
    /// Executes a command, and returns a sentence for the person who has pushed the button. Called in a task of its own, so that a browser
    /// that disconnects stops nothing half way.
    ///
    /// # Errors
    ///
    /// Says why the command was not executed.
    fn execute(&self, command: Command) -> BoxFuture<'_, Result<String, String>>;

    /// Whether the app sends nothing to a batcher until it is resumed. The page says so.
    fn is_halted(&self, batcher: &str) -> bool {
        let _ = batcher;
        false
    }
}

impl<C: Control> Control for Arc<C> {
    fn execute(&self, command: Command) -> BoxFuture<'_, Result<String, String>> {
        (**self).execute(command)
    }

    fn is_halted(&self, batcher: &str) -> bool {
        (**self).is_halted(batcher)
    }
}

/// The buttons of a board without a control of the app: pause, resume, flush.
pub(crate) struct Buttons(pub(crate) Arc<[Watched]>);

impl Control for Buttons {
    fn execute(&self, command: Command) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let Command { action, batcher: name } = command;
            let watched = self.0.iter().find(|watched| watched.name == name).ok_or("there is no such batcher")?;
            let batcher = &watched.batcher;
            let ended = |_| format!("{name} has ended");
            let said = match action {
                Action::Pause => batcher.pause().await.map(|()| format!("{name} paused: what comes waits")),
                Action::Resume => batcher.resume().await.map(|()| format!("{name} resumed")),
                Action::Flush => match timeout(PATIENCE, batcher.flush()).await {
                    Ok(outcomes) => outcomes.map(|outcomes| flushed(&name, &outcomes)),
                    Err(_) => Ok(format!("{name} will be flushed as soon as they can be; not done yet")),
                },
                Action::Withdraw => return Err("this board has no stop button".to_owned()),
            };
            said.map_err(ended)
        })
    }
}

/// Describes the outcomes since the last flush in a sentence. Its counts add up.
pub fn flushed(batcher: &str, outcomes: &Outcomes) -> String {
    match outcomes.total() {
        0 => format!("{batcher} flushed: nothing since the last flush"),
        total => format!("{batcher} flushed: since the last flush {total}: {outcomes}"),
    }
}

#[cfg(test)]
mod tests {
    use roundlot::{Batcher, testing::Recorder};

    use super::*;

    #[test]
    fn outcomes_add_up() {
        let mut some = Outcomes::default();
        assert_eq!(flushed("orders", &some), "orders flushed: nothing since the last flush");
        (some.delivered, some.conflated, some.in_doubt) = (1_000, 2, 1);
        let said = "orders flushed: since the last flush 1003: 1000 delivered, 1 in doubt, 2 conflated";
        assert_eq!(flushed("orders", &some), said);
    }

    #[tokio::test(start_paused = true)]
    async fn buttons_do_what_they_say() {
        let (desk, _worker) = Batcher::new(Recorder::<u32>::new()).spawn();
        let buttons = Buttons(Arc::new([Watched::new("orders", &desk)]));
        let push = |action| buttons.execute(Command { action, batcher: "orders".to_owned() });
        assert_eq!(push(Action::Pause).await.unwrap(), "orders paused: what comes waits");
        desk.send_all([1, 2]).await.unwrap();
        assert_eq!(push(Action::Flush).await.unwrap(), "orders will be flushed as soon as they can be; not done yet");
        assert_eq!(push(Action::Resume).await.unwrap(), "orders resumed");
        assert_eq!(push(Action::Flush).await.unwrap(), "orders flushed: since the last flush 2: 2 delivered");
        assert_eq!(push(Action::Withdraw).await, Err("this board has no stop button".to_owned()));
        let other = Command { action: Action::Pause, batcher: "trades".to_owned() };
        assert_eq!(buttons.execute(other).await, Err("there is no such batcher".to_owned()));
    }
}
