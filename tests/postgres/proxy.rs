//! A proxy between a sink and its server, for tests that look at what crosses the wire. Cancel requests wait in it
//! until they are released.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Session,
    Cancel,
}

/// First bytes of a cancel request: its length, and its code.
const CANCEL: [u8; 8] = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];

/// Bytes that the sink sends, and bytes of the same length that reach the server instead.
pub(crate) type Swap = (&'static [u8], &'static [u8]);

pub(crate) struct Proxy {
    url: String,
    seen: Arc<Mutex<Vec<Purpose>>>,
    gate: Arc<Semaphore>,
}

impl Proxy {
    /// Starts a proxy to the server of this URL, whose query it keeps. The connection has no TLS, so that the proxy can
    /// read it.
    pub(crate) async fn to(url: &str, swaps: &'static [Swap]) -> Self {
        let address = url.split(['@', '/']).nth(3).unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let url = format!("{}&sslmode=disable", url.replace(&address, &own));
        let (seen, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        tokio::spawn(accept(listener, address, seen.clone(), gate.clone(), swaps));
        Self { url, seen, gate }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The connections so far, in their order.
    pub(crate) fn seen(&self) -> Vec<Purpose> {
        self.seen.lock().unwrap().clone()
    }

    /// Lets all cancel requests go on to the server, later ones as well.
    pub(crate) fn let_go(&self) {
        self.gate.close();
    }
}

async fn accept(
    listener: TcpListener,
    server: String,
    seen: Arc<Mutex<Vec<Purpose>>>,
    gate: Arc<Semaphore>,
    swaps: &'static [Swap],
) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(lead(client, server.clone(), seen.clone(), gate.clone(), swaps));
    }
}

async fn lead(
    mut client: TcpStream,
    server: String,
    seen: Arc<Mutex<Vec<Purpose>>>,
    gate: Arc<Semaphore>,
    swaps: &'static [Swap],
) {
    let mut first = [0; 8];
    if client.read_exact(&mut first).await.is_err() {
        return;
    }
    let purpose = if first == CANCEL { Purpose::Cancel } else { Purpose::Session };
    seen.lock().unwrap().push(purpose);
    if purpose == Purpose::Cancel {
        // The semaphore is closed to let requests go, which ends the wait with an error.
        gate.acquire().await.map(drop).unwrap_err();
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    server.write_all(&first).await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    let there = hand_on(&mut from_client, &mut to_server, swaps);
    let back = async {
        let _ended = copy(&mut from_server, &mut to_client).await;
        let _ended = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}

/// Forwards all bytes. The swapped bytes are short enough to be read at once.
async fn hand_on(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), swaps: &[Swap]) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let read = &mut buffer[..length];
        for (said, instead) in swaps {
            if let Some(start) = read.windows(said.len()).position(|window| window == *said) {
                read[start..start + said.len()].copy_from_slice(instead);
            }
        }
        if to.write_all(read).await.is_err() {
            return;
        }
    }
    let _ended = to.shutdown().await;
}
