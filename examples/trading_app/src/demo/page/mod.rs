//! The live page: the board of roundlot with panels of the app, for any number of browsers, and buttons that pause, resume, flush and stop
//! trading. `main` binds the address, serves the page and closes it.
//!
//! ```text
//!   trader ──prices, verdicts──> ticker ──┐
//!   portfolio ──positions──> sampler ─────┤
//!   batchers, sinks ──> roundlot_board ───┴─> Fanout ──> browsers
//!   batchers <── controls <── roundlot_board <── buttons
//! ```

mod controls;
mod equity;
mod event;
mod panels;
mod sampler;
#[cfg(test)]
mod tests;
mod ticker;
mod watch;

use std::{
    io::{Error as IoError, ErrorKind},
    net::SocketAddr,
};

use roundlot_board::{Board, Errors, Live, Observed, Watched, latency::Recorder};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::{
        Error, batchers::Batchers, kill_switch::Gate, kill_switch::Halt, kill_switch::KillSwitch, portfolio::Portfolio,
        shards::Shards,
    },
    demo::{
        progress::Progress,
        settings::{Address, Settings},
    },
};
use controls::Controls;
use sampler::Sampler;
pub use ticker::Ticker;

/// A page with a bound address, not yet served.
pub struct Page {
    listener: TcpListener,
    /// Host name in the setting, if it is not an IP address.
    name: Option<String>,
    errors: Errors,
}

/// A page that is being served.
pub struct Serving {
    #[cfg(test)]
    address: SocketAddr,
    ticker: Ticker,
    live: Live,
    controls: Controls,
    /// Ends the sampler, which then publishes the last state.
    done: CancellationToken,
    server: JoinHandle<()>,
    sampler: JoinHandle<()>,
    watcher: JoinHandle<()>,
}

impl Page {
    /// Binds the address, if a page is set.
    pub async fn bind(address: Option<&Address>) -> Result<Option<Self>, Error> {
        let Some(address) = address else { return Ok(None) };
        let listener = listen(address.sockets()).await;
        let listener = listener.map_err(|error| format!("cannot serve the page on {address}: {error}"))?;
        let name = address.name().map(str::to_owned);
        Ok(Some(Self { listener, name, errors: Errors::default() }))
    }

    /// Wraps the sink of a batcher, so that its errors are on the page, if there is one.
    pub fn watched<S>(page: Option<&Self>, batcher: &'static str, sink: S) -> Observed<S> {
        Self::watcher(page, batcher)(sink)
    }

    /// Returns a function that wraps the sinks of a batcher, one for each term of a log.
    pub fn watcher<S>(page: Option<&Self>, batcher: &'static str) -> impl Fn(S) -> Observed<S> + Clone + use<S> {
        // Without a page nobody reads the table.
        let errors = page.map(|page| page.errors.clone()).unwrap_or_default();
        move |sink| errors.watch(batcher, sink)
    }

    /// Begins to serve the page, and prints its address and the token for its buttons.
    pub fn serve(self, scene: Scene<'_>) -> Result<Serving, Error> {
        let Scene { settings, batchers, latencies, portfolio, halt, gate, shards, feed_title, .. } = scene;
        let Scene { database_title, progress, stop, .. } = scene;
        let Self { listener, name, errors } = self;
        let address = listener.local_addr()?;
        let host = name.as_ref().map_or_else(|| address.to_string(), |name| format!("{name}:{}", address.port()));
        let facts = sampler::facts(settings, feed_title, &database_title);
        let switch = KillSwitch::new(batchers.orders.clone(), halt, gate);
        let controls = Controls::new(batchers.clone(), switch, progress.clone());
        let (prices, orders, trades) = (&batchers.prices, &batchers.orders, &batchers.trades);
        let mut board = Board::new()
            .title(&facts.feed)
            .show(Watched::new("prices", prices).writes_to("portfolio").limits(settings.prices.limits.clone()))
            .show(Watched::new("orders", orders).writes_to("venue").limits(settings.orders.batcher.limits.clone()))
            .show(Watched::new("trades", trades).writes_to(&facts.database).limits(settings.trades.limits.clone()))
            .control(controls.clone())
            .stop_button(panels::STOP)
            .errors(errors.clone())
            .times(latencies)
            .stop_on(stop.clone());
        for panel in panels::all() {
            board = board.panel(panel);
        }
        let live = match name {
            Some(name) => board.host(name),
            None => board,
        };
        let live = live.start()?;
        progress.say(&format!("page       http://{host}/\ntoken      {}", live.token()));
        let ticker = Ticker::new(live.publisher(), errors);
        let (halted, done) = (controls.clone(), CancellationToken::new());
        let sampler = Sampler { ticker: ticker.clone(), portfolio, shards, facts, done: done.clone() };
        Ok(Serving {
            #[cfg(test)]
            address,
            server: tokio::spawn(roundlot_board::serve(listener, live.router())),
            sampler: tokio::spawn(sampler.run()),
            watcher: tokio::spawn(async move {
                stop.cancelled().await;
                halted.end().await;
            }),
            ticker,
            live,
            controls,
            done,
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
    pub fn ticker(&self) -> Ticker {
        self.ticker.clone()
    }

    /// Ends the commands and undoes any pause that would delay the end: see [`Controls::end`].
    pub async fn release(page: Option<&Self>) {
        if let Some(page) = page {
            page.controls.end().await;
        }
    }

    /// Tells each browser that the run has ended, with the number of unsettled ops, and closes the connection.
    pub async fn close(page: Option<Self>, unsettled: u64) {
        let Some(Self { live, done, server, sampler, watcher, .. }) = page else { return };
        watcher.abort();
        done.cancel();
        // A sampler that panicked has nothing more to publish.
        let _ = sampler.await;
        live.close(unsettled).await;
        server.abort();
    }
}
