//! [`Removal`]: the task that removes frames whose positions are settled. Leaders feed it, and wait for nothing.
//!
//! Invariant: a statement removes some thousands of frames at most. So it holds the lock of a tail for a short time, and ends in time
//! however much there is to remove. What fails is tried again after a pause, since a log that is full may wait for this room alone.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::frames::{Frames, ROW_BYTES, SPAN};
use crate::durable::{
    ledger::rows::{int8, int8s},
    log::{store::Stored, sums::unsigned},
};

/// Positions whose frames one statement removes, about. A frame takes at least one position, so that these are as many frames at most:
/// some tenths of a second on a slow disk.
const SLICE: u64 = 4096;

/// The pauses before a removal that failed is tried again, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a process that leaves waits for removals. The next term removes what is left.
const LEAVE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Removal {
    backlog: Mutex<Backlog>,
    /// Whether the task runs.
    is_removing: AtomicBool,
    /// Notified when the task has ended.
    idle: Notify,
    /// Canceled when the log is left.
    closed: CancellationToken,
}

/// Positions that are settled and whose frames are not removed, by shard.
#[derive(Default)]
struct Backlog {
    /// Runs of positions, from the first to the last.
    runs: BTreeMap<u16, Vec<(u64, u64)>>,
    /// The position below which all frames have been removed.
    removed: BTreeMap<u16, u64>,
}

/// Frames within a run of settled positions that begin below a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    first: u64,
    last: u64,
    /// The frames removed begin below this position.
    until: u64,
}

impl Slice {
    fn whole((first, last): (u64, u64)) -> Self {
        Self { first, last, until: last + 1 }
    }

    /// The run that is left when the frames have been removed. A run from 0 on begins where all has been removed.
    fn rest(self) -> Option<(u64, u64)> {
        let first = if self.first == 0 { 0 } else { self.until };
        (self.until <= self.last).then_some((first, self.last))
    }
}

/// Takes runs that are short enough for one statement, or one that is not.
fn take_some(runs: &mut Vec<(u64, u64)>, removed: u64) -> Vec<(u64, u64)> {
    let (mut taken, mut positions) = (Vec::new(), 0_u64);
    while let Some((first, last)) = runs.last().copied() {
        positions = positions.saturating_add(last - start((first, last), removed) + 1);
        if positions > SLICE && !taken.is_empty() {
            break;
        }
        taken.push((first, last));
        runs.pop();
    }
    taken
}

/// Where frames within a run may begin.
fn start((first, last): (u64, u64), removed: u64) -> u64 {
    // The frame that held the cursor began before it.
    if first == 0 { removed.saturating_sub(SPAN).min(last) } else { first }
}

impl Removal {
    /// Waits a moment for removals that are under way, and ends the task.
    pub(crate) async fn end(&self) {
        let ended = async {
            loop {
                let idle = self.idle.notified();
                if !self.is_removing.load(Ordering::SeqCst) {
                    return;
                }
                idle.await;
            }
        };
        // A removal that is cut short has removed all of its frames or none.
        let _ = timeout(LEAVE, ended).await;
        self.closed.cancel();
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// Removes all frames whose positions are settled when a term begins, also those that an earlier leader has left.
    pub(crate) fn remove_settled(self: &Arc<Self>, shard: u16, cursor: u64, settled: &[(u64, u64)]) {
        let runs = cursor.checked_sub(1).map(|last| (0, last)).into_iter().chain(settled.iter().copied()).collect();
        self.removal().backlog().removed.remove(&shard);
        self.remove(shard, runs);
    }

    /// Removes the frames within runs, in a task that others may feed meanwhile.
    pub(crate) fn remove(self: &Arc<Self>, shard: u16, runs: Vec<(u64, u64)>) {
        self.removal().backlog().runs.entry(shard).or_default().extend(runs);
        if self.removal().is_removing.swap(true, Ordering::SeqCst) {
            return;
        }
        let frames = Arc::clone(self);
        tokio::spawn(async move {
            let removal = frames.removal();
            tokio::select! {
                biased;
                () = removal.closed.cancelled() => removal.is_removing.store(false, Ordering::SeqCst),
                () = frames.remove_all() => {}
            }
            removal.idle.notify_waiters();
        });
    }

    /// Removes until nothing is left to remove.
    async fn remove_all(&self) {
        let (removal, mut pause) = (self.removal(), PAUSE.0);
        loop {
            let next = removal.backlog().runs.first_key_value().map(|(shard, _)| *shard);
            let went = match next {
                Some(shard) => self.remove_some(shard).await,
                None => {
                    removal.is_removing.store(false, Ordering::SeqCst);
                    // Runs may have come meanwhile, and their leader may have found the task running.
                    if removal.backlog().runs.is_empty() || removal.is_removing.swap(true, Ordering::SeqCst) {
                        return;
                    }
                    continue;
                }
            };
            if went.is_ok() {
                pause = PAUSE.0;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Removes some frames of a shard by one statement.
    async fn remove_some(&self, shard: u16) -> Stored<()> {
        let (taken, removed) = {
            let mut backlog = self.removal().backlog();
            let Backlog { runs, removed } = &mut *backlog;
            let removed = removed.get(&shard).copied().unwrap_or_default();
            let Some(of_shard) = runs.get_mut(&shard) else { return Ok(()) };
            let taken = take_some(of_shard, removed);
            if of_shard.is_empty() {
                runs.remove(&shard);
            }
            (taken, removed)
        };
        let went = self.remove_taken(shard, &taken, removed).await;
        let mut backlog = self.removal().backlog();
        let rest: Vec<(u64, u64)> = match &went {
            Ok(slices) => {
                let until = slices.iter().filter(|slice| slice.first == 0).map(|slice| slice.until).max();
                backlog.removed.insert(shard, removed.max(until.unwrap_or_default()));
                slices.iter().filter_map(|slice| slice.rest()).collect()
            }
            Err(_) => taken,
        };
        if !rest.is_empty() {
            backlog.runs.entry(shard).or_default().extend(rest);
        }
        went.map(drop)
    }

    async fn remove_taken(&self, shard: u16, taken: &[(u64, u64)], removed: u64) -> Stored<Vec<Slice>> {
        let slices = match taken {
            [run] if run.1 - start(*run, removed) >= SLICE => vec![self.slice(shard, *run, removed).await?],
            runs => runs.iter().map(|run| Slice::whole(*run)).collect(),
        };
        let sql = "WITH gone AS (DELETE FROM {s}.roundlot_frames f \
            USING unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS r(first, last, until) \
            WHERE f.log = $1 AND f.shard = $2 AND f.first >= r.first AND f.first < r.until \
            AND f.first + f.count - 1 <= r.last RETURNING octet_length(f.bytes) AS size) \
            UPDATE {s}.roundlot_tails SET bytes = bytes - (SELECT coalesce(sum(size + $6::bigint), 0) FROM gone) \
            WHERE log = $1 AND shard = $2";
        let columns = [
            int8s(slices.iter().map(|slice| start((slice.first, slice.last), removed))),
            int8s(slices.iter().map(|slice| slice.last)),
            int8s(slices.iter().map(|slice| slice.until)),
            int8(ROW_BYTES),
        ];
        self.changes().change(&self.tables().of_shard(shard, sql, columns)).await?;
        Ok(slices)
    }

    /// The first frames of a long run, few enough for one statement.
    async fn slice(&self, shard: u16, run: (u64, u64), removed: u64) -> Stored<Slice> {
        let sql = "SELECT first FROM {s}.roundlot_frames WHERE log = $1 AND shard = $2 AND first >= $3 AND first <= $4 \
            ORDER BY first LIMIT 1 OFFSET $5";
        let columns = [int8(start(run, removed)), int8(run.1), int8(SLICE)];
        let rows = self.reads().query(&self.tables().of_shard(shard, sql, columns)).await?;
        let whole = Slice::whole(run);
        Ok(rows.first().map_or(whole, |row| Slice { until: unsigned(row.get(0)), ..whole }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no statement is of more than a slice, and nothing is left out. Method: short and long runs, and one from the beginning.
    #[test]
    fn statements_are_bounded() {
        let all = vec![(0, 9_999), (20_000, 20_099), (30_000, 33_999), (40_000, 90_000)];
        let (mut runs, mut seen) = (all.clone(), Vec::new());
        while !runs.is_empty() {
            let taken = take_some(&mut runs, 9_000);
            let positions: u64 = taken.iter().map(|run| run.1 - start(*run, 9_000) + 1).sum();
            assert!(taken.len() == 1 || positions <= SLICE, "{taken:?}");
            seen.extend(taken);
        }
        seen.sort_unstable();
        assert_eq!(seen, all);
        // The rest of a run goes on where the slice has ended.
        assert_eq!(Slice { first: 40_000, last: 90_000, until: 50_000 }.rest(), Some((50_000, 90_000)));
        assert_eq!(Slice { first: 0, last: 90_000, until: 50_000 }.rest(), Some((0, 90_000)));
        assert_eq!(Slice::whole((40_000, 90_000)).rest(), None);
    }
}
