//! Tests of the page over HTTP, without a browser: answers, headers, events, and the effect of the buttons.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use clap::Parser;
use futures::StreamExt;
use roundlot::{
    Sink,
    market::{PriceUpdate, Side},
    testing::Recorder,
};
use roundlot_board::latency;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};
use tokio_util::sync::CancellationToken;

use super::{Page, Scene, Serving};
use crate::{
    bot::{
        batchers::{self, Batchers, Workers},
        kill_switch::Gate,
        kill_switch::Halt,
        portfolio::Portfolio,
        shards::Shards,
        tick::Tick,
        venue::{Fill, PaperVenue},
    },
    demo::{
        cli::Cli,
        progress::Progress,
        settings::{self, Settings},
    },
};

/// A page with batchers that only the test sends to.
struct Stage {
    serving: Serving,
    batchers: Batchers,
    halt: Halt,
    venue: PaperVenue,
    portfolio: Portfolio,
    workers: Workers,
}

fn settings() -> Settings {
    settings::load(&Cli::parse_from(["trading_app", "--set", "venue.latency=0ms"]), []).unwrap()
}

async fn stage() -> Stage {
    let settings = settings();
    let page = Page::bind(Some(&"127.0.0.1:0".parse().unwrap())).await.unwrap().unwrap();
    let portfolio = Portfolio::new("1000".parse().unwrap());
    let venue = PaperVenue::new(settings.venue.clone(), 1);
    let database = Recorder::<Tick>::new().boxed();
    let halt = Halt::default();
    let gate = Gate::new(venue.clone(), halt.clone());
    let latencies = latency::Recorder::default();
    let open = || batchers::open(settings.batchers(), portfolio.clone(), gate.clone(), database);
    let (batchers, workers) = metrics::with_local_recorder(&latencies, open).unwrap();
    let scene = Scene {
        settings: &settings,
        batchers: batchers.clone(),
        latencies,
        portfolio: portfolio.clone(),
        halt: halt.clone(),
        gate,
        shards: Shards::default(),
        feed_title: "a test".to_owned(),
        database_title: "nowhere".to_owned(),
        progress: Progress::silent(),
        stop: CancellationToken::new(),
    };
    Stage { serving: page.serve(scene).unwrap(), batchers, halt, venue, portfolio, workers }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Stage {
    fn host(&self) -> String {
        self.serving.address.to_string()
    }

    /// Sends a request with these lines of headers, and returns the whole answer.
    async fn ask(&self, first: &str, headers: &[&str], body: &str) -> String {
        let mut stream = TcpStream::connect(self.serving.address).await.unwrap();
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let request =
            format!("{first} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that has refused the request need not read the rest of it.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    /// Sends a request with the headers that the page sends.
    async fn post(&self, path: &str, header: &str, body: &str) -> (u16, Value) {
        let host = self.host();
        let headers = [format!("Host: {host}"), format!("Origin: http://{host}"), header.to_owned()];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = self.ask(&format!("POST {path}"), &headers, body).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The page and all files that it names, with those that they import.
    async fn files(&self) -> Vec<String> {
        let named = |text: &str, before: &str, after: char| -> Vec<String> {
            text.split(before).skip(1).map(|rest| format!("/{}", rest.split(after).next().unwrap())).collect()
        };
        let (host, mut all) = (format!("Host: {}", self.host()), vec!["/".to_owned()]);
        let mut at = 0;
        while let Some(path) = all.get(at).cloned() {
            let text = self.ask(&format!("GET {path}"), &[&host], "").await;
            let found = [named(&text, "src=\"/", '"'), named(&text, "href=\"/", '"'), named(&text, " from './", '\'')];
            let panels = text.split("data-panels=\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            let panels: Vec<String> =
                panels.iter().flat_map(|names| names.split(' ')).map(|name| format!("/{name}.js")).collect();
            for path in found.into_iter().flatten().chain(panels) {
                if !all.contains(&path) {
                    all.push(path);
                }
            }
            at += 1;
        }
        assert!(all.len() > 20, "{all:?}");
        all
    }

    async fn pass(&self) -> String {
        let (status, answer) =
            self.post("/unlock", &format!("x-roundlot-token: {}", self.serving.live.token()), "").await;
        assert_eq!(status, 200);
        answer["pass"].as_str().unwrap().to_owned()
    }

    async fn command(&self, pass: &str, what: &str, batcher: &str) -> (u16, String) {
        let body = json!({ "do": what, "batcher": batcher }).to_string();
        let (status, answer) = self.post("/command", &format!("x-roundlot-pass: {pass}"), &body).await;
        (status, answer["say"].as_str().unwrap_or_default().to_owned())
    }

    async fn connect(&self, origin: Option<&str>) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("ws://{}/socket", self.host()).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
    }

    async fn browse(&self) -> Socket {
        self.connect(Some(&format!("http://{}", self.host()))).await.unwrap()
    }
}

/// Reads until an event satisfies `wanted`, and returns it.
async fn event(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Value {
    let read = async {
        loop {
            if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                let events: Vec<Value> = serde_json::from_str(&text).unwrap();
                if let Some(event) = events.into_iter().find(|event| wanted(event)) {
                    return event;
                }
            }
        }
    };
    timeout(Duration::from_secs(30), read).await.expect("it never came")
}

fn price(symbol: &str, price: &str) -> PriceUpdate {
    PriceUpdate::new(symbol.parse().unwrap(), price.parse().unwrap(), 0)
}

fn order(id: u64) -> roundlot::market::TradeOp {
    let (price, quantity) = ("100".parse().unwrap(), "1".parse().unwrap());
    let symbol = "BTC".parse().unwrap();
    roundlot::market::Order::limit(id.into(), symbol, roundlot::market::Side::Buy, price, quantity).unwrap().into()
}

#[tokio::test]
async fn every_answer_has_strict_headers() {
    let stage = stage().await;
    let host = format!("Host: {}", stage.host());
    let files = stage.files().await.into_iter().map(|path| (format!("GET {path}"), "200"));
    let others = [("GET /nothing", "404"), ("PUT /", "405"), ("POST /unlock", "403")];
    for (first, status) in files.chain(others.map(|(first, status)| (first.to_owned(), status))) {
        let answer = stage.ask(&first, &[&host], "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{first}: {answer}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';",
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(answer.contains(header), "{first}: {header}");
        }
    }
}

/// Goal: a page of another site gets no access, neither by its own name for this address nor through the user's
/// browser.
#[tokio::test]
async fn requests_of_other_sites_are_refused() {
    let stage = stage().await;
    let rebound = format!("Host: evil.example:{}", stage.serving.address.port());
    assert!(stage.ask("GET /", &[&rebound], "").await.starts_with("HTTP/1.1 403"));
    for origin in [None, Some("http://evil.example"), Some("null")] {
        let refused = stage.connect(origin).await.unwrap_err();
        assert!(matches!(&refused, tungstenite::Error::Http(answer) if answer.status() == 403), "{refused}");
    }
    stage.browse().await;
}

#[tokio::test]
async fn buttons_need_the_token() {
    let stage = stage().await;
    for pass in ["", "0", stage.serving.live.token()] {
        assert_eq!(stage.command(pass, "pause", "orders").await.0, 401);
    }
    assert!(!stage.batchers.orders.stats().paused);
    let pass = stage.pass().await;
    let mut said = Vec::new();
    for _ in 0..12 {
        said.push(stage.post("/unlock", "x-roundlot-token: 0000-0000-0000", "").await.0);
    }
    assert_eq!(said, [[401; 10].as_slice(), &[429; 2]].concat());
    assert_eq!(stage.command(&pass, "pause", "prices").await.0, 200, "an unlocked session is not locked out");
    for body in ["", "{}", r#"{"do":"sell","batcher":"orders"}"#, r#"{"do":"pause","batcher":"orders","more":1}"#] {
        assert_eq!(stage.post("/command", &format!("x-roundlot-pass: {pass}"), body).await.0, 400, "{body}");
    }
    let long = format!("{{\"do\":\"pause\",\"batcher\":\"orders\"{}}}", " ".repeat(1000));
    assert_eq!(stage.post("/command", &format!("x-roundlot-pass: {pass}"), &long).await.0, 413);
    assert!(!stage.batchers.orders.stats().paused);
}

#[tokio::test]
async fn a_browser_gets_a_snapshot_first_and_then_changes() {
    let stage = stage().await;
    let ticker = stage.serving.ticker();
    ticker.on_price(&price("BTC", "100"));
    ticker.on_price(&price("BTC", "101.50"));
    let mut early = stage.browse().await;
    let symbol = |symbol: &'static str| move |event: &Value| event["symbol"] == symbol;
    let snapshot = event(&mut early, symbol("BTC")).await;
    assert_eq!(snapshot, json!({ "kind": "price", "symbol": "BTC", "price": "101.50", "open": "100" }));
    ticker.on_price(&price("ETH", "7"));
    assert_eq!(event(&mut early, symbol("ETH")).await["price"], "7");
    let bot = event(&mut stage.browse().await, |event| event["kind"] == "bot").await;
    assert_eq!((&bot["feed"], &bot["database"]), (&json!("a test"), &json!("nowhere")));
    let app = event(&mut stage.browse().await, |event| event["kind"] == "app").await;
    assert_eq!(app["batchers"], json!(["prices", "orders", "trades"]));
    stage.batchers.prices.send(price("BTC", "1")).await.unwrap();
    let written = |event: &Value| event["name"] == "prices" && event["times"].to_string().contains('1');
    let batcher = event(&mut early, written).await;
    assert_eq!((&batcher["stats"]["delivered"], &batcher["limits"]["max_items"]), (&json!(1), &json!(500)));
    let latency = &batcher["latency"];
    assert_eq!(latency["count"], 1);
    for percentile in ["p50_seconds", "p90_seconds", "p99_seconds", "p99_9_seconds", "max_seconds"] {
        assert_eq!(latency[percentile], batcher["stats"]["in_buffer"]["max_seconds"], "{percentile}");
    }
    let sample = event(&mut early, |event| event["kind"] == "sample").await;
    assert!(sample["batchers"]["orders"]["rate"].is_number(), "{sample}");
}

/// Goal: a browser that sends too much is disconnected.
#[tokio::test]
async fn a_browser_that_sends_too_much_is_disconnected() {
    let stage = stage().await;
    let mut socket = stage.browse().await;
    event(&mut socket, |event| event["kind"] == "app").await;
    futures::SinkExt::send(&mut socket, Message::Text("x".repeat(2000).into())).await.unwrap();
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(Duration::from_secs(30), ended).await.expect("it goes on");
}

/// Goal: the kill switch leaves no order that waits or rests, tells the callers, and keeps the bot from new orders.
#[tokio::test]
async fn the_kill_switch_withdraws_cancels_and_halts_until_orders_are_resumed() {
    let stage = stage().await;
    let pass = stage.pass().await;
    assert_eq!(stage.command(&pass, "pause", "orders").await, (200, "orders paused: what comes waits".to_owned()));
    let mut acks = Vec::new();
    for id in 0..3 {
        acks.push(stage.batchers.orders.submit(order(id)).await.unwrap());
    }
    let mut socket = stage.browse().await;
    let batcher = event(&mut socket, |event| event["name"] == "orders" && event["stats"]["waiting"] == 3).await;
    assert_eq!(batcher["stats"]["paused"], true);

    let (status, said) = stage.command(&pass, "withdraw", "orders").await;
    let expected = "3 waiting orders withdrawn; let go: 0 cancels and moved stops, 0 orders that reduce; 0 orders canceled \
                    at the venue, 0 failed; 0 that reduce stay there. The bot is halted until orders are resumed";
    assert_eq!((status, said.as_str()), (200, expected));
    for ack in acks {
        assert_eq!(ack.outcome().await.end, roundlot::End::Withdrawn);
    }
    assert!(stage.halt.permit().await.is_none());
    event(&mut socket, |event| event["name"] == "orders" && event["halted"] == true).await;
    assert_eq!(stage.command(&pass, "withdraw", "trades").await.0, 409);

    // An order that was sent while the bot was halted does not leave after the resume.
    stage.command(&pass, "pause", "orders").await;
    let late = stage.batchers.orders.submit(order(8)).await.unwrap();
    assert_eq!(stage.command(&pass, "resume", "orders").await.0, 200);
    assert_eq!(late.outcome().await.end, roundlot::End::Withdrawn);
    stage.batchers.orders.send(order(9)).await.unwrap();
    let (_, said) = stage.command(&pass, "flush", "orders").await;
    assert_eq!(said, "orders flushed: since the last flush 5: 1 delivered, 4 withdrawn");
    assert_eq!(stage.venue.account().resting.len(), 1);

    let (_, said) = stage.command(&pass, "withdraw", "orders").await;
    assert!(said.contains("1 orders canceled at the venue, 0 failed"), "{said}");
    assert_eq!(stage.venue.account().resting, []);
    assert_eq!(stage.command(&pass, "resume", "orders").await.0, 200);
    assert!(stage.halt.permit().await.is_some());
}

/// Goal: the last figures of the page are those of the report. Method: an op after the last regular sample.
#[tokio::test]
async fn the_last_state_comes_before_the_end() {
    let stage = stage().await;
    let mut socket = stage.browse().await;
    event(&mut socket, |event| event["kind"] == "app").await;
    stage.batchers.prices.send(price("BTC", "1")).await.unwrap();
    let stats = stage.workers.shutdown(Duration::from_secs(9)).await.unwrap();
    Serving::close(Some(stage.serving), 0).await;
    let (mut app, mut prices, mut ended) = (Value::Null, Value::Null, false);
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        for event in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            assert!(!ended, "nothing comes after the end: {event}");
            ended = event["kind"] == "ended";
            match () {
                () if event["kind"] == "app" => app = event,
                () if event["name"] == "prices" => prices = event,
                () => {}
            }
        }
    }
    assert!(ended);
    assert_eq!((&app["operations"], &app["unsettled"]), (&json!(1), &json!(0)));
    assert_eq!(prices["stats"], serde_json::to_value(stats.prices).unwrap());
    assert_eq!(prices["latency"]["count"], 1);
}

/// Goal: the end of a run waits for no resume, and sends no order that was held back.
#[tokio::test]
async fn the_end_of_a_run_resumes_batchers_and_withdraws_held_orders() {
    let stage = stage().await;
    let pass = stage.pass().await;
    for batcher in ["prices", "orders", "trades"] {
        stage.command(&pass, "pause", batcher).await;
    }
    let held = stage.batchers.orders.submit(order(1)).await.unwrap();
    Serving::release(Some(&stage.serving)).await;
    assert_eq!(held.outcome().await.end, roundlot::End::Withdrawn);
    assert!(stage.halt.is_halted());
    let resumed = async {
        while stage.batchers.trades.stats().paused {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), resumed).await.expect("trades are paused for ever");
    assert_eq!(stage.command(&pass, "pause", "orders").await, (409, "the app is stopping".to_owned()));
    let mut socket = stage.browse().await;
    event(&mut socket, |event| event["kind"] == "app").await;
    Serving::close(Some(stage.serving), 2).await;
    let ended = event(&mut socket, |event| event["kind"] == "ended").await;
    assert_eq!(ended, json!({ "kind": "ended", "operations": 1, "unsettled": 2 }));
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(close) = message {
            assert_eq!(u16::from(close.unwrap().code), 1001);
            return;
        }
    }
    panic!("no close frame came");
}

/// Goal: the events have positions, equity, latencies and errors. Method: fill an order, sell at a better price, and have
/// the venue refuse a cancel.
#[tokio::test]
async fn events_tell_profit_latency_and_errors() {
    let stage = stage().await;
    let mut socket = stage.browse().await;
    let fill = |side, price: &str, quantity: &str| Fill {
        order_id: 1.into(),
        symbol: "BTC".parse().unwrap(),
        side,
        price: price.parse().unwrap(),
        quantity: quantity.parse().unwrap(),
    };
    stage.portfolio.on_fill(&fill(Side::Buy, "100", "2"));
    stage.portfolio.on_fill(&fill(Side::Sell, "110", "1"));
    let positions = event(&mut socket, |event| event["kind"] == "positions" && event["open"] == 1).await;
    let expected = json!([{
        "symbol": "BTC", "quantity": "1", "average": "100.00", "last": "110", "value": "110.00", "unrealized": "10.00",
        "realized": "10.00",
    }]);
    assert_eq!(positions["holdings"], expected);
    assert_eq!((&positions["equity"], &positions["profit"]), (&json!("1,020.00"), &json!("20.00")));
    let equity = event(&mut socket, |event| event["kind"] == "equity").await;
    assert_eq!(equity["points"].as_array().unwrap().last(), Some(&json!(1020.0)));

    let (ticker, unknown) = (stage.serving.ticker(), order(7).as_order().unwrap().cancel());
    let outcome = stage.batchers.orders.submit(unknown.into()).await.unwrap().outcome().await;
    ticker.on_verdict(&unknown.into(), &outcome);
    let errors = event(&mut socket, |event| event["kind"] == "errors" && event["rows"][0]["ops"] == 1).await;
    let row = &errors["rows"][0];
    assert_eq!((&row["effect"], &row["reason"]), (&json!("refused"), &json!("there is no such order")));
    let used = |event: &Value| event["name"] == "orders" && event["stats"]["quota"]["buckets"][1]["used"] == 1;
    let buckets = event(&mut socket, used).await["stats"]["quota"]["buckets"].clone();
    assert_eq!((&buckets[0]["name"], &buckets[0]["used"]), (&json!("orders_10s"), &json!(0)), "a cancel is no order");
    assert_eq!((&buckets[1]["name"], &buckets[1]["limit"]), (&json!("calls_1m"), &json!(48_000)));
    let measured = |event: &Value| event["kind"] == "sample" && event["batchers"]["orders"]["latency"].is_object();
    // A new browser gets all samples, also one that came together with the errors.
    let latency = event(&mut stage.browse().await, measured).await["batchers"]["orders"]["latency"].clone();
    let [half, most] = ["p50", "max"].map(|name| latency[name].as_f64().unwrap());
    assert!(0.0 < half && half <= most && latency["p99"] == latency["max"], "{latency}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let stage = stage().await;
    let error = Page::bind(Some(&stage.host().parse().unwrap())).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot serve the page on {}: ", stage.host())), "{error}");
}
