//! [`Rows`]: the rows of logs in memory. A transaction works on a copy, which then replaces the original.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::durable::{
    log::store::{ChargeRow, FrameRow, LetterRow, LogRow, OutcomeRow, ProducerRow, ShardRow, Store, Stored},
    transaction::Transaction,
};

/// A row's key: the shard, and a number within it.
type Key = (u32, u64);

/// A row's key that names an op: the shard, the producer and a number.
type OpKey = (u32, u64, u64);

#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    logs: BTreeMap<String, LogRow>,
    pairings: BTreeMap<u16, u64>,
    shards: BTreeMap<u32, ShardRow>,
    producers: BTreeMap<Key, ProducerRow>,
    /// By the position of the first op; with the number of ops.
    frames: BTreeMap<Key, (u64, Arc<[u8]>)>,
    /// The last position of a run, by the first.
    settled: BTreeMap<Key, u64>,
    intents: BTreeMap<Key, Vec<u8>>,
    outcomes: BTreeMap<OpKey, OutcomeRow>,
    letters: BTreeMap<OpKey, LetterRow>,
    /// By shard, bucket, key and grain.
    charges: BTreeMap<(u32, Arc<str>, u64, u64), ChargeRow>,
    /// Rows of transactional sinks.
    pub(super) of_sinks: BTreeMap<String, String>,
    /// Shards whose own rows a transaction has changed.
    pub(super) touched: Vec<u32>,
    /// Bytes of frames above which none is accepted.
    pub(super) capacity: Option<usize>,
}

impl Rows {
    /// Bytes of the frames.
    pub(super) fn bytes(&self) -> usize {
        self.frames.values().map(|(_, bytes)| bytes.len()).sum()
    }
}

impl Store for Rows {
    /// A closure in memory can't be ended from outside, and the time-out has no effect.
    fn nested(&mut self, _timeout: Duration, work: &mut dyn FnMut(&mut Transaction<'_>) -> bool) -> Stored<bool> {
        let before = self.of_sinks.clone();
        let stays = work(&mut Transaction::memory_of(&mut self.of_sinks));
        if !stays {
            self.of_sinks = before;
        }
        Ok(stays)
    }

    fn has_room(&mut self, bytes: usize) -> Stored<bool> {
        Ok(self.capacity.is_none_or(|capacity| self.bytes() + bytes <= capacity))
    }

    fn has_letter_room(&mut self) -> Stored<bool> {
        Ok(true)
    }

    fn log(&mut self, name: &str) -> Stored<Option<LogRow>> {
        Ok(self.logs.get(name).copied())
    }

    fn logs(&mut self) -> Stored<u16> {
        Ok(self.logs.len() as u16)
    }

    fn put_log(&mut self, name: &str, row: &LogRow) -> Stored<()> {
        self.logs.insert(name.to_owned(), *row);
        Ok(())
    }

    fn pairing(&mut self, log: u16) -> Stored<Option<u64>> {
        Ok(self.pairings.get(&log).copied())
    }

    #[cfg(all(feature = "durable-file", feature = "postgres"))]
    fn put_pairing(&mut self, log: u16, pairing: u64) -> Stored<()> {
        self.pairings.insert(log, pairing);
        Ok(())
    }

    fn shard(&mut self, shard: u32) -> Stored<ShardRow> {
        Ok(self.shards.get(&shard).copied().unwrap_or_default())
    }

    fn put_shard(&mut self, shard: u32, row: &ShardRow) -> Stored<()> {
        self.shards.insert(shard, *row);
        if !self.touched.contains(&shard) {
            self.touched.push(shard);
        }
        Ok(())
    }

    fn producer(&mut self, shard: u32, producer: u64) -> Stored<Option<ProducerRow>> {
        Ok(self.producers.get(&(shard, producer)).copied())
    }

    fn put_producer(&mut self, shard: u32, producer: u64, row: &ProducerRow) -> Stored<()> {
        self.producers.insert((shard, producer), *row);
        Ok(())
    }

    fn frames(&mut self, shard: u32, from: u64, limit: usize) -> Stored<Vec<FrameRow>> {
        // A frame that begins earlier may hold the position, too.
        let before = self.frames.range((shard, 0)..=(shard, from)).next_back();
        let start =
            before.filter(|((_, first), (count, _))| first + count > from).map_or(from, |((_, first), _)| *first);
        let frames = self.frames.range((shard, start)..=(shard, u64::MAX)).take(limit);
        Ok(frames.map(|((_, first), (_, bytes))| (*first, Arc::clone(bytes))).collect())
    }

    fn put_frame(&mut self, shard: u32, first: u64, count: u64, bytes: &Arc<[u8]>) -> Stored<()> {
        self.frames.insert((shard, first), (count, Arc::clone(bytes)));
        Ok(())
    }

    fn remove_frames(&mut self, shard: u32, first: u64, last: u64) -> Stored<()> {
        let within = self.frames.range((shard, first)..=(shard, last));
        let within = within.filter(|((_, first), (count, _))| first + count - 1 <= last);
        let keys: Vec<Key> = within.map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(self.frames.remove(key)));
        Ok(())
    }

    fn settled(&mut self, shard: u32) -> Stored<Vec<(u64, u64)>> {
        let runs = self.settled.range((shard, 0)..=(shard, u64::MAX));
        Ok(runs.map(|((_, first), last)| (*first, *last)).collect())
    }

    fn settled_at(&mut self, shard: u32, position: u64) -> Stored<Option<(u64, u64)>> {
        let run = self.settled.range((shard, 0)..=(shard, position)).next_back();
        Ok(run.map(|((_, first), last)| (*first, *last)))
    }

    fn put_settled(&mut self, shard: u32, first: u64, last: u64) -> Stored<()> {
        self.settled.insert((shard, first), last);
        Ok(())
    }

    fn remove_settled(&mut self, shard: u32, first: u64) -> Stored<()> {
        self.settled.remove(&(shard, first));
        Ok(())
    }

    fn intents(&mut self, shard: u32) -> Stored<Vec<(u64, Vec<u8>)>> {
        let intents = self.intents.range((shard, 0)..=(shard, u64::MAX));
        Ok(intents.map(|((_, number), intent)| (*number, intent.clone())).collect())
    }

    fn put_intent(&mut self, shard: u32, number: u64, intent: &[u8]) -> Stored<()> {
        self.intents.insert((shard, number), intent.to_vec());
        Ok(())
    }

    fn remove_intent(&mut self, shard: u32, number: u64) -> Stored<()> {
        self.intents.remove(&(shard, number));
        Ok(())
    }

    fn charges(&mut self, shard: u32) -> Stored<Vec<ChargeRow>> {
        Ok(self.charges.iter().filter(|((of, ..), _)| *of == shard).map(|(_, row)| row.clone()).collect())
    }

    fn add_charge(&mut self, shard: u32, row: &ChargeRow) -> Stored<()> {
        let key = (shard, Arc::clone(&row.bucket), row.key, row.grain);
        let before = self.charges.get(&key).map_or(0, |row| row.cost);
        self.charges.insert(key, ChargeRow { cost: before + row.cost, ..row.clone() });
        Ok(())
    }

    fn remove_charges(&mut self, shard: u32, before: u64) -> Stored<()> {
        self.charges.retain(|(of, ..), row| *of != shard || row.expires >= before);
        Ok(())
    }

    fn outcome(&mut self, shard: u32, producer: u64, number: u64) -> Stored<Option<OutcomeRow>> {
        let row = self.outcomes.range((shard, producer, 0)..=(shard, producer, number)).next_back();
        Ok(row.map(|(_, row)| row).filter(|row| number < row.first + row.count).cloned())
    }

    fn outcomes(&mut self, shard: u32, (producer, first): (u64, u64), limit: usize) -> Stored<Vec<OutcomeRow>> {
        let rows = self.outcomes.range((shard, producer, first + 1)..=(shard, u64::MAX, u64::MAX));
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }

    fn put_outcome(&mut self, shard: u32, row: &OutcomeRow) -> Stored<()> {
        self.outcomes.insert((shard, row.producer, row.first), row.clone());
        Ok(())
    }

    fn remove_outcome(&mut self, shard: u32, producer: u64, first: u64) -> Stored<()> {
        self.outcomes.remove(&(shard, producer, first));
        Ok(())
    }

    fn letters(&mut self, shard: u32, after: Option<(u64, u64)>, limit: usize) -> Stored<Vec<LetterRow>> {
        let rows = self.letters.range((shard, 0, 0)..=(shard, u64::MAX, u64::MAX)).map(|(_, row)| row);
        let rows = rows.filter(|row| after.is_none_or(|after| (row.producer, row.number) > after));
        Ok(rows.take(limit).cloned().collect())
    }

    fn letter(&mut self, shard: u32, producer: u64, number: u64) -> Stored<Option<LetterRow>> {
        Ok(self.letters.get(&(shard, producer, number)).cloned())
    }

    fn put_letter(&mut self, shard: u32, row: &LetterRow) -> Stored<()> {
        self.letters.insert((shard, row.producer, row.number), row.clone());
        Ok(())
    }

    fn remove_letter(&mut self, shard: u32, producer: u64, number: u64) -> Stored<()> {
        self.letters.remove(&(shard, producer, number));
        Ok(())
    }
}
