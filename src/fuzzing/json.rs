//! Ops as JSON: orders, cancels, amendments, prices, quotes and trades.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    market::{PriceUpdate, Quote, Trade, TradeOp},
    stage::Merge,
};

/// Ops that are read say the same when they are written and read again. Two ops of one key become one of them or a new one, both, or
/// none, and what they become is an op that can be written.
pub fn json(bytes: &[u8]) -> bool {
    let is_market_data =
        list::<PriceUpdate>(bytes).is_some() | list::<Quote>(bytes).is_some() | list::<Trade>(bytes).is_some();
    let Some(ops) = list::<TradeOp>(bytes) else { return is_market_data };
    for (waiting, newer) in ops.iter().zip(ops.iter().skip(1)) {
        if waiting.conflation_key() == newer.conflation_key() {
            for merge in [TradeOp::merge, TradeOp::merge_reused] {
                check(merge(waiting.clone(), newer.clone()), waiting, newer);
            }
        }
    }
    true
}

fn check(merged: Merge<TradeOp>, waiting: &TradeOp, newer: &TradeOp) {
    match merged {
        Merge::Net => {}
        Merge::Into(op) => {
            assert_eq!(op.conflation_key(), waiting.conflation_key(), "it stands for both");
            comes_back(&op);
        }
        Merge::Apart { waiting: first, newer: second } => {
            let keys = [&first, &second].map(TradeOp::conflation_key);
            assert_eq!(keys, [waiting, newer].map(TradeOp::conflation_key), "both are sent");
        }
    }
}

/// The ops of a list, each of which comes back.
fn list<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<Vec<T>> {
    let ops: Vec<T> = serde_json::from_slice(bytes).ok()?;
    ops.iter().for_each(comes_back);
    Some(ops)
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(op: &T) {
    let written = serde_json::to_string(op).expect("an op is JSON");
    let read = serde_json::from_str::<T>(&written).ok();
    assert_eq!(read.as_ref(), Some(op), "written as {written}");
}
