//! [`Page`]: the tables of `src/telemetry.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{read, record::Site};

/// A metric, as its row tells.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) labels: BTreeSet<String>,
    /// The second name of a batcher's metric, under which that of its dead letters has it.
    pub(crate) is_of_letters: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Number of rows that metrics have.
    pub(crate) metric_rows: usize,
    /// Metrics by name. Those of a batcher have a second name, for the batcher of its dead letters.
    pub(crate) metrics: BTreeMap<String, Row>,
    pub(crate) spans: BTreeSet<Site>,
    pub(crate) events: BTreeSet<Site>,
    /// Values of the labels `end` and `cut_by`, and of the field `outcome`.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

/// The texts between backticks.
fn codes(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The one text between backticks.
fn code(cell: &str) -> String {
    let codes = codes(cell);
    assert_eq!(codes.len(), 1, "one name is expected: {cell}");
    codes.into_iter().next().unwrap()
}

impl Page {
    /// Reads the page. A table of unknown columns, a row of too few or too many and a name that stands twice are errors.
    pub(crate) fn read() -> Self {
        let (text, mut page, mut columns) = (read("src/telemetry.md"), Self::default(), Vec::new());
        for line in text.lines() {
            let Some(row) = line.strip_prefix('|') else {
                columns.clear();
                continue;
            };
            let cells: Vec<&str> = row.strip_suffix('|').expect(line).split('|').map(str::trim).collect();
            if columns.is_empty() {
                columns = cells;
            } else if !line.starts_with("|---") {
                assert_eq!(cells.len(), columns.len(), "{line}");
                assert!(cells.last().is_some_and(|cell| !cell.is_empty()), "no text: {line}");
                page.add(&columns, &cells);
            }
        }
        page
    }

    fn add(&mut self, columns: &[&str], cells: &[&str]) {
        let site = |level: &str, name| Site { level: level.to_owned(), name, fields: codes(cells[2]) };
        let is_new = match *columns {
            ["metric", "kind", "unit", "labels", "meaning"] => self.add_metric(cells),
            ["span", "level", "fields", "meaning"] => self.spans.insert(site(cells[1], code(cells[0]))),
            ["level", "event", "fields", "meaning", "what to do"] => self.events.insert(site(cells[0], code(cells[1]))),
            [label, "meaning"] => self.labels.entry(code(label)).or_default().insert(code(cells[0])),
            _ => panic!("a table of unknown columns: {columns:?}"),
        };
        assert!(is_new, "a row stands twice: {cells:?}");
    }

    fn add_metric(&mut self, cells: &[&str]) -> bool {
        let (name, labels) = (code(cells[0]), codes(cells[3]));
        let row = Row { kind: cells[1].to_owned(), unit: cells[2].to_owned(), labels, is_of_letters: false };
        self.metric_rows += 1;
        let of_letters = name.replacen("roundlot_", "roundlot_dead_letters_", 1);
        // The batcher of dead letters has no quota and no log.
        let has_letters = !row.labels.contains("bucket") && !name.starts_with("roundlot_durable_");
        let is_batcher = row.labels.contains("batcher") && has_letters;
        let second = Row { is_of_letters: true, ..row.clone() };
        let is_new = !is_batcher || self.metrics.insert(of_letters, second).is_none();
        self.metrics.insert(name, row).is_none() && is_new
    }
}
