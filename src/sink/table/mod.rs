//! [`Table`]: how an op becomes a row of any SQL database, with one typed value per column. It knows no database; the
//! sinks of `sqlite` and `postgres` read it when they are opened and for each op.

mod check;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod classified;
mod column;
mod column_type;
mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod sql;
mod value;

use std::fmt;

use rust_decimal::Decimal;

pub use column::Column;
pub use column_type::ColumnType;
pub use error::TableError;
pub use value::Value;

/// Mapping from ops of type `T` to rows: the table's name, its columns with one closure each, and the rule for rows
/// whose key exists.
///
/// The mapping knows no database: each sink writes it in its own dialect, with every name quoted and every value bound.
/// Columns have the order in which they are added.
///
/// One method per type covers the usual cases. Its closure returns the plain value; numbers, decimals, flags and
/// timestamps may also be an `Option`, where `None` is NULL. [`column`](Self::column) takes a closure that returns a
/// [`Value`]: for text that may be NULL, or that is computed.
///
/// # Panics
///
/// Building never panics. A panic in a column's closure refuses the op that it was called with; all other ops of the
/// batch are written.
///
/// # Examples
///
/// ```
/// use roundlot::sink::table::{ColumnType, Conflict, Table};
/// use rust_decimal::Decimal;
///
/// struct Trade {
///     id: String,
///     time_ns: i64,
///     symbol: &'static str,
///     price: Decimal,
///     note: Option<String>,
/// }
///
/// let trades = Table::<Trade>::new("trades")
///     .text("id", |t| &t.id)
///     .timestamp("time_ns", |t| t.time_ns)
///     .text("symbol", |t| t.symbol)
///     .decimal("price", |t| t.price)
///     .column("note", ColumnType::Text, |t| t.note.as_deref().into())
///     .key(["id"])
///     .on_conflict(Conflict::Ignore)
///     .create_if_missing();
///
/// assert!(trades.check().is_ok());
/// ```
#[must_use = "a table does nothing until a sink is opened with it"]
pub struct Table<T> {
    schema: Option<String>,
    name: String,
    columns: Vec<Column<T>>,
    key: Vec<String>,
    conflict: Conflict,
    once: Option<String>,
    create: bool,
}

/// Rule for a row whose key exists already, from before or from earlier in the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Conflict {
    /// The row is refused, if the table has a constraint on the key; the rows around it land.
    #[default]
    Fail,
    /// The existing row stays, and the op counts as accepted. Any other constraint still refuses.
    Ignore,
    /// The columns outside the key take the new values.
    Update,
}

impl<T> Table<T> {
    /// A mapping to the table of this name, with no columns yet. A dot is part of the name: for a table in a schema,
    /// set the [`schema`](Self::schema) apart.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            schema: None,
            name: name.into(),
            columns: Vec::new(),
            key: Vec::new(),
            conflict: Conflict::Fail,
            once: None,
            create: false,
        }
    }

    /// Sets the schema that the table is in. Without it, the server looks for the table in the schemas of its search
    /// path, and creates it in the first of them.
    ///
    /// PostgreSQL alone has schemas; a SQLite sink refuses to open with one. The schema has to exist, also for
    /// [`create_if_missing`](Self::create_if_missing).
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::sink::table::Table;
    ///
    /// // The table that SQL calls md.fills.
    /// let fills = Table::<i64>::new("fills").schema("md").integer("id", |id| *id);
    ///
    /// assert!(fills.check().is_ok());
    /// ```
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Adds a column of any type, whose closure may return NULL or borrow from the op.
    ///
    /// A value that does not suit the type refuses the op.
    pub fn column<F>(mut self, name: impl Into<String>, holds: ColumnType, value: F) -> Self
    where
        F: for<'a> Fn(&'a T) -> Value<'a> + Send + Sync + 'static,
    {
        self.columns.push(Column::new(name.into(), holds, Box::new(value)));
        self
    }

    /// Adds a column of integers, from an `i64` or an `Option<i64>`; `i64::from` makes one of a `u32`.
    /// A `u64` is for [`unsigned`](Self::unsigned).
    pub fn integer<F, V>(self, name: impl Into<String>, value: F) -> Self
    where
        F: Fn(&T) -> V + Send + Sync + 'static,
        V: Into<Option<i64>>,
    {
        self.column(name, ColumnType::Integer, move |op| value(op).into().into())
    }

    /// Adds a column of integers, from a `u64` or an `Option<u64>`, such as the ids of a venue.
    ///
    /// The column is that of [`integer`](Self::integer), and databases have a sign in 64 bits: a value above [`i64::MAX`]
    /// refuses its op, with an error that names the column. In PostgreSQL, a column declared as `numeric` keeps all values.
    /// For a table that is created, [`decimal`](Self::decimal) with `Decimal::from` does so, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::sink::table::Table;
    ///
    /// struct Fill { id: u64, maker_order: Option<u64> }
    ///
    /// let fills = Table::<Fill>::new("fills").unsigned("id", |f| f.id).unsigned("maker_order", |f| f.maker_order);
    ///
    /// assert!(fills.check().is_ok());
    /// ```
    pub fn unsigned<F, V>(self, name: impl Into<String>, value: F) -> Self
    where
        F: Fn(&T) -> V + Send + Sync + 'static,
        V: Into<Option<u64>>,
    {
        self.column(name, ColumnType::Integer, move |op| value(op).into().into())
    }

    /// Adds a column of binary floating point numbers; for money use [`decimal`](Self::decimal).
    pub fn float<F, V>(self, name: impl Into<String>, value: F) -> Self
    where
        F: Fn(&T) -> V + Send + Sync + 'static,
        V: Into<Option<f64>>,
    {
        self.column(name, ColumnType::Float, move |op| value(op).into().into())
    }

    /// Adds a column of flags.
    pub fn boolean<F, V>(self, name: impl Into<String>, value: F) -> Self
    where
        F: Fn(&T) -> V + Send + Sync + 'static,
        V: Into<Option<bool>>,
    {
        self.column(name, ColumnType::Bool, move |op| value(op).into().into())
    }

    /// Adds a column of decimals, which are stored exactly, trailing zeros included where the database can. A
    /// [`Price`](crate::market::Price) or [`Quantity`](crate::market::Quantity) is one by its `to_decimal`.
    pub fn decimal<F, V>(self, name: impl Into<String>, value: F) -> Self
    where
        F: Fn(&T) -> V + Send + Sync + 'static,
        V: Into<Option<Decimal>>,
    {
        self.column(name, ColumnType::Decimal, move |op| value(op).into().into())
    }

    /// Adds a column of points in time, given in nanoseconds since 1970-01-01 00:00 UTC.
    pub fn timestamp<F, V>(self, name: impl Into<String>, value: F) -> Self
    where
        F: Fn(&T) -> V + Send + Sync + 'static,
        V: Into<Option<i64>>,
    {
        self.column(name, ColumnType::Timestamp, move |op| value(op).into().into())
    }

    /// Adds a column of text, borrowed from the op. Where it may be NULL, use [`column`](Self::column) with
    /// `|op| op.note.as_deref().into()`.
    pub fn text<F>(self, name: impl Into<String>, value: F) -> Self
    where
        F: for<'a> Fn(&'a T) -> &'a str + Send + Sync + 'static,
    {
        self.column(name, ColumnType::Text, move |op| value(op).into())
    }

    /// Adds a column of JSON documents, as text borrowed from the op. The text is not checked here.
    pub fn json<F>(self, name: impl Into<String>, value: F) -> Self
    where
        F: for<'a> Fn(&'a T) -> &'a str + Send + Sync + 'static,
    {
        self.column(name, ColumnType::Json, move |op| value(op).into())
    }

    /// Adds a column of bytes, borrowed from the op.
    pub fn bytes<F>(self, name: impl Into<String>, value: F) -> Self
    where
        F: for<'a> Fn(&'a T) -> &'a [u8] + Send + Sync + 'static,
    {
        self.column(name, ColumnType::Bytes, move |op| value(op).into())
    }

    /// Sets the key columns: the primary key of a table that is created, and the key of the conflict rule. A second
    /// call replaces the first. An op with NULL in its key is refused.
    pub fn key<N: Into<String>>(mut self, columns: impl IntoIterator<Item = N>) -> Self {
        self.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the rule for a row whose key exists already; [`Conflict::Fail`] by default.
    ///
    /// The rules other than `Fail` need a [`key`](Self::key) on which the table has a unique constraint.
    pub fn on_conflict(mut self, rule: Conflict) -> Self {
        self.conflict = rule;
        self
    }

    /// Sets the column that identifies an op, so that a repeated write is harmless. An op whose value is in the table
    /// already is accepted and not written again.
    ///
    /// With it, a batcher may be [`idempotent`](crate::Batcher::idempotent), and writes ops in doubt again. The column
    /// needs a unique constraint of its own, which a created table gets; an op with NULL in it is refused. It requires
    /// [`Conflict::Fail`], which still refuses a row whose [`key`](Self::key) exists under another value of this
    /// column. [`Conflict::Ignore`] has the same effect by the key.
    pub fn once_by(mut self, column: impl Into<String>) -> Self {
        self.once = Some(column.into());
        self
    }

    /// Lets the sink create the table when it opens, unless it exists.
    pub fn create_if_missing(mut self) -> Self {
        self.create = true;
        self
    }

    /// The table's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema that was set, as it was given.
    pub fn schema_name(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The columns, in the order in which they were added.
    pub fn columns(&self) -> &[Column<T>] {
        &self.columns
    }

    /// The names of the key columns.
    pub fn key_columns(&self) -> &[String] {
        &self.key
    }

    /// Whether a column is part of the key.
    pub fn is_key(&self, column: &str) -> bool {
        self.key.iter().any(|key| key.eq_ignore_ascii_case(column))
    }

    /// Rule for a row whose key exists already.
    pub fn conflict(&self) -> Conflict {
        self.conflict
    }

    /// The column that identifies an op, if repeats are harmless.
    pub fn once_column(&self) -> Option<&str> {
        self.once.as_deref()
    }

    /// Whether the sink is to create the table if it is missing.
    pub fn creates(&self) -> bool {
        self.create
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("schema", &self.schema)
            .field("name", &self.name)
            .field("columns", &self.columns)
            .field("key", &self.key)
            .field("conflict", &self.conflict)
            .field("once", &self.once)
            .field("create", &self.create)
            .finish()
    }
}
