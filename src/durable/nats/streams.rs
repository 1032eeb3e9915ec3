//! [`Streams`]: the streams of a log in JetStream, and requests to them.
//!
//! | stream | subjects | holds |
//! |---|---|---|
//! | `roundlot-frames-<shard>-<log>` | `roundlot.<log>.frames.<shard>` | frames, and tombstones of processes |
//! | `roundlot-members-<log>` | `roundlot.<log>.member.<process>`, `roundlot.<log>.lease.<shard>` | a record of each process and of each lease |
//!
//! Notices go from process to process by `roundlot.<log>.news`, and outcomes by `roundlot.<log>.outcomes.<shard>`, which no stream holds.

use std::{
    collections::HashMap,
    error::Error,
    future::IntoFuture,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context, ErrorCode,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType},
    },
};
use tokio::time::{Instant, timeout};

use super::{ANSWER, fold::Message};
use crate::{
    durable::{
        error::JoinError,
        log::{LogError, local::nanos, store::Stored},
    },
    rules::batch::error::chain,
};

/// The key of a stream's metadata that holds the number which log and ledger share.
const PAIRING: &str = "roundlot-pairing";

/// The header by which a message is stored only behind a certain other one of its subject.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// How long it may take until a stream is there: servers that have just begun have to agree on who leads.
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// The pause between attempts.
const OPEN_EVERY: Duration = Duration::from_millis(200);

/// The names of a log's streams and subjects.
#[derive(Debug, Clone)]
pub(super) struct Names {
    log: String,
}

impl Names {
    /// Refuses a name that no stream can have.
    pub(super) fn new(log: &str) -> Result<Self, JoinError> {
        let is_fit = !log.is_empty()
            && log.len() <= 128
            && log.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let why = || format!("a log in NATS has a name of up to 128 letters, digits, - and _, not {log:?}");
        if is_fit { Ok(Self { log: log.to_owned() }) } else { Err(JoinError::Open(why())) }
    }

    pub(super) fn frames(&self, shard: u16) -> (String, String) {
        (format!("roundlot-frames-{shard}-{}", self.log), format!("roundlot.{}.frames.{shard}", self.log))
    }

    pub(super) fn members(&self) -> String {
        format!("roundlot-members-{}", self.log)
    }

    pub(super) fn member(&self, producer: u64) -> String {
        format!("roundlot.{}.member.{producer}", self.log)
    }

    pub(super) fn lease(&self, shard: u16) -> String {
        format!("roundlot.{}.lease.{shard}", self.log)
    }

    pub(super) fn news(&self) -> String {
        format!("roundlot.{}.news", self.log)
    }

    pub(super) fn outcomes_of(&self, shard: u16) -> String {
        format!("roundlot.{}.outcomes.{shard}", self.log)
    }

    /// The outcomes of all shards.
    pub(super) fn outcomes(&self) -> String {
        format!("roundlot.{}.outcomes.*", self.log)
    }

    /// The shard that a subject of outcomes is about.
    pub(super) fn shard_of_outcomes(&self, subject: &str) -> Option<u16> {
        self.of_log(subject)?.strip_prefix("outcomes.")?.parse().ok()
    }

    /// The rest of a subject behind the name of the log.
    fn of_log<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix("roundlot.")?.strip_prefix(&self.log)?.strip_prefix('.')
    }

    /// The process or the shard that a subject of the members is about.
    pub(super) fn of_member(&self, subject: &str) -> Option<Subject> {
        let (kind, number) = self.of_log(subject)?.split_once('.')?;
        match kind {
            "member" => number.parse().ok().map(Subject::Member),
            "lease" => number.parse().ok().map(Subject::Lease),
            _ => None,
        }
    }
}

/// The subject of a message about members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A process, by its number.
    Member(u64),
    /// The lease of a shard.
    Lease(u16),
}

/// Why a message was not stored behind another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unset {
    /// Another message of the subject has come in between.
    Outdated,
    Log(LogError),
}

/// How the streams of a log are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) replicas: usize,
    /// Bytes of the frames of one shard, at most.
    pub(super) shard_bytes: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) context: Context,
    pub(super) names: Names,
}

impl Streams {
    pub(super) fn new(client: async_nats::Client, names: Names) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER);
        Self { context, names }
    }

    /// Makes the stream of the members, or finds it. Returns the number that log and ledger share.
    pub(super) async fn open_members(&self, layout: Layout, fresh: u64) -> Result<u64, JoinError> {
        let subjects =
            vec![format!("roundlot.{0}.member.*", self.names.log), format!("roundlot.{0}.lease.*", self.names.log)];
        let config = Config { max_messages_per_subject: 1, ..config(self.names.members(), subjects, layout, fresh) };
        let info = self.open(Config { max_bytes: -1, discard: DiscardPolicy::Old, ..config }).await?;
        pairing_of(&info.config).ok_or_else(|| unpaired(&info.config.name))
    }

    /// Makes the stream of a shard's frames, or finds it.
    pub(super) async fn open_frames(&self, shard: u16, layout: Layout, pairing: u64) -> Result<Info, JoinError> {
        let (name, subject) = self.names.frames(shard);
        let info = self.open(config(name, vec![subject], layout, pairing)).await?;
        if pairing_of(&info.config) != Some(pairing) {
            return Err(unpaired(&info.config.name));
        }
        let Config { retention, max_messages, max_messages_per_subject, max_age, discard, .. } = &info.config;
        let drops = *retention != RetentionPolicy::Limits
            || *max_messages > 0
            || *max_messages_per_subject > 0
            || !max_age.is_zero()
            || *discard != DiscardPolicy::New;
        if drops {
            let why =
                format!("the stream {} is set to drop messages, which are ops that were accepted", info.config.name);
            return Err(JoinError::Unsafe(why));
        }
        Ok(info)
    }

    /// Finds a stream, or makes it. Other processes may be about to do the same.
    async fn open(&self, config: Config) -> Result<Info, JoinError> {
        let (name, until) = (config.name.clone(), Instant::now() + OPENS_WITHIN);
        let info = loop {
            if let Ok(stream) = self.context.get_stream(&name).await {
                break stream.cached_info().clone();
            }
            match self.context.create_stream(config.clone()).await {
                Ok(stream) => break stream.cached_info().clone(),
                Err(error) if Instant::now() >= until => {
                    return Err(JoinError::Open(format!("the stream {name}: {}", chain(&error))));
                }
                Err(_) => tokio::time::sleep(OPEN_EVERY).await,
            }
        };
        if info.config.storage != StorageType::File {
            return Err(JoinError::Unsafe(format!("the stream {name} is in memory")));
        }
        Ok(info)
    }

    /// How a shard's stream is now.
    pub(super) async fn info(&self, shard: u16) -> Stored<Info> {
        let stream = self.context.get_stream_no_info(self.names.frames(shard).0).await.map_err(away)?;
        timeout(ANSWER, stream.get_info()).await.map_err(|_| no_answer())?.map_err(away)
    }

    /// One message of a shard. `None` if the stream does not have it.
    pub(super) async fn message(&self, shard: u16, sequence: u64) -> Stored<Option<Message>> {
        let stream = self.context.get_stream_no_info(self.names.frames(shard).0).await.map_err(away)?;
        // Each server may answer, also one that has not heard of the message. The leader of the stream has all.
        let found = timeout(ANSWER, stream.direct_get(sequence)).await.map_err(|_| no_answer())?;
        let found = match found {
            Ok(found) => found,
            Err(_) => match timeout(ANSWER, stream.get_raw_message(sequence)).await.map_err(|_| no_answer())? {
                Ok(found) => found,
                Err(error) if error.kind() == jetstream::stream::RawMessageErrorKind::NoMessageFound => {
                    return Ok(None);
                }
                Err(error) => return Err(away(error)),
            },
        };
        Ok(Some(Message { sequence, at: nanos(SystemTime::from(found.time)), bytes: Arc::from(&found.payload[..]) }))
    }

    /// Removes the messages of a shard before this one.
    pub(super) async fn purge(&self, shard: u16, sequence: u64) -> Stored<()> {
        let stream = self.context.get_stream_no_info(self.names.frames(shard).0).await.map_err(away)?;
        let purge = stream.purge().sequence(sequence).into_future();
        timeout(ANSWER, purge).await.map_err(|_| no_answer())?.map(drop).map_err(away)
    }

    /// Stores a message in the stream of a shard. Returns its number.
    pub(super) async fn append(&self, shard: u16, bytes: Arc<[u8]>) -> Stored<u64> {
        let message = PublishMessage::build().payload(bytes::Bytes::from_owner(bytes));
        self.publish(self.names.frames(shard).1, message).await.map_err(|unset| match unset {
            Unset::Log(error) => error,
            Unset::Outdated => LogError::Failed("another write was in process".to_owned()),
        })
    }

    /// Stores a message if the last one of its subject is this one; 0 is none. Returns its number.
    pub(super) async fn set(&self, subject: String, expected: u64, value: String) -> Result<u64, Unset> {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED, expected.to_string().as_str());
        self.publish(subject, PublishMessage::build().headers(headers).payload(value.into())).await
    }

    async fn publish(&self, subject: String, message: PublishMessage) -> Result<u64, Unset> {
        // The client would keep it until it has a connection again, and send it then.
        if self.context.client().connection_state() != async_nats::connection::State::Connected {
            return Err(Unset::Log(LogError::Failed("no server of NATS can be reached".to_owned())));
        }
        let sent = async { self.context.send_publish(subject, message).await?.await };
        match timeout(ANSWER * 2, sent).await {
            Ok(Ok(answer)) => Ok(answer.sequence),
            Ok(Err(error)) => Err(meaning(&error)),
            Err(_) => Err(Unset::Log(LogError::Unknown("the server gave no answer".to_owned()))),
        }
    }
}

fn config(name: String, subjects: Vec<String>, layout: Layout, pairing: u64) -> Config {
    Config {
        name,
        subjects,
        num_replicas: layout.replicas,
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(layout.shard_bytes).unwrap_or(i64::MAX),
        allow_direct: true,
        metadata: HashMap::from([(PAIRING.to_owned(), pairing.to_string())]),
        ..Config::default()
    }
}

fn pairing_of(config: &Config) -> Option<u64> {
    config.metadata.get(PAIRING)?.parse().ok()
}

fn unpaired(stream: &str) -> JoinError {
    LogError::Unpaired(format!("the stream {stream} is that of another log")).into()
}

/// The meaning of an error for a message that was to be stored.
fn meaning(error: &PublishError) -> Unset {
    let text = chain(error);
    match error.kind() {
        PublishErrorKind::WrongLastSequence => return Unset::Outdated,
        PublishErrorKind::StreamNotFound | PublishErrorKind::MaxAckPending | PublishErrorKind::MaxPayloadExceeded => {
            return Unset::Log(LogError::Failed(text));
        }
        _ => {}
    }
    let code =
        error.source().and_then(|source| source.downcast_ref::<jetstream::Error>()).map(jetstream::Error::error_code);
    Unset::Log(match code {
        Some(ErrorCode::STREAM_STORE_FAILED) if text.contains("maximum bytes") => LogError::Full,
        // Another write to the subject is in process: no race is lost, and nothing was stored.
        Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => LogError::Failed(text),
        _ => LogError::Unknown(text),
    })
}

/// An error of a request that changes nothing.
pub(super) fn away(error: impl Error) -> LogError {
    LogError::Failed(format!("NATS: {}", chain(&error)))
}

pub(super) fn no_answer() -> LogError {
    LogError::Failed("NATS: the server gave no answer".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two logs share a stream, and a name that no stream can have is refused. Method: names that look alike, and odd ones.
    #[test]
    fn names_are_told_apart() {
        let names = |log| Names::new(log).unwrap();
        assert_ne!(names("a").frames(1).0, names("1-a").frames(1).0);
        assert_ne!(names("1-a").members(), names("a").frames(1).0);
        let orders = names("orders");
        assert_eq!(orders.of_member(&orders.member(7)), Some(Subject::Member(7)));
        assert_eq!(orders.of_member(&orders.lease(3)), Some(Subject::Lease(3)));
        assert_eq!(orders.of_member(&names("order").member(7)), None);
        for odd in ["", "a.b", "a b", "ä", "*", ">"] {
            assert!(Names::new(odd).is_err(), "{odd}");
        }
    }
}
