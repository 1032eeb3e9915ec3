//! Tests of the app with its page over HTTP: the kill switch is always reached, and the run ends with paused batchers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{ChildStderr, Command, Stdio},
};

use tokio_tungstenite::tungstenite::{
    Message,
    client::{IntoClientRequest, client},
};

use crate::{
    common::{App, QUICK},
    signals::{signal, wait_for},
};

/// Waits for a line that starts with this word, and returns the rest of it.
pub fn said(word: &str, lines: &mut BufReader<ChildStderr>) -> String {
    let (mut line, mut earlier) = (String::new(), String::new());
    while !line.starts_with(word) {
        earlier.push_str(&line);
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the app ended before it told its {word}: {earlier}");
    }
    line[word.len()..].trim().to_owned()
}

pub fn ask(host: &str, request: &str, header: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!("Host: {host}\r\nOrigin: http://{host}\r\nConnection: close\r\nContent-Length: {length}");
    write!(stream, "{request} HTTP/1.1\r\n{head}\r\n{header}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Goal: a page with all batchers paused does not delay the end. Method: pause all over HTTP, wait until orders wait,
/// and send Ctrl-C. A drain that had to wait would take a day.
#[test]
fn ctrl_c_ends_a_paused_app() {
    let app = App::new();
    let arguments = ["--seconds", "0", "--page", "127.0.0.1:0", "--report", "it.json", "--database", "sqlite:it.db"];
    let mut child = app.command(&[QUICK, &arguments, &["--set", "drain=1day"]].concat()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let address = said("page", &mut stderr);
    let token = said("token", &mut stderr);
    let host = address.trim_start_matches("http://").trim_end_matches('/');

    let page = ask(host, "GET /", "Accept: */*", "");
    assert!(page.contains("content-security-policy: default-src 'none'") && page.ends_with("</html>\n"), "{page}");
    let unlocked = ask(host, "POST /unlock", &format!("x-roundlot-token: {token}"), "");
    let pass = unlocked.rsplit("\"pass\":\"").next().unwrap().split('"').next().unwrap();
    for batcher in ["prices", "orders", "trades"] {
        let command = format!("{{\"do\":\"pause\",\"batcher\":\"{batcher}\"}}");
        let answer = ask(host, "POST /command", &format!("x-roundlot-pass: {pass}"), &command);
        assert!(answer.contains("paused"), "{answer}");
    }
    // Two more lines of progress show that the bot has decided in the meantime.
    for _ in 0..2 {
        wait_for("operations", &mut stderr);
    }
    signal(&child, "-INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    let withdrawn = app.report("it.json")["batchers"]["orders"]["withdrawn"].as_u64().unwrap();
    assert!(withdrawn > 0 && rest.contains("orders that were held back are withdrawn"), "{rest}");
}

/// Goal: half-open requests block neither the kill switch nor the database's descriptors. Method: more such requests of
/// each kind than the app may have descriptors; then a user unlocks the buttons and stops the trading.
#[test]
fn the_kill_switch_is_reached_through_half_open_requests() {
    // Each connection is a descriptor of this process, too.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();

    let app = App::new();
    let arguments = ["--seconds", "0", "--page", "127.0.0.1:0", "--report", "it.json", "--database", "sqlite:it.db"];
    let plain = app.command(&[QUICK, &arguments, &["--set", "progress=100ms"]].concat());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 1024 && exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(app.path("")).env_clear();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let address = said("page", &mut stderr);
    let token = said("token", &mut stderr);
    let host = address.trim_start_matches("http://").trim_end_matches('/');

    let body =
        format!("POST /command HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 200\r\n\r\nx");
    let kinds = ["", "GET / HT", "POST /command HTTP/1.1\r\nHost: ", &body];
    let held: Vec<TcpStream> = (0..1100)
        .map(|i| {
            let mut stream = TcpStream::connect(host).unwrap();
            stream.write_all(kinds[i % kinds.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    // The bot trades in the meantime.
    for _ in 0..3 {
        wait_for("operations", &mut stderr);
    }
    let unlocked = ask(host, "POST /unlock", &format!("x-roundlot-token: {token}"), "");
    let pass = unlocked.rsplit("\"pass\":\"").next().unwrap().split('"').next().unwrap();
    let command = r#"{"do":"withdraw","batcher":"orders"}"#;
    let answer = ask(host, "POST /command", &format!("x-roundlot-pass: {pass}"), command);
    assert!(answer.contains("200 OK") && answer.contains("canceled at the venue"), "{answer}");
    assert!(ask(host, "GET /page.js", "Accept: */*", "").contains("200 OK"));

    signal(&child, "-INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.lines().count() < 100, "noise: {rest}");
    let trades = app.report("it.json")["batchers"]["trades"].clone();
    assert_eq!((&trades["delivered"], &trades["retries"]), (&trades["accepted"], &0.into()));
    drop(held);
}

/// Goal: a browser is told that the app has ended, by SIGTERM too. Method: read all frames of a run up to the close frame,
/// and compare the last event with the report.
#[test]
fn a_browser_hears_of_the_end() {
    let app = App::new();
    let arguments = ["--seconds", "0", "--page", "localhost:0", "--report", "it.json", "--database", "sqlite:it.db"];
    let mut child = app.command(&[QUICK, &arguments].concat()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let address = said("page", &mut stderr);
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut request = format!("ws://{host}/socket").into_client_request().unwrap();
    request.headers_mut().insert("origin", format!("http://{host}").parse().unwrap());
    let (mut socket, _) = client(request, TcpStream::connect(host).unwrap()).unwrap();
    assert!(matches!(socket.read().unwrap(), Message::Text(_)));
    wait_for("operations", &mut stderr);
    signal(&child, "-TERM");
    let mut last = String::new();
    let code = loop {
        match socket.read().unwrap() {
            Message::Text(text) => last = text.to_string(),
            Message::Close(close) => break u16::from(close.unwrap().code),
            _ => {}
        }
    };
    assert_eq!(code, 1001);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    let events: Vec<serde_json::Value> = serde_json::from_str(&last).unwrap();
    let (ended, report) = (events.last().unwrap(), app.report("it.json"));
    assert_eq!((&ended["kind"], &ended["unsettled"]), (&"ended".into(), &0.into()));
    assert_eq!(ended["operations"], report["operations"]);
    assert!(report["operations"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_page_ends_with_its_run() {
    let app = App::new();
    for host in ["127.0.0.1", "localhost"] {
        let outcome = app.run(&["--seconds", "1", "--page", &format!("{host}:0"), "--set", "sim.pairs=3"]);
        outcome.succeeded();
        assert!(outcome.stderr.contains(&format!("page       http://{host}:")), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("token      "), "{}", outcome.stderr);
    }
}
