//! Tests of addresses: the settings that URLs and variables give, and the ones that are refused.

use tokio_postgres::config::Host;

use super::*;

fn plain(url: &str) -> Result<Address, String> {
    read(url, |_| None)
}

fn with<'a>(url: &str, variables: &'a [(&'a str, &'a str)]) -> Address {
    let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    read(url, find).expect("a URL")
}

#[test]
fn a_url_can_name_every_setting() {
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
fn the_default_is_the_local_host() {
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
        "postgres://bob:12/se@cr3t/db",
        "postgres://bob:12?cr3t=x@host/db",
        "postgres://bob:secret%zzcr3t@host/db",
        "postgres://bob:secret%00cr3t@host/db",
        "postgres://bob:secret@host:cr3t/db",
        "postgres://bob:secret@[host/db?cr3t=1",
        "postgres://bob:secret@host/db?cr3t=1&cr3t=1",
        "postgres://bob:secret@host/db?user=%ffcr3t",
        "postgres://bob:secret@host/db?sslcert=cr3t",
        "postgres://bob:secret@host/db?hostaddr=cr3t",
        "postgres://bob:secret@host/db?channel_binding=cr3t",
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
    assert_eq!(plain("postgres://h?port=x").err().as_deref(), Some("the value of port cannot be used"));
    for name in ["PGPORT", "PGHOSTADDR", "PGCONNECT_TIMEOUT", "PGSSLMODE", "PGHOST"] {
        let why = read("postgres://", |asked| (asked == name).then(|| "cr3t@".into())).err();
        assert!(why.as_ref().is_some_and(|why| !why.contains("cr3t")), "{name}: {why:?}");
    }
}

/// Goal: an option is honoured or refused, never dropped. Method: each keyword of libpq, with a value that asks for
/// something.
#[test]
fn an_option_that_is_not_honoured_is_refused() {
    let why = |option: &str| plain(&format!("postgres://h/db?{option}")).err();
    let refused = [
        "client_encoding=latin1",
        "gssdelegation=1",
        "gssencmode=require",
        "gsslib=gssapi",
        "krbsrvname=x",
        "max_protocol_version=3.2",
        "min_protocol_version=3.2",
        "oauth_issuer=x",
        "passfile=x",
        "replication=database",
        "require_auth=scram-sha-256",
        "requirepeer=postgres",
        "scram_client_key=x",
        "scram_server_key=x",
        "service=x",
        "servicefile=x",
        "ssl_max_protocol_version=TLSv1.2",
        "ssl_min_protocol_version=TLSv1.3",
        "sslcert=x",
        "sslcertmode=require",
        "sslcompression=1",
        "sslcrl=x",
        "sslcrldir=x",
        "sslkey=x",
        "sslkeylogfile=x",
        "sslnegotiation=direct",
        "sslpassword=x",
        "sslsni=0",
        "target_session_attrs=primary",
        "channel_binding=maybe",
    ];
    for option in refused {
        let (keyword, _) = option.split_once('=').expect("one");
        assert!(why(option).is_some_and(|why| why.contains(keyword)), "{option}: {:?}", why(option));
    }
    for option in ["keepalives_retries=1", "requiressl=1", "SSLMODE=require", "ssl=false", "sslmode", "=", "a=b=c"] {
        assert!(why(option).is_some(), "{option}");
    }
    let honoured = ["gssencmode=prefer", "sslcompression=0", "sslsni=1", "client_encoding=UTF8", "sslcertmode=allow"];
    for option in honoured {
        assert_eq!(why(option), None, "{option}");
    }
    let variables = ["PGSERVICE", "PGREQUIREAUTH", "PGREQUIREPEER", "PGSSLCRL", "PGSSLMAXPROTOCOLVERSION"];
    for name in variables {
        let why = read("postgres://", |asked| (asked == name).then(|| "s3cret".into())).err();
        assert!(why.is_some_and(|why| why.contains("not supported") && !why.contains("s3cret")), "{name}");
    }
}

#[test]
fn options_have_the_units_and_the_zeros_of_libpq() {
    let config = |option: &str| plain(&format!("postgres://h/db?{option}")).expect("a URL").config;
    assert_eq!(config("tcp_user_timeout=1500").get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
    assert_eq!(config("tcp_user_timeout=0").get_tcp_user_timeout(), None);
    assert_eq!(config("connect_timeout=7").get_connect_timeout(), Some(&Duration::from_secs(7)));
    assert_eq!(config("connect_timeout=0").get_connect_timeout(), None);
    assert_eq!(config("keepalives_count=3").get_keepalives_retries(), Some(3));
    assert!(!config("keepalives=0").get_keepalives());
    assert_eq!(config("channel_binding=require").get_channel_binding(), ChannelBinding::Require);
    assert_eq!(config("target_session_attrs=read-write").get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(config("load_balance_hosts=random").get_load_balance_hosts(), LoadBalanceHosts::Random);
}

/// Goal: `sslmode` cannot be lost. Method: each way in which it once was, or which makes two modes of it.
#[test]
fn tls_is_never_weakened_in_silence() {
    let proof = |url: &str| plain(url).map(|address| (address.config.get_ssl_mode(), address.proof));
    let full = Ok((SslMode::Require, Proof::Host));
    assert_eq!(proof("postgres://db.example/d?sslmode=verify-full&application_name=a@b"), full);
    assert_eq!(proof("postgres://db.example/d?application_name=a@b&sslmode=verify-full"), full);
    assert_eq!(proof("postgres://bob:p?w@db.example/d?sslmode=verify-full"), full);
    assert_eq!(proof("postgres://db.example/d?sslm%6fde=verify%2Dfull"), full);
    assert_eq!(proof("postgres://db.example/d?sslrootcert=system"), full, "as libpq has it");
    assert_eq!(proof("postgres://db.example/d?ssl=true"), Ok((SslMode::Require, Proof::None)));
    let refused = [
        "postgres://db.example?sslmode=verify-full&application_name=a@b",
        "postgres://bob:12/ss@db.example/d?sslmode=verify-full",
        "postgres://db.example/d@x?sslmode=verify-full",
        "postgres://db.example/d?sslmode=verify-full&sslmode=disable",
        "postgres://db.example/d?sslmode=verify-full&ssl=true",
        "postgres://db.example/d?sslmode=require&sslrootcert=system",
        "postgres://db.example/d?sslmode=",
        "postgres://db.example/d?sslmode=Verify-Full",
        "postgres://db.example/d?sslmode=verify-full%20",
        "postgres://db.example/d?sslmode=verify-full\n",
        "POSTGRES://db.example/d?sslmode=verify-full",
        "host=db.example sslmode=verify-full",
    ];
    for url in refused {
        assert!(plain(url).is_err(), "{url}");
    }
    for name in ["PGSSLMODE", "PGCHANNELBINDING"] {
        assert!(read("postgres://h", |asked| (asked == name).then(String::new)).is_err(), "{name} is empty");
    }
    let old = read("postgres://h", |name| (name == "PGREQUIRESSL").then(|| "1".into())).expect("a URL");
    assert_eq!((old.config.get_ssl_mode(), old.proof), (SslMode::Require, Proof::None));
}

#[test]
fn hosts_ports_and_addresses_belong_together() {
    let places = |url: &str, variables: &'static [(&str, &str)]| {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let config = read(url, find)?.config;
        let hosts: Vec<_> = config.get_hosts().iter().map(|host| format!("{host:?}")).collect();
        Ok::<_, String>(format!("{} {:?} {:?}", hosts.join(" "), config.get_hostaddrs(), config.get_ports()))
    };
    let plain = |url: &str| places(url, &[]);
    assert_eq!(plain("postgres://a:1,b,[::1]:3/d").as_deref(), Ok(r#"Tcp("a") Tcp("b") Tcp("::1") [] [1, 5432, 3]"#));
    assert_eq!(plain("postgres://a:1/d?host=b&port=2").as_deref(), Ok(r#"Tcp("b") [] [2]"#));
    assert_eq!(plain("postgres://%2Frun%2Fpg/d").as_deref(), Ok(r#"Unix("/run/pg") [] []"#));
    assert_eq!(plain("postgres://h/d?hostaddr=::1").as_deref(), Ok(r#"Tcp("h") [::1] []"#));
    assert_eq!(plain("postgres:///d?hostaddr=127.0.0.1").as_deref(), Ok(r#"Tcp("127.0.0.1") [] []"#));
    assert_eq!(places("postgres://h/d", &[("PGPORT", "6432")]).as_deref(), Ok(r#"Tcp("h") [] [6432]"#));
    assert_eq!(places("postgres://h/d", &[("PGHOSTADDR", "10.0.0.1")]).as_deref(), Ok(r#"Tcp("h") [10.0.0.1] []"#));
    for url in ["a,,b", "a,b:1,c?port=1,2", "a,b?hostaddr=::1", "a:0", "a:65536", "a:+1", "@a@b", "a%25b", "a b", "[]"]
    {
        assert!(plain(&format!("postgres://{url}")).is_err(), "{url}");
    }
}

/// Goal: nothing of what was given can be printed by accident. Method: the settings, which hold all of it.
#[test]
fn settings_print_no_credentials() {
    let settings = crate::sink::postgres::Postgres::url("postgres://bob:cr3t@secret.host/d");
    let text = format!("{settings:?} {settings:#?}");
    assert!(!text.contains("cr3t") && !text.contains("secret"), "{text}");
}
