//! Tests of `wss://`: the server is checked against the certificates that the system trusts, and no provider has to be
//! installed.

use std::{net::SocketAddr, path::Path, process::Command, sync::Arc};

use futures::StreamExt;
use roundlot::{ErrorKind, Sink, sink::websocket::dial};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

use super::{numbers, secs, write};

/// Variable with the ports of the servers, for the test in the process that trusts the authority.
const PORTS: &str = "ROUNDLOT_TEST_TLS_PORTS";

/// Makes an authority, a certificate for `localhost` that it signed, and a self-signed one.
fn certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost").unwrap();
    let new = ["req", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority"]].concat());
    openssl(&[&new[..4], &["-keyout", "good.key", "-out", "good.csr", "-subj", "/CN=localhost"]].concat());
    let sign = ["x509", "-req", "-in", "good.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", "san", "-out", "good.crt"]].concat());
    let own = ["-x509", "-keyout", "own.key", "-out", "own.crt", "-subj", "/CN=localhost", "-addext"];
    openssl(&[&new[..], &own[..], &["subjectAltName=DNS:localhost"]].concat());
}

/// Starts a WebSocket server with a certificate. Messages of clients go to `heard`.
async fn server(folder: &Path, name: &str, heard: mpsc::UnboundedSender<String>) -> SocketAddr {
    let file = |kind: &str| folder.join(format!("{name}.{kind}"));
    let certificates = CertificateDer::pem_file_iter(file("crt")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(file("key")).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, heard) = (acceptor.clone(), heard.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Text(text) = message {
                        heard.send(text.to_string()).unwrap();
                    }
                }
            });
        }
    });
    address
}

/// Starts a server without TLS that sends this text, and hangs up.
async fn plain(says: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(says.as_bytes()).await;
        }
    });
    address
}

/// Goal: a client talks only to a server that the system trusts. Method: a private authority, which another process of
/// this test trusts by an environment variable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl: tests/run.sh installs it"]
async fn only_a_trusted_server_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (sender, mut heard) = mpsc::unbounded_channel();
    let servers = [
        server(folder.path(), "good", sender.clone()).await,
        server(folder.path(), "own", sender).await,
        plain("HTTP/1.1 400 Bad Request\r\n\r\n").await,
        plain("").await,
    ];
    let ports = servers.map(|address| address.port().to_string()).join(",");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tls::child_process_that_trusts_the_authority", "--ignored", "--nocapture"]);
    child.env(PORTS, ports).env("SSL_CERT_FILE", folder.path().join("ca.crt")).env_remove("SSL_CERT_DIR");
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{failed}");
    assert!(!failed.contains("panicked"), "{failed}");
    assert_eq!(heard.recv().await.unwrap(), "[1,2,3]");
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
#[ignore = "the test above runs it"]
async fn child_process_that_trusts_the_authority() {
    let Ok(ports) = std::env::var(PORTS) else { return };
    let ports: Vec<&str> = ports.split(',').collect();
    let [good, own, http, mute] = ports[..] else { panic!("{ports:?}") };
    let sink = numbers().confirmed().connect({
        let url = format!("wss://localhost:{good}/");
        move || dial(url.clone())
    });
    sink.ready().await.unwrap();
    assert_eq!(write(&sink, vec![1, 2, 3]).await, [None; 3]);
    sink.close().await.unwrap();

    let cases = [
        (format!("wss://127.0.0.1:{good}/"), ErrorKind::Refused, "not valid for name"),
        (format!("wss://localhost:{own}/"), ErrorKind::Refused, "certificate"),
        (format!("wss://localhost:{http}/"), ErrorKind::Outage, ""),
        (format!("wss://localhost:{mute}/"), ErrorKind::Outage, ""),
    ];
    for (url, kind, says) in cases {
        let dialed = tokio::time::timeout(secs(60), dial(url.clone())).await.expect("it hangs");
        let error = dialed.map(drop).unwrap_err();
        assert!(error.kind() == kind && error.chain().contains(says), "{url}: {}", error.chain());
    }
    // A certificate that is not trusted ends a client at once, with the reason.
    let url = format!("wss://localhost:{own}/");
    let sink = numbers().connect(move || dial(url.clone()));
    let error = tokio::time::timeout(secs(60), sink.gone()).await.expect("it tries again");
    assert!(error.chain().starts_with("refused: final: cannot connect: refused: "), "{}", error.chain());
}
