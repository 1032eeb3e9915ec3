//! The statistics of the board. Twice a second [`Sampler`] publishes the state of each batcher and the differences since the sample
//! before. `Board::start` runs it as a task.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use roundlot::{CancellationToken, Stats, sink::websocket::WebSocket};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    buckets::{BUCKETS, bucket},
    control::Control,
    errors::Errors,
    event::{App, Batcher, Body, Event, Flow, Latency, SAMPLES, Sample},
    latency::{Excerpt, Latencies, Percentiles, Recorder},
    live::Publisher,
    watch::Watched,
};

const PERIOD: Duration = Duration::from_millis(500);

pub(crate) struct Sampler {
    pub(crate) publisher: Publisher,
    pub(crate) screen: WebSocket<Event>,
    pub(crate) watched: Arc<[Watched]>,
    pub(crate) times: Option<Recorder>,
    pub(crate) errors: Errors,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) title: String,
    /// Id of this run of the app.
    pub(crate) run: String,
    /// Canceled when the app begins to drain.
    pub(crate) stopping: CancellationToken,
    /// Canceled when the app has drained.
    pub(crate) done: CancellationToken,
}

impl Sampler {
    /// Publishes until the app has drained, and then its last state. Returns the number of ops in the whole run.
    pub(crate) async fn run(self) -> u64 {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = clock.tick().await;
        let (mut last, mut before) = (began, self.stats());
        let mut minutes: Vec<Minute> = self.watched.iter().map(|_| Minute::default()).collect();
        self.publish_state(&before, began, &mut minutes);
        for n in 0.. {
            let Some(now) = self.done.run_until_cancelled(clock.tick()).await else { break };
            let (stats, seconds) = (self.stats(), (now - last).as_secs_f64());
            let latencies = self.publish_state(&stats, began, &mut minutes);
            let flows = self.watched.iter().enumerate().map(|(i, watched)| {
                let flow = Flow { latency: latencies[i], ..flow(&before[i], &stats[i], seconds) };
                (watched.name.as_str(), flow)
            });
            self.publish(&Body::Sample(Sample { n, batchers: flows.collect() }));
            (last, before) = (now, stats);
        }
        let stats = self.stats();
        self.publish_state(&stats, began, &mut minutes);
        stats.iter().map(|stats| stats.accepted).sum()
    }

    /// Publishes all but a sample. Returns the times of each batcher since the last call.
    fn publish_state(&self, stats: &[Stats], began: Instant, minutes: &mut [Minute]) -> Vec<Option<Latency>> {
        self.publish(&Body::App(self.app(stats, began)));
        self.publish(&Body::Errors { rows: self.errors.rows() });
        let batchers = self.watched.iter().zip(stats).zip(minutes);
        batchers.map(|((watched, stats), minute)| self.publish_batcher(watched, stats, minute)).collect()
    }

    fn publish_batcher(&self, watched: &Watched, stats: &Stats, minute: &mut Minute) -> Option<Latency> {
        let Watched { name, to, limits, .. } = watched;
        let recent = self.times.as_ref().map(|times| times.take(name));
        let sample = recent.as_ref().and_then(latency);
        minute.add(recent.unwrap_or_default());
        let latency = self.times.is_some().then(|| minute.latencies.percentiles());
        let halted = self.control.is_halted(name);
        let (limits, times) = (limits.as_ref(), minute.buckets());
        self.publish(&Body::Batcher(Box::new(Batcher { name, to, halted, limits, stats, latency, times })));
        sample
    }

    fn publish(&self, body: &Body<'_>) {
        // Numbers and texts are always JSON, and the feed is closed only at the end of the run, when there is no page.
        if let Ok(event) = body.event() {
            let _ = self.publisher.send(event);
        }
    }

    fn stats(&self) -> Vec<Stats> {
        self.watched.iter().map(|watched| watched.batcher.stats()).collect()
    }

    fn app<'a>(&'a self, stats: &[Stats], began: Instant) -> App<'a> {
        let frames = self.screen.stats();
        App {
            run: &self.run,
            title: &self.title,
            batchers: self.watched.iter().map(|watched| watched.name.as_str()).collect(),
            seconds: began.elapsed().as_secs_f64(),
            stopping: self.stopping.is_cancelled(),
            unsettled: stats.iter().map(|stats| stats.waiting + stats.in_flight).sum(),
            operations: stats.iter().map(|stats| stats.accepted).sum(),
            browsers: self.publisher.browsers(),
            frames,
            frames_saved: frames.frames_saved(),
            bytes_saved: frames.bytes_saved(),
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

/// A batcher of the app's own kind may count backwards, as a log does whose shards are handed over.
fn flow(old: &Stats, new: &Stats, seconds: f64) -> Flow {
    let per_second = |count: u64| count as f64 / seconds.max(0.001);
    let share = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
    let grown = |count: fn(&Stats) -> u64| count(new).saturating_sub(count(old));
    let (batches, accepted) = (grown(|stats| stats.batches), grown(|stats| stats.accepted));
    let filled = new.fill_mean * new.batches as f64 - old.fill_mean * old.batches as f64;
    let merged = grown(|stats| stats.outcomes.conflated + stats.outcomes.netted);
    Flow {
        rate: per_second(accepted),
        size: share(grown(|stats| stats.written) as f64, batches),
        fill: share(filled, batches).map(|fill| fill.clamp(0.0, 1.0)),
        merged: share(merged as f64, accepted).map(|merged| merged.min(1.0)),
        retries: per_second(grown(|stats| stats.retries)),
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
