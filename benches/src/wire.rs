//! Both ends of a TCP connection on loopback, for the row `websocket`.
//!
//! The near end counts its calls into the socket. The far end, a thread, reads WebSocket frames and counts them.

use std::{
    io::{self, Read},
    net::{TcpListener, TcpStream as Blocking},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::Error;

/// The most bytes that the peer reads in a call: 256 KiB, so that its own calls cost little.
const READ: usize = 256 << 10;

/// The number of calls into the socket at the near end: polls of reads, writes and shutdowns. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<AtomicU64>);

impl Calls {
    /// The number of calls so far.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The near end. Each call is counted, also a call that finds the socket not ready.
#[derive(Debug)]
pub struct Counted {
    stream: TcpStream,
    calls: Calls,
}

impl Counted {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        self.calls.0.fetch_add(1, Relaxed);
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, bytes)
    }

    /// Does nothing, since TCP has no flush; no call is counted.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

/// The far end, a thread.
#[derive(Debug)]
pub struct Peer(JoinHandle<io::Result<Seen>>);

/// The counts of the peer at the end of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// All bytes that were read, headers included.
    pub bytes: u64,
    /// Frames other than the close.
    pub frames: u64,
    /// Messages: one per frame, and one more per newline in a payload.
    pub messages: u64,
}

impl Peer {
    /// Opens a connection. The near end belongs to the runtime of the caller.
    pub fn connect() -> Result<(Self, Counted, Calls), Error> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let there = Blocking::connect(listener.local_addr()?)?;
        let (here, _) = listener.accept()?;
        here.set_nonblocking(true)?;
        here.set_nodelay(true)?;
        let calls = Calls::default();
        let counted = Counted { stream: TcpStream::from_std(here)?, calls: calls.clone() };
        Ok((Self(thread::spawn(move || read(there))), counted, calls))
    }

    /// Waits until the connection ends, with a close frame or without one, and returns the counts.
    pub fn end(self) -> Result<Seen, Error> {
        Ok(self.0.join().map_err(|_| "the peer panicked")??)
    }
}

/// Reads frames that are not masked, until a close frame or the end of the stream.
fn read(mut stream: impl Read) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut buffer = vec![0; READ];
    // `held` bytes of an incomplete header stay at the front of the buffer. `payload` bytes of the frame are missing.
    let (mut held, mut payload) = (0, 0);
    loop {
        let end = held + stream.read(&mut buffer[held..])?;
        if end == held {
            return Ok(seen);
        }
        seen.bytes += (end - held) as u64;
        let mut rest = &buffer[..end];
        loop {
            let now = payload.min(rest.len());
            seen.messages += newlines(&rest[..now]);
            payload -= now;
            rest = &rest[now..];
            let Some(header) = Header::of(rest) else { break };
            if header.is_close {
                return Ok(seen);
            }
            seen.frames += 1;
            seen.messages += 1;
            payload = header.payload;
            rest = &rest[header.size..];
        }
        held = rest.len();
        let start = end - held;
        buffer.copy_within(start..end, 0);
    }
}

/// Counts newlines in pieces of 255 bytes, so that a piece's count fits into a `u8` and the compiler vectorizes it.
fn newlines(bytes: &[u8]) -> u64 {
    let of = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(255).map(|piece| u64::from(of(piece))).sum()
}

/// The header of a frame; `size` and `payload` are in bytes.
struct Header {
    size: usize,
    payload: usize,
    is_close: bool,
}

impl Header {
    /// Parses the header of a frame that is not masked. Returns `None` while the header is incomplete.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (size, payload) = match *bytes.get(1)? & 0x7f {
            126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
            short => (2, short.into()),
        };
        Some(Self { size, payload, is_close: bytes[0] & 0xf == 8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: counts do not depend on how reads split frames. Method: three header lengths, in five sizes of pieces.
    #[test]
    fn frames_are_counted_in_any_pieces() {
        struct Pieces(Vec<u8>, usize);
        impl Read for Pieces {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let now = self.1.min(self.0.len());
                buffer[..now].copy_from_slice(&self.0[..now]);
                self.0.drain(..now);
                Ok(now)
            }
        }
        let mut bytes = vec![0x81, 3, b'a', b'\n', b'b', 0x81, 126, 0, 200];
        bytes.extend([b'x'; 200]);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend([b'\n'; 65_536]);
        bytes.extend([0x88, 0]);
        let whole = Seen { bytes: bytes.len() as u64, frames: 3, messages: 3 + 1 + 65_536 };
        for piece in [1, 2, 7, 1000, 65_536] {
            let seen = read(Pieces(bytes.clone(), piece)).unwrap();
            assert_eq!((seen.frames, seen.messages), (whole.frames, whole.messages), "pieces of {piece}");
        }
    }
}
