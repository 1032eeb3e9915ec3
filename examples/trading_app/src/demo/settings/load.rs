//! The sources of the settings: defaults, a file, the environment and the command line. Each overrides the sources
//! before it. An error names the source and the setting. `main` calls [`load`].

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path};

use clap::CommandFactory;
use toml::{Table, Value};

use super::{Settings, file};
use crate::{bot::Error, demo::cli::Cli};

/// The file that documents the settings, which is also the source of the defaults, so that the two cannot differ.
pub(super) const BUILT_IN: &str = include_str!("../../../../../config/trading_app.toml");

/// The file that is read if no other is named and this one exists.
const USUAL_FILE: &str = "config/trading_app.toml";

const PREFIX: &str = "ROUNDLOT_";

pub fn load(cli: &Cli, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Settings, Error> {
    let mut table: Table = BUILT_IN.parse()?;
    if let Some(path) = cli.config.as_deref().or(Some(Path::new(USUAL_FILE)).filter(|path| path.exists())) {
        let file =
            fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| file::read(BUILT_IN, &text));
        table = merged(table, file.map_err(|error| format!("{}: {error}", path.display()))?);
    }
    for (name, value) in ours(environment) {
        let path: Vec<String> = name[PREFIX.len()..].to_lowercase().split("__").map(str::to_owned).collect();
        table = assigned(table, &path, &value).map_err(|error| format!("environment variable {name}: {error}"))?;
    }
    for (name, value) in &cli.set {
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        table = assigned(table, &path, value).map_err(|error| format!("--set {name}={value}: {error}"))?;
    }
    let mut settings: Settings = table.try_into()?;
    cli.apply(&mut settings);
    settings.orders.resolve()?;
    if let Some(named) = &settings.database {
        named.destination()?;
    }
    if let Some(page) = &mut settings.page {
        page.resolve()?;
        if !page.is_loopback() && !settings.page_open_to_all {
            return Err(format!("page: other machines can reach {page}; if they may, say --page-open-to-all").into());
        }
    }
    Ok(settings)
}

/// Returns the variables that are settings, in a fixed order. Variables of command-line arguments are left out.
fn ours(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let command = Cli::command();
    let arguments: BTreeSet<&str> = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str()).collect();
    let mut ours: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(PREFIX) && !arguments.contains(name.as_str()))
        .collect();
    ours.sort();
    ours
}

/// Puts the value under the path: as the number, flag or list that it looks like, or else as text.
fn assigned(table: Table, path: &[String], text: &str) -> Result<Table, String> {
    let with = |value| {
        let nested =
            path.iter().rev().fold(value, |value, name| Value::Table(Table::from_iter([(name.clone(), value)])));
        match nested {
            Value::Table(over) => checked(merged(table.clone(), over)),
            _ => Err("it has no name".to_owned()),
        }
    };
    let as_text = || with(Value::String(text.to_owned()));
    match format!("value = {text}").parse::<Table>() {
        Ok(mut parsed) => parsed
            .remove("value")
            .map_or_else(as_text, |value| with(value).or_else(|error| as_text().map_err(|text| apter(error, text)))),
        Err(_) => as_text(),
    }
}

/// Chooses between the errors of a value and of the same value as text: the one that is not only about its type.
fn apter(as_value: String, as_text: String) -> String {
    if as_value.starts_with("invalid type") { as_text } else { as_value }
}

fn merged(mut under: Table, over: Table) -> Table {
    for (name, value) in over {
        let value = match (under.remove(&name), value) {
            (Some(Value::Table(under)), Value::Table(over)) => Value::Table(merged(under, over)),
            (_, value) => value,
        };
        under.insert(name, value);
    }
    under
}

fn checked(table: Table) -> Result<Table, String> {
    table.clone().try_into::<Settings>().map_err(|error| error.to_string().trim_end().to_owned())?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::{
        bot::settings::LogPlace,
        demo::settings::{Column, Unit},
    };

    fn with(environment: &[(&str, &str)], cli: &Cli) -> Result<Settings, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load(cli, environment).map_err(|error| error.to_string())
    }

    fn file(text: &str) -> (tempfile::TempDir, Cli) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        fs::write(&path, text).unwrap();
        (folder, Cli { config: Some(path), ..Cli::default() })
    }

    /// Goal: the app runs the same without a file and with the shipped file. Method: an empty file, and the shipped
    /// one.
    #[test]
    fn the_shipped_file_equals_the_defaults() {
        let (_folder, empty) = file("");
        let (_folder, shipped) = file(BUILT_IN);
        let settings = with(&[], &empty).unwrap();
        assert_eq!(settings, with(&[], &shipped).unwrap());
        assert_eq!((settings.sim.pairs, settings.run_time()), (100, Some(Duration::from_secs(10))));
    }

    /// Goal: each commented setting in the file is a setting, too. Method: remove the marks. Only a log in NATS has all of them.
    #[test]
    fn commented_settings_in_the_file_exist() {
        let (_folder, mut cli) = file(&BUILT_IN.replace("#: ", ""));
        cli.log = Some(PathBuf::from("nats://n1.example").try_into().unwrap());
        let settings = with(&[], &cli).unwrap();
        assert_eq!(settings.seconds, Some(10));
        assert_eq!(settings.replay.time_unit, Some(Unit::Ms));
        assert_eq!(settings.replay.price, Some(Column::Name("price".to_owned())));
    }

    #[test]
    fn the_environment_overrides_the_file_and_the_command_line_both() {
        let (_folder, mut cli) = file("seed = 1\n[orders.limits]\nmax_items = 2\nlinger = \"7ms\"");
        let seed = |environment: &[_], cli: &Cli| with(environment, cli).unwrap().seed;
        assert_eq!(seed(&[], &cli), 1);
        cli.set = vec![("seed".to_owned(), "3".to_owned())];
        // ROUNDLOT_SEED stands for an argument of the command line, and clap has read it.
        assert_eq!(seed(&[("ROUNDLOT_SEED", "2")], &cli), 3);
        cli.seed = Some(4);
        assert_eq!(seed(&[], &cli), 4);

        let limits = |environment: &[_], cli: &Cli| with(environment, cli).unwrap().orders.batcher.limits;
        let items = [("ROUNDLOT_ORDERS__LIMITS__MAX_ITEMS", "9")];
        let said = |items| with(&[], &cli).unwrap().orders.batcher.limits.max_items(items);
        assert_eq!(limits(&[], &cli), said(2));
        assert_eq!(limits(&items, &cli), said(9));
        let over = vec![("orders.limits.max_items".to_owned(), "10".to_owned())];
        assert_eq!(limits(&items, &Cli { set: over, config: cli.config.clone(), ..Cli::default() }), said(10));
    }

    #[test]
    fn environment_values_are_parsed_by_their_look_or_kept_as_text() {
        let environment = [
            ("ROUNDLOT_REPLAY__FILE", "2024"),
            ("ROUNDLOT_REPLAY__PRICE", "3"),
            ("ROUNDLOT_REPLAY__QUANTITY", "size"),
            ("ROUNDLOT_REPLAY__BUY", "[\"up\"]"),
            ("ROUNDLOT_STRATEGY__ENTRY_PERCENT", "0.10"),
            ("ROUNDLOT_VENUE__LATENCY", "1ms"),
        ];
        let settings = with(&environment, &Cli::default()).unwrap();
        assert_eq!(settings.replay.file, Some(PathBuf::from("2024")));
        assert_eq!(settings.replay.price, Some(Column::Number(3)));
        assert_eq!(settings.replay.quantity, Some(Column::Name("size".to_owned())));
        assert_eq!(settings.replay.buy, Some(vec!["up".to_owned()]));
        assert_eq!(settings.strategy.entry_percent.to_string(), "0.10");
        assert_eq!(settings.venue.latency, Duration::from_millis(1));
    }

    /// Goal: no error shows the password of a URL, wherever the URL stands and whatever is wrong with it. Method: all
    /// sources, each with a mistake in the URL or beside it.
    #[test]
    fn a_database_is_named_and_its_password_is_never_printed() {
        let url = "mysql://bob:secret@db/trades";
        let (_kind, of_kind) = file(&format!("database = \"{url}\""));
        let (_quote, unquoted) = file(&format!("seed = 1\ndatabase = \"{url}\nlog = \"info\""));
        let (_beside, beside) = file(&format!("database = \"{}\"\nsed = 1", url.replace("mysql", "postgres")));
        let set = Cli { set: vec![("database".to_owned(), url.to_owned())], ..Cli::default() };
        let said = Cli { database: Some(PathBuf::from(url).into()), ..Cli::default() };
        let expected = ["another kind", "line 2", "`sed`", "another kind", "another kind"];
        for (cli, expected) in [of_kind, unquoted, beside, set, said].iter().zip(expected) {
            let error = with(&[], cli).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret") && !error.contains("bob"), "{error}");
        }
        let cli = Cli { database: Some(PathBuf::from("sqlite:it.db").into()), ..Cli::default() };
        let settings = with(&[], &cli).unwrap();
        assert!(settings.database.unwrap().destination().is_ok());
    }

    /// Goal: the log may be in one source and its ledger in another one; what only a log in NATS has is refused without one. No error shows a
    /// password. Method: both ways round, and each key with each log.
    #[test]
    fn a_log_in_nats_has_a_ledger_and_no_other_log_has() {
        let (nats, ledger) = ("nats://bob:secret@n1, tls://n2", "postgres://bob:secret@db/orders");
        let said = |log: &str| Some(PathBuf::from(log).try_into().unwrap());
        let monitoring = "[orders]\nmonitoring = [\"http://n1:8222\"]\ncredentials = \"bot.creds\"";
        let (_folder, config) = file(&format!("{monitoring}\nledger = \"{ledger}\""));
        let log = with(&[], &Cli { log: said(nats), ..config }).unwrap().orders.log.unwrap();
        let LogPlace::Nats(log) = log.place else { panic!("{log:?}") };
        assert_eq!((&*log.servers, &*log.ledger), (nats, ledger));
        assert_eq!((log.monitoring, log.credentials), (vec!["http://n1:8222".to_owned()], Some("bot.creds".into())));

        let by_command_line = Cli { ledger: Some(ledger.to_owned().into()), ..Cli::default() };
        let settings = with(&[("ROUNDLOT_ORDERS__LOG", nats)], &by_command_line).unwrap();
        let log = settings.orders.log.as_ref().unwrap();
        assert!(matches!(&log.place, LogPlace::Nats(log) if log.monitoring.is_empty()));
        assert!(!format!("{settings:?}").contains("secret"));

        let errors = [
            (said(nats), "", "orders.ledger: a log in NATS needs one"),
            (said(nats), "ledger = \"mysql://bob:secret@db\"", "orders.ledger: it is a postgres:// URL"),
            (
                said(nats),
                "ledger = \"postgres://db\"\nmonitoring = [\"secret\"]",
                "orders.monitoring: each is an http:// URL",
            ),
            (None, "ledger = \"postgres://secret\"", "orders.ledger: only a log in NATS has it"),
            (said("orders.db"), "ledger = \"postgres://secret\"", "orders.ledger: only a log in NATS has it"),
            (said(ledger), "monitoring = [\"http://secret\"]", "orders.monitoring: only"),
            (said(ledger), "credentials = \"secret\"", "orders.credentials: only"),
        ];
        for (log, text, expected) in errors {
            let (_folder, config) = file(&format!("[orders]\n{text}"));
            let error = with(&[], &Cli { log, ..config }).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_page_listens_on_loopback_by_default() {
        let cli =
            |page: &str, open| Cli { page: Some(page.parse().unwrap()), page_open_to_all: open, ..Cli::default() };
        for page in ["127.0.0.1:8080", "127.8.8.8:0", "[::1]:8080", "localhost:8080"] {
            assert!(with(&[], &cli(page, false)).is_ok());
        }
        for page in ["0.0.0.0:8080", "192.168.1.7:80", "[::]:8080"] {
            let error = with(&[], &cli(page, false)).unwrap_err();
            assert!(error.contains("--page-open-to-all"), "{error}");
            assert!(with(&[], &cli(page, true)).is_ok());
        }
        assert!(with(&[("ROUNDLOT_PAGE_OPEN_TO_ALL", "true")], &cli("0.0.0.0:1", false)).is_ok());
    }

    #[test]
    fn mistakes_name_the_source_and_the_setting() {
        let wrong = [
            ("sed = 1", "`sed`"),
            ("[orders.limits]\nmax_itmes = 1", "`max_itmes`"),
            ("[orders.limits]\nmax_items = 0", "max_items must be at least 1"),
            ("[venue]\nlatency = \"fast\"", "\"fast\" is no duration"),
            ("[replay]\nspeed = -1.0", "a speed is a number from 0 on"),
            ("[replay]\nprice = true", "a column is its name in quotes"),
            ("[sim]\npairs = 0", "line 2, column 9: sim.pairs: it must be at least 1"),
            ("[sim]\nupdates_per_second = 0", "sim.updates_per_second: "),
            ("[venue]\nreject_percent = 101", "venue.reject_percent: it must be at most 100 percent"),
            ("[venue.limits]\norders_per_10s = 0", "venue.limits.orders_per_10s: it must be at least 1"),
            (
                "[venue.limits]\nban = \"4days\"",
                "venue.limits.ban: a ban takes more than nothing, and at most three days",
            ),
            ("[venue.limits]\ncalls_per_hour = 1", "venue.limits.calls_per_hour: unknown field"),
            ("[orders.quota.orders_10s]\nlimit = 0", "limit from 1"),
            ("[orders]\nshards = 0", "it must be at least 1"),
            ("[strategy]\nstop_percent = \"100.1\"", "strategy.stop_percent: "),
            ("seed = ", "line 1, column "),
        ];
        for (text, expected) in wrong {
            let (_folder, cli) = file(text);
            let error = with(&[], &cli).unwrap_err();
            assert!(error.contains("app.toml: ") && error.contains(expected), "{error}");
        }
        let error = with(&[("ROUNDLOT_ORDERS__LIMIT__MAX_ITEMS", "1")], &Cli::default()).unwrap_err();
        assert!(error.contains("ROUNDLOT_ORDERS__LIMIT__MAX_ITEMS: ") && error.contains("`limit`"), "{error}");
        let cli = Cli { set: vec![("prices.limits.max_items".to_owned(), "0".to_owned())], ..Cli::default() };
        assert!(with(&[], &cli).unwrap_err().contains("prices.limits.max_items=0: "));
        let cli = Cli { config: Some("no/such/file.toml".into()), ..Cli::default() };
        assert!(with(&[], &cli).unwrap_err().contains("no/such/file.toml"));
    }
}
