//! Nodes without anything to do: how much memory they take, how often they wake up, and whether a table of the log grows.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use crate::{Failure, board::Board, process::Usage, show::Show};

/// How long nodes work before they have nothing to do, and how long they may take to settle then.
const WORK: Duration = Duration::from_secs(3);

/// Kilobytes by which a node may grow: pages that it had not touched before.
const MAX_GROWTH: u64 = 1024;

/// The least time in which growth of memory means something.
const LEAST: Duration = Duration::from_secs(60);

/// The rows of the log and the use of each node, at one time.
struct Sample {
    commits: u64,
    /// Rows by table.
    rows: BTreeMap<String, u64>,
    usages: Vec<Usage>,
}

impl Sample {
    fn take(log: &Path, show: &Show) -> Result<Self, Failure> {
        let database = Connection::open_with_flags(log, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        database.busy_timeout(Duration::from_secs(5))?;
        let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|number| number as u64);
        let mut tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
        let tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let rows = tables.into_iter().map(|table| {
            let rows = number(&format!("SELECT count(*) FROM \"{table}\""))?;
            Ok((table, rows))
        });
        let rows = rows.collect::<rusqlite::Result<_>>()?;
        let commits = number("SELECT value FROM roundlot_meta WHERE key = 'commits'")?;
        let usages = show.pids().into_iter().map(Usage::of).collect::<std::io::Result<_>>()?;
        Ok(Self { commits, rows, usages })
    }
}

/// Lets nodes work for a moment, and then have nothing to do for a time. Returns whether nothing has grown.
pub(crate) fn run(mut show: Show, log: &Path, time: Duration) -> Result<bool, Failure> {
    let mut board = Board::new();
    show.follow_for(WORK, &mut board)?;
    show.finish(&mut board)?;
    show.follow_for(WORK, &mut board)?;
    let before = Sample::take(log, &show)?;
    show.follow_for(time, &mut board)?;
    let after = Sample::take(log, &show)?;
    board.clear();
    show.leave()?;
    println!("{} nodes had nothing to do for {}", before.usages.len(), humantime::format_duration(time));
    let mut has_grown = after.commits > before.commits;
    println!("commits: {} before, {} after", before.commits, after.commits);
    for (node, (before, after)) in before.usages.iter().zip(&after.usages).enumerate() {
        has_grown |= time >= LEAST && after.rss > before.rss + MAX_GROWTH;
        let wakeups = (after.wakeups - before.wakeups) as f64 / time.as_secs_f64();
        let (before, after) = (before.rss, after.rss);
        println!("node {node}: {before} kB before, {after} kB after; {wakeups:.1} wake-ups per second");
    }
    for (table, rows) in &after.rows {
        let rows_before = before.rows.get(table).copied().unwrap_or(0);
        has_grown |= *rows > rows_before;
        println!("{table}: {rows_before} rows before, {rows} after");
    }
    println!("{}", if has_grown { "something has grown" } else { "nothing has grown" });
    Ok(!has_grown)
}
