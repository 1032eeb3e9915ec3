//! Tests of the page in normal use: prices move, charts have lines, and no element is wider than the screen.

use fantoccini::Client;

use crate::{
    app::App,
    browser::{complaints, open, screen, screenshot, text, theme, until, with},
};

/// Script that names the elements wider than the screen, if the page can be scrolled sideways.
const TOO_WIDE: &str = "
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const wide = [...document.body.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > clientWidth);
    return [scrollWidth, ...wide.map((e) => `${e.tagName} ${e.className} ${e.id}`)];";

/// Goal: the page loads without complaints, moves, and shows all its parts. Method: look for each part, and at the
/// console.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn it_loads_moves_and_is_looked_at() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        until(&client, "all pairs are there", "return document.querySelectorAll('#pairs .price').length === 100").await;
        let prices = "[...document.querySelectorAll('#pairs .price')].map((price) => price.textContent)";
        client.execute(&format!("window.before = {prices}"), vec![]).await.unwrap();
        let moved = format!("return {prices}.filter((price, i) => price !== window.before[i]).length > 50");
        until(&client, "most prices have moved", &moved).await;

        for batcher in ["prices", "orders", "trades"] {
            let find = format!("const batcher = document.querySelector('article[data-batcher={batcher}]');");
            for chart in ["rate", "latency", "size", "fill", "merged", "retries", "waiting"] {
                let line = format!(
                    "{find} return batcher.querySelector('[data-chart={chart}] .line.main').getAttribute('d').length > 20"
                );
                until(&client, &format!("{batcher}: {chart} has a line"), &line).await;
            }
            let bars =
                "[...batcher.querySelectorAll('[data-chart=times] rect')].filter((bar) => bar.getAttribute('height') > 1)";
            until(&client, "times in the buffer", &format!("{find} return {bars}.length")).await;
            until(
                &client,
                "reasons of cuts",
                &format!("{find} return batcher.querySelectorAll('[data-is=legend] li').length"),
            )
            .await;
            until(
                &client,
                "a rate",
                &format!("{find} return /^[1-9]/.test(batcher.querySelector('.chart:has([data-chart=rate]) b').textContent)"),
            )
            .await;
        }
        until(&client, "verdicts", "return document.querySelectorAll('#verdicts tr').length >= 10").await;
        until(&client, "frames saved", "return /[1-9][0-9,]* frames were saved/.test(document.getElementById('foot').textContent)").await;
        until(&client, "half a minute of charts", "return state.samples.length > 60").await;

        for name in ["light", "dark"] {
            theme(&client, name).await;
            screen(&client, 1440, 1900, false).await;
            screenshot(&client, name).await;
            screen(&client, 360, 780, true).await;
            let wide = client.execute(TOO_WIDE, vec![]).await.unwrap();
            assert_eq!(wide, serde_json::json!([]), "a phone would scroll sideways");
            screenshot(&client, &format!("phone-{name}")).await;
        }
        screen(&client, 360, 2600, false).await;
        screenshot(&client, "phone-whole").await;
        assert_eq!(text(&client, "#link-text").await, "live");
        assert_eq!(complaints(&client, &[]).await, [""; 0]);
    })
    .await;
    drop(app);
}
