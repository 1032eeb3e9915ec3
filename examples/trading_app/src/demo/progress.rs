//! Progress on stderr: drawn lines on a terminal and plain ones elsewhere, with messages and logs between them. All
//! parts of the demo print through [`Progress`], so that nothing tears what is drawn.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use roundlot::Stats;
use rust_decimal::Decimal;
use tokio::time::{Instant, interval};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    bot::{Error, batchers::Batchers, portfolio::Portfolio},
    demo::format,
};

/// The display. A clone draws on the same lines.
#[derive(Clone)]
pub struct Progress {
    /// The drawn lines; `None` if stderr is no terminal.
    bar: Option<ProgressBar>,
}

/// Time between two drawings on a terminal.
const REDRAW: Duration = Duration::from_millis(200);

impl Progress {
    /// Prepares the display, and lets `tracing` print its events.
    pub fn start(log: &str) -> Result<Self, Error> {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.with_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let filter = EnvFilter::try_new(log).map_err(|error| format!("log = {log:?}: {error}"))?;
        let progress = Self { bar };
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(progress.bar.is_some())
            .with_writer(progress.clone())
            .try_init()?;
        Ok(progress)
    }

    /// Returns a display without a terminal and logs.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self { bar: None }
    }

    /// Prints a message.
    pub fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(message)),
            None => print(message),
        }
    }

    /// Shows the state of the run, until it is aborted.
    pub async fn show(self, batchers: Batchers, portfolio: Portfolio, period: Duration) {
        let period = if self.bar.is_some() { REDRAW } else { period.max(Duration::from_millis(1)) };
        let mut clock = interval(period);
        let began = clock.tick().await;
        let mut before = Now::default();
        loop {
            clock.tick().await;
            let now = Now::of(&batchers, &portfolio, began);
            match &self.bar {
                Some(bar) => bar.set_message(now.drawn()),
                None => print(&now.plain(&before)),
            }
            before = now;
        }
    }

    /// Removes what is drawn.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints a line to stderr. Errors are ignored, since a closed reader is no reason to stop trading.
pub fn print(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The state of the run at one moment.
#[derive(Default)]
struct Now {
    passed: Duration,
    value: Decimal,
    prices: Stats,
    orders: Stats,
    trades: Stats,
}

impl Now {
    fn of(batchers: &Batchers, portfolio: &Portfolio, began: Instant) -> Self {
        Self {
            passed: began.elapsed(),
            value: portfolio.value(),
            prices: batchers.prices.stats(),
            orders: batchers.orders.stats(),
            trades: batchers.trades.stats(),
        }
    }

    fn batchers(&self) -> [(&'static str, &Stats); 3] {
        [("prices", &self.prices), ("orders", &self.orders), ("trades", &self.trades)]
    }

    fn operations(&self) -> u64 {
        self.batchers().iter().map(|(_, stats)| stats.accepted).sum()
    }

    fn rate(&self, since: &Self) -> String {
        let seconds = self.passed.saturating_sub(since.passed).as_secs_f64();
        let operations = self.operations().saturating_sub(since.operations());
        format::count((operations as f64 / seconds.max(0.001)) as u64)
    }

    /// Formats the state as a table of five lines.
    fn drawn(&self) -> String {
        let mut text = format!(
            "{:>6.1} s {:>12} operations {:>9} per second   portfolio {}\n\
             {:>19} {:>11} {:>9} {:>9} {:>9} {:>9}\n",
            self.passed.as_secs_f64(),
            format::count(self.operations()),
            self.rate(&Self::default()),
            format::money(self.value),
            "so far operations",
            "never sent",
            "batches",
            "mean size",
            "in buffer",
            "queued",
        );
        for (name, stats) in self.batchers() {
            let line = format!(
                "  {name} {:>10} {:>11} {:>9} {:>9.1} {:>9} {:>9}\n",
                format::count(stats.accepted),
                format::count(stats.outcomes.conflated + stats.outcomes.netted),
                format::count(stats.batches),
                stats.mean_batch(),
                format::time(stats.in_buffer.mean),
                format::count(stats.waiting + stats.in_flight),
            );
            text.push_str(&line);
        }
        text.trim_end().to_owned()
    }

    /// Formats the state as one line: the rate since the line before, and means since the start of the run.
    fn plain(&self, before: &Self) -> String {
        let text = format!(
            "{:.1} s: {} operations, {} per second now; so far",
            self.passed.as_secs_f64(),
            format::count(self.operations()),
            self.rate(before)
        );
        let parts = self.batchers().map(|(name, stats)| {
            let (size, time) = (stats.mean_batch(), format::time(stats.in_buffer.mean));
            format!(" {name} {size:.1} per batch, {time} in buffer")
        });
        text + &parts.join(";")
    }
}

impl<'a> MakeWriter<'a> for Progress {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Writes logs above the drawn lines. Errors are dropped, since `tracing` would report them to the same place.
impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = match &self.bar {
            Some(bar) => bar.suspend(|| io::stderr().write_all(bytes)),
            None => io::stderr().write_all(bytes),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_fit_a_terminal() {
        let mut now = Now { passed: Duration::from_secs(3599), value: Decimal::from(1_000_000), ..Now::default() };
        for stats in [&mut now.prices, &mut now.orders, &mut now.trades] {
            stats.accepted = 36_000_000;
            stats.outcomes.conflated = 18_000_000;
            stats.batches = 999_999;
            stats.written = 36_000_000;
            stats.waiting = 20_000;
            stats.in_buffer.mean = Duration::from_micros(123_456);
        }
        let drawn = now.drawn();
        assert_eq!(drawn.lines().count(), 5);
        assert!(drawn.lines().all(|line| line.len() < 80), "{drawn}");
        let mut before = Now { passed: Duration::from_secs(3598), ..Now::default() };
        before.prices.accepted = 107_996_000;
        let expected =
            "3599.0 s: 108,000,000 operations, 4,000 per second now; so far prices 36.0 per batch, 123 ms in";
        assert!(now.plain(&before).starts_with(expected), "{}", now.plain(&before));
    }
}
