//! [`Span`]: a `Duration` as it stands in a configuration file, such as "10ms".

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};

/// A duration written as "10ms", "1m 30s", or "max" for no end.
#[derive(Default)]
pub(crate) struct Span(pub(crate) Duration);

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Duration::MAX => serializer.serialize_str("max"),
            span => serializer.collect_str(&humantime::format_duration(span)),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, with its unit, such as \"10ms\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                if text == "max" {
                    return Ok(Span(Duration::MAX));
                }
                humantime::parse_duration(text)
                    .map(Span)
                    .map_err(|error| E::custom(format_args!("\"{text}\" is no duration such as \"10ms\": {error}")))
            }
        }
        deserializer.deserialize_any(Text)
    }
}
