//! The files of the page, which are in the program. `server` has a route for each.

/// A file and its path in a URL.
pub struct Asset {
    pub path: &'static str,
    /// Media type of its text.
    pub kind: &'static str,
    pub text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($path:literal, $kind:ident, $file:literal) => {
        Asset { path: $path, kind: $kind, text: include_str!(concat!("assets/", $file)) }
    };
}

pub const ASSETS: &[Asset] = &[
    asset!("/", HTML, "page.html"),
    asset!("/page.css", CSS, "page.css"),
    asset!("/chart.css", CSS, "chart.css"),
    asset!("/page.js", JS, "page.js"),
    asset!("/account.js", JS, "account.js"),
    asset!("/batcher.js", JS, "batcher.js"),
    asset!("/chart.js", JS, "chart.js"),
    asset!("/connection.js", JS, "connection.js"),
    asset!("/controls.js", JS, "controls.js"),
    asset!("/dom.js", JS, "dom.js"),
    asset!("/errors.js", JS, "errors.js"),
    asset!("/figures.js", JS, "figures.js"),
    asset!("/format.js", JS, "format.js"),
    asset!("/histogram.js", JS, "histogram.js"),
    asset!("/orders.js", JS, "orders.js"),
    asset!("/pairs.js", JS, "pairs.js"),
    asset!("/portfolio.js", JS, "portfolio.js"),
    asset!("/scale.js", JS, "scale.js"),
    asset!("/state.js", JS, "state.js"),
];
