//! [`Part`]: one show of several, and the controls, which show what locks and fence are for.

use crate::{
    Cli, Failure,
    board::{Board, summary},
    fleet::Plan,
    journal::Broken,
    place::Place,
    show::{Length, Show},
    site::{Site, Sites},
};

/// A control has a part of the faults of the show, and not fewer than one of each kind.
const LEAST_FAULTS: u64 = 12;
/// As many with private NATS servers, which have kinds of their own.
const LEAST_FAULTS_WITH_NATS: u64 = 30;
const PART_OF_FAULTS: u64 = 10;
/// The control that must break a promise ends when it has, and may take so many times the faults of another one: whether two calls meet
/// is chance.
const PATIENCE: u64 = 20;

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

    fn title(self, log: &Place) -> String {
        let sink = if self.has_venue { "a venue that knows no terms" } else { "rows in transactions of the log" };
        match log {
            Place::File(_) => format!("{sink}, {} the locks", if self.has_locks { "with" } else { "without" }),
            Place::Database(_) => sink.to_owned(),
        }
    }

    pub(crate) fn plan(self, cli: &Cli, site: &Site) -> Plan {
        let venue = self.has_venue.then(|| site.venue.clone());
        let Site { log, name, server, nats, .. } = site;
        let (log, name, server, nats) = (log.clone(), name.clone(), server.clone(), nats.clone());
        let Cli { shards, orders, lease, only, .. } = *cli;
        Plan { nodes: cli.nodes as usize, log, name, server, nats, shards, orders, lease, only, venue }
    }

    /// Runs nodes that are disturbed, and says what was broken.
    pub(crate) fn run(self, cli: &Cli, site: &Site, length: Length) -> Result<Broken, Failure> {
        println!("{} nodes share {site}: {}", cli.nodes, self.title(&site.log));
        let mut board = Board::new();
        let mut show = Show::begin(self.plan(cli, site), self.has_locks)?;
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
pub(crate) fn controls(cli: &Cli, sites: &mut Sites, faults: u64) -> Result<bool, Failure> {
    let least = if cli.nats.is_some() { LEAST_FAULTS_WITH_NATS } else { LEAST_FAULTS };
    let faults = (faults / PART_OF_FAULTS).max(least);
    // In a database leases say who leads, and they alone do not protect a venue: there is nothing to take away.
    let withstand = if sites.are_files() { &Part::WITHSTAND[..] } else { &[] };
    let fails = Part { has_locks: !sites.are_files(), ..Part::FAILS };
    for (number, part) in (1..).zip(withstand) {
        println!("\ncontrol {number}, which has to keep all promises");
        if part.run(cli, &sites.next(None)?, Length::Faults(faults))? != Broken::default() {
            return Ok(false);
        }
    }
    println!("\ncontrol {}, which has to break one", withstand.len() + 1);
    let Broken { doubled, reordered, stale, .. } =
        fails.run(cli, &sites.next(None)?, Length::UntilBroken(faults * PATIENCE))?;
    let fails = doubled + reordered + stale > 0;
    println!(
        "{}",
        if fails { "the control has failed, as it must" } else { "the control has not failed: the run is void" }
    );
    Ok(fails)
}
