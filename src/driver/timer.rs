//! [`Timer`]: the one timer of a driver. It is moved only when the deadline has moved, and sleeps for good when there is none.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Sleep;

use crate::{driver::clock, rules::time::Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// Made when first needed, and then moved: making one costs more.
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Timestamp>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn set(&mut self, deadline: Option<Timestamp>) {
        if self.deadline == deadline {
            return;
        }
        self.deadline = deadline;
        let deadline = deadline.map(clock::instant);
        match (&mut self.sleep, deadline) {
            (Some(sleep), Some(deadline)) => sleep.as_mut().reset(deadline),
            (None, Some(deadline)) => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
            // One that is left alone would still wake the task.
            (_, None) => self.sleep = None,
        }
    }

    /// Ready when the deadline has passed; never without one.
    pub(crate) fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(_), Some(sleep)) = (self.deadline, &mut self.sleep) else {
            return Poll::Pending;
        };
        let fired = sleep.as_mut().poll(cx);
        if fired.is_ready() {
            // Setting the same deadline again asks for a new wake-up.
            self.deadline = None;
        }
        fired
    }

    pub(crate) fn fired(&mut self) -> impl Future<Output = ()> {
        std::future::poll_fn(|cx| self.poll_fired(cx))
    }
}
