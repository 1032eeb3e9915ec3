//! The database of the trades. In come settings, out comes the sink that writes to it: a SQLite file or a table on a
//! PostgreSQL server.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use roundlot::{
    BoxSink, Sink,
    sink::{postgres::Postgres, sqlite::SqliteSink},
};

use crate::{
    Error,
    bot::tick::{self, Tick},
    demo::{
        progress::Progress,
        settings::{Destination, Named},
    },
};

/// What is written to if no database is named. It belongs to the app, which makes it anew each time.
pub const USUAL_FILE: &str = "trading_app.db";

/// The database that is written to. As long as this lives, no other run makes the usual file anew.
pub struct Database {
    /// The file; `None` for a server.
    pub file: Option<PathBuf>,
    pub sink: BoxSink<Tick>,
    _lock: Option<File>,
}

impl Database {
    /// What people and reports call it. The URL of a server is nobody's business.
    pub fn title(&self) -> String {
        self.file.as_ref().map_or_else(|| "PostgreSQL".to_owned(), |file| file.display().to_string())
    }
}

/// Opens the database that is named, or the usual file.
pub async fn open(named: Option<&Named>, progress: &Progress) -> Result<Database, Error> {
    match named.map(Named::destination).transpose()? {
        Some(Destination::Postgres(url)) => {
            let sink = Postgres::url(url).open(tick::table()).await?;
            progress.say("trades go to the table \"trades\" on the PostgreSQL server");
            Ok(Database { file: None, sink: sink.boxed(), _lock: None })
        }
        Some(Destination::Sqlite(path)) => open_file(Some(path), progress).await,
        None => open_file(None, progress).await,
    }
}

async fn open_file(named: Option<&Path>, progress: &Progress) -> Result<Database, Error> {
    let path = named.unwrap_or(Path::new(USUAL_FILE)).to_owned();
    let lock = if path == Path::new(USUAL_FILE) { Some(lock(named.is_some())?) } else { None };
    if named.is_none() {
        for end in ["", "-wal", "-shm"] {
            match fs::remove_file(format!("{USUAL_FILE}{end}")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    } else if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
        progress.say(&format!("{} exists: rows are added to it", path.display()));
    }
    let sink = SqliteSink::open(&path, tick::table()).await?;
    Ok(Database { file: Some(path), sink: sink.boxed(), _lock: lock })
}

/// Locks the usual file until the lock is dropped: for this run alone, or shared with others that also add rows. The lock
/// is on a file of its own, which stays, because the database itself is removed.
fn lock(shared: bool) -> Result<File, Error> {
    let name = format!("{USUAL_FILE}.lock");
    let file = File::create(&name).map_err(|error| format!("cannot create {name}: {error}"))?;
    let locked = if shared { file.try_lock_shared() } else { file.try_lock() };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("{USUAL_FILE} is in use by another run; give --database").into()),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {name}: {error}").into()),
    }
}
