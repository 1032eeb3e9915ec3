//! Questions to the monitoring port of a NATS server.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::Failure;

/// How long a server may take for an answer. One that is busy is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// A stream of JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    /// The server that leads it, by its name. A server without a cluster tells none.
    pub(crate) leader: Option<String>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Whether a server and its streams are ready. The error says why they are not.
pub(crate) fn health(port: u16) -> Result<(), Failure> {
    get(port, "/healthz").map(drop)
}

/// The streams of a server, by name.
pub(crate) fn streams(port: u16) -> Result<BTreeMap<String, Stream>, Failure> {
    Ok(read_streams(&get(port, "/jsz?accounts=true&streams=true")?))
}

fn read_streams(answer: &Value) -> BTreeMap<String, Stream> {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let accounts = list(answer, "account_details");
    let streams = accounts.iter().flat_map(|account| list(account, "stream_detail"));
    let stream = |stream: Value| {
        let number = |name| stream["state"][name].as_u64().unwrap_or(0);
        let leader = stream["cluster"]["leader"].as_str().map(str::to_owned);
        let name = stream["name"].as_str().unwrap_or_default().to_owned();
        (name, Stream { leader, messages: number("messages"), bytes: number("bytes") })
    };
    streams.map(stream).collect()
}

/// The JSON that a path has. A status other than 200 is an error with the text of the answer.
fn get(port: u16, path: &str) -> Result<Value, Failure> {
    let mut server = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.set_write_timeout(Some(PATIENCE))?;
    // In this version an answer comes in one piece, and ends with the connection.
    server.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer of NATS has no end")?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("{path} says {}", body.trim()).into());
    }
    Ok(serde_json::from_str(body)?)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Asks a server for its health that answers once, with a text.
    fn health_of(answer: &'static str) -> Result<(), Failure> {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("an address").port();
        let served = thread::spawn(move || {
            let (mut client, _) = server.accept().expect("a connection");
            let read = client.read(&mut [0; 100]).expect("a question");
            client.write_all(answer.as_bytes()).expect("sent");
            read
        });
        let health = health(port);
        assert!(served.join().expect("it ends") > 0);
        health
    }

    #[test]
    fn an_answer_is_read() {
        health_of("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"status\":\"ok\"}").expect("it is ready");
        let text = "HTTP/1.0 503 Service Unavailable\r\n\r\n{\"status\":\"unavailable\"}";
        let error = health_of(text).expect_err("it is not");
        assert!(error.to_string().contains("unavailable"), "{error}");
    }

    #[test]
    fn streams_are_read() {
        let text = r#"{"streams": 2, "account_details": [{"name": "$G", "stream_detail": [
            {"name": "b", "cluster": {"leader": "nats-1"}, "state": {"messages": 3, "bytes": 400}},
            {"name": "a", "cluster": {"replicas": []}, "state": {}}]}]}"#;
        let streams = read_streams(&serde_json::from_str(text).expect("JSON"));
        let expected = [
            ("a".to_owned(), Stream { leader: None, messages: 0, bytes: 0 }),
            ("b".to_owned(), Stream { leader: Some("nats-1".to_owned()), messages: 3, bytes: 400 }),
        ];
        assert_eq!(streams, BTreeMap::from(expected));
        assert_eq!(read_streams(&Value::Null), BTreeMap::new());
    }
}
