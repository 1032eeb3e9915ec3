//! The command line. [`Cli`] holds arguments and their environment variables; `settings` lets them override the
//! configuration file.

use std::{path::PathBuf, str::FromStr};

use clap::{
    Parser, Subcommand,
    builder::{FalseyValueParser, PathBufValueParser, TypedValueParser},
};
use tracing::level_filters::LevelFilter;

use crate::{
    demo::settings::{Address, LogName, Named, Settings, Url},
    paper_venue,
};

/// A trading bot on roundlot: prices, orders and trades in batches.
///
/// Without arguments it watches 100 simulated pairs for 10 seconds: each gets about 10 price updates a second, and each
/// update recalculates the portfolio, moves trailing stops, checks entries and exits, and is written to the trade log.
/// That is about 4,000 operations a second, which leave in batches: prices for the valuation of the portfolio, orders
/// for a paper venue, trades for a database. It ends with a report. Ctrl-C ends it earlier, and nothing is lost.
#[derive(Debug, Default, Parser)]
#[command(version, after_long_help = MORE, max_term_width = 80)]
pub struct Cli {
    /// Replay this CSV file instead of the simulated feed.
    ///
    /// The columns are found by the names in its header, or, for the trade dumps that Binance publishes, by their
    /// shape; any other file is described in the section `replay` of the configuration.
    #[arg(long, value_name = "FILE", env = "ROUNDLOT_REPLAY")]
    pub replay: Option<PathBuf>,

    /// How fast to replay: 1 is recorded time, 2 twice as fast, 0 as fast as possible.
    #[arg(long, value_name = "FACTOR", env = "ROUNDLOT_SPEED", value_parser = speed, allow_negative_numbers = true)]
    pub speed: Option<f64>,

    /// End with an error at the first bad row of the file, after what came before it is written.
    ///
    /// Otherwise a bad row is reported with its line number, counted and left out.
    #[arg(
        long,
        env = "ROUNDLOT_STRICT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        value_parser = FalseyValueParser::new()
    )]
    pub strict: Option<bool>,

    /// How long to run; 0: until Ctrl-C, or to the end of the file.
    ///
    /// If it isn't given, the simulated feed runs for 10 seconds and a file to its end.
    #[arg(long, value_name = "N", env = "ROUNDLOT_SECONDS")]
    pub seconds: Option<u64>,

    /// Seed of the simulated feed and of the paper venue: the same seed, the same prices.
    #[arg(long, value_name = "N", env = "ROUNDLOT_SEED")]
    pub seed: Option<u64>,

    /// The database whose table `trades` gets every trade: sqlite:PATH, PATH alone, or a postgres:// URL.
    ///
    /// A file that exists is kept, and rows are added to it; so it is with the table of a server. If none is given,
    /// `trading_app.db` in the current folder is made anew by each run, one run at a time. What a URL leaves out comes
    /// from PGUSER, PGPASSWORD and the like; a password is better there than on a command line, which others can see.
    #[arg(
        long,
        value_name = "DATABASE",
        env = "ROUNDLOT_DATABASE",
        hide_env_values = true,
        value_parser = PathBufValueParser::new().map(Named::from)
    )]
    pub database: Option<Named>,

    /// Serve the live page here, such as localhost:8080: prices, batchers and orders as they are, and the kill switch.
    ///
    /// Its buttons need the token that is printed at the start.
    #[arg(long, value_name = "HOST:PORT", env = "ROUNDLOT_PAGE")]
    pub page: Option<Address>,

    /// Let the page be served on an address that other machines can reach. Their users may then watch.
    #[arg(long)]
    pub page_open_to_all: bool,

    /// Write the report to this file, too, as JSON, with the full accounting of each batcher.
    #[arg(long, value_name = "FILE", env = "ROUNDLOT_REPORT")]
    pub report: Option<PathBuf>,

    /// The configuration file. If it isn't given, `config/trading_app.toml`, where there is one.
    #[arg(long, value_name = "FILE", env = "ROUNDLOT_CONFIG")]
    pub config: Option<PathBuf>,

    /// Override any setting of the configuration file, for example `orders.limits.max_items=10`. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,

    /// Keep the orders in this log, a file or a postgres:// or nats:// URL, so that they survive the program: what is accepted and not
    /// yet sent when it is killed is sent by the next run.
    ///
    /// The paper venue is then a program of its own beside the file, which outlives a run that is killed. A log on servers needs
    /// --venue. One in NATS, by the URLs of its servers with commas between them, needs --ledger, too.
    #[arg(long, value_name = "FILE or URL", value_parser = PathBufValueParser::new().try_map(log))]
    pub log: Option<LogName>,

    /// The database of the ledger of a log in NATS: a postgres:// URL.
    #[arg(long, value_name = "URL")]
    pub ledger: Option<Url>,

    /// Send the orders to a paper venue that runs already, such as http://127.0.0.1:8081: see `trading_app venue --help`.
    #[arg(long, value_name = "URL")]
    pub venue: Option<String>,

    /// Log filter of stderr: a level such as `info`, or filters such as `warn,roundlot=debug`.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG")]
    pub log_filter: Option<String>,

    #[command(subcommand)]
    pub program: Option<Program>,
}

/// Other programs than the bot.
#[derive(Debug, Clone, Subcommand)]
pub enum Program {
    Venue(paper_venue::Program),
}

const MORE: &str = "\
Settings:
  Every setting has a default, and stands with a comment in
  config/trading_app.toml. A file may leave out what it doesn't change.
  Environment variables override the file: ROUNDLOT_, the sections and the
  name, joined by two underscores, such as ROUNDLOT_ORDERS__LIMITS__MAX_ITEMS=10.
  The command line overrides both. A setting that doesn't exist is an error
  that names it.

Output:
  Progress and messages go to stderr, the report to stdout. Progress is drawn
  if stderr is a terminal, and is a plain line now and then if not.

Exit status:
  0    all went well; Ctrl-C, SIGTERM and SIGHUP are no failures
  1    something is wrong with the settings or the file, no row of it could
       be read, --strict met a bad row, or something could not be written
  2    the command line is wrong
  130  another of these signals, half a second after the first or later,
       which doesn't wait for what is still to be written

Examples:
  trading_app --seconds 60 --seed 7 --report report.json
  trading_app --replay examples/trading_app/data/BTCUSDT-trades-2024-08-08.csv --speed 0
  trading_app --seconds 0 --page localhost:8080
  trading_app --seconds 0 --log orders.db
  trading_app --replay ticks.csv --set replay.time=ts --set replay.time_unit=us
  ROUNDLOT_SIM__PAIRS=500 trading_app --database trades.db";

impl Cli {
    /// Overrides the settings with the arguments of the command line.
    pub fn apply(&self, settings: &mut Settings) {
        fn set<T: Clone>(said: &Option<T>, setting: &mut T) {
            if let Some(value) = said {
                setting.clone_from(value);
            }
        }
        set(&self.speed, &mut settings.replay.speed);
        set(&self.strict, &mut settings.replay.strict);
        set(&self.seed, &mut settings.seed);
        set(&self.log_filter, &mut settings.log);
        settings.replay.file = self.replay.clone().or(settings.replay.file.take());
        settings.seconds = self.seconds.or(settings.seconds);
        settings.database = self.database.clone().or(settings.database.take());
        settings.page = self.page.clone().or(settings.page.take());
        settings.page_open_to_all |= self.page_open_to_all;
        settings.venue.url = self.venue.clone().or(settings.venue.url.take());
        let log = &mut settings.orders.log_settings;
        log.log = self.log.clone().or(log.log.take());
        log.ledger = self.ledger.clone().or(log.ledger.take());
        settings.report = self.report.clone().or(settings.report.take());
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if f64::is_finite(speed) && speed >= 0.0 => Ok(speed),
        _ => Err("it is a number from 0 on".to_owned()),
    }
}

/// Refuses what was a filter when `--log` was the filter of stderr.
fn log(path: PathBuf) -> Result<LogName, String> {
    let is_filter = |text: &str| !text.contains("://") && (text.contains('=') || LevelFilter::from_str(text).is_ok());
    match path.to_str().is_some_and(is_filter) {
        true => Err("it is the file of the log of orders; --log-filter is the filter of stderr".to_owned()),
        false => path.try_into(),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("it is NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            &["--speed", "-1"][..],
            &["--speed", "NaN"],
            &["--set", "seed"],
            &["--seconds", "soon"],
            &["--page", "8080"],
            &["--log", "trace"],
            &["--log", "warn,roundlot=debug"],
            &["--log", "mysql://db/orders"],
            &["venue", "--idle", "soon"],
        ] {
            assert!(Cli::try_parse_from([&["trading_app"], wrong].concat()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_log_is_a_file_or_a_url() {
        for (said, shown) in [
            ("orders.db", "\"orders.db\""),
            ("postgres://bob@db/orders?sslmode=disable", "PostgreSQL"),
            ("nats://bob:secret@n1, nats://n2", "NATS"),
            ("tls://n1", "NATS"),
        ] {
            let cli = Cli::try_parse_from(["trading_app", "--log", said]).unwrap();
            assert_eq!(format!("{:?}", cli.log.unwrap()), shown);
        }
    }
}
