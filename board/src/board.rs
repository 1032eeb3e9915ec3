//! [`Board`]: the builder. `start` spawns the feed and the sampler, and makes the [`Live`] board.

use std::{collections::BTreeSet, sync::Arc};

use roundlot::{CancellationToken, Fanout, sink::websocket::WebSocket};
use thiserror::Error;

use crate::{
    assets::{self, Assets},
    control::{Buttons, Control},
    errors::Errors,
    keys::Keys,
    latency::Recorder,
    live::{Live, Publisher},
    panel::{Panel, StopButton},
    sampler::Sampler,
    server::{self, Shared},
    socket,
    watch::{Watch, Watched},
};

/// Builds a board.
///
/// # Examples
///
/// ```
/// use roundlot::{Batcher, testing::Recorder};
/// use roundlot_board::{Board, Watched};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (desk, _worker) = Batcher::new(Recorder::<u32>::new()).limits(500).spawn();
/// let board = Board::new().title("my bot").show(Watched::new("orders", &desk).writes_to("venue").limits(500)).start()?;
/// let _router = board.router(); // to be nested in the app's
/// # Ok(())
/// # }
/// ```
#[must_use = "a board shows nothing until it is started"]
pub struct Board {
    title: String,
    watched: Vec<Watched>,
    panels: Vec<Panel>,
    stop_button: Option<StopButton>,
    control: Option<Arc<dyn Control>>,
    errors: Errors,
    times: Option<Recorder>,
    host: Option<String>,
    stopping: CancellationToken,
}

/// Why a board can't be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BoardError {
    /// Two batchers, or two files, have the same name.
    #[error("the name {0} is taken")]
    Taken(String),
    /// A name of a batcher is empty, or too long for the page.
    #[error("a batcher's name has 1 to 32 letters, and {0:?} has not")]
    BadName(String),
    /// A name of a panel has other letters than `a` to `z`, digits, `-` and `_`: it is a part of the paths of its files.
    #[error("a panel's name has letters a to z, digits, - and _, and {0:?} has others")]
    BadPanel(String),
    /// The stop button stops a batcher that is not on the board, or there is no [`Board::control`] that gives it a meaning.
    #[error("the stop button needs a control, and a batcher of the board")]
    StopButton,
    /// The operating system has no random numbers for a token.
    #[error("the system has no random numbers: {0}")]
    NoRandom(String),
}

/// Maximum length of a batcher's name, in letters.
const MAX_NAME: usize = 32;

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// A board without a batcher.
    pub fn new() -> Self {
        Self {
            title: String::new(),
            watched: Vec::new(),
            panels: Vec::new(),
            stop_button: None,
            control: None,
            errors: Errors::default(),
            times: None,
            host: None,
            stopping: CancellationToken::new(),
        }
    }

    /// The words beside the name of the page.
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Shows a batcher by the handle of it. The board keeps the handle, so that the batcher ends by a shutdown, and not when its other handles are
    /// dropped.
    pub fn watch(self, name: impl Into<String>, batcher: &(impl Watch + Clone)) -> Self {
        self.show(Watched::new(name, batcher))
    }

    /// Shows a batcher, with more to say of it.
    pub fn show(mut self, watched: Watched) -> Self {
        self.watched.push(watched);
        self
    }

    /// Adds a part of the app's own to the page.
    pub fn panel(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// Adds a button that stops the app, which needs a [`control`](Self::control).
    pub fn stop_button(self, button: StopButton) -> Self {
        Self { stop_button: Some(button), ..self }
    }

    /// Says what the buttons do, instead of the board.
    pub fn control(self, control: impl Control) -> Self {
        Self { control: Some(Arc::new(control)), ..self }
    }

    /// Shows these errors, which wrapped sinks count.
    pub fn errors(self, errors: Errors) -> Self {
        Self { errors, ..self }
    }

    /// Shows these times.
    pub fn times(self, recorder: Recorder) -> Self {
        Self { times: Some(recorder), ..self }
    }

    /// The name of the host by which the page is reached, besides addresses and `localhost`.
    pub fn host(self, name: impl Into<String>) -> Self {
        Self { host: Some(name.into().to_ascii_lowercase()), ..self }
    }

    /// Shows that the app is stopping once this token is canceled.
    pub fn stop_on(self, token: CancellationToken) -> Self {
        Self { stopping: token, ..self }
    }

    /// Starts the board: a feed and a task that looks at the batchers twice a second.
    ///
    /// # Errors
    ///
    /// If a name is taken or unfit, if the stop button has no meaning, or if the system has no random numbers.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn start(self) -> Result<Live, BoardError> {
        let Self { title, watched, panels, stop_button, control, errors, times, host, stopping } = self;
        let mut names = BTreeSet::new();
        for Watched { name, .. } in &watched {
            if !(1..=MAX_NAME).contains(&name.chars().count()) {
                return Err(BoardError::BadName(name.clone()));
            }
            if !names.insert(name.clone()) {
                return Err(BoardError::Taken(name.clone()));
            }
        }
        if stop_button.as_ref().is_some_and(|button| control.is_none() || !names.contains(button.batcher)) {
            return Err(BoardError::StopButton);
        }
        let assets = Assets::new(&title, &panels, stop_button.as_ref())?;
        let keys = Keys::random().map_err(BoardError::NoRandom)?;
        let (feed, worker) = Fanout::by(assets::topic).name("board").spawn();
        let screen = WebSocket::new(socket::frames()).name("board").confirmed().stall_after(socket::STUCK_AFTER);
        let watched: Arc<[Watched]> = watched.into();
        let control = control.unwrap_or_else(|| Arc::new(Buttons(Arc::clone(&watched))));
        let done = CancellationToken::new();
        let sampler = Sampler {
            publisher: Publisher(feed.clone()),
            screen: screen.clone(),
            watched,
            times,
            errors,
            control: Arc::clone(&control),
            title,
            run: keys.run(),
            stopping,
            done: done.clone(),
        };
        let token = keys.token();
        let router = server::router(Shared::new(feed.clone(), screen, control, keys, names, assets), host);
        Ok(Live { feed, worker, done, sampler: tokio::spawn(sampler.run()), router, token })
    }
}
