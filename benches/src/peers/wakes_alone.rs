//! Callers that wait and are woken, and nothing else: no op, no answer, no channel. In come callers, out they go again,
//! all that wait at once. What no batching with an answer per op can do without.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::load::{Load, join};

#[derive(Default)]
struct Lobby {
    /// How often everybody was called.
    calls: u64,
    callers: Vec<Waker>,
    /// The next caller, while none waits.
    idle: Option<Waker>,
}

/// Each caller waits for a call before it waits for the next.
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

/// Joins the others, or looks whether there was a call.
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

/// Takes all who wait.
fn call(lobby: &mut Lobby, waiting: &mut Vec<Waker>, cx: &mut Context<'_>) -> Poll<()> {
    if lobby.callers.is_empty() {
        lobby.idle = Some(cx.waker().clone());
        return Poll::Pending;
    }
    lobby.calls += 1;
    mem::swap(&mut lobby.callers, waiting);
    Poll::Ready(())
}
