//! A disk that is full, writes a part of what it is given, or fails to sync, for a while. Nothing accepted is lost, and the run
//! goes on without a restart.

use std::time::Duration;

use crate::{
    disk::Mood,
    facts::To,
    judge,
    power::{self, Cutter, Run},
    random::Random,
    record::Event,
    work::Size,
};

/// Failing writes in a row, at most.
const MAX_FAILURES: usize = 6;

/// The longest time of a run: many times that of all pauses before frames are tried again.
const TIMEOUT: Duration = Duration::from_secs(60);

const SIZE: Size = Size { senders: 2, ops: 2, bytes: 3000 };

/// The ways to fail, as commands of the shim.
pub(crate) const FAULTS: [&str; 3] = ["full", "short", "eio"];

/// Writes and syncs of a run on a disk that does not fail.
pub(crate) async fn length(seed: u64) -> usize {
    let run = power::record(seed, Some(SIZE)).await;
    run.events.iter().filter(|event| matches!(event, Event::Write { .. } | Event::Sync { .. })).count()
}

/// Lets the disk fail from one write or sync on.
pub(crate) async fn run(seed: u64, fault: &str, at: usize) -> Result<(), String> {
    let mut random = Random::new(seed ^ (at as u64) << 8);
    let count = 1 + random.below(if fault == "eio" { 2 } else { MAX_FAILURES });
    let command = format!("{fault} {at} {count}");
    let running = power::record_with(seed, Some(SIZE), Some(&command));
    let run = tokio::time::timeout(TIMEOUT, running).await.map_err(|_| "it does not go on".to_owned())?;
    judge_run(&run, &mut random).await
}

async fn judge_run(run: &Run, random: &mut Random) -> Result<(), String> {
    let mut cutter = Cutter::default();
    run.events.iter().for_each(|event| cutter.apply(event, true));
    let (image, facts) = cutter.left(random, Mood::Kept);
    for (op, id) in &facts.confirmed {
        if facts.ended.get(op).is_none_or(|kind| kind == "other") {
            let (to, number): &(To, u64) = op;
            return Err(format!("op {number} of {}, {id}, did not end without a restart", to.name()));
        }
    }
    judge::recover(&image, facts).await.map_err(|wrong| format!("after it: {wrong}"))?;
    let cuts = power::cut_everywhere(run, random, 50).await;
    cuts.map_err(|(event, wrong)| format!("power lost behind event {event}: {wrong}")).map(drop)
}
