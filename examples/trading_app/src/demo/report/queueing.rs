//! [`Queueing`]: how busy the slots of a batcher were, and the parts of its times, as far as they are measured or follow
//! from its limits. `Queues` has one for each batcher.

use roundlot::{Limits, Stats};
use roundlot_board::latency::Percentiles;
use serde::Serialize;

use crate::demo::{meter::Meter, unbatched::Cost};

/// Share of the slots that is busy on average from which on ops often find no free slot.
const NEARLY_FULL: f64 = 0.8;

/// The load of a batcher. Times are means over the ops that were sent, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Queueing {
    /// Maximum number of batches that are written at once.
    pub slots: u64,
    /// Number of batches that were being written, averaged over the run and its drain.
    pub busy_slots: f64,
    /// Upper bound of the time that ops lingered.
    pub max_lingering_seconds: f64,
    /// Lower bound of the rest of the waiting: for a slot, or for the batch of the same partition that is written.
    pub min_due_seconds: f64,
    /// Time in calls of the sink: the part of the time being written that is not spent on the way there and back.
    pub in_sink_seconds: f64,
}

impl Queueing {
    /// Computes the load of a batcher from its limits, the calls of its sink, and the times of its ops.
    pub fn new(limits: &Limits, ran: &Cost, meter: &Meter, stats: &Stats, times: &Percentiles) -> Self {
        let waiting = stats.waiting_time.mean;
        // No op lingers longer than the limit, so the rest of its waiting has another reason.
        let lingering = waiting.min(limits.linger);
        // Ops that the sink never answered were in calls, too, but have no time being written.
        let in_calls = meter.time_of_ops().as_secs_f64() / times.count.max(1) as f64;
        Self {
            slots: limits.max_in_flight as u64,
            busy_slots: if ran.seconds > 0.0 { ran.sink_seconds / ran.seconds } else { 0.0 },
            max_lingering_seconds: lingering.as_secs_f64(),
            min_due_seconds: (waiting - lingering).as_secs_f64(),
            in_sink_seconds: in_calls.min(stats.writing_time.mean.as_secs_f64()),
        }
    }

    /// Sets the slots of a batcher without partitions, which writes one batch at a time whatever its limits are.
    pub fn with_one_slot(self) -> Self {
        Self { slots: 1, ..self }
    }

    /// Whether most of the waiting is for a slot, since few are free.
    pub fn is_short_of_slots(&self) -> bool {
        self.busy_slots >= NEARLY_FULL * self.slots as f64 && self.min_due_seconds > self.max_lingering_seconds
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roundlot::{
        Batcher, Stages,
        testing::{Flaky, Recorder},
    };
    use roundlot_board::latency;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::demo::meter::Metered;

    const CALL: Duration = Duration::from_millis(30);
    const LINGER: Duration = Duration::from_millis(10);

    /// Runs four ops of four partitions for a tenth of a second.
    async fn run(slots: usize) -> Queueing {
        let recorder = latency::Recorder::default();
        let limits = Limits::new(5).linger(LINGER).max_in_flight(slots);
        let (sink, meter) = Metered::new(Flaky::new(Recorder::new()).slow(CALL));
        let batcher = Batcher::new(sink).name("orders").stages(Stages::new().partition_by(|op: &u8| *op));
        let open = || batcher.limits(limits.clone()).spawn();
        let (handle, worker) = metrics::with_local_recorder(&recorder, open);
        let began = Instant::now();
        handle.send_all([1, 2, 3, 4]).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        let stats = worker.shutdown().await.unwrap().stats;
        let (sink_seconds, seconds) = (meter.time().as_secs_f64(), began.elapsed().as_secs_f64());
        let ran = Cost { operations: 4, sent: meter.ops(), calls: meter.calls(), sink_seconds, seconds };
        Queueing::new(&limits, &ran, &meter, &stats, &recorder.percentiles("orders"))
    }

    /// Goal: lingering and waiting for a slot are told apart. Method: as many slots as partitions, and half of them.
    #[tokio::test(start_paused = true)]
    async fn waiting_is_for_others_and_then_for_a_slot() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
        // With two slots, two ops wait for 10 ms and two for 10 ms and a call.
        for (slots, due) in [(4, 0.0), (2, 0.015)] {
            let queueing = run(slots).await;
            assert_eq!(queueing.slots, slots as u64);
            close(queueing.max_lingering_seconds, 0.01);
            close(queueing.min_due_seconds, due);
            close(queueing.in_sink_seconds, 0.03);
            // Four calls of 30 ms in 100 ms.
            close(queueing.busy_slots / 1.2, 1.0);
            assert!(!queueing.is_short_of_slots());
            let full = Queueing { busy_slots: 0.9 * slots as f64, ..queueing };
            assert_eq!(full.is_short_of_slots(), due > 0.0);
            assert_eq!(full.with_one_slot().slots, 1);
        }
    }

    #[test]
    fn a_run_without_ops_has_no_load() {
        let ran = Cost { operations: 0, sent: 0, calls: 0, sink_seconds: 0.0, seconds: 0.0 };
        let (stats, times) = (Stats::default(), Percentiles::default());
        let none = Queueing::new(&Limits::new(1), &ran, &Meter::default(), &stats, &times);
        let times = [none.busy_slots, none.max_lingering_seconds, none.min_due_seconds, none.in_sink_seconds];
        assert_eq!((none.slots, times), (1, [0.0; 4]));
    }
}
