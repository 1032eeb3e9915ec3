//! The part of the victim that pauses, withdraws, sends dead letters again, and leaves, as its plan says.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use roundlot::{
    Limits,
    durable::{Handle, Joined},
};
use tokio::time::sleep;

use crate::{
    Failure,
    op::{Kind, Op, now},
    plan::{Bent, Plan},
    said::{Said, say},
    venue::Venue,
    wire::Mark,
};

/// Longer than the log takes to find that it is idle.
const IDLE: u64 = 350;

struct Control<'a> {
    orders: &'a Joined<Op, u64>,
    desk: Handle<Op, u64>,
    venue: &'a Venue,
    random: fastrand::Rng,
}

/// Acts until it has left the log, or the process is killed.
pub(crate) async fn control(
    orders: Joined<Op, u64>,
    venue: &Venue,
    plan: &Plan,
    is_over: &AtomicBool,
) -> Result<(), Failure> {
    let random = fastrand::Rng::with_seed(!plan.seed);
    let mut control = Control { orders: &orders, desk: orders.handle(), venue, random };
    if orders.stats().paused {
        control.wait(0..60).await;
        control.resume().await?;
    }
    loop {
        match plan.bent {
            Bent::Mixed => {
                control.wait(5..60).await;
                control.act().await?;
            }
            Bent::Pause => {
                control.wait(1..20).await;
                control.pause(1..20).await?;
            }
            Bent::Withdraw => {
                control.wait(1..15).await;
                control.withdraw().await?;
            }
            Bent::Requeue => {
                control.wait(1..10).await;
                control.requeue().await?;
            }
            Bent::Discard => {
                control.wait(1..10).await;
                control.discard().await?;
            }
            Bent::Idle => {
                control.wait(10..40).await;
                is_over.store(true, Ordering::Relaxed);
                control.pause(IDLE..IDLE + 1).await?;
            }
            Bent::Leave => {
                control.wait(10..120).await;
                is_over.store(true, Ordering::Relaxed);
                // Most often writes are given up.
                let limit = Duration::from_millis(if control.random.u8(0..4) > 0 { 0 } else { 2000 });
                orders.leave().within(limit).await?;
                say(&Said::Left);
                return Ok(());
            }
        }
    }
}

impl Control<'_> {
    async fn wait(&mut self, ms: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.random.u64(ms))).await;
    }

    async fn act(&mut self) -> Result<(), Failure> {
        match self.random.u8(0..12) {
            0..3 => self.pause(5..60).await,
            3 => self.pause(300..900).await,
            4..7 => self.withdraw().await,
            7..9 => self.requeue().await,
            9 => self.discard().await,
            10 => {
                let limits = Limits::new(self.random.usize(1..40)).max_in_flight(self.random.usize(1..4));
                Ok(self.desk.set_limits(limits.max_pending(self.random.usize(100..900)))?)
            }
            _ => self.desk.flush().await.map(drop).map_err(Failure::from),
        }
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) -> Result<(), Failure> {
        let under_way = self.desk.pause().await?;
        let at = now();
        self.venue.mark(Mark::Paused { under_way }).await?;
        say(&Said::Paused { under_way, at });
        self.wait(ms).await;
        self.resume().await
    }

    async fn resume(&mut self) -> Result<(), Failure> {
        say(&Said::Resuming { at: now() });
        self.venue.mark(Mark::Resuming).await?;
        self.desk.resume().await?;
        say(&Said::Resumed);
        Ok(())
    }

    async fn withdraw(&mut self) -> Result<(), Failure> {
        let tag = self.random.u8(1..5);
        for op in self.desk.withdraw(move |op: &Op| op.tag == tag).await? {
            say(&Said::Withdrew { numbers: op.numbers });
        }
        Ok(())
    }

    /// Sends the op of a dead letter again, which has not landed and is stale for no one.
    async fn requeue(&mut self) -> Result<(), Failure> {
        let letters = self.orders.dead_letters();
        let found = letters.list(100).await?;
        let found = found.iter().find(|(_, letter)| !letter.is_in_doubt() && letter.op.kind == Kind::Plain);
        if let Some((id, letter)) = found {
            let (id_text, number) = (id.to_string(), letter.op.first());
            say(&Said::Requeueing { id: id_text.clone(), number });
            let new = letters.requeue(*id).await?.map(|id| id.to_string());
            say(&Said::Requeued { id: id_text, number, new });
        }
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        let letters = self.orders.dead_letters();
        let found = letters.list(100).await?;
        if let Some((id, letter)) = found.get(self.random.usize(0..100)) {
            let (id_text, numbers) = (id.to_string(), letter.op.numbers.clone());
            say(&Said::Discarding { id: id_text.clone(), numbers });
            let was_there = letters.discard(*id).await?;
            say(&Said::Discarded { id: id_text, was_there });
        }
        Ok(())
    }
}
