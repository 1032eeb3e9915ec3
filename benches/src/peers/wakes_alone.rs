//! Callers that wait and are woken, without op, answer or channel.
//!
//! The row `submit` shows it as the least cost of any batching with an answer per op.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::load::{Load, join};

/// The state that callers and the calling task share.
#[derive(Default)]
struct Lobby {
    /// The number of calls so far. Each call wakes all waiting callers.
    calls: u64,
    /// The wakers of the waiting callers.
    callers: Vec<Waker>,
    /// The waker of the calling task, while no caller waits.
    idle: Option<Waker>,
}

/// Lets each caller wait as many times as it has ops, and wakes all waiting callers at once.
pub async fn submit(load: Load) {
    let lobby = Arc::new(Mutex::new(Lobby::default()));
    let callers = load.start(|share| {
        let lobby = Arc::clone(&lobby);
        async move {
            for _ in share {
                let mut came = None;
                poll_fn(|cx| wait(&mut enter(&lobby), &mut came, cx)).await;
            }
        }
    });
    let calling = tokio::spawn(async move {
        let (mut called, mut waiting) = (0, Vec::new());
        while called < load.ops {
            poll_fn(|cx| call(&mut enter(&lobby), &mut waiting, cx)).await;
            called += waiting.len() as u64;
            waiting.drain(..).for_each(Waker::wake);
        }
        called
    });
    join(callers).await;
    assert_eq!(calling.await.expect("it does not panic"), load.ops, "callers that were called");
}

fn enter(lobby: &Mutex<Lobby>) -> MutexGuard<'_, Lobby> {
    lobby.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a caller on its first poll, and completes once there was a call since then.
fn wait(lobby: &mut Lobby, came: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
    if came.is_some_and(|calls| calls < lobby.calls) {
        return Poll::Ready(());
    }
    if came.is_none() {
        *came = Some(lobby.calls);
        lobby.callers.push(cx.waker().clone());
        lobby.idle.take().into_iter().for_each(Waker::wake);
    }
    Poll::Pending
}

/// Takes the wakers of all waiting callers, or registers the calling task if no caller waits.
fn call(lobby: &mut Lobby, waiting: &mut Vec<Waker>, cx: &mut Context<'_>) -> Poll<()> {
    if lobby.callers.is_empty() {
        lobby.idle = Some(cx.waker().clone());
        return Poll::Pending;
    }
    lobby.calls += 1;
    mem::swap(&mut lobby.callers, waiting);
    Poll::Ready(())
}
