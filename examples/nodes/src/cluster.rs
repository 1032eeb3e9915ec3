//! [`Cluster`]: NATS servers of the program's own, which sync what they confirm. They are in a temporary folder, on free ports of the
//! loopback interface.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io,
    path::PathBuf,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Failure,
    monitoring::{self, Stream},
    nats_server::{NatsServer, Program},
    network::{Cut, Network},
    ports,
    show::IS_INTERRUPTED,
};

/// How long servers may take to begin. After all were killed they need some seconds to choose leaders.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at the servers.
pub(crate) const POLL_PERIOD: Duration = Duration::from_millis(50);

/// In lame duck mode clients are sent away after the first of these, one a second. The second is the least that a server takes.
const LAME_DUCK: &str = "lame_duck_grace_period: \"500ms\"\nlame_duck_duration: \"30s\"\n";

pub(crate) struct Cluster {
    program: Program,
    servers: Vec<NatsServer>,
    /// The links to each server.
    networks: Vec<Network>,
    /// Is removed when the servers have ended.
    folder: TempDir,
}

impl Cluster {
    /// Starts so many servers, with a link to each of them for each node.
    pub(crate) fn start(servers: usize, nodes: usize) -> Result<Self, Failure> {
        let (program, folder) = (Program::find()?, tempfile::tempdir()?);
        let ports = ports::free(3 * servers)?;
        let (ports, routes) = ports.split_at(2 * servers);
        let servers = (0..servers).map(|which| {
            let name = format!("nats-{which}");
            NatsServer::new(
                &program,
                folder.path(),
                name,
                [ports[2 * which], ports[2 * which + 1]],
                &settings(routes, which),
            )
        });
        let servers = servers.collect::<io::Result<Vec<_>>>()?;
        let networks = servers.iter().map(|server| Network::start(server.port, nodes)).collect::<io::Result<_>>()?;
        let cluster = Self { program, servers, networks, folder };
        cluster.servers.iter().try_for_each(NatsServer::begin)?;
        let deadline = Instant::now() + PATIENCE;
        while !cluster.is_ready(deadline)? {
            if IS_INTERRUPTED.load(SeqCst) {
                return Err("interrupted".into());
            }
            thread::sleep(POLL_PERIOD);
        }
        Ok(cluster)
    }

    /// The number of servers.
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// A server.
    pub(crate) fn server(&self, which: usize) -> &NatsServer {
        &self.servers[which]
    }

    /// The URLs by which a node reaches the servers.
    pub(crate) fn urls(&self, node: usize) -> String {
        join(self.networks.iter().map(|network| format!("nats://127.0.0.1:{}", network.port(node))))
    }

    /// The URLs of the monitoring ports, which are not cut off.
    pub(crate) fn monitoring(&self) -> String {
        join(self.servers.iter().map(|server| format!("http://127.0.0.1:{}", server.monitoring)))
    }

    /// Cuts the links of a node to all servers, or heals them.
    pub(crate) fn cut(&self, node: usize, cut: Cut) {
        self.networks.iter().for_each(|network| network.cut(node, cut));
    }

    /// Whether all servers are ready, and all streams have a leader. Fails if a server has ended, or the time is over.
    pub(crate) fn is_ready(&self, deadline: Instant) -> Result<bool, Failure> {
        for server in &self.servers {
            if server.has_ended()? {
                return Err(server.failure("has ended"));
            }
            if let Err(error) = self.check(server) {
                let is_late = Instant::now() > deadline;
                return if is_late { Err(server.failure(&format!("is not ready: {error}"))) } else { Ok(false) };
            }
        }
        Ok(true)
    }

    /// The error is the reason why a server is not ready.
    fn check(&self, server: &NatsServer) -> Result<(), Failure> {
        monitoring::health(server.monitoring)?;
        let streams = monitoring::streams(server.monitoring)?;
        let leaderless = streams.iter().find(|(_, stream)| self.len() > 1 && stream.leader.is_none());
        leaderless.map_or(Ok(()), |(name, _)| Err(format!("stream {name} has no leader").into()))
    }

    /// The streams, by name, as the first server that answers knows them.
    pub(crate) fn streams(&self) -> Result<BTreeMap<String, Stream>, Failure> {
        let mut last = Err("there is no server".into());
        for server in &self.servers {
            last = monitoring::streams(server.monitoring);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// A server that leads a stream: another stream with each number. Any server if none is known to lead one.
    pub(crate) fn leader(&self, number: u64) -> usize {
        // Without an answer any server does.
        let streams = self.streams().unwrap_or_default();
        let leader =
            |stream: &Stream| self.servers.iter().position(|server| stream.leader.as_ref() == Some(&server.name));
        let leaders: Vec<usize> = streams.values().filter_map(leader).collect();
        let any = number as usize % self.len();
        leaders.get(number as usize % leaders.len().max(1)).copied().unwrap_or(any)
    }

    /// A server, its process and the part of the streams that it leads, in words.
    pub(crate) fn describe(&self, which: usize) -> String {
        let server = &self.servers[which];
        let mut text = format!("NATS server {} (process {})", server.name, server.pid());
        if let Ok(streams) = self.streams() {
            let led = streams.values().filter(|stream| stream.leader.as_ref() == Some(&server.name)).count();
            // Writing into a string does not fail.
            let _ = write!(text, ", which leads {led} of {} streams", streams.len());
        }
        text
    }

    /// Keeps the folder when the servers have been stopped, and returns its path.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            1 => write!(f, "one {}", self.program),
            servers => write!(f, "{servers} servers of {}", self.program),
        }
    }
}

fn join(urls: impl Iterator<Item = String>) -> String {
    urls.collect::<Vec<_>>().join(",")
}

/// The settings that make one of several servers part of a cluster. A cluster keeps its addresses from clients, which would otherwise
/// leave the links that they were given.
fn settings(routes: &[u16], which: usize) -> String {
    if routes.len() == 1 {
        return LAME_DUCK.to_owned();
    }
    let urls = join(routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")));
    let own = routes[which];
    format!("{LAME_DUCK}cluster {{ name: nodes, listen: \"127.0.0.1:{own}\", no_advertise: true, routes: [{urls}] }}\n")
}
