//! Compiles `sync_shim.c` and starts jobs under it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{FOLDER, empty};
use crate::{Error, child, server::said};

const SOURCE: &str = include_str!("../../sync_shim.c");

/// The file in which the shim counts syncs.
const COUNT: &str = "ROUNDLOT_SYNC_COUNT";

/// Microseconds that a sync takes.
const PAUSE: &str = "ROUNDLOT_SYNC_US";

/// A folder for the files of jobs, and the cost of a sync there.
#[derive(Debug)]
pub struct Place {
    /// The name in the tables.
    pub name: &'static str,
    pub folder: PathBuf,
    /// The time of a sync in microseconds; `None` if the disk decides.
    pub sync_us: Option<u64>,
}

/// The compiled shim.
#[derive(Debug)]
pub struct Shim(PathBuf);

impl Shim {
    /// Compiles the shim into a folder.
    pub fn compile(folder: &Path) -> Result<Self, Error> {
        let (source, library) = (folder.join("sync_shim.c"), folder.join("sync_shim.so"));
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new(env::var_os("CC").unwrap_or("cc".into()));
        said(compiler.args(["-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").output()?)?;
        Ok(Self(library))
    }

    /// The command of a job that has its files in a place.
    pub fn command(&self, job: &str, size: u64, place: &Place) -> Result<Command, Error> {
        let mut command = child::command(job, size)?;
        command.env("LD_PRELOAD", &self.0).env(FOLDER, &place.folder).env(COUNT, place.folder.join("syncs"));
        if let Some(us) = place.sync_us {
            command.env(PAUSE, us.to_string());
        }
        Ok(command)
    }

    /// Runs a job with new files.
    pub fn run(&self, job: &str, size: u64, place: &Place) -> Result<Vec<f64>, Error> {
        empty(&place.folder)?;
        child::ask_all(&mut self.command(job, size, place)?)
    }
}

/// Syncs of this process and those before it with the same files; 0 if no shim counts.
pub(super) fn syncs() -> u64 {
    let bytes = env::var_os(COUNT).and_then(|path| fs::read(path).ok()).unwrap_or_default();
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}
