//! The load of a run: a number of ops, split over a number of producers. All of `peers` take one.

use std::ops::Range;

use tokio::task::JoinSet;

/// The size of one run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of producers: tasks, or threads for the std thread.
    pub producers: u64,
    /// The number of ops of all producers together.
    pub ops: u64,
}

impl Load {
    /// Spawns a task per producer. Each gets the numbers of the ops that it sends.
    pub fn start<F>(self, producer: impl FnMut(Range<u64>) -> F) -> JoinSet<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shares().map(producer).collect()
    }

    /// The ranges of op numbers per producer, whose sizes differ by 1 at most.
    pub fn shares(self) -> impl Iterator<Item = Range<u64>> {
        (0..self.producers).map(move |i| self.ops * i / self.producers..self.ops * (i + 1) / self.producers)
    }
}

/// Waits for all tasks.
///
/// # Panics
///
/// Panics if a task has panicked.
pub async fn join(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task of the bench does not panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_ops_evenly() {
        let shares: Vec<_> = Load { producers: 3, ops: 10 }.shares().collect();
        assert_eq!(shares, [0..3, 3..6, 6..10]);
    }
}
