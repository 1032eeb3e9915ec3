//! Tests of the page during a restart of the app: it says that the app is away, and goes on afterwards.

use fantoccini::Client;

use crate::{
    app::App,
    browser::{complaints, open, screen, screenshot, until, with},
};

/// Goal: a page that is left open survives a restart of the app. Method: kill it, see the page say so, start it again at
/// the same address, see the prices of the new run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn a_restart_is_survived() {
    let app = App::start().await;
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &app.address).await;
        let run = until(&client, "the run is known", "return state.app?.run").await;
        let stopped = app.stop().await;
        until(&client, "the page says that it is lost", "return document.body.dataset.link === 'lost'").await;
        let words = until(&client, "in words", "return document.getElementById('link-text').textContent").await;
        assert_eq!(words, "connection lost, trying again");
        screenshot(&client, "lost").await;
        let old = stopped.token.clone();
        let app = stopped.start_again().await;
        until(&client, "it is live again", "return document.body.dataset.link === 'live'").await;
        let again =
            until(&client, "the new run is known", &format!("return state.app?.run !== {run} && state.app?.run")).await;
        assert_ne!((run, old), (again, app.token.clone()));
        until(&client, "prices move again", "return state.samples.length > 2 && state.pairs.size === 100").await;
        assert_eq!(complaints(&client, &["ERR_CONNECTION_REFUSED", "Connection closed before"]).await, [""; 0]);
    })
    .await;
}
