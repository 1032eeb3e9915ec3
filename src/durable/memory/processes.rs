//! [`Processes`]: the processes that share a log in memory, which of them leads a shard, and what each is told of the others. The disk
//! owns it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::durable::log::{
    lead::{Membership, News, preferred},
    turns::Turns,
};

/// How long a shard may be free before a process leads it that is not the one to do so.
const SPARE_AFTER: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Processes {
    by_number: BTreeMap<u64, Process>,
    leads: BTreeMap<u32, Leading>,
    /// Shards that were found free, and are another process's to lead.
    free_since: BTreeMap<u32, Instant>,
}

/// A process. One that has ended may begin again.
#[derive(Default)]
struct Process {
    /// Counts its ends. What an earlier life has begun changes nothing any more.
    life: u64,
    /// Set while a batcher of it has joined.
    turns: Option<Turns>,
    member: Option<Membership>,
    news: BTreeMap<u32, Arc<News>>,
    /// Set while its requests to the log wait.
    stopped: watch::Sender<bool>,
    /// Set while its requests to the log fail.
    is_isolated: bool,
}

struct Leading {
    process: u64,
    asked_back: CancellationToken,
}

impl Processes {
    pub(super) fn life(&self, process: u64) -> u64 {
        self.by_number.get(&process).map_or(0, |process| process.life)
    }

    pub(super) fn has_joined(&self, process: u64) -> bool {
        self.by_number.get(&process).is_some_and(|process| process.turns.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.values().all(|process| process.turns.is_none())
    }

    /// A batcher of a process is about to join.
    pub(super) fn open(&mut self, process: u64, turns: Turns) {
        self.by_number.entry(process).or_default().turns = Some(turns);
    }

    pub(super) fn join(&mut self, process: u64, member: Membership) {
        self.by_number.entry(process).or_default().member = Some(member);
    }

    /// A process ends, and its leads are free.
    pub(super) fn end(&mut self, process: u64) {
        let Some(ended) = self.by_number.get_mut(&process) else { return };
        let news = std::mem::take(&mut ended.news);
        *ended = Process { life: ended.life + 1, ..Process::default() };
        // Leaders and followers of it look, and find the log closed.
        news.values().for_each(|news| news.changed.notify_one());
        self.leads.retain(|_, leading| leading.process != process);
        self.tell_all();
    }

    pub(super) fn set_stopped(&mut self, process: u64, stopped: bool) {
        self.by_number.entry(process).or_default().stopped.send_replace(stopped);
    }

    /// Whether a process is stopped, as long as it lives.
    pub(super) fn stopped(&self, process: u64) -> Option<watch::Receiver<bool>> {
        self.by_number.get(&process).map(|process| process.stopped.subscribe())
    }

    /// Cuts a process off. Its leads are free, of which it hears nothing.
    pub(super) fn isolate(&mut self, process: u64) {
        self.by_number.entry(process).or_default().is_isolated = true;
        self.leads.retain(|_, leading| leading.process != process);
        self.tell_all();
    }

    pub(super) fn reconnect(&mut self, process: u64) {
        if let Some(process) = self.by_number.get_mut(&process) {
            process.is_isolated = false;
        }
    }

    pub(super) fn is_isolated(&self, process: u64) -> bool {
        self.by_number.get(&process).is_some_and(|process| process.is_isolated)
    }

    pub(super) fn members(&self, log: u16) -> Vec<Membership> {
        let members = self.by_number.values().filter_map(|process| process.member);
        let mut members: Vec<_> = members.filter(|member| member.log == log).collect();
        members.sort_unstable();
        members
    }

    /// Takes the lead of a shard. The token is canceled when it is to be given back.
    pub(super) fn try_lead(&mut self, process: u64, key: u32, member: Membership) -> Option<CancellationToken> {
        if self.is_isolated(process) {
            return None;
        }
        if self.leads.contains_key(&key) {
            self.free_since.remove(&key);
            return None;
        }
        let since = *self.free_since.entry(key).or_insert_with(Instant::now);
        if self.has_better(key, member) && since.elapsed() < SPARE_AFTER {
            return None;
        }
        self.free_since.remove(&key);
        let asked_back = CancellationToken::new();
        self.leads.insert(key, Leading { process, asked_back: asked_back.clone() });
        Some(asked_back)
    }

    /// Gives the lead back that was taken with a token.
    pub(super) fn give_back(&mut self, process: u64, key: u32) {
        if self.leads.get(&key).is_some_and(|leading| leading.process == process) {
            self.leads.remove(&key);
            self.tell(None, &[key]);
        }
    }

    fn has_better(&self, key: u32, member: Membership) -> bool {
        let best = preferred(&self.members(member.log), (key & 0xffff) as u16);
        best.is_some_and(|best| best != member)
    }

    /// Asks shards back that another process should lead.
    pub(super) fn spread(&self) {
        for (key, leading) in &self.leads {
            let member = self.by_number.get(&leading.process).and_then(|process| process.member);
            if member.is_some_and(|member| self.has_better(*key, member)) {
                leading.asked_back.cancel();
            }
        }
    }

    pub(super) fn news(&mut self, process: u64, key: u32) -> Arc<News> {
        Arc::clone(self.by_number.entry(process).or_default().news.entry(key).or_default())
    }

    /// Tells the processes, but for one, that shards have changed.
    pub(super) fn tell(&self, but: Option<u64>, keys: &[u32]) {
        let others = self.by_number.iter().filter(|(number, process)| Some(**number) != but && !process.is_isolated);
        for (_, process) in others {
            keys.iter().filter_map(|key| process.news.get(key)).for_each(|news| news.changed.notify_one());
        }
    }

    fn tell_all(&self) {
        let reached = self.by_number.values().filter(|process| !process.is_isolated);
        reached.flat_map(|process| process.news.values()).for_each(|news| news.changed.notify_one());
    }

    pub(super) fn press(&self, key: u32) {
        let leader = self.leads.get(&key).and_then(|leading| self.by_number.get(&leading.process));
        if let Some(news) = leader.and_then(|leader| leader.news.get(&key)) {
            news.pressed.notify_one();
        }
    }
}
