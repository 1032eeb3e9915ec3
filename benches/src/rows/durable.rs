//! The row `durable`: a log in a file against the same ops by hand and by `persistent-queue`, at a fixed cost of a sync.
//!
//! Each job is a child process. Rounds run all jobs in random order, and a figure is a ratio within a round.

use std::path::Path;

use tempfile::TempDir;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    durable::{
        COMMIT, Confirmed, FILL, INTENT, READ, RECOVER, SEND_LATENCY, SEND_LOCAL, SENDERS, check, jobs,
        shim::{Place, Shim},
    },
    report::{Report, Table, digits, thousands},
    statistics::{Summary, median, paired_ratio},
};

pub(super) const ROW: Row = Row { name: "durable", about: "ops into a log, settled, and back after a crash", run };

/// The time of a job at full scale, in milliseconds.
const JOB_MS: f64 = 250.0;

/// The time of a latency job at full scale, in milliseconds: 100 commits of the slow sync.
const LATENCY_MS: f64 = 500.0;

/// The ops of a recovery at full scale.
const RECOVERED: u64 = 1_000_000;

/// The number of recoveries, a few seconds each.
const RECOVERIES: usize = 3;

/// The number of rounds at most: there are three places, and ten jobs.
const ROUNDS: usize = 9;

/// The jobs that confirm ops for a time, and are killed once.
const RATES: [&str; 8] = [
    jobs::ROWS_64,
    jobs::GROUP_COMMIT,
    jobs::QUEUE,
    jobs::SEND,
    jobs::ROWS_1000,
    jobs::ROWS_DELETED,
    jobs::SEND_ALL,
    jobs::SEND_ALL_CALLS,
];

const LATENCIES: [&str; 4] = [COMMIT, SEND_LATENCY, SEND_LOCAL, INTENT];

fn run(bench: &Bench) -> Result<Report, Error> {
    let shm = Path::new("/dev/shm");
    let memory = if shm.is_dir() { TempDir::new_in(shm)? } else { TempDir::new_in(&bench.folder)? };
    let disk = TempDir::new_in(&bench.folder)?;
    let shim = match Shim::compile(disk.path()) {
        Ok(shim) => shim,
        Err(error) => return Ok(Report::default().note(format!("No figures: the shim does not compile: {error}"))),
    };
    let folder = |parent: &TempDir, name: &str| -> Result<_, Error> {
        let folder = parent.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    let places = [
        Place { name: "150 us", folder: folder(&memory, "150")?, sync_us: Some(150) },
        Place { name: "1 ms", folder: folder(&memory, "1000")?, sync_us: Some(1000) },
        Place { name: "real disk", folder: folder(&disk, "real")?, sync_us: None },
    ];
    // A smoke test runs each job once, since each is a process.
    let is_short = bench.scale < 0.1;
    let rounds = if is_short { 1 } else { bench.rounds.min(ROUNDS) };
    let mut results: Vec<Results> = places.iter().map(|place| Results::new(place.name)).collect();
    let mut dice = fastrand::Rng::with_seed(15);
    for _ in 0..rounds {
        for (place, results) in places.iter().zip(&mut results) {
            let mut order: Vec<usize> = (0..RATES.len() + LATENCIES.len()).collect();
            dice.shuffle(&mut order);
            for i in order {
                results.run(bench, &shim, place, i)?;
            }
        }
    }
    let [fast, slow, real] = &results[..] else { return Err("three places".into()) };
    let mut report = Report { table: table(&results), ..Report::default() };
    for place in &places[..if is_short { 1 } else { 2 }] {
        for job in RATES {
            let (confirmed, found) = check::survives(&shim, place, job)?;
            if job == jobs::SEND || job == jobs::QUEUE {
                report = report.note(format!(
                    "{job}, {}: killed after {} confirmed ops; a second process found {}.",
                    place.name,
                    thousands(confirmed),
                    thousands(found)
                ));
            }
        }
    }
    report = figures(report, fast, slow)?;
    report = real_ratios(report, real);
    let recovery = recovery(bench, &shim, &places[0])?;
    Ok(report
        .note("Files are on a memory disk, where a sync takes 150 us or 1 ms; the real disk is that of the build.")
        .figure("durable_recovery_vs_read", recovery))
}

/// The results of all rounds in one place.
struct Results {
    place: &'static str,
    rates: Vec<Vec<Confirmed>>,
    latencies: Vec<Vec<f64>>,
}

impl Results {
    fn new(place: &'static str) -> Self {
        Self { place, rates: vec![Vec::new(); RATES.len()], latencies: vec![Vec::new(); LATENCIES.len()] }
    }

    /// Runs a job by its number: rates first, then latencies.
    fn run(&mut self, bench: &Bench, shim: &Shim, place: &Place, i: usize) -> Result<(), Error> {
        let ms = |full: f64| (full * bench.scale).max(20.0) as u64;
        if let Some(job) = RATES.get(i) {
            let numbers = shim.run(job, ms(JOB_MS), place)?;
            self.rates[i].push(Confirmed::read(&numbers).ok_or("a job with other results")?);
        } else {
            let i = i - RATES.len();
            self.latencies[i].extend(shim.run(LATENCIES[i], ms(LATENCY_MS), place)?);
        }
        Ok(())
    }

    fn of(&self, job: &str) -> &[Confirmed] {
        RATES.iter().position(|name| *name == job).map_or(&[], |i| &self.rates[i])
    }

    fn each(&self, job: &str, value: impl Fn(&Confirmed) -> f64) -> Vec<f64> {
        self.of(job).iter().map(value).collect()
    }

    /// The median ratio of the rates of two jobs within a round.
    fn ratio(&self, job: &str, to: &str) -> f64 {
        paired_ratio(&self.each(job, accepted), &self.each(to, accepted))
    }

    fn latency(&self, job: &str) -> f64 {
        let of = |job: &str| LATENCIES.iter().position(|name| *name == job).map_or(&[][..], |i| &self.latencies[i]);
        paired_ratio(of(job), of(COMMIT))
    }
}

fn accepted(confirmed: &Confirmed) -> f64 {
    confirmed.ops / confirmed.accepted
}

fn settled(confirmed: &Confirmed) -> f64 {
    confirmed.ops / confirmed.settled
}

fn table(results: &[Results]) -> Table {
    let head = ["job", "sync", "ops/s", "quartiles", "settled/s", "ops/sync", "CPU us/op"];
    let mut table = Table::new(head);
    for (job, place) in RATES.iter().flat_map(|job| results.iter().map(move |results| (job, results))) {
        let rate = Summary::of(&place.each(job, accepted));
        let of = |value: fn(&Confirmed) -> f64| digits(median(&place.each(job, value)));
        table = table.row([
            job.trim_start_matches("durable ").into(),
            place.place.into(),
            thousands(rate.median),
            format!("{} .. {}", thousands(rate.low), thousands(rate.high)),
            of(settled),
            of(|run| run.ops / run.syncs_accepted.max(1.0)),
            of(|run| run.cpu_ns_per_op / 1000.0),
        ]);
    }
    for (i, job) in LATENCIES.iter().enumerate() {
        for place in results {
            let time = Summary::of(&place.latencies[i]);
            table = table.row([
                format!("{}, p50 in us", job.trim_start_matches("durable ")),
                place.place.into(),
                digits(time.median / 1000.0),
                format!("{} .. {}", digits(time.low / 1000.0), digits(time.high / 1000.0)),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
    }
    table
}

/// The figures, each the worse of the two costs of a sync.
fn figures(report: Report, fast: &Results, slow: &Results) -> Result<Report, Error> {
    let least = |of: &dyn Fn(&Results) -> f64| of(fast).min(of(slow));
    let most = |of: &dyn Fn(&Results) -> f64| of(fast).max(of(slow));
    let per_sync = |place: &Results| median(&place.each(jobs::SEND, |run| run.ops / run.syncs_accepted));
    let per_settled = |place: &Results| median(&place.each(jobs::SEND_ALL, |run| run.syncs_settled / run.ops));
    let settled_vs_rows =
        |place: &Results| paired_ratio(&place.each(jobs::SEND_ALL, settled), &place.each(jobs::ROWS_DELETED, accepted));
    for place in [fast, slow] {
        // Fewer syncs than rounds of acks mean that the shim counts something else, or that a commit was skipped.
        if place.of(jobs::SEND).iter().any(|run| run.ops / run.syncs_accepted > SENDERS as f64)
            || place.of(jobs::SEND_ALL).iter().any(|run| run.syncs_accepted * 1000.0 < run.ops)
        {
            return Err("ops were confirmed without a sync".into());
        }
    }
    Ok(report
        .figure("durable_send_64_vs_rows", least(&|place| place.ratio(jobs::SEND, jobs::ROWS_64)))
        .figure("durable_ops_per_sync_64", least(&per_sync))
        .figure("durable_send_all_vs_rows", least(&|place| place.ratio(jobs::SEND_ALL, jobs::ROWS_1000)))
        .figure("durable_send_all_calls_vs_rows", least(&|place| place.ratio(jobs::SEND_ALL_CALLS, jobs::ROWS_1000)))
        .figure("durable_settled_vs_rows", least(&settled_vs_rows))
        .figure("durable_syncs_per_settled_op", most(&per_settled))
        .figure("durable_vs_group_commit", least(&|place| place.ratio(jobs::SEND, jobs::GROUP_COMMIT)))
        .figure("durable_vs_peer", least(&|place| place.ratio(jobs::SEND, jobs::QUEUE)))
        .figure("durable_send_latency_vs_commit", most(&|place| place.latency(SEND_LATENCY)))
        .figure("durable_send_latency_local", most(&|place| place.latency(SEND_LOCAL)))
        .figure("durable_intent_latency_vs_commit", fast.latency(INTENT))
        .figure("durable_intent_latency_vs_commit_1ms", slow.latency(INTENT)))
}

/// Ratios on the real disk, which has moods: reported beside the figures.
fn real_ratios(report: Report, real: &Results) -> Report {
    let ratios = [
        ("send 64 over rows 64", real.ratio(jobs::SEND, jobs::ROWS_64)),
        ("send_all over rows 1000", real.ratio(jobs::SEND_ALL, jobs::ROWS_1000)),
        ("send 64 over group commit", real.ratio(jobs::SEND, jobs::GROUP_COMMIT)),
        ("send 64 over persistent-queue", real.ratio(jobs::SEND, jobs::QUEUE)),
        ("send over commit, latency", real.latency(SEND_LATENCY)),
        ("outcome over commit, latency", real.latency(INTENT)),
    ];
    let ratios = ratios.map(|(name, ratio)| format!("{name} {}", digits(ratio)));
    report.note(format!("On the real disk: {}.", ratios.join(", ")))
}

/// The time from `join` until all is settled, over that of reading and decoding the same ops.
fn recovery(bench: &Bench, shim: &Shim, place: &Place) -> Result<f64, Error> {
    let ops = bench.sized(RECOVERED).max(1000);
    let mut ratios = Vec::new();
    for _ in 0..if bench.scale < 0.1 { 1 } else { bench.rounds.min(RECOVERIES) } {
        shim.run(FILL, ops, place)?;
        let run = |job| crate::child::ask_all(&mut shim.command(job, ops, place)?);
        let (read, recovered) = (run(READ)?, run(RECOVER)?);
        ratios.extend(recovered.iter().zip(&read).map(|(recovered, read)| recovered / read));
    }
    Ok(median(&ratios))
}
