//! [`Recorded`]: a [`SinkError`] as serde writes and reads it. Its causes are texts, since an error of any type can be
//! printed and none can be read.

use std::{error::Error, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::rules::batch::{ErrorKind, SinkError, error::message};

/// Most causes that are read one by one. The messages of further ones are joined in the last, so that no input can make a
/// chain that is too long to drop.
const MAX_CAUSES: usize = 64;

/// An error with its causes, the outermost first.
#[derive(Serialize, Deserialize)]
pub(super) struct Recorded {
    kind: ErrorKind,
    #[serde(default)]
    outage: bool,
    /// Ops that the destination takes at once, of an error that says so.
    #[serde(default)]
    max_items: Option<usize>,
    #[serde(default)]
    causes: Vec<String>,
}

impl From<SinkError> for Recorded {
    fn from(error: SinkError) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(message(error));
            cause = error.source();
        }
        Self { kind: error.kind(), outage: error.is_outage(), max_items: error.max_items(), causes }
    }
}

impl From<Recorded> for SinkError {
    fn from(recorded: Recorded) -> Self {
        let mut causes = recorded.causes;
        if causes.len() > MAX_CAUSES {
            let last = causes.split_off(MAX_CAUSES - 1).join(": ");
            causes.push(last);
        }
        let chain = causes.into_iter().rev().fold(None, |source, message| Some(Arc::new(Cause { message, source })));
        let outage = recorded.outage || recorded.kind == ErrorKind::Outage;
        let read = Self::from_parts(recorded.kind, chain.map(|cause| cause as _), outage);
        read.taking_at_most(recorded.max_items)
    }
}

/// A cause that was read: its message, and the cause behind it.
#[derive(Debug)]
struct Cause {
    message: String,
    source: Option<Arc<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_and_read(error: &SinkError) -> SinkError {
        serde_json::from_str(&serde_json::to_string(error).unwrap()).unwrap()
    }

    #[test]
    fn what_is_read_says_and_means_what_was_written() {
        let nested = SinkError::transient(SinkError::refused(std::io::Error::other("disk")));
        let errors = [
            nested,
            SinkError::connection_lost("reset"),
            SinkError::outage("away"),
            SinkError::throttled(std::time::Duration::from_nanos(1_234_567_891)),
            SinkError::throttled(std::time::Duration::MAX),
            SinkError::outage("away").with_kind(ErrorKind::Refused),
            ErrorKind::Lost.into(),
        ];
        for error in errors {
            let read = written_and_read(&error);
            assert_eq!((read.kind(), read.is_outage(), read.chain()), (error.kind(), error.is_outage(), error.chain()));
            assert_eq!(written_and_read(&read).chain(), error.chain());
        }
    }

    /// Goal: no input ends the process. Method: a chain that would overflow the stack when it is dropped link by link.
    #[test]
    fn a_chain_without_end_is_cut_short() {
        let causes = vec!["again"; 1_000_000];
        let error: SinkError = serde_json::from_value(serde_json::json!({"kind": "lost", "causes": causes})).unwrap();
        assert_eq!(error.chain().matches("again").count(), causes.len());
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        assert_eq!(causes.count(), MAX_CAUSES);
    }

    #[test]
    fn mistakes_are_told() {
        let read = |text: &str| serde_json::from_str::<SinkError>(text).unwrap_err().to_string();
        assert!(read(r#"{"kind":"transeint"}"#).contains("unknown variant `transeint`"));
        assert!(read(r#"{"causes":[]}"#).contains("missing field `kind`"));
        assert!(read(r#"{"kind":{"throttled":{}}}"#).contains("missing field `retry_after_seconds`"));
        for seconds in ["-1.0", "-1e300"] {
            let text = format!(r#"{{"kind":{{"throttled":{{"retry_after_seconds":{seconds}}}}}}}"#);
            assert!(read(&text).contains("is no time in seconds"), "{text}");
        }
    }
}
