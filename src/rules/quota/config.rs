//! [`QuotaConfig`]: the numbers of a quota as they stand in a configuration file, by the names of its buckets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bucket, MILLION, Numbers, Quota};
use crate::rules::config::limits::LimitsError;

/// The numbers of a [`Quota`], as a section of a configuration file: a table for each bucket, and the reserve.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `limit` | - | how much may be used |
/// | `kind` | `rolling` | `rolling`, `fixed` or `decaying`, see [`Bucket`] |
/// | `window` | - | length of the window; not for `decaying` |
/// | `per_second` | - | by how much the count falls; for `decaying` |
/// | `per_call` | none | cost of a call, see [`Bucket::per_call`] |
/// | `jitter` | 50 ms | see [`Bucket::jitter`] |
/// | `skew` | 1 s | see [`Bucket::skew`] |
/// | `paced` | true | whether what is left is spread evenly, see [`Bucket::unpaced`] |
///
/// A batcher whose code has a quota takes the numbers from the file by name, and a name on one side only is an error. Without
/// one in the code, the file is the quota, and each op and each call costs what the file says.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Batcher, BatcherConfig, Bucket, Quota, sink_fn};
///
/// let file: BatcherConfig = toml::from_str(
///     r#"
///     [quota.orders_10s]
///     limit = 300
///     window = "10s"
///
///     [quota.calls_1m]
///     kind = "fixed"
///     limit = 1200
///     window = "1m"
///     per_call = 1
///     "#,
/// )?;
/// struct Order { is_cancel: bool }
/// # let sink = || sink_fn(|batch: &mut Batch<Order>| Box::pin(async move { Ok(batch.accept_all()) }));
/// let quota = Quota::new()
///     .bucket("orders_10s", Bucket::configured())
///     .bucket("calls_1m", Bucket::configured())
///     .cost("orders_10s", |order: &Order| if order.is_cancel { 0 } else { 1 });
/// assert!(Batcher::new(sink()).quota(quota).config(file.clone()).try_split().is_ok());
///
/// let quota = Quota::new().bucket("orders_10s", Bucket::configured());
/// let error = Batcher::new(sink()).quota(quota).config(file).try_split().unwrap_err();
/// assert_eq!(error.to_string(), "quota bucket `calls_1m` is in the file, and not in the code");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
#[must_use = "a configuration does nothing until a batcher gets it"]
pub struct QuotaConfig {
    /// In millionths.
    reserve: Option<u32>,
    buckets: BTreeMap<String, Numbers>,
}

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reserve: Option<f64>,
    #[serde(flatten)]
    buckets: BTreeMap<String, Numbers>,
}

impl QuotaConfig {
    /// Names and numbers of the buckets.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (&str, &Numbers)> {
        self.buckets.iter().map(|(name, numbers)| (&**name, numbers))
    }

    pub(super) fn reserve(&self) -> Option<u32> {
        self.reserve
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.reserve.is_none()
    }
}

impl TryFrom<File> for QuotaConfig {
    type Error = LimitsError;

    fn try_from(File { reserve, buckets }: File) -> Result<Self, LimitsError> {
        if reserve.is_some_and(|part| !(0.0..1.0).contains(&part)) {
            return Err(LimitsError::new("quota", "must have a reserve of at least 0 and less than 1"));
        }
        Ok(Self { reserve: reserve.map(|part| (part * f64::from(MILLION)).round() as u32), buckets })
    }
}

impl From<QuotaConfig> for File {
    fn from(QuotaConfig { reserve, buckets }: QuotaConfig) -> Self {
        Self { reserve: reserve.map(|part| f64::from(part) / f64::from(MILLION)), buckets }
    }
}

/// A quota of what the file says. A reserve needs code, which says what matters.
impl<T> From<QuotaConfig> for Quota<T> {
    fn from(config: QuotaConfig) -> Self {
        let mut quota = Self::new();
        if config.reserve.is_some() {
            quota.error = Some(LimitsError::new("quota", "has a reserve in the file, and none in the code"));
        }
        config.buckets.into_iter().fold(quota, |quota, (name, numbers)| {
            quota.bucket(name, Bucket { numbers: Some(numbers), ..Bucket::configured() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_the_same_as_code() {
        let text = r#"
            reserve = 0.1
            [orders]
            limit = 300
            window = "10s"
            [pair]
            kind = "decaying"
            limit = 60
            per_second = 0.5
            paced = false
        "#;
        let config: QuotaConfig = toml::from_str(text).unwrap();
        assert_eq!(toml::from_str::<QuotaConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        let quota = Quota::<u32>::new()
            .bucket("orders", Bucket::configured())
            .bucket("pair", Bucket::configured())
            .reserve(0.0, |op| *op > 5);
        assert!(quota.configure(&config).unwrap().check(false).is_ok());
    }

    #[test]
    fn files_with_mistakes_are_told_where() {
        let cases = [
            ("[a]\nwindow = \"1s\"", "limit"),
            ("[a]\nlimit = 1", "needs a `window`"),
            ("[a]\nlimit = 1\nwindow = \"1s\"\nper_second = 1.0", "no `per_second`"),
            ("[a]\nlimit = 1\nkind = \"decaying\"\nwindow = \"1s\"", "needs `per_second`"),
            ("[a]\nlimit = 1\nkind = \"decaying\"\nper_second = 0.0", "unit of decay"),
            ("[a]\nlimit = 0\nwindow = \"1s\"", "limit from 1"),
            ("[a]\nlimit = 1\nwindow = \"0s\"", "more than nothing"),
            ("[a]\nlimit = 1\nwindow = \"1s\"\nburst = 7", "burst"),
            ("reserve = 1.0", "less than 1"),
            ("limit = 1", "limit"),
        ];
        for (file, expected) in cases {
            let error = toml::from_str::<QuotaConfig>(file).unwrap_err().to_string();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }
}
