//! A venue that is another program, over HTTP. [`RemoteVenue`] is the sink of the orders batcher, and the source of what the bot
//! holds when it starts again.
//!
//! Invariant: calls of a session that has been replaced have landed or never will, because the venue waits for those that are under
//! way before it opens a new session, and refuses later ones. Each lane has a session of its own: a shard of the log of orders is a
//! lane, so that each term of a shard begins a session, and the bots that lead other shards go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::StatusCode;
use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{ConflationKey, Order, PriceUpdate, TradeOp},
    sink::Guarantee,
};
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};

use super::{
    book::VenueOrderId,
    http::{Answer, CallError, Http},
    limiter::VenueCounts,
    wire::{
        CallRefused, Counts, Fills, Find, Health, Known, OpResult, Open, Orders, PROGRAM, Prices, Results, Session,
        Statement, Stop, Used,
    },
};
use crate::bot::Error;

/// Maximum time of a call that is not a write: some slow calls of the venue. A write may take as long as `write_timeout` says.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of known fills before the account was read.
const NOT_BEGUN: u64 = u64::MAX;

/// A client of the venue. A clone is the same client.
#[derive(Clone)]
pub struct RemoteVenue {
    http: Http,
    health: Arc<Health>,
    lane: u16,
    /// Whether all calls are made in this lane, so that what the venue has counted is what the quota here has used. Each of several
    /// shards has a share of the quota.
    is_alone: bool,
    /// The session of the lane; `None` until the first call, and when the venue does not know it any more.
    session: Arc<Mutex<Option<u64>>>,
    /// Number of the last fill that the bot knows, in whichever lane, or [`NOT_BEGUN`]. Changed by `begin`, the first time, and by
    /// `on_prices`, which the trader calls in turn.
    known_fills: Arc<AtomicU64>,
}

impl RemoteVenue {
    /// Asks the venue at this URL for what it is. Nothing is changed there.
    pub async fn find(url: &str) -> Result<Self, Error> {
        let http = Http::new(url)?;
        let health: Health = within(http.get("/health")).await?.success()?;
        if health.program != PROGRAM {
            return Err(format!("{} is no paper venue", http.url()).into());
        }
        Ok(Self {
            http,
            health: Arc::new(health),
            lane: 0,
            is_alone: true,
            session: Arc::default(),
            known_fills: Arc::new(NOT_BEGUN.into()),
        })
    }

    /// Returns a client of the same venue, in one of so many lanes. Its session ends the earlier ones of the lane.
    pub fn of_lane(&self, lane: u16, lanes: u16) -> Self {
        Self { lane, is_alone: lanes == 1, session: Arc::default(), ..self.clone() }
    }

    /// Passes on what the venue has counted.
    fn report(&self, used: &Used, batch: &mut Batch<TradeOp, VenueOrderId>) {
        if self.is_alone {
            used.iter().fold(batch.quota(), |quota, (limit, used)| quota.used(limit, *used));
        }
    }

    pub fn url(&self) -> &str {
        self.http.url()
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Tells the venue of new prices, and returns the fills since the last call, of all symbols.
    pub async fn on_prices(&self, updates: &[PriceUpdate]) -> Result<Fills, Error> {
        if self.known_fills.load(Ordering::Relaxed) == NOT_BEGUN {
            self.begin().await?;
        }
        let known_fills = self.known_fills.load(Ordering::Relaxed);
        let prices = Prices { known_fills, updates: updates.to_vec() };
        let answer = within(self.http.post("/prices", &prices)).await?;
        if answer.status == StatusCode::GONE {
            return Err(
                "the venue does not remember all fills any more: start again, so that the account is read anew".into(),
            );
        }
        let fills: Fills = answer.success()?;
        self.known_fills.store(fills.last, Ordering::Relaxed);
        Ok(fills)
    }

    /// Returns the account.
    pub async fn statement(&self) -> Result<Statement, Error> {
        within(self.http.get("/account")).await?.success()
    }

    /// Returns the account. Of the first one the fills are known: `on_prices` returns later ones alone. Of later ones it returns again
    /// those that it has not returned before.
    pub async fn begin(&self) -> Result<Statement, Error> {
        let statement = self.statement().await?;
        let known = &self.known_fills;
        // An error says that it was not the first.
        let _ = known.compare_exchange(NOT_BEGUN, statement.fills, Ordering::Relaxed, Ordering::Relaxed);
        Ok(statement)
    }

    /// Opens the session of this client, if it has none: when this returns, no call of an earlier session of the lane is under way.
    pub async fn open(&self) -> Result<(), Error> {
        Ok(self.session().await.map(drop)?)
    }

    /// Cancels resting orders in one call, beside the batcher. Returns the result of each.
    pub async fn cancel(&self, orders: &[Order]) -> Result<Vec<OpResult>, Error> {
        let ops: Vec<TradeOp> = orders.iter().map(|order| order.cancel().into()).collect();
        let answer = self.call("/orders", |lane, session| Orders { lane, session, ops }).await?;
        Ok(answer.success::<Results>()?.results)
    }

    pub async fn counts(&self) -> Option<VenueCounts> {
        let counted = async { within(self.http.get("/counts")).await?.success::<Counts>() };
        counted.await.inspect_err(|error| tracing::warn!(%error, "the venue can't be asked for its counts")).ok()?
    }

    /// Waits until all calls that have arrived at the venue are over, whoever has made them.
    pub async fn idle(&self) -> Result<(), Error> {
        within(self.http.post("/idle", &Stop {})).await?.success()
    }

    /// Ends the program of the venue. Returns when it takes no more calls.
    pub async fn stop(&self) -> Result<(), Error> {
        within(self.http.post("/stop", &Stop {})).await?.success()
    }

    /// Returns the session of this client, and opens one if there is none.
    async fn session(&self) -> Result<u64, SinkError> {
        let mut session = self.session.lock().await;
        if let Some(session) = *session {
            return Ok(session);
        }
        let answer = within(self.http.post("/session", &Open { lane: self.lane })).await;
        let answer = answer.map_err(SinkError::outage)?;
        let opened = answer.success::<Session>().map_err(SinkError::outage)?.session;
        *session = Some(opened);
        Ok(opened)
    }

    /// Makes a call within the session. Its errors say what has become of the ops in it.
    async fn call<Q: Serialize>(&self, path: &str, question: impl FnOnce(u16, u64) -> Q) -> Result<Answer, SinkError> {
        let session = self.session().await?;
        let answer = self.http.post(path, &question(self.lane, session)).await.map_err(|error| match error {
            CallError::NotSent(_) => SinkError::outage(error),
            CallError::NoAnswer(_) => SinkError::connection_lost(error),
        })?;
        match answer.status {
            // The call did not land. The session may be one that this client has replaced itself meanwhile.
            StatusCode::CONFLICT => match *self.session.lock().await {
                Some(current) if current == session => Err(SinkError::fenced("the venue has a newer session")),
                _ => Err(SinkError::transient("the session has been replaced")),
            },
            // The venue was started anew, and knows no sessions.
            StatusCode::UNAUTHORIZED => {
                self.session.lock().await.take_if(|current| *current == session);
                Err(SinkError::transient("the venue has begun anew"))
            }
            _ => Ok(answer),
        }
    }
}

/// Waits for the answer to a call that is not a write.
async fn within(call: impl Future<Output = Result<Answer, CallError>>) -> Result<Answer, Error> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err("the venue gave no answer in time".into()),
    }
}

impl Sink<TradeOp, VenueOrderId> for RemoteVenue {
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        let (places, ops): (Vec<usize>, Vec<TradeOp>) =
            batch.pending().indexed().map(|(i, op)| (i, op.clone())).unzip();
        let answer = self.call("/orders", |lane, session| Orders { lane, session, ops }).await?;
        if !answer.status.is_success() {
            // An answer without these words is not the venue's own, and says nothing of the ops.
            let refused: CallRefused = answer.read().map_err(|_| SinkError::ambiguous(answer.unexpected()))?;
            self.report(&refused.used, batch);
            return Err(match answer.status {
                StatusCode::SERVICE_UNAVAILABLE => SinkError::transient(refused.reason),
                status => {
                    let wait = Duration::from_millis(refused.retry_after_ms);
                    SinkError::from_status(status.as_u16(), Some(wait)).with_source(refused.reason)
                }
            });
        }
        // From here on the venue has the ops. An answer that can't be read, or is not one result per op, leaves them in doubt.
        let Results { results, used } = answer.read().map_err(SinkError::ambiguous)?;
        if results.len() != places.len() {
            return Err(SinkError::ambiguous(format!("{} results for {} ops", results.len(), places.len())));
        }
        self.report(&used, batch);
        for (i, result) in places.into_iter().zip(results) {
            match result {
                OpResult::Accepted(id) => batch.accept(i, id),
                OpResult::Refused(reason) => batch.refuse(i, SinkError::refused(reason.into_owned())),
            }
        }
        batch.settled()
    }

    /// A venue that checks client ids may get an order twice; any other one is asked by `reconcile`.
    fn guarantee(&self) -> Guarantee {
        if self.health.checks_client_ids { Guarantee::Idempotent } else { Guarantee::Unknown }
    }

    /// Asks the venue for the orders of a process that was killed. The session that is opened for the question has ended its
    /// calls, so that what the venue does not know never will land, and is sent again.
    async fn reconcile(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<(), SinkError> {
        let asked = batch.pending().indexed().filter_map(|(i, op)| match op.conflation_key()? {
            ConflationKey::Order(symbol, id) => Some((i, (symbol, id))),
            _ => None,
        });
        let (places, orders): (Vec<usize>, Vec<_>) = asked.unzip();
        let answer = self.call("/orders/find", |lane, session| Find { lane, session, orders }).await?;
        let found: Vec<Option<Known>> = answer.success().map_err(SinkError::transient)?;
        for (i, known) in places.into_iter().zip(found) {
            match landed(&batch[i], known) {
                Some(Ok(id)) => batch.accept(i, id),
                Some(Err(reason)) => batch.refuse(i, SinkError::refused(reason)),
                None => batch.retry(i, SinkError::transient("it has not arrived at the venue")),
            }
        }
        Ok(())
    }
}

/// Returns the result of an op, if the venue has executed it, by what is known of its order.
fn landed(op: &TradeOp, known: Option<Known>) -> Option<Result<VenueOrderId, String>> {
    match (op, known?) {
        (TradeOp::Order(_), Known::Resting(id, _) | Known::Canceled(id) | Known::Ended(id)) => Some(Ok(id)),
        (TradeOp::Order(_), Known::Refused(reason)) => Some(Err(reason.into_owned())),
        (TradeOp::Cancel(_), Known::Canceled(id)) => Some(Ok(id)),
        (TradeOp::Amend(amend), Known::Resting(id, order)) => {
            let is_so = order.amended(amend).is_ok_and(|amended| amended == order);
            is_so.then_some(Ok(id))
        }
        // The order has ended meanwhile, or the op has not landed: the venue says so when the op comes again.
        _ => None,
    }
}
