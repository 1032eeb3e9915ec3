//! Tests of credentials: no settings, sink, error or log shows them.

use std::{
    io,
    sync::{Arc, Mutex},
};

use roundlot::{
    Sink,
    sink::{postgres::Postgres, table::Conflict},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;

use crate::{Db, keyed, server::Server, trades, write};

const PASSWORD: &str = "k33p/it@s3cret";
const ENCODED: &str = "k33p%2Fit%40s3cret";

/// All logged text, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures the log until the guard is dropped.
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn is_clean(&self) {
        is_clean(&String::from_utf8_lossy(&self.0.lock().unwrap()));
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_clean(text: &str) {
    for secret in ["k33p", "s3cret", "K33P", "wr0ng"] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// Goal: no part of a password is ever printed. Method: a server that asks for a password, with the right one, a wrong
/// one, and a server that goes away. Everything that can be printed is printed, with a log of all levels.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn passwords_are_never_printed() {
    let (log, _logging) = Log::start();

    let server = Server::start(&["password_encryption = 'scram-sha-256'"]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!("CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'; GRANT ALL ON SCHEMA {} TO clerk", db.schema))
        .await;
    let rules = server.data().join("pg_hba.conf");
    let usual = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all clerk 127.0.0.1/32 scram-sha-256\n{usual}")).unwrap();
    db.execute("SELECT pg_reload_conf()").await;
    db.until("SELECT 1 FROM pg_hba_file_rules WHERE user_name = '{clerk}'").await;

    let url = |password: &str| db.url().replace("roundlot@", &format!("clerk:{password}@"));
    // The reload reaches the part of the server that checks logins a moment later.
    let mut error = Postgres::url(url("wr0ng")).open(keyed()).await.err();
    for _ in 0..500 {
        if error.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        error = Postgres::url(url("wr0ng")).open(keyed()).await.err();
    }
    let error = error.expect("a wrong password");
    assert!(error.chain().contains("final: the server does not accept the credentials"), "{}", error.chain());
    is_clean(&format!("{} {error:?}", error.chain()));

    let settings = Postgres::url(url(ENCODED));
    is_clean(&format!("{settings:?} {settings:#?}"));
    let sink = settings.open(keyed()).await.unwrap();
    is_clean(&format!("{sink:?} {sink:#?}"));
    assert!(write(&sink, trades(0..3)).await.is_empty());
    server.kill();
    let (_, said) = crate::fail(&sink, trades(3..6)).await;
    is_clean(&said);
    is_clean(&format!("{:?}", sink.close().await));
    log.is_clean();

    for bad in
        ["postgres://clerk:k33p@s3cret@host/db", "k33p", "postgres://clerk:s3cret/db", "postgres://h?k33p=s3cret"]
    {
        let settings = Postgres::url(bad);
        is_clean(&format!("{settings:?}"));
        let error = settings.open(keyed()).await.unwrap_err();
        is_clean(&format!("{} {error:?}", error.chain()));
    }
}

/// Goal: an error names neither the user nor the database. Method: each of the ways in which a server refuses a login,
/// and a right that is taken away from a user with a session.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn users_and_databases_are_never_named() {
    let (log, _logging) = Log::start();

    let server = Server::start(&["max_connections = 5", "superuser_reserved_connections = 0", "max_wal_senders = 0"]);
    let rules = server.data().join("pg_hba.conf");
    let usual = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all locked_wr0ng 127.0.0.1/32 scram-sha-256\n{usual}")).unwrap();
    let db = Db::on(&server.url()).await;
    db.execute("SELECT pg_reload_conf()").await;
    db.execute("CREATE ROLE locked_wr0ng LOGIN PASSWORD 'a'; CREATE ROLE barred_wr0ng NOLOGIN").await;
    db.execute("CREATE ROLE clerk_wr0ng LOGIN; CREATE ROLE alone_wr0ng LOGIN CONNECTION LIMIT 0").await;
    db.execute("CREATE DATABASE private_wr0ng").await;
    db.execute("CREATE DATABASE shut_wr0ng ALLOW_CONNECTIONS false").await;
    db.execute("REVOKE CONNECT ON DATABASE private_wr0ng FROM PUBLIC").await;

    let at = |user: &str, database: &str| format!("postgres://{user}@127.0.0.1:{}/{database}", server.port);
    for (url, words) in [
        (at("locked_wr0ng:k33p", "postgres"), "final: the server does not accept the credentials: SQLSTATE 28P01"),
        (at("nobody_wr0ng", "postgres"), "final: the server does not accept the credentials: SQLSTATE 28000"),
        (at("barred_wr0ng", "postgres"), "final: the server does not accept the credentials: SQLSTATE 28000"),
        (at("roundlot", "none_wr0ng"), "final: there is no such database: SQLSTATE 3D000"),
        (at("clerk_wr0ng", "private_wr0ng"), "final: no permission to write to the table: SQLSTATE 42501"),
        (at("clerk_wr0ng", "shut_wr0ng"), "the database lets nobody in for now, nothing was written: SQLSTATE 55000"),
        (at("alone_wr0ng", "postgres"), "the server has too many connections, nothing was written: SQLSTATE 53300"),
    ] {
        let error = Postgres::url(url).open(keyed()).await.unwrap_err();
        assert_eq!(error.chain(), format!("cannot connect to PostgreSQL: {words}"));
        is_clean(&format!("{error:?}"));
    }

    db.execute("CREATE DATABASE open_wr0ng").await;
    let inside = Db::on(&at("roundlot", "open_wr0ng")).await;
    inside.execute(&format!("GRANT ALL ON SCHEMA {} TO clerk_wr0ng", inside.schema)).await;
    let clerk = inside.url().replace("roundlot@", "clerk_wr0ng@");
    let sink = Postgres::url(clerk).stage_from(1).open(keyed().on_conflict(Conflict::Ignore)).await.unwrap();
    inside.execute("REVOKE TEMPORARY ON DATABASE open_wr0ng FROM PUBLIC").await;
    let (_, said) = crate::fail(&sink, trades(0..3)).await;
    assert_eq!(said, "refused: final: no permission to write to the table: SQLSTATE 42501");
    log.is_clean();
}
