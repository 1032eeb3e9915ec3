//! [`SinkError::from_status`]: what the status of an HTTP response means for the ops of the request. HTTP sinks call it
//! with each status that is no success.

use std::time::Duration;

use thiserror::Error;

use crate::rules::batch::{ErrorKind, SinkError};

/// Pause after a 429 that names none: rate limits of trading venues count by the second, or by the minute.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Pause after a 418 that names none: the shortest ban that Binance imposes.
const DEFAULT_BAN: Duration = Duration::from_secs(2 * 60);

/// The cause of an error that was made of a status.
#[derive(Debug, Error)]
#[error("HTTP status {0}")]
struct HttpStatus(u16);

impl SinkError {
    /// The error that an HTTP response means for the ops of its request, by the `code` of its status and its `Retry-After`
    /// header, if it has one. Its cause is the text "HTTP status" with the code;
    /// [`with_source`](Self::with_source) puts what the body says in its place.
    ///
    /// The table is for orders at a venue: whatever may have been executed is in doubt and is not sent again, unless the
    /// batcher is [`idempotent`](crate::Batcher::idempotent).
    ///
    /// | status | error | reason |
    /// |---|---|---|
    /// | 303 | [`Ambiguous`](ErrorKind::Ambiguous) | the request was executed, and its result is elsewhere |
    /// | all other 3xx | [`Refused`](ErrorKind::Refused) | not executed here; the sink has the wrong address |
    /// | 407, 511 | [`Outage`](ErrorKind::Outage) | a proxy on the way wants credentials: the request did not get through |
    /// | 408, 499 | [`Ambiguous`](ErrorKind::Ambiguous) | RFC 9110 says not executed, Binance sends 408 for "execution status unknown" |
    /// | 413, 414 | [`TooLarge`](ErrorKind::TooLarge) | the batch is too large, for a body or for a query string |
    /// | 418 | [`Throttled`](ErrorKind::Throttled) by `retry_after`, or 2 min | banned, by the venues that use this code |
    /// | 421, 425 | [`Transient`](ErrorKind::Transient) | not executed; another connection, or a later request, may get through |
    /// | 429 | [`Throttled`](ErrorKind::Throttled) by `retry_after`, or 1 s | a rate limit |
    /// | all other 4xx | [`Refused`](ErrorKind::Refused) | the ops or the credentials are wrong: 400, 401, 403, 404, 409, 422, ... |
    /// | 501, 505 | [`Refused`](ErrorKind::Refused) | the server does not know the method, or the version of HTTP |
    /// | 502, 503 | [`connection_lost`](Self::connection_lost) | a gateway lost the venue, perhaps after it had the request; all other ops wait |
    /// | 503 with `retry_after` | [`Throttled`](ErrorKind::Throttled) | the server turned the request away, and says until when |
    /// | 500, 504, all other 5xx | [`Ambiguous`](ErrorKind::Ambiguous) | a failure, or a timeout, of a server that had the request |
    /// | 1xx, 2xx, no status | [`Ambiguous`](ErrorKind::Ambiguous) | no error: for a success whose body can't be read |
    ///
    /// A sink looks first at what its venue documents. If a 503 of that venue is never executed, it is
    /// `SinkError::outage(..)`; a 401 that comes of an old token is tried again with a new one before it gets here.
    ///
    /// A 400 for a whole batch refuses all its ops. [`Batcher::bisect`](crate::Batcher::bisect) finds the one that is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use roundlot::{ErrorKind::{self, *}, SinkError};
    ///
    /// let kinds = |codes: &[u16], kind: ErrorKind| codes.iter().all(|c| SinkError::from_status(*c, None).kind() == kind);
    /// let after = |seconds| Throttled { retry_after: Duration::from_secs(seconds) };
    ///
    /// assert!(kinds(&[301, 302, 307, 308], Refused));
    /// assert!(kinds(&[303], Ambiguous));
    /// assert!(kinds(&[400, 401, 403, 404, 405, 409, 410, 422, 451], Refused));
    /// assert!(kinds(&[407, 511], Outage));
    /// assert!(kinds(&[408, 499], Ambiguous));
    /// assert!(kinds(&[413, 414], TooLarge));
    /// assert!(kinds(&[418], after(120)) && kinds(&[429], after(1)));
    /// assert!(kinds(&[421, 425], Transient));
    /// assert!(kinds(&[501, 505], Refused));
    /// assert!(kinds(&[500, 502, 503, 504, 507, 520], Ambiguous));
    /// assert!(kinds(&[0, 100, 200, 207, 999], Ambiguous));
    ///
    /// // The server says when. A 502 or a 503 that does not freezes the batcher as an outage does.
    /// for code in [418, 429, 503] {
    ///     assert_eq!(SinkError::from_status(code, Some(Duration::from_secs(30))).kind(), after(30));
    /// }
    /// assert!([502, 503].iter().all(|code| SinkError::from_status(*code, None).is_outage()));
    ///
    /// assert_eq!(SinkError::from_status(422, None).chain(), "refused: HTTP status 422");
    /// ```
    #[doc(alias = "http")]
    #[doc(alias = "StatusCode")]
    pub fn from_status(code: u16, retry_after: Option<Duration>) -> Self {
        let throttled = |default| ErrorKind::Throttled { retry_after: retry_after.unwrap_or(default) };
        let kind = match code {
            303 | 408 | 499 => ErrorKind::Ambiguous,
            407 | 511 => ErrorKind::Outage,
            413 | 414 => ErrorKind::TooLarge,
            418 => throttled(DEFAULT_BAN),
            421 | 425 => ErrorKind::Transient,
            429 => throttled(DEFAULT_RETRY_AFTER),
            503 if retry_after.is_some() => throttled(DEFAULT_RETRY_AFTER),
            502 | 503 => return Self::connection_lost(HttpStatus(code)),
            501 | 505 | 300..=499 => ErrorKind::Refused,
            _ => ErrorKind::Ambiguous,
        };
        Self::new(kind, HttpStatus(code))
    }
}
