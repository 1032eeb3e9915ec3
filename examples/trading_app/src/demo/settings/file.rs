//! The configuration file. [`read`] checks a file on top of the defaults, with the places of all values, so that an
//! error has the line, the column and the key of the mistake. `load` calls it.
//!
//! Invariant: an error shows no line of the file, since the line may hold a password.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned, Table,
    de::{DeTable, DeValue, Deserializer},
};

use super::Settings;

/// Parses the file and checks that it and the defaults make sound settings.
pub fn read(defaults: &str, text: &str) -> Result<Table, String> {
    let file = DeTable::parse(text).map_err(|error| at(text, error.span(), None, error.message()))?;
    let known = DeTable::parse(defaults).map_err(|error| error.to_string())?;
    let both = Spanned::new(file.span(), merged(known.into_inner(), file.get_ref().clone()));
    let settings = Settings::deserialize(Deserializer::from(both)).map_err(|error| {
        // The defaults have no mistakes, so the place is one of the file.
        let found = error.span().and_then(|span| find(file.get_ref(), &span, error.message()));
        let (key, span) = found.map_or((None, error.span()), |(key, span)| (Some(key), Some(span)));
        at(text, span, key.as_deref(), error.message())
    })?;
    if let Some(Err(error)) = settings.database.as_ref().map(|named| named.destination()) {
        let span = file.get_ref().get("database").map(Spanned::span);
        return Err(at(text, span, None, &error));
    }
    text.parse().map_err(|error: toml::de::Error| at(text, error.span(), None, error.message()))
}

/// Puts the values of `over` in the place of the ones of `under`, with their own spans.
fn merged<'a>(mut under: DeTable<'a>, over: DeTable<'a>) -> DeTable<'a> {
    for (name, value) in over {
        let span = value.span();
        let value = match (under.remove(&name).map(Spanned::into_inner), value.into_inner()) {
            (Some(DeValue::Table(under)), DeValue::Table(over)) => DeValue::Table(merged(under, over)),
            (_, value) => value,
        };
        under.insert(name, Spanned::new(span, value));
    }
    under
}

/// Finds the key of a mistake: the one at the span, or, in a table that is wrong as a whole, the one that the message
/// names.
fn find(table: &DeTable<'_>, span: &Range<usize>, message: &str) -> Option<(String, Range<usize>)> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        let found = match value.get_ref() {
            DeValue::Table(inner) => find(inner, span, message).or_else(|| {
                let words =
                    |name: &str| message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
                (value.span() == *span)
                    .then(|| inner.iter().find(|(key, _)| words(key.get_ref())))?
                    .map(|(key, value)| (key.get_ref().to_string(), value.span()))
            }),
            _ => None,
        };
        if let Some((rest, span)) = found {
            return Some((format!("{name}.{rest}"), span));
        }
        let is_here = key.span() == *span || value.span() == *span;
        let is_inside = !matches!(value.get_ref(), DeValue::Table(_)) && value.span().contains(&span.start);
        (is_here || is_inside).then(|| (name.to_string(), span.clone()))
    })
}

/// Puts line, column and key before the message. Lines and columns count from 1, columns in characters.
fn at(text: &str, span: Option<Range<usize>>, key: Option<&str>, message: &str) -> String {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let key = key.map_or_else(String::new, |key| format!("{key}: "));
    format!("line {line}, column {column}: {key}{}", message.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_its_line_column_and_key() {
        let wrong = [
            ("seed = 1\nsed = 1", "line 2, column 1: sed: unknown field `sed`, expected one of "),
            ("seed = \"one\"", "line 1, column 8: seed: invalid type: string \"one\", expected u64"),
            ("[orders.limits]\n\nmax_itmes = 1", "line 3, column 1: orders.limits.max_itmes: unknown field"),
            ("[orders]\nlimits = { linger = \"1ms\", max_itmes = 1 }", "line 2, column 28: orders.limits.max_itmes: "),
            ("[orders.limits]\nlinger = \"1ms\"\nmax_items = 0", "line 3, column 13: orders.limits.max_items: "),
            ("[venue]\n  latency = \"fast\"", "line 2, column 13: venue.latency: \"fast\" is no duration"),
            ("[replay]\nbuy = [\"b\", 7]", "line 2, column 13: replay.buy: invalid type: integer `7`"),
            ("sim = 3", "line 1, column 7: sim: invalid type: integer `3`, expected struct Sim"),
            ("orders.limits.max_items = 0", "line 1, column 27: orders.limits.max_items: "),
            ("page = \"8080\"", "line 1, column 8: page: it is HOST:PORT"),
            ("log = \"é\"\ndatabase = \"oracle:x\"", "line 2, column 12: database: "),
            ("seed = 1\nlog = \"é\" 7", "line 2, column 11: "),
        ];
        for (text, expected) in wrong {
            let error = read(super::super::load::BUILT_IN, text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
