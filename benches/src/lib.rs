//! The bench, which measures roundlot beside its peers and prints tables, figures and charts.
//!
//! `rows` has a file per row of the results and `peers` a file per way of batching. The other modules are the harness.
//! `main` and `bin/instructions` call it.

pub mod alloc;
pub mod bench;
pub mod chart;
pub mod child;
pub mod clock;
pub mod durable;
pub mod load;
pub mod machine;
pub mod measure;
pub mod op;
pub mod peers;
pub mod report;
pub mod rows;
pub mod server;
pub mod simulate;
pub mod speed;
pub mod statistics;
pub mod target;
pub mod trade;
pub mod wire;

/// Any error that ends the bench. It is printed and never handled.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
