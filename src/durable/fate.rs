//! [`Fate`]: what became of a frame on its way into the log. An ingress holds the end that tells, and each call whose ops are in the
//! frame one that hears.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Why the log does not have the ops of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotStored {
    Closed,
    InDoubt,
}

pub(crate) type Fate = Result<(), NotStored>;

#[derive(Debug, Default)]
struct Answer {
    fate: OnceLock<Fate>,
    is_known: Notify,
}

/// Tells all calls of a frame its fate. Dropped without a word, it leaves them in doubt.
#[derive(Debug, Default)]
pub(super) struct Teller(Arc<Answer>);

impl Teller {
    pub(super) fn hearer(&self) -> Hearer {
        Hearer(Arc::clone(&self.0))
    }

    pub(super) fn tell(self, fate: Fate) {
        // The first word counts.
        let _ = self.0.fate.set(fate);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let _ = self.0.fate.set(Err(NotStored::InDoubt));
        // Wakes the callers in the order of their calls.
        self.0.is_known.notify_waiters();
    }
}

/// Waits for the fate of a frame.
#[derive(Debug)]
pub(super) struct Hearer(Arc<Answer>);

impl Hearer {
    pub(super) async fn fate(self) -> Fate {
        loop {
            // From here on no word is missed.
            let known = self.0.is_known.notified();
            if let Some(fate) = self.0.fate.get() {
                return *fate;
            }
            known.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each call hears, before and after the word is said. Method: a word, and none.
    #[tokio::test]
    async fn each_call_hears() {
        let teller = Teller::default();
        let (early, late) = (tokio::spawn(teller.hearer().fate()), teller.hearer());
        tokio::task::yield_now().await;
        teller.tell(Ok(()));
        assert_eq!((early.await.unwrap(), late.fate().await), (Ok(()), Ok(())));
        let teller = Teller::default();
        let early = tokio::spawn(teller.hearer().fate());
        tokio::task::yield_now().await;
        drop(teller);
        assert_eq!(early.await.unwrap(), Err(NotStored::InDoubt));
    }
}
