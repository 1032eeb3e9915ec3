//! Outcomes as rows of the log, and back.

use std::time::Duration;

use super::{
    codec::OpCodec,
    log::store::{LetterRow, OutcomeRow},
};
use crate::rules::{
    batch::SinkError,
    outcome::{AckError, DeadLetter, End, Outcome},
};

/// The first byte of a result: the codec's bytes of the receipt follow.
const RECEIPT: u8 = 0;
/// The first byte of a result: the error follows, as JSON.
const ERROR: u8 = 1;
/// The first byte of a result: there was a receipt, which the codec could not encode.
const NO_BYTES: u8 = 2;

/// The row of an outcome, which the engine stamps.
pub(crate) fn to_row<T, R>(
    codec: &dyn OpCodec<T, R>,
    (producer, number): (u64, u64),
    outcome: &Outcome<R>,
) -> OutcomeRow {
    let mut result = Vec::new();
    let schema = match &outcome.result {
        Ok(receipt) => {
            result.push(RECEIPT);
            // The op has landed, whether or not its receipt has bytes; without any, it can't be asked for later.
            if codec.encode_receipt(receipt, &mut result).is_err() {
                result = vec![NO_BYTES];
            }
            codec.receipt_schema()
        }
        Err(error) => {
            result.push(ERROR);
            result.extend(serde_json::to_vec(error).unwrap_or_default());
            0
        }
    };
    OutcomeRow {
        producer,
        first: number,
        count: 1,
        end: outcome.end.name(),
        attempts: outcome.attempts,
        at: 0,
        schema,
        result,
    }
}

/// Joins rows of consecutive numbers that are alike otherwise.
pub(crate) fn join_alike(mut rows: Vec<OutcomeRow>) -> Vec<OutcomeRow> {
    rows.sort_unstable_by_key(|row| (row.producer, row.first));
    let mut joined: Vec<OutcomeRow> = Vec::new();
    for row in rows {
        match joined.last_mut() {
            Some(last)
                if (last.producer, last.first + last.count) == (row.producer, row.first)
                    && (last.end, last.attempts, last.schema) == (row.end, row.attempts, row.schema)
                    && last.result == row.result =>
            {
                last.count += row.count;
            }
            _ => joined.push(row),
        }
    }
    joined
}

/// The outcome that a row tells. Its latency is not in the log. A receipt that can't be read makes the result in doubt; the end
/// tells that the op was delivered.
pub(crate) fn from_row<T, R>(codec: &dyn OpCodec<T, R>, row: &OutcomeRow) -> Outcome<R> {
    let end = end_of(row.end);
    let unreadable = |why: String| AckError::InDoubt(SinkError::ambiguous(format!("its record can't be read: {why}")));
    let result = match row.result.split_first() {
        Some((&RECEIPT, bytes)) => {
            codec.decode_receipt(bytes, row.schema).map_err(|error| unreadable(error.to_string()))
        }
        Some((&ERROR, bytes)) => {
            Err(serde_json::from_slice(bytes).unwrap_or_else(|error| unreadable(error.to_string())))
        }
        _ => Err(unreadable("the receipt had no bytes".to_owned())),
    };
    Outcome { result, end, attempts: row.attempts, latency: Duration::ZERO }
}

/// The end of a name in the log. A name of a newer version is none that this one knows, and so is lost.
pub(crate) fn end_of(name: &str) -> End {
    End::ALL.into_iter().find(|end| end.name() == name).unwrap_or(End::Lost)
}

/// The dead letter that a row tells; `None` if its op can't be read.
pub(crate) fn letter<T, R>(codec: &dyn OpCodec<T, R>, row: &LetterRow) -> Option<DeadLetter<T>> {
    let op = codec.decode_op(&row.op, row.schema).ok()?;
    let error = serde_json::from_slice(&row.error);
    let error = error.unwrap_or_else(|error| SinkError::refused(format!("the log's record can't be read: {error}")));
    Some(DeadLetter::new(op, error, row.attempts, end_of(row.end)))
}
