//! A trading bot on roundlot. In come a feed and settings, out go orders, a database of trades and a report. This file
//! wires the parts together:
//!
//! ```text
//!   feed ──ticks──> trader ──updates─> prices ─> portfolio
//!                     │ ▲  ──trades──> trades ─> database
//!             strategy┘ └verdicts────< orders ─> paper venue
//! ```

mod bot;
mod demo;

use std::{
    env,
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use clap::Parser;
use tokio::time::Instant;

use crate::{
    bot::{
        batchers, database, kill_switch::exposure::Gate, kill_switch::halt::Halt, portfolio::Portfolio,
        strategy::Strategy, trader::Trader, venue::PaperVenue,
    },
    demo::{
        cli::Cli,
        feed::Feed,
        format,
        page::{Page, Scene, Serving},
        progress::{self, Progress},
        report::{self, Report},
        settings, stop, unbatched,
    },
};

/// Whatever ends the app: it is told, and not handled.
type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::print(&format!("error: {}", report::with_causes(&*error)));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let settings = &settings::load(&Cli::parse(), env::vars_os())?;
    let progress = Progress::start(&settings.log)?;
    let opened = Arc::new(OnceLock::new());
    let stop = stop::token(settings.run_time(), progress.clone(), Arc::clone(&opened))?;

    report::check(settings)?;
    let mut feed = Feed::start(settings, stop.clone(), &progress)?;
    let page = Page::bind(settings.page).await?;
    let database = database::open(settings.database.as_ref(), &progress).await?;
    let title = database.title();
    let portfolio = Portfolio::new(settings.strategy.cash);
    let venue = PaperVenue::new(settings.venue.clone(), settings.seed);
    let halt = Halt::default();
    let gate = Gate::new(venue.clone(), halt.clone());
    let open = || batchers::open(settings, portfolio.clone(), gate.clone(), database.sink);
    let (desks, workers) = Page::recording(page.as_ref(), open)?;
    opened.get_or_init(|| desks.clone());
    let scene = Scene {
        settings,
        desks: desks.clone(),
        portfolio: portfolio.clone(),
        halt: halt.clone(),
        gate,
        feed_title: feed.title.clone(),
        database: title.clone(),
        progress: progress.clone(),
        stop: stop.clone(),
    };
    let page = page.map(|page| page.serve(scene)).transpose()?;

    let display = tokio::spawn(progress.clone().show(desks.clone(), portfolio.clone(), settings.progress));
    let strategy = Strategy::new(&settings.strategy);
    let mut trader = Trader::new(desks, venue, portfolio.clone(), strategy, settings.unbatched.sample)
        .watched(halt, page.as_ref().map(Serving::board));
    let (meters, rejections) = (workers.meters.clone(), workers.rejections.clone());

    let began = Instant::now();
    let traded = trader.run(&mut feed, &progress, &stop, settings.drain).await;
    let seconds = began.elapsed().as_secs_f64();
    Serving::release(page.as_ref()).await;
    // However the feed ended: what waits is written, and the venue's last words are heard.
    let batchers = workers.shutdown(settings.drain).await?;
    let drain_seconds = began.elapsed().as_secs_f64() - seconds;
    trader.finish().await?;
    Serving::close(page).await;
    display.abort();
    progress.finish();

    let report = Report {
        feed: feed.title,
        strict: settings.replay.strict,
        seconds,
        drain_seconds,
        operations: batchers.operations(),
        batched: batchers.cost(&meters, seconds + drain_seconds),
        unbatched: unbatched::measure(trader.sample, settings, &portfolio, database.file.as_deref()).await,
        batchers,
        log: trader.log,
        rejections: rejections.reasons(),
        portfolio_value: format::money(portfolio.value()),
        fills: portfolio.fills(),
        database: title,
    };
    report.publish(settings.report.as_deref())?;
    traded?;
    report.problem().map_or(Ok(()), |problem| Err(problem.into()))
}
