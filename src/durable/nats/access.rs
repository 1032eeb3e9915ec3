//! [`Access`]: where the servers are, and how a process proves to them who it is.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tracing::{info, warn};

use super::ANSWER;
use crate::{durable::error::JoinError, rules::batch::error::chain, sink::postgres::decoded};

/// The least version of a server: with older ones a message can be stored behind another one twice.
const LEAST: (i64, i64) = (2, 14);

/// The longest pause between attempts to reach a server again.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub(super) struct Access {
    /// URLs, with commas between them.
    pub(super) servers: String,
    pub(super) proof: Proof,
    /// A file of root certificates, instead of those of the system.
    pub(super) roots: Option<PathBuf>,
}

/// The proof of an identity, apart from a user's name and password in the URL.
#[derive(Clone, Default)]
pub(super) enum Proof {
    #[default]
    None,
    /// A file with a JWT and the seed of its NKey.
    Credentials(PathBuf),
    /// The seed of an NKey.
    NKey(String),
    Token(String),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = match self.proof {
            Proof::None => "none",
            Proof::Credentials(_) => "credentials",
            Proof::NKey(_) => "an NKey",
            Proof::Token(_) => "a token",
        };
        f.debug_struct("Access").field("proof", &proof).field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl Access {
    /// Connects, and checks that the server is fit for a log. Later the client connects again by itself.
    pub(super) async fn connect(&self, name: &str) -> Result<Client, JoinError> {
        let open = |why: String| JoinError::Open(format!("NATS: {why}"));
        // The text of the error would have the URL in it, and perhaps a password.
        let servers = self.servers().ok_or_else(|| open("a URL of a server can't be read".to_owned()))?;
        let user = servers.iter().find_map(|server| server.user.clone());
        let servers: Vec<ServerAddr> = servers.into_iter().map(|server| server.address).collect();
        let options = match &self.proof {
            Proof::None => match user {
                Some((name, password)) => ConnectOptions::with_user_and_password(name, password),
                None => ConnectOptions::new(),
            },
            Proof::Credentials(path) => {
                let credentials = ConnectOptions::with_credentials_file(path).await;
                credentials.map_err(|error| open(format!("the credentials in {}: {error}", path.display())))?
            }
            Proof::NKey(seed) => ConnectOptions::with_nkey(seed.clone()),
            Proof::Token(token) => ConnectOptions::with_token(token.clone()),
        };
        let (log, tls) = (name.to_owned(), tls(self.roots.as_deref()).map_err(open)?);
        let options = options
            .name(format!("roundlot {name}"))
            .tls_client_config(tls)
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| (Duration::from_millis(50) * attempts as u32).min(RECONNECT))
            .event_callback(move |event| {
                let log = log.clone();
                async move {
                    match event {
                        Event::Connected => info!(%log, "a server of NATS is connected"),
                        event => warn!(%log, %event, "the client of NATS tells of an event"),
                    }
                }
            });
        let client = options.connect(servers).await.map_err(|error| open(chain(&error)))?;
        let server = client.server_info();
        if !client.is_server_compatible(LEAST.0, LEAST.1, 0) {
            let why = format!("nats-server {} is older than {}.{}", server.version, LEAST.0, LEAST.1);
            return Err(JoinError::Unsafe(why));
        }
        if server.max_payload < super::MIN_PAYLOAD {
            let why = format!(
                "messages have {} bytes at most (max_payload), and {} are needed",
                server.max_payload,
                super::MIN_PAYLOAD
            );
            return Err(JoinError::Unsafe(why));
        }
        Ok(client)
    }
}

/// A server, and the name and password of a user in its URL.
#[derive(Debug, PartialEq, Eq)]
struct ServerUrl {
    address: ServerAddr,
    user: Option<(String, String)>,
}

impl Access {
    /// The servers. The client gets no address with a password in it, since it may log addresses.
    fn servers(&self) -> Option<Vec<ServerUrl>> {
        self.servers.split(',').map(|url| ServerUrl::read(url.trim())).collect()
    }
}

impl ServerUrl {
    fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        if host.is_empty() {
            return None;
        }
        let decoded = |text: &str| String::from_utf8(decoded(text).ok()?).ok();
        let user = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((name, password)) => Some((decoded(name)?, decoded(password)?)),
            None => None,
        };
        Some(Self { address: format!("{scheme}://{host}").parse().ok()?, user })
    }
}

/// The roots that TLS trusts, if a server asks for TLS.
fn tls(roots: Option<&Path>) -> Result<ClientConfig, String> {
    let mut store = RootCertStore::empty();
    match roots {
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let unreadable = |error| format!("the root certificates in {}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                store.add(certificate).map_err(|error| format!("a root certificate in {}: {error}", path.display()))?;
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a URL gives the address and the user, and none that can't be read is passed over. Method: URLs of all forms.
    #[test]
    fn urls_are_read() {
        let read = |url: &str| {
            let ServerUrl { address, user } = ServerUrl::read(url)?;
            Some((address.host().to_owned(), address.port(), address.tls_required(), user))
        };
        let bob = |password: &str| Some(("bob".to_owned(), password.to_owned()));
        assert_eq!(read("n1"), Some(("n1".to_owned(), 4222, false, None)));
        assert_eq!(read("nats://bob:s%40cret@n1:1234"), Some(("n1".to_owned(), 1234, false, bob("s@cret"))));
        assert_eq!(read("tls://bob@n1"), Some(("n1".to_owned(), 4222, true, bob(""))));
        for wrong in ["nats://bob:%4@n1", "nats://", "nats://n1:x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
