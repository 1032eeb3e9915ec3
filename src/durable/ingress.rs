//! [`Ingress`]: the way of ops into the log of one shard. Calls put encoded ops into an open frame, which is sealed at the moment
//! when the engine has a transaction for it: so it holds all that came during the last sync. One frame is on its way at a time,
//! and comes again unchanged until the log answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{runtime, sync::Notify};
use tracing::warn;

use super::{
    fate::{Fate, NotStored, Teller},
    frame::{Frame, Packer},
    log::{Frames, Log, LogError, callers::Callers, local::nanos},
    meter::AppendMeter,
    permits::Held,
    step::Step,
};
use crate::{driver::clock, rules::time::Timestamp};

/// Pauses before a frame is tried again, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

pub(crate) struct Ingress {
    /// The name of its shard.
    name: Arc<str>,
    meter: AppendMeter,
    log: Arc<dyn Log>,
    callers: Arc<Callers>,
    shard: u16,
    schema: u32,
    /// Where a frame waits before it is tried again.
    runtime: runtime::Handle,
    state: Mutex<State>,
    /// Notified when nothing waits any more.
    is_empty: Notify,
    me: Weak<Self>,
}

struct State {
    /// Ops that wait, by frame. The last one takes more.
    open: VecDeque<OpenFrame>,
    /// Whether the first of them takes no more.
    is_full: bool,
    /// The frame that the log has not answered, if it has asked for it, and when it did.
    on_way: Option<(Frame, Calls, Timestamp)>,
    /// Whether the log was told of a frame and has not answered.
    is_told: bool,
    /// The number of the last frame.
    number: u64,
    pause: Duration,
    is_closed: bool,
}

struct OpenFrame {
    packer: Packer,
    calls: Calls,
}

/// The calls whose ops are in a frame.
struct Calls {
    count: usize,
    held: Held,
    teller: Teller,
}

impl Ingress {
    /// Called in the runtime that frames are tried again in.
    pub(crate) fn new(name: Arc<str>, log: Arc<dyn Log>, shard: u16, schema: u32) -> Arc<Self> {
        let meter = AppendMeter::new(&name);
        let state = State {
            open: VecDeque::new(),
            is_full: false,
            on_way: None,
            is_told: false,
            number: 0,
            pause: BACKOFF.0,
            is_closed: false,
        };
        Arc::new_cyclic(|me| Self {
            name,
            meter,
            callers: log.callers(),
            log,
            shard,
            schema,
            runtime: runtime::Handle::current(),
            state: Mutex::new(state),
            is_empty: Notify::new(),
            me: Weak::clone(me),
        })
    }

    /// Puts the ops of a call into a frame. The future returned waits until the log has it; once this has returned, the ops are
    /// on their way even if it is dropped.
    pub(crate) fn submit(&self, call: Packer, held: &Held) -> Result<impl Future<Output = Fate> + use<>, NotStored> {
        let mut state = self.state();
        if state.is_closed {
            return Err(NotStored::Closed);
        }
        if !state.open.back().is_some_and(|frame| frame.packer.has_room_for(&call)) {
            let calls = Calls { count: 0, held: held.none(), teller: Teller::default() };
            state.open.push_back(OpenFrame { packer: Packer::new(self.log.producer()), calls });
        }
        // There is one now.
        let Some(frame) = state.open.back_mut() else { return Err(NotStored::Closed) };
        frame.calls.held.merge(held);
        frame.packer.append(call);
        frame.calls.count += 1;
        let hearer = frame.calls.teller.hearer();
        self.callers.enter();
        let is_told = std::mem::replace(&mut state.is_told, true);
        self.look(&mut state);
        drop(state);
        if !is_told {
            self.tell();
        }
        Ok(hearer.fate())
    }

    /// Looks whether a frame is full.
    fn look(&self, state: &mut State) {
        let is_full = state.open.len() > 1 || state.open.front().is_some_and(|frame| frame.packer.is_full());
        if is_full != std::mem::replace(&mut state.is_full, is_full) {
            self.callers.set_full(is_full);
        }
    }

    /// Tells the log of a frame.
    fn tell(&self) {
        if let Some(me) = self.me.upgrade() {
            self.log.append(self.shard, me);
        }
    }

    /// Takes no calls any more.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Waits until the log has answered all calls.
    pub(crate) async fn drained(&self) {
        loop {
            let emptied = self.is_empty.notified();
            if self.state().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Answers all calls at once. Those whose frame the log may have are in doubt.
    pub(crate) fn give_up(&self) {
        let (on_way, open) = {
            let mut state = self.state();
            state.is_closed = true;
            // The log asks for no frame any more.
            state.is_told = false;
            let left = (state.on_way.take(), std::mem::take(&mut state.open));
            self.look(&mut state);
            left
        };
        self.answer_calls(on_way.into_iter().map(|(_, calls, _)| calls), Err(NotStored::InDoubt));
        self.answer_calls(open.into_iter().map(|frame| frame.calls), Err(NotStored::Closed));
        self.is_empty.notify_waiters();
    }

    fn answer_calls(&self, calls: impl Iterator<Item = Calls>, fate: Fate) {
        for Calls { count, held, teller } in calls {
            if fate.is_ok() {
                held.pass_on();
            }
            self.callers.answered(count);
            // Permits that are not passed on are free before callers hear of it.
            drop(held);
            teller.tell(fate);
        }
    }

    /// Tells the log of the frame again, after a pause.
    fn try_again(&self, error: &LogError) {
        warn!(batcher = %self.name, %error, "a frame is tried again");
        let pause = {
            let mut state = self.state();
            let longer = (state.pause * 2).min(BACKOFF.1);
            std::mem::replace(&mut state.pause, longer)
        };
        let me = Weak::clone(&self.me);
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            if let Some(me) = me.upgrade() {
                me.tell();
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        !self.is_told && self.on_way.is_none() && self.open.is_empty()
    }
}

impl Frames for Ingress {
    fn frame(&self) -> Option<Frame> {
        let (open, number) = {
            let mut state = self.state();
            if let Some((frame, ..)) = &state.on_way {
                return Some(frame.clone());
            }
            state.number += 1;
            let open = state.open.pop_front()?;
            self.look(&mut state);
            (open, state.number)
        };
        Step::Append.before();
        // Sealed without the lock, so that callers go on meanwhile.
        let frame = open.packer.seal(number, nanos(self.log.now()), self.schema);
        self.state().on_way = Some((frame.clone(), open.calls, clock::now()));
        Some(frame)
    }

    fn answer(&self, result: Result<(), LogError>) {
        match result {
            Err(error) if error.is_passing() || matches!(error, LogError::Unknown(_)) => return self.try_again(&error),
            // Nothing more will be stored, and of the frames that wait nothing was.
            Err(LogError::Closed) => return self.give_up(),
            Err(_) => {}
            Ok(()) => Step::Append.after(),
        }
        let (on_way, goes_on, is_empty) = {
            let mut state = self.state();
            state.pause = BACKOFF.0;
            let on_way = state.on_way.take();
            state.is_told = !state.open.is_empty();
            (on_way, state.is_told, state.is_empty())
        };
        if goes_on {
            self.tell();
        }
        if let (Some((frame, _, sealed_at)), Ok(())) = (&on_way, &result) {
            self.meter.stored(frame.count, clock::now().since(*sealed_at));
        }
        // An earlier attempt of unknown result may have stored a frame that is refused now.
        self.answer_calls(on_way.into_iter().map(|(_, calls, _)| calls), result.map_err(|_| NotStored::InDoubt));
        if is_empty {
            self.is_empty.notify_waiters();
        }
    }
}
