//! The paper venue as a program of its own: `trading_app venue`. It has the section `venue` of the same settings, remembers the
//! orders in a journal, and outlives the bot that asks it. `main` runs it; `demo::venue` starts it for a bot with a log.

mod server;
#[cfg(test)]
mod tests;

use std::{
    future::{IntoFuture, pending},
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::Ordering,
    time::Duration,
};

use clap::Args;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::{
        Error,
        venue::{Ledger, PaperVenue, State, wire::Health, wire::PROGRAM},
    },
    demo::settings::Settings,
};
use server::Server;

/// Be the paper venue, as a program of its own, instead of the bot.
///
/// The venue answers over HTTP, without passwords or TLS, to programs of this machine. Its address is the first line of stdout. A bot
/// finds it with --venue. It takes its latency, faults and limits from the section `venue` of the settings.
#[derive(Debug, Clone, Args)]
pub struct Program {
    /// Where to listen. Port 0 is a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Remember the orders in this file over the end of the program.
    ///
    /// The file survives the end of the venue, in whatever way, but not a loss of power. It only grows; remove it to begin anew.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// End when no call has come for so long, such as 10m. Otherwise it runs until it is told to end.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub idle: Option<Duration>,
}

/// First word of the line with the address.
pub const ADDRESS: &str = "venue      ";

/// Runs the venue until it is told to end.
pub async fn run(program: Program, settings: Settings) -> Result<(), Error> {
    let Program { listen, journal, idle } = program;
    if !listen.ip().is_loopback() {
        return Err(format!("venue: other machines can reach {listen}, and it asks for no password").into());
    }
    let checks_client_ids = settings.venue.checks_client_ids;
    let mut state = State::default();
    state.ledger = Some(Ledger::open(journal.as_deref(), checks_client_ids, &mut state.book)?);
    let journal = journal.map(std::path::absolute).transpose()?.map(|path| path.display().to_string());
    let health = Health { program: PROGRAM.to_owned(), journal, checks_client_ids };

    let stop = CancellationToken::new();
    let server = Server::new(PaperVenue::with(settings.venue, settings.seed, state), health, stop.clone());
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("venue: cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr()?;
    // The program that started this one may have gone already, which is no reason to end.
    let _ = writeln!(io::stdout(), "{ADDRESS}http://{address}").and_then(|()| io::stdout().flush());

    let calls = server.calls();
    let idled = async {
        let Some(idle) = idle else { return pending().await };
        let mut seen = 0;
        loop {
            sleep(idle).await;
            match calls.load(Ordering::Relaxed) {
                count if count == seen => return,
                count => seen = count,
            }
        }
    };
    let serving = axum::serve(listener, server.router()).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served?,
        () = idled => {}
    }
    Ok(())
}
