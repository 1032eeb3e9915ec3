//! The database of a run. A named one is kept and gets more rows; [`USUAL_FILE`] belongs to one run at a time, which
//! creates it anew. `main` opens it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use roundlot::BoxSink;

use crate::{
    bot::{
        Error,
        database::{self, Destination},
        tick::Tick,
    },
    demo::{progress::Progress, settings::Named},
};

/// The file that is written if no database is named.
pub const USUAL_FILE: &str = "trading_app.db";

/// An open database. While it lives, no other run creates the usual file anew.
pub struct Database {
    /// The file; `None` for a server.
    pub file: Option<PathBuf>,
    /// Name for people and reports. The URL of a server may hold a password, and is not shown.
    pub title: String,
    pub sink: BoxSink<Tick>,
    _lock: Option<File>,
}

/// Opens the named database, or the usual file.
pub async fn open(named: Option<&Named>, progress: &Progress) -> Result<Database, Error> {
    match named.map(Named::destination).transpose()? {
        Some(server @ Destination::Postgres(_)) => {
            let sink = database::open(server).await?;
            progress.say("trades go to the table \"trades\" on the PostgreSQL server");
            Ok(Database { file: None, title: "PostgreSQL".to_owned(), sink, _lock: None })
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
    let sink = database::open(Destination::Sqlite(&path)).await?;
    let title = path.display().to_string();
    Ok(Database { file: Some(path), title, sink, _lock: lock })
}

/// Locks the usual file until the lock is dropped: exclusively, or shared between runs that add rows. The lock is on a
/// file of its own, which stays, because the database itself is removed.
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
