//! The connections of a server that has nothing but a board, or not much more: [`serve`]. `server` marks a connection as busy while it
//! executes a command.
//!
//! Invariant: at most [`max_open`] connections are open. A new one takes the place of the oldest idle one, and none stays
//! idle for long, so that silent connections never block the buttons.

use std::{
    collections::BTreeMap,
    io::{Error, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::sleep,
};

/// Maximum number of open connections where descriptors are plenty. A browser opens six at most. Upgraded connections
/// are not counted, since `MAX_BROWSERS` limits them.
const MAX_OPEN: usize = 256;

/// Minimum of that limit, kept even where descriptors are too few.
const MIN_OPEN: usize = 8;

/// Maximum time for the head of a request, and between two requests. The page needs milliseconds, a bad line some
/// seconds.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Maximum number of bytes buffered of one connection. The heads that browsers send have one or two thousand.
const MAX_BUFFERED: usize = 16 * 1024;

/// Pause after an accept that failed for want of descriptors or memory, so that the loop doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Number of connections that may be open: a quarter of the descriptors that the process may have, so that the rest of
/// the app never wants for one. With the usual 1,024 that is [`MAX_OPEN`].
fn max_open(limits: &str) -> usize {
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.and_then(|files| files.split_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(MAX_OPEN, |soft| (soft / 4).clamp(MIN_OPEN, MAX_OPEN))
}

/// Accepts connections and serves them, until it is dropped. In the place of `axum::serve` where strangers reach the address.
///
/// At most 256 connections are open, or a quarter of the descriptors that the process may have. A new one takes the place of the oldest
/// idle one. A head of a request has ten seconds and 16 kB. HTTP/1.1 alone, without TLS.
///
/// # Cancel safety
///
/// Dropped, it accepts nothing more; connections go on until they end.
pub async fn serve(listener: TcpListener, router: Router) {
    // Only Linux has this file; other systems count as having the usual limit.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let connections = Connections { max_open: max_open(&limits), table: Arc::default() };
    let mut failures = 0_u64;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if failures > 0 {
                    tracing::warn!(failures, "connections are accepted again");
                    failures = 0;
                }
                connections.open(stream, &router);
            }
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(%error, "a connection cannot be accepted");
                }
                connections.lock().push_out();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an accept failed because the peer has already gone.
fn is_of_peer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// The connections that are open. A clone is the same table.
#[derive(Clone)]
struct Connections {
    max_open: usize,
    table: Arc<Mutex<Table>>,
}

/// The open connections by number; numbers grow with time.
#[derive(Default)]
struct Table {
    last: u64,
    open: BTreeMap<u64, Connection>,
}

struct Connection {
    task: AbortHandle,
    /// Commands that are being executed for the connection. Without any, the connection is idle, and may be pushed out.
    commands: u32,
}

impl Connections {
    /// Serves a connection in a task of its own. Closes the connection if all others are busy.
    fn open(&self, stream: TcpStream, router: &Router) {
        let mut table = self.lock();
        if table.open.len() >= self.max_open && !table.push_out() {
            return;
        }
        table.last += 1;
        let place = Place { connections: self.clone(), number: table.last };
        let service = TowerToHyperService::new(router.clone().layer(Extension(place.clone())));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_BUFFERED)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let number = table.last;
        let task = tokio::spawn(async move {
            // A browser that disconnects or is too slow is not an error of this app.
            let _ = served.await;
            place.connections.lock().open.remove(&number);
        });
        table.open.insert(number, Connection { task: task.abort_handle(), commands: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes the oldest connection that is idle. Returns whether there was one.
    fn push_out(&mut self) -> bool {
        let idle = self.open.iter().find(|(_, connection)| connection.commands == 0);
        let Some(number) = idle.map(|(number, _)| *number) else { return false };
        if let Some(connection) = self.open.remove(&number) {
            connection.task.abort();
        }
        true
    }
}

/// One connection of the table, for the requests that come on it.
#[derive(Clone)]
pub(crate) struct Place {
    connections: Connections,
    number: u64,
}

impl Place {
    /// Keeps the connection from being pushed out, as long as the guard lives.
    pub(crate) fn busy(self) -> Busy {
        self.change(|commands| commands + 1);
        Busy { place: self }
    }

    fn change(&self, change: impl FnOnce(u32) -> u32) {
        if let Some(connection) = self.connections.lock().open.get_mut(&self.number) {
            connection.commands = change(connection.commands);
        }
    }
}

/// A command of a connection that is being executed.
pub(crate) struct Busy {
    place: Place,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.place.change(|commands| commands.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Notify,
    };

    use super::*;

    /// Starts a server with [`serve`]. Returns its address, the signal that `/slow` has begun, and the signal that lets
    /// it answer.
    async fn server() -> (std::net::SocketAddr, Arc<Notify>, Arc<Notify>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (began, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, ends) = (Arc::clone(&began), Arc::clone(&end));
        let slow = async move |Extension(place): Extension<Place>| {
            let _busy = place.busy();
            begins.notify_one();
            ends.notified().await;
            "done"
        };
        let body = async |body: String| body;
        let router = Router::new().route("/", get("here")).route("/slow", get(slow)).route("/body", post(body));
        tokio::spawn(serve(listener, router));
        (address, began, end)
    }

    async fn say(address: std::net::SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // A connection that was pushed out may end with a reset.
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    /// Goal: no endless head, body or silent connection keeps other browsers out, and no command is cut off. Method:
    /// more connections of each kind than there are places, while the oldest one executes a command.
    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_oldest_idle_one() {
        let (address, began, end) = server().await;
        let slow = say(address, "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        began.notified().await;
        let mut held = Vec::new();
        for text in
            ["", "GET / HT", "GET / HTTP/1.1\r\nHo", "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"]
        {
            for _ in 0..MAX_OPEN {
                held.push(say(address, text).await);
            }
            let asked = say(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            assert!(answer(asked).await.ends_with("here"), "{text:?}");
        }
        assert_eq!(answer(held.swap_remove(0)).await, "", "the oldest is closed");
        end.notify_one();
        assert!(answer(slow).await.ends_with("done"), "a command is not pushed out");
    }

    #[test]
    fn connections_leave_descriptors_to_the_rest_of_the_app() {
        let limits = |soft: &str| {
            max_open(&format!("Limit  Soft Limit  Hard Limit\nMax open files    {soft}    4096    files\n"))
        };
        assert_eq!(
            ["1024", "100000", "unlimited", "400", "20"].map(limits),
            [MAX_OPEN, MAX_OPEN, MAX_OPEN, 100, MIN_OPEN]
        );
        assert_eq!(max_open(""), MAX_OPEN);
    }

    /// Goal: a silent connection ends. Method: the paused clock jumps while all tasks wait.
    #[tokio::test(start_paused = true)]
    async fn a_head_has_limited_time() {
        let (address, ..) = server().await;
        for text in ["", "GET / HTTP/1.1\r\nHo"] {
            let said = answer(say(address, text).await).await;
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
        }
        let kept = answer(say(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
        assert!(kept.contains("here"), "a connection that is kept alive ends, too: {kept}");
    }
}
