//! The routes of the paper venue. A call that has arrived is executed to its end, also if its sender is killed meanwhile: that is what
//! makes an order doubtful at a real venue, too.
//!
//! Invariant: when a session has been opened, no call of an earlier one of its lane is under way, and none will be executed.

use std::{
    collections::HashMap,
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::future::join_all;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;

use crate::{
    bot::venue::{
        Answer, PaperVenue, Refused,
        wire::{
            CallRefused, Counts, Fills, Find, Health, Known, OpResult, Open, Orders, Prices, Results, Session, Stop,
            Used,
        },
    },
    demo::progress,
};

/// Maximum length of a question, in bytes: a chunk of prices of a replay at full speed.
const MAX_QUESTION: usize = 16 << 20;

/// The session of a lane.
type Lane = Arc<RwLock<u64>>;

/// The venue and its sessions. A clone is the same server.
#[derive(Clone)]
pub struct Server {
    venue: PaperVenue,
    health: Arc<Health>,
    /// The session of each lane; zero before the first. Each call holds that of its lane for reading, and a new session takes it for
    /// writing. There are no more lanes than their numbers.
    sessions: Arc<Mutex<HashMap<u16, Lane>>>,
    /// Number of calls that have arrived.
    calls: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Server {
    pub fn new(venue: PaperVenue, health: Health, stop: CancellationToken) -> Self {
        Self { venue, health: Arc::new(health), sessions: Arc::default(), calls: Arc::default(), stop }
    }

    /// A count of the calls that have arrived.
    pub fn calls(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.calls)
    }

    /// Questions have to be JSON by their header, which no page of another site can send without being asked for permission.
    pub fn router(self) -> Router {
        let calls = self.calls();
        Router::new()
            .route("/health", get(async |State(server): State<Self>| Json((*server.health).clone())))
            .route("/account", get(account))
            .route("/counts", get(async |State(server): State<Self>| Json::<Counts>(server.venue.counts())))
            .route("/session", post(session))
            .route("/orders", post(orders))
            .route("/orders/find", post(find))
            .route("/prices", post(prices))
            .route("/idle", post(idle))
            .route("/stop", post(stop))
            .layer(DefaultBodyLimit::max(MAX_QUESTION))
            .layer(middleware::from_fn(move |call: Request, next: Next| {
                calls.fetch_add(1, Ordering::Relaxed);
                next.run(call)
            }))
            .with_state(self)
    }

    fn lane(&self, lane: u16) -> Lane {
        Arc::clone(self.sessions.lock().unwrap_or_else(PoisonError::into_inner).entry(lane).or_default())
    }

    /// Waits for the calls of all lanes that are under way, and keeps later ones waiting.
    async fn hold_all(&self) -> Vec<OwnedRwLockWriteGuard<u64>> {
        let lanes: Vec<Lane> =
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        join_all(lanes.into_iter().map(RwLock::write_owned)).await
    }

    /// Holds a session while a call of it is under way.
    async fn hold(&self, lane: u16, session: u64) -> Result<OwnedRwLockReadGuard<u64>, StatusCode> {
        let current = self.lane(lane).read_owned().await;
        match *current {
            current if current > session => Err(StatusCode::CONFLICT),
            0 => Err(StatusCode::UNAUTHORIZED),
            _ => Ok(current),
        }
    }
}

async fn account(State(server): State<Server>) -> Response {
    let resting = server.venue.account().resting;
    let Some(mut statement) = server.venue.state().ledger.as_ref().map(|ledger| ledger.statement()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    statement.resting = resting;
    Json(statement).into_response()
}

async fn session(State(server): State<Server>, Json(Open { lane }): Json<Open>) -> Json<Session> {
    let lane = server.lane(lane);
    let mut session = lane.write().await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // By the clock, so that a session before a restart of the venue is an earlier one.
    let by_clock = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    *session = by_clock.max(session.saturating_add(1));
    Json(Session { session: *session })
}

async fn orders(State(server): State<Server>, Json(question): Json<Orders>) -> Response {
    let Orders { lane, session, ops } = question;
    // In a task of its own, since the server drops what it does for a client that has gone.
    let executed = tokio::spawn(async move {
        let _held = server.hold(lane, session).await?;
        Ok::<_, StatusCode>(server.venue.execute(&ops).await)
    });
    match executed.await {
        Ok(Ok(Answer { results: Ok(results), used })) => {
            let results = results.into_iter().map(|result| result.map_or_else(OpResult::Refused, OpResult::Accepted));
            Json(Results { results: results.collect(), used }).into_response()
        }
        Ok(Ok(Answer { results: Err(refused), used })) => refusal(refused, used),
        Ok(Err(status)) => status.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refusal(refused: Refused, used: Used) -> Response {
    let reason = refused.reason().into();
    let (status, retry_after) = match refused {
        Refused::Throttled { retry_after, banned: false } => (StatusCode::TOO_MANY_REQUESTS, retry_after),
        Refused::Throttled { retry_after, banned: true } => (StatusCode::IM_A_TEAPOT, retry_after),
        Refused::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO),
        Refused::Broken(error) => out_of_order(&error),
    };
    // Rounded up: a caller that waits for less comes too early.
    let retry_after_ms = u64::try_from(retry_after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    (status, Json(CallRefused { reason, retry_after_ms, used })).into_response()
}

/// Ends the program without an answer, since what has just landed is not in the journal, and would be forgotten.
fn out_of_order(error: &crate::bot::Error) -> ! {
    progress::print(&format!("error: {error}"));
    process::exit(1);
}

async fn find(State(server): State<Server>, Json(question): Json<Find>) -> Response {
    let _held = match server.hold(question.lane, question.session).await {
        Ok(held) => held,
        Err(status) => return status.into_response(),
    };
    let state = server.venue.state();
    let known = question.orders.iter().map(|(symbol, id)| state.ledger.as_ref()?.find(*symbol, *id, &state.book));
    Json(known.collect::<Vec<Option<Known>>>()).into_response()
}

async fn prices(State(server): State<Server>, Json(question): Json<Prices>) -> Response {
    let Prices { known_fills, updates } = question;
    for update in &updates {
        server.venue.on_price(update);
    }
    let mut state = server.venue.state();
    let Some(ledger) = &mut state.ledger else { return StatusCode::NOT_FOUND.into_response() };
    if let Err(error) = ledger.write() {
        out_of_order(&error);
    }
    match ledger.fills_after(known_fills) {
        Some((fills, last)) => Json(Fills { fills, last }).into_response(),
        None => StatusCode::GONE.into_response(),
    }
}

async fn stop(State(server): State<Server>, Json(Stop {}): Json<Stop>) -> Json<()> {
    // Calls that are under way end first. The server then takes no more of them.
    let _last = server.hold_all().await;
    server.stop.cancel();
    Json(())
}

async fn idle(State(server): State<Server>, Json(Stop {}): Json<Stop>) -> Json<()> {
    drop(server.hold_all().await);
    Json(())
}
