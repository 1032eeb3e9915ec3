//! Tests of the page without its app: it says that the app is away, or that the run has ended, and goes on with the next.

use fantoccini::Client;

use crate::{
    app::App,
    browser::{complaints, open, screen, screenshot, text, until, with},
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
        let now = text(&client, "#now").await;
        assert!(now.contains("it may still run. The page shows the state of "), "{now}");
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

/// Goal: the page tells the end of a run from a lost connection. Method: SIGTERM; the page shows the last figures, also
/// after it has tried to connect again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn the_end_of_a_run_is_told() {
    let app = App::start().await;
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &app.address).await;
        until(&client, "operations", "return state.app?.operations > 1000").await;
        app.terminate().await;
        until(&client, "the page says that the run has ended", "return document.body.dataset.link === 'ended'").await;
        until(
            &client,
            "orders have ended",
            "return document.querySelector('[data-batcher=orders] .state').textContent === 'ended'",
        )
        .await;
        screen(&client, 390, 844, true).await;
        let sideways = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(client.execute(sideways, vec![]).await.unwrap(), 0);
        screenshot(&client, "phone-ended").await;
        screen(&client, 1440, 900, false).await;
        screenshot(&client, "ended").await;
        let count_sockets = "
            window.tries = 0;
            window.WebSocket = class extends WebSocket { constructor(...all) { super(...all); window.tries += 1; } };";
        client.execute(count_sockets, vec![]).await.unwrap();
        until(&client, "two more attempts to connect", "return window.tries > 1").await;
        let operations = "return state.ended.operations.toLocaleString('en-US')";
        let operations = client.execute(operations, vec![]).await.unwrap();
        let told = format!(
            "The app has ended, after {} operations, all of them settled. The page shows its last moments.",
            operations.as_str().unwrap()
        );
        assert_eq!(text(&client, "#now").await, told);
        assert_eq!(text(&client, "#accepted td:nth-of-type(4)").await, operations.as_str().unwrap());
        assert_eq!(text(&client, "#link-text").await, "the run has ended, waiting for the next");
    })
    .await;
}
