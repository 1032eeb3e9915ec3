//! The bench: in come names of rows, out come tables, figures and charts. `rows` has a file per row of the results,
//! `peers` a file per way of batching that stands in them; the rest is the harness.

pub mod alloc;
pub mod bench;
pub mod chart;
pub mod child;
pub mod clock;
pub mod load;
pub mod machine;
pub mod measure;
pub mod op;
pub mod peers;
pub mod report;
pub mod rows;
pub mod server;
pub mod statistics;
pub mod target;
pub mod trade;
pub mod wire;

/// Whatever ends the bench: it is told, and not handled.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
