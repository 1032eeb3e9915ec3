//! [`Watch`]: detects changes of a table during a sink's life that COPY would not notice. These are rules and policies,
//! which apply to INSERT alone, and columns of another type. `open` records the table; `connection` compares after each
//! COPY into it, before the COMMIT, when no other transaction can change it.

use tokio_postgres::Row;

use super::classify::{CHANGED, ClassifiedError, Hint, ServerMessage};
use crate::sink::{
    ErrorKind,
    table::classified::{Context, Scope},
};

/// The table, and how its columns were declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch {
    /// The table as SQL reads it.
    pub(super) table: String,
    /// The columns of the mapping.
    pub(super) columns: Vec<String>,
    /// Their types when the table was opened.
    pub(super) shape: String,
}

/// Change of the table since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// New rules or policies: rows go by INSERT.
    Guarded,
    /// Columns of other types.
    Shape,
}

impl Watch {
    /// Takes the name of the table and those of the columns; the second value of its row is the shape.
    pub(super) const SQL: &str = "SELECT row_security_active(t.oid)
            OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = t.oid AND r.ev_type = '3' AND r.ev_enabled <> 'D'),
        coalesce((SELECT string_agg(format('%s %s %s %s', a.attnum, a.atttypid, a.atttypmod, a.attidentity), ', '
            ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname::text = ANY ($2)), '')
        FROM pg_class t WHERE t.oid = to_regclass($1)";

    /// Reads the answer.
    pub(super) fn change(&self, now: &Row) -> Change {
        if now.get::<_, &str>(1) != self.shape {
            Change::Shape
        } else if now.get(0) {
            Change::Guarded
        } else {
            Change::None
        }
    }
}

/// Makes the error of a COPY that is to be rolled back.
pub(super) fn changed(change: Change) -> ClassifiedError {
    let (kind, meaning) = match change {
        Change::Shape => (ErrorKind::Refused, CHANGED),
        _ => (ErrorKind::Transient, "the table has got rules or policies since it was opened, nothing was written"),
    };
    let hint = if change == Change::Guarded { Hint::ByInsert } else { Hint::None };
    let source = ServerMessage { text: "seen by COPY".into(), goes_on: true, hint };
    ClassifiedError { scope: Scope::Batch, kind, context: Context { meaning, source } }
}

/// Whether the same rows are to be written again at once: nothing of them has landed, and they now go by INSERT.
pub(super) fn goes_otherwise(classified: &ClassifiedError) -> bool {
    classified.context.source.hint == Hint::ByInsert
}
