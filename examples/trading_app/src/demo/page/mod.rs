//! The live page: prices, verdicts and statistics for any number of browsers, each at its own pace, and buttons that
//! pause, resume, flush and stop trading. `main` binds the address, serves the page and closes it.
//!
//! ```text
//!   trader ──prices, verdicts──> board ──┐
//!   portfolio ──positions──> sampler ────┤
//!   sinks ──────errors──────────┤        │
//!   batchers ──statistics───────┘────────┴─> Fanout ──> socket ──> page.js
//!   batchers <── controls <── keys <── server <─────── POST ──────┘
//! ```

mod assets;
mod board;
mod connections;
mod controls;
mod equity;
mod errors;
mod event;
mod guard;
mod histogram;
mod keys;
mod sampler;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

use roundlot::{Fanout, Feed, Worker, sink::websocket::WebSocket};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::{
        Error, batchers::Batchers, kill_switch::Gate, kill_switch::Halt, kill_switch::KillSwitch, portfolio::Portfolio,
    },
    demo::{progress::Progress, settings::Settings},
};
pub use board::Board;
use controls::Controls;
pub use errors::{Errors, Watched};
use event::{Event, Topic};
use histogram::Recorder;
use keys::Keys;
use sampler::{Facts, Sampler};
use server::Shared;

/// Time for the last frame and the close handshake of all browsers at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A page with a bound address, not yet served.
pub struct Page {
    listener: TcpListener,
    feed: Feed<Event, Topic>,
    worker: Worker<Event>,
    recorder: Recorder,
    errors: Errors,
}

/// A page that is being served.
pub struct Serving {
    #[cfg(test)]
    address: SocketAddr,
    #[cfg(test)]
    token: String,
    board: Board,
    controls: Controls,
    worker: Worker<Event>,
    tasks: [JoinHandle<()>; 3],
}

impl Page {
    /// Binds the address, if a page is set.
    pub async fn bind(address: Option<SocketAddr>) -> Result<Option<Self>, Error> {
        let Some(address) = address else { return Ok(None) };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| format!("cannot serve the page on {address}: {error}"))?;
        let (feed, worker) = Fanout::by(Event::topic).name("page").spawn();
        Ok(Some(Self { listener, feed, worker, recorder: Recorder::default(), errors: Errors::default() }))
    }

    /// Runs `make`, which spawns the batchers. The recorder of the page gets their metrics, if there is a page.
    pub fn recording<T>(page: Option<&Self>, make: impl FnOnce() -> T) -> T {
        match page {
            Some(page) => metrics::with_local_recorder(&page.recorder, make),
            None => make(),
        }
    }

    /// Wraps the sink of a batcher, so that its errors are on the page, if there is one.
    pub fn watched<S>(page: Option<&Self>, batcher: &'static str, sink: S) -> Watched<S> {
        Errors::watch(page.map(|page| &page.errors), batcher, sink)
    }

    /// Begins to serve the page, and prints its address and the token for its buttons.
    pub fn serve(self, scene: Scene<'_>) -> Result<Serving, Error> {
        let Scene { settings, batchers, portfolio, halt, gate, feed_title, database_title, progress, stop } = scene;
        let Self { listener, feed, worker, recorder, errors } = self;
        let address = listener.local_addr()?;
        let keys = Keys::random()?;
        let token = keys.token();
        progress.say(&format!("page       http://{address}/\ntoken      {token}"));

        let board = Board::new(feed.clone(), errors.clone());
        let controls = Controls::new(
            batchers.clone(),
            KillSwitch::new(batchers.orders.clone(), halt.clone(), gate),
            progress.clone(),
        );
        let screen = WebSocket::new(socket::frames()).name("page").confirmed().stall_after(socket::STUCK_AFTER);
        let facts = Facts::new(settings, feed_title, database_title, keys.run());
        let (halted, ended) = (controls.clone(), stop.clone());
        let sampler =
            Sampler { feed: feed.clone(), board: board.clone(), screen: screen.clone(), batchers, portfolio, errors };
        let router = server::router(Shared::new(feed, screen, controls.clone(), keys));
        let tasks = [
            tokio::spawn(connections::serve(listener, router)),
            tokio::spawn(sampler.run(facts, recorder, halt, stop)),
            tokio::spawn(async move {
                ended.cancelled().await;
                halted.end().await;
            }),
        ];
        Ok(Serving {
            #[cfg(test)]
            address,
            #[cfg(test)]
            token,
            board,
            controls,
            worker,
            tasks,
        })
    }
}

/// The parts of the app that a page shows and controls.
pub struct Scene<'a> {
    pub settings: &'a Settings,
    pub batchers: Batchers,
    pub portfolio: Portfolio,
    pub halt: Halt,
    pub gate: Gate,
    pub feed_title: String,
    pub database_title: String,
    pub progress: Progress,
    pub stop: CancellationToken,
}

impl Serving {
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Ends the commands and undoes any pause that would delay the end: see [`Controls::end`].
    pub async fn release(page: Option<&Self>) {
        if let Some(page) = page {
            page.controls.end().await;
        }
    }

    /// Sends the last frames and closes the connection of each browser.
    pub async fn close(page: Option<Self>) {
        let Some(Self { worker, tasks, .. }) = page else { return };
        let [server, sampler, watcher] = &tasks;
        sampler.abort();
        watcher.abort();
        // A browser that does not read delays the end by this time at most.
        let _ = worker.shutdown().within(CLOSE_TIMEOUT).await;
        server.abort();
    }
}
