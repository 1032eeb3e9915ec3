//! Whether a `search_path` in the options has reached the server. Poolers can drop it in silence; a table of the same
//! name in another schema would then be used. Checked when a sink is opened.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// True as well if none was asked for.
pub(crate) async fn has_arrived(client: &Client, options: Option<&str>) -> Result<bool, Error> {
    let Some(asked) = options.and_then(asked) else { return Ok(true) };
    let rows = client.simple_query("SELECT current_setting('search_path')").await?;
    let is_it = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some(&asked),
        _ => false,
    };
    Ok(rows.iter().any(is_it))
}

/// The last `search_path` in the options, as a server reads them.
fn asked(options: &str) -> Option<String> {
    let mut words = words(options).into_iter();
    let mut found = None;
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None if word == "-c" => words.next()?,
            None => word.strip_prefix("-c").unwrap_or_default().to_owned(),
        };
        if let Some((name, value)) = setting.split_once('=')
            && name.replace('-', "_").eq_ignore_ascii_case("search_path")
        {
            found = Some(value.to_owned());
        }
    }
    found
}

/// Splits at blanks; a backslash takes the meaning from the character behind it.
fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = options.chars();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(rest.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_search_path_counts_in_each_spelling() {
        let cases = [
            ("-csearch_path=a", Some("a")),
            ("-c search_path=a,b -cstatement_timeout=5s", Some("a,b")),
            ("--search-path=a --Search_Path=b", Some("b")),
            (r#"-csearch_path=a,\ \"B\ c\""#, Some(r#"a, "B c""#)),
            ("-csearch_path=", Some("")),
            ("-cstatement_timeout=5s", None),
            ("-c", None),
            ("", None),
        ];
        for (options, path) in cases {
            assert_eq!(asked(options).as_deref(), path, "{options}");
        }
    }
}
