//! A feed, WebSockets and SQLite files to which everything happens that telemetry tells of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use roundlot::{
    Batch, Fanout, Retry, Settled, Sink, SinkError,
    sink::{
        sqlite::{Sqlite, SqliteSink},
        table::Table,
        websocket::{Frames, Socket, WebSocket},
    },
    testing::{Recorder, until_idle},
};
use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::record::Emitted;

/// A quote whose clone panics once the flag is set.
struct Quote(Arc<AtomicBool>);

impl Clone for Quote {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Relaxed), "a function of the user");
        Self(Arc::clone(&self.0))
    }
}

/// A sink that panics when it is asked whether it is gone.
struct Nosy;

impl Sink<Quote> for Nosy {
    async fn write(&self, batch: &mut Batch<Quote>) -> Result<Settled, SinkError> {
        Ok(batch.accept_all())
    }

    async fn gone(&self) -> SinkError {
        panic!("a function of the user")
    }
}

/// A subscriber that comes and goes, a snapshot without one of its values, a sink that panics.
pub(crate) async fn feed() {
    let (feed, worker) = Fanout::by(|_: &Quote| 0_u8).spawn();
    let breaks = Arc::new(AtomicBool::new(false));
    feed.publish(Quote(Arc::clone(&breaks))).unwrap();
    feed.flush().await.unwrap();
    breaks.store(true, Relaxed);
    let screen = Recorder::new().map(|_: &Quote| ());
    let subscription = feed.subscribe(screen).to_all().start().await.unwrap();
    let _nosy = feed.subscribe(Nosy).to_all().start().await.unwrap();
    until_idle().await;
    subscription.close().await;
    worker.shutdown().await.unwrap();
}

/// Both ends of a connection, ours first.
async fn pipe(role: Role) -> (Socket, WebSocketStream<DuplexStream>) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let peer = if matches!(role, Role::Server) { Role::Client } else { Role::Server };
    let (here, there) = tokio::join!(
        WebSocketStream::from_raw_socket(here, role, None),
        WebSocketStream::from_raw_socket(there, peer, None)
    );
    (here.into(), there)
}

/// A connection that sends a frame and ends, and clients that come back, are given up or never connect.
pub(crate) async fn websockets() {
    let page = WebSocket::new(Frames::json());
    let (socket, mut browser) = pipe(Role::Server).await;
    let sink = page.server(socket);
    sink.write(&mut Batch::for_test(vec![1, 2, 3])).await.map(drop).unwrap();
    assert_eq!(browser.next().await.unwrap().unwrap().to_text().unwrap(), "[1,2,3]");
    drop(browser);
    sink.gone().await;

    let retry = || Retry::exponential(Duration::from_millis(100), Duration::from_secs(1)).max_attempts(2);
    let errors = [SinkError::transient("connection refused"), SinkError::refused("wrong password")];
    for error in errors {
        let settings = WebSocket::<u32>::new(Frames::json()).retry(retry());
        let sink = settings.connect(move || {
            let error = error.clone();
            async move { Err::<Socket, _>(error) }
        });
        sink.gone().await;
    }

    let settings = WebSocket::<u32>::new(Frames::json()).retry(retry()).reconnect_on(|_| panic!("the user's rule"));
    let dials = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let peers = Arc::clone(&dials);
    let sink = settings.connect(move || {
        let dials = Arc::clone(&dials);
        async move {
            let (socket, peer) = pipe(Role::Client).await;
            dials.lock().await.push(peer);
            Ok::<_, SinkError>(socket)
        }
    });
    sink.ready().await.unwrap();
    let mut peer = peers.lock().await.pop().unwrap();
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    peer.send(Message::Close(Some(close))).await.unwrap();
    sink.gone().await;
}

fn rows() -> Table<i64> {
    Table::new("trades").integer("id", |id| *id).create_if_missing()
}

/// A database without a log, one that is opened again, and one that is dropped after its file was moved.
pub(crate) async fn databases(emitted: &Emitted) {
    Sqlite::file(":memory:").open(rows()).await.unwrap().close().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("trades.db"), folder.path().join("away.db"));
    let sink = SqliteSink::open(&path, rows()).await.unwrap();
    let write = async |id: i64| sink.write(&mut Batch::for_test(vec![id])).await.map(drop).unwrap();
    write(1).await;
    std::fs::rename(&path, &away).unwrap();
    write(2).await;
    std::fs::rename(&away, &path).unwrap();
    write(3).await;
    emitted.wait_for("SQLite sink: the database was opened again");
    std::fs::rename(&path, &away).unwrap();
    drop(sink);
    emitted.wait_for("a dropped SQLite sink did not close its file");
}
