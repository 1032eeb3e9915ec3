//! The SQLite file of the trades. In come settings, out comes the sink that writes to it.

use std::{
    fs, io,
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

/// Opens the file that is named, or the usual one.
pub async fn open(named: Option<&Path>, progress: &Progress) -> Result<(PathBuf, SqliteSink<Tick>), Error> {
    let path = named.unwrap_or(Path::new(USUAL_FILE)).to_owned();
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
    Ok((path, sink))
}
