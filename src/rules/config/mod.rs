//! Settings: limits and retries, the same structs in code and in files.

pub(crate) mod batcher_config;
pub(crate) mod duration;
pub(crate) mod limits;
pub(crate) mod retry;
