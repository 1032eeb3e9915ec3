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
mod buckets;
mod connections;
mod controls;
mod equity;
mod errors;
mod event;
mod guard;
mod keys;
mod sampler;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io::{Error as IoError, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use roundlot::{Fanout, Feed, Worker, sink::websocket::WebSocket};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::{
        Error, batchers::Batchers, kill_switch::Gate, kill_switch::Halt, kill_switch::KillSwitch, portfolio::Portfolio,
        shards::Shards,
    },
    demo::{
        latency::Recorder,
        progress::Progress,
        settings::{Address, Settings},
    },
};
pub use board::Board;
use controls::Controls;
pub use errors::{Errors, Watched};
use event::{Event, Topic};
use keys::Keys;
use sampler::{Facts, Sampler};
use server::Shared;

/// Time for the last frame and the close handshake of all browsers at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A page with a bound address, not yet served.
pub struct Page {
    listener: TcpListener,
    /// Host name in the setting, if it is not an IP address.
    name: Option<String>,
    feed: Feed<Event, Topic>,
    worker: Worker<Event>,
    errors: Errors,
}

/// A page that is being served.
pub struct Serving {
    #[cfg(test)]
    address: SocketAddr,
    #[cfg(test)]
    token: String,
    board: Board,
    feed: Feed<Event, Topic>,
    controls: Controls,
    worker: Worker<Event>,
    /// Ends the sampler, which then publishes the last state.
    done: CancellationToken,
    tasks: [JoinHandle<()>; 3],
}

impl Page {
    /// Binds the address, if a page is set.
    pub async fn bind(address: Option<&Address>) -> Result<Option<Self>, Error> {
        let Some(address) = address else { return Ok(None) };
        let listener = listen(address.sockets()).await;
        let listener = listener.map_err(|error| format!("cannot serve the page on {address}: {error}"))?;
        let name = address.name().map(str::to_owned);
        let (feed, worker) = Fanout::by(Event::topic).name("page").spawn();
        Ok(Some(Self { listener, name, feed, worker, errors: Errors::default() }))
    }

    /// Wraps the sink of a batcher, so that its errors are on the page, if there is one.
    pub fn watched<S>(page: Option<&Self>, batcher: &'static str, sink: S) -> Watched<S> {
        Errors::watch(page.map(|page| &page.errors), batcher, sink)
    }

    /// Returns a function that wraps the sinks of a batcher, one for each term of a log.
    pub fn watcher<S>(page: Option<&Self>, batcher: &'static str) -> impl Fn(S) -> Watched<S> + Clone + use<S> {
        let errors = page.map(|page| page.errors.clone());
        move |sink| Errors::watch(errors.as_ref(), batcher, sink)
    }

    /// Begins to serve the page, and prints its address and the token for its buttons.
    pub fn serve(self, scene: Scene<'_>) -> Result<Serving, Error> {
        let Scene { settings, batchers, latencies, portfolio, halt, gate, shards, feed_title, .. } = scene;
        let Scene { database_title, progress, stop, .. } = scene;
        let Self { listener, name, feed, worker, errors } = self;
        let address = listener.local_addr()?;
        let keys = Keys::random()?;
        let token = keys.token();
        let host = name.as_ref().map_or_else(|| address.to_string(), |name| format!("{name}:{}", address.port()));
        progress.say(&format!("page       http://{host}/\ntoken      {token}"));

        let board = Board::new(feed.clone(), errors.clone());
        let controls = Controls::new(
            batchers.clone(),
            KillSwitch::new(batchers.orders.clone(), halt.clone(), gate),
            progress.clone(),
        );
        let screen = WebSocket::new(socket::frames()).name("page").confirmed().stall_after(socket::STUCK_AFTER);
        let facts = Facts::new(settings, feed_title, database_title, keys.run());
        let (halted, ended, done) = (controls.clone(), stop.clone(), CancellationToken::new());
        let sampler = Sampler {
            feed: feed.clone(),
            board: board.clone(),
            screen: screen.clone(),
            batchers,
            latencies,
            portfolio,
            errors,
            halt,
            shards,
            stop,
            done: done.clone(),
        };
        let router = server::router(Shared::new(feed.clone(), screen, controls.clone(), keys), name);
        let tasks = [
            tokio::spawn(connections::serve(listener, router)),
            tokio::spawn(sampler.run(facts)),
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
            feed,
            controls,
            worker,
            done,
            tasks,
        })
    }
}

/// Listens on the first of these addresses that this machine has. One in use is an error: a browser that looks the name
/// up might find the other program there.
async fn listen(sockets: &[SocketAddr]) -> Result<TcpListener, IoError> {
    let mut missing = IoError::from(ErrorKind::AddrNotAvailable);
    for socket in sockets {
        match TcpListener::bind(socket).await {
            Err(error) if matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {
                missing = error
            }
            done => return done,
        }
    }
    Err(missing)
}

/// The parts of the app that a page shows and controls.
pub struct Scene<'a> {
    pub settings: &'a Settings,
    pub batchers: Batchers,
    pub latencies: Recorder,
    pub portfolio: Portfolio,
    pub halt: Halt,
    pub gate: Gate,
    pub shards: Shards,
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

    /// Tells each browser that the run has ended, with the numbers of its ops and of the unsettled ones among them, and
    /// closes the connection.
    pub async fn close(page: Option<Self>, operations: u64, unsettled: u64) {
        let Some(Self { feed, worker, done, tasks: [server, sampler, watcher], .. }) = page else { return };
        watcher.abort();
        done.cancel();
        // A sampler that panicked has nothing more to publish.
        let _ = sampler.await;
        // Only a feed that has ended by itself refuses the event, and then no browser is left.
        let _ = feed.publish(Event::Ended { operations, unsettled });
        // A browser that does not read delays the end by this time at most.
        let _ = worker.shutdown().within(CLOSE_TIMEOUT).await;
        server.abort();
    }
}
