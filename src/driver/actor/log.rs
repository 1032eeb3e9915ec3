//! The log lines of a turn: one for each kind of event, with a count, however many ops it concerns. The actor calls
//! these functions once per turn, so that no outage and no burst of failures floods a log.

use tracing::{debug, error, info, warn};

use crate::rules::{
    accumulator::{CapNotices, Notices, OutageNotice},
    adaptive::Proof,
    outcome::{DeadLetter, End},
};

/// Logs what the accumulator has noticed.
pub(crate) fn notices(batcher: &str, notices: &Notices) {
    let Notices { retries, outage, recovery, panics, unknown_bucket, caps } = notices;
    if let Some((count, first)) = panics {
        error!(batcher, count, first, "panics caught");
    }
    if let Some(bucket) = unknown_bucket {
        warn!(batcher, bucket = &**bucket, "the sink reported on a bucket that the quota does not have");
    }
    if let Some(retry) = retries {
        let (ops, attempt, pause) = (retry.ops, retry.attempt, retry.pause);
        info!(batcher, ops, attempt, ?pause, error = retry.error.chain(), "operations will be tried again");
    }
    if let Some(outage) = outage {
        log_outage(batcher, outage);
    }
    if let Some(recovery) = recovery {
        info!(batcher, lasted = ?recovery.lasted, writes = recovery.failures, "the destination is back");
    }
    log_caps(batcher, caps);
}

fn log_caps(batcher: &str, caps: &CapNotices) {
    let &CapNotices { lowered, restored, held, released } = caps;
    if let Some((cap, failed)) = lowered {
        warn!(batcher, cap, failed, "large batches fail: batches are smaller from now on");
    }
    if let Some(cap) = restored {
        info!(batcher, cap, "large batches land again");
    }
    if let Some(Proof { small, large, small_nanos, large_nanos }) = held {
        info!(batcher, cap = small, larger = large, small_nanos, large_nanos, "larger batches take more time per op");
    }
    if let Some(Proof { small, large, small_nanos, large_nanos }) = released {
        info!(
            batcher,
            cap = small,
            larger = large,
            small_nanos,
            large_nanos,
            "larger batches take no more time per op"
        );
    }
}

fn log_outage(batcher: &str, outage: &OutageNotice) {
    let &OutageNotice { is_new, ops, given_up, failures, pause, ref error } = outage;
    let error = error.chain();
    if given_up > 0 {
        error!(
            batcher,
            ops = given_up,
            writes = failures,
            error,
            "the outage has lasted too long: operations given up"
        );
    } else if is_new {
        warn!(batcher, ops, writes = failures, ?pause, error, "the destination is away: operations wait");
    } else {
        info!(batcher, ops, writes = failures, ?pause, error, "the destination is still away: operations wait");
    }
}

/// Logs the dead letters of a turn. `dropped`: they have no sink, so that this line is all that remains of them.
pub(super) fn letters<T>(batcher: &str, letters: &[DeadLetter<T>], dropped: bool) {
    let Some(first) = letters.first() else {
        return;
    };
    let count = letters.len();
    let in_doubt = letters.iter().filter(|letter| letter.is_in_doubt()).count();
    let exhausted = letters.iter().filter(|letter| letter.end() == End::Exhausted).count();
    let (error, attempts) = (first.error.chain(), first.attempts);
    if dropped {
        warn!(batcher, count, in_doubt, attempts, error, exhausted, "dead letters, dropped");
    } else {
        // A venue refuses orders every day: the sink for dead letters decides how loud to be.
        debug!(batcher, count, in_doubt, attempts, error, exhausted, "dead letters");
    }
}

pub(super) fn letters_lost(batcher: &str, count: u64) {
    error!(batcher, count, "there is no room for dead letters: some are lost");
}
