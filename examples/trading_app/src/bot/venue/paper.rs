//! A paper venue, in the place of a real exchange. [`PaperVenue`] answers each op with a venue order id or a reason, after a
//! simulated latency. Calls beyond its limits are refused as a whole, and each answer says how much is used. It is a sink inside of
//! the bot, and the core of a program of its own, which then remembers its orders in a [`Ledger`].
//!
//! Invariant: a call changes the book as a whole after its latency, or, if it fails or is dropped, not at all.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{Order, OrderKind, PriceUpdate, Purpose, TradeOp},
};
use tokio::time::{Instant, sleep};

use super::{
    book::{Account, Book, Fill, VenueOrderId},
    ledger::{Ledger, OpAnswer},
    limiter::{self, Call, Limiter, VenueCounts},
    rng::Rng,
    wire::Used,
};
use crate::bot::{Error, settings};

/// Time that calls may be under way. One that arrives so long after a 429 was sent before its caller had the answer.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// Reasons of random rejections.
const REASONS: [&str; 3] = ["insufficient margin", "price outside the band", "too many open orders"];

/// The venue. A clone is the same venue.
#[derive(Clone)]
pub struct PaperVenue {
    shared: Arc<Shared>,
}

struct Shared {
    settings: settings::Venue,
    seed: u64,
    calls: AtomicU64,
    state: Mutex<State>,
    clock: Clock,
    /// `None` without limits.
    limiter: Option<Mutex<Limiter>>,
}

#[derive(Default)]
pub struct State {
    pub book: Book,
    /// `None` inside of the bot, which keeps the answers itself.
    pub ledger: Option<Ledger>,
}

/// The answer to a call, and what is used of each limit by then.
pub struct Answer {
    pub results: Result<Vec<OpAnswer>, Refused>,
    pub used: Used,
}

/// Why a call is refused as a whole. Nothing of it has landed, unless it says otherwise.
#[derive(Debug)]
pub enum Refused {
    /// 429 or 418, with the time to wait, as in the header `Retry-After`.
    Throttled { retry_after: Duration, banned: bool },
    /// 503.
    Unavailable,
    /// The journal can't be written. The ops have landed in memory alone, and the venue has to end.
    Broken(Error),
}

/// The clock of the venue. It runs as the runtime's, so that tests can pause it.
struct Clock {
    /// Time since 1970 at `start`.
    unix: Duration,
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { unix, start: Instant::now() }
    }

    /// Time since 1970.
    fn now(&self) -> Duration {
        self.unix + self.start.elapsed()
    }
}

/// Whether the op counts as an order. Cancels do not, as with real venues.
pub fn is_counted(op: &TradeOp) -> bool {
    !op.is_cancel()
}

impl PaperVenue {
    pub fn new(settings: settings::Venue, seed: u64) -> Self {
        Self::with(settings, seed, State::default())
    }

    /// Returns a venue that goes on from this state.
    pub fn with(settings: settings::Venue, seed: u64, state: State) -> Self {
        let (calls, state, clock) = (AtomicU64::new(0), Mutex::new(state), Clock::start());
        let limiter = settings.limits.as_ref().map(|limits| Mutex::new(Limiter::new(limits)));
        Self { shared: Arc::new(Shared { settings, seed, calls, state, clock, limiter }) }
    }

    /// Returns the counts of the limits; `None` for a venue without any.
    pub fn counts(&self) -> Option<VenueCounts> {
        Some(self.limiter()?.counts())
    }

    /// Moves the market, and fills the orders that it reaches.
    pub fn on_price(&self, update: &PriceUpdate) -> Vec<Fill> {
        let mut state = self.state();
        let reached = state.book.on_price(update);
        if let Some(ledger) = &mut state.ledger {
            ledger.note_reached(update.symbol, &reached);
        }
        reached.fills
    }

    /// Returns a snapshot of positions and resting orders.
    pub fn account(&self) -> Account {
        self.state().book.account()
    }

    /// Returns the duration of the next call, and whether it succeeds. Slow calls come in spells.
    fn call(&self) -> (Duration, bool) {
        let Shared { settings, seed, calls, .. } = &*self.shared;
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let slow = Rng::of(seed.wrapping_add(1), call / settings.slow_calls.max(1)).percent(settings.slow_percent);
        let unavailable = Rng::of(seed.wrapping_add(2), call).percent(settings.unavailable_percent);
        (if slow { settings.slow_latency } else { settings.latency }, !unavailable)
    }

    /// Counts a call against the limits as it arrives. The answer takes this long.
    fn admit(&self, ops: &[TradeOp], latency: Duration) -> Result<(), limiter::Refusal> {
        let Some(mut limiter) = self.limiter() else { return Ok(()) };
        let orders = ops.iter().filter(|op| is_counted(op)).count() as u64;
        let now = self.shared.clock.now();
        limiter.admit(Call { orders, ops: ops.len() }, now, now + latency + UNDER_WAY)
    }

    /// Waits for the latency, then executes all ops at once: a call that is dropped has not landed.
    pub async fn execute(&self, ops: &[TradeOp]) -> Answer {
        let (latency, available) = self.call();
        let admitted = self.admit(ops, latency);
        sleep(latency).await;
        let used = self.used();
        let results = match admitted {
            Err(refusal) => Err(self.refused(refusal)),
            Ok(()) if !available => Err(Refused::Unavailable),
            Ok(()) => self.take_all(ops).map_err(Refused::Broken),
        };
        Answer { results, used }
    }

    /// Returns the use of each limit, as the headers of a real answer say.
    fn used(&self) -> Used {
        let Some(mut limiter) = self.limiter() else { return Used::new() };
        let used = limiter.used(self.shared.clock.now());
        used.into_iter().map(|(limit, used)| (limit.into(), used)).collect()
    }

    fn refused(&self, refusal: limiter::Refusal) -> Refused {
        let (until, banned) = match refusal {
            limiter::Refusal::TooMany { until } => (until, false),
            limiter::Refusal::Banned { until } => (until, true),
        };
        Refused::Throttled { retry_after: until.saturating_sub(self.shared.clock.now()), banned }
    }

    fn limiter(&self) -> Option<MutexGuard<'_, Limiter>> {
        let limiter = self.shared.limiter.as_ref()?;
        Some(limiter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_all(&self, ops: &[TradeOp]) -> Result<Vec<OpAnswer>, Error> {
        let answers = ops.iter().map(|op| self.take(op)).collect();
        self.state().ledger.as_mut().map_or(Ok(()), Ledger::write)?;
        Ok(answers)
    }

    fn take(&self, op: &TradeOp) -> OpAnswer {
        let State { book, ledger } = &mut *self.state();
        if let Some(answer) = ledger.as_ref().and_then(|ledger| ledger.answered(op)) {
            return answer;
        }
        let answer = self.decide(op, book).map_err(Into::into);
        if let Some(ledger) = ledger {
            ledger.note(op, &answer);
        }
        answer
    }

    fn decide(&self, op: &TradeOp, book: &mut Book) -> Result<VenueOrderId, &'static str> {
        match op {
            TradeOp::Order(order) => self.objection(order).map_or_else(|| book.add(order), Err),
            TradeOp::Cancel(cancel) => book.cancel(cancel),
            TradeOp::Amend(amend) => book.amend(amend),
            _ => Err("not an order"),
        }
    }

    /// Rejects some orders at random, the same ids in each run. Stops are never rejected.
    fn objection(&self, order: &Order) -> Option<&'static str> {
        let id = order.id().as_str().bytes().fold(0, |id: u64, byte| id.wrapping_mul(31).wrapping_add(byte.into()));
        let mut rng = Rng::of(self.shared.seed.wrapping_add(3), id);
        let rejected = order.purpose() <= Purpose::Exit
            && matches!(order.kind(), OrderKind::Limit { .. })
            && rng.percent(self.shared.settings.reject_percent);
        rejected.then(|| REASONS[rng.below(REASONS.len() as u64) as usize])
    }

    /// Adds a resting order without a call.
    #[cfg(test)]
    pub fn rest_for_test(&self, order: &Order) {
        self.state().book.add(order).unwrap();
    }

    /// The book and what is remembered of it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Refused> for SinkError {
    fn from(refused: Refused) -> Self {
        let reason = refused.reason();
        match refused {
            Refused::Throttled { retry_after, .. } => Self::throttled(retry_after).with_source(reason),
            Refused::Unavailable => Self::transient(reason),
            Refused::Broken(error) => Self::ambiguous(error),
        }
    }
}

impl Refused {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Throttled { banned: false, .. } => "429: too many requests",
            Self::Throttled { banned: true, .. } => "418: banned",
            Self::Unavailable => "the venue is not available",
            Self::Broken(_) => "the venue is out of order",
        }
    }
}

impl Sink<TradeOp, VenueOrderId> for PaperVenue {
    /// Ops that have a verdict already are skipped.
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        let Answer { results, used } = self.execute(&batch.pending().to_vec()).await;
        used.iter().fold(batch.quota(), |quota, (limit, used)| quota.used(limit, *used));
        let mut results = results?.into_iter();
        Ok(batch.settle_each(|_| match results.next() {
            Some(result) => result.map_err(|reason| SinkError::refused(reason.as_ref())),
            None => Err(SinkError::ambiguous("the venue has no result for it")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use roundlot::market::{Side, Symbol};

    use super::*;

    const SLOW: Duration = Duration::from_millis(150);

    fn venue(change: impl FnOnce(&mut settings::Venue)) -> PaperVenue {
        let mut settings = settings::Venue::reliable_for_test();
        change(&mut settings);
        PaperVenue::new(settings, 1)
    }

    fn order(id: u64) -> Order {
        let (price, quantity) = ("100".parse().unwrap(), "1".parse().unwrap());
        Order::limit(id.into(), Symbol::from_static("BTC"), Side::Buy, price, quantity).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_op_gets_its_own_verdict() {
        let venue = venue(|_| {});
        let cancel = order(1).cancel();
        let mut batch = Batch::for_test(vec![order(1).into(), order(1).into(), cancel.into(), cancel.into()]);
        assert!(venue.write(&mut batch).await.is_ok());
        let said = |i| match batch.verdict(i).unwrap() {
            Ok(id) => format!("{id:?}"),
            Err(error) => error.chain(),
        };
        assert_eq!(said(0), "VenueOrderId(1)");
        assert_eq!(said(1), "refused: the order id is in use");
        assert_eq!(said(2), "VenueOrderId(1)");
        assert_eq!(said(3), "refused: there is no such order");
    }

    #[tokio::test(start_paused = true)]
    async fn rejections_repeat_with_the_seed_and_spare_stops() {
        let rejected = || {
            let venue = venue(|settings| settings.reject_percent = 20);
            (0..1000).filter_map(|id| venue.take(&order(id).into()).err()).collect::<Vec<_>>()
        };
        assert_eq!(rejected(), rejected());
        assert!((100..300).contains(&rejected().len()), "{}", rejected().len());
        let stops = venue(|settings| settings.reject_percent = 100);
        assert!(stops.take(&order(1).with_purpose(Purpose::StopLoss).into()).is_ok());
        assert!(REASONS.contains(&&*stops.take(&order(2).into()).unwrap_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_come_in_bursts() {
        let venue = venue(|settings| settings.slow_percent = 20);
        let calls: Vec<Duration> = (0..1000).map(|_| venue.call().0).collect();
        let slow = calls.chunks(10).filter(|spell| spell[0] == SLOW).count();
        assert!((10..30).contains(&slow), "{slow}");
        assert!(calls.chunks(10).all(|spell| spell.iter().all(|call| *call == spell[0])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_changes_nothing() {
        let venue = venue(|settings| settings.unavailable_percent = 100);
        let mut batch = Batch::for_test(vec![order(1).into()]);
        assert_eq!(venue.write(&mut batch).await.unwrap_err().kind(), roundlot::ErrorKind::Transient);
        assert!(venue.take(&order(1).cancel().into()).is_err());
    }

    fn limits() -> settings::VenueLimits {
        let ban = Duration::from_secs(120);
        settings::VenueLimits {
            orders_per_10s: 2,
            calls_per_minute: 100,
            weight_per_minute: 100,
            ignored_before_ban: 2,
            ban,
        }
    }

    /// Writes these ops in one call. Returns what the venue said, and what it reported as used.
    async fn write(venue: &PaperVenue, ops: Vec<TradeOp>) -> (Result<(), String>, String) {
        let mut batch = Batch::for_test(ops);
        let said = venue.write(&mut batch).await.map(|_| ()).map_err(|error| error.chain());
        (said, format!("{:?}", batch.quota()))
    }

    /// Goal: a call beyond the limits is refused as a whole, with the time to wait, and one that does not wait leads to a ban.
    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_limits_are_refused_and_then_banned() {
        let venue = venue(|settings| settings.limits = Some(limits()));
        let (said, used) = write(&venue, vec![order(1).into(), order(1).cancel().into(), order(2).into()]).await;
        assert_eq!(said, Ok(()));
        assert!(used.contains(r#"bucket: "orders_10s", used: Some(2)"#), "a cancel is no order: {used}");
        assert!(used.contains(r#"bucket: "calls_1m", used: Some(1)"#), "{used}");

        // The first call counts for 10 s from its arrival, and each of the two calls took 10 ms.
        let (said, used) = write(&venue, vec![order(3).into()]).await;
        assert_eq!(said, Err("throttled for 9.98s: 429: too many requests".to_owned()));
        assert!(used.contains(r#"bucket: "orders_10s", used: Some(2)"#), "also a refusal says what is used: {used}");
        assert_eq!(venue.account().resting.len(), 1, "nothing of it has landed");

        sleep(Duration::from_secs(1)).await;
        let (said, _) = write(&venue, vec![order(3).into()]).await;
        assert_eq!(said, Err("throttled for 8.97s: 429: too many requests".to_owned()));
        let (said, _) = write(&venue, vec![order(3).into()]).await;
        assert_eq!(said, Err("throttled for 119.99s: 418: banned".to_owned()));
        sleep(Duration::from_secs(120)).await;
        assert_eq!(write(&venue, vec![order(3).into()]).await.0, Ok(()));
        let counts = venue.counts().unwrap();
        assert_eq!((counts.too_many, counts.banned, counts.bans), (2, 1, 1));
    }
}
