//! A headless Chromium: opens pages, awaits conditions, takes screenshots, and collects console errors.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder, Locator, wd::WebDriverCompatibleCommand};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

/// Maximum time of any step: far longer than a step takes, so only a failing test waits it out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two checks of a condition.
const LOOK: Duration = Duration::from_millis(50);

pub struct Browser {
    pub client: Client,
    /// Ended, with the browser, when this is dropped.
    _driver: Child,
    _profile: TempDir,
}

/// Runs a test in a browser of its own, which is closed however the test ends.
pub async fn with<F, Fut>(test: F)
where
    F: FnOnce(Client) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let browser = Browser::start().await;
    let outcome = tokio::spawn(test(browser.client.clone())).await;
    browser.client.close().await.unwrap();
    outcome.unwrap();
}

impl Browser {
    async fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut driver = command.spawn().expect("chromedriver is missing; tests/run.sh installs it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver ended before it listened");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
        ];
        let mut options = options.map(str::to_owned).to_vec();
        options.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "goog:chromeOptions": { "args": options }, "goog:loggingPrefs": { "browser": "ALL" } });
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(wanted.as_object().unwrap().clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        Self { client, _driver: driver, _profile: profile }
    }
}

/// Waits until a script says something other than null, false, zero or nothing, and returns it.
pub async fn until(client: &Client, what: &str, script: &str) -> Value {
    let began = Instant::now();
    loop {
        let said = client.execute(script, vec![]).await.unwrap();
        if !matches!(said, Value::Null | Value::Bool(false)) && said != json!(0) && said != json!("") {
            return said;
        }
        assert!(began.elapsed() < PATIENCE, "it never came to this: {what}");
        sleep(LOOK).await;
    }
}

/// Opens a page and waits until it lives.
pub async fn open_board(client: &Client, address: &str) {
    client.goto(address).await.unwrap();
    until(client, "the page is live", "return document.body.dataset.link === 'live'").await;
}

/// Opens the page of the app and waits until it lives, and has pairs.
pub async fn open(client: &Client, address: &str) {
    open_board(client, address).await;
    until(client, "there are pairs", "return document.querySelectorAll('#pairs li').length").await;
}

pub async fn text(client: &Client, css: &str) -> String {
    client.find(Locator::Css(css)).await.unwrap().text().await.unwrap()
}

pub async fn click(client: &Client, css: &str) {
    client.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
}

/// Types keys into the element that has the focus.
pub async fn press(client: &Client, keys: &str) {
    client.active_element().await.unwrap().send_keys(keys).await.unwrap();
}

/// A command of Chromium's own protocol.
pub async fn devtools(client: &Client, name: &str, parameters: Value) -> Value {
    let body = json!({ "cmd": name, "params": parameters });
    client.issue_cmd(Own { path: "goog/cdp/execute", body }).await.unwrap()
}

/// The size of the screen, in CSS pixels.
pub async fn screen(client: &Client, width: u32, height: u32, phone: bool) {
    let size =
        json!({ "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone });
    devtools(client, "Emulation.setDeviceMetricsOverride", size).await;
}

pub async fn theme(client: &Client, name: &str) {
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": name }] });
    devtools(client, "Emulation.setEmulatedMedia", features).await;
}

/// Saves what is on the screen under `target/`.
pub async fn screenshot(client: &Client, name: &str) -> PathBuf {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let path = target.join(format!("page-{name}.png"));
    fs::write(&path, client.screenshot().await.unwrap()).unwrap();
    path
}

/// Returns the complaints of the console, violations of the content policy included, without the expected ones.
pub async fn complaints(client: &Client, expected: &[&str]) -> Vec<String> {
    let log = client.issue_cmd(Own { path: "se/log", body: json!({ "type": "browser" }) }).await.unwrap();
    let lines = log.as_array().unwrap().iter().filter(|line| line["level"] != "INFO" && line["level"] != "DEBUG");
    let lines = lines.map(|line| line["message"].as_str().unwrap().to_owned());
    lines.filter(|line| !expected.iter().any(|words| line.contains(words))).collect()
}

/// A command that is not of the WebDriver standard.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
