//! [`Arrivals`]: the number of ops that arrive in each millisecond, by kind of load.

use fastrand::Rng;

/// A kind of load, as a share of the destination's capacity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Ten ops per second.
    Trickle,
    /// Independent ops at this share of the capacity.
    Poisson(f64),
    /// 2,000 ops within 100 ms, once a second, as far as the capacity goes.
    Bursts,
    /// 20 %, 120 % and 50 % of the capacity, for a third of the time each.
    Steps,
    /// Clusters of ops that cause further ones, as recorded order flow has (Hawkes, Biometrika 1971); 70 % on average.
    Clustered,
    /// Messages at recorded times, over and over, each with as many ops as make 70 % of the capacity.
    Recorded,
}

/// All loads that the simulator runs.
pub const ALL: [Load; 11] = [
    Load::Trickle,
    Load::Poisson(0.2),
    Load::Poisson(0.5),
    Load::Poisson(0.8),
    Load::Poisson(0.95),
    Load::Poisson(1.1),
    Load::Poisson(1.5),
    Load::Bursts,
    Load::Steps,
    Load::Clustered,
    Load::Recorded,
];

impl Load {
    /// The name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Trickle => "trickle".into(),
            Self::Poisson(share) => format!("{:.0} %", share * 100.0),
            Self::Bursts => "bursts".into(),
            Self::Steps => "steps".into(),
            Self::Clustered => "clustered".into(),
            Self::Recorded => "recorded".into(),
        }
    }
}

/// The ops that arrive in each millisecond.
#[derive(Debug)]
pub struct Arrivals {
    load: Load,
    /// Ops per millisecond at full capacity.
    capacity: f64,
    /// Length of the simulation in milliseconds.
    length: u64,
    /// Excitation of the clustered load.
    excitation: f64,
    recording: Recording,
    rng: Rng,
}

impl Arrivals {
    /// Arrivals of a load before a destination that takes `capacity` ops per second.
    pub fn new(load: Load, capacity: f64, length: u64, seed: u64) -> Self {
        Self {
            load,
            capacity: capacity / 1000.0,
            length,
            excitation: 0.0,
            recording: Recording::new(seed),
            rng: Rng::with_seed(seed),
        }
    }

    /// The number of ops in millisecond `ms`. To be asked in order.
    pub fn count(&mut self, ms: u64) -> usize {
        let rate = match self.load {
            Load::Trickle => 0.01,
            Load::Poisson(share) => share * self.capacity,
            Load::Bursts => {
                let size = 2000.0_f64.min(self.capacity * 900.0);
                if ms % 1000 < 100 { size / 100.0 } else { 0.0 }
            }
            Load::Steps => self.capacity * [0.2, 1.2, 0.5][(3 * ms / self.length.max(1)).min(2) as usize],
            Load::Clustered => self.capacity * 0.21 + self.excitation,
            Load::Recorded => return self.recording.count(ms, 0.7 * self.capacity),
        };
        let count = self.poisson(rate);
        // Each op causes 0.7 others, on average 50 ms later.
        self.excitation = self.excitation * (1.0 - 1.0 / 50.0) + count as f64 * 0.7 / 50.0;
        count
    }

    /// A number with a Poisson distribution (Knuth, TAOCP 2, 3.4.1), in parts small enough for the method.
    fn poisson(&mut self, mut mean: f64) -> usize {
        let mut count = 0;
        while mean > 0.0 {
            let part = mean.min(16.0);
            mean -= part;
            let (limit, mut product) = ((-part).exp(), self.rng.f64());
            while product > limit {
                count += 1;
                product *= self.rng.f64();
            }
        }
        count
    }
}

/// Times between messages, made for this bench.
const RECORDED: &str = include_str!("../../data/arrivals.txt");

/// A recording that is played from some message on, and again from its start when it is over.
#[derive(Debug)]
struct Recording {
    /// Milliseconds between messages.
    gaps: Vec<f64>,
    mean_gap: f64,
    next: usize,
    /// Time of the next message, in milliseconds.
    at: f64,
    /// Part of an op that the messages so far have left over.
    rest: f64,
}

impl Recording {
    fn new(seed: u64) -> Self {
        let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
        let gaps: Vec<f64> = lines.flat_map(str::split_whitespace).filter_map(|gap| gap.parse().ok()).collect();
        let gaps: Vec<f64> = gaps.into_iter().map(|tenths: f64| tenths / 10.0).collect();
        let next = Rng::with_seed(seed).usize(..gaps.len());
        let mean_gap = gaps.iter().sum::<f64>() / gaps.len() as f64;
        Self { at: gaps[next], gaps, mean_gap, next, rest: 0.0 }
    }

    /// The ops of the messages in millisecond `ms`, at `rate` ops per millisecond in the mean.
    fn count(&mut self, ms: u64, rate: f64) -> usize {
        while self.at < (ms + 1) as f64 {
            self.rest += rate * self.mean_gap;
            self.next = (self.next + 1) % self.gaps.len();
            self.at += self.gaps[self.next];
        }
        let count = self.rest.floor();
        self.rest -= count;
        count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_arrives_at_its_rate() {
        for (load, expected) in [
            (Load::Poisson(0.5), 5_000.0),
            (Load::Clustered, 7_000.0),
            (Load::Steps, 19_000.0 / 3.0),
            (Load::Recorded, 7_000.0),
        ] {
            let mut arrivals = Arrivals::new(load, 10_000.0, 60_000, 7);
            let total: usize = (0..60_000).map(|ms| arrivals.count(ms)).sum();
            let rate = total as f64 / 60.0;
            assert!((rate / expected - 1.0).abs() < 0.1, "{load:?}: {rate}");
        }
    }
}
