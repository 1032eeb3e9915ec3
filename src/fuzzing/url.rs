//! URLs of a database.

use crate::sink::postgres::{Postgres, read_url};

/// The secret of a URL: what stands in the place of each tilde.
const SECRET: &str = "Zq7xW9";

/// A URL is read or refused, and neither an error nor what the program prints has anything of its password.
pub fn url(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let url = text.replace('~', SECRET);
    assert!(!format!("{:?}", Postgres::url(&url)).contains(SECRET));
    match read_url(&url) {
        Ok(()) => true,
        Err(problem) => {
            assert!(!problem.is_empty());
            assert!(!problem.contains(SECRET), "{problem}");
            false
        }
    }
}
