//! The setting `page`: [`Address`] is a host and a port as they were written, and the socket addresses that they stand
//! for. `load` resolves it, `page` binds it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de::Error};

/// The address of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name in lower case; `None` if the host is an IP address.
    name: Option<String>,
    port: u16,
    /// Socket addresses of the host. For a name, `resolve` fills them in.
    sockets: Vec<SocketAddr>,
}

const FORM: &str = "it is HOST:PORT, such as 127.0.0.1:8080, localhost:8080 or [::1]:8080";

impl Address {
    /// Looks the name up, if the host is one.
    pub fn resolve(&mut self) -> Result<(), String> {
        if let Some(name) = &self.name {
            let found = (name.as_str(), self.port).to_socket_addrs();
            self.sockets = found.map_err(|error| format!("page: cannot find the host {name:?}: {error}"))?.collect();
        }
        Ok(())
    }

    /// Socket addresses, in the order in which they are tried. A name has none before it is resolved.
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.sockets
    }

    /// Host name, if the host is not an IP address.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether only this machine can reach the page.
    pub fn is_loopback(&self) -> bool {
        self.sockets.iter().all(|socket| socket.ip().to_canonical().is_loopback())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { name: None, port: socket.port(), sockets: vec![socket] });
        }
        let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or(FORM)?;
        let port = port.parse().map_err(|_| format!("{port:?} is no port from 0 to 65535; {FORM}"))?;
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        // Digits and dots alone are a mistyped IP address, which a resolver may read in its own way.
        let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if numeric || host.parse::<IpAddr>().is_ok() || !host.split('.').all(label) {
            return Err(format!("{host:?} is no host; {FORM}"));
        }
        Ok(Self { name: Some(host.to_ascii_lowercase()), port, sockets: Vec::new() })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.sockets.first()) {
            (None, Some(socket)) => socket.fmt(f),
            (name, _) => write!(f, "{}:{}", name.as_deref().unwrap_or_default(), self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_name() {
        for text in ["127.0.0.1:8080", "[::1]:0", "localhost:8080", "desk-7.example.com:80"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("LocalHost:1".parse::<Address>().unwrap().name(), Some("localhost"));
        for text in
            ["", "8080", ":8080", "localhost", "localhost:", "localhost:99999", "::1:80", "127.1:80", "a b:1", "x..y:1"]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.ends_with(FORM), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_is_resolved() {
        let mut local: Address = "localhost:8080".parse().unwrap();
        assert!(local.sockets().is_empty());
        local.resolve().unwrap();
        assert!(!local.sockets().is_empty() && local.is_loopback(), "{local:?}");
        assert!(local.sockets().iter().all(|socket| socket.port() == 8080));
        let mut nowhere: Address = "no-such-host.invalid:1".parse().unwrap();
        let error = nowhere.resolve().unwrap_err();
        assert!(error.starts_with("page: cannot find the host \"no-such-host.invalid\": "), "{error}");
    }
}
