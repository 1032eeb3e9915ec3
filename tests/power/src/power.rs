//! Loss of power: a recorded run is cut at every write, and what is left is recovered.

use std::fs;

use crate::{
    disk::{Disk, Image, Mood},
    facts::{Facts, Journal},
    judge::{self, Wrong},
    random::Random,
    record::{self, Event, Names},
    work::{self, Size},
};

/// Losses of power one after the other, at most.
const MAX_LOSSES: usize = 5;

/// A recorded run.
pub(crate) struct Run {
    pub(crate) events: Vec<Event>,
}

pub(crate) async fn record(seed: u64, size: Option<Size>) -> Run {
    record_with(seed, size, None).await
}

/// Records a run whose disk fails as the command says.
pub(crate) async fn record_with(seed: u64, size: Option<Size>, command: Option<&str>) -> Run {
    let mut random = Random::new(seed);
    let size = size.unwrap_or_else(|| Size::of(&mut random));
    let folder = work::folder();
    let folder = folder.path();
    drop(Journal::open(folder));
    let control = |command: &str| {
        fs::write(folder.join("control"), command).unwrap_or_else(|error| panic!("no control: {error}"));
    };
    if let Some(command) = command {
        control(command);
    }
    work::run(folder, &mut random, size).await;
    let events = record::read(folder);
    control("end");
    Run { events }
}

/// Counts of a campaign.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) cuts: u64,
    /// Cuts of recoveries.
    pub(crate) again: u64,
    /// Ops confirmed before a cut, over all cuts.
    pub(crate) confirmed: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.again += other.again;
        self.confirmed += other.confirmed;
    }
}

/// A cut after which something was wrong.
pub(crate) type Found = (usize, Wrong);

/// Cuts a run behind every event that changes a file, or behind some of them.
pub(crate) async fn cut_everywhere(run: &Run, random: &mut Random, one_in: usize) -> Result<Counts, Found> {
    let (mut counts, mut cutter) = (Counts::default(), Cutter::default());
    for (i, event) in run.events.iter().enumerate() {
        cutter.apply(event, true);
        if is_change(event) && random.one_in(one_in) {
            cutter.cut(random, &mut counts).await.map_err(|wrong| (i, wrong))?;
        }
    }
    Ok(counts)
}

pub(crate) fn is_change(event: &Event) -> bool {
    !matches!(event, Event::Open { .. } | Event::Sync { .. } | Event::SyncFolder)
}

/// A disk and the facts, as far as a run has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cutter {
    disk: Disk,
    facts: Facts,
    names: Names,
}

impl Cutter {
    fn of(image: Image, facts: Facts) -> Self {
        Self { disk: Disk::new(image), facts, names: Names::default() }
    }

    pub(crate) fn apply(&mut self, event: &Event, is_sync: bool) {
        self.names.learn(event);
        self.disk.apply(event, is_sync);
        self.names.facts(event).iter().for_each(|fact| self.facts.learn(fact));
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The files after a loss of power, and what is known for certain.
    pub(crate) fn left(&self, random: &mut Random, mood: Mood) -> (Image, &Facts) {
        (self.disk.after(mood, random), &self.facts)
    }

    /// Loses power, recovers, and now and then loses power during that, up to five times in a row.
    pub(crate) async fn cut(&self, random: &mut Random, counts: &mut Counts) -> Result<(), Wrong> {
        let mut cutter = self.clone();
        let losses = if random.one_in(4) { 1 + random.below(MAX_LOSSES) } else { 1 };
        for loss in 0..losses {
            let mood = Mood::any(random);
            let (image, facts) = cutter.left(random, mood);
            counts.cuts += u64::from(loss == 0);
            counts.again += u64::from(loss > 0);
            counts.confirmed += facts.confirmed.len() as u64;
            let recovered = judge::recover(&image, facts).await?;
            let until = random.below(recovered.events.len() + 1);
            let mut next = Self::of(image, Facts { losses: loss + 1, ..facts.clone() });
            recovered.events[..until].iter().for_each(|event| next.apply(event, true));
            cutter = next;
        }
        Ok(())
    }
}
