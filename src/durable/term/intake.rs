//! Frames of the log, on their way into a term.

use std::sync::Arc;

use tokio::time::Instant;

use super::{TermEnd, ask, positions::Token, requests::Request, running::Running};
use crate::{
    driver::clock,
    durable::{
        codec::CodecError,
        frame::{Entry, Frame},
        log::{Found, Log, LogError, StoredFrame, lead::Reach, local::nanos},
        outcomes,
        settings::OnUndecodable,
    },
    rules::{
        accumulator::Arrival,
        batch::SinkError,
        outcome::{AckError, End, Outcome},
        time::Timestamp,
    },
    sink::{Guarantee, Sink},
};

/// Frames taken in before other tasks run: some milliseconds of work.
const FRAMES_PER_TURN: usize = 16;

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Takes in frames that have been stored meanwhile.
    pub(super) async fn drain_frames(&mut self) -> Result<(), TermEnd> {
        for _ in 0..FRAMES_PER_TURN {
            match self.try_next_frame() {
                Some(frame) => self.read_frame(frame).await?,
                None => return Ok(()),
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Takes in a frame, and those before it of which the term was not told.
    pub(super) async fn read_frame(&mut self, frame: StoredFrame) -> Result<(), TermEnd> {
        let read = self.take_in(&frame).await;
        if read.is_err() {
            // Its ops are not lost: the next leader tells what becomes of them.
            self.frames.early.push_front(frame);
        }
        read
    }

    async fn take_in(&mut self, frame: &StoredFrame) -> Result<(), TermEnd> {
        if frame.first > self.next {
            self.read_log(frame.first).await?;
        }
        match frame.first {
            first if first >= self.next => self.accept(frame).await,
            // A frame of another process was read with those before it.
            _ if !self.is_own(frame) => Ok(()),
            // The frame was there when the term began.
            first if first < self.found_until => {
                self.expect_settled(frame).await?;
                self.leader.note_late(frame).await
            }
            first if first < self.next && self.is_new(frame)? => Err(LogError::WentBack.into()),
            _ => Ok(()),
        }
    }

    fn is_own(&self, frame: &StoredFrame) -> bool {
        Frame::producer_of(&frame.bytes) == Some(self.leader.shared.log.producer())
    }

    /// Whether no term and no follower has seen a frame of this process. One that was made of a dead letter has no number.
    fn is_new(&self, frame: &StoredFrame) -> Result<bool, TermEnd> {
        Ok(Frame::open(Arc::clone(&frame.bytes))?.number > self.leader.account.last_frame)
    }

    /// Checks a frame of this process that the term has not read, though it stands below what the term has found. It is new only if it
    /// was settled by an earlier leader, unless the log went back and has used its positions again.
    async fn expect_settled(&mut self, frame: &StoredFrame) -> Result<(), TermEnd> {
        if !self.is_new(frame)? {
            return Ok(());
        }
        let (log, shard) = (Arc::clone(&self.leader.shared.log), self.leader.shard);
        let reach = ask(&self.leader.abort, || log.reach(shard)).await?;
        self.expect_reach(&reach)?;
        let is_settled = self.settled.next_open(frame.first) >= frame.first + frame.count;
        if is_settled { Ok(()) } else { Err(LogError::WentBack.into()) }
    }

    /// Checks that the log has come at least as far as the term knows.
    fn expect_reach(&self, reach: &Reach) -> Result<(), TermEnd> {
        let is_behind = reach.next < self.next || reach.cursor < self.settled.cursor();
        if is_behind { Err(LogError::WentBack.into()) } else { Ok(()) }
    }

    /// Reads the log up to a position.
    pub(super) async fn read_log(&mut self, until: u64) -> Result<(), TermEnd> {
        while self.next < until {
            let (log, shard, from) = (&self.leader.shared.log, self.leader.shard, self.next);
            let mut frames = ask(&self.leader.abort, || log.read(shard, from)).await?;
            frames.retain(|frame| frame.first < until);
            if frames.is_empty() {
                return Ok(());
            }
            for frame in &frames {
                self.accept(frame).await?;
            }
        }
        Ok(())
    }

    async fn accept(&mut self, stored: &StoredFrame) -> Result<(), TermEnd> {
        if stored.first > self.next {
            // Only a newer term can have settled what this one has not read.
            let why = format!("the ops at position {} were settled by a newer term", self.next);
            return Err(TermEnd::Fenced(why));
        }
        let frame = Frame::open(Arc::clone(&stored.bytes))?;
        let (now, at) = (clock::now(), accepted_at(&*self.leader.shared.log, &frame));
        self.wall.frame(frame.made_at);
        let entries = frame.entries()?;
        if entries.len() as u64 != stored.count {
            // No op is left out before it has been read and settled.
            return Err(TermEnd::Unreadable(format!("ops of the frame at position {} are missing", stored.first)));
        }
        let is_own = frame.producer == self.leader.shared.log.producer();
        // An op that can't be read holds the shard before anything of its frame is counted.
        let mut ops = Vec::with_capacity(entries.len());
        for (place, entry, range) in &entries {
            let token = token_of(entry, stored.first + place, is_own);
            ops.push(if entry.withdraws {
                None
            } else {
                Some(self.read_op(token, &frame.bytes[range.clone()], frame.schema)?)
            });
        }
        if is_own {
            self.leader.account.saw(frame.number);
        }
        let requests = entries.iter().filter(|(_, entry, _)| entry.withdraws).count();
        self.count_read(entries.len() - requests, requests, is_own);
        self.leader.account.counted_to = Some(stored.first + stored.count);
        let counts = (entries.len(), entries.len());
        self.kept.push(stored.first, stored.count, frame.bytes.len(), counts, at);
        for ((place, entry, range), op) in entries.into_iter().zip(ops) {
            let token = token_of(&entry, stored.first + place, is_own);
            if let Some(key) = frame.key(&entry, &range) {
                self.execute(Request { token, key });
                continue;
            }
            if entry.may_repeat {
                self.flagged.add((token.producer, token.number));
                if self.is_repeat(token).await? {
                    continue;
                }
            }
            self.ids.push(&token);
            if let Some(op) = op.and_then(|op| self.or_refuse(token, op, frame.schema)) {
                self.accumulator.push(Arrival { op, at, token: Some(token) }, now);
            }
        }
        self.next = stored.first + stored.count;
        Ok(())
    }

    /// Counts ops and requests in that this process, or another one, has sent since the term began.
    fn count_read(&mut self, count: usize, requests: usize, are_own: bool) {
        let leader = &mut *self.leader;
        leader.account.read(&leader.shared.permits, count, are_own);
        leader.account.read_requests(&leader.shared.permits, requests);
        let mut stats = leader.shared.shard(leader.shard).stats();
        *(if are_own { &mut stats.accepted } else { &mut stats.received }) += count as u64;
    }

    /// Takes up what other processes have stored: frames, and a pause.
    pub(super) async fn look_at_others(&mut self) -> Result<(), TermEnd> {
        let (log, shard) = (Arc::clone(&self.leader.shared.log), self.leader.shard);
        let reach = ask(&self.leader.abort, || log.reach(shard)).await?;
        self.expect_reach(&reach)?;
        while let Some(frame) = self.try_next_frame() {
            self.read_frame(frame).await?;
        }
        if reach.next > self.next {
            self.read_log(reach.next).await?;
        }
        let is_changing = self.draft.pause.is_some() || self.committing.is_some();
        self.overlooks_pause = reach.paused != self.paused && is_changing;
        if reach.paused != self.paused && !is_changing {
            self.paused = reach.paused;
            self.set_gate();
        }
        Ok(())
    }

    /// Whether the log knew the id of an op before. The op is then settled with the one that it repeats, and its caller is told
    /// the same.
    pub(super) async fn is_repeat(&mut self, token: Token) -> Result<bool, TermEnd> {
        let (shared, id) = (Arc::clone(&self.leader.shared), token.id(self.leader.shard));
        if self.ids.position(id, &self.settled).is_some() {
            self.repeats.entry(id).or_default().push(token);
            return Ok(true);
        }
        let outcome = match ask(&self.leader.abort, || shared.log.find(id)).await? {
            Found::Unknown => return Ok(false),
            Found::Ended(row) => outcomes::from_row(&*shared.codec, &row),
            Found::Forgotten => forgotten(),
        };
        self.draft.repeat(token);
        shared.waiters.tell(id, outcome);
        Ok(true)
    }

    /// Decodes an op. `None` if it can't be and has ended as refused.
    pub(super) fn decode(&mut self, token: Token, bytes: &[u8], schema: u32) -> Result<Option<T>, TermEnd> {
        let op = self.read_op(token, bytes, schema)?;
        Ok(self.or_refuse(token, op, schema))
    }

    /// Decodes an op, or says why it can't be, unless that holds the shard.
    fn read_op(&self, token: Token, bytes: &[u8], schema: u32) -> Result<Result<T, CodecError>, TermEnd> {
        let op = self.codec.decode_op(bytes, schema);
        let default = if self.guarantee == Guarantee::Unknown { OnUndecodable::Hold } else { OnUndecodable::Refuse };
        match op {
            Err(error) if self.leader.on_undecodable.unwrap_or(default) == OnUndecodable::Hold => {
                Err(TermEnd::Unreadable(format!("op {}: {error}", token.id(self.leader.shard))))
            }
            op => Ok(op),
        }
    }

    /// An op that can't be decoded ends as refused.
    fn or_refuse(&mut self, token: Token, op: Result<T, CodecError>, schema: u32) -> Option<T> {
        let error = match op {
            Ok(op) => return Some(op),
            Err(error) => SinkError::refused(error),
        };
        self.draft.told.letter(token, None, schema, End::Refused, 0, &error);
        self.draft.end(&*self.codec, token, refused(error));
        self.draft.effects.release += 1;
        None
    }
}

/// The time from which the age of a frame's ops counts, by the runtime's clock.
pub(super) fn accepted_at(log: &dyn Log, frame: &Frame) -> Timestamp {
    let age = nanos(log.now()).saturating_sub(frame.made_at);
    let now = Instant::now().into_std();
    now.checked_sub(std::time::Duration::from_nanos(age)).unwrap_or(now).into()
}

pub(super) fn token_of(entry: &Entry, position: u64, is_own: bool) -> Token {
    Token { position, producer: entry.producer, number: entry.number, handle: entry.handle, is_own }
}

/// The end of an op of which the log knows no more.
pub(super) fn forgotten<R>() -> Outcome<R> {
    refused(SinkError::refused("its id is forgotten"))
}

pub(super) fn refused<R>(error: SinkError) -> Outcome<R> {
    Outcome {
        result: Err(AckError::Refused(error)),
        end: End::Refused,
        attempts: 0,
        latency: std::time::Duration::ZERO,
    }
}
