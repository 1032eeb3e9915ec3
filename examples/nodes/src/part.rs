//! [`Part`]: one show of several, and the controls, which show what locks and fence are for.

use std::path::Path;

use crate::{
    Cli, Failure,
    board::{Board, summary},
    fleet::Plan,
    journal::Broken,
    show::{Length, Show},
};

/// A control has a part of the faults of the show, and not fewer than one of each kind.
const LEAST_FAULTS: u64 = 12;
const PART_OF_FAULTS: u64 = 10;

/// The destination of the sinks, and whether locks say which node leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) has_venue: bool,
    pub(crate) has_locks: bool,
}

impl Part {
    /// The parts that must keep all promises, besides the show itself: a destination that no fence protects, and the fence alone.
    const WITHSTAND: [Self; 2] =
        [Self { has_venue: true, has_locks: true }, Self { has_venue: false, has_locks: false }];

    /// The part that must break a promise: neither locks nor fence.
    const FAILS: Self = Self { has_venue: true, has_locks: false };

    fn title(self) -> String {
        let sink = if self.has_venue { "a venue that knows no terms" } else { "rows in transactions of the log" };
        format!("{sink}, {} the locks", if self.has_locks { "with" } else { "without" })
    }

    pub(crate) fn plan(self, cli: &Cli, log: &Path) -> Plan {
        let venue = self.has_venue.then(|| log.with_extension("venue"));
        Plan { nodes: cli.nodes as usize, log: log.to_owned(), shards: cli.shards, orders: cli.orders, venue }
    }

    /// Runs nodes that are disturbed, and says what was broken.
    pub(crate) fn run(self, cli: &Cli, log: &Path, length: Length) -> Result<Broken, Failure> {
        println!("{} nodes share {}: {}", cli.nodes, log.display(), self.title());
        let mut board = Board::new();
        let mut show = Show::begin(self.plan(cli, log), self.has_locks)?;
        show.run(length, cli.every, &mut board)?;
        show.finish(&mut board)?;
        let (broken, seen) = show.end()?;
        board.clear();
        let faults: Vec<String> = seen.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        println!("\n{}", summary(&seen).join("\n"));
        println!("faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
        println!("terms: {}, dead letters: {}", seen.terms, seen.journal.given_up());
        println!("handover {}", seen.handovers);
        let Broken { lost, doubled, reordered, stale } = broken;
        println!("lost {lost}\ndoubled {doubled}\nreordered {reordered}\nstale {stale}\ntakeover {}", seen.takeovers);
        Ok(broken)
    }
}

/// Runs the controls after a show of so many faults. Whether those that must withstand do, and the other one fails.
pub(crate) fn controls(cli: &Cli, folder: &Path, faults: u64) -> Result<bool, Failure> {
    let length = Length::Faults((faults / PART_OF_FAULTS).max(LEAST_FAULTS));
    for (number, part) in (1..).zip(Part::WITHSTAND) {
        println!("\ncontrol {number}, which has to keep all promises");
        if part.run(cli, &folder.join(format!("control-{number}.db")), length)? != Broken::default() {
            return Ok(false);
        }
    }
    println!("\ncontrol 3, which has to break one");
    let Broken { doubled, reordered, stale, .. } = Part::FAILS.run(cli, &folder.join("control-3.db"), length)?;
    let fails = doubled + reordered + stale > 0;
    println!(
        "{}",
        if fails { "the control has failed, as it must" } else { "the control has not failed: the run is void" }
    );
    Ok(fails)
}
