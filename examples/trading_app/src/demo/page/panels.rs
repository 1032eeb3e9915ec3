//! The parts of the page that are the app's own, and the button that stops trading.

use roundlot_board::{Panel, StopButton};

pub const STOP: StopButton = StopButton {
    batcher: "orders",
    label: "Stop trading",
    question: "Stop trading?",
    effects: &[
        "The bot is halted until orders are resumed.",
        "Waiting orders that add risk are withdrawn.",
        "Cancels, moved stops and orders that only reduce a position leave.",
        "Orders at the venue are canceled, but for those that only reduce a position. Positions stay.",
    ],
    yes: "Stop trading now",
    no: "Go on trading",
};

/// Equity and positions, the latest orders, and the prices of all pairs.
pub fn all() -> [Panel; 3] {
    let portfolio = Panel::new("portfolio")
        .figures(include_str!("assets/lead.html"))
        .top(include_str!("assets/portfolio.html"))
        .script(include_str!("assets/portfolio.js"))
        .style(include_str!("assets/portfolio.css"));
    let orders = Panel::new("orders")
        .bottom(include_str!("assets/markets.html"))
        .script(include_str!("assets/orders.js"))
        .style(include_str!("assets/markets.css"));
    [portfolio, orders, Panel::new("pairs").script(include_str!("assets/pairs.js"))]
}
