//! [`Destination`]: what arrived, as the program reads it by a connection of its own.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, params};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::{Failure, op::Kind};

/// Shards of a log, at most.
const MAX_SHARDS: i32 = 64;

/// An op as it arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Rises from row to row of a shard.
    pub(crate) arrival: i64,
    pub(crate) kind: Kind,
    pub(crate) symbol: u32,
    pub(crate) source: u64,
    pub(crate) number: u64,
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
}

pub(crate) trait Destination: Send {
    /// Rows that were not read before, in the order of each shard.
    fn read(&mut self) -> Result<Vec<Row>, Failure>;

    /// How large it is.
    fn size(&mut self) -> Result<Size, Failure>;
}

/// How large a database is.
pub(crate) struct Size {
    /// Transactions so far that have changed a file, and all transactions of a database in PostgreSQL.
    pub(crate) commits: u64,
    /// Rows by table.
    pub(crate) rows: BTreeMap<String, u64>,
    /// Bytes of the tables with their indexes, which PostgreSQL tells.
    pub(crate) bytes: BTreeMap<String, u64>,
}

/// The rows in a file.
pub(crate) struct SqliteRows {
    database: Connection,
    last: i64,
}

impl SqliteRows {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        database.busy_timeout(Duration::from_secs(5))?;
        Ok(Self { database, last: 0 })
    }

    /// The bytes of the ops that a log has given up.
    pub(crate) fn dead_letters(path: &Path) -> rusqlite::Result<Vec<Vec<u8>>> {
        let database = Self::open(path)?.database;
        let mut select = database.prepare("SELECT CAST(op AS BLOB) FROM roundlot_dead_letters")?;
        select.query_map([], |row| row.get(0))?.collect()
    }
}

impl Destination for SqliteRows {
    fn read(&mut self) -> Result<Vec<Row>, Failure> {
        const SELECT: &str = "SELECT arrival, kind, symbol, source, number, shard, epoch FROM arrivals WHERE arrival > ?1 ORDER BY arrival";
        let mut select = self.database.prepare_cached(SELECT)?;
        let rows = select.query_map(params![self.last], |row| {
            Ok(Row {
                arrival: row.get(0)?,
                kind: Kind::named(row.get_ref(1)?.as_str()?),
                symbol: row.get(2)?,
                source: row.get::<_, i64>(3)? as u64,
                number: row.get::<_, i64>(4)? as u64,
                shard: row.get(5)?,
                epoch: row.get::<_, i64>(6)? as u64,
            })
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        self.last = rows.last().map_or(self.last, |row| row.arrival);
        Ok(rows)
    }

    fn size(&mut self) -> Result<Size, Failure> {
        let database = &self.database;
        let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|number| number as u64);
        let mut tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
        let tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let rows = tables.into_iter().map(|table| {
            let rows = number(&format!("SELECT count(*) FROM \"{table}\""))?;
            Ok((table, rows))
        });
        let rows = rows.collect::<rusqlite::Result<_>>()?;
        let commits = number("SELECT value FROM roundlot_meta WHERE key = 'commits'")?;
        Ok(Size { commits, rows, bytes: BTreeMap::new() })
    }
}

/// The rows in a database. The fence of a shard lets one transaction after the other write there, so that the numbers of its rows
/// rise with their commits. Those of different shards do not.
pub(crate) struct PostgresRows {
    url: String,
    runtime: Runtime,
    client: Client,
    /// The number of the last row that was read, by shard.
    last: BTreeMap<i32, i64>,
}

impl PostgresRows {
    pub(crate) fn open(url: &str) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(connect(url))?;
        Ok(Self { url: url.to_owned(), runtime, client, last: (0..MAX_SHARDS).map(|shard| (shard, 0)).collect() })
    }

    /// The bytes of the ops that a log has given up.
    pub(crate) fn dead_letters(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let rows = self.runtime.block_on(self.client.query("SELECT op FROM roundlot_letters", &[]))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

impl Destination for PostgresRows {
    fn read(&mut self) -> Result<Vec<Row>, Failure> {
        const SELECT: &str = "SELECT a.arrival, a.kind, a.symbol, a.source, a.number, a.shard, a.epoch \
            FROM unnest($1::integer[], $2::bigint[]) AS l(shard, last) \
            JOIN arrivals a ON a.shard = l.shard AND a.arrival > l.last ORDER BY a.arrival";
        if self.client.is_closed() {
            self.client = self.runtime.block_on(connect(&self.url))?;
        }
        let (shards, last): (Vec<i32>, Vec<i64>) = self.last.iter().unzip();
        let rows = self.runtime.block_on(self.client.query(SELECT, &[&shards, &last]))?;
        let row = |row: &tokio_postgres::Row| Row {
            arrival: row.get(0),
            kind: Kind::named(row.get(1)),
            symbol: row.get::<_, i32>(2) as u32,
            source: row.get::<_, i64>(3) as u64,
            number: row.get::<_, i64>(4) as u64,
            shard: row.get::<_, i32>(5) as u16,
            epoch: row.get::<_, i64>(6) as u64,
        };
        let rows: Vec<Row> = rows.iter().map(row).collect();
        self.last.extend(rows.iter().map(|row| (i32::from(row.shard), row.arrival)));
        Ok(rows)
    }

    fn size(&mut self) -> Result<Size, Failure> {
        self.runtime.block_on(async {
            let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
            let commits = self.client.query_one(commits, &[]).await?.get::<_, i64>(0) as u64;
            let tables = "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
            let (mut rows, mut bytes) = (BTreeMap::new(), BTreeMap::new());
            for table in self.client.query(tables, &[]).await? {
                let (table, size): (String, i64) = (table.get(0), table.get(1));
                let count = self.client.query_one(&format!("SELECT count(*) FROM \"{table}\""), &[]).await?;
                rows.insert(table.clone(), count.get::<_, i64>(0) as u64);
                bytes.insert(table, size as u64);
            }
            Ok(Size { commits, rows, bytes })
        })
    }
}

/// A session of a runtime, which is read only while that is entered.
pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
