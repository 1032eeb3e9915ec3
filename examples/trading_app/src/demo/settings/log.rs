//! The settings `log`, `ledger`, `monitoring` and `credentials` of the section `orders`. [`LogSettings`] keeps them as they were written.
//! They are read as a [`LogPlace`] when all sources are merged, since one source may name the log, and another one its ledger.
//!
//! Invariant: neither an error nor `Debug` shows a URL, since it may hold a password.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

use crate::bot::settings::{LogPlace, NatsLog};

/// The setting `log`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub enum LogName {
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
    /// URLs of NATS servers, with commas between them.
    Nats(String),
}

impl TryFrom<PathBuf> for LogName {
    type Error = String;

    fn try_from(written: PathBuf) -> Result<Self, String> {
        match written.to_str().and_then(|text| Some((text, text.split_once("://")?.0))) {
            Some((url, "postgres" | "postgresql")) => Ok(Self::Postgres(url.to_owned())),
            Some((urls, "nats" | "tls")) => Ok(Self::Nats(urls.to_owned())),
            Some(_) => Err("a log is a file, or a postgres:// or nats:// URL".to_owned()),
            None => Ok(Self::File(written)),
        }
    }
}

impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Postgres(_) => f.write_str("PostgreSQL"),
            Self::Nats(_) => f.write_str("NATS"),
        }
    }
}

/// A URL as it was written.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// The text of a URL of one of these schemes.
    fn of(&self, schemes: &[&str]) -> Option<&str> {
        self.0.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|_| self.0.as_str())
    }
}

impl From<String> for Url {
    fn from(written: String) -> Self {
        Self(written)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    pub log: Option<LogName>,
    pub ledger: Option<Url>,
    pub monitoring: Vec<Url>,
    pub credentials: Option<PathBuf>,
}

impl LogSettings {
    /// The place of the log; `None` for orders in memory.
    pub fn place(&self) -> Result<Option<LogPlace>, String> {
        let place = match &self.log {
            Some(LogName::Nats(servers)) => return self.on_nats(servers).map(Some),
            Some(LogName::Postgres(url)) => Some(LogPlace::Postgres(url.clone())),
            Some(LogName::File(path)) => Some(LogPlace::File(path.clone())),
            None => None,
        };
        self.without_nats().map(|()| place)
    }

    fn on_nats(&self, servers: &str) -> Result<LogPlace, String> {
        let ledger =
            self.ledger.as_ref().ok_or("orders.ledger: a log in NATS needs one, by --ledger or this setting")?;
        let ledger = ledger.of(&["postgres", "postgresql"]).ok_or("orders.ledger: it is a postgres:// URL")?;
        let monitoring = self.monitoring.iter().map(|url| url.of(&["http"]).map(str::to_owned));
        let monitoring = monitoring.collect::<Option<_>>().ok_or("orders.monitoring: each is an http:// URL")?;
        let (servers, ledger, credentials) = (servers.to_owned(), ledger.to_owned(), self.credentials.clone());
        Ok(LogPlace::Nats(NatsLog { servers, ledger, monitoring, credentials }))
    }

    /// Refuses settings that only a log in NATS has.
    fn without_nats(&self) -> Result<(), String> {
        let Self { log: _, ledger, monitoring, credentials } = self;
        let keys = [
            ("ledger", ledger.is_some()),
            ("monitoring", !monitoring.is_empty()),
            ("credentials", credentials.is_some()),
        ];
        match keys.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(format!("orders.{key}: only a log in NATS has it, and orders.log names none")),
            None => Ok(()),
        }
    }
}
