//! Helpers of the tests: run the app in a folder of its own, and read its output, report and database.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

pub struct App {
    folder: TempDir,
    pub environment: Vec<(&'static str, &'static str)>,
}

pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl App {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the app to its end, with a fast venue and without the measurement that takes time.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_as_is(&[QUICK, arguments].concat())
    }

    pub fn run_as_is(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).output().unwrap().into()
    }

    /// Returns the command of the app, with pipes for its output and none of the environment of the tests.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trading_app"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(self.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Returns the report, after a check of its sums.
    pub fn report(&self, name: &str) -> Value {
        let report: Value = serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap();
        for batcher in ["prices", "orders", "trades"] {
            let count = |name: &str| report["batchers"][batcher][name].as_u64().unwrap();
            let ends: u64 = ENDS.iter().map(|end| count(end)).sum();
            assert_eq!(count("accepted"), ends, "{batcher}: each operation ends in one way");
            assert_eq!(count("waiting") + count("in_flight"), 0, "{batcher}: nothing is left");
        }
        report
    }
}

pub const QUICK: &[&str] =
    &["--set", "unbatched.sample=0", "--set", "venue.latency=1ms", "--set", "venue.slow_percent=0"];

const ENDS: [&str; 14] = [
    "delivered",
    "refused",
    "exhausted",
    "in_doubt",
    "conflated",
    "deduplicated",
    "netted",
    "expired",
    "evicted",
    "withdrawn",
    "returned",
    "lost",
    "waiting",
    "in_flight",
];

impl Outcome {
    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A file that comes with the example.
pub fn sample(name: &str) -> String {
    format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A row of the table `trades`.
pub struct Row {
    pub id: String,
    pub time_ns: i64,
    pub symbol: String,
    pub price: String,
    pub quantity: Option<String>,
    pub side: Option<String>,
}

/// Returns all rows in the order in which they were written.
pub fn rows(database: &Path) -> Vec<Row> {
    let connection = Connection::open(database).unwrap();
    let mut select =
        connection.prepare("SELECT id, time_ns, symbol, price, quantity, side FROM trades ORDER BY rowid").unwrap();
    let rows = select.query_map([], |row| {
        Ok(Row {
            id: row.get(0)?,
            time_ns: row.get(1)?,
            symbol: row.get(2)?,
            price: row.get(3)?,
            quantity: row.get(4)?,
            side: row.get(5)?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}
