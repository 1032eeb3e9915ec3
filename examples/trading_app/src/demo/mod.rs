//! The demonstration around the bot: settings, feeds, the live page, the report.

pub mod chunk;
pub mod cli;
mod coins;
pub mod database;
pub mod feed;
pub mod format;
pub mod meter;
pub mod observer;
pub mod page;
pub mod progress;
pub mod replay;
pub mod report;
pub mod settings;
pub mod sim;
pub mod stop;
pub mod unbatched;
pub mod venue;
