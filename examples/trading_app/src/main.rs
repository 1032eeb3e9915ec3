//! A trading bot on roundlot. `bot` is the part to copy; `demo` makes a demonstration of it. This file wires the two
//! together, from top to bottom: settings, parts, batchers, the run, the end, the report.
//!
//! ```text
//!   feed ──ticks──> trader ──updates─> prices ─> portfolio
//!                     │ ▲  ──trades──> trades ─> database
//!             strategy┘ └verdicts────< orders ─> paper venue
//! ```
//!
//! `paper_venue` is the venue as a program of its own, for a bot with a log of its orders.

mod bot;
mod demo;
mod paper_venue;

use std::{
    env,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::Parser;
use roundlot::BoxSink;
use roundlot_board::latency;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::{
        Error,
        batchers::{self, Batchers, OnLog, Workers},
        kill_switch::{Gate, Halt},
        portfolio::Portfolio,
        shards::Shards,
        tick::Tick,
        trader::Trader,
    },
    demo::{
        cli::{Cli, Program},
        database::{self, Database},
        feed::Feed,
        format,
        meter::{Meter, Metered, Meters},
        observer::RunObserver,
        page::{Page, Scene, Serving},
        progress::{self, Progress},
        report::{self, Drained, Report},
        settings::{self, Settings},
        stop, unbatched,
        venue::Place,
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
    let cli = Cli::parse();
    let settings = settings::load(&cli, env::vars_os())?;
    let progress = Progress::start(&settings.log)?;
    if let Some(Program::Venue(program)) = cli.program {
        return paper_venue::run(program, settings).await;
    }
    let opened = Arc::new(OnceLock::new());
    let stop = stop::token(settings.run_time(), progress.clone(), Arc::clone(&opened))?;
    report::check(&settings)?;
    let mut place = Place::open(&settings, &progress).await?;
    let traded = trade(&settings, &progress, &stop, &opened, &mut place).await;
    place.end(&progress).await;
    let (report, traded) = traded?;
    report.publish(settings.report.as_deref())?;
    traded?;
    report.problem().map_or(Ok(()), |problem| Err(problem.into()))
}

/// Runs the bot to its end. The report is complete also if the run itself has failed.
async fn trade(
    settings: &Settings,
    progress: &Progress,
    stop: &CancellationToken,
    opened: &OnceLock<Batchers>,
    place: &mut Place,
) -> Result<(Report, Result<(), Error>), Error> {
    let (mut feed, page, database) = parts(settings, progress, stop).await?;

    // The bot.
    let portfolio = Portfolio::new(settings.strategy.cash);
    let venue = place.venue.clone();
    let (halt, latencies) = (Halt::default(), latency::Recorder::default());
    let gate = Gate::new(venue.clone(), halt.clone());
    let shards = if settings.orders.log.is_some() { Shards::default() } else { Shards::without_log(&venue) };
    let sinks = (portfolio.clone(), gate.clone(), database.sink);
    let (batchers, workers, meters) = open(settings, page.as_ref(), &latencies, &shards, sinks).await?;
    place.own();
    opened.get_or_init(|| batchers.clone());

    // The page, the progress and the observer.
    let scene = Scene {
        settings,
        batchers: batchers.clone(),
        latencies: latencies.clone(),
        portfolio: portfolio.clone(),
        halt: halt.clone(),
        gate,
        shards: shards.clone(),
        feed_title: feed.title.clone(),
        database_title: database.title.clone(),
        progress: progress.clone(),
        stop: stop.clone(),
    };
    let page = page.map(|page| page.serve(scene)).transpose()?;
    let display = tokio::spawn(progress.clone().show(batchers.clone(), portfolio.clone(), settings.progress));
    let ticker = page.as_ref().map(Serving::ticker);
    let observer = RunObserver::new(ticker, settings.unbatched.sample, &batchers.orders, progress);

    // The run.
    report::say_found(batchers.orders.log_stats().as_ref(), progress);
    let parts = (batchers.clone(), venue.clone(), portfolio.clone());
    let mut trader = Trader::new(parts, &settings.strategy, (shards, halt), observer);
    let began = Instant::now();
    let traded = trader.run(&mut feed, stop, settings.drain).await;
    let seconds = began.elapsed().as_secs_f64();

    // The end of the run. However the feed ended, waiting ops are written, and the last verdicts are handled.
    let end = drain(&batchers, workers, page.as_ref(), settings.drain, (progress, display), seconds).await?;
    let (RunObserver { sample, decisions, verdicts, held, .. }, taken) = trader.finish().await?;
    Serving::close(page, end.unsettled()).await;

    let report = Report {
        feed: feed.title,
        strict: settings.replay.strict,
        seconds,
        measured: report::Measured::new(settings, &end, &meters, &latencies, seconds),
        quota: report::QuotaUse::new(venue.counts().await, &end.batchers.orders, held.unsent),
        order_batches: report::OrderBatches::new(&decisions, seconds, &settings.orders.batcher.limits),
        unbatched: unbatched::measure(sample, settings, &portfolio, database.file.as_deref()).await,
        log: report::LogUse::new(settings.orders.log.as_ref(), taken, end.batchers.log.as_ref()),
        rejections: end.batchers.rejections.clone(),
        end,
        rows: feed.log,
        verdicts,
        portfolio: report::Valuation::new(settings.strategy.cash, &portfolio),
        database: database.title,
    };
    Ok((report, traded))
}

/// Opens the parts that may fail to open, before anything is traded.
async fn parts(
    settings: &Settings,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<(Feed, Option<Page>, Database), Error> {
    let feed = Feed::start(settings, stop.clone(), progress)?;
    let page = Page::bind(settings.page.as_ref()).await?;
    let database = database::open(settings.database.as_ref(), progress).await?;
    Ok((feed, page, database))
}

/// Ends all batchers once their ops are settled, each in the given time at most, and then the display. Says so if there are such
/// ops.
async fn drain(
    batchers: &Batchers,
    workers: Workers,
    page: Option<&Serving>,
    within: Duration,
    (progress, display): (&Progress, JoinHandle<()>),
    ran_seconds: f64,
) -> Result<Drained, Error> {
    let (began, backlog) = (Instant::now(), batchers.unsettled());
    if backlog > 0 {
        let backlog = format::count(backlog);
        progress.say(&format!("{ran_seconds:.1} s: the feed has ended; {backlog} operations are still to be settled"));
    }
    Serving::release(page).await;
    let batchers = workers.shutdown(within).await;
    display.abort();
    progress.finish();
    let batchers = batchers?;
    Ok(Drained::new(backlog, began.elapsed().as_secs_f64(), batchers))
}

/// Opens the batchers, with sinks that are metered for the report and watched for the page, and ops that are timed for
/// both.
async fn open(
    settings: &Settings,
    page: Option<&Page>,
    latencies: &latency::Recorder,
    shards: &Shards,
    (portfolio, gate, database): (Portfolio, Gate, BoxSink<Tick>),
) -> Result<(Batchers, Workers, Meters), Error> {
    let (prices_sink, prices) = Metered::new(Page::watched(page, "prices", portfolio));
    let (watched, orders) = (Page::watcher(page, "orders"), Arc::new(Meter::default()));
    let meter = Arc::clone(&orders);
    let orders_sink = move |gate: Gate| Metered::with(watched(gate), Arc::clone(&meter));
    let (trades_sink, trades) = Metered::new(Page::watched(page, "trades", database));
    // The batcher on a log makes its metrics in tasks of its own.
    metrics::set_global_recorder(latencies.clone()).map_err(|error| error.to_string())?;
    let (batchers, workers) = match &settings.orders.log {
        None => batchers::open(settings.batchers(), prices_sink, orders_sink(gate), trades_sink)?,
        Some(log) => {
            // A venue that is named may have other bots, and so may the log.
            let log = OnLog { settings: log, is_shared: settings.venue.url.is_some(), shards };
            batchers::open_on_log(log, settings.batchers(), prices_sink, (gate, orders_sink), trades_sink).await?
        }
    };
    Ok((batchers, workers, Meters { prices, orders, trades }))
}
