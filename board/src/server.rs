//! The routes of the page: its files, the socket, and the two requests of the buttons. `guard` has checked each request.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, OriginalUri, State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use roundlot::{Feed, sink::websocket::WebSocket};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    assets::{Asset, Assets, HTML},
    connections::Place,
    control::{Command, Control},
    event::Event,
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
pub(crate) struct Shared {
    feed: Feed<Event, Arc<str>>,
    screen: WebSocket<Event>,
    control: Arc<dyn Control>,
    keys: Arc<Keys>,
    /// Names of the batchers.
    names: Arc<BTreeSet<String>>,
    assets: Arc<Assets>,
    seats: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        feed: Feed<Event, Arc<str>>,
        screen: WebSocket<Event>,
        control: Arc<dyn Control>,
        keys: Keys,
        names: BTreeSet<String>,
        assets: Assets,
    ) -> Self {
        let (keys, names, assets) = (Arc::new(keys), Arc::new(names), Arc::new(assets));
        Self { feed, screen, control, keys, names, assets, seats: Arc::new(Semaphore::new(MAX_BROWSERS)) }
    }
}

/// Returns the routes. `name` is the name of the host by which the page may be reached, too.
pub(crate) fn router(shared: Shared, name: Option<String>) -> Router {
    let files = shared.assets.files.iter().fold(Router::new(), |router, Asset { path, kind, text }| {
        let (kind, text) = (*kind, *text);
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], text)))
    });
    files
        .route("/", get(page))
        .route("/socket", get(open))
        .route("/unlock", post(unlock))
        .route("/command", post(command))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .layer(middleware::from_fn_with_state(name.map(Arc::from), guard))
        .with_state(shared)
}

/// The page, whose addresses begin with the path that it is mounted at.
async fn page(OriginalUri(uri): OriginalUri, State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, HTML)], shared.assets.page(uri.path())).into_response()
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
    place: Option<Extension<Place>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !shared.keys.admits(value(&headers, PASS)) {
        return said(StatusCode::UNAUTHORIZED, json!({ "say": "the buttons need the token of this run" }));
    }
    let command = serde_json::from_str::<Command>(&body).ok();
    let Some(command) = command.filter(|command| shared.names.contains(&command.batcher)) else {
        return said(StatusCode::BAD_REQUEST, json!({ "say": "there is no such button" }));
    };
    let _busy = place.map(|Extension(place)| place.busy());
    // The command runs in its own task, so that a browser that disconnects does not stop a pull of the kill switch half
    // way.
    let executed = tokio::spawn(async move { shared.control.execute(command).await }).await;
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
