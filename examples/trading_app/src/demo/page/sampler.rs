//! The statistics of the page. Twice a second [`Sampler`] publishes the state of the app and of each batcher, and the
//! differences since the sample before. `page` runs it as a task.

use std::{collections::VecDeque, path::Path, time::Duration};

use roundlot::{Feed, Limits, Stats, sink::websocket::WebSocket};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    board::Board,
    buckets::{BUCKETS, bucket},
    equity::{self, Curve},
    errors::Errors,
    event::{self, App, Batcher, Event, Flow, Latency, Leads, SAMPLES, Sample, Topic},
};
use crate::{
    bot::{batchers::Batchers, kill_switch::Halt, portfolio::Portfolio, shards::Shards},
    demo::{
        format,
        latency::{Excerpt, Latencies, Percentiles, Recorder},
        settings::Settings,
    },
};

const PERIOD: Duration = Duration::from_millis(500);

pub struct Sampler {
    pub feed: Feed<Event, Topic>,
    pub board: Board,
    pub screen: WebSocket<Event>,
    pub batchers: Batchers,
    pub latencies: Recorder,
    pub portfolio: Portfolio,
    pub errors: Errors,
    pub halt: Halt,
    pub shards: Shards,
    /// Canceled when the app begins to drain.
    pub stop: CancellationToken,
    /// Canceled when the app has drained.
    pub done: CancellationToken,
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
            ("orders", "venue".to_owned(), settings.orders.batcher.limits.clone()),
            // The page shows no folder, since not every viewer may know it.
            ("trades", database.clone(), settings.trades.limits.clone()),
        ];
        let shards = settings.orders.log.as_ref().map(|log| log.shards).filter(|shards| *shards > 1);
        let leads = shards.map(|shards| Leads { shards, ..Leads::default() });
        Self { app: App { run, feed, database, leads, ..App::default() }, batchers }
    }
}

impl Sampler {
    /// Publishes until the app has drained, and then its last state.
    pub async fn run(self, facts: Facts) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = clock.tick().await;
        let (mut last, mut before) = (began, self.stats());
        let (mut minutes, mut curve): ([Minute; 3], _) = (Default::default(), Curve::new(PERIOD.as_secs_f64()));
        self.publish_state(&facts, began, &mut minutes, &mut curve);
        for n in 0.. {
            let Some(now) = self.done.run_until_cancelled(clock.tick()).await else { break };
            let latencies = self.publish_state(&facts, began, &mut minutes, &mut curve);
            let (stats, seconds) = (self.stats(), (now - last).as_secs_f64());
            let flows = facts.batchers.iter().enumerate().map(|(i, (name, ..))| {
                let flow = Flow { latency: latencies[i], ..flow(&before[i], &stats[i], seconds) };
                (*name, flow)
            });
            self.publish(Event::Sample(Box::new(Sample { n, batchers: flows.collect() })));
            (last, before) = (now, stats);
        }
        self.publish_state(&facts, began, &mut minutes, &mut curve);
    }

    /// Publishes all but a sample. Returns the times of each batcher since the last call.
    fn publish_state(
        &self,
        facts: &Facts,
        began: Instant,
        minutes: &mut [Minute; 3],
        curve: &mut Curve,
    ) -> [Option<Latency>; 3] {
        self.publish(Event::App(Box::new(self.app(&facts.app, began))));
        self.publish(Event::Verdicts(Box::new(self.board.verdicts())));
        self.publish(Event::Errors(event::Errors { rows: self.errors.rows() }));
        self.publish_portfolio(curve);
        let (stats, mut latencies) = (self.stats(), [None; 3]);
        for (i, (name, to, limits)) in facts.batchers.iter().enumerate() {
            let times = self.latencies.take(name);
            latencies[i] = latency(&times);
            minutes[i].add(times);
            let halted = *name == "orders" && self.halt.is_halted();
            let (to, limits, stats) = (to.clone(), limits.clone(), stats[i].clone());
            let (latency, times) = (minutes[i].latencies.percentiles(), minutes[i].buckets());
            let batcher = Batcher { name, to, halted, limits, stats, latency, times };
            self.publish(Event::Batcher(Box::new(batcher)));
        }
        latencies
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

    fn app(&self, facts: &App, began: Instant) -> App {
        let (frames, taken) = (self.screen.stats(), self.shards.taken());
        let of_log = |leads: &Leads| Leads { led: taken.leads.clone(), takeovers: taken.takeovers, ..*leads };
        App {
            leads: facts.leads.as_ref().map(of_log),
            seconds: began.elapsed().as_secs_f64(),
            stopping: self.stop.is_cancelled(),
            unsettled: self.batchers.unsettled(),
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

/// Times in one buffer during the last minute; during the first minute, since the start.
#[derive(Default)]
struct Minute {
    /// Times of each sample, the oldest first.
    samples: VecDeque<Excerpt>,
    latencies: Latencies,
}

impl Minute {
    /// Adds the newest sample, and forgets the one that is a minute old.
    fn add(&mut self, sample: Excerpt) {
        self.samples.push_back(sample);
        if self.samples.len() as u64 > SAMPLES {
            self.samples.pop_front();
        }
        self.latencies.clear();
        self.samples.iter().for_each(|sample| self.latencies.add(sample));
    }

    /// Returns the number of ops in each bucket.
    fn buckets(&self) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS];
        for (nanos, count) in self.samples.iter().flat_map(|sample| &sample.times) {
            counts[bucket(*nanos as f64 / 1e9)] += count;
        }
        counts
    }
}

/// Returns the times of a sample; `None` if it has no ops.
fn latency(sample: &Excerpt) -> Option<Latency> {
    let mut latencies = Latencies::default();
    latencies.add(sample);
    let Percentiles { count, p50, p99, max, .. } = latencies.percentiles();
    let [p50, p99, max] = [p50, p99, max].map(|seconds| seconds * 1e3);
    (count > 0).then_some(Latency { p50, p99, max })
}

fn flow(old: &Stats, new: &Stats, seconds: f64) -> Flow {
    let per_second = |count: u64| count as f64 / seconds.max(0.001);
    let share = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
    let batches = new.batches - old.batches;
    // Ops that were handed over to another bot are its own from then on.
    let accepted = new.accepted.saturating_sub(old.accepted);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_forgets_what_is_older() {
        let mut minute = Minute::default();
        let sample = |nanos| Excerpt { times: vec![(nanos, 2)], max: nanos };
        minute.add(sample(2_000_000_000));
        (1..SAMPLES).for_each(|_| minute.add(sample(1_000_000)));
        assert_eq!((minute.latencies.percentiles().count, minute.latencies.percentiles().max), (2 * SAMPLES, 2.0));
        assert_eq!((minute.buckets()[4], minute.buckets()[26]), (2 * SAMPLES - 2, 2));
        minute.add(Excerpt::default());
        let Percentiles { count, p50, max, .. } = minute.latencies.percentiles();
        assert_eq!((count, p50, max), (2 * SAMPLES - 2, 0.001, 0.001));
    }
}
