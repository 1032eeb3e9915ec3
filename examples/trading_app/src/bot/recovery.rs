//! The beginning of a run at a venue that remembers orders. [`recover`] settles what an earlier run has left in the log, and then
//! takes over positions and resting orders from the venue, which is right about them whatever the bot has seen. `main` calls it.

use std::sync::{Arc, Mutex, PoisonError};

use roundlot::{Outcomes, market::TradeOp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Error, orders::Orders, portfolio::Portfolio, strategy::Strategy, venue::Venue};

/// Ops that an earlier run has left in the log, and their ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Number of ops that waited in the log.
    pub recovered: u64,
    /// Number of them that the earlier run may have sent.
    pub recovered_in_doubt: u64,
    /// How they ended before this run began to trade. Expired ones were outdated while the program was away.
    pub recovered_ends: Outcomes,
    /// Whether the orders were paused, and still are.
    pub paused: bool,
}

/// Settles what waits in the log, unless it is paused, and goes on from what the venue says. `None` at a venue that begins with the
/// run.
pub async fn recover(
    orders: &Orders,
    venue: &Venue,
    portfolio: &Portfolio,
    strategy: &mut Strategy,
    stop: &CancellationToken,
) -> Result<Option<Recovered>, Error> {
    let Venue::Remote(venue) = venue else { return Ok(None) };
    let found = orders.log_stats().unwrap_or_default();
    let mut recovered = Recovered {
        recovered: found.recovered,
        recovered_in_doubt: found.recovered_in_doubt,
        paused: found.paused,
        ..Recovered::default()
    };
    if !found.paused && found.recovered > 0 {
        // A venue that is away may keep this waiting. What is not settled by the stop stays in the log.
        stop.run_until_cancelled(orders.flush()).await.transpose()?;
    }
    recovered.recovered_ends = orders.log_stats().unwrap_or_default().outcomes;
    // Ops that are paused wait on, and the strategy has to know them.
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&waiting);
    let look = move |op: &TradeOp| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(op.clone());
        false
    };
    orders.withdraw(look).await?;
    let waiting = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));

    let statement = venue.begin().await?;
    portfolio.restore(&statement);
    let cancels = strategy.restore(&statement, &waiting);
    // Their verdicts do not matter: an order that has ended meanwhile needs no cancel.
    drop(orders.submit_all(cancels).await?);
    Ok(Some(recovered))
}
