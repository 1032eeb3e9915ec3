//! How much is sent by how many. In comes the size of a run, out go producers, each with its share of the ops.

use std::ops::Range;

use tokio::task::JoinSet;

/// One run: so many ops by so many producers.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub producers: u64,
    pub ops: u64,
}

impl Load {
    /// A task for each producer, which gets the numbers of the ops that it is to send.
    pub fn start<F>(self, producer: impl FnMut(Range<u64>) -> F) -> JoinSet<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shares().map(producer).collect()
    }

    /// All ops, split as evenly as can be.
    pub fn shares(self) -> impl Iterator<Item = Range<u64>> {
        (0..self.producers).map(move |i| self.ops * i / self.producers..self.ops * (i + 1) / self.producers)
    }
}

/// Waits for tasks that must not fail.
pub async fn join(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task of the bench does not panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_of_it_and_even() {
        let shares: Vec<_> = Load { producers: 3, ops: 10 }.shares().collect();
        assert_eq!(shares, [0..3, 3..6, 6..10]);
    }
}
