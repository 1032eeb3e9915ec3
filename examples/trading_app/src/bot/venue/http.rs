//! Calls of a venue over HTTP, with JSON in both directions. An error says whether the call may have arrived. `remote` makes the
//! calls.

use std::fmt;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::bot::Error;

/// Maximum length of an answer, in bytes: the fills and the orders of some hours.
const MAX_ANSWER: usize = 64 << 20;

/// A client of one server. A clone shares its connections.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    /// The URL without a path, such as `http://127.0.0.1:8080`.
    base: String,
}

/// A call without an answer.
#[derive(Debug)]
pub enum CallError {
    /// The call did not leave: there is no server, or the question can't be asked.
    NotSent(Error),
    /// The call may have arrived.
    NoAnswer(Error),
}

/// An answer: its status, and its body.
pub struct Answer {
    pub status: StatusCode,
    body: Bytes,
}

impl Http {
    /// Returns a client of this server. The URL has a scheme, a host and a port alone.
    pub fn new(url: &str) -> Result<Self, Error> {
        let wrong = || format!("venue: it is http://HOST:PORT, not {url:?}");
        let base = url.strip_suffix('/').unwrap_or(url);
        let host = base.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = host.parse::<hyper::http::uri::Authority>().map_err(|_| wrong())?;
        if authority.port_u16().is_none() || host.contains('@') {
            return Err(wrong().into());
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { client, base: base.to_owned() })
    }

    pub fn url(&self) -> &str {
        &self.base
    }

    pub async fn get(&self, path: &str) -> Result<Answer, CallError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, question: &impl Serialize) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(question).map_err(|error| CallError::NotSent(error.into()))?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, CallError> {
        let json = HeaderValue::from_static("application/json");
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base)).header(CONTENT_TYPE, json);
        let request = request.body(Full::new(body)).map_err(|error| CallError::NotSent(error.into()))?;
        let response = self.client.request(request).await.map_err(|error| match error.is_connect() {
            true => CallError::NotSent(error.into()),
            false => CallError::NoAnswer(error.into()),
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(CallError::NoAnswer)?;
        Ok(Answer { status, body: body.to_bytes() })
    }
}

impl Answer {
    /// Reads the body, whatever the status.
    pub fn read<A: DeserializeOwned>(&self) -> Result<A, Error> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Reads the body of a success.
    pub fn success<A: DeserializeOwned>(&self) -> Result<A, Error> {
        if self.status.is_success() { self.read() } else { Err(self.unexpected().into()) }
    }

    /// Describes an answer that was not expected.
    pub fn unexpected(&self) -> String {
        let text: String = String::from_utf8_lossy(&self.body).chars().take(200).collect();
        format!("the venue answered {}: {text}", self.status)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent(_) => "the venue can't be reached",
            Self::NoAnswer(_) => "the venue gave no answer",
        })
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let (Self::NotSent(error) | Self::NoAnswer(error)) = self;
        Some(&**error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_venue_has_a_host_and_a_port() {
        for url in ["http://localhost:80", "http://127.0.0.1:8080/", "http://[::1]:1"] {
            assert!(Http::new(url).is_ok(), "{url}");
        }
        for url in
            ["", "localhost:80", "https://it:1", "http://it", "http://it:1/path", "http://me:it@it:1", "http://it:x"]
        {
            assert!(Http::new(url).err().is_some_and(|error| error.to_string().contains("http://HOST:PORT")), "{url}");
        }
    }
}
