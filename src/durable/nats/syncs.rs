//! [`Syncs`]: whether the servers sync what they confirm (`sync_interval: always`). Clients are not told so. A server says it on its
//! monitoring port, and to an account of the system.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::StreamExt;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{ANSWER, access::Access};
use crate::{durable::error::JoinError, rules::batch::error::chain};

/// Bytes of an answer of a monitoring port, at most.
const MAX_ANSWER: u64 = 1 << 20;

/// How long servers may take to answer a question to all of them.
const ALL_ANSWER: Duration = Duration::from_secs(2);

/// How it is known that the servers sync.
#[derive(Clone, Default)]
pub(super) enum Syncs {
    /// Nothing is known.
    #[default]
    Unknown,
    /// Each says so at one of these URLs.
    Monitoring(Vec<String>),
    /// Each says so to this account of the system.
    System(Box<Access>),
    /// The user says so.
    Declared,
    /// They need not.
    Waived,
}

impl fmt::Debug for Syncs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Monitoring(_) => "Monitoring",
            Self::System(_) => "System",
            Self::Declared => "Declared",
            Self::Waived => "Waived",
        })
    }
}

impl Syncs {
    /// Refuses servers, by their names, that are not known to sync.
    pub(super) async fn check(&self, log: &str, servers: &[String]) -> Result<(), JoinError> {
        let said = match self {
            Self::Declared | Self::Waived => return Ok(()),
            Self::Unknown => {
                let why = "it is not known whether the servers of NATS sync what they confirm: name their monitoring URLs \
                    (Nats::monitoring) or an account of the system (Nats::system), declare it (Nats::servers_sync), or say that \
                    a loss of power may lose ops (Nats::power_loss_is_acceptable)";
                return Err(JoinError::Unsafe(why.to_owned()));
            }
            Self::Monitoring(urls) => ask_ports(urls).await?,
            Self::System(access) => ask_system(access, log, servers).await?,
        };
        for server in servers {
            match said.get(server) {
                Some(true) => {}
                Some(false) => {
                    let why = format!("the server {server} does not sync what it confirms: set sync_interval: always");
                    return Err(JoinError::Unsafe(why));
                }
                None => {
                    let why = format!("the server {server} has not said whether it syncs what it confirms");
                    return Err(JoinError::Unsafe(why));
                }
            }
        }
        Ok(())
    }
}

/// Asks monitoring ports. Returns which servers sync, by their names.
async fn ask_ports(urls: &[String]) -> Result<BTreeMap<String, bool>, JoinError> {
    let mut said = BTreeMap::new();
    for url in urls {
        let answer = timeout(ANSWER, ask_port(url)).await;
        let answer = answer.unwrap_or_else(|_| Err("it gave no answer".to_owned()));
        // A server that is away may be asked by another process; the log lives without it.
        match answer {
            Ok(answer) => said.extend(read(&answer)),
            Err(why) => tracing::warn!(why, "a monitoring port of NATS can't be asked"),
        }
    }
    Ok(said)
}

async fn ask_port(url: &str) -> Result<Value, String> {
    let host = url.strip_prefix("http://").ok_or("a monitoring URL begins with http://")?.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).await.map_err(|error| error.to_string())?;
    let request = format!("GET /varz HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer of HTTP")?;
    let is_ok = head.split(' ').nth(1) == Some("200");
    if !is_ok {
        return Err(format!("it said {}", head.lines().next().unwrap_or_default()));
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

/// Asks all servers, as an account of the system.
async fn ask_system(access: &Access, log: &str, servers: &[String]) -> Result<BTreeMap<String, bool>, JoinError> {
    let open = |why: String| JoinError::Open(format!("the system's account of NATS: {why}"));
    let client = access.connect(log).await?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| open(chain(&error)))?;
    let asked = client.publish_with_reply("$SYS.REQ.SERVER.PING.VARZ", inbox, "{}".into()).await;
    asked.map_err(|error| open(chain(&error)))?;
    let (mut said, until) = (BTreeMap::new(), Instant::now() + ALL_ANSWER);
    while !servers.iter().all(|server| said.contains_key(server)) {
        let Ok(Some(answer)) = timeout_at(until, answers.next()).await else { break };
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.payload) else { continue };
        said.extend(read(&answer["data"]));
    }
    Ok(said)
}

/// The name of a server, and whether it syncs.
fn read(answer: &Value) -> Option<(String, bool)> {
    let name = answer["server_name"].as_str()?;
    // A server that does not sync leaves the field out.
    let syncs = answer["jetstream"]["config"]["sync_always"].as_bool().unwrap_or(false);
    Some((name.to_owned(), syncs))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: a server that does not say that it syncs does not. Method: what servers say.
    #[test]
    fn answers_are_read() {
        let with = |config: Value| read(&json!({ "server_name": "n1", "jetstream": { "config": config } }));
        assert_eq!(with(json!({ "sync_always": true })), Some(("n1".to_owned(), true)));
        assert_eq!(with(json!({ "sync_interval": 120_000_000_000_u64 })), Some(("n1".to_owned(), false)));
        assert_eq!(read(&json!({ "server_name": "n1" })), Some(("n1".to_owned(), false)));
        assert_eq!(read(&json!({})), None);
    }

    /// Goal: a log is refused unless all its servers sync. Method: nothing known, and ports that nobody listens at.
    #[tokio::test]
    async fn silence_is_no_proof() {
        let servers = ["n1".to_owned()];
        for syncs in [Syncs::Unknown, Syncs::Monitoring(vec!["http://127.0.0.1:1".to_owned(), "ftp://x".to_owned()])] {
            let refused = syncs.check("orders", &servers).await;
            assert!(matches!(refused, Err(JoinError::Unsafe(_))), "{syncs:?}");
        }
        for syncs in [Syncs::Declared, Syncs::Waived] {
            assert!(syncs.check("orders", &servers).await.is_ok());
        }
    }
}
