//! [`BatcherConfig`]: limits and retries of one batcher together, as a section of a configuration file.

use serde::{Deserialize, Serialize};

use crate::rules::{
    config::{limits::Limits, retry::Retry},
    quota::QuotaConfig,
};

/// The settings of one batcher that belong in a configuration file: the tables `limits`, `retry` and `quota`. What is left out
/// has its default; an unknown name is an error, and so is a value out of its range.
///
/// [`Batcher::config`](crate::Batcher::config) takes it. Stages and sinks are code.
///
/// # Examples
///
/// The sections of two batchers in one file:
///
/// ```
/// use std::time::Duration;
/// use roundlot::{BatcherConfig, Limits, Retry};
///
/// #[derive(serde::Deserialize)]
/// struct App { orders: BatcherConfig, trades: BatcherConfig }
///
/// let app: App = toml::from_str(
///     r#"
///     [orders.limits]
///     max_items = 20
///     linger = "5ms"
///
///     [orders.retry]
///     max_attempts = 5
///
///     [trades.limits]
///     max_items = 1000
///     "#,
/// )?;
/// let limits = Limits::new(20).linger(Duration::from_millis(5));
/// assert_eq!(app.orders, BatcherConfig::new(limits).retry(Retry::default().max_attempts(5)));
/// assert_eq!(app.trades, BatcherConfig::new(1000));
///
/// let error = toml::from_str::<BatcherConfig>("[retries]\nmax_attempts = 5").unwrap_err();
/// assert!(error.to_string().contains("unknown field `retries`"));
/// let error = toml::from_str::<BatcherConfig>("[retry]\nmax_attempts = 0").unwrap_err();
/// assert!(error.to_string().contains("max_attempts must be at least 1"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use = "a configuration does nothing until a batcher gets it"]
#[non_exhaustive]
pub struct BatcherConfig {
    /// How large, how old and how many.
    pub limits: Limits,
    /// How often and when to try again.
    pub retry: Retry,
    /// The numbers of the quota.
    #[serde(skip_serializing_if = "QuotaConfig::is_empty")]
    pub quota: QuotaConfig,
}

impl BatcherConfig {
    /// These limits, and the default retry.
    pub fn new(limits: impl Into<Limits>) -> Self {
        Self { limits: limits.into(), retry: Retry::default(), quota: QuotaConfig::default() }
    }

    /// How often and when to try again.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_the_same_as_code() {
        let config = BatcherConfig::new(7).retry(Retry::none().seed(3));
        assert_eq!(toml::from_str::<BatcherConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(toml::from_str::<BatcherConfig>("").unwrap(), BatcherConfig::default());
        let config = toml::from_str::<BatcherConfig>("[limits]\nlinger = \"1ms\"").unwrap();
        assert_eq!(config.limits, Limits::default().linger(std::time::Duration::from_millis(1)));
    }

    /// Goal: the file in the README can be read, and what it calls a default is one. Method: its values, and the defaults.
    #[test]
    fn the_file_in_the_readme_can_be_read() {
        #[derive(Deserialize)]
        struct Settings {
            orders: BatcherConfig,
        }
        let readme = include_str!("../../../README.md");
        let file = readme.split("```toml\n").find(|block| block.starts_with("[orders.limits]")).expect("it is there");
        let file = file.split("```").next().expect("it ends");
        let BatcherConfig { limits, retry, .. } = toml::from_str::<Settings>(file).unwrap().orders;
        assert_eq!((limits.max_items, limits.max_pending, limits.max_in_flight), (500, 100_000, 4));
        assert!(file.contains("default 0:") && Limits::new(500).linger.is_zero());
        assert_eq!(retry, Retry::default(), "all that it sets of a retry are the defaults");
    }
}
