//! [`Disk`]: the files of a folder as a disk has them. A block of 512 bytes has all contents that it had since the file was last
//! synced, and power loss leaves any of them, or a torn one. The same holds for a file's size, and for names since the folder
//! was last synced, in their order, as journaling file systems keep it.

use std::collections::BTreeMap;

use crate::{
    random::Random,
    record::{Event, JOURNAL},
};

/// Bytes of a block: the sector that disks promise at most.
const BLOCK: usize = 512;

type Bytes = [u8; BLOCK];

/// The files of a folder.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone)]
struct Block {
    /// The synced content, and those written since.
    versions: Vec<Bytes>,
    /// Versions that a failed sync may have written or not: a later sync does not write them.
    limbo: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self { versions: vec![[0; BLOCK]], limbo: 0 }
    }
}

impl Block {
    fn change(&mut self, change: impl FnOnce(&mut Bytes)) {
        let mut bytes = self.newest();
        change(&mut bytes);
        self.versions.push(bytes);
    }

    fn newest(&self) -> Bytes {
        self.versions[self.versions.len() - 1]
    }

    fn sync(&mut self) {
        if self.versions.len() > self.limbo {
            self.versions = vec![self.newest()];
            self.limbo = 0;
        }
    }

    fn sync_failed(&mut self) {
        if self.versions.len() > 1 {
            self.limbo = self.versions.len();
        }
    }
}

#[derive(Debug, Clone)]
struct Inode {
    blocks: Vec<Block>,
    /// The synced size, and those since.
    sizes: Vec<u64>,
    /// The file before it was made shorter: power loss leaves that as a whole, or nothing of what was cut off.
    before: Option<Box<Inode>>,
}

impl Inode {
    fn new(bytes: &[u8]) -> Self {
        let block = |chunk: &[u8]| {
            let mut bytes = [0; BLOCK];
            bytes[..chunk.len()].copy_from_slice(chunk);
            Block { versions: vec![bytes], limbo: 0 }
        };
        Self { blocks: bytes.chunks(BLOCK).map(block).collect(), sizes: vec![bytes.len() as u64], before: None }
    }

    fn size(&self) -> u64 {
        self.sizes[self.sizes.len() - 1]
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (at as usize, bytes);
        let end = (at + bytes.len()) as u64;
        while !rest.is_empty() {
            let (block, offset) = (at / BLOCK, at % BLOCK);
            let (now, later) = rest.split_at(rest.len().min(BLOCK - offset));
            if self.blocks.len() <= block {
                self.blocks.resize_with(block + 1, Block::default);
            }
            self.blocks[block].change(|bytes| bytes[offset..offset + now.len()].copy_from_slice(now));
            (at, rest) = (at + now.len(), later);
        }
        if end > self.size() {
            self.sizes.push(end);
        }
    }

    fn truncate(&mut self, size: u64) {
        if size >= self.size() {
            return self.sizes.push(size);
        }
        self.before = Some(Box::new(self.clone()));
        self.blocks.truncate(size.div_ceil(BLOCK as u64) as usize);
        if let Some(last) = self.blocks.last_mut().filter(|_| !size.is_multiple_of(BLOCK as u64)) {
            last.change(|bytes| bytes[size as usize % BLOCK..].fill(0));
        }
        self.sizes = vec![size];
    }

    fn sync(&mut self) {
        self.blocks.iter_mut().for_each(Block::sync);
        self.sizes = vec![self.size()];
        self.before = None;
    }

    fn after(&self, mood: Mood, random: &mut Random) -> Vec<u8> {
        if let Some(before) = self.before.as_ref().filter(|_| mood.pick(2, random) == 0) {
            return before.after(mood, random);
        }
        let size = self.sizes[mood.pick(self.sizes.len(), random)] as usize;
        let mut bytes = vec![0; size.div_ceil(BLOCK) * BLOCK];
        for (block, to) in self.blocks.iter().zip(bytes.chunks_mut(BLOCK)) {
            let picked = mood.pick(block.versions.len(), random);
            to.copy_from_slice(&block.versions[picked]);
            if picked > 0 && mood == Mood::Torn && random.one_in(2) {
                let torn = random.below(BLOCK);
                to[torn..].copy_from_slice(&block.versions[picked - 1][torn..]);
            }
        }
        bytes.truncate(size);
        bytes
    }
}

/// The effect of a power loss on blocks that are not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// All are written, as when the process is killed.
    Kept,
    /// None is.
    Lost,
    /// Each one has any of its contents.
    Mixed,
    /// The same, and half of them end in what was there before.
    Torn,
}

impl Mood {
    pub(crate) fn any(random: &mut Random) -> Self {
        [Self::Kept, Self::Lost, Self::Mixed, Self::Mixed, Self::Torn, Self::Torn][random.below(6)]
    }

    /// Picks one of so many states, of which the first is synced and the last the newest.
    fn pick(self, states: usize, random: &mut Random) -> usize {
        match self {
            Self::Kept => states - 1,
            Self::Lost => 0,
            Self::Mixed | Self::Torn => random.below(states),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    inodes: BTreeMap<u64, Inode>,
    /// Names whose files are synced.
    names: BTreeMap<String, u64>,
    /// Names made and removed since the folder was synced.
    pending: Vec<(String, Option<u64>)>,
    /// Files that were there before anything was recorded.
    found: Image,
}

impl Disk {
    /// A disk on which these files are synced.
    pub(crate) fn new(found: Image) -> Self {
        Self { found, ..Self::default() }
    }

    /// Applies an event. A sync is one only if `is_sync`.
    pub(crate) fn apply(&mut self, event: &Event, is_sync: bool) {
        match event {
            Event::Create { name, .. } | Event::Open { name, .. } if name == JOURNAL => {}
            Event::Create { inode, name } => {
                self.inodes.insert(*inode, Inode::new(&[]));
                self.pending.push((name.clone(), Some(*inode)));
            }
            Event::Open { inode, name } => self.learn(name, *inode),
            Event::Unlink { name } => {
                // One that was never opened has no inode yet; those of the kernel are smaller.
                self.learn(name, u64::MAX - self.inodes.len() as u64);
                self.pending.push((name.clone(), None));
            }
            Event::Write { inode, at, bytes } => self.inode(*inode, |inode| inode.write(*at, bytes)),
            Event::Truncate { inode, size } => self.inode(*inode, |inode| inode.truncate(*size)),
            Event::Sync { inode } if is_sync => self.inode(*inode, Inode::sync),
            Event::FailedSync { inode } => {
                self.inode(*inode, |inode| inode.blocks.iter_mut().for_each(Block::sync_failed));
            }
            Event::SyncFolder if is_sync => {
                for (name, inode) in std::mem::take(&mut self.pending) {
                    name_is(&mut self.names, &name, inode);
                }
            }
            Event::Sync { .. } | Event::SyncFolder => {}
        }
    }

    /// Learns the inode of a file that was there before anything was recorded.
    fn learn(&mut self, name: &str, inode: u64) {
        if let Some(bytes) = self.found.remove(name) {
            self.inodes.insert(inode, Inode::new(&bytes));
            self.names.insert(name.to_owned(), inode);
        }
    }

    fn inode(&mut self, inode: u64, change: impl FnOnce(&mut Inode)) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            change(inode);
        }
    }

    /// The files that are there after a loss of power.
    pub(crate) fn after(&self, mood: Mood, random: &mut Random) -> Image {
        let mut names = self.names.clone();
        let kept = mood.pick(self.pending.len() + 1, random);
        for (name, inode) in &self.pending[..kept] {
            name_is(&mut names, name, *inode);
        }
        let files = names.into_iter().map(|(name, inode)| (name, self.inodes[&inode].after(mood, random)));
        self.found.clone().into_iter().chain(files).collect()
    }
}

fn name_is(names: &mut BTreeMap<String, u64>, name: &str, inode: Option<u64>) {
    match inode {
        Some(inode) => drop(names.insert(name.to_owned(), inode)),
        None => drop(names.remove(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: u64, bytes: &[u8]) -> Event {
        Event::Write { inode: 1, at, bytes: bytes.to_vec() }
    }

    fn disk(events: &[Event]) -> Disk {
        let mut disk = Disk::default();
        let name = "log.db".to_owned();
        disk.apply(&Event::Create { inode: 1, name }, true);
        disk.apply(&Event::SyncFolder, true);
        events.iter().for_each(|event| disk.apply(event, true));
        disk
    }

    /// Goal: power loss keeps what was synced, and no more than what was written. Method: a sync between two writes, in each mood.
    #[test]
    fn what_is_synced_stays() {
        let disk = disk(&[write(0, &[1; 1024]), Event::Sync { inode: 1 }, write(512, &[2; 1024])]);
        let mut random = Random::new(1);
        let mut of = |mood| disk.after(mood, &mut random)["log.db"].clone();
        assert_eq!(of(Mood::Lost), [1; 1024]);
        assert_eq!(of(Mood::Kept), [vec![1; 512], vec![2; 1024]].concat());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mixed = of(Mood::Mixed);
            assert_eq!(mixed[..512], [1; 512]);
            seen.insert(mixed);
            assert_eq!(of(Mood::Torn)[..512], [1; 512]);
        }
        assert_eq!(seen.len(), 6, "two sizes; two states of each block that they hold");
    }

    /// Goal: a failed sync is none, and the next one does not write what it has not. Method: writes before, between and after.
    #[test]
    fn a_failed_sync_is_not_made_up_for() {
        let (failed, sync) = (Event::FailedSync { inode: 1 }, Event::Sync { inode: 1 });
        let lost = |events: &[Event]| disk(events).after(Mood::Lost, &mut Random::new(1))["log.db"].clone();
        let before = [write(0, &[1; 512]), sync.clone(), write(0, &[2; 512])];
        assert_eq!(lost(&[&before[..], &[failed.clone(), sync.clone()]].concat()), [1; 512]);
        assert_eq!(lost(&[&before[..], &[failed, write(0, &[3; 512]), sync]].concat()), [3; 512]);
    }

    /// Goal: a name is lost unless its folder was synced. Method: a file made, one removed.
    #[test]
    fn names_are_lost_in_order() {
        let mut disk = disk(&[]);
        disk.apply(&Event::Create { inode: 2, name: "log.db-wal".to_owned() }, true);
        disk.apply(&Event::Unlink { name: "log.db".to_owned() }, true);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            seen.insert(disk.after(Mood::Mixed, &mut Random::new(seed)).into_keys().collect::<Vec<_>>().join(" "));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["log.db", "log.db log.db-wal", "log.db-wal"]);
    }
}
