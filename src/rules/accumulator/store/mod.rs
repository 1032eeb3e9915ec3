//! Where ops live from accept to settle, and the order in which they leave: plain containers that know no rule. The
//! accumulator owns one of each.

mod arena;
mod fast_path;
mod fifo;
mod indexed_heap;
mod node;
mod priority_queue;
mod side_table;

pub(super) use arena::Arena;
pub(super) use fast_path::{QueuedRun, TakenRuns};
use fifo::Fifo;
pub(super) use indexed_heap::Heap;
pub(super) use node::{NONE, NodeMeta};
pub(super) use priority_queue::{Queue, SortKey};
pub(super) use side_table::Cold;
