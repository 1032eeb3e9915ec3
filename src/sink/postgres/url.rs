//! Where the server is and how to get in: in come a URL and the `PG*` variables, out goes a configuration. Nothing of
//! what was given is in an error, since it may be a part of the password. Next room: `pool`.

use std::time::Duration;

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::tls::{Proof, Roots};

/// A server that does not answer at all is given up after this, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is, how to get in, and what it has to prove. Never printed.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) proof: Proof,
    pub(super) roots: Roots,
}

const ENCODE: &str = "it cannot be read; in a user name or password, write %40 for @, %3F for ? and so on";

/// The variables that stand in for what the URL leaves out, and what each is called there. The credentials, and those
/// of several values, are seen to apart.
const OPTIONS: [(&str, &str); 5] = [
    ("PGAPPNAME", "application_name"),
    ("PGOPTIONS", "options"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGCHANNELBINDING", "channel_binding"),
];

/// Reads a URL; `variable` gives the environment, and is asked for what the URL leaves out.
pub(super) fn read(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Address, String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("it does not begin with postgres:// or postgresql://".into());
    }
    // Two of them, and nobody can say where the password ends.
    if url.matches('@').count() > 1 {
        return Err(ENCODE.into());
    }
    let (start, options) = split(url);
    let mut own = Own::default();
    let mut others = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", mode)) => own.mode = Some(mode.to_owned()),
            Some(("sslrootcert", path)) => own.roots = Some(decoded(path)?),
            _ => others.push(option.to_owned()),
        }
    }
    for (name, option) in OPTIONS {
        if let Some(value) =
            variable(name).filter(|_| !others.iter().any(|other| other.starts_with(&format!("{option}="))))
        {
            others.push(format!("{option}={}", encoded(&value)));
        }
    }
    let mut config: Config = format!("{start}?{}", others.join("&")).parse().map_err(|error| unreadable(&error))?;
    fill_in(&mut config, variable)?;
    check_hosts(&config)?;
    own.mode = own.mode.or_else(|| variable("PGSSLMODE"));
    own.roots = own.roots.or_else(|| variable("PGSSLROOTCERT"));
    own.address(config)
}

/// What stands before the options, and the options. A `?` in a password stands before an `@`.
fn split(url: &str) -> (&str, &str) {
    let credentials = url.rfind('@').map_or(0, |at| at + 1);
    match url[credentials..].find('?') {
        Some(mark) => (&url[..credentials + mark], &url[credentials + mark + 1..]),
        None => (url, ""),
    }
}

/// What the URL leaves out, as libpq has it.
fn fill_in(config: &mut Config, variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let addresses = variable("PGHOSTADDR").unwrap_or_default();
        for address in addresses.split(',').filter(|address| !address.is_empty()) {
            config.hostaddr(address.parse().map_err(|_| "PGHOSTADDR is no address")?);
        }
        let hosts = variable("PGHOST").unwrap_or_else(|| if addresses.is_empty() { "localhost" } else { "" }.into());
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            config.host(host);
        }
    }
    if config.get_ports().is_empty() {
        for port in variable("PGPORT").unwrap_or_default().split(',').filter(|port| !port.is_empty()) {
            config.port(port.parse().map_err(|_| "PGPORT is no port")?);
        }
    }
    if let (None, Some(user)) = (config.get_user(), variable("PGUSER")) {
        config.user(user);
    }
    if let (None, Some(password)) = (config.get_password(), variable("PGPASSWORD")) {
        config.password(password);
    }
    if let (None, Some(database)) = (config.get_dbname(), variable("PGDATABASE")) {
        config.dbname(database);
    }
    if config.get_application_name().is_none() {
        config.application_name("roundlot");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    Ok(())
}

/// A piece of a password would otherwise go on as the name of a host, and be asked for all over the network.
fn check_hosts(config: &Config) -> Result<(), String> {
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "-._:".contains(c));
    let odd = |host: &Host| matches!(host, Host::Tcp(name) if !is_name(name));
    if config.get_hosts().iter().any(odd) {
        return Err(ENCODE.into());
    }
    Ok(())
}

#[derive(Default)]
struct Own {
    mode: Option<String>,
    roots: Option<String>,
}

impl Own {
    fn address(self, mut config: Config) -> Result<Address, String> {
        let has_roots = self.roots.is_some();
        let (mode, proof) = match self.mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Proof::None),
            "allow" | "prefer" => (SslMode::Prefer, Proof::None),
            // As libpq has it: whoever names roots wants them looked at.
            "require" if has_roots => (SslMode::Require, Proof::Certificate),
            "require" => (SslMode::Require, Proof::None),
            "verify-ca" => (SslMode::Require, Proof::Certificate),
            "verify-full" => (SslMode::Require, Proof::Host),
            _ => return Err("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".into()),
        };
        config.ssl_mode(mode);
        let roots = match self.roots {
            Some(path) if path != "system" => Roots::File(path),
            _ => Roots::System,
        };
        Ok(Address { config, proof, roots })
    }
}

/// The client's error without what may be a part of the URL.
fn unreadable(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause.starts_with("invalid value for option") {
        return cause;
    }
    if cause.starts_with("unknown option") {
        return "an option behind the ? is unknown".into();
    }
    ENCODE.into()
}

/// Percent-encoded, all but what surely needs it not.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                high.zip(low)
                    .map(|(high, low)| (high * 16 + low) as u8)
                    .ok_or("sslrootcert has a % that encodes nothing")?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "sslrootcert is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(url: &str) -> Result<Address, String> {
        read(url, |_| None)
    }

    fn with<'a>(url: &str, variables: &'a [(&'a str, &'a str)]) -> Address {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        read(url, find).expect("a URL")
    }

    #[test]
    fn a_url_says_it_all() {
        let all = "postgresql://bob:p%40ss@db.example:6432/trades?application_name=desk&options=-csearch_path%3Dx";
        let config =
            with(all, &[("PGHOST", "other"), ("PGPORT", "1"), ("PGPASSWORD", "other"), ("PGAPPNAME", "other")]).config;
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!((config.get_ports(), config.get_dbname()), (&[6432][..], Some("trades")));
        assert_eq!((config.get_user(), config.get_password()), (Some("bob"), Some(&b"p@ss"[..])));
        assert_eq!((config.get_application_name(), config.get_options()), (Some("desk"), Some("-csearch_path=x")));
    }

    #[test]
    fn variables_fill_the_gaps() {
        let variables = [
            ("PGHOST", "/run/postgresql,db2"),
            ("PGPORT", "5433"),
            ("PGUSER", "bob"),
            ("PGPASSWORD", "s3cret"),
            ("PGDATABASE", "trades"),
            ("PGAPPNAME", "my desk & co"),
            ("PGCONNECT_TIMEOUT", "3"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/etc/root.crt"),
        ];
        let address = with("postgres://", &variables);
        let config = &address.config;
        assert_eq!(config.get_hosts(), [Host::Unix("/run/postgresql".into()), Host::Tcp("db2".into())]);
        assert_eq!((config.get_ports(), config.get_dbname()), (&[5433][..], Some("trades")));
        assert_eq!((config.get_user(), config.get_password()), (Some("bob"), Some(&b"s3cret"[..])));
        assert_eq!(config.get_application_name(), Some("my desk & co"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!((address.proof, address.roots), (Proof::Host, Roots::File("/etc/root.crt".into())));
    }

    #[test]
    fn nothing_at_all_is_the_local_host() {
        let config = plain("postgres://").expect("a URL").config;
        assert_eq!(config.get_hosts(), [Host::Tcp("localhost".into())]);
        assert_eq!(config.get_application_name(), Some("roundlot"));
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
    }

    #[test]
    fn sslmode_means_what_it_means_to_libpq() {
        let proof = |query: &str| {
            let address = plain(&format!("postgres://h/db?{query}")).expect("a URL");
            (address.config.get_ssl_mode(), address.proof)
        };
        assert_eq!(proof(""), (SslMode::Prefer, Proof::None));
        assert_eq!(proof("sslmode=disable"), (SslMode::Disable, Proof::None));
        assert_eq!(proof("sslmode=require"), (SslMode::Require, Proof::None));
        assert_eq!(proof("sslmode=require&sslrootcert=a.crt"), (SslMode::Require, Proof::Certificate));
        assert_eq!(proof("sslrootcert=a.crt&sslmode=verify-ca"), (SslMode::Require, Proof::Certificate));
        assert_eq!(proof("sslmode=verify-full&connect_timeout=1"), (SslMode::Require, Proof::Host));
        let roots = |url: &str| plain(url).expect("a URL").roots;
        assert_eq!(roots("postgres://h?sslrootcert=%2Fa%20b.crt"), Roots::File("/a b.crt".into()));
        assert_eq!(roots("postgres://h?sslrootcert=system"), Roots::System);
    }

    /// Goal: no part of a password is in an error. Method: passwords that were not encoded, cut in all kinds of places.
    #[test]
    fn errors_have_nothing_of_the_url_in_them() {
        let urls = [
            "postgres://bob:se@cr3t/x@host/db",
            "postgres://bob:se@cr3t?x=y@host/db",
            "postgres://bob:se cr3t&cr3t=1@host@host/db",
            "postgres://bob:cr3t/db",
            "postgres://bob:secret@host/db?cr3t=1",
            "postgres://bob:secret@host/db?port=cr3t",
            "postgres://bob%ffcr3t:x@host/db",
            "postgres://host/db?sslmode=cr3t",
            "postgres://host/db?sslrootcert=%cr3t",
            "postgres://host/db?cr3t",
            "host=h password=cr3t",
            "cr3t",
            "",
        ];
        for url in urls {
            let why = plain(url).err().unwrap_or_else(|| panic!("{url} is no URL"));
            assert!(!why.contains("cr3t") && !why.contains("bob") && !why.contains("secret"), "{url}: {why}");
        }
        assert_eq!(plain("postgres://h?port=x").err().as_deref(), Some("invalid value for option `port`"));
        for name in ["PGPORT", "PGHOSTADDR", "PGCONNECT_TIMEOUT", "PGSSLMODE", "PGHOST"] {
            let why = read("postgres://", |asked| (asked == name).then(|| "cr3t@".into())).err();
            assert!(why.as_ref().is_some_and(|why| !why.contains("cr3t")), "{name}: {why:?}");
        }
    }
}
