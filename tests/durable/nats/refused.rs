//! Servers that no log is joined on, and who may.

use roundlot::durable::{JoinError, Nats};

use super::{node::*, *};

/// Permissions of a process, as the documentation of `Nats` lists them, for a log of one shard.
const PERMISSIONS: &str = r#"permissions: {
    publish: ["roundlot.orders.>", "$JS.API.STREAM.INFO.roundlot-frames-0-orders", "$JS.API.STREAM.INFO.roundlot-members-orders",
        "$JS.API.STREAM.CREATE.roundlot-frames-0-orders", "$JS.API.STREAM.CREATE.roundlot-members-orders",
        "$JS.API.STREAM.PURGE.roundlot-frames-0-orders", "$JS.API.STREAM.MSG.DELETE.roundlot-members-orders",
        "$JS.API.STREAM.MSG.GET.roundlot-frames-0-orders", "$JS.API.DIRECT.GET.roundlot-frames-0-orders",
        "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DELETE.>", "$JS.FC.>"]
    subscribe: ["_INBOX.>", "roundlot.orders.news", "roundlot.orders.outcomes.*"]
}"#;

const JETSTREAM: &str = "jetstream { store_dir: \"STORE\", sync_interval: always }";

async fn refusal(engine: Nats) -> String {
    match try_join(engine, 1, None).await {
        Ok(_) => panic!("it was joined"),
        Err(error) => error.to_string(),
    }
}

/// Sends some ops, and leaves.
async fn is_used(engine: Nats) {
    let orders = try_join(engine, 1, None).await.unwrap();
    for op in 0..20 {
        orders.handle().submit(op).await.unwrap().await.unwrap();
    }
    conserved(&orders.leave().await.unwrap());
}

/// Goal: servers that can't keep the promises of a log are refused, with the reason. Method: each reason, once.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn what_can_not_be_a_log_is_refused() {
    let place = Place::new().await;
    let (url, monitoring) = (place.server.url(), place.server.monitoring());
    let why = refusal(Nats::at(&url).monitoring([&monitoring])).await;
    assert!(why.contains("needs a ledger"), "{why}");
    let why = refusal(Nats::at(&url).ledger(&place.url)).await;
    assert!(why.contains("it is not known whether the servers of NATS sync"), "{why}");
    let why = refusal(Nats::at("nats://127.0.0.1:1").servers_sync().ledger(&place.url)).await;
    assert!(why.contains("NATS"), "{why}");
    let why = refusal(Nats::at("nats://bob:secret@ :x").servers_sync().ledger(&place.url)).await;
    assert!(why.contains("can't be read") && !why.contains("secret"), "{why}");
    for lease in [Duration::from_millis(199), Duration::from_secs(61)] {
        assert!(refusal(place.engine().lease(lease)).await.contains("a lease is from 200ms to 60s"));
    }
    assert!(refusal(place.engine().replicas(6)).await.contains("1 to 5 servers"));
    join(&place, 1).await.leave().await.unwrap();
    let other = try_join(place.engine(), 2, None).await;
    assert!(matches!(other, Err(JoinError::Shards { has: 1, wanted: 2 })));

    let lax = Server::with("jetstream { store_dir: \"STORE\" }").await;
    let engine = || Nats::at(lax.url()).ledger(&place.url);
    let why = refusal(engine().monitoring([lax.monitoring()])).await;
    assert!(why.contains("the server test does not sync what it confirms"), "{why}");
    // Its streams are not those of the ledger.
    let why = refusal(engine().power_loss_is_acceptable()).await;
    assert!(why.contains("is that of another log"), "{why}");
    let place = Place::new().await;
    is_used(engine().power_loss_is_acceptable().ledger(&place.url)).await;
}

/// Goal: the permissions in the documentation suffice, and a name or a password that is wrong is refused. Method: a user who has these
/// and no others, and an account of the system.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn permissions_that_are_documented_suffice() {
    let accounts = format!(
        "{JETSTREAM}\naccounts {{ A {{ jetstream: enabled, users: [{{ user: bob, password: secret, {PERMISSIONS} }}] }}, \
         SYS {{ users: [{{ user: admin, password: hidden }}] }} }}\nsystem_account: SYS"
    );
    let (server, place) = (Server::with(&accounts).await, Place::new().await);
    let with = |user: &str| server.url().replace("nats://", &format!("nats://{user}@"));
    let engine = || Nats::at(with("bob:secret")).ledger(&place.url);
    is_used(engine().system(with("admin:hidden"))).await;
    // Messages of settled ops can be removed, too.
    let orders = try_join(engine().servers_sync(), 1, None).await.unwrap();
    orders.handle().submit(20).await.unwrap().await.unwrap();
    let client = async_nats::connect_with_options(
        server.url(),
        async_nats::ConnectOptions::with_user_and_password("bob".into(), "secret".into()),
    );
    let context = async_nats::jetstream::new(client.await.unwrap());
    let stream = context.get_stream("roundlot-frames-0-orders").await.unwrap();
    streams::shrinks(&stream, 1).await;
    orders.leave().await.unwrap();
    outages::hears(&place, || engine().servers_sync()).await;
    let why = refusal(engine().system(with("admin:wrong"))).await;
    assert!(why.contains("NATS") && !why.contains("wrong"), "{why}");
    let why = refusal(Nats::at(with("bob:wrong")).servers_sync().ledger(&place.url)).await;
    assert!(why.contains("NATS") && !why.contains("wrong"), "{why}");
}

/// Goal: an NKey and a token open the servers. Method: a server that asks for each.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn keys_and_tokens_open_a_server() {
    let seed = "SUAOXCKZFFSS2P5JBDLZ5AA7OXF5RC4LJQBUQNLAZHNBY2YMHBNZ4ZZGAQ";
    let key = "UC3V2QQ2PC3KT2NHYIMR5UFNVGEE46I2LGBKQM7FAOTH2GEB2HUETOCI";
    let (server, place) = (
        Server::with(&format!("{JETSTREAM}\nauthorization {{ users: [{{ nkey: {key} }}] }}")).await,
        Place::new().await,
    );
    let engine = || Nats::at(server.url()).servers_sync().ledger(&place.url);
    is_used(engine().nkey(seed)).await;
    assert!(refusal(engine()).await.contains("NATS"));
    let (server, place) =
        (Server::with(&format!("{JETSTREAM}\nauthorization {{ token: \"t0ken\" }}")).await, Place::new().await);
    let engine = || Nats::at(server.url()).servers_sync().ledger(&place.url);
    is_used(engine().token("t0ken")).await;
    assert!(!format!("{:?}", engine().token("t0ken")).contains("t0ken"));
    assert!(refusal(engine().token("other")).await.contains("NATS"));
}

/// Goal: a file of credentials opens servers whose accounts an operator has signed. Method: one, then none, a file of others and no file.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn credentials_open_a_server() {
    let settings = format!("{JETSTREAM}\n{}", include_str!("operator/operator.conf"));
    let (server, place) = (Server::with(&settings).await, Place::new().await);
    let engine = || Nats::at(server.url()).servers_sync().ledger(&place.url);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let credentials = include_str!("operator/node.creds");
    is_used(engine().credentials(file("node.creds", credentials))).await;
    assert!(refusal(engine()).await.contains("NATS"));
    // The seed of another key than that which was signed.
    let (signed, seed) = credentials.split_at(credentials.find("\nSU").unwrap() + 1);
    let other = format!("{signed}SUAOXCKZFFSS2P5JBDLZ5AA7OXF5RC4LJQBUQNLAZHNBY2YMHBNZ4ZZGAQ{}", &seed[58..]);
    assert!(refusal(engine().credentials(file("other.creds", &other))).await.contains("NATS"));
    let why = refusal(engine().credentials(folder.path().join("none.creds"))).await;
    assert!(why.contains("none.creds"), "{why}");
}

/// Goal: a server is trusted by its certificate, and no other one is. Method: a server that asks for TLS, with the authority that has signed
/// its certificate, another one, and those of the system.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn certificates_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(folder.path().join("san"), "subjectAltName=DNS:localhost").unwrap();
    let new = ["req", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority"]].concat());
    openssl(&[&new[..], &["-x509", "-keyout", "other.key", "-out", "other.crt", "-subj", "/CN=other"]].concat());
    openssl(&[&new[..4], &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"]].concat());
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", "san", "-out", "server.crt"]].concat());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", file("server.crt"), file("server.key"));
    let (server, place) = (Server::with(&format!("{JETSTREAM}\n{tls}")).await, Place::new().await);
    let at = |host: &str| Nats::at(server.url().replace("127.0.0.1", host)).servers_sync().ledger(&place.url);
    is_used(at("localhost").root_certificates(file("ca.crt"))).await;
    for other in [
        at("localhost").root_certificates(file("other.crt")),
        at("localhost"),
        at("127.0.0.1").root_certificates(file("ca.crt")),
    ] {
        let why = refusal(other).await;
        assert!(why.contains("NATS") && why.contains("certificate"), "{why}");
    }
    assert!(refusal(at("localhost").root_certificates(file("none"))).await.contains("none"));
}
