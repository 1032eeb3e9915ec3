//! [`Board`]: what the terminal shows. Without a terminal only the faults are printed.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::{fleet::Fleet, journal::Broken, show::Seen};

/// The board is drawn again after so long.
const PERIOD: Duration = Duration::from_millis(200);

pub(crate) struct Board {
    is_terminal: bool,
    /// Lines of the last drawing, which the next one replaces.
    lines: usize,
    drawn_at: Option<Instant>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), lines: 0, drawn_at: None }
    }

    /// Prints a line about a fault, above the board.
    pub(crate) fn tell(&mut self, seen: &Seen, text: &str) {
        self.print(&format!("{:>6.1} s  {text}\n", seen.began.elapsed().as_secs_f64()));
        self.lines = 0;
    }

    /// Draws the board anew, unless it has just been drawn.
    pub(crate) fn draw(&mut self, seen: &Seen, fleet: &Fleet) {
        if !self.is_terminal || self.drawn_at.is_some_and(|drawn_at| drawn_at.elapsed() < PERIOD) {
            return;
        }
        let text = text(seen, fleet);
        self.print(&text);
        self.lines = text.lines().count();
        self.drawn_at = Some(Instant::now());
    }

    /// Removes the board, for what is printed at the end.
    pub(crate) fn clear(&mut self) {
        self.print("");
        self.lines = 0;
    }

    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let up = if self.lines > 0 { format!("\x1b[{}F\x1b[J", self.lines) } else { String::new() };
        // A terminal that has gone shows nothing.
        let _ = out.write_all(format!("{up}{text}").as_bytes()).and_then(|()| out.flush());
    }
}

fn text(seen: &Seen, fleet: &Fleet) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    line(String::new());
    line(format!("{:>5}  {:>8}  {:>9}  {:>8}  leads shards", "node", "process", "waiting", "in doubt"));
    for (slot, (waiting, in_doubt)) in seen.loads.iter().enumerate() {
        let led = seen.leaders.iter().filter(|(_, leader)| leader.slot == slot).map(|(shard, _)| shard.to_string());
        let led = led.collect::<Vec<_>>().join(" ");
        line(format!("{slot:>5}  {:>8}  {waiting:>9}  {in_doubt:>8}  {led}", fleet.pid(slot)));
    }
    line(String::new());
    line(format!("{:>5}  {:>6}  {:>5}  {:>7}  taken over in", "shard", "leader", "term", "since"));
    for (shard, leader) in &seen.leaders {
        let since = leader.since.elapsed().as_secs_f64();
        let taken_over = leader.taken_over_in.map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()));
        line(format!("{shard:>5}  {:>6}  {:>5}  {since:>5.1} s  {taken_over}", leader.slot, leader.epoch));
    }
    line(String::new());
    summary(seen).into_iter().for_each(&mut line);
    let Broken { doubled, reordered, stale, .. } = seen.journal.broken();
    line(format!(
        "{:.1} s: doubled {doubled}, reordered {reordered}, stale {stale}",
        seen.began.elapsed().as_secs_f64()
    ));
    text
}

/// Counts of what was sent and arrived. A price that was accepted and did not arrive was replaced by a newer one.
pub(crate) fn summary(seen: &Seen) -> [String; 2] {
    let counts = seen.journal.counts();
    [
        format!("orders: {} accepted, {} arrived", counts.orders_accepted, counts.orders_arrived),
        format!(
            "prices: {} accepted, {} arrived; newer ones replaced the rest",
            counts.prices_accepted, counts.prices_arrived
        ),
    ]
}
