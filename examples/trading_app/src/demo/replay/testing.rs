//! Helpers of the tests: they write a file of a few lines and read its ticks back, each as one line of text.

use std::fs;

use super::Replay;
use crate::{bot::tick::Tick, demo::settings};

/// Returns settings with no value set.
pub fn none() -> settings::Replay {
    let built_in: toml::Table = include_str!("../../../../../config/trading_app.toml").parse().unwrap();
    built_in["replay"].clone().try_into().unwrap()
}

/// Reads settings as a user writes them: lines of TOML.
pub fn set(lines: &str) -> settings::Replay {
    let built_in: toml::Table = include_str!("../../../../../config/trading_app.toml").parse().unwrap();
    let mut table = built_in["replay"].as_table().unwrap().clone();
    table.extend(lines.parse::<toml::Table>().unwrap());
    table.try_into().unwrap()
}

/// Opens a file as the app does. The error is the reason of the refusal.
pub fn opened(settings: &settings::Replay, name: &str, bytes: impl AsRef<[u8]>) -> Result<Replay, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    Replay::open(&path, settings).map_err(|error| error.to_string())
}

/// Returns the rows of a file with their line numbers: the tick of each, or the problem.
pub fn rows(settings: &settings::Replay, name: &str, bytes: impl AsRef<[u8]>) -> Vec<(u64, Result<String, String>)> {
    opened(settings, name, bytes)
        .unwrap()
        .all()
        .into_iter()
        .map(|(line, tick)| (line, tick.map(|tick| shown(&tick))))
        .collect()
}

pub fn read(settings: &settings::Replay, name: &str, bytes: impl AsRef<[u8]>) -> Vec<Result<String, String>> {
    rows(settings, name, bytes).into_iter().map(|(_, row)| row).collect()
}

/// Returns the ticks of a file without bad rows.
pub fn good(settings: &settings::Replay, name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    read(settings, name, bytes).into_iter().map(Result::unwrap).collect()
}

/// Returns the reason for which a file is refused.
pub fn refused(settings: &settings::Replay, name: &str, bytes: impl AsRef<[u8]>) -> String {
    match opened(settings, name, bytes) {
        Ok(replay) => panic!("it is read as\n{}", replay.found()),
        Err(problem) => problem,
    }
}

fn shown(tick: &Tick) -> String {
    let Tick { id, time_ns, symbol, price, quantity, side } = tick;
    let quantity = quantity.map(|quantity| quantity.to_string()).unwrap_or_default();
    let side = side.map(|side| side.to_string()).unwrap_or_default();
    [id.as_str(), &time_ns.to_string(), symbol.as_str(), &price.to_string(), &quantity, &side].join(" ")
}
