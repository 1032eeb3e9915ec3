//! The token and the pass for the buttons. [`Keys::unlock`] exchanges a typed token for the pass, which each command
//! carries. `server` calls it.
//!
//! The token is short, because people type it, and wrong tries are limited, because it is short. The pass is long and
//! needs no limit. Wrong tokens may therefore keep other browsers from unlocking, but never lock out a page that has
//! the pass. The kill switch always works there.

use std::{
    fmt::Write,
    hint::black_box,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Letters and digits of a token, without those that look alike.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Number of letters in a token: twelve of 5 bits make 60 bits.
const LETTERS: usize = 12;

/// Maximum number of wrong tokens per [`WINDOW`]. Trying all tokens takes three hundred million years.
const MAX_TRIES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

pub(crate) struct Keys {
    token: String,
    pass: String,
    run: String,
    wrong: Mutex<Wrong>,
}

struct Wrong {
    count: u32,
    since: Instant,
}

/// Reason of a refused token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UnlockError {
    Wrong,
    TooManyTries,
}

impl Keys {
    /// Returns new keys from the random source of the operating system.
    pub(crate) fn random() -> Result<Self, String> {
        let mut bytes = [0; LETTERS + 16 + 8];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        let (letters, rest) = bytes.split_at(LETTERS);
        let (pass, run) = rest.split_at(16);
        let token = letters.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
        let wrong = Mutex::new(Wrong { count: 0, since: Instant::now() });
        Ok(Self { token, pass: hex(pass), run: hex(run), wrong })
    }

    /// Returns the token, as people read it.
    pub(crate) fn token(&self) -> String {
        let groups: Vec<&str> = [0, 4, 8].iter().map(|i| &self.token[*i..i + 4]).collect();
        groups.join("-")
    }

    /// Returns the id of this run of the app, which is no secret.
    pub(crate) fn run(&self) -> String {
        self.run.clone()
    }

    /// Exchanges a typed token for the pass.
    pub(crate) fn unlock(&self, typed: &str) -> Result<String, UnlockError> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.since.elapsed() >= WINDOW {
            *wrong = Wrong { count: 0, since: Instant::now() };
        }
        if wrong.count >= MAX_TRIES {
            return Err(UnlockError::TooManyTries);
        }
        if same(&plain(typed), &self.token) {
            return Ok(self.pass.clone());
        }
        wrong.count += 1;
        Err(UnlockError::Wrong)
    }

    pub(crate) fn admits(&self, pass: &str) -> bool {
        same(pass, &self.pass)
    }
}

/// Normalizes a typed token: removes hyphens, ignores case, maps letters to the digits that look like them.
fn plain(typed: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    typed.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(LETTERS + 1).map(letter).collect()
}

/// Compares in constant time, whatever the two texts have in common.
fn same(said: &str, secret: &str) -> bool {
    let difference = said.bytes().zip(secret.bytes()).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    said.len() == secret.len() && black_box(difference) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_token_unlocks_and_wrong_tries_are_limited() {
        let keys = Keys::random().unwrap();
        let token = keys.token();
        assert_eq!(token.len(), LETTERS + 2);
        let pass = keys.unlock(&token).unwrap();
        assert!(keys.admits(&pass) && !keys.admits(&token) && !keys.admits("") && !keys.admits(&pass[1..]));
        assert_eq!(keys.unlock(&format!(" {} ", token.to_uppercase().replace('0', "o"))), Ok(pass.clone()));
        for _ in 0..MAX_TRIES {
            assert_eq!(keys.unlock(&token[1..]), Err(UnlockError::Wrong));
        }
        assert_eq!(keys.unlock(&token), Err(UnlockError::TooManyTries));
        assert!(keys.admits(&pass), "an unlocked session stays unlocked");
        tokio::time::advance(WINDOW).await;
        assert_eq!(keys.unlock(&token), Ok(pass));
    }

    #[test]
    fn no_two_runs_share_a_key() {
        let [one, two] = [Keys::random().unwrap(), Keys::random().unwrap()];
        assert!(one.token != two.token && one.pass != two.pass && one.run != two.run);
    }
}
