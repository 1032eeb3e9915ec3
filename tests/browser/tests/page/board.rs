//! Tests of a board that another program has mounted under a path beside its own routes, without panels.

use fantoccini::{Client, Locator};

use crate::{
    app::App,
    browser::{click, complaints, open_board, screen, screenshot, text, until, with},
};

/// Goal: a board by itself shows its batchers, their times and errors, and its buttons work. Method: the example `mounted`, whose venue fails
/// now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn a_mounted_board_shows_and_controls_its_batchers() {
    let app = App::mounted().await;
    let (address, token) = (app.address.clone(), app.token.clone());
    assert!(address.ends_with("/board"), "{address}");
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open_board(&client, &address).await;
        let names = "return [...document.querySelectorAll('article h2')].map((name) => name.textContent).join(' ') === 'prices orders'";
        until(&client, "two batchers in their order", names).await;
        until(&client, "samples", "return state.samples.length > 6").await;
        for batcher in ["prices", "orders"] {
            for chart in ["rate", "latency", "size", "waiting"] {
                let line = format!(
                    "return document.querySelector('[data-batcher={batcher}] [data-chart={chart}] .line.main').getAttribute('d').length > 10"
                );
                until(&client, &format!("{batcher}: {chart} has a line"), &line).await;
            }
        }
        let account = "return [...document.querySelectorAll('#account-names th')].map((name) => name.textContent).join()";
        assert_eq!(client.execute(account, vec![]).await.unwrap(), ",prices,orders,all,share");
        until(&client, "the account adds up", "return document.getElementById('account-note').dataset.adds").await;
        until(&client, "an error", "return document.querySelector('#errors td:nth-child(3)')?.textContent === 'busy'").await;
        until(&client, "times", "return document.getElementById('slowest-p99').textContent.startsWith('in ')").await;
        assert_eq!(text(&client, "#now").await, "Both batchers run.");
        screenshot(&client, "board").await;

        client.find(Locator::Css("#token")).await.unwrap().send_keys(&token).await.unwrap();
        click(&client, "#unlock button").await;
        until(&client, "it is unlocked", "return document.getElementById('unlock').hidden").await;
        click(&client, "[data-batcher=orders] [data-do=pause]").await;
        let paused = "return document.querySelector('[data-batcher=orders] [data-is=state]').textContent === 'paused'";
        until(&client, "orders are paused", paused).await;
        click(&client, "[data-batcher=orders] [data-do=resume]").await;
        let running = "return document.querySelector('[data-batcher=orders] [data-is=state]').textContent === 'running'";
        until(&client, "orders run", running).await;
        click(&client, "[data-batcher=prices] [data-do=flush]").await;
        let said = "return document.getElementById('said').textContent.startsWith('prices flushed: since the last flush')";
        until(&client, "it says so", said).await;

        screen(&client, 390, 844, true).await;
        let sideways = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(client.execute(sideways, vec![]).await.unwrap(), 0);
        screenshot(&client, "board-phone").await;
        assert_eq!(complaints(&client, &[]).await, [""; 0]);
    })
    .await;
    drop(app);
}
