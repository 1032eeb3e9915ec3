//! [`Place`]: where a log is, or the rows that sinks write: a file, or a database in PostgreSQL.

use std::{fmt, path::PathBuf, sync::mpsc::Sender, thread, time::Duration};

use crate::{
    Failure,
    destination::{Destination, PostgresRows, SqliteRows},
    fleet::News,
    op::{Op, Venue},
    server,
};

/// Pause between two reads of the rows.
const READ_PERIOD: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// The URL of a database.
    Database(String),
}

impl Place {
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Makes the table of the rows where no node does.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        match self {
            Self::File(path) => drop(Venue::open(path)?),
            Self::Database(url) => server::execute(url, &[crate::op::POSTGRES_TABLE])?,
        }
        Ok(())
    }

    /// Its rows, of which none is read yet.
    pub(crate) fn rows(&self) -> Result<Box<dyn Destination>, Failure> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteRows::open(path)?),
            Self::Database(url) => Box::new(PostgresRows::open(url)?),
        })
    }

    /// Ops that the log has given up.
    pub(crate) fn dead_letters(&self) -> Result<Vec<Op>, Failure> {
        let texts = match self {
            Self::File(path) => SqliteRows::dead_letters(path)?,
            Self::Database(url) => PostgresRows::open(url)?.dead_letters()?,
        };
        texts.iter().map(|text| Ok(serde_json::from_slice(text)?)).collect()
    }

    /// Sends its rows as they arrive, until nobody takes them. Begins when they can be read.
    pub(crate) fn follow(&self, news: Sender<News>) {
        let place = self.clone();
        thread::spawn(move || {
            let mut rows = None;
            loop {
                thread::sleep(READ_PERIOD);
                if rows.is_none() {
                    rows = place.rows().ok();
                }
                // A server that is away is asked again.
                let read = rows.as_mut().and_then(|rows| rows.read().ok());
                if news.send(News::Arrived(read.unwrap_or_default())).is_err() {
                    return;
                }
            }
        });
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // The whole URL may have a password.
            Self::Database(url) => write!(f, "the database {}", server::database_of(url)),
        }
    }
}
