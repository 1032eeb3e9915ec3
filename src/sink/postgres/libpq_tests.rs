//! Generated URLs, read by us and by libpq, which psql reads them with. Each comes to the same, or is refused by us.

use std::{
    collections::HashMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use tokio_postgres::config::Host;

use super::*;

/// The parts of URLs: characters that end a part, or are encoded, or neither.
const PIECES: [&str; 40] = [
    "a", "bob", "p", "1", "42", "é", "@", "/", "?", ":", "&", "=", "%", "#", "[", "]", ",", ";", "+", "\\", "'", "\"",
    "!", "$", "*", "-", ".", "_", "~", "%40", "%2F", "%3f", "%3A", "%25", "%00", "%ff", "%C3%A9", "%4", "%zz", "|",
];

const HOSTS: [&str; 12] = [
    "",
    "db.example",
    "127.0.0.1",
    "[::1]",
    "[::1",
    "h1,h2",
    "h1,,h2",
    "%2Frun%2Fpg",
    "[fe80::1]",
    "%68ost",
    "h%2Ci",
    "DB-1_x",
];

const PORTS: [&str; 10] = ["", ":", ":5433", ":1,h2:2", ":0", ":65536", ":x", ":%35", ":05432", ":-1"];

const OPTIONS: [&str; 26] = [
    "sslmode=verify-full",
    "sslmode=require",
    "sslmode=disable",
    "sslmode=prefer",
    "sslmode=VERIFY-FULL",
    "sslmode=",
    "ssl=true",
    "ssl=false",
    "requiressl=1",
    "sslrootcert=%2Fa.crt",
    "host=other",
    "host=%2Ftmp",
    "port=6432",
    "port=1,2",
    "user=eve",
    "password=x%3Dy",
    "dbname=d%40d",
    "application_name=a@b",
    "application_name=",
    "options=-cx%3Dy",
    "hostaddr=127.0.0.9",
    "connect_timeout=3",
    "sslm%6Fde=verify-ca",
    "Sslmode=require",
    "nonsense=1",
    "sslcert=x",
];

/// A sequence that is the same in each run: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// A few pieces; from the first six alone if it is to be harmless.
    fn text(&mut self) -> String {
        let most = [6, 6, PIECES.len()][self.below(3)];
        (0..=self.below(4)).map(|_| PIECES[self.below(most)]).collect()
    }

    fn url(&mut self) -> String {
        let mut url = self.one_of(&["postgres://", "postgresql://", "postgres://", "Postgres://"]).to_owned();
        match self.below(4) {
            0 => {}
            1 => url += &format!("{}@", self.text()),
            _ => url += &format!("{}:{}@", self.text(), self.text()),
        }
        url += self.one_of(&HOSTS);
        url += self.one_of(&PORTS);
        if self.below(3) > 0 {
            url += &format!("/{}", self.text());
        }
        if self.below(3) > 0 {
            let options: Vec<_> = (0..=self.below(3))
                .map(|_| match self.below(8) {
                    0 => format!("application_name={}", self.text()),
                    _ => self.one_of(&OPTIONS).to_owned(),
                })
                .collect();
            url += &format!("?{}", options.join("&"));
        }
        url
    }
}

/// The values that libpq reads, by keyword; nothing where it refuses.
type Reading = Option<HashMap<String, Vec<u8>>>;

fn read_by_libpq(urls: &[String]) -> Vec<Reading> {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("libpq");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/libpq.c");
    let built = Command::new("cc").arg(source).arg("-o").arg(&program).arg("-ldl").status().expect("a C compiler");
    assert!(built.success());
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program that was built");
    let lines: String = urls.iter().map(|url| hex(url.as_bytes()) + "\n").collect();
    let mut input = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).expect("all of them are read"));
    let output = child.wait_with_output().expect("an end");
    writer.join().expect("no panic");
    assert!(output.status.success(), "libpq.so.5 comes with psql");
    let text = String::from_utf8(output.stdout).expect("hex");
    let pair = |pair: &str| pair.split_once('=').map(|(keyword, value)| (keyword.to_owned(), bytes(value)));
    let reading = |line: &str| (line != "refused").then(|| line.split_whitespace().filter_map(pair).collect());
    text.lines().map(reading).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The parts of an address as the client library has them, in the form of libpq.
fn parts(address: &Address) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let config = &address.config;
    let text = |text: &str| text.as_bytes().to_vec();
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let list = |list: Vec<String>| (!list.is_empty()).then(|| text(&list.join(",")));
    vec![
        ("host", list(config.get_hosts().iter().map(host).collect())),
        ("hostaddr", list(config.get_hostaddrs().iter().map(ToString::to_string).collect())),
        ("port", list(config.get_ports().iter().map(ToString::to_string).collect())),
        ("user", config.get_user().map(text)),
        ("password", config.get_password().map(<[u8]>::to_vec)),
        ("dbname", config.get_dbname().map(text)),
        ("application_name", config.get_application_name().map(text)),
        ("options", config.get_options().map(text)),
    ]
}

/// The changes that libpq makes to its own values later on: defaults, and ports as numbers.
fn expected(reading: &HashMap<String, Vec<u8>>, keyword: &str) -> Option<Vec<u8>> {
    let value = reading.get(keyword).cloned();
    match keyword {
        // Addresses by themselves are the names as well.
        "host" => value.or_else(|| reading.get("hostaddr").cloned()).or_else(|| Some(b"localhost".to_vec())),
        "hostaddr" => value.filter(|_| reading.contains_key("host")),
        "application_name" => value.or_else(|| Some(b"roundlot".to_vec())),
        "port" => value.map(|value| {
            let number = |port: &str| if port.is_empty() { 5432 } else { port.parse::<u16>().expect("a port") };
            let list = String::from_utf8(value).expect("numbers");
            list.split(',').map(|port| number(port).to_string()).collect::<Vec<_>>().join(",").into_bytes()
        }),
        _ => value,
    }
}

/// How safe it is, for modes that both know.
fn strength(mode: &[u8], has_roots: bool) -> (SslMode, Proof) {
    match mode {
        b"disable" => (SslMode::Disable, Proof::None),
        b"allow" | b"prefer" => (SslMode::Prefer, Proof::None),
        b"require" if has_roots => (SslMode::Require, Proof::Certificate),
        b"require" => (SslMode::Require, Proof::None),
        b"verify-ca" => (SslMode::Require, Proof::Certificate),
        b"verify-full" => (SslMode::Require, Proof::Host),
        mode => panic!("libpq refuses {mode:?} when it connects"),
    }
}

#[test]
#[ignore = "needs libpq and a C compiler: tests/run.sh installs them"]
fn urls_are_read_as_libpq_reads_them() {
    let mut dice = Dice(0x5eed_2026);
    let mut urls: Vec<String> = (0..20_000).map(|_| dice.url()).collect();
    // Inputs that once came to another host, and common ones.
    urls.extend(
        [
            "postgres://bob:12/ss@db.example/trades?sslmode=verify-full",
            "postgres://db.example/trades?sslmode=verify-full&application_name=a@b",
            "postgres://db.example?sslmode=verify-full&application_name=a@b",
            "postgres://db.example/tr@des?sslmode=verify-full",
            "postgres://bob:pa?ss@db.example/trades?sslmode=verify-full",
            "postgres://a:1/trades?host=b&port=2",
            "postgresql://bob@db.example/trades?host=/run/postgresql",
            "postgresql://bob:pw@[::1]:6432/trades",
        ]
        .map(str::to_owned),
    );
    let readings = read_by_libpq(&urls);
    assert_eq!(readings.len(), urls.len());
    let mut taken = 0;
    for (url, reading) in urls.iter().zip(&readings) {
        let Ok(address) = read(url, |_| None) else { continue };
        let reading = reading.as_ref().unwrap_or_else(|| panic!("libpq refuses {url}"));
        taken += 1;
        for (keyword, value) in parts(&address) {
            assert_eq!(value, expected(reading, keyword), "{keyword} of {url}");
        }
        let mode = reading.get("sslmode").map_or(&b"prefer"[..], Vec::as_slice);
        let ours = (address.config.get_ssl_mode(), address.proof);
        assert_eq!(ours, strength(mode, reading.contains_key("sslrootcert")), "{url}");
    }
    let taken_by_libpq = readings.iter().flatten().count();
    assert!(taken > 1000, "{taken} of {taken_by_libpq}: refusing them all would prove nothing");
    println!("{} URLs: libpq takes {taken_by_libpq}, roundlot {taken}", urls.len());
}
