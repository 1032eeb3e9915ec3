//! The parser of `postgres://` URLs, which reads each part as libpq does or refuses it. Called by `address`, which
//! gives the keywords their meaning. Invariant: nothing of the URL is in an error, since it may be a part of the
//! password.

use std::collections::HashMap;

/// The keywords of libpq with their values, decoded. A keyword that is not there was not in the URL.
#[derive(Default)]
pub(super) struct Parameters(HashMap<&'static str, Vec<u8>>);

pub(super) const ENCODE: &str =
    "it cannot be read; in a user name, password or database, write %40 for @, %2F for /, %3F for ? and so on";

/// All keywords of libpq 18. Any other in a URL is an error, here as there.
const KEYWORDS: [&str; 51] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Reads a URL as libpq's `conninfo_uri_parse_options` does. Stricter in this: no blanks, no `@` in the name of the
/// database, no `?` with a `=` behind it in the credentials, no option twice.
pub(super) fn parse(url: &str) -> Result<Parameters, String> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
    let rest = rest.ok_or("it does not begin with postgres:// or postgresql://")?;
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it has a blank or a line break in it; write %20 for a blank".into());
    }
    let mut parameters = Parameters::default();
    let rest = parameters.credentials(rest)?;
    let rest = parameters.hosts(rest)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let database = path.strip_prefix('/').unwrap_or("");
    if database.contains('@') {
        return Err(ENCODE.into());
    }
    parameters.put_part("dbname", database)?;
    parameters.query(query)?;
    Ok(parameters)
}

impl Parameters {
    pub(super) fn get(&self, keyword: &str) -> Option<&[u8]> {
        self.0.get(keyword).map(Vec::as_slice)
    }

    pub(super) fn put(&mut self, keyword: &'static str, value: Vec<u8>) {
        self.0.insert(keyword, value);
    }

    pub(super) fn keywords(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// User and password, which end at the first `@` that no `/` stands before. Returns what follows.
    fn credentials<'a>(&mut self, rest: &'a str) -> Result<&'a str, String> {
        let Some(end) = rest.find(['@', '/']).filter(|end| rest[*end..].starts_with('@')) else {
            return Ok(rest);
        };
        let (credentials, rest) = (&rest[..end], &rest[end + 1..]);
        // Taken for a user name, options such as sslmode would be dropped in silence.
        if credentials.split_once('?').is_some_and(|(_, behind)| behind.contains('=')) {
            return Err(ENCODE.into());
        }
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        self.put_part("user", user)?;
        self.put_part("password", password)?;
        Ok(rest)
    }

    /// Hosts and ports, as two lists of one length. Returns what follows.
    fn hosts<'a>(&mut self, mut rest: &'a str) -> Result<&'a str, String> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        loop {
            let host;
            match rest.strip_prefix('[') {
                Some(inside) => {
                    (host, rest) = inside.split_once(']').filter(|(host, _)| !host.is_empty()).ok_or(ENCODE)?;
                    if !rest.is_empty() && !rest.starts_with([':', '/', '?', ',']) {
                        return Err(ENCODE.into());
                    }
                }
                None => (host, rest) = until(rest, &[':', '/', '?', ',']),
            }
            let mut port = "";
            if let Some(behind) = rest.strip_prefix(':') {
                (port, rest) = until(behind, &['/', '?', ',']);
            }
            hosts.push(host);
            ports.push(port);
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        self.put_part("host", &hosts.join(","))?;
        self.put_part("port", &ports.join(","))?;
        Ok(rest)
    }

    /// The options, which override what stands before the `?`.
    fn query(&mut self, query: &str) -> Result<(), String> {
        let mut seen = Vec::new();
        let query = query.strip_suffix('&').unwrap_or(query);
        for option in query.split('&').take_while(|_| !query.is_empty()) {
            let (keyword, value) = option.split_once('=').ok_or(ENCODE)?;
            if value.contains('=') {
                return Err("an option behind the ? has a second =; write %3D for it".into());
            }
            let (mut keyword, mut value) = (decoded(keyword)?, decoded(value)?);
            // As JDBC spells it.
            if keyword == b"ssl" && value == b"true" {
                (keyword, value) = (b"sslmode".into(), b"require".into());
            }
            let known = KEYWORDS.into_iter().find(|known| known.as_bytes() == keyword);
            let known = known.ok_or("an option behind the ? is unknown")?;
            if seen.contains(&known) {
                return Err(format!("the option {known} is there twice"));
            }
            seen.push(known);
            self.put(known, value);
        }
        Ok(())
    }

    /// Keeps a part that stands before the options. An empty one is as good as none.
    fn put_part(&mut self, keyword: &'static str, encoded: &str) -> Result<(), String> {
        if !encoded.is_empty() {
            self.put(keyword, decoded(encoded)?);
        }
        Ok(())
    }
}

/// Splits before the first of these characters.
fn until<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Percent-decoded. A NUL character would cut off what follows it.
pub(crate) fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let byte = high.zip(low).map(|(high, low)| (high * 16 + low) as u8);
                byte.filter(|byte| *byte != 0).ok_or("it has a % that encodes nothing; write %25 for %")?
            }
            byte => byte,
        });
    }
    Ok(bytes)
}
