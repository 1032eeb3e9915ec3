//! Tests of encrypted connections: `sslmode` decides which server is trusted.

use std::process::Command;

use roundlot::{Sink, sink::postgres::Postgres};

use crate::{
    Db, keyed, mapping,
    server::{Server, check},
    trades, write,
};

/// A server with a certificate for `localhost` that comes from an authority of its own.
fn server() -> Server {
    let server = Server::start(&[]);
    let openssl = |arguments: &[&str]| {
        check("openssl", &Command::new("openssl").args(arguments).current_dir(server.path()).output().unwrap())
    };
    std::fs::write(server.path().join("san"), "subjectAltName=DNS:localhost").unwrap();
    let new = ["req", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority"]].concat());
    openssl(&[&new[..4], &["-keyout", "data/server.key", "-out", "server.csr", "-subj", "/CN=localhost"]].concat());
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", "san", "-out", "data/server.crt"]].concat());
    openssl(&[&new[..], &["-x509", "-keyout", "other.key", "-out", "other.crt", "-subj", "/CN=other"]].concat());
    let data = server.data();
    let owner = ["--reference", data.to_str().unwrap(), "data/server.key", "data/server.crt"];
    check("chown", &Command::new("chown").args(owner).current_dir(server.path()).output().unwrap());
    check(
        "chmod",
        &Command::new("chmod").args(["600", "data/server.key"]).current_dir(server.path()).output().unwrap(),
    );
    server
}

/// Goal: each mode accepts the servers it should, and no other. Method: one server, named rightly and by an address that
/// its certificate does not have, with the authority that signed it and another.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn sslmode_decides_which_certificates_are_trusted() {
    let server = server();
    let db = Db::on(&server.url()).await;
    db.execute("ALTER SYSTEM SET ssl = on").await;
    db.execute("SELECT pg_reload_conf()").await;
    while db.other().await.query_one("SHOW ssl", &[]).await.unwrap().get::<_, String>(0) == "off" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let file = |name: &str| server.path().join(name).display().to_string();
    let (ca, other) = (file("ca.crt"), file("other.crt"));
    let open = async |host: &str, query: String| {
        let url = format!("{}&{query}", db.url().replace("127.0.0.1", host));
        let sink = Postgres::url(url).open(keyed()).await.map_err(|error| error.chain())?;
        assert!(write(&sink, trades(0..2)).await.len() % 2 == 0);
        let used = db
            .query("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE query ~ 'COMMIT$|^ROLLBACK'")
            .await;
        sink.close().await.unwrap();
        Ok::<_, String>(used.contains(&"t".to_owned()))
    };
    assert_eq!(open("127.0.0.1", "sslmode=disable".into()).await, Ok(false));
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(open(host, "sslmode=prefer".into()).await, Ok(true));
        assert_eq!(open(host, "sslmode=require".into()).await, Ok(true));
        assert_eq!(open(host, format!("sslmode=require&sslrootcert={ca}")).await, Ok(true));
        assert_eq!(open(host, format!("sslmode=verify-ca&sslrootcert={ca}")).await, Ok(true));
        for mode in ["require", "verify-ca", "verify-full"] {
            let why = open(host, format!("sslmode={mode}&sslrootcert={other}")).await.unwrap_err();
            assert!(why.contains("final: no way to talk to the server") && why.contains("certificate"), "{why}");
        }
    }
    assert_eq!(open("localhost", format!("sslmode=verify-full&sslrootcert={ca}")).await, Ok(true));
    let why = open("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}")).await.unwrap_err();
    assert!(why.contains("certificate not valid for name"), "{why}");
    let why = open("localhost", "sslmode=verify-full".into()).await.unwrap_err();
    assert!(why.contains("certificate") || why.contains("no root certificates"), "{why}");
}

/// Goal: encryption that is required and not available is an error, not a plain connection.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_server_without_tls_is_named() {
    let db = crate::db().await;
    let url = |query: &str| format!("{}&{query}", db.url());
    let error = Postgres::url(url("sslmode=require")).open(keyed()).await.unwrap_err();
    assert!(error.chain().contains("server does not support TLS"), "{}", error.chain());
    let error = Postgres::url(url("sslmode=verify-full&sslrootcert=/nowhere.crt")).open(keyed()).await.unwrap_err();
    assert!(error.chain().contains("cannot read the root certificates in \"/nowhere.crt\""), "{}", error.chain());
    let sink = Postgres::url(url("sslmode=prefer")).open(mapping().create_if_missing()).await.unwrap();
    assert!(write(&sink, trades(0..2)).await.is_empty());
}

/// Goal: a write that is given up is canceled on the server over an encrypted connection too. Method: dropped while it
/// waits for a lock; the lock is still held when its session ends.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_write_is_given_up_through_tls_too() {
    let server = server();
    let db = Db::on(&server.url()).await;
    db.execute("ALTER SYSTEM SET ssl = on").await;
    db.execute("SELECT pg_reload_conf()").await;
    while db.other().await.query_one("SHOW ssl", &[]).await.unwrap().get::<_, String>(0) == "off" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let sink = Postgres::url(format!("{}&sslmode=require", db.named_url(""))).open(keyed()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    let mut batch = roundlot::Batch::for_test(trades(0..3));
    {
        let mut writing = std::pin::pin!(sink.write(&mut batch));
        tokio::select! {
            _ = &mut writing => panic!("the table is locked"),
            _ = db.session("%trades%", "wait_event_type = 'Lock'") => {}
        }
    }
    db.until(&format!(
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{}')",
        db.schema
    ))
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    assert!(write(&sink, trades(0..3)).await.is_empty());
}
