//! The bot, to copy from. Nothing in this folder imports from `demo`.

pub mod assignment;
pub mod batchers;
pub mod database;
pub mod ids;
pub mod kill_switch;
#[cfg(test)]
mod limits_tests;
pub mod orders;
pub mod portfolio;
pub mod position;
pub mod settings;
pub mod shards;
pub mod strategy;
pub mod tick;
pub mod trader;
pub mod venue;

/// Errors that end the bot. They are reported, not handled.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
