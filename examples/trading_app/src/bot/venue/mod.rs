//! The venue that orders go to: inside of this program, or a program of its own. [`Venue`] is a sink that answers each op with a
//! venue order id or a reason. `kill_switch::Gate` writes to it, and `trader` tells it of prices.
//!
//! | file | holds |
//! |---|---|
//! | `paper`, `book`, `limiter`, `rng` | the paper venue, in the place of a real exchange |
//! | `ledger`, `journal` | what the paper venue remembers of its orders, and its file |
//! | `remote`, `http`, `wire` | the client of a venue that is another program, and the words of its interface |

mod book;
mod http;
mod journal;
mod ledger;
mod limiter;
mod paper;
mod remote;
mod rng;
pub mod wire;

use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{PriceUpdate, TradeOp},
    sink::Guarantee,
};

use super::Error;
pub use book::{Account, Fill, NO_SUCH_ORDER, VenueOrderId};
pub use ledger::Ledger;
pub use limiter::{CALLS_1M, ORDERS_10S, Peak, VenueCounts, WEIGHT_1M, weight};
pub use paper::{Answer, PaperVenue, Refused, State, is_counted};
pub use remote::RemoteVenue;
pub use rng::Rng;
use wire::Fills;

/// The venue of the bot. A clone is the same venue.
#[derive(Clone)]
pub enum Venue {
    /// A part of this program, which ends with it.
    Paper(PaperVenue),
    /// A program of its own.
    Remote(RemoteVenue),
}

impl Venue {
    /// Returns the same venue, in one of so many lanes if it is another program.
    pub fn of_lane(&self, lane: u16, lanes: u16) -> Self {
        match self {
            Self::Paper(venue) => Self::Paper(venue.clone()),
            Self::Remote(venue) => Self::Remote(venue.of_lane(lane, lanes)),
        }
    }

    /// Tells a paper venue of new prices, and returns the fills that are new.
    pub async fn on_prices(&self, updates: &[PriceUpdate]) -> Result<Fills, Error> {
        match self {
            Self::Paper(venue) => {
                let fills: Vec<Fill> = updates.iter().flat_map(|update| venue.on_price(update)).collect();
                // Its account is never read, so that their numbers do not matter.
                let last = fills.len() as u64;
                Ok(Fills { fills, last })
            }
            Self::Remote(venue) => venue.on_prices(updates).await,
        }
    }

    /// Returns a snapshot of positions and resting orders.
    pub async fn account(&self) -> Result<Account, Error> {
        match self {
            Self::Paper(venue) => Ok(venue.account()),
            Self::Remote(venue) => Ok(venue.statement().await?.account()),
        }
    }

    /// Returns the counts of the limits; `None` for a venue without any, or one that cannot be asked.
    pub async fn counts(&self) -> Option<VenueCounts> {
        match self {
            Self::Paper(venue) => venue.counts(),
            Self::Remote(venue) => venue.counts().await,
        }
    }
}

impl From<PaperVenue> for Venue {
    fn from(venue: PaperVenue) -> Self {
        Self::Paper(venue)
    }
}

impl Sink<TradeOp, VenueOrderId> for Venue {
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        match self {
            Self::Paper(venue) => venue.write(batch).await,
            Self::Remote(venue) => venue.write(batch).await,
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self {
            Self::Paper(venue) => venue.guarantee(),
            Self::Remote(venue) => venue.guarantee(),
        }
    }

    async fn reconcile(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<(), SinkError> {
        match self {
            Self::Paper(venue) => venue.reconcile(batch).await,
            Self::Remote(venue) => venue.reconcile(batch).await,
        }
    }
}
