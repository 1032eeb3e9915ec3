//! Runs each property on its seeds and on mutations of these.

use serde::{Serialize, de::DeserializeOwned};

use super::{harness::run, *};

struct Toml;

impl Format for Toml {
    fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
        toml::from_str(text).ok()
    }

    fn write<T: Serialize>(value: &T) -> String {
        toml::to_string(value).unwrap()
    }
}

#[test]
fn configs() {
    run("config", config::<Toml>, 10_000);
}

#[test]
fn texts() {
    run("nouns", nouns, 20_000);
}

#[cfg(any(feature = "durable", feature = "websocket"))]
#[test]
fn ops() {
    run("json", json, 20_000);
}

#[cfg(feature = "postgres")]
#[test]
fn urls() {
    run("url", url, 20_000);
}

#[cfg(feature = "websocket")]
#[test]
fn peers() {
    run("websocket", websocket, 3000);
}
