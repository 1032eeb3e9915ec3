//! The setting `database`. [`Named`] keeps it as it was written and reads it as a [`Destination`].
//!
//! Invariant: neither an error nor `Debug` shows the setting itself, since a URL may hold a password.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::bot::database::Destination;

/// The setting as it was written. A `PathBuf`, because the name of a file need not be text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Named(PathBuf);

const FORMS: &str = "it is sqlite:PATH, the PATH alone, or a postgres:// URL";

const COLON: &str = "a file with a colon in its name is sqlite:NAME";

/// Whether the text before a colon names a kind of database, by the form of a URL's scheme. A single letter is the drive
/// of a path.
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() > 1
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

impl Named {
    pub fn destination(&self) -> Result<Destination<'_>, String> {
        let Some(text) = self.0.to_str() else {
            return Ok(Destination::Sqlite(&self.0));
        };
        match text.split_once(':') {
            _ if text.is_empty() => Err(format!("database: it is empty; {FORMS}")),
            Some(("sqlite", "")) => Err(format!("database: there is no path behind sqlite:; {FORMS}")),
            Some(("sqlite", path)) if path.starts_with("//") => {
                Err("database: sqlite: takes the path as it is, without // before it".to_owned())
            }
            Some(("sqlite", path)) => Ok(Destination::Sqlite(Path::new(path))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Destination::Postgres(text)),
            Some(("postgres" | "postgresql", _)) => Err(format!("database: a URL has // behind the colon; {FORMS}")),
            Some((_, rest)) if rest.starts_with("//") => Err(format!("database: a URL of another kind; {FORMS}")),
            Some((kind, _)) if is_scheme(kind) => Err(format!("database: it is of another kind; {FORMS}; {COLON}")),
            _ => Ok(Destination::Sqlite(Path::new(text))),
        }
    }
}

impl From<PathBuf> for Named {
    fn from(written: PathBuf) -> Self {
        Self(written)
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.destination() {
            Ok(Destination::Sqlite(_)) => "Named(a SQLite file)",
            Ok(Destination::Postgres(_)) => "Named(a PostgreSQL server)",
            Err(_) => "Named(something wrong)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match Named(text.into()).destination() {
            Ok(Destination::Sqlite(path)) => format!("file {}", path.display()),
            Ok(Destination::Postgres(url)) => format!("server {url}"),
            Err(error) => error,
        }
    }

    #[test]
    fn files_and_servers() {
        let forms = [
            ("trades.db", "file trades.db"),
            ("sqlite:trades.db", "file trades.db"),
            ("sqlite:/var/lib/trades.db", "file /var/lib/trades.db"),
            ("a:b.db", "file a:b.db"),
            ("./trades:1.db", "file ./trades:1.db"),
            ("sqlite:trades:1.db", "file trades:1.db"),
            ("sqlite:sqlite:odd.db", "file sqlite:odd.db"),
            ("postgres://bob@db/trades", "server postgres://bob@db/trades"),
            ("postgresql:///trades", "server postgresql:///trades"),
        ];
        for (text, expected) in forms {
            assert_eq!(said(text), expected);
        }
    }

    /// Goal: an error names the mistake and never the password. Method: wrong forms of all kinds that contain a
    /// password.
    #[test]
    fn errors_do_not_repeat_the_written_value() {
        let wrong = [
            ("", "empty"),
            ("sqlite:", "no path"),
            ("sqlite://secret.db", "without //"),
            ("postgres:bob:secret@db", "//"),
            ("mysql://bob:secret@db", "another kind"),
            ("Postgres://bob:secret@db", "another kind"),
            ("oracle:x", "another kind"),
            ("bob:secret@db/trades", "sqlite:PATH, the PATH alone, or a postgres:// URL"),
            ("trades:1.db", "a file with a colon in its name is sqlite:NAME"),
        ];
        for (text, expected) in wrong {
            let error = said(text);
            assert!(error.starts_with("database: ") && error.contains(expected), "{error}");
            assert!(!error.contains("secret") && !error.contains("bob"), "{error}");
        }
        for text in ["postgres://bob:secret@db", "mysql://bob:secret@db"] {
            assert!(!format!("{:?}", Named(text.into())).contains("secret"));
        }
    }
}
