//! The table of speed in the README, from the run that is on record in `benches/README.md`. The binary `speed` writes both.

use std::collections::BTreeMap;

/// A row: the job, the peer, and the figures of the record.
struct Row(&'static str, &'static str, &'static [&'static str]);

const ROWS: [Row; 10] = [
    Row("`send`, 1 / 8 / 64 senders", "raw, the same", &["send_1_vs_raw", "send_8_vs_raw", "send_64_vs_raw"]),
    Row("`send`, 1 / 8 senders", "the fastest stream adaptor", &["send_1_vs_peer", "send_8_vs_peer"]),
    Row("`send_all` in chunks of 100, 1 / 8 senders", "raw, one by one", &["send_all_1_vs_raw", "send_all_8_vs_raw"]),
    Row("`send` with partitions, priorities and conflation", "raw, without any of them", &["staged_vs_raw"]),
    Row("`submit` and its ack, 1,024 callers", "batch-aint-one, `Immediate`", &["submit_vs_peer"]),
    Row("SQLite, in batches of 1,000 rows", "the shell's `.import`", &["sqlite_vs_import"]),
    Row(
        "PostgreSQL, in batches of 100 / 1,000 / 10,000 rows",
        "psql's `\\copy`",
        &["postgres_100_vs_copy", "postgres_1000_vs_copy", "postgres_10000_vs_copy"],
    ),
    Row("WebSocket, messages grouped into frames", "tungstenite, a flushed frame each", &["websocket_vs_single"]),
    Row("`Durable`, `send` by 64 callers", "a group commit by hand on rusqlite", &["durable_vs_group_commit"]),
    Row(
        "`Durable`, `send_all`, accepted / settled",
        "rusqlite, rows by 1,000 / and deleted",
        &["durable_send_all_vs_rows", "durable_settled_vs_rows"],
    ),
];

/// The lines around the table in the README.
const BEGIN: &str = "<!-- speed -->\n";
const END: &str = "<!-- end -->\n";

/// The line above the figures of a recorded run, which are a block by themselves.
const BLOCK: &str = "```text\nfigure ";

/// The first words of a run.
const FIRST: &str = "\n* CPU: ";

/// The figures of a run, by their names.
fn figures(run: &str) -> BTreeMap<&str, f64> {
    let words = run.lines().filter_map(|line| line.strip_prefix("figure ")?.split_once(' '));
    words.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

/// A figure with two digits, or with more if it is large.
fn rounded(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value if value >= 1.95 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn table(record: &str) -> Result<String, String> {
    let figures = figures(record);
    let row = |Row(job, peer, names): &Row| {
        let values: Result<Vec<String>, String> = names
            .iter()
            .map(|name| figures.get(name).map(|value| rounded(*value)).ok_or(format!("there is no figure {name}")))
            .collect();
        Ok(format!("| {job} | {peer} | {} |\n", values?.join(" / ")))
    };
    let rows: Result<String, String> = ROWS.iter().map(row).collect();
    Ok(format!("| | against | times as fast |\n|---|---|---|\n{}", rows?))
}

/// The README of the crate with the table of the recorded run.
///
/// # Errors
///
/// If it has no place for the table, or the record lacks a figure.
pub fn readme(readme: &str, record: &str) -> Result<String, String> {
    let (before, rest) = readme.split_once(BEGIN).ok_or("the README has no place for the table")?;
    let (_, after) = rest.split_once(END).ok_or("the place for the table has no end")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table(record)?))
}

/// The README of the bench with the output of another run on record.
///
/// # Errors
///
/// If it has no record to replace, or the output is not that of a whole run.
pub fn recorded(bench: &str, run: &str) -> Result<String, String> {
    table(run)?;
    let (_, results) = run.split_once(FIRST.trim_start()).ok_or("the output does not begin as a run does")?;
    let (tables, figures) = results.split_once("\nfigure ").ok_or("the output has no figures")?;
    let (before, _) = bench.split_once(FIRST).ok_or("the README of the bench has no record")?;
    Ok(format!("{before}{FIRST}{tables}\n{BLOCK}{}\n```\n", figures.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../../README.md");
    const BENCH: &str = include_str!("../README.md");

    /// Goal: the README says what was measured. Method: its table is made again.
    #[test]
    fn the_table_is_that_of_the_record() {
        let (_, rest) = README.split_once(BEGIN).unwrap();
        let (shown, _) = rest.split_once(END).unwrap();
        assert_eq!(table(BENCH).as_deref(), Ok(shown), "the binary `speed` writes it");
        assert_eq!(readme(README, BENCH).map(|written| written == README), Ok(true));
    }

    /// Goal: a run becomes the record as it is. Method: the record is taken for the output of a run.
    #[test]
    fn a_run_is_put_on_record() {
        let (_, run) = BENCH.split_once(FIRST).unwrap();
        let run = format!("{}{run}", FIRST.trim_start()).replace("```text\nfigure ", "figure ");
        let run = run.trim_end().trim_end_matches('`').trim_end();
        assert_eq!(recorded(BENCH, run).as_deref(), Ok(BENCH));
        assert!(recorded(BENCH, &run.replace("figure submit_vs_peer", "figure other")).is_err());
    }

    #[test]
    fn figures_have_two_digits() {
        let rounded: Vec<String> = [0.4353, 1.4991, 2.3618, 9.96, 67.16].map(rounded).into();
        assert_eq!(rounded, ["0.44", "1.50", "2.4", "10", "67"]);
    }
}
