//! The token and the pass for the buttons. [`Keys::unlock`] exchanges a typed token for the pass, which each command
//! carries. `server` calls it.
//!
//! The token is short, because people type it, and wrong tries are limited, because it is short. The pass is long and
//! needs no limit. Wrong tokens may therefore keep others from unlocking, but never lock out a page that has the pass:
//! the kill switch always works there.

use std::{
    fmt::Write,
    hint::black_box,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::bot::Error;

/// Letters and digits that can't be mixed up.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 60 bits.
const LETTERS: usize = 12;

/// Wrong tokens per [`WINDOW`]: three hundred million years for all of them.
const MAX_TRIES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

pub struct Keys {
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
pub enum UnlockError {
    Wrong,
    TooManyTries,
}

impl Keys {
    /// New ones, from the operating system's source of chance.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; LETTERS + 16 + 8];
        getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random numbers: {error}"))?;
        let (letters, rest) = bytes.split_at(LETTERS);
        let (pass, run) = rest.split_at(16);
        let token = letters.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
        let wrong = Mutex::new(Wrong { count: 0, since: Instant::now() });
        Ok(Self { token, pass: hex(pass), run: hex(run), wrong })
    }

    /// The token, as people read it.
    pub fn token(&self) -> String {
        let groups: Vec<&str> = [0, 4, 8].iter().map(|i| &self.token[*i..i + 4]).collect();
        groups.join("-")
    }

    /// Id of this run of the app. No secret.
    pub fn run(&self) -> String {
        self.run.clone()
    }

    /// Changes the token for the pass.
    pub fn unlock(&self, typed: &str) -> Result<String, UnlockError> {
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

    pub fn admits(&self, pass: &str) -> bool {
        same(pass, &self.pass)
    }
}

/// Normalizes a typed token: removes hyphens, ignores case, maps letters to the digits they look like.
fn plain(typed: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    typed.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(LETTERS + 1).map(letter).collect()
}

/// Takes the same time whatever the two have in common.
fn same(said: &str, secret: &str) -> bool {
    let difference = said.bytes().zip(secret.bytes()).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    said.len() == secret.len() && black_box(difference) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
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
