//! [`Fleet`]: the node processes, one per slot. One that dies is replaced.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    rc::Rc,
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Failure,
    cluster::Cluster,
    destination::Row,
    fault::Fault,
    nats::Nats,
    network::{Cut, Network},
    node::{DATABASE, MONITORING, NATS},
    place::Place,
    process,
    server::Server,
    word::Word,
    wrong_clock,
};

/// An event for the main thread.
pub(crate) enum News {
    /// A node has said something, at a time.
    Said { slot: usize, word: Word, at: Instant },
    /// Rows have arrived.
    Arrived(Vec<Row>),
}

pub(crate) struct Fleet {
    nodes: Vec<Node>,
    plan: Plan,
    news: Sender<News>,
    lives: u64,
}

/// Settings of all nodes.
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) log: Place,
    /// The name of the log.
    pub(crate) name: String,
    /// The server of a log in a database.
    pub(crate) server: Option<Rc<Server>>,
    /// The NATS servers of a log of which only the ledger is in a database.
    pub(crate) nats: Option<Rc<Nats>>,
    pub(crate) shards: u16,
    pub(crate) orders: u64,
    /// How long a node is silent before others lead its shards, in a database.
    pub(crate) lease: Duration,
    /// The only kind of faults, unless there are all.
    pub(crate) only: Option<Fault>,
    /// The file of a venue that the sinks write to, which knows nothing of the log.
    pub(crate) venue: Option<PathBuf>,
}

impl Plan {
    /// The place that has what arrived.
    pub(crate) fn destination(&self) -> Place {
        self.venue.clone().map_or_else(|| self.log.clone(), Place::File)
    }

    /// Kinds of faults that happen to such a log and destination.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let can_happen = |fault: &Fault| {
            !(fault.needs_fence() && self.venue.is_some()
                || fault.needs_file() && !self.log.is_file()
                || fault.needs_server() && self.network().is_none()
                || fault.needs_clocks() && (self.log.is_file() || wrong_clock::library().is_none())
                || fault.needs_nats() && self.cluster().is_none()
                || fault.needs_several() && self.cluster().is_some_and(|cluster| cluster.len() == 1))
        };
        let is_wanted = |fault: &Fault| self.only.is_none_or(|only| only == *fault);
        Fault::ALL.into_iter().filter(can_happen).filter(is_wanted).collect()
    }

    /// The links to a server of the program's own.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.server.as_ref()?.network()
    }

    /// NATS servers of the program's own.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.nats.as_ref()?.cluster()
    }

    /// Cuts the links of a node to the servers that a fault is about, or heals them.
    pub(crate) fn cut(&self, node: usize, fault: Fault, cut: Cut) {
        if fault.needs_nats() {
            self.cluster().into_iter().for_each(|cluster| cluster.cut(node, cut));
        } else {
            self.network().into_iter().for_each(|network| network.cut(node, cut));
        }
    }
}

struct Node {
    child: Child,
    input: ChildStdin,
    reader: Option<JoinHandle<()>>,
    life: u64,
}

impl Fleet {
    pub(crate) fn start(plan: Plan, news: Sender<News>) -> Result<Self, Failure> {
        let mut fleet = Self { nodes: Vec::new(), plan, news, lives: 0 };
        for slot in 0..fleet.plan.nodes {
            let node = fleet.begin(slot, None)?;
            fleet.nodes.push(node);
        }
        Ok(fleet)
    }

    /// Begins a node, with a clock that is wrong by an offset if there is one.
    fn begin(&mut self, slot: usize, offset: Option<&str>) -> Result<Node, Failure> {
        self.lives += 1;
        let Plan { log, name, server, nats, shards, orders, venue, lease, .. } = &self.plan;
        let numbers = [
            ("--shards", u64::from(*shards)),
            ("--slot", slot as u64),
            ("--life", self.lives),
            ("--orders", *orders),
            ("--lease-ms", lease.as_millis() as u64),
        ];
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--name", name]);
        match log {
            Place::File(path) => command.arg("--log").arg(path),
            Place::Database(url) => {
                command.env(DATABASE, server.as_ref().map_or_else(|| url.clone(), |server| server.url_of(url, slot)))
            }
        };
        if let Some(nats) = nats {
            command.env(NATS, nats.urls(slot)).env(MONITORING, nats.monitoring().unwrap_or_default());
        }
        for (name, number) in numbers {
            command.args([name, &number.to_string()]);
        }
        if let Some(venue) = venue {
            command.arg("--venue").arg(venue);
        }
        if let (Some(offset), Some(library)) = (offset, wrong_clock::library()) {
            wrong_clock::set(&mut command, &library, offset);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a node has no pipes".into());
        };
        let news = self.news.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Fails only if the demonstration has ended.
                if let Some(word) = Word::parse(&line) {
                    let _ = news.send(News::Said { slot, word, at: Instant::now() });
                }
            }
        });
        Ok(Node { child, input, reader: Some(reader), life: self.lives })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn pid(&self, slot: usize) -> u32 {
        self.nodes[slot].child.id()
    }

    pub(crate) fn life(&self, slot: usize) -> u64 {
        self.nodes[slot].life
    }

    pub(crate) fn stop(&self, slot: usize) -> Result<(), Failure> {
        self.nodes[slot].signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self, slot: usize) -> Result<(), Failure> {
        self.nodes[slot].signal(Signal::CONT)
    }

    /// Kills nodes, which may be stopped, all before another one begins in the place of each.
    pub(crate) fn replace_killed(&mut self, slots: &[usize]) -> Result<(), Failure> {
        slots.iter().try_for_each(|slot| self.nodes[*slot].child.kill())?;
        for slot in slots {
            self.nodes[*slot].wait()?;
            self.nodes[*slot] = self.begin(*slot, None)?;
        }
        Ok(())
    }

    /// Kills a node. The clock of the one in its place is wrong by an offset.
    pub(crate) fn replace_clock(&mut self, slot: usize, offset: &str) -> Result<(), Failure> {
        self.nodes[slot].child.kill()?;
        self.nodes[slot].wait()?;
        self.nodes[slot] = self.begin(slot, Some(offset))?;
        Ok(())
    }

    /// Whether a node is stopped.
    pub(crate) fn is_stopped(&self, slot: usize) -> bool {
        process::is_stopped(self.pid(slot))
    }

    /// Takes the locks away from the nodes that lead: they keep them on files that no other node finds.
    pub(crate) fn remove_locks(&self) -> Result<(), Failure> {
        let Place::File(log) = &self.plan.log else { return Ok(()) };
        let mut folder = log.clone().into_os_string();
        folder.push("-nodes");
        for shard in 0..self.plan.shards {
            match fs::remove_file(Path::new(&folder).join(format!("lead-{shard}"))) {
                // No node has led the shard since the last time.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Lets a node leave the log and end, and begins another one in its place.
    pub(crate) fn replace_left(&mut self, slot: usize) -> Result<(), Failure> {
        self.nodes[slot].leave()?;
        self.nodes[slot] = self.begin(slot, None)?;
        Ok(())
    }

    /// An error if a node has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        for (slot, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.child.try_wait()? {
                return Err(format!("node {slot} ended by itself, with {status}").into());
            }
        }
        Ok(())
    }

    /// Says a line to a node.
    pub(crate) fn tell(&mut self, slot: usize, line: &str) -> Result<(), Failure> {
        self.nodes[slot].tell(line)
    }

    /// Says a line to all nodes.
    pub(crate) fn tell_all(&mut self, line: &str) -> Result<(), Failure> {
        self.nodes.iter_mut().try_for_each(|node| node.tell(line))
    }

    /// Lets all nodes leave the log and end.
    pub(crate) fn leave(mut self) -> Result<(), Failure> {
        self.nodes.iter_mut().try_for_each(Node::leave)
    }
}

impl Node {
    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    fn tell(&mut self, line: &str) -> Result<(), Failure> {
        Ok(self.input.write_all(format!("{line}\n").as_bytes())?)
    }

    fn leave(&mut self) -> Result<(), Failure> {
        self.tell(crate::word::LEAVE)?;
        let status = self.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a node ended with {status}").into()) }
    }

    /// Waits for the end of the process, and until all that it has said is read.
    fn wait(&mut self) -> Result<std::process::ExitStatus, Failure> {
        let status = self.child.wait()?;
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            return Err("the words of a node were not read".into());
        }
        Ok(status)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Harmless if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
