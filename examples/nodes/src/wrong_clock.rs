//! Nodes whose clock is wrong: they begin under libfaketime, where that is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folders of libraries, one per machine's architecture.
const LIBRARIES: &str = "/usr/lib";

/// The library, as Debian's package `libfaketime` has it.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = fs::read_dir(LIBRARIES).ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Sets the wall clock of a process that is about to begin, such as by `-1h`. Its timers stay right.
pub(crate) fn set(command: &mut Command, library: &Path, offset: &str) {
    command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}
