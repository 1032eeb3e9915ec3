//! Limits, retries and quotas in TOML.
#![no_main]

use serde::{Serialize, de::DeserializeOwned};

struct Toml;

impl roundlot::fuzzing::Format for Toml {
    fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
        toml::from_str(text).ok()
    }

    fn write<T: Serialize>(value: &T) -> String {
        toml::to_string(value).expect("what was read can be written")
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::fuzzing::config::<Toml>(bytes);
});
