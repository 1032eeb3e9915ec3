//! Nodes without anything to do: how much memory they take, how often they wake up, and whether a table of the log or a stream grows.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Failure, board::Board, cluster::Cluster, destination::Size, monitoring::Stream, place::Place, process::Usage,
    show::Show,
};

/// How long nodes work before they have nothing to do, and how long they may take to settle then.
const WORK: Duration = Duration::from_secs(3);

/// Kilobytes by which a node may grow: pages that it had not touched before.
const MAX_GROWTH: u64 = 1024;

/// Bytes by which a table may grow: versions of its rows between two runs of the vacuum.
const MAX_TABLE_GROWTH: u64 = 1 << 20;

/// The least time in which growth of memory means something.
const LEAST: Duration = Duration::from_secs(60);

/// The size of the log and the use of each node, at one time.
struct Sample {
    size: Size,
    usages: Vec<Usage>,
    /// Streams of private NATS servers, by name.
    streams: BTreeMap<String, Stream>,
}

impl Sample {
    fn take(log: &Place, show: &Show) -> Result<Self, Failure> {
        let usages = show.pids().into_iter().map(Usage::of).collect::<std::io::Result<_>>()?;
        let streams = show.fleet.plan().cluster().map_or(Ok(BTreeMap::new()), Cluster::streams)?;
        Ok(Self { size: log.rows()?.size()?, usages, streams })
    }
}

/// Lets nodes work for a moment, and then have nothing to do for a time. Returns whether nothing has grown.
pub(crate) fn run(mut show: Show, log: &Place, time: Duration) -> Result<bool, Failure> {
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
    let (commits_before, commits) = (before.size.commits, after.size.commits);
    // Renewals in a database are commits. Nodes on a file have none.
    let mut has_grown = log.is_file() && commits > commits_before;
    let per_second = (commits - commits_before) as f64 / time.as_secs_f64();
    println!("commits: {commits_before} before, {commits} after; {per_second:.1} per second");
    for (node, (before, after)) in before.usages.iter().zip(&after.usages).enumerate() {
        has_grown |= time >= LEAST && after.rss > before.rss + MAX_GROWTH;
        let wakeups = (after.wakeups - before.wakeups) as f64 / time.as_secs_f64();
        let (before, after) = (before.rss, after.rss);
        println!("node {node}: {before} kB before, {after} kB after; {wakeups:.1} wake-ups per second");
    }
    for (table, rows) in &after.size.rows {
        let rows_before = before.size.rows.get(table).copied().unwrap_or(0);
        has_grown |= *rows > rows_before;
        let [bytes_before, bytes] = [&before, &after].map(|sample| sample.size.bytes.get(table).copied());
        has_grown |= bytes > bytes_before.map(|bytes| bytes + MAX_TABLE_GROWTH);
        let bytes = bytes_before
            .zip(bytes)
            .map_or_else(String::new, |(before, after)| format!("; {before} bytes before, {after} after"));
        println!("{table}: {rows_before} rows before, {rows} after{bytes}");
    }
    for (name, stream) in &after.streams {
        let messages_before = before.streams.get(name).map_or(0, |stream| stream.messages);
        let bytes_before = before.streams.get(name).map_or(0, |stream| stream.bytes);
        has_grown |= stream.messages > messages_before;
        let Stream { messages, bytes, .. } = stream;
        println!(
            "stream {name}: {messages_before} messages before, {messages} after; {bytes_before} bytes before, {bytes} after"
        );
    }
    println!("{}", if has_grown { "something has grown" } else { "nothing has grown" });
    Ok(!has_grown)
}
