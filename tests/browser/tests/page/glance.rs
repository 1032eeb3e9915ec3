//! Tests of the parts that are read at a glance: values under the pointer, positions, errors, the account of operations, the
//! search, the contrast of the text in both themes, and the fold of a desktop and of a phone.

use fantoccini::Client;
use serde_json::{Value, json};

use crate::{
    app::App,
    browser::{click, complaints, devtools, open, press, screen, screenshot, text, theme, until, with},
};

/// Script that returns the middle of an element and its text.
fn middle(css: &str) -> String {
    format!(
        "const box = document.querySelector('{css}').getBoundingClientRect();
         return {{ x: box.left + box.width * 0.9, y: box.top + box.height / 2 }};"
    )
}

/// Moves the mouse to an element.
async fn hover(client: &Client, css: &str) {
    let place = client.execute(&middle(css), vec![]).await.unwrap();
    let event = json!({ "type": "mouseMoved", "x": place["x"], "y": place["y"] });
    devtools(client, "Input.dispatchMouseEvent", event).await;
}

/// Script that returns the amount in an element as a number.
const AMOUNT: &str = "const amount = (css) =>
    Number(document.querySelector(css).textContent.replace('−', '-').replace(/[+,]/g, ''));";

/// Goal: each chart has marks with units, and shows the value and the time at the pointer, a finger and the keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn charts_have_scales_and_values_under_the_pointer() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        until(&client, "ten seconds of samples", "return state.samples.length > 20").await;
        let marks = "return [...document.querySelectorAll('.chart')].map((chart) => [
            chart.querySelectorAll('.marks-y span').length, chart.querySelectorAll('.marks-x span').length,
        ]).filter(([y, x]) => y < 2 || x < 2).length";
        assert_eq!(client.execute(marks, vec![]).await.unwrap(), 0, "a chart has no marks");
        let charts = "return document.querySelectorAll('.chart').length";
        assert_eq!(client.execute(charts, vec![]).await.unwrap(), 1 + 3 * 8);

        let latency = "article[data-batcher=orders] [data-chart=latency]";
        let tip = |css: &str| {
            format!("const tip = document.querySelector('{css} .tip'); return !tip.hidden && tip.textContent")
        };
        hover(&client, latency).await;
        let said = until(&client, "a tip", &tip(latency)).await;
        let lines: Vec<&str> = said.as_str().unwrap().lines().collect();
        assert!(lines[0].ends_with("s ago"), "{said}");
        for (line, name) in lines[1..].iter().zip(["p50 ", "p99 ", "max "]) {
            assert!(line.starts_with(name) && line.ends_with('s') && line.contains(char::is_numeric), "{said}");
        }
        hover(&client, "#equity-chart .plot").await;
        let said = until(&client, "a tip on equity", &tip("#equity-chart .plot")).await;
        assert!(said.as_str().unwrap().contains("after the start\n"), "{said}");
        let left = format!("return document.querySelector('{latency} .tip').hidden");
        until(&client, "the first tip is gone", &left).await;

        let rate = "article[data-batcher=prices] [data-chart=rate]";
        client.execute(&format!("document.querySelector('{rate}').focus()"), vec![]).await.unwrap();
        press(&client, "\u{e012}").await;
        let now = until(&client, "the arrow keys show a value", &tip(rate)).await;
        for _ in 0..4 {
            press(&client, "\u{e012}").await;
        }
        until(&client, "they go back in time", &format!("{} && tip.textContent !== {now}", tip(rate))).await;
        press(&client, "\u{e00c}").await;
        until(&client, "escape ends it", &format!("return document.querySelector('{rate} .tip').hidden")).await;

        let touch = client.execute(&middle(rate), vec![]).await.unwrap();
        let points = json!([{ "x": touch["x"], "y": touch["y"] }]);
        let event = json!({ "type": "touchStart", "touchPoints": points });
        devtools(&client, "Input.dispatchTouchEvent", event).await;
        until(&client, "a finger shows a value", &tip(rate)).await;
        assert_eq!(complaints(&client, &[]).await, [""; 0]);
    })
    .await;
    drop(app);
}

/// Goal: positions with their profit, errors by reason and the account of operations appear, and add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn tables_appear_and_add_up() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        until(&client, "positions", "return document.querySelectorAll('#positions tr').length > 2").await;
        let cells = "return [...document.querySelector('#positions tr').children].map((cell) => cell.textContent)";
        let cells = client.execute(cells, vec![]).await.unwrap();
        let cells: Vec<&str> = cells.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(cells.len() == 6 && cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
        // Each amount is rounded by itself: three of them are off by two cents at most.
        let adds = format!(
            "{AMOUNT} const profit = document.getElementById('profit').textContent.split(' ')[0];
             document.getElementById('profit').dataset.sum = profit;
             return Math.abs(Number(profit.replace('−', '-').replace(/[+,]/g, ''))
                 - amount('#sum-unrealized') - amount('#sum-realized')) < 0.021"
        );
        until(&client, "the profit is realized and open", &adds).await;
        let line = "return document.querySelector('[data-chart=equity] .line').getAttribute('d').length > 60";
        until(&client, "an equity curve", line).await;

        let refused = "return [...document.querySelectorAll('#errors tr')].map((row) => row.textContent).find(
            (row) => row.includes('refused') && row.includes('there is no such order'))";
        until(&client, "errors by reason", refused).await;
        let counted = "const all = [...document.querySelectorAll('#errors tr')].map((row) =>
                Number(row.children[3].textContent.replaceAll(',', ''))).reduce((sum, n) => sum + n, 0);
            return all > 0 && document.getElementById('error-count').textContent === all.toLocaleString('en-US')";
        until(&client, "the errors are summed up", counted).await;

        until(&client, "the account", "return document.querySelectorAll('#account tr').length >= 6").await;
        let column = "const number = (text) => Number(text.replaceAll(',', '').replace('–', '0'));
            const sums = [1, 2, 3, 4].map((i) => [...document.querySelectorAll('#account tr')]
                .reduce((sum, row) => sum + number(row.children[i].textContent), 0));
            return sums.every((sum, i) => sum > 0 && sum === number(document.getElementById('accepted').children[i + 1].textContent))";
        assert_eq!(client.execute(column, vec![]).await.unwrap(), true, "accepted is the sum of all ends");
        assert_eq!(text(&client, "#account-note").await, "each column adds up");
    })
    .await;
    drop(app);
}

/// Goal: the panel of orders has what is used of each limit of the venue, and no other panel has limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn the_limits_of_the_venue_are_in_the_panel_of_orders() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        let rows = "const rows = [...document.querySelectorAll('[data-batcher=orders] [data-is=buckets] li')].map((row) => {
                const [used, limit] = row.lastElementChild.textContent.split(' / ').map((text) => Number(text.replaceAll(',', '')));
                const meter = row.querySelector('meter');
                return { name: row.firstElementChild.textContent, used, limit, fits: Math.abs(meter.value - used / limit) < 1e-6 };
            });
            return rows.length === 3 && rows.every(({ used, fits }) => used > 0 && fits) && rows";
        let rows = until(&client, "something is used of each limit", rows).await;
        let of = |i: usize| (rows[i]["name"].as_str().unwrap(), rows[i]["limit"].as_u64().unwrap());
        assert_eq!([0, 1, 2].map(of), [("orders_10s", 10_000), ("calls_1m", 48_000), ("weight_1m", 60_000)]);
        let hidden = "return [...document.querySelectorAll('[data-is=quota]')].map((part) => part.hidden)";
        assert_eq!(client.execute(hidden, vec![]).await.unwrap(), json!([true, false, true]));
    })
    .await;
    drop(app);
}

/// Goal: the search shows the pairs with these letters, and says how many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn the_search_filters_the_pairs() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        until(&client, "all pairs", "return document.querySelectorAll('#pairs li').length === 100").await;
        click(&client, "h1").await;
        client.active_element().await.unwrap().send_keys("/").await.unwrap();
        until(&client, "the slash leads to it", "return document.activeElement.id === 'search'").await;
        press(&client, "btc").await;
        let names = "const names = [...document.querySelectorAll('#pairs .name span:first-child')].map((name) => name.textContent);";
        let found = format!("{names} return names.length > 0 && names.length < 20 && names.every((name) => name.includes('BTC'))");
        until(&client, "pairs of BTC only", &found).await;
        assert!(text(&client, "#pairs-note").await.ends_with(" of 100"));
        let moving = format!("{names} window.price ??= document.querySelector('#pairs .price').textContent;
            return document.querySelector('#pairs .price').textContent !== window.price");
        until(&client, "prices go on", &moving).await;
        press(&client, "xyz").await;
        assert_eq!(text(&client, "#no-pairs").await, "No pair has “BTCXYZ” in its name.");
        press(&client, "\u{e00c}").await;
        until(&client, "all are back", "return document.querySelectorAll('#pairs li').length === 100").await;
    })
    .await;
    drop(app);
}

/// Goal: an outage of a destination is said in words, and a pair without prices looks stale. Method: an event of the venue
/// being away, as the app would send it; the next true event takes it back. The clock of the page runs ahead for the pair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn what_is_away_or_stale_is_said() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        open(&client, &address).await;
        until(&client, "batchers", "return document.querySelectorAll('article').length === 3").await;
        let away = "return import('/state.js').then(({ take }) => new Promise((done) => {
            const { orders } = state.batchers;
            take({ ...orders, stats: { ...orders.stats, in_outage: true } });
            requestAnimationFrame(() => requestAnimationFrame(() => done(
                document.querySelector('[data-batcher=orders] [data-is=state]').textContent === 'venue away'
                && document.getElementById('now').textContent.startsWith('Venue is away, '))));
        }))";
        until(&client, "the venue is away", away).await;
        let back = "return document.getElementById('now').textContent === 'All three batchers run.'";
        until(&client, "it is back", back).await;
        let stale =
            "state.pairs.set('AAA', { way: [], price: '1', open: '1', changed: true, heard: Date.now() - 45_000 });
            const tile = document.querySelector('#pairs li');
            return tile.dataset.stale === 'stale' && tile.querySelector('.name').textContent";
        let said = until(&client, "a pair is stale", stale).await;
        assert_eq!(said, "AAA45 s ago");
    })
    .await;
    drop(app);
}

/// Script that returns each key text whose contrast with what is behind it is below 4.5, as the WCAG ask at level AA.
const FAINT: &str = "
    const channel = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
    const color = (text) => text.match(/[\\d.]+/g).map(Number);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, a = 1] = color(getComputedStyle(at).backgroundColor);
            if (a === 1) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll(
        'h1, h2, .sub, dt, dd, #profit, #link, #now, #said, label, .state, .title, figcaption b, .quota li span, .marks-y span, .marks-x span, th, td, '
        + 'td b, #pairs .name span, #pairs .price, #foot, button:enabled, dialog li')];
    const shown = texts.filter((element) => element.textContent.trim() && element.getClientRects().length);
    const pairs = shown.map((element) => {
        const [low, high] = [color(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => a - b);
        return [`${element.tagName} ${element.id || element.className} ${element.textContent.slice(0, 20)}`, (high + 0.05) / (low + 0.05)];
    });
    return { count: pairs.length, faint: pairs.filter(([, contrast]) => contrast < 4.5) };";

/// Goal: both themes can be read, what matters most is above the fold, and a phone does not scroll sideways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn both_themes_have_contrast_and_the_fold_shows_what_matters() {
    let app = App::start().await;
    let address = app.address.clone();
    with(async move |client: Client| {
        screen(&client, 1440, 900, false).await;
        theme(&client, "light").await;
        open(&client, &address).await;
        until(&client, "positions", "return document.querySelectorAll('#positions tr').length > 5").await;
        until(&client, "errors", "return document.querySelectorAll('#errors tr').length > 0").await;
        until(&client, "verdicts", "return document.querySelectorAll('#verdicts tr').length > 10").await;
        until(&client, "charts", "return state.samples.length > 20").await;
        for name in ["light", "dark"] {
            theme(&client, name).await;
            let looked = client.execute(FAINT, vec![]).await.unwrap();
            assert!(looked["count"].as_u64().unwrap() > 300, "{looked}");
            assert_eq!(looked["faint"], json!([]), "{name}");
        }
        let below = |parts: &str, fold: u32| {
            format!(
                "return [{parts}].filter((css) => {{
                     const boxes = [...document.querySelectorAll(css)].map((element) => element.getBoundingClientRect());
                     return boxes.length === 0 || boxes.some(({{ bottom, height }}) => height === 0 || bottom > {fold});
                 }})"
            )
        };
        let desktop = "'#kill', '#equity', '#rate', '#error-count', '#equity-chart', '.positions', '[data-is=state]',
            '[data-chart=rate]', '[data-chart=latency]', '[data-chart=size]'";
        assert_eq!(client.execute(&below(desktop, 900), vec![]).await.unwrap(), json!([]));
        screenshot(&client, "fold").await;
        screen(&client, 390, 844, true).await;
        let phone = "'#kill', '#link', '#now', '#equity', '#profit', '#rate', '#error-count', '#equity-chart'";
        assert_eq!(client.execute(&below(phone, 844), vec![]).await.unwrap(), json!([]));
        let sideways = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(client.execute(sideways, vec![]).await.unwrap(), 0);
        let cut = "return [...document.querySelectorAll('.scroll')].filter((region) =>
            region.scrollWidth > region.clientWidth).map((region) => region.getAttribute('aria-label'))";
        assert_eq!(client.execute(cut, vec![]).await.unwrap(), json!([]), "a table is cut off on a phone");
        screenshot(&client, "phone-fold").await;
    })
    .await;
    drop(app);
}
