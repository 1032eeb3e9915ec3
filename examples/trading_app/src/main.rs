//! A trading bot on roundlot. `bot` is the part to copy; `demo` makes a demonstration of it. This file wires the two
//! together, from top to bottom: settings, parts, batchers, the run, the end, the report.
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
use roundlot::BoxSink;
use tokio::time::Instant;

use crate::{
    bot::{
        Error,
        batchers::{self, Batchers, Workers},
        kill_switch::{Gate, Halt},
        portfolio::Portfolio,
        strategy::Strategy,
        tick::Tick,
        trader::Trader,
        venue::PaperVenue,
    },
    demo::{
        cli::Cli,
        database,
        feed::Feed,
        format,
        meter::{Metered, Meters},
        observer::RunObserver,
        page::{Page, Scene, Serving},
        progress::{self, Progress},
        report::{self, Report},
        settings::{self, Settings},
        stop,
        unbatched::{self, Sample},
    },
};

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
    let settings = settings::load(&Cli::parse(), env::vars_os())?;
    let progress = Progress::start(&settings.log)?;
    let (report, traded) = trade(&settings, &progress).await?;
    report.publish(settings.report.as_deref())?;
    traded?;
    report.problem().map_or(Ok(()), |problem| Err(problem.into()))
}

/// Runs the bot to its end. The report is complete also if the run itself has failed.
async fn trade(settings: &Settings, progress: &Progress) -> Result<(Report, Result<(), Error>), Error> {
    let opened = Arc::new(OnceLock::new());
    let stop = stop::token(settings.run_time(), progress.clone(), Arc::clone(&opened))?;

    // Parts that may fail to open come first, before anything is traded.
    report::check(settings)?;
    let mut feed = Feed::start(settings, stop.clone(), progress)?;
    let page = Page::bind(settings.page).await?;
    let database = database::open(settings.database.as_ref(), progress).await?;
    let database_title = database.title();

    // The bot.
    let portfolio = Portfolio::new(settings.strategy.cash);
    let venue = PaperVenue::new(settings.venue.clone(), settings.seed);
    let halt = Halt::default();
    let gate = Gate::new(venue.clone(), halt.clone());

    let (batchers, workers, meters) = open(settings, page.as_ref(), portfolio.clone(), gate.clone(), database.sink)?;
    let rejections = workers.rejections.clone();
    opened.get_or_init(|| batchers.clone());

    // The page, the progress and the observer.
    let scene = Scene {
        settings,
        batchers: batchers.clone(),
        portfolio: portfolio.clone(),
        halt: halt.clone(),
        gate,
        feed_title: feed.title.clone(),
        database_title: database_title.clone(),
        progress: progress.clone(),
        stop: stop.clone(),
    };
    let page = page.map(|page| page.serve(scene)).transpose()?;
    let display = tokio::spawn(progress.clone().show(batchers.clone(), portfolio.clone(), settings.progress));
    let observer = RunObserver::new(page.as_ref().map(Serving::board), Sample::new(settings.unbatched.sample));

    // The run.
    let mut trader = Trader::new(batchers, venue, portfolio.clone(), Strategy::new(&settings.strategy), halt, observer);
    let began = Instant::now();
    let traded = trader.run(&mut feed, &stop, settings.drain).await;
    let seconds = began.elapsed().as_secs_f64();

    // The end of the run. However the feed ended, waiting ops are written, and the last verdicts are handled.
    Serving::release(page.as_ref()).await;
    let stats = workers.shutdown(settings.drain).await?;
    let drain_seconds = began.elapsed().as_secs_f64() - seconds;
    let RunObserver { sample, verdicts, .. } = trader.finish().await?;
    Serving::close(page).await;
    display.abort();
    progress.finish();

    let report = Report {
        feed: feed.title,
        strict: settings.replay.strict,
        seconds,
        drain_seconds,
        operations: report::operations(&stats),
        batched: report::Batched::new(&stats, &meters, seconds + drain_seconds),
        unbatched: unbatched::measure(sample, settings, &portfolio, database.file.as_deref()).await,
        batchers: stats,
        rows: feed.log,
        verdicts,
        rejections: rejections.reasons(),
        portfolio_value: format::money(portfolio.value()),
        fills: portfolio.fills(),
        database: database_title,
    };
    Ok((report, traded))
}

/// Opens the batchers, with sinks that are metered for the report and watched for the page, and ops that are timed for
/// the page.
fn open(
    settings: &Settings,
    page: Option<&Page>,
    portfolio: Portfolio,
    gate: Gate,
    database: BoxSink<Tick>,
) -> Result<(Batchers, Workers, Meters), Error> {
    let (prices_sink, prices) = Metered::new(Page::watched(page, "prices", portfolio));
    let (orders_sink, orders) = Metered::new(Page::watched(page, "orders", gate));
    let (trades_sink, trades) = Metered::new(Page::watched(page, "trades", database));
    let open = || batchers::open(settings.batchers(), prices_sink, orders_sink, trades_sink);
    let (batchers, workers) = Page::recording(page, open)?;
    Ok((batchers, workers, Meters { prices, orders, trades }))
}
