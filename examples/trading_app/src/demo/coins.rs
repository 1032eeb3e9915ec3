//! The coins of the simulated feed and their usual prices. `sim` starts its random walks there.

/// A coin, and its price in dollars as a text with all its digits.
pub struct Coin {
    pub name: &'static str,
    pub price: &'static str,
}

/// Coins by the turnover of their markets, at round prices of the middle of 2025.
#[rustfmt::skip]
pub const COINS: [Coin; 25] = [
    coin("BTC", "105000"), coin("ETH", "2600"), coin("SOL", "155"), coin("XRP", "2.2"), coin("BNB", "650"),
    coin("DOGE", "0.18"), coin("ADA", "0.65"), coin("TRX", "0.28"), coin("AVAX", "19"), coin("LINK", "14"),
    coin("SUI", "3"), coin("XLM", "0.26"), coin("BCH", "480"), coin("HBAR", "0.16"), coin("LTC", "88"),
    coin("TON", "3"), coin("DOT", "3.8"), coin("UNI", "7"), coin("NEAR", "2.3"), coin("APT", "4.7"),
    coin("ICP", "5.2"), coin("ETC", "17"), coin("AAVE", "270"), coin("ATOM", "4.2"), coin("FIL", "2.5"),
];

/// Currencies that the coins are priced in, all worth a dollar.
pub const QUOTES: [&str; 4] = ["USDT", "USDC", "FDUSD", "USD"];

const fn coin(name: &'static str, price: &'static str) -> Coin {
    Coin { name, price }
}
