//! [`QuotaReport`]: the way of a sink to tell the quota what the venue counts, from the headers of an answer.

use std::fmt;

/// Reports of a venue on its limits, from the answer to a batch. Made by [`Batch::quota`](crate::Batch::quota).
///
/// The last report on each bucket counts, when the batch is settled. A report on a bucket that the batcher does not have is logged.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Settled, SinkError};
///
/// struct Answer { used_weight: Option<u64> }
/// # async fn post(_: &[u32]) -> Result<Answer, SinkError> { Ok(Answer { used_weight: Some(7) }) }
///
/// async fn write(batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
///     let answer = post(batch.ops()).await?;
///     if let Some(used) = answer.used_weight {
///         batch.quota().used("weight_1m", used);
///     }
///     Ok(batch.accept_all())
/// }
/// ```
pub struct QuotaReport<'a> {
    reports: &'a mut Reports,
}

/// The reports on one batch, by bucket.
#[derive(Debug, Default)]
pub(crate) struct Reports(Vec<Report>);

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) bucket: Box<str>,
    pub(crate) used: Option<u64>,
    pub(crate) limit: Option<u64>,
}

/// Reports of one batch that are kept: as many as a quota may have buckets. More are dropped.
const MAX_REPORTS: usize = super::MAX_BUCKETS;

impl<'a> QuotaReport<'a> {
    pub(crate) fn new(reports: &'a mut Reports) -> Self {
        Self { reports }
    }

    /// Reports the venue's count of what is used, this call included. For a keyed bucket it is that of the keys of the batch.
    ///
    /// While other calls are in flight, which the venue may not have counted yet, the larger of its count and the batcher's
    /// own holds; else the venue's.
    pub fn used(self, bucket: &str, used: u64) -> Self {
        self.report(bucket, |report| report.used = Some(used))
    }

    /// Reports the venue's limit. An op that costs more is refused. A limit that is less than every call costs is taken for the
    /// cost of the least one: no report refuses everything for ever.
    pub fn limit(self, bucket: &str, limit: u64) -> Self {
        self.report(bucket, |report| report.limit = Some(limit))
    }

    fn report(self, bucket: &str, change: impl FnOnce(&mut Report)) -> Self {
        let Reports(reports) = &mut *self.reports;
        let known = reports.iter().position(|report| *report.bucket == *bucket);
        if known.is_none() && reports.len() == MAX_REPORTS {
            return self;
        }
        let at = known.unwrap_or_else(|| {
            reports.push(Report { bucket: bucket.into(), used: None, limit: None });
            reports.len() - 1
        });
        change(&mut reports[at]);
        self
    }
}

impl Reports {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Report> {
        self.0.drain(..)
    }

    /// Takes over the reports on the part of a batch that was written by itself.
    pub(crate) fn take(&mut self, from: &mut Self) {
        for Report { bucket, used, limit } in from.drain() {
            let mut report = QuotaReport::new(self);
            if let Some(used) = used {
                report = report.used(&bucket, used);
            }
            if let Some(limit) = limit {
                report.limit(&bucket, limit);
            }
        }
    }
}

impl fmt::Debug for QuotaReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuotaReport").field(&self.reports.0).finish()
    }
}
