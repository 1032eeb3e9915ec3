//! [`Rows`]: the values of one batch on their way to the writer thread, as owned cells in blocks. The ops stay where
//! they are. The sink fills blocks, the writer binds them and gives them back.

use std::{io::Write, sync::mpsc::Receiver};

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rust_decimal::Decimal;

use crate::sink::{
    SinkError,
    table::{Column, Table, Value},
};

/// Rows per block. The writer inserts one block while the next is filled, which hides the filling of all but the first.
pub(super) const BLOCK: usize = 128;

/// Memory retained by an empty block, in bytes; more is released.
const MAX_RETAINED_BYTES: usize = 1 << 16;

/// Rows of a batch that have arrived, in blocks that are full but for the last.
#[derive(Debug, Default)]
pub(super) struct Rows {
    blocks: Vec<Block>,
    whole: bool,
}

/// Rows of equal width, flat, in allocations that are reused for the next batch.
#[derive(Debug, Default)]
pub(super) struct Block {
    cells: Vec<Cell>,
    /// Text and bytes of all cells, one after another.
    arena: Vec<u8>,
    /// Index in the batch of the op of each row.
    ops: Vec<usize>,
    /// Whether this is the last block.
    pub(super) last: bool,
}

/// One value, of 16 bytes; for that, spans have 32 bits.
#[derive(Debug, Clone, Copy)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Span),
    Blob(Span),
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

/// Why an op did not become a row.
#[derive(Debug)]
pub(super) enum NoRow {
    /// The op cannot be stored, in any batch.
    Refused(SinkError),
    /// The batch does not fit into the buffer.
    Overflow(SinkError),
}

impl Rows {
    /// All rows at once, in blocks that are full but for the last.
    #[cfg(feature = "durable-file")]
    pub(super) fn of(blocks: Vec<Block>) -> Self {
        Self { blocks, whole: true }
    }

    /// Waits for the next block. There is none after the last, or if the write was given up on the way.
    pub(super) fn receive(&mut self, arriving: &Receiver<Block>) -> bool {
        if self.whole {
            return false;
        }
        let Ok(block) = arriving.recv() else { return false };
        self.whole = block.last;
        self.blocks.push(block);
        true
    }

    /// Waits for all remaining blocks. Returns whether they came.
    pub(super) fn receive_all(&mut self, arriving: &Receiver<Block>) -> bool {
        while self.receive(arriving) {}
        self.whole
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.last().map_or(0, |last| (self.blocks.len() - 1) * BLOCK + last.len())
    }

    /// Returns the index in the batch of the op of row `row`.
    pub(super) fn op(&self, row: usize) -> usize {
        self.blocks[row / BLOCK].ops[row % BLOCK]
    }

    /// The cells of row `row`, as SQLite binds them.
    pub(super) fn row(&self, row: usize, columns: usize) -> impl Iterator<Item = Bind<'_>> {
        let block = &self.blocks[row / BLOCK];
        block.cells[row % BLOCK * columns..][..columns].iter().map(|cell| block.bind(*cell))
    }

    /// The blocks, to be filled again.
    pub(super) fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }
}

impl Block {
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.arena.clear();
        self.ops.clear();
        self.last = false;
        self.cells.shrink_to(MAX_RETAINED_BYTES / size_of::<Cell>());
        self.arena.shrink_to(MAX_RETAINED_BYTES);
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Adds the row of `op`, the `i`-th of its batch, whole or not at all.
    pub(super) fn push<T>(&mut self, table: &Table<T>, i: usize, op: &T) -> Result<(), NoRow> {
        let (cells, arena) = (self.cells.len(), self.arena.len());
        for column in table.columns() {
            let value = table.value(column, op).map_err(NoRow::Refused);
            if let Err(error) = value.and_then(|value| self.push_value(column, value)) {
                self.cells.truncate(cells);
                self.arena.truncate(arena);
                return Err(error);
            }
        }
        self.ops.push(i);
        Ok(())
    }

    fn push_value<T>(&mut self, column: &Column<T>, value: Value<'_>) -> Result<(), NoRow> {
        let cell = match value {
            Value::Null => Cell::Null,
            Value::Integer(value) => Cell::Integer(value),
            Value::Unsigned(value) => match i64::try_from(value) {
                Ok(value) => Cell::Integer(value),
                Err(_) => return Err(NoRow::Refused(column.refusal("is beyond the range of SQLite's integers"))),
            },
            Value::Bool(value) => Cell::Integer(value.into()),
            // SQLite would store NULL without an error.
            Value::Float(value) if value.is_nan() => {
                return Err(NoRow::Refused(column.refusal("is NaN, which SQLite cannot store")));
            }
            Value::Float(value) => Cell::Real(value),
            Value::Text(text) => Cell::Text(self.store(|arena| arena.extend_from_slice(text.as_bytes()))?),
            Value::Bytes(bytes) => Cell::Blob(self.store(|arena| arena.extend_from_slice(&bytes))?),
            Value::Decimal(value) => Cell::Text(self.store(|arena| write_decimal(arena, value))?),
        };
        self.cells.push(cell);
        Ok(())
    }

    fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Span, NoRow> {
        let start = self.arena.len();
        write(&mut self.arena);
        match (u32::try_from(start), u32::try_from(self.arena.len() - start)) {
            (Ok(start), Ok(len)) => Ok(Span { start, len }),
            _ => Err(NoRow::Overflow(SinkError::too_large("the text and bytes of 128 rows exceed 4 GiB"))),
        }
    }

    fn bind(&self, cell: Cell) -> Bind<'_> {
        let span = |Span { start, len }| &self.arena[start as usize..][..len as usize];
        Bind(match cell {
            Cell::Null => ValueRef::Null,
            Cell::Integer(value) => ValueRef::Integer(value),
            Cell::Real(value) => ValueRef::Real(value),
            Cell::Text(text) => ValueRef::Text(span(text)),
            Cell::Blob(bytes) => ValueRef::Blob(span(bytes)),
        })
    }
}

/// A cell that borrows its text from the block.
pub(super) struct Bind<'a>(ValueRef<'a>);

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Writes the same text as `Display`, which takes five times as long.
fn write_decimal(arena: &mut Vec<u8>, value: Decimal) {
    let (Ok(mut rest), false) = (u64::try_from(value.mantissa().unsigned_abs()), value.is_zero()) else {
        let _infallible = write!(arena, "{value}");
        return;
    };
    let scale = value.scale() as usize;
    // Maximum length: 28 digits behind the point or 20 in all, the point and the sign.
    let mut text = [b'0'; 40];
    let (mut start, mut digits) = (text.len(), 0);
    while rest > 0 || digits <= scale {
        if digits == scale && scale > 0 {
            start -= 1;
            text[start] = b'.';
        }
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        digits += 1;
    }
    if value.is_sign_negative() {
        start -= 1;
        text[start] = b'-';
    }
    arena.extend_from_slice(&text[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_as_they_print() {
        let edges =
            ["0", "0.00", "-0", "-0.0", "1", "-1", "10", "0.1", "-0.01", "1.50", "100.00", "18446744073709551615"];
        let wide = ["18446744073709551616", "79228162514264337593543950335", "-7.9228162514264337593543950335"];
        let long = ["0.0000000000000000000000000001", "-0.0000000018446744073709551615"];
        for text in edges.iter().chain(&wide).chain(&long) {
            let value: Decimal = text.parse().expect("a decimal");
            assert_eq!(written(value), value.to_string(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_decimal_is_written_as_it_prints(lo: u32, mid: u32, hi: u32, negative: bool, scale in 0_u32..=28, wide: bool) {
            let (mid, hi) = if wide { (mid, hi) } else { (mid % 3, 0) };
            let value = Decimal::from_parts(lo, mid, hi, negative, scale);
            proptest::prop_assert_eq!(written(value), value.to_string());
        }
    }

    fn written(value: Decimal) -> String {
        let mut arena = Vec::new();
        write_decimal(&mut arena, value);
        String::from_utf8(arena).expect("ASCII")
    }
}
