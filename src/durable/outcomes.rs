//! Outcomes as rows of the log, and back.

use std::{ops::Range, time::Duration};

use super::{
    bytes::{Reader, put_varint},
    codec::OpCodec,
    log::store::{LetterRow, OutcomeRow},
    withdraw::Withdrawn,
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

/// The first byte of a result: a request has withdrawn ops, whose bytes follow.
const OPS: u8 = 3;

/// The end of a row whose ops did not end alike: its result has a part for each run of ops that did.
pub(crate) const MIXED: &str = "mixed";

/// Bytes of results in one row, at most, unless a single result has more: whoever asks for one reads the row.
const MAX_BYTES: usize = 32 * 1024;

/// Outcomes on their way into a record. Ops of consecutive numbers share a row, whether or not they ended alike.
#[derive(Debug, Default)]
pub(crate) struct Results {
    ops: Vec<OpResult>,
    /// The results of all ops.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct OpResult {
    id: (u64, u64),
    end: End,
    attempts: u32,
    schema: u32,
    /// The result in `bytes`.
    range: Range<usize>,
}

impl Results {
    pub(crate) fn push<T, R>(&mut self, codec: &dyn OpCodec<T, R>, id: (u64, u64), outcome: &Outcome<R>) {
        let start = self.bytes.len();
        let schema = match &outcome.result {
            Ok(receipt) => {
                self.bytes.push(RECEIPT);
                // The op has landed, whether or not its receipt has bytes; without any, it can't be asked for later.
                if codec.encode_receipt(receipt, &mut self.bytes).is_err() {
                    self.bytes.truncate(start);
                    self.bytes.push(NO_BYTES);
                }
                codec.receipt_schema()
            }
            Err(error) => {
                self.bytes.push(ERROR);
                if serde_json::to_writer(&mut self.bytes, error).is_err() {
                    self.bytes.truncate(start + 1);
                }
                0
            }
        };
        let range = start..self.bytes.len();
        self.ops.push(OpResult { id, end: outcome.end, attempts: outcome.attempts, schema, range });
    }

    /// A request has withdrawn ops.
    pub(crate) fn push_withdrawn(&mut self, id: (u64, u64), withdrawn: &Withdrawn) {
        let start = self.bytes.len();
        self.bytes.push(OPS);
        self.bytes.extend_from_slice(withdrawn.bytes());
        let (range, schema) = (start..self.bytes.len(), withdrawn.schema());
        self.ops.push(OpResult { id, end: End::Withdrawn, attempts: 0, schema, range });
    }

    /// The rows, which the engine stamps.
    pub(crate) fn into_rows(self) -> Vec<OutcomeRow> {
        let Self { mut ops, bytes } = self;
        ops.sort_unstable_by_key(|op| op.id);
        let mut rows: Vec<OutcomeRow> = Vec::new();
        for op in &ops {
            let result = &bytes[op.range.clone()];
            if !rows.last_mut().is_some_and(|row| join(row, op, result)) {
                rows.push(OutcomeRow {
                    producer: op.id.0,
                    first: op.id.1,
                    count: 1,
                    end: op.end.name(),
                    attempts: op.attempts,
                    at: 0,
                    schema: op.schema,
                    result: result.to_vec(),
                    lengths: Vec::new(),
                });
            }
        }
        mix(rows)
    }
}

/// Adds an op to a row if the two are alike. Returns whether it did.
fn join(row: &mut OutcomeRow, op: &OpResult, result: &[u8]) -> bool {
    let is_next = (row.producer, row.first + row.count) == op.id;
    let is_alike = (row.end, row.attempts, row.schema) == (op.end.name(), op.attempts, op.schema);
    if !is_next || !is_alike || row.result.first() != result.first() {
        return false;
    }
    if row.lengths.is_empty() && row.result == result {
        row.count += 1;
        return true;
    }
    if (row.lengths.is_empty() && row.count > 1) || row.result.len() + result.len() > MAX_BYTES {
        return false;
    }
    if row.lengths.is_empty() {
        put_varint(&mut row.lengths, row.result.len() as u64 - 1);
        row.result.push(b'\n');
    }
    put_varint(&mut row.lengths, result.len() as u64 - 1);
    row.result.extend_from_slice(&result[1..]);
    row.result.push(b'\n');
    row.count += 1;
    true
}

/// Joins rows of consecutive ops that did not end alike. Where prices are merged, every few ops end in another way.
fn mix(rows: Vec<OutcomeRow>) -> Vec<OutcomeRow> {
    let mut mixed: Vec<OutcomeRow> = Vec::new();
    for row in rows {
        match mixed.last_mut() {
            Some(last) if can_mix(last, &row) => {
                if last.end != MIXED {
                    let mut result = Vec::new();
                    put_part(&mut result, last);
                    *last = OutcomeRow { end: MIXED, attempts: 0, schema: 0, result, lengths: Vec::new(), ..*last };
                }
                put_part(&mut last.result, &row);
                last.count += row.count;
            }
            _ => mixed.push(row),
        }
    }
    mixed
}

fn can_mix(row: &OutcomeRow, next: &OutcomeRow) -> bool {
    let bytes = |row: &OutcomeRow| row.lengths.len() + row.result.len();
    (row.producer, row.first + row.count) == (next.producer, next.first) && bytes(row) + bytes(next) <= MAX_BYTES
}

/// Appends a row of ops that ended alike, but for its first number: a line of JSON, its lengths and its results.
fn put_part(to: &mut Vec<u8>, row: &OutcomeRow) {
    let OutcomeRow { count, end, attempts, schema, lengths, result, .. } = row;
    let line = format!("[{count},\"{end}\",{attempts},{schema},{},{}]\n", lengths.len(), result.len());
    to.extend_from_slice(line.as_bytes());
    to.extend_from_slice(lengths);
    to.extend_from_slice(result);
}

/// The rows of ops that ended alike in a row, up to the first that is damaged.
fn parts(row: &OutcomeRow) -> impl Iterator<Item = OutcomeRow> {
    let (mut whole, mut rest, mut first) = ((row.end != MIXED).then(|| row.clone()), &*row.result, row.first);
    if whole.is_some() {
        rest = &[];
    }
    std::iter::from_fn(move || {
        if let Some(row) = whole.take() {
            return Some(row);
        }
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let head: (u64, &str, u32, u32, usize, usize) = serde_json::from_slice(&rest[..line]).ok()?;
        let (count, end, attempts, schema, lengths, result) = head;
        let (lengths, behind) = rest[line + 1..].split_at_checked(lengths)?;
        let (result, behind) = behind.split_at_checked(result)?;
        let (lengths, result) = (lengths.to_vec(), result.to_vec());
        let part = OutcomeRow { first, count, end: end_of(end).name(), attempts, schema, result, lengths, ..*row };
        first = first.checked_add(count)?;
        rest = behind;
        Some(part)
    })
}

/// The results of ops that ended alike, where they differ.
struct Differing<'a> {
    lengths: Reader<'a>,
    results: Reader<'a>,
    kind: u8,
}

impl<'a> Differing<'a> {
    /// `None` if all ops have the same result, or the row is damaged.
    fn of(row: &'a OutcomeRow) -> Option<Self> {
        let (lengths, mut results) = (Reader::new(&row.lengths), Reader::new(&row.result));
        let kind = (!lengths.is_at_end()).then(|| results.byte())??;
        Some(Self { lengths, results, kind })
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let result = self.results.take(usize::try_from(self.lengths.varint()?).ok()?)?;
        self.results.byte()?;
        Some([&[self.kind], result].concat())
    }

    fn skip(&mut self) -> Option<()> {
        let length = usize::try_from(self.lengths.varint()?).ok()?;
        self.results.take(length.checked_add(1)?).map(drop)
    }
}

/// The row of one op of a row. `None` if it is not in it, or the row is damaged.
pub(crate) fn only(row: &OutcomeRow, number: u64) -> Option<OutcomeRow> {
    number.checked_sub(row.first).filter(|index| *index < row.count)?;
    let part = parts(row).find(|part| number.checked_sub(part.first).is_some_and(|index| index < part.count))?;
    let result = match Differing::of(&part) {
        Some(mut differing) => {
            (part.first..number).try_for_each(|_| differing.skip())?;
            differing.next()?
        }
        None => part.result.clone(),
    };
    Some(OutcomeRow { first: number, count: 1, result, lengths: Vec::new(), ..part })
}

/// Tells the outcomes of all ops of a row, with their numbers, up to the first that is damaged.
pub(crate) fn each<T, R: Clone>(codec: &dyn OpCodec<T, R>, row: &OutcomeRow, mut tell: impl FnMut(u64, Outcome<R>)) {
    let end = row.first.saturating_add(row.count);
    for part in parts(row) {
        let mut numbers = part.first..part.first.saturating_add(part.count).min(end);
        match Differing::of(&part) {
            Some(mut differing) => {
                while let (Some(number), Some(result)) = (numbers.next(), differing.next()) {
                    tell(number, from_row(codec, &OutcomeRow { result, ..part.clone() }));
                }
            }
            // Errors are read once. A receipt may have a `Clone` of its own, which can panic.
            None if part.result.first() == Some(&ERROR) => {
                let outcome = from_row(codec, &part);
                numbers.for_each(|number| tell(number, outcome.clone()));
            }
            None => numbers.for_each(|number| tell(number, from_row(codec, &part))),
        }
    }
}

/// The outcome that the row of one op tells. Its latency is not in the log. A receipt that can't be read makes the result in doubt; the end
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
        // A request is no op, and has no receipt.
        Some((&OPS, _)) => Err(AckError::Withdrawn),
        _ => Err(unreadable("the receipt had no bytes".to_owned())),
    };
    Outcome { result, end, attempts: row.attempts, latency: Duration::ZERO }
}

/// The ops that a request has withdrawn, as the row of it alone tells. `None` if it is the row of an op.
pub(crate) fn withdrawn(row: &OutcomeRow) -> Option<Withdrawn> {
    let (kind, bytes) = row.result.split_first()?;
    (*kind == OPS).then(|| Withdrawn::from_parts(row.schema, bytes.to_vec()))
}

/// The end of a row, by its name. One that this version does not know is lost.
#[cfg_attr(
    not(any(feature = "durable-file", feature = "postgres")),
    expect(dead_code, reason = "memory keeps rows as they are")
)]
pub(crate) fn row_end(name: &str) -> &'static str {
    if name == MIXED { MIXED } else { end_of(name).name() }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::durable::codec::Json;

    fn outcome((is_ok, value, attempts): (bool, u32, u32)) -> Outcome<u32> {
        let (result, end) = match is_ok {
            true => (Ok(value), End::Delivered),
            false => (Err(AckError::Refused(SinkError::refused(format!("error {value}")))), End::Refused),
        };
        Outcome { result, end, attempts, latency: Duration::ZERO }
    }

    proptest! {
        /// Goal: the outcome of each op is found, in whatever rows. Method: receipts and errors, alike and not, in any order.
        #[test]
        fn each_outcome_is_found(ops in prop::collection::vec((0..6_u32, 0..3_u32, 1..3_u32), 1..80), gap in 0..80_u64, seed in any::<u64>()) {
            let codec: &dyn OpCodec<u32, u32> = &Json;
            let ops: Vec<(u64, _)> = ops.into_iter().zip(1..).map(|((kind, value, attempts), number)| {
                // Now and then the same again, and a number that is missing.
                let value = if kind == 5 { 7 } else { value * 1000 };
                (if number > gap { number + 1 } else { number }, (kind > 0, value, attempts))
            }).collect();
            let mut shuffled = ops.clone();
            shuffled.sort_by_key(|(number, _)| (number ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut results = Results::default();
            for (number, op) in shuffled {
                results.push(codec, (3, number), &outcome(op));
            }
            let rows = results.into_rows();
            let told = |outcome: Outcome<u32>| (outcome.result.map_err(|error| error.chain()), outcome.end, outcome.attempts);
            prop_assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), ops.len() as u64);
            prop_assert!(rows.len() <= 2, "one on each side of the gap");
            for row in &rows {
                let found = |number| only(row, number).map(|row| (number, told(from_row(codec, &row))));
                let mut all = Vec::new();
                each(codec, row, |number, outcome| all.push((number, told(outcome))));
                prop_assert_eq!(all, (row.first..row.first + row.count).filter_map(found).collect::<Vec<_>>());
            }
            for (number, op) in ops {
                let found: Vec<_> = rows.iter().filter_map(|row| only(row, number)).collect();
                prop_assert_eq!(found.len(), 1);
                prop_assert_eq!(told(from_row(codec, &found[0])), told(outcome(op)));
            }
        }
    }

    /// Goal: the answers to requests are found among outcomes of ops. Method: answers that are alike and others, and receipts between.
    #[test]
    fn answers_to_requests_are_found() {
        let codec: &dyn OpCodec<u32, u32> = &Json;
        let (mut results, mut answers) = (Results::default(), Vec::new());
        for number in 0..20_u64 {
            let mut withdrawn = Withdrawn::new(0);
            assert!((0..number / 3 % 3).all(|op| withdrawn.push(codec, &(op as u32))));
            if number % 7 == 6 {
                results.push(codec, (1, number), &outcome((true, 3, 1)));
                answers.push(None);
            } else {
                results.push_withdrawn((1, number), &withdrawn);
                answers.push(Some(withdrawn));
            }
        }
        let rows = results.into_rows();
        for (number, answer) in (0..).zip(answers) {
            let found: Vec<_> = rows.iter().filter_map(|row| only(row, number)).collect();
            assert_eq!((found.len(), withdrawn(&found[0])), (1, answer), "{number}");
        }
        assert!(matches!(from_row(codec, &only(&rows[0], 0).unwrap()).result, Err(AckError::Withdrawn)));
    }

    #[test]
    fn receipts_of_their_own_share_a_row() {
        let codec: &dyn OpCodec<u32, u32> = &Json;
        let mut results = Results::default();
        (0..1000_u32).for_each(|i| results.push(codec, (1, u64::from(i)), &outcome((true, i, 1))));
        let rows = results.into_rows();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].result.starts_with(b"\x000\n1\n2\n"), "readable");
        assert!(only(&rows[0], 1000).is_none());
    }
}
