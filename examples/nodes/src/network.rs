//! [`Network`]: the links by which nodes reach a server. A link can be cut, in one direction or both: what is sent meanwhile arrives
//! when it is healed, as TCP has it.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
};

/// Which directions of a link are cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) to_server: bool,
    pub(crate) to_node: bool,
}

impl Cut {
    pub(crate) const BOTH: Self = Self { to_server: true, to_node: true };
    pub(crate) const ANSWERS: Self = Self { to_server: false, to_node: true };
}

pub(crate) struct Network {
    links: Vec<Link>,
    /// The port of the server that new connections go to.
    server: watch::Sender<u16>,
    /// Its tasks carry the bytes.
    _runtime: Runtime,
}

/// The link of one client.
struct Link {
    port: u16,
    cut: watch::Sender<Cut>,
}

impl Network {
    /// Begins to carry bytes between so many clients and the port of a server.
    pub(crate) fn start(server: u16, clients: usize) -> io::Result<Self> {
        let server = watch::Sender::new(server);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let links = (0..clients).map(|_| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let port = listener.local_addr()?.port();
            let cut = watch::Sender::new(Cut::default());
            runtime.spawn(listen(listener, server.subscribe(), cut.subscribe()));
            Ok(Link { port, cut })
        });
        let links = links.collect::<io::Result<_>>()?;
        Ok(Self { links, server, _runtime: runtime })
    }

    /// The port by which a node reaches the server.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.links[node].port
    }

    /// Lets new connections go to another server.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.send_replace(server);
    }

    /// Cuts the link of a node, or heals it.
    pub(crate) fn cut(&self, node: usize, cut: Cut) {
        self.links[node].cut.send_replace(cut);
    }
}

async fn listen(listener: TcpListener, server: watch::Receiver<u16>, cut: watch::Receiver<Cut>) {
    // An accept that fails is one that the node tries again.
    while let Ok((node, _)) = listener.accept().await {
        tokio::spawn(connect(node, server.clone(), cut.clone()));
    }
}

/// Carries the bytes of a connection. It ends when either side ends it, or the server is away.
async fn connect(node: TcpStream, server: watch::Receiver<u16>, mut cut: watch::Receiver<Cut>) {
    // Fails only with the program's end.
    let _ = cut.wait_for(|cut| !cut.to_server).await;
    let port = *server.borrow();
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (node.set_nodelay(true), server.set_nodelay(true));
    let ((from_node, to_node), (from_server, to_server)) = (node.into_split(), server.into_split());
    tokio::select! {
        _ = carry(from_node, to_server, cut.clone(), |cut| cut.to_server) => {}
        _ = carry(from_server, to_node, cut, |cut| cut.to_node) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: watch::Receiver<Cut>,
    is_cut: impl Fn(&Cut) -> bool,
) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut bytes).await?;
        // The end of a connection is a packet, too.
        let _ = cut.wait_for(|cut| !is_cut(cut)).await;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    /// Goal: a cut holds bytes back, in its direction alone, and a link that is healed brings them. Method: a server that answers
    /// each byte, and a read that soon gives up.
    #[test]
    fn a_cut_holds_bytes_back() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let network = Network::start(server.local_addr().expect("an address").port(), 1).expect("a network");
        let mut node = TcpStream::connect(("127.0.0.1", network.port(0))).expect("a link");
        let (mut served, _) = server.accept().expect("a connection");
        let mut byte = [0];
        network.cut(0, Cut::ANSWERS);
        node.write_all(b"a").expect("sent");
        served.read_exact(&mut byte).expect("it arrives");
        served.write_all(b"b").expect("sent");
        node.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        node.read_exact(&mut byte).expect_err("it is held back");
        network.cut(0, Cut::default());
        node.set_read_timeout(None).expect("set");
        node.read_exact(&mut byte).expect("it arrives");
        assert_eq!(&byte, b"b");
    }
}
