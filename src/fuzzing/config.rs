//! Limits, retries and quotas in a configuration file.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Batch, Batcher, BatcherConfig, sink_fn};

/// A text format such as TOML, of which the library itself knows none.
pub trait Format {
    /// Reads a value, if the text has one.
    fn read<T: DeserializeOwned>(text: &str) -> Option<T>;

    /// Writes a value.
    fn write<T: Serialize>(value: &T) -> String;
}

/// A configuration that is read passes its own checks, says the same when it is written and read again, and builds a batcher or is
/// refused with the name of a setting.
pub fn config<F: Format>(bytes: &[u8]) -> bool {
    let Some(config) = str::from_utf8(bytes).ok().and_then(F::read::<BatcherConfig>) else { return false };
    assert_eq!(config.limits.check(), Ok(()), "what is read was checked");
    let written = F::write(&config);
    assert_eq!(F::read(&written).as_ref(), Some(&config), "written as {written}");
    let sink = sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
    if let Err(error) = Batcher::new(sink).config(config).try_split() {
        assert!(!error.field().is_empty() && error.to_string().starts_with(error.field()), "{error}");
    }
    true
}
