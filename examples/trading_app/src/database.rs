//! The SQLite file of the trades. In come settings, out comes the sink that writes to it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use roundlot::sink::sqlite::SqliteSink;

use crate::{
    Error,
    progress::Progress,
    tick::{self, Tick},
};

/// What is written to if no file is named. It belongs to the app, which makes it anew each time.
const USUAL_FILE: &str = "trading_app.db";

/// The file that is written to. As long as this lives, no other run makes it anew.
pub struct Database {
    pub path: PathBuf,
    pub sink: SqliteSink<Tick>,
    _lock: Option<File>,
}

/// Opens the file that is named, or the usual one.
pub async fn open(named: Option<&Path>, progress: &Progress) -> Result<Database, Error> {
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
    Ok(Database { path, sink, _lock: lock })
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
