//! The refused ops of a batch that was written, with their errors: for the tests of every database.

use roundlot::{Batch, ErrorKind};

/// An op that did not land: its place, its kind of error, and the full error text.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) op: usize,
    pub(crate) kind: ErrorKind,
    pub(crate) story: String,
}

pub(crate) fn refusals<T>(batch: &Batch<T>) -> Vec<Refusal> {
    let failed = |op| match batch.verdict(op).unwrap() {
        Ok(()) => None,
        Err(error) => Some(Refusal { op, kind: error.kind(), story: error.chain() }),
    };
    (0..batch.len()).filter_map(failed).collect()
}

/// Returns the places of the refused ops, all of them refused for good.
pub(crate) fn refused(refusals: &[Refusal]) -> Vec<usize> {
    for refusal in refusals {
        assert_eq!(refusal.kind, ErrorKind::Refused, "{refusal:?}");
    }
    refusals.iter().map(|refusal| refusal.op).collect()
}
