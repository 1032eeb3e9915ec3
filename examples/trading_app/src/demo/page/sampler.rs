//! The statistics of the page. Twice a second [`Sampler`] publishes the state of the app and of each batcher, and the
//! differences since the sample before. `page` runs it as a task.

use std::{collections::VecDeque, path::Path, time::Duration};

use roundlot::{Feed, Limits, Stats, sink::websocket::WebSocket};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    board::Board,
    equity::{self, Curve},
    errors::Errors,
    event::{self, App, Batcher, Event, Flow, Latency, SAMPLES, Sample, Topic},
    histogram::{Counts, Recorder, quantile},
};
use crate::{
    bot::{batchers::Batchers, kill_switch::Halt, portfolio::Portfolio},
    demo::{format, settings::Settings},
};

const PERIOD: Duration = Duration::from_millis(500);

pub struct Sampler {
    pub feed: Feed<Event, Topic>,
    pub board: Board,
    pub screen: WebSocket<Event>,
    pub batchers: Batchers,
    pub portfolio: Portfolio,
    pub errors: Errors,
}

/// Facts that stay the same during a run.
pub struct Facts {
    app: App,
    batchers: [(&'static str, String, Limits); 3],
}

impl Facts {
    pub fn new(settings: &Settings, feed: String, database: String, run: String) -> Self {
        let database = Path::new(&database).file_name().map_or_else(String::new, |name| name.display().to_string());
        let batchers = [
            ("prices", "portfolio".to_owned(), settings.prices.limits.clone()),
            ("orders", "venue".to_owned(), settings.orders.limits.clone()),
            // The page shows no folder, since not every viewer may know it.
            ("trades", database.clone(), settings.trades.limits.clone()),
        ];
        Self { app: App { run, feed, database, ..App::default() }, batchers }
    }
}

impl Sampler {
    /// Runs until the task is aborted.
    pub async fn run(self, facts: Facts, recorder: Recorder, halt: Halt, stop: CancellationToken) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = clock.tick().await;
        let (mut last, mut before) = (began, self.stats());
        let mut minutes: [VecDeque<Counts>; 3] = Default::default();
        let mut curve = Curve::new(PERIOD.as_secs_f64());
        for n in 0.. {
            self.publish(Event::App(Box::new(self.app(&facts.app, began, &stop))));
            self.publish(Event::Verdicts(Box::new(self.board.verdicts())));
            self.publish(Event::Errors(event::Errors { rows: self.errors.rows() }));
            self.publish_portfolio(&mut curve);
            let stats = self.stats();
            let mut latencies = [None; 3];
            for (i, (name, to, limits)) in facts.batchers.iter().enumerate() {
                let (counts, longest) = recorder.take(name);
                latencies[i] = latency(&since(minutes[i].back(), &counts), longest);
                let times = last_minute(&mut minutes[i], counts);
                let halted = *name == "orders" && halt.is_halted();
                let (to, limits, stats) = (to.clone(), limits.clone(), stats[i].clone());
                let batcher = Batcher { name, to, halted, limits, stats, times };
                self.publish(Event::Batcher(Box::new(batcher)));
            }
            let now = clock.tick().await;
            let (stats, seconds) = (self.stats(), (now - last).as_secs_f64());
            let flows = facts.batchers.iter().enumerate().map(|(i, (name, ..))| {
                let flow = Flow { latency: latencies[i], ..flow(&before[i], &stats[i], seconds) };
                (*name, flow)
            });
            self.publish(Event::Sample(Box::new(Sample { n, batchers: flows.collect() })));
            (last, before) = (now, stats);
        }
    }

    fn publish_portfolio(&self, curve: &mut Curve) {
        let statement = self.portfolio.statement();
        if let Some(equity) = curve.add(equity::equity(&statement)) {
            self.publish(Event::Equity(equity));
        }
        self.publish(Event::Positions(Box::new(equity::positions(&statement))));
    }

    fn publish(&self, event: Event) {
        // The feed is closed only at the end of the run, when there is no page.
        let _ = self.feed.publish(event);
    }

    fn stats(&self) -> [Stats; 3] {
        [self.batchers.prices.stats(), self.batchers.orders.stats(), self.batchers.trades.stats()]
    }

    fn app(&self, facts: &App, began: Instant, stop: &CancellationToken) -> App {
        let frames = self.screen.stats();
        App {
            seconds: began.elapsed().as_secs_f64(),
            stopping: stop.is_cancelled(),
            operations: self.stats().iter().map(|stats| stats.accepted).sum(),
            portfolio: format::money(self.portfolio.value()),
            fills: self.portfolio.fills(),
            browsers: self.feed.stats().subscribers,
            frames,
            frames_saved: frames.frames_saved(),
            bytes_saved: frames.bytes_saved(),
            ..facts.clone()
        }
    }
}

/// Returns the counts of the last minute, from the counts of the whole run.
fn last_minute(minute: &mut VecDeque<Counts>, now: Counts) -> Vec<u64> {
    minute.push_back(now);
    if minute.len() as u64 > SAMPLES + 1 {
        minute.pop_front();
    }
    // During the first minute, the whole run counts.
    let before = minute.front().filter(|_| minute.len() as u64 > SAMPLES);
    since(before, &now).to_vec()
}

/// Returns the counts since those of an earlier moment, or since the start.
fn since(before: Option<&Counts>, now: &Counts) -> Counts {
    std::array::from_fn(|i| now[i] - before.map_or(0, |before| before[i]))
}

/// Returns the times of a sample from its counts and its longest time, in seconds. The upper edge of a bucket may be
/// above the longest time, which is exact.
fn latency(counts: &Counts, longest: f64) -> Option<Latency> {
    let part = |part| quantile(counts, part).map(|edge| edge.min(longest) * 1e3);
    Some(Latency { p50: part(0.5)?, p99: part(0.99)?, max: longest * 1e3 })
}

fn flow(old: &Stats, new: &Stats, seconds: f64) -> Flow {
    let per_second = |count: u64| count as f64 / seconds.max(0.001);
    let share = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
    let batches = new.batches - old.batches;
    let accepted = new.accepted - old.accepted;
    let filled = new.fill_mean * new.batches as f64 - old.fill_mean * old.batches as f64;
    let merged = (new.outcomes.conflated + new.outcomes.netted) - (old.outcomes.conflated + old.outcomes.netted);
    Flow {
        rate: per_second(accepted),
        size: share((new.written - old.written) as f64, batches),
        fill: share(filled, batches).map(|fill| fill.clamp(0.0, 1.0)),
        merged: share(merged as f64, accepted).map(|merged| merged.min(1.0)),
        retries: per_second(new.retries - old.retries),
        waiting: new.waiting,
        latency: None,
    }
}
