//! The routes of the page: its files, the socket, and the two requests of the buttons. `connections` serves the
//! router; `guard` has checked each request.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use roundlot::{Feed, sink::websocket::WebSocket};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    assets::{ASSETS, Asset},
    connections::Place,
    controls::{Command, Controls},
    event::{Event, Topic},
    guard::guard,
    keys::{Keys, UnlockError},
    socket,
};

/// Maximum size of a request's body, in bytes. A command has some forty.
const MAX_BYTES: usize = 256;

/// Maximum number of browsers that watch at once.
const MAX_BROWSERS: usize = 64;

const TOKEN: &str = "x-roundlot-token";
const PASS: &str = "x-roundlot-pass";

#[derive(Clone)]
pub struct Shared {
    feed: Feed<Event, Topic>,
    screen: WebSocket<Event>,
    controls: Controls,
    keys: Arc<Keys>,
    seats: Arc<Semaphore>,
}

impl Shared {
    pub fn new(feed: Feed<Event, Topic>, screen: WebSocket<Event>, controls: Controls, keys: Keys) -> Self {
        Self { feed, screen, controls, keys: Arc::new(keys), seats: Arc::new(Semaphore::new(MAX_BROWSERS)) }
    }
}

/// Returns the routes. `name` is the name of the host in the setting, by which the page may be reached, too.
pub fn router(shared: Shared, name: Option<String>) -> Router {
    let files = ASSETS.iter().fold(Router::new(), |router, Asset { path, kind, text }| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, *kind)], *text)))
    });
    files
        .route("/socket", get(open))
        .route("/unlock", post(unlock))
        .route("/command", post(command))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .layer(middleware::from_fn_with_state(name.map(Arc::from), guard))
        .with_state(shared)
}

async fn open(upgrade: WebSocketUpgrade, State(shared): State<Shared>) -> Response {
    match shared.seats.try_acquire_owned() {
        Ok(seat) => socket::serve(upgrade, shared.feed, shared.screen, seat),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "too many browsers look at the page").into_response(),
    }
}

async fn unlock(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    match shared.keys.unlock(value(&headers, TOKEN)) {
        Ok(pass) => {
            let say = "the buttons are unlocked";
            said(StatusCode::OK, json!({ "say": say, "pass": pass, "run": shared.keys.run() }))
        }
        Err(UnlockError::Wrong) => said(StatusCode::UNAUTHORIZED, json!({ "say": "that is not the token" })),
        Err(UnlockError::TooManyTries) => {
            let say = "too many wrong tokens: wait a minute";
            said(StatusCode::TOO_MANY_REQUESTS, json!({ "say": say }))
        }
    }
}

async fn command(
    State(shared): State<Shared>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !shared.keys.admits(value(&headers, PASS)) {
        return said(StatusCode::UNAUTHORIZED, json!({ "say": "the buttons need the token of this run" }));
    }
    let Ok(command) = serde_json::from_str::<Command>(&body) else {
        return said(StatusCode::BAD_REQUEST, json!({ "say": "there is no such button" }));
    };
    let _busy = place.busy();
    // The command runs in its own task, so that a browser that disconnects does not stop a pull of the kill switch half
    // way.
    let executed = tokio::spawn(async move { shared.controls.execute(command).await }).await;
    match executed.unwrap_or_else(|_| Err("the app failed at it".to_owned())) {
        Ok(say) => said(StatusCode::OK, json!({ "say": say })),
        Err(say) => said(StatusCode::CONFLICT, json!({ "say": say })),
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn said(status: StatusCode, answer: serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
