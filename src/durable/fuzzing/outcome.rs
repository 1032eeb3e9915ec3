//! Properties of rows of outcomes and dead letters: each result is found in its row, and no row makes its reader panic.

use std::time::Duration;

use crate::{
    durable::{
        bytes::Reader,
        codec::{Json, OpCodec, Raw},
        log::store::{LetterRow, OutcomeRow},
        outcomes::{MIXED, Results, each, end_of, from_row, letter, only, withdrawn},
    },
    rules::{
        batch::SinkError,
        outcome::{AckError, End, Outcome},
    },
};

/// Results that are packed are found, and rows that are read say the same each time.
pub fn outcome(bytes: &[u8]) -> bool {
    let is_row = row(bytes).is_some();
    let is_error = error(bytes);
    packed(bytes).is_some() || is_row || is_error
}

/// Packs receipts and errors, and looks for each of them.
fn packed(bytes: &[u8]) -> Option<()> {
    let codec: &dyn OpCodec<Vec<u8>, Vec<u8>> = &Raw;
    let mut reader = Reader::new(bytes);
    let (mut results, mut ops, mut number) = (Results::default(), Vec::new(), 0);
    while !reader.is_at_end() && ops.len() < 100 {
        // Each number once: the gap to the one before, and the kind of the result.
        let (gap, kind) = (u64::from(reader.byte()?), reader.byte()?);
        let (_, text) = reader.bytes()?;
        number += 1 + gap;
        let result = if kind % 4 > 0 {
            Ok(text.to_vec())
        } else {
            Err(AckError::Exhausted(SinkError::transient(String::from_utf8_lossy(text).into_owned())))
        };
        let end = if result.is_ok() { End::Delivered } else { End::Exhausted };
        let outcome = Outcome { result, end, attempts: u32::from(kind / 64), latency: Duration::ZERO };
        results.push(codec, (7, number), &outcome);
        ops.push((number, outcome));
    }
    let rows = results.into_rows();
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), ops.len() as u64);
    for (number, outcome) in &ops {
        let found: Vec<_> = rows.iter().filter_map(|row| only(row, *number)).collect();
        assert_eq!(found.len(), 1, "op {number} is in one row");
        assert_eq!(told(&from_row(codec, &found[0])), told(outcome));
    }
    (!ops.is_empty()).then_some(())
}

/// An outcome in a form that can be compared.
fn told<R: Clone>(outcome: &Outcome<R>) -> (Result<R, String>, End, u32) {
    let result = outcome.result.clone().map_err(|error| error.chain());
    (result, outcome.end, outcome.attempts)
}

/// Reads a row of arbitrary columns.
fn row(bytes: &[u8]) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let (first, count, attempts) = (reader.varint()?, reader.varint()?, reader.byte()?);
    let (at, lengths) = reader.bytes()?;
    let result = bytes[at + lengths.len()..].to_vec();
    let end = End::ALL.get(usize::from(attempts) % (End::ALL.len() + 1)).map_or(MIXED, |end| end.name());
    let row = OutcomeRow {
        producer: 7,
        first,
        count,
        end,
        attempts: u32::from(attempts),
        at: 0,
        schema: 0,
        result,
        lengths: lengths.to_vec(),
    };
    let mut is_found = false;
    for index in [0, 1, 2, count / 2, count.wrapping_sub(1), count] {
        let number = first.wrapping_add(index);
        let Some(found) = only(&row, number) else { continue };
        is_found = true;
        assert!(number >= first && number - first < count, "the row has no op {number}");
        assert_eq!((found.first, found.count, found.lengths.len()), (number, 1, 0));
        assert_ne!(found.end, MIXED);
        assert!(found.result.len() <= row.result.len(), "a result is a part of its row");
        let by_bytes: &dyn OpCodec<Vec<u8>, Vec<u8>> = &Raw;
        let by_json: &dyn OpCodec<String, u32> = &Json;
        if let Some(withdrawn) = withdrawn(&found) {
            let ops = withdrawn.decode(by_bytes).ops;
            assert!(ops.iter().map(Vec::len).sum::<usize>() <= found.result.len(), "ops are parts of their row");
            let _ = withdrawn.decode(by_json);
        }
        assert_eq!(told(&from_row(by_bytes, &found)), told(&from_row(by_bytes, &found)));
        let _ = told(&from_row(by_json, &found));
    }
    if count < 1000 {
        let by_bytes: &dyn OpCodec<Vec<u8>, Vec<u8>> = &Raw;
        each(by_bytes, &row, |number, outcome| {
            let found = only(&row, number).expect("each op is found by itself");
            assert_eq!(told(&from_row(by_bytes, &found)), told(&outcome));
        });
    }
    let op = row.lengths.clone();
    let position = None;
    let letter_row =
        LetterRow { producer: 7, number: 1, position, op, schema: 0, end, attempts: 1, error: row.result, at: 0 };
    let by_bytes: &dyn OpCodec<Vec<u8>, ()> = &Raw;
    let read = letter(by_bytes, &letter_row).expect("all bytes are an op");
    assert_eq!((read.end(), read.op), (end_of(end), letter_row.op.clone()));
    let by_json: &dyn OpCodec<String, ()> = &Json;
    let _ = letter(by_json, &letter_row);
    is_found.then_some(())
}

/// An error that is read says the same when it is written and read again.
fn error(bytes: &[u8]) -> bool {
    let Ok(error) = serde_json::from_slice::<AckError>(bytes) else { return false };
    let written = serde_json::to_vec(&error).expect("errors have a form in JSON");
    let read: AckError = serde_json::from_slice(&written).expect("it was written");
    assert_eq!(read.chain(), error.chain());
    let again = serde_json::to_vec(&read).expect("errors have a form in JSON");
    assert_eq!(again, written, "nothing else has changed");
    true
}
