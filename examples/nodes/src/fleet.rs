//! [`Fleet`]: the node processes, one per slot. One that dies is replaced.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Failure, word::Word};

/// An event for the main thread.
pub(crate) enum News {
    /// A node has said something.
    Said { slot: usize, word: Word },
    /// Rows have arrived.
    Arrived(Vec<crate::journal::Row>),
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
    pub(crate) log: PathBuf,
    pub(crate) shards: u16,
    pub(crate) orders: u64,
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
            let node = fleet.begin(slot)?;
            fleet.nodes.push(node);
        }
        Ok(fleet)
    }

    fn begin(&mut self, slot: usize) -> Result<Node, Failure> {
        self.lives += 1;
        let Plan { log, shards, orders, .. } = &self.plan;
        let numbers =
            [("--shards", u64::from(*shards)), ("--slot", slot as u64), ("--life", self.lives), ("--orders", *orders)];
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").arg("--log").arg(log);
        for (name, number) in numbers {
            command.args([name, &number.to_string()]);
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
                    let _ = news.send(News::Said { slot, word });
                }
            }
        });
        Ok(Node { child, input, reader: Some(reader), life: self.lives })
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

    /// Kills a node, which may be stopped, and begins another one in its place.
    pub(crate) fn replace_killed(&mut self, slot: usize) -> Result<(), Failure> {
        let node = &mut self.nodes[slot];
        node.child.kill()?;
        node.wait()?;
        self.nodes[slot] = self.begin(slot)?;
        Ok(())
    }

    /// Lets a node leave the log and end, and begins another one in its place.
    pub(crate) fn replace_left(&mut self, slot: usize) -> Result<(), Failure> {
        self.nodes[slot].leave()?;
        self.nodes[slot] = self.begin(slot)?;
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
