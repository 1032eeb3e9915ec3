//! Flipped bits. A log in which one is flipped is refused, or its ops end as without the flip.

use std::collections::BTreeMap;

use crate::{
    disk::{Image, Mood},
    facts::{Facts, To},
    judge::{self, LEFT, Wrong},
    power::{self, Cutter, Run},
    random::Random,
    record::{Event, Names},
};

/// Counts of logs with a flipped bit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) flips: u64,
    pub(crate) refused: u64,
    pub(crate) wrong: Vec<String>,
}

/// How each op has ended.
type Kinds = BTreeMap<(To, u64), &'static str>;

/// Records a run, and flips so many bits of what it has left, one at a time.
pub(crate) async fn flip(seed: u64, flips: usize) -> Counts {
    let mut random = Random::new(seed ^ 0xF11);
    let run = power::record(seed, None).await;
    let until = run.events.len() - random.below(run.events.len() / 3);
    let mut cutter = Cutter::default();
    run.events[..marked(&run, until)].iter().for_each(|event| cutter.apply(event, true));
    let (image, facts) = cutter.left(&mut random, Mood::Kept);
    // The values of a user's table are the user's own.
    let facts = Facts { trusts_rows: false, ..facts.clone() };
    let mut counts = Counts::default();
    let Some(expected) = baseline(&image, &facts).await else {
        return counts;
    };
    for _ in 0..flips {
        let (flipped, what) = flip_one(&image, &mut random);
        counts.flips += 1;
        let wrong = match judge::recover(&flipped, &facts).await {
            Ok(recovered) if recovered.kinds == expected => continue,
            Err(Wrong::Refused(_)) => {
                counts.refused += 1;
                continue;
            }
            // A row is checked when it is asked for, and the call fails.
            Err(Wrong::Untrue(why)) if why == LEFT => {
                counts.refused += 1;
                continue;
            }
            Ok(_) => "other outcomes".to_owned(),
            Err(wrong) => format!("{wrong}"),
        };
        counts.wrong.push(format!("seed {seed}, {what}: {wrong}"));
    }
    counts
}

/// The last event until which all of the WAL is marked. No one was told of a commit that is not, so that it may be lost.
fn marked(run: &Run, until: usize) -> usize {
    let (mut names, mut is_marked, mut last) = (Names::default(), true, 0);
    for (i, event) in run.events[..until].iter().enumerate() {
        names.learn(event);
        if let Event::Write { inode, .. } = event {
            is_marked = names.of(*inode).ends_with("-mark") || is_marked && !names.of(*inode).ends_with("-wal");
        }
        if is_marked {
            last = i + 1;
        }
    }
    last
}

/// The outcomes without a flip, if they do not depend on chance.
async fn baseline(image: &Image, facts: &Facts) -> Option<Kinds> {
    let first = judge::recover(image, facts).await.ok()?.kinds;
    let second = judge::recover(image, facts).await.ok()?.kinds;
    (first == second).then_some(first)
}

/// The columns of the transactional sink's table, as SQLite keeps them.
const COLUMNS: &str = "CREATE TABLE \"rows\" (\"number\" INTEGER, \"padding\" TEXT)";

fn flip_one(image: &Image, random: &mut Random) -> (Image, String) {
    let mut image = image.clone();
    let files: Vec<String> =
        image.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(name, _)| name.clone()).collect();
    let name = &files[random.below(files.len())];
    let Some(bytes) = image.get_mut(name) else { return (image, String::new()) };
    let mut at = random.below(bytes.len());
    // Most of a file is zeros that mean nothing, and the columns of a user's table are the user's own, too.
    let own = bytes.windows(COLUMNS.len()).rposition(|window| window == COLUMNS.as_bytes());
    for _ in 0..4 {
        if bytes[at] == 0 || own.is_some_and(|own| (own..own + COLUMNS.len()).contains(&at)) {
            at = random.below(bytes.len());
        }
    }
    let bit = random.below(8);
    bytes[at] ^= 1 << bit;
    (image, format!("bit {bit} of byte {at} of {name}"))
}
