//! Controls: syncs that are none. A campaign that finds nothing wrong with such a disk is void.

use crate::{
    disk::Mood,
    judge,
    power::{Cutter, Run},
    random::Random,
    record::Event,
};

/// Disks tried per planted fault: the whole is lost with the first, blocks of it with the others.
const TRIES: usize = 4;

/// Facts that a commit enables, as the first word of a line: the frame of an op, and the intent of a write.
pub(crate) const KINDS: [&str; 2] = ["confirmed", "arrived"];

/// Planted faults, and those that were found, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    pub(crate) planted: [u64; 2],
    pub(crate) found: [u64; 2],
}

/// Whether a run on a disk that syncs nothing is found to be wrong at its last fact.
pub(crate) async fn without_syncs(run: &Run, random: &mut Random) -> bool {
    let mut cutter = Cutter::default();
    run.events.iter().for_each(|event| cutter.apply(event, false));
    is_wrong(&cutter, random).await
}

/// Leaves out one sync of the WAL at a time, where the next fact is that a frame was stored or a write begun, and cuts before
/// the next sync.
pub(crate) async fn without_one(run: &Run, random: &mut Random, one_in: usize) -> Found {
    let (mut found, mut cutter) = (Found::default(), Cutter::default());
    for (i, event) in run.events.iter().enumerate() {
        let until_next = &run.events[i + 1..];
        let is_sync_of_wal = |cutter: &Cutter, event: &Event| matches!(event, Event::Sync { inode } if cutter.names().of(*inode).ends_with("-wal"));
        if is_sync_of_wal(&cutter, event) && random.one_in(one_in) {
            let end = until_next.iter().position(|event| is_sync_of_wal(&cutter, event)).unwrap_or(until_next.len());
            let fact = until_next[..end].iter().flat_map(|event| cutter.names().facts(event)).next();
            let kind = KINDS.iter().position(|kind| fact.as_ref().is_some_and(|fact| fact.starts_with(kind)));
            if let Some(kind) = kind {
                let mut without = cutter.clone();
                without.apply(event, false);
                until_next[..end].iter().for_each(|event| without.apply(event, true));
                found.planted[kind] += 1;
                found.found[kind] += u64::from(is_wrong(&without, random).await);
            }
        }
        cutter.apply(event, true);
    }
    found
}

async fn is_wrong(cutter: &Cutter, random: &mut Random) -> bool {
    for i in 0..TRIES {
        let (image, facts) = cutter.left(random, if i == 0 { Mood::Lost } else { Mood::Mixed });
        if judge::recover(&image, facts).await.is_err() {
            return true;
        }
    }
    false
}
