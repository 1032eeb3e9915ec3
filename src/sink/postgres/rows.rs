//! [`Rows`]: the rows of one batch as they cross the wire, in one buffer. COPY reads it as it is, and its cells are the
//! elements of the arrays for UNNEST. The sink fills it, the connection sends it.

use std::{fmt, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::wire::Field;
use crate::{
    rules::batch::Batch,
    sink::{
        SinkError,
        table::{Table, classified::Failed},
    },
};

/// Capacity retained by an empty buffer, in bytes: enough for 10,000 rows of 400 bytes.
const MAX_RETAINED_BYTES: usize = 4 << 20;

/// Header of each row: its number of cells.
const ROW_HEAD: usize = 2;

/// Rows in one buffer, which is filled again for the next batch.
#[derive(Default)]
pub(super) struct Rows {
    bytes: Bytes,
    /// Start of each cell, row by row; 32 bits, since there is one per value.
    cells: Vec<u32>,
    width: usize,
    /// Index in the batch of the op of each row.
    ops: Vec<usize>,
}

impl Rows {
    /// Replaces the content by the rows of all pending ops, and returns the ops that have none.
    pub(super) fn fill<T>(
        &mut self,
        table: &Table<T>,
        fields: &[Field],
        batch: &Batch<T>,
    ) -> Result<Failed, SinkError> {
        let mut bytes = self.emptied();
        let mut refused = Failed::new();
        self.width = fields.len();
        for (i, op) in batch.pending().indexed() {
            let (start, first_cell) = (bytes.len(), self.cells.len());
            match self.push(&mut bytes, table, fields, op) {
                Ok(()) => self.ops.push(i),
                Err(error) => {
                    bytes.truncate(start);
                    self.cells.truncate(first_cell);
                    refused.push((i, error));
                }
            }
            if u32::try_from(bytes.len()).is_err() {
                return Err(SinkError::too_large("the values of the batch exceed 4 GiB"));
            }
        }
        self.bytes = bytes.freeze();
        Ok(refused)
    }

    fn push<T>(&mut self, bytes: &mut BytesMut, table: &Table<T>, fields: &[Field], op: &T) -> Result<(), SinkError> {
        bytes.put_u16(fields.len() as u16);
        for (column, field) in table.columns().iter().zip(fields) {
            // A row of 1600 cells of 1 GB is the server's to refuse; its place is then beside the point.
            self.cells.push(bytes.len() as u32);
            let value = table.value(column, op)?;
            field.put(bytes, &value).map_err(|why| column.refusal(why))?;
        }
        Ok(())
    }

    /// The buffer of the last batch, which has no other owner once the server has answered.
    fn emptied(&mut self) -> BytesMut {
        self.cells.clear();
        self.ops.clear();
        let mut bytes = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_default();
        bytes.clear();
        bytes
    }

    /// Forgets the rows, and gives back the memory of many.
    pub(super) fn trim(&mut self) {
        let bytes = self.emptied();
        if bytes.capacity() <= MAX_RETAINED_BYTES {
            self.bytes = bytes.freeze();
        }
        self.cells.shrink_to(MAX_RETAINED_BYTES / size_of::<u32>());
        self.ops.shrink_to(MAX_RETAINED_BYTES / size_of::<usize>());
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of all rows.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The index in the batch of the op that row `row` came from.
    pub(super) fn op(&self, row: usize) -> usize {
        self.ops[row]
    }

    /// The rows, as COPY reads them.
    pub(super) fn bytes(&self, rows: Range<usize>) -> Bytes {
        self.bytes.slice(self.start(rows.start)..self.start(rows.end))
    }

    /// One column of these rows, as UNNEST reads it.
    pub(super) fn array(&self, field: &Field, column: usize, rows: Range<usize>) -> Array<'_> {
        Array { rows: self, column, range: rows, element: field.wire.oid() }
    }

    fn start(&self, row: usize) -> usize {
        self.cells.get(row * self.width).map_or(self.bytes.len(), |cell| *cell as usize - ROW_HEAD)
    }

    fn cell(&self, row: usize, column: usize) -> &[u8] {
        let cell = row * self.width + column;
        let end = if column + 1 < self.width { self.cells[cell + 1] as usize } else { self.start(row + 1) };
        &self.bytes[self.cells[cell] as usize..end]
    }
}

/// An array of one dimension whose elements are the cells of a column.
pub(super) struct Array<'a> {
    rows: &'a Rows,
    column: usize,
    range: Range<usize>,
    element: u32,
}

impl ToSql for Array<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_i32(1); // dimensions
        out.put_i32(1); // there may be NULL
        out.put_u32(self.element);
        out.put_i32(i32::try_from(self.range.len())?);
        out.put_i32(1); // the first index
        for row in self.range.clone() {
            out.extend_from_slice(self.rows.cell(row, self.column));
        }
        Ok(IsNull::No)
    }

    /// The statement was prepared with the types of the fields.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Values are never printed: the client's log would have them.
impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{
        postgres::wire::Declared,
        table::{ColumnType, Value},
    };

    fn fields() -> [Field; 2] {
        [(ColumnType::Integer, "int2"), (ColumnType::Text, "text")].map(|(holds, name)| {
            let declared = Declared { name: name.into(), reference: name.into(), is_enum: false, modifier: -1 };
            Field::of(holds, &declared).expect("a way in")
        })
    }

    fn table() -> Table<i64> {
        Table::new("t").integer("id", |op| *op).column("name", ColumnType::Text, |op| match op {
            9 => Value::Null,
            op => format!("n{op}").into(),
        })
    }

    fn filled(rows: &mut Rows, ops: Vec<i64>) -> Failed {
        rows.fill(&table(), &fields(), &Batch::for_test(ops)).expect("they fit")
    }

    #[test]
    fn one_buffer_serves_copy_and_arrays() {
        let mut rows = Rows::default();
        assert!(filled(&mut rows, vec![7, 9, 10]).is_empty());
        let seven: &[u8] = &[0, 2, 0, 0, 0, 2, 0, 7, 0, 0, 0, 2, b'n', b'7'];
        let nine: &[u8] = &[0, 2, 0, 0, 0, 2, 0, 9, 255, 255, 255, 255];
        assert_eq!(rows.bytes(0..2), [seven, nine].concat());
        assert_eq!(rows.bytes(1..2), nine);
        assert_eq!(rows.cell(1, 1), [255; 4]);

        let mut array = BytesMut::new();
        rows.array(&fields()[1], 1, 1..3).to_sql(&Type::TEXT_ARRAY, &mut array).expect("it fits");
        assert_eq!(array[..20], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1]);
        assert_eq!(array[20..], [255, 255, 255, 255, 0, 0, 0, 3, b'n', b'1', b'0']);
    }

    #[test]
    fn an_op_without_a_row_leaves_no_trace() {
        let mut rows = Rows::default();
        let refused = filled(&mut rows, vec![7, 1 << 20, 8]);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].1.chain(), r#"refused: column "id" is beyond the range of smallint"#);
        assert_eq!((rows.len(), rows.op(0), rows.op(1)), (2, 0, 2));
        assert_eq!(rows.cell(1, 1), b"\0\0\0\x02n8");
    }

    #[test]
    fn the_buffer_is_filled_again() {
        let mut rows = Rows::default();
        filled(&mut rows, (0..1000).collect());
        let before = rows.bytes.as_ptr();
        filled(&mut rows, (0..900).collect());
        assert_eq!(rows.bytes.as_ptr(), before);
        let held = rows.bytes(0..10);
        filled(&mut rows, vec![1]);
        assert_eq!(held[12..14], *b"n0", "a buffer that is still held is left alone");
    }

    #[test]
    fn a_large_buffer_is_released_when_idle() {
        let mut rows = Rows::default();
        filled(&mut rows, (0..1000).collect());
        let before = rows.bytes.as_ptr();
        rows.trim();
        assert_eq!((rows.len(), rows.size()), (0, 0));
        filled(&mut rows, (0..900).collect());
        assert_eq!(rows.bytes.as_ptr(), before);
        let big =
            Table::new("t").integer("id", |op: &i64| *op).column("name", ColumnType::Text, |_| "n".repeat(600).into());
        rows.fill(&big, &fields(), &Batch::for_test((0..9000).collect())).expect("they fit");
        assert!(rows.size() > MAX_RETAINED_BYTES);
        rows.trim();
        assert_eq!(rows.emptied().capacity(), 0);
    }

    #[test]
    fn values_are_not_printed() {
        let mut rows = Rows::default();
        filled(&mut rows, vec![7]);
        assert_eq!(format!("{:?}", rows.array(&fields()[1], 1, 0..1)), "1 values");
    }
}
