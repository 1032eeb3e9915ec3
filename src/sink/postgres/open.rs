//! Opens a sink: connects, creates the table if asked, and checks that the table takes every value of the mapping.
//! Returns the plan, or the reason why rows could not be written.

use std::error::Error as StdError;

use tokio_postgres::{Client, Error, Row, error::SqlState, types::Type};

use super::{
    OpenError,
    classify::classify,
    connection::Connection,
    options::Postgres,
    plan::{Found, Plan, qualified},
    pool::Pool,
    search_path,
    watch::Watch,
    wire::{Declared, Field, type_name},
};
use crate::sink::table::{ColumnType, Table, TableError, classified::Phase};

/// Connects and checks everything that can be checked before there is a row.
pub(super) async fn open<T>(settings: &Postgres, table: &Table<T>) -> Result<Pool, OpenError> {
    table.check()?;
    let server = settings.server().map_err(OpenError::Address)?;
    let mut session =
        server.connect(None).await.map_err(|classified| OpenError::Connect(Box::new(classified.context)))?;
    let path = search_path::has_arrived(session.client(), server.config.get_options()).await;
    if !path.map_err(|error| OpenError::Connect(boxed(error)))? {
        return Err(OpenError::Address(LOST_PATH.into()));
    }
    let plan = planned(session.client(), settings, table).await;
    session.rest();
    let plan = plan?;
    let first = Connection::prepare(session, &plan).await.map_err(|error| rejected(table, error))?;
    Ok(Pool::new(server, plan, first, settings.max_connections))
}

const LOST_PATH: &str = "the search_path in its options did not reach the server, a pooler in between may drop it; name the \
    schema with the table";

async fn planned<T>(client: &Client, settings: &Postgres, table: &Table<T>) -> Result<Plan, OpenError> {
    // One transaction keeps to one server process behind a pooler. Settings of other clients are overridden in it.
    client.batch_execute(BEGIN).await.map_err(|error| OpenError::Connect(boxed(error)))?;
    let plan = look(client, settings, table).await?;
    client.batch_execute("END").await.map_err(|error| database(table, error))?;
    Ok(plan)
}

/// The plan for a table, in a transaction that has a savepoint named `roundlot`.
#[cfg(feature = "durable")]
pub(super) async fn planned_in<T>(client: &Client, table: &Table<T>) -> Result<Plan, OpenError> {
    look(client, &Postgres::of(Err("there is none".to_owned())), table).await
}

async fn look<T>(client: &Client, settings: &Postgres, table: &Table<T>) -> Result<Plan, OpenError> {
    let found = find_or_create(client, table).await?;
    let plan = Plan::of(table, &found, settings);
    client.batch_execute(&plan.check).await.map_err(|error| rejected(table, error))?;
    Ok(plan)
}

const BEGIN: &str =
    "START TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path TO DEFAULT; SAVEPOINT roundlot";

async fn find_or_create<T>(client: &Client, table: &Table<T>) -> Result<Found, OpenError> {
    if let Some(found) = find(client, table).await? {
        return Ok(found);
    }
    if let Some(error) = misnamed(client, table).await? {
        return Err(error);
    }
    if !table.creates() {
        return Err(OpenError::NoTable(table.full_name()));
    }
    let created = client.batch_execute(&table.create_sql(type_name)).await;
    if created.is_err() {
        client.batch_execute("ROLLBACK TO SAVEPOINT roundlot").await.map_err(|error| database(table, error))?;
    }
    match (find(client, table).await?, created) {
        // Two sessions that create it at once conflict, and then it exists.
        (Some(found), _) => Ok(found),
        (None, Err(error)) => Err(database(table, error)),
        (None, Ok(())) => Err(OpenError::NoTable(table.full_name())),
    }
}

/// The table, and how it differs from one that COPY and INSERT write alike.
///
/// * COPY refuses a table with policies, and applies no rules.
/// * COPY lets a column of a domain be NULL that is not in its list, whatever the domain says.
/// * COPY checks rows before it writes them, hundreds at once: a CHECK whose function reads the table sees fewer rows.
/// * A foreign table, or partition, may take one and not the other.
const TABLE: &str = "WITH RECURSIVE tree(id) AS (
        SELECT to_regclass($1)::oid UNION ALL SELECT inhrelid FROM tree JOIN pg_inherits ON inhparent = id
    )
    SELECT s.nspname::text, t.relname::text, t.relkind::text, t.relpersistence = 't', row_security_active(t.oid)
        OR EXISTS (SELECT FROM tree JOIN pg_class c ON c.oid = id WHERE c.relkind = 'f')
        OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type d ON d.oid = a.atttypid WHERE a.attrelid = t.oid
            AND a.attnum > 0 AND NOT a.attisdropped AND d.typtype = 'd' AND a.attname::text <> ALL ($2))
        OR EXISTS (SELECT FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass
            AND d.objid = c.oid AND d.refclassid = 'pg_proc'::regclass WHERE c.contype = 'c' AND (
                c.conrelid IN (SELECT id FROM tree)
                OR c.contypid IN (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.oid AND a.atttypid <> 0))),
    EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = t.oid AND r.ev_type = '3' AND r.ev_enabled <> 'D'),
    has_database_privilege(current_database(), 'TEMPORARY')
    FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace WHERE t.oid = to_regclass($1)";

/// The columns, with the types that domains stand for.
const COLUMNS: &str = "WITH RECURSIVE c AS (
        SELECT attname, atttypid AS type, atttypmod AS modifier, format_type(atttypid, atttypmod) AS declared
        FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT c.attname, t.typbasetype, greatest(c.modifier, t.typtypmod), c.declared
        FROM c JOIN pg_type t ON t.oid = c.type WHERE t.typtype = 'd'
    )
    SELECT c.attname::text, c.declared, t.typname::text, format('%I.%I', s.nspname, t.typname), t.typtype = 'e', c.modifier
    FROM c JOIN pg_type t ON t.oid = c.type JOIN pg_namespace s ON s.oid = t.typnamespace WHERE t.typtype <> 'd'";

async fn find<T>(client: &Client, table: &Table<T>) -> Result<Option<Found>, OpenError> {
    let name = table.reference();
    let mapped: Vec<&str> = table.columns().iter().map(|column| column.name()).collect();
    let rows = client.query_typed(TABLE, &[(&name, Type::TEXT), (&mapped, Type::TEXT_ARRAY)]).await;
    let rows = rows.map_err(|error| database(table, error))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (schema, relation, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    if !["r", "p", "f"].contains(&kind.as_str()) {
        return Err(OpenError::NotATable(table.full_name()));
    }
    if row.get(3) {
        return Err(OpenError::Temporary(table.full_name()));
    }
    let columns = client.query_typed(COLUMNS, &[(&name, Type::TEXT)]).await.map_err(|error| database(table, error))?;
    let into = qualified(&schema, &relation);
    let shape = client.query_typed(Watch::SQL, &[(&into, Type::TEXT), (&mapped, Type::TEXT_ARRAY)]).await;
    let shape = shape.map_err(|error| database(table, error))?;
    let shape = shape.first().map_or_else(String::new, |row| row.get(1));
    let columns_of_mapping = mapped.into_iter().map(Into::into).collect();
    let fields = table.columns().iter().map(|column| field(table, column.name(), column.holds(), &columns));
    Ok(Some(Found {
        watch: Watch { table: into.clone(), columns: columns_of_mapping, shape },
        into,
        fields: fields.collect::<Result<_, _>>()?,
        guarded: row.get(4),
        ruled: row.get(5),
        may_stage: row.get(6),
    }))
}

const SCHEMA: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname = $1 OR nspname = lower($1) ORDER BY nspname = $1 DESC LIMIT 1";

/// Says why a table that is not there cannot have been meant.
async fn misnamed<T>(client: &Client, table: &Table<T>) -> Result<Option<OpenError>, OpenError> {
    let schema = async |name: &str| {
        let found = client.query_typed(SCHEMA, &[(&name, Type::TEXT)]).await.map_err(|error| database(table, error))?;
        Ok::<_, OpenError>(found.first().map(|row| row.get::<_, String>(0)))
    };
    if let Some(name) = table.schema_name()
        && schema(name).await?.is_none_or(|found| found != name)
    {
        return Ok(Some(OpenError::NoSchema(name.into())));
    }
    // As SQL reads it, that of a database may be in front of the schema's.
    let parts: Vec<&str> = table.name().split('.').map(|part| part.trim_matches('"')).collect();
    for at in 0..(parts.len() - 1).min(2) {
        if let Some(schema) = schema(parts[at]).await? {
            let advice = format!("Table::new({:?}).schema({schema:?})", parts[at + 1..].join("."));
            return Ok(Some(TableError::DottedName { name: table.name().into(), advice }.into()));
        }
    }
    Ok(None)
}

fn field<T>(table: &Table<T>, column: &str, holds: ColumnType, columns: &[Row]) -> Result<Field, OpenError> {
    let (table, column) = (table.full_name(), column.to_owned());
    let Some(row) = columns.iter().find(|row| row.get::<_, &str>(0) == column) else {
        return Err(OpenError::NoColumn { table, column });
    };
    let declared = Declared { name: row.get(2), reference: row.get(3), is_enum: row.get(4), modifier: row.get(5) };
    let wrong = || OpenError::WrongType { table, column, holds, declared: row.get(1) };
    Field::of(holds, &declared).ok_or_else(wrong)
}

fn rejected<T>(table: &Table<T>, error: Error) -> OpenError {
    if error.code() == Some(&SqlState::INVALID_COLUMN_REFERENCE) {
        let columns = table.once_column().map_or_else(|| table.key_columns().to_vec(), |once| vec![once.into()]);
        return OpenError::NotUnique { table: table.full_name(), columns };
    }
    database(table, error)
}

fn database<T>(table: &Table<T>, error: Error) -> OpenError {
    OpenError::Database { table: table.full_name(), source: boxed(error) }
}

fn boxed(error: Error) -> Box<dyn StdError + Send + Sync> {
    Box::new(classify(Phase::Statement, error).context)
}
