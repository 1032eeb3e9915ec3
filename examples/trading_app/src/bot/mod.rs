//! The bot: what people copy. Nothing in this folder imports from `demo`.

pub mod batchers;
pub mod database;
pub mod kill_switch;
pub mod portfolio;
pub mod strategy;
pub mod tick;
pub mod trader;
pub mod venue;
