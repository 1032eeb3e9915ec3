//! [`Address`]: where the server is and how to log in, from a URL and the `PG*` variables. An option that is not
//! honoured is an error, above all one for security. No error contains what was given, since it may be a part of the
//! password. `options` reads it.

use std::{net::IpAddr, time::Duration};

use tokio_postgres::{
    Config,
    config::{ChannelBinding, LoadBalanceHosts, SslMode, TargetSessionAttrs},
};

use super::{
    tls::{Proof, Roots},
    url::{self, ENCODE, Parameters},
};

/// Default time limit of a connection attempt, in seconds, for servers that do not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The server, the credentials, and the proof that the server owes. Never printed.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) proof: Proof,
    pub(super) roots: Roots,
}

/// The variables that stand in for what the URL leaves out, and the keyword of each. Those of files that only libpq
/// reads, such as `PGPASSFILE`, are left alone; variables that ask for more security than there is here are errors.
const VARIABLES: [(&str, &str); 23] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGAPPNAME", "application_name"),
    ("PGOPTIONS", "options"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSERVICE", "service"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
];

/// Reads a URL; `variable` reads the environment, for what the URL leaves out.
pub(super) fn read(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Address, String> {
    // As for libpq, an empty one is as good as none, except where it would have to name a degree of security.
    let names_security = |name: &str| ["PGSSLMODE", "PGCHANNELBINDING"].contains(&name);
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty() || names_security(name));
    let mut given = url::parse(url)?;
    for (name, keyword) in VARIABLES {
        if given.get(keyword).is_none()
            && let Some(value) = variable(name)
        {
            given.put(keyword, value.into_bytes());
        }
    }
    // An old spelling, used only without the new one.
    if given.get("sslmode").is_none() && variable("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
        given.put("sslmode", b"require".to_vec());
    }
    address(&given)
}

fn address(given: &Parameters) -> Result<Address, String> {
    let mut config = Config::new();
    if given.get("connect_timeout").is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    let mut fallback = "roundlot";
    for keyword in given.keywords() {
        let bytes = given.get(keyword).unwrap_or_default();
        if keyword == "password" {
            // The one that may be any bytes.
            config.password(bytes);
            continue;
        }
        let value = std::str::from_utf8(bytes).map_err(|_| wrong(keyword))?;
        match keyword {
            "fallback_application_name" => fallback = value,
            "host" | "hostaddr" | "port" | "sslmode" | "sslrootcert" => {}
            _ => option(&mut config, keyword, value)?,
        }
    }
    if config.get_application_name().is_none() {
        config.application_name(fallback);
    }
    places(&mut config, given)?;
    tls(config, given)
}

/// Applies one option that is independent of all others.
fn option(config: &mut Config, keyword: &str, value: &str) -> Result<(), String> {
    let is_one_of = |known: &[&str]| if known.contains(&value) { Ok(()) } else { Err(unsupported(keyword)) };
    match keyword {
        "application_name" => config.application_name(value),
        "options" => config.options(value),
        "user" | "dbname" if value.is_empty() => return Err(wrong(keyword)),
        "user" => config.user(value),
        "dbname" => config.dbname(value),
        "connect_timeout" => return timeout(config, value),
        "target_session_attrs" => config.target_session_attrs(match value {
            "any" => TargetSessionAttrs::Any,
            "read-write" => TargetSessionAttrs::ReadWrite,
            "read-only" => TargetSessionAttrs::ReadOnly,
            _ => return Err(unsupported(keyword)),
        }),
        "channel_binding" => config.channel_binding(match value {
            "disable" => ChannelBinding::Disable,
            "prefer" => ChannelBinding::Prefer,
            "require" => ChannelBinding::Require,
            _ => return Err(wrong(keyword)),
        }),
        "load_balance_hosts" => config.load_balance_hosts(match value {
            "disable" => LoadBalanceHosts::Disable,
            "random" => LoadBalanceHosts::Random,
            _ => return Err(wrong(keyword)),
        }),
        "keepalives" => config.keepalives(number(keyword, value)? != 0),
        // As for libpq, zero is whatever the system has.
        "keepalives_idle" | "keepalives_interval" | "keepalives_count" | "tcp_user_timeout" if value == "0" => {
            return Ok(());
        }
        "keepalives_idle" => config.keepalives_idle(Duration::from_secs(number(keyword, value)?)),
        "keepalives_interval" => config.keepalives_interval(Duration::from_secs(number(keyword, value)?)),
        "keepalives_count" => {
            config.keepalives_retries(number(keyword, value)?.try_into().map_err(|_| wrong(keyword))?)
        }
        "tcp_user_timeout" => config.tcp_user_timeout(Duration::from_millis(number(keyword, value)?)),
        // The only supported behaviour is asked for.
        "client_encoding" => return is_one_of(&["UTF8", "utf8", "UTF-8", "utf-8"]),
        "gssencmode" => return is_one_of(&["disable", "prefer"]),
        "sslcertmode" => return is_one_of(&["disable", "allow"]),
        "sslcompression" => return is_one_of(&["0"]),
        "sslnegotiation" => return is_one_of(&["postgres"]),
        "sslsni" => return is_one_of(&["1"]),
        "ssl_min_protocol_version" => return is_one_of(&["TLSv1", "TLSv1.1", "TLSv1.2"]),
        _ => return Err(unsupported(keyword)),
    };
    Ok(())
}

/// Parses seconds. Zero and less mean no limit, as for libpq.
fn timeout(config: &mut Config, value: &str) -> Result<(), String> {
    let seconds = value.parse::<i32>().map_err(|_| wrong("connect_timeout"))?;
    if let Ok(seconds @ 1..) = u64::try_from(seconds) {
        config.connect_timeout(Duration::from_secs(seconds));
    }
    Ok(())
}

/// Hosts, their addresses and ports, which are lists that belong together.
fn places(config: &mut Config, given: &Parameters) -> Result<(), String> {
    let list = |keyword: &'static str| {
        let value = given.get(keyword).map(std::str::from_utf8).transpose().map_err(|_| ENCODE)?;
        Ok::<Vec<&str>, String>(value.map(|value| value.split(',').collect()).unwrap_or_default())
    };
    let (mut hosts, addresses, ports) = (list("host")?, list("hostaddr")?, list("port")?);
    let addresses: Vec<IpAddr> =
        addresses.into_iter().map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong("hostaddr"))?;
    if hosts.is_empty() && addresses.is_empty() {
        hosts = vec!["localhost"];
    }
    for host in &hosts {
        // A piece of a password would otherwise go on as the name of a host, and be asked for all over the network.
        let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "-._:".contains(c));
        if host.is_empty() || !(host.starts_with('/') || is_name(host)) {
            return Err(ENCODE.into());
        }
        config.host(*host);
    }
    for address in &addresses {
        // An address by itself is also the name that its certificate has to be for.
        match hosts.is_empty() {
            true => config.host(address.to_string()),
            false => config.hostaddr(*address),
        };
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err("there are not as many values of hostaddr as of host".into());
    }
    if ports.len() > 1 && ports.len() != config.get_hosts().len() {
        return Err("there are not as many ports as hosts".into());
    }
    for port in ports {
        config.port(match port {
            "" => 5432,
            port => number("port", port)?.try_into().ok().filter(|port| *port > 0).ok_or_else(|| wrong("port"))?,
        });
    }
    Ok(())
}

fn tls(mut config: Config, given: &Parameters) -> Result<Address, String> {
    let text =
        |keyword: &'static str| given.get(keyword).map(std::str::from_utf8).transpose().map_err(|_| wrong(keyword));
    let roots = match text("sslrootcert")? {
        None => None,
        Some("") => return Err(wrong("sslrootcert")),
        Some("system") => Some(Roots::System),
        Some(path) => Some(Roots::File(path.into())),
    };
    // As libpq has it: the roots of the system are many, and prove something only together with the name of the host.
    let by_system = roots == Some(Roots::System);
    let usual = if by_system { "verify-full" } else { "prefer" };
    let (mode, proof) = match text("sslmode")?.unwrap_or(usual) {
        "disable" | "allow" | "prefer" | "require" | "verify-ca" if by_system => {
            return Err("sslrootcert=system goes together with no sslmode but verify-full".into());
        }
        "disable" => (SslMode::Disable, Proof::None),
        "allow" | "prefer" => (SslMode::Prefer, Proof::None),
        // As libpq has it: named roots are looked at.
        "require" if roots.is_some() => (SslMode::Require, Proof::Certificate),
        "require" => (SslMode::Require, Proof::None),
        "verify-ca" => (SslMode::Require, Proof::Certificate),
        "verify-full" => (SslMode::Require, Proof::Host),
        _ => return Err("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".into()),
    };
    config.ssl_mode(mode);
    Ok(Address { config, proof, roots: roots.unwrap_or(Roots::System) })
}

/// Digits and nothing else: no sign, no blank, no fraction.
fn number(keyword: &str, value: &str) -> Result<u64, String> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse::<u32>().ok().filter(|_| digits).map(u64::from).ok_or_else(|| wrong(keyword))
}

fn wrong(keyword: &str) -> String {
    format!("the value of {keyword} cannot be used")
}

fn unsupported(keyword: &str) -> String {
    format!("the option {keyword} is not supported, or not with this value")
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "libpq_tests.rs"]
mod libpq;
