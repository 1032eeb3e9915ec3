//! [`Sqlite`]: the settings with which a SQLite file is opened. The thread reads them whenever it opens the file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The settings of a [`SqliteSink`](super::SqliteSink), each with a default that suits most programs.
///
/// The file is created if it is missing when the sink is opened. It is kept in write-ahead-log mode, so that other
/// connections can read during a write. A relative path is resolved when the sink is opened.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::sink::{sqlite::{Sqlite, Synchronous}, table::Table};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("trades.db");
/// let ticks = Table::<i64>::new("ticks").integer("price", |price| *price).create_if_missing();
/// let sink = Sqlite::file(path)
///     .synchronous(Synchronous::Full)
///     .busy_timeout(Duration::from_millis(50))
///     .open(ticks)
///     .await?;
/// # drop(sink);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until `open`"]
pub struct Sqlite {
    pub(super) path: PathBuf,
    pub(super) synchronous: Synchronous,
    pub(super) busy_timeout: Duration,
    pub(super) max_pages: Option<u32>,
}

/// Durability of an accepted row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// Accepted rows survive a crash of the program. A loss of power may take the latest of them, but never tears a
    /// batch apart or damages the file.
    #[default]
    Normal,
    /// Accepted rows survive a loss of power too: the disk is waited for at the end of each batch.
    Full,
}

/// Default time to wait for another connection's lock. Short, because a batch that returns to the buffer can still be
/// superseded, and one that waits for the lock cannot.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

impl Sqlite {
    /// Settings for the database in this file.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().into(),
            synchronous: Synchronous::default(),
            busy_timeout: BUSY_TIMEOUT,
            max_pages: None,
        }
    }

    /// Sets the durability of accepted rows; [`Synchronous::Normal`] by default.
    pub fn synchronous(mut self, level: Synchronous) -> Self {
        self.synchronous = level;
        self
    }

    /// Sets how long a batch waits, on the writer thread and in real time, for another connection that writes; 1 s by
    /// default. Opening has the same limit. After that it is an outage: the batcher pauses, and all ops stay in the
    /// buffer.
    pub fn busy_timeout(mut self, limit: Duration) -> Self {
        self.busy_timeout = limit;
        self
    }

    /// Limits the database to this many pages, of 4096 bytes unless the file was made with another size. A batch that
    /// does not fit is an outage, as on a full disk: nothing of it lands, and it stays in the buffer.
    pub fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// Makes the path independent of the working directory, since the file may be opened again later. An empty path and
    /// the name of a database in memory stay unchanged.
    pub(super) fn settle_path(&mut self) {
        if self.path != Path::new(":memory:")
            && let Ok(path) = std::path::absolute(&self.path)
        {
            self.path = path;
        }
    }
}
