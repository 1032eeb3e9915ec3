//! Tests of the files under `config/` that ask for metrics: the alerts of Prometheus and the dashboard of Grafana.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::{page::Page, read, same};

const ALERTS: &str = "config/prometheus/alerts.yml";
const ALERT_TESTS: &str = "config/prometheus/alerts_test.yml";
const DASHBOARD: &str = "config/grafana/roundlot.json";

/// The words of a text that begin with `roundlot_`.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("roundlot_")).collect()
}

/// Asserts that a text asks only for metrics of the page, under the names that an exporter for Prometheus gives them.
fn asks_for_known_metrics(page: &Page, file: &str, text: &str) {
    let mut exposed = BTreeSet::new();
    for (name, row) in &page.metrics {
        if row.kind == "histogram" {
            exposed.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            exposed.insert(name.clone());
        }
    }
    for name in names(text) {
        assert!(exposed.contains(name), "{file} asks for {name}, which is not on the page");
    }
}

/// Asserts that each `label="value"` in a query is one that the page has.
fn asks_for_known_labels(page: &Page, file: &str, text: &str) {
    for (label, values) in &page.labels {
        for (at, _) in text.match_indices(label) {
            let rest = &text[at + label.len()..];
            let Some(quoted) = ["=~\"", "!=\"", "!~\"", "=\""].into_iter().find_map(|start| rest.strip_prefix(start))
            else {
                continue;
            };
            for value in quoted.split('"').next().unwrap().split('|') {
                assert!(values.contains(value), "{file} asks for {label} {value}, which is not on the page");
            }
        }
    }
}

/// The values of all fields of this name, wherever they stand.
fn fields<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| fields(value, name, found)),
        Value::Object(values) => {
            found.extend(values.get(name));
            values.values().for_each(|value| fields(value, name, found));
        }
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// The queries of the dashboard, as Grafana sends them.
fn queries(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    fields(dashboard, "expr", &mut found);
    let text = |value: &Value| value.as_str().unwrap().replace("$__rate_interval", "1m").replace("$batcher", ".*");
    found.into_iter().map(text).collect()
}

/// Goal: no alert waits for a metric, an end or a reason that does not exist. Method: all names in the rules and in their
/// tests are on the page.
#[test]
fn alerts_ask_only_for_what_is_on_the_page() {
    let page = Page::read();
    for file in [ALERTS, ALERT_TESTS] {
        let text = read(file);
        asks_for_known_metrics(&page, file, &text);
        asks_for_known_labels(&page, file, &text);
        assert!(names(&text).len() > 10);
    }
}

/// Goal: each alert is tested, and fires. Method: the names in the rules, and those in the expected samples.
#[test]
fn each_alert_has_a_test_in_which_it_fires() {
    let (alerts, tests) = (read(ALERTS), read(ALERT_TESTS));
    let after = |text: &str, mark: &str, end: char| -> BTreeSet<String> {
        text.split(mark).skip(1).map(|rest| rest.split(end).next().unwrap().to_owned()).collect()
    };
    same("alerts", &after(&tests, "alertname=\"", '"'), &after(&alerts, "- alert: ", '\n'));
}

/// Goal: the dashboard loads and each panel has data. Method: its JSON has what Grafana needs, no panel is without a query
/// or overlaps another one, and each query asks for what is on the page.
#[test]
fn the_dashboard_asks_only_for_what_is_on_the_page() {
    let (page, dashboard) = (Page::read(), dashboard());
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&Value::from("roundlot"), &Value::from("roundlot")));
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(variables, ["datasource", "batcher"]);
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id stands twice: {panel}");
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(x < 24 && cells.insert((x, y)), "a panel overlaps another one: {}", panel["title"]);
            }
        }
        let has_queries = panel["targets"].as_array().is_some_and(|targets| !targets.is_empty());
        assert!(has_queries || panel["type"] == "row", "no query: {panel}");
    }
    asks_for_known_metrics(&page, DASHBOARD, &read(DASHBOARD));
    for query in queries(&dashboard) {
        asks_for_known_labels(&page, DASHBOARD, &query);
        assert_eq!(names(&query).is_empty(), query.is_empty(), "{query}");
    }
}

/// Goal: each metric of a batcher is on the dashboard. Method: the metrics of the page that no query asks for.
#[test]
fn the_dashboard_shows_every_metric() {
    let (page, text) = (Page::read(), read(DASHBOARD));
    let shown = names(&text);
    for (name, _) in page.metrics.iter().filter(|(_, row)| !row.is_of_letters) {
        assert!(shown.iter().any(|shown| shown.starts_with(name.as_str())), "{name} is in no panel");
    }
}

/// Goal: every query of the dashboard is valid PromQL. Method: `promtool` reads them as recording rules.
#[test]
#[ignore = "takes promtool; tests/run.sh installs it"]
fn promtool_reads_every_query_of_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.json"); // YAML, of which JSON is a part
    let queries = queries(&dashboard());
    let rule = |(n, expr): (usize, &String)| serde_json::json!({ "record": format!("query:{n}"), "expr": expr });
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&path, file.to_string()).unwrap();
    let output = Command::new("promtool").args(["check", "rules"]).arg(&path).output().expect("promtool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = format!("{} rules found", queries.len());
    assert!(String::from_utf8_lossy(&output.stdout).contains(&found), "{output:?}");
}
