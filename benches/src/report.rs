//! The report of a row as Markdown: a table, figures, notes, and the peers that were left out. `main` prints it.

use std::fmt;

use crate::{
    chart::{Bar, Chart},
    measure::Measured,
};

/// The result of a row.
#[derive(Debug, Default)]
pub struct Report {
    pub table: Table,
    /// Peers that cannot do this job, each with the reason.
    pub left_out: Vec<(&'static str, &'static str)>,
    /// Sentences below the table.
    pub notes: Vec<String>,
    /// Names and values of the figures, which `main` prints at the end of the run.
    pub figures: Vec<(&'static str, f64)>,
    /// Charts that `--plot` writes.
    pub charts: Vec<Chart>,
}

impl Report {
    /// Makes the usual table and chart of variants. Ratios are to the first variant.
    pub fn of(results: &[Measured]) -> Self {
        let bars = results.iter().map(|measured| {
            let speed = measured.speed();
            Bar { name: measured.name.into(), value: speed.median, low: speed.low, high: speed.high }
        });
        let chart = Chart { title: "ops/s".into(), bars: bars.collect() };
        Self { table: Table::of(results), charts: vec![chart], ..Self::default() }
    }

    #[must_use]
    pub fn left_out(mut self, peers: &'static str, reason: &'static str) -> Self {
        self.left_out.push((peers, reason));
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub fn figure(mut self, name: &'static str, value: f64) -> Self {
        self.figures.push((name, value));
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table)?;
        if !self.left_out.is_empty() || !self.notes.is_empty() {
            writeln!(f)?;
        }
        for (peers, reason) in &self.left_out {
            writeln!(f, "* Not here: {peers}; {reason}.")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "* {note}"))
    }
}

/// A Markdown table. The first column is text, the others are numbers.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(String::from).into(), rows: Vec::new() }
    }

    #[must_use]
    pub fn row<const N: usize>(mut self, cells: [String; N]) -> Self {
        self.rows.push(cells.into());
        self
    }

    /// Makes a table with a line per variant. "x first" is the ratio of its speed to that of the first variant, per
    /// wall clock time or per CPU time.
    fn of(results: &[Measured]) -> Self {
        let head = [
            "variant",
            "ops/s",
            "quartiles",
            "x first",
            "ns/op",
            "CPU ns/op",
            "x first, CPU",
            "allocations/op",
            "peak heap",
        ];
        results.iter().fold(Self::new(head), |table, measured| {
            let speed = measured.speed();
            table.row([
                measured.name.into(),
                thousands(speed.median),
                format!("{} .. {}", thousands(speed.low), thousands(speed.high)),
                results.first().map_or(String::new(), |first| digits(measured.speed_against(first))),
                digits(1e9 / speed.median),
                digits(measured.cpu().median),
                results.first().map_or(String::new(), |first| digits(first.cpu_against(measured))),
                format!("{:.3}", measured.allocations_per_op),
                bytes(measured.peak_bytes),
            ])
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |i: usize| lines().map(|cells| cells[i].chars().count()).max().unwrap_or_default().max(3);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for (n, cells) in lines().enumerate() {
            for (i, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                if i == 0 {
                    write!(f, "| {cell:<width$} |")?;
                } else {
                    write!(f, " {cell:>width$} |")?;
                }
            }
            writeln!(f)?;
            if n == 0 {
                for (i, width) in widths.iter().enumerate() {
                    let line = "-".repeat(*width);
                    if i == 0 { write!(f, "| {line} |")? } else { write!(f, " {}: |", &line[1..])? }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// Formats a number with three significant digits, or with all digits before the point if they are more.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Formats a number as a whole number in groups of three digits.
pub fn thousands(value: f64) -> String {
    let whole = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a number of bytes in KiB or MiB.
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 / 1024.0 {
        kib if kib >= 1024.0 => format!("{} MiB", digits(kib / 1024.0)),
        kib => format!("{} KiB", digits(kib)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(-123.0), "-123");
        assert_eq!([digits(0.123), digits(12.34), digits(123.4), digits(1234.0)], ["0.12", "12.3", "123", "1,234"]);
        assert_eq!(bytes(3 << 20), "3.00 MiB");
    }

    #[test]
    fn a_table_is_markdown_with_even_columns() {
        let table = Table::new(["variant", "ops/s"]).row(["raw".into(), "1,000".into()]);
        let lines: Vec<String> = table.to_string().lines().map(String::from).collect();
        assert_eq!(lines, ["| variant | ops/s |", "| ------- | ----: |", "| raw     | 1,000 |"]);
    }
}
