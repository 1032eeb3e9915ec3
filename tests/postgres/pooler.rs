//! Tests of the sink behind Debian's pgbouncer, in each of its modes. Rows land in the right tables, the batcher waits
//! out outages of the server, and an unusable setting is refused by name.

use std::{fs, net::TcpStream, sync::Arc, time::Duration};

use roundlot::{
    ErrorKind,
    sink::{
        postgres::{OpenError, Postgres, PostgresSink},
        table::Conflict,
    },
};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{Db, Trade, account, connect, fail, keyed, mapping, named, refused, server::Server, trades, write};

/// A pgbouncer in front of a server, in the folder of that server. The pooler ends before the server does.
struct Pooler {
    server: Arc<Server>,
    port: u16,
    mode: &'static str,
    more: &'static str,
}

impl Pooler {
    /// Starts a pgbouncer in this mode, with two sessions of the server to hand on and more lines of configuration.
    fn start(server: &Arc<Server>, mode: &'static str, more: &'static str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let pooler = Self { server: server.clone(), port, mode, more };
        pooler.configure(mode);
        let started = server.run("pgbouncer", &["-d", &pooler.file("ini")]);
        crate::server::check("pgbouncer", &started);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    fn configure(&self, mode: &str) {
        let Self { port, more, .. } = self;
        let (log, pid, server) = (self.file("log"), self.file("pid"), self.server.port);
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={server} user=roundlot\n[pgbouncer]\nlisten_addr = 127.0.0.1
             listen_port = {port}\nauth_type = any\nadmin_users = admin\npool_mode = {mode}\ndefault_pool_size = 2
             server_login_retry = 0.1\nunix_socket_dir =\nlogfile = {log}\npidfile = {pid}\n{more}\n"
        );
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        fs::write(self.file("ini"), lines.join("\n")).unwrap();
    }

    /// Changes to another mode while clients are connected.
    async fn change(&self, mode: &str) {
        self.configure(mode);
        let url = format!("postgres://admin@127.0.0.1:{}/pgbouncer", self.port);
        connect(&url).await.batch_execute("RELOAD").await.unwrap();
    }

    fn url(&self) -> String {
        format!("postgres://roundlot@127.0.0.1:{}/postgres", self.port)
    }

    fn file(&self, kind: &str) -> String {
        self.server.path().join(format!("{}_{}.{kind}", self.mode, self.port)).display().to_string()
    }

    async fn open(&self) -> PostgresSink<Trade> {
        Postgres::url(self.url()).open(mapping().create_if_missing()).await.unwrap_or_else(|e| panic!("{}", e.chain()))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.file("log")).unwrap_or_default());
        }
        let pid = fs::read_to_string(self.file("pid")).unwrap_or_default();
        let _ended = std::process::Command::new("kill").arg("-9").arg(pid.trim()).output();
    }
}

/// A server whose tables a session finds without being told where, and the schema of the test on it.
async fn server() -> (Arc<Server>, Db) {
    let server = Arc::new(Server::start(&[]));
    let db = Db::on(&server.url()).await;
    db.execute(&format!("ALTER ROLE roundlot SET search_path TO {}", db.schema)).await;
    (server, db)
}

/// Fills every session of the server with statements that have the names of ours and write elsewhere, as another program
/// with the same client library does.
async fn fill_with_others(pooler: &Pooler) -> [Client; 2] {
    let clients = [connect(&pooler.url()).await, connect(&pooler.url()).await];
    for client in &clients {
        client.batch_execute("BEGIN").await.unwrap();
    }
    for client in &clients {
        // A statement that exists already is one of ours.
        let found = client.simple_query("SELECT name FROM pg_prepared_statements").await.unwrap();
        let ours =
            |name: &str| found.iter().any(|row| matches!(row, SimpleQueryMessage::Row(r) if r.get(0) == Some(name)));
        let write = "(int8[], text[], numeric[]) AS INSERT INTO others SELECT unnest($1), unnest($2), unnest($3)";
        let names = (0..1000).map(|name| format!("s{name}")).filter(|name| !ours(name));
        let sql: Vec<_> = names.map(|name| format!("PREPARE {name} {write}")).collect();
        client.batch_execute(&sql.join(";")).await.unwrap();
    }
    for client in &clients {
        client.batch_execute("COMMIT").await.unwrap();
    }
    clients
}

/// Writes 50 rows per turn, in the one session that the others leave free: each in its turn.
async fn write_in_turns(sink: &PostgresSink<Trade>, others: &[Client; 2], first: i64, turns: i64) {
    for turn in 0..turns {
        let mut held = Vec::new();
        for other in others {
            other.batch_execute("BEGIN").await.unwrap();
            let process: i32 = other.query_typed("SELECT pg_backend_pid()", &[]).await.unwrap()[0].get(0);
            held.push((process, other));
        }
        held.sort_by_key(|(process, _)| *process);
        let free = held.remove(turn as usize % 2).1;
        free.batch_execute("COMMIT").await.unwrap();
        let ids = first + turn * 50..first + turn * 50 + 50;
        assert!(write(sink, trades(ids)).await.is_empty());
        held[0].1.batch_execute("COMMIT").await.unwrap();
    }
}

/// Goal: no row is accepted that stands elsewhere. Method: the sessions of the server are full of another program's
/// statements, before or after the sink is opened, and are taken away in turn while it writes.
#[tokio::test]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn rows_land_in_the_right_table_behind_a_shared_session() {
    let (server, db) = server().await;
    db.execute("CREATE TABLE others (id bigint, symbol text, price numeric)").await;
    for before in [false, true] {
        let pooler = Pooler::start(&server, "transaction", "");
        if before {
            fill_with_others(&pooler).await;
        }
        let sink = pooler.open().await;
        let others = fill_with_others(&pooler).await;
        write_in_turns(&sink, &others, 0, 6).await;
        assert_eq!(db.query("SELECT count(*), count(DISTINCT id) FROM trades").await, ["300|300"]);
        assert_eq!(db.query("SELECT count(*) FROM others").await, ["0"]);
        db.execute("TRUNCATE trades").await;
    }
}

/// Goal: a session that is ours today may be shared tomorrow. Method: the mode is changed under an open sink.
#[tokio::test]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn a_pooler_that_shares_sessions_only_later_changes_nothing() {
    let (server, db) = server().await;
    db.execute("CREATE TABLE others (id bigint, symbol text, price numeric)").await;
    let pooler = Pooler::start(&server, "session", "");
    let sink = pooler.open().await;
    assert!(write(&sink, trades(0..50)).await.is_empty());
    pooler.change("transaction").await;
    // The session is handed on from the next transaction on.
    assert!(write(&sink, trades(50..100)).await.is_empty());
    let others = fill_with_others(&pooler).await;
    write_in_turns(&sink, &others, 100, 3).await;
    assert_eq!(db.query("SELECT count(*) FROM trades").await, ["250"]);
    assert_eq!(db.query("SELECT count(*) FROM others").await, ["0"]);
}

/// Goal: all that the sink does works behind a pooler. Method: each way in which rows go, and each verdict, per mode.
#[tokio::test]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn each_way_of_writing_works_behind_a_pooler() {
    let (server, db) = server().await;
    db.execute("CREATE TYPE side AS ENUM ('buy', 'sell')").await;
    for mode in ["session", "transaction"] {
        let pooler = Pooler::start(&server, mode, "");
        let settings = || Postgres::url(pooler.url()).copy_from(100).stage_from(100);
        let sink = settings().open(keyed().on_conflict(Conflict::Update)).await.unwrap();
        assert!(write(&sink, trades(0..3000)).await.is_empty(), "{mode}");
        assert!(write(&sink, vec![named(7, "last"), named(7, "very last")]).await.is_empty());
        assert_eq!(db.query("SELECT symbol FROM trades WHERE id = 7").await, ["very last"]);
        drop(sink);
        let plain = settings().open(mapping()).await.unwrap();
        assert_eq!(refused(&write(&plain, trades(2998..3300)).await), [0, 1], "those that are there");
        assert_eq!(db.query("SELECT count(*) FROM trades").await, ["3300"], "{mode}");
        let big = |id| Trade { symbol: "x".repeat(6_000_000), ..crate::trade(id) };
        let (kind, said) = fail(&plain, (5001..5004).map(big).collect()).await;
        assert_eq!((kind, said.contains("behind a pooler there is no COPY")), (ErrorKind::TooLarge, true), "{said}");
        drop(plain);
        db.execute("DROP TABLE trades; CREATE TABLE trades (id bigint, symbol side, price numeric)").await;
        let sink = settings().open(mapping()).await.unwrap();
        assert_eq!(refused(&write(&sink, vec![named(1, "buy"), named(2, "hold"), named(3, "sell")]).await), [1]);
        assert_eq!(db.ids().await, [1, 3]);
        db.execute("DROP TABLE trades").await;
    }
}

/// Goal: an outage behind a pooler is an outage. Method: the server is stopped at once under load, per mode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn a_server_that_stops_behind_a_pooler_costs_nothing() {
    let (server, db) = server().await;
    let mut db = db;
    for (mode, ids) in [("session", 0..4000), ("transaction", 4000..8000)] {
        let pooler = Pooler::start(&server, mode, "");
        let sink = pooler.open().await;
        let account = account::run(account::batcher(sink), ids, async || {
            let server = server.clone();
            let stopped = move || {
                server.stop();
                // For long enough that the pooler tries to log in.
                std::thread::sleep(Duration::from_millis(700));
                server.up();
            };
            tokio::task::spawn_blocking(stopped).await.unwrap();
        })
        .await;
        db.client = connect(&db.url()).await;
        account.agrees_with(&db).await;
        assert!(account.refused.is_empty(), "{mode}: {:?}", account.refused);
        assert!(account.in_doubt.len() <= 200, "no more than was in flight: {}", account.in_doubt.len());
        for why in account.in_doubt.values() {
            assert!(why.contains("the connection was lost during the commit"), "{why}");
        }
        db.execute("TRUNCATE trades").await;
    }
}

/// Goal: an error that a pooler reports in its own name is an outage, without the names of users and databases. Method:
/// the server is down while the sink is idle.
#[tokio::test]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn a_pooler_without_its_server_is_an_outage() {
    let (server, _db) = server().await;
    for mode in ["session", "transaction"] {
        // The pooler itself waits for the server before it gives up: for two minutes, unless set.
        let pooler = Pooler::start(&server, mode, "query_wait_timeout = 1");
        let sink = pooler.open().await;
        assert!(write(&sink, trades(0..10)).await.is_empty());
        server.stop();
        for _ in 0..3 {
            let mut batch = roundlot::Batch::for_test(trades(10..20));
            let error = roundlot::Sink::write(&sink, &mut batch).await.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Outage, "{}", error.chain());
            assert!(error.is_outage() && error.chain().contains("nothing was written"), "{}", error.chain());
        }
        server.up();
        let mut batch = roundlot::Batch::for_test(trades(10..20));
        while roundlot::Sink::write(&sink, &mut batch).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Goal: unusable settings are refused by name when the sink is opened. Method: each setting of a pooler that is in the
/// way.
#[tokio::test]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn settings_that_a_pooler_cannot_support_are_named_and_refused() {
    let (server, db) = server().await;
    db.execute("CREATE TABLE trades (id bigint, symbol text, price numeric)").await;
    db.execute("CREATE SCHEMA trading; CREATE TABLE trading.trades (id bigint, symbol text, price numeric)").await;
    let asks = |pooler: &Pooler| Postgres::url(format!("{}?options=-csearch_path%3Dtrading", pooler.url()));
    let why = async |settings: Postgres| settings.open(mapping()).await.map(drop).unwrap_err();

    let error = why(asks(&Pooler::start(&server, "transaction", ""))).await;
    let said = error.chain();
    assert!(said.contains("a pooler in between does not take `options`"), "{said}");
    assert!(said.contains("unsupported startup parameter (08P01)"), "{said}");

    let error = why(asks(&Pooler::start(&server, "session", "ignore_startup_parameters = options"))).await;
    assert!(matches!(error, OpenError::Address(_)) && error.chain().contains("search_path"), "{}", error.chain());

    let pooler = Pooler::start(&server, "session", "");
    let error = why(Postgres::url(pooler.url().replace("/postgres", "/s3cret"))).await;
    assert!(error.chain().ends_with("SQLSTATE 08P01"), "no name of a database is repeated: {}", error.chain());

    let by_statement = Pooler::start(&server, "statement", "");
    let error = why(Postgres::url(by_statement.url())).await;
    assert!(error.chain().contains("hands sessions on by statement"), "{}", error.chain());
}

/// Goal: leftovers of other clients in a shared session lead no row astray. Method: a search path and a temporary table
/// of the same name, in every session of the server.
#[tokio::test]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn settings_left_by_other_clients_change_no_row() {
    let (server, db) = server().await;
    db.execute("CREATE TABLE trades (id bigint, symbol text, price numeric)").await;
    db.execute("CREATE SCHEMA archive; CREATE TABLE archive.trades (id bigint, symbol text, price numeric)").await;
    let pooler = Pooler::start(&server, "transaction", "");
    let others = [connect(&pooler.url()).await, connect(&pooler.url()).await];
    let everywhere = async |sql: &str| {
        for begin in ["BEGIN", sql, "COMMIT"] {
            for other in &others {
                other.batch_execute(begin).await.unwrap();
            }
        }
    };
    everywhere("SET search_path TO archive").await;
    let sink = pooler.open().await;
    assert!(write(&sink, trades(0..10)).await.is_empty());
    assert_eq!(db.query("SELECT count(*) FROM archive.trades").await, ["0"]);
    assert_eq!(db.ids().await.len(), 10);

    everywhere("CREATE TEMP TABLE trades (id bigint, symbol text, price numeric)").await;
    assert!(write(&sink, trades(10..20)).await.is_empty());
    assert_eq!(db.ids().await.len(), 20);
    let error = Postgres::url(pooler.url()).open(mapping()).await.unwrap_err();
    assert!(matches!(error, OpenError::Temporary(_)), "{}", error.chain());
}

/// Goal: a write that is given up does not land behind a pooler, and the pooler survives. Method: writes that wait for
/// a lock are dropped, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs pgbouncer: tests/run.sh installs it"]
async fn a_write_is_given_up_behind_a_pooler_too() {
    let (server, db) = server().await;
    for mode in ["session", "transaction"] {
        let pooler = Pooler::start(&server, mode, "");
        let sink = pooler.open().await;
        let other = connect(&db.url()).await;
        for _ in 0..10 {
            other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
            let mut batch = roundlot::Batch::for_test(trades(0..10));
            {
                let mut writing = std::pin::pin!(roundlot::Sink::write(&sink, &mut batch));
                tokio::select! {
                    _ = &mut writing => panic!("the table is locked"),
                    _ = db.until("SELECT 1 FROM pg_locks WHERE NOT granted") => {}
                }
            }
            other.batch_execute("COMMIT").await.unwrap();
            db.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
        }
        assert!(write(&sink, trades(10..20)).await.is_empty());
        assert_eq!(db.query("SELECT count(*) FROM trades WHERE id < 10").await, ["0"]);
        db.execute("TRUNCATE trades").await;
    }
}
