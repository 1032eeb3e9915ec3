//! Tests of a whole board over HTTP: where it is mounted, what is refused, what browsers are told, what the buttons do.

use std::time::Duration;

use axum::Router;
use futures::StreamExt;
use roundlot::{Batcher, Handle, Worker, testing::Recorder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use crate::{Board, BoardError, Live, Panel, StopButton};

struct Stage {
    live: Live,
    host: String,
    desk: Handle<u32>,
    worker: Worker<u32>,
}

async fn stage() -> Stage {
    let (desk, worker) = Batcher::new(Recorder::new()).name("orders").spawn();
    let panel = Panel::new("mine").top("<p>mine</p>").script("export function start() {}");
    let live = Board::new().title("a test").watch("orders", &desk).panel(panel).start().unwrap();
    let app = Router::new().nest("/board", live.router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Stage { live, host, desk, worker }
}

impl Stage {
    async fn ask(&self, request: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.host).await.unwrap();
        let (host, length) = (&self.host, body.len());
        let head =
            format!("{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that has refused the request need not read the rest of it.
        let _ = stream.read_to_string(&mut answer).await;
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    async fn push(&self, pass: &str, action: &str, batcher: &str) -> (u16, String) {
        let body = json!({ "do": action, "batcher": batcher }).to_string();
        let headers = format!("Origin: http://{}\r\nx-roundlot-pass: {pass}\r\n", self.host);
        let (status, answer) = self.ask("POST /board/command", &headers, &body).await;
        let said = answer.rsplit("\r\n\r\n").next().unwrap().to_owned();
        (status, serde_json::from_str::<Value>(&said).map_or(said, |said| said["say"].as_str().unwrap().to_owned()))
    }
}

/// Goal: a board works where it is mounted. Method: its page under a path names files under that path.
#[tokio::test]
async fn it_is_mounted_under_a_path() {
    let stage = stage().await;
    let (status, page) = stage.ask("GET /board", "", "").await;
    assert_eq!(status, 200);
    assert!(page.contains("href=\"/board/page.css\"") && page.contains("src=\"/board/page.js\""), "{page}");
    assert!(page.contains("<p>mine</p>") && page.contains(">a test<"), "{page}");
    for file in ["page.css", "page.js", "state.js", "mine.js"] {
        assert_eq!(stage.ask(&format!("GET /board/{file}"), "", "").await.0, 200, "{file}");
    }
    assert_eq!(stage.ask("GET /page.js", "", "").await.0, 404);
}

/// Goal: the buttons need the token, and requests of other sites are refused. Method: both over HTTP, with `axum::serve`.
#[tokio::test]
async fn buttons_need_the_token() {
    let stage = stage().await;
    assert_eq!(stage.push("", "pause", "orders").await.0, 401);
    let foreign = "Origin: http://evil.example\r\n";
    assert_eq!(stage.ask("POST /board/unlock", foreign, "").await.0, 403);
    let headers = format!("Origin: http://{}\r\nx-roundlot-token: {}\r\n", stage.host, stage.live.token());
    let (status, answer) = stage.ask("POST /board/unlock", &headers, "").await;
    assert_eq!(status, 200);
    let pass = answer.split("\"pass\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(stage.push(&pass, "pause", "orders").await, (200, "orders paused: what comes waits".to_owned()));
    assert_eq!(stage.push(&pass, "resume", "orders").await, (200, "orders resumed".to_owned()));
    assert_eq!(stage.push(&pass, "pause", "trades").await, (400, "there is no such button".to_owned()));
    assert_eq!(stage.push(&pass, "withdraw", "orders").await.0, 409);
}

/// Goal: a browser is told the state, events of panels, and the end. Method: a socket, read to its end.
#[tokio::test]
async fn browsers_hear_all_up_to_the_end() {
    let stage = stage().await;
    let mut request = format!("ws://{}/board/socket", stage.host).into_client_request().unwrap();
    let refused = tokio_tungstenite::connect_async(request.clone()).await.unwrap_err();
    assert!(matches!(&refused, tungstenite::Error::Http(answer) if answer.status() == 403), "{refused}");
    request.headers_mut().insert("origin", format!("http://{}", stage.host).parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert!(stage.live.publisher().publish("mine", &json!({ "kind": "mine", "number": 7 })));
    stage.desk.send_all([1, 2, 3]).await.unwrap();
    stage.worker.shutdown().await.unwrap();
    let read = async {
        let mut events = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                events.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
            }
        }
        events
    };
    let (events, ()) = tokio::join!(timeout(Duration::from_secs(30), read), stage.live.close(0));
    let events = events.expect("the socket is closed");
    let last = |kind: &str| events.iter().rev().find(|event| event["kind"] == kind).unwrap_or(&Value::Null);
    assert_eq!(events.last(), Some(&json!({ "kind": "ended", "operations": 3, "unsettled": 0 })));
    assert_eq!(last("mine")["number"], 7);
    assert_eq!((&last("app")["title"], &last("app")["batchers"]), (&json!("a test"), &json!(["orders"])));
    let batcher = last("batcher");
    assert_eq!(
        (&batcher["stats"]["delivered"], &batcher["limits"], &batcher["latency"]),
        (&json!(3), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn names_are_checked() {
    let (desk, _worker) = Batcher::new(Recorder::<u32>::new()).spawn();
    let board = |names: &[&str]| names.iter().fold(Board::new(), |board, name| board.watch(*name, &desk)).start();
    assert!(matches!(board(&["a", "a"]), Err(BoardError::Taken(name)) if name == "a"));
    let stop = StopButton { batcher: "a", label: "", question: "", effects: &[], yes: "", no: "" };
    let stopped = Board::new().watch("a", &desk).stop_button(stop).start();
    assert!(matches!(stopped, Err(BoardError::StopButton)), "nothing gives it a meaning");
    for name in ["", &"x".repeat(33)] {
        assert!(matches!(board(&[name]), Err(BoardError::BadName(_))), "{name}");
    }
}
