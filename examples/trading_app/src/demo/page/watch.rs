//! The batcher of orders as the board sees it.

use futures::future::BoxFuture;
use roundlot::{Outcomes, Stats};
use roundlot_board::{Ended, Watch};

use crate::bot::orders::Orders;

impl Watch for Orders {
    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { Self::pause(self).await.map_err(|_| Ended) })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { Self::resume(self).await.map_err(|_| Ended) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<Outcomes, Ended>> {
        Box::pin(async { Self::flush(self).await.map_err(|_| Ended) })
    }
}
