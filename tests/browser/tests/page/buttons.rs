//! Tests of the page's buttons: unlocked by the token, they pause and resume batchers and empty the buffer of orders.

use fantoccini::{Client, Locator};

use crate::{
    app::App,
    browser::{click, complaints, open, screen, screenshot, text, until, with},
};

const WAITING: &str = "return Number(document.querySelector('article[data-batcher=orders]').dataset.waiting)";

async fn type_token(client: &Client, token: &str) {
    let field = client.find(Locator::Css("#token")).await.unwrap();
    field.clear().await.unwrap();
    field.send_keys(token).await.unwrap();
    click(client, "#unlock button").await;
}

async fn said(client: &Client, words: &str) {
    until(client, words, &format!("return document.getElementById('said').textContent.includes('{words}')")).await;
}

async fn state(client: &Client, batcher: &str, words: &str) {
    let script = format!(
        "return document.querySelector('article[data-batcher={batcher}] [data-is=state]').textContent === '{words}'"
    );
    until(client, &format!("{batcher} is {words}"), &script).await;
}

/// Goal: the buttons need the token; with it the kill switch empties the buffer, which stays empty until
/// orders are resumed. Method: pause, wait for orders that wait, withdraw them, resume.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn the_kill_switch_empties_the_buffer() {
    let app = App::start().await;
    let (address, token) = (app.address.clone(), app.token.clone());
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        until(&client, "the batchers are shown", "return document.querySelectorAll('article').length === 3").await;
        let usable =
            "return [...document.querySelectorAll('button[data-do]')].filter((button) => !button.disabled).length";
        assert_eq!(client.execute(usable, vec![]).await.unwrap(), 0);

        type_token(&client, "0000-0000-0000").await;
        said(&client, "that is not the token").await;
        assert_eq!(client.execute(usable, vec![]).await.unwrap(), 0);
        type_token(&client, &token).await;
        said(&client, "the buttons are unlocked").await;
        assert_eq!(client.execute(usable, vec![]).await.unwrap(), 10);
        assert!(client.find(Locator::Css("#kill")).await.unwrap().is_enabled().await.unwrap());
        assert!(!client.source().await.unwrap().contains(&token), "the token is nowhere on the page");

        click(&client, "article[data-batcher=orders] [data-do=pause]").await;
        state(&client, "orders", "paused").await;
        until(&client, "orders wait", &format!("{WAITING} > 50")).await;
        // The kill switch asks first, and a no has no effect.
        click(&client, "#kill").await;
        until(&client, "it asks", "return document.getElementById('sure').open").await;
        screenshot(&client, "sure").await;
        screen(&client, 360, 780, true).await;
        screenshot(&client, "phone-sure").await;
        let inside = "const { left, right, bottom } = document.getElementById('sure').getBoundingClientRect();
            return left >= 0 && right <= 360 && bottom <= 780";
        assert_eq!(client.execute(inside, vec![]).await.unwrap(), true);
        screen(&client, 1440, 900, false).await;
        click(&client, "#never-mind").await;
        until(&client, "it asks no more", "return !document.getElementById('sure').open").await;
        assert_eq!(client.execute("return state.batchers.orders.halted", vec![]).await.unwrap(), false);
        state(&client, "orders", "paused").await;
        click(&client, "#kill").await;
        click(&client, "#kill-now").await;
        said(&client, "waiting orders withdrawn").await;
        let told = text(&client, "#said").await;
        assert!(!told.starts_with("0 "), "there were some: {told}");
        for words in
            ["let go: ", "canceled at the venue, 0 failed", "that reduce stay there", "until orders are resumed"]
        {
            assert!(told.contains(words), "{told}");
        }
        state(&client, "orders", "halted").await;
        until(&client, "none waits", &format!("{WAITING} === 0")).await;
        // Prices go on, and the bot makes no new orders of them.
        let passed = "window.seen ??= state.app.seconds; return state.app.seconds - window.seen > 1.5";
        until(&client, "some time passes", passed).await;
        assert_eq!(client.execute(WAITING, vec![]).await.unwrap(), 0);
        screenshot(&client, "halted").await;
        // The kill switch is used again, from the keyboard: it finds no order to withdraw.
        client.execute("document.getElementById('kill').focus()", vec![]).await.unwrap();
        client.active_element().await.unwrap().send_keys("\u{e007}").await.unwrap();
        until(&client, "it asks again", "return document.activeElement.id === 'kill-now'").await;
        client.active_element().await.unwrap().send_keys("\u{e007}").await.unwrap();
        said(&client, "0 waiting orders withdrawn").await;

        click(&client, "article[data-batcher=orders] [data-do=resume]").await;
        state(&client, "orders", "running").await;
        click(&client, "article[data-batcher=trades] [data-do=flush]").await;
        said(&client, "trades flushed: since the last flush").await;
        let rate = "return /^[1-9]/.test(document.querySelector('[data-batcher=orders] .chart:has([data-chart=rate]) b').textContent)";
        until(&client, "the bot trades again", rate).await;

        // The page is loaded anew, and knows the pass; locked, it doesn't.
        client.refresh().await.unwrap();
        until(&client, "it is unlocked", "return document.getElementById('unlock').hidden").await;
        click(&client, "#lock").await;
        assert_eq!(client.execute(usable, vec![]).await.unwrap(), 0);
        assert_eq!(complaints(&client, &["401"]).await, [""; 0]);
    })
    .await;
    drop(app);
}
