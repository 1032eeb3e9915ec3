//! The destination: a program that outlives the victims. It numbers what arrives, and has it in a synced journal before it
//! answers. By its seed it dawdles, refuses, is busy, or lands a batch and never says so.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    Failure,
    op::Op,
    plan::Sort,
    wire::{Fate, Known, Line, Mark, Reply, Request, Verdict},
};

/// The most ops that a batch may have which is not too large, where one is called so.
const SMALL_BATCH: usize = 4;

struct State {
    sort: Sort,
    random: fastrand::Rng,
    journal: File,
    /// The number of the last line.
    seq: u64,
    /// Ops that have landed, by the first number, with the line that says so.
    landed: HashMap<u64, (Vec<u64>, u64)>,
    /// Ops that were refused, by their first numbers.
    refused: HashSet<u64>,
    /// Open connections by number, with their lives once these are known.
    open: BTreeMap<u64, Option<u64>>,
}

struct Destination {
    state: Mutex<State>,
    /// Told when a connection ends, or says its life.
    changed: Condvar,
}

/// Serves until the driver ends it.
pub(crate) fn run(folder: &Path, sort: Sort, seed: u64) -> Result<(), Failure> {
    let journal = File::options().create(true).append(true).open(folder.join("arrivals"))?;
    let listener = UnixListener::bind(folder.join("venue.sock"))?;
    let state = State {
        sort,
        random: fastrand::Rng::with_seed(seed),
        journal,
        seq: 0,
        landed: HashMap::new(),
        refused: HashSet::new(),
        open: BTreeMap::new(),
    };
    let destination = Arc::new(Destination { state: Mutex::new(state), changed: Condvar::new() });
    println!("ready");
    for (number, stream) in (0..).zip(listener.incoming()) {
        let (stream, destination) = (stream?, Arc::clone(&destination));
        // Connections are known in the order in which they were made.
        destination.state().open.insert(number, None);
        thread::spawn(move || {
            // A victim that dies ends its connections in the middle.
            let _ = destination.serve(number, &stream);
            destination.state().open.remove(&number);
            destination.changed.notify_all();
        });
    }
    Ok(())
}

impl Destination {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, number: u64, stream: &UnixStream) -> Result<(), Failure> {
        let (mut life, mut is_gentle) = (0, false);
        for line in BufReader::new(stream).lines() {
            let reply = match serde_json::from_str(&line?)? {
                Request::Hello { life: said, is_gentle: gentle } => {
                    (life, is_gentle) = (said, gentle);
                    self.state().open.insert(number, Some(life));
                    self.changed.notify_all();
                    continue;
                }
                Request::Write { begun, ops } => match self.write(life, begun, ops, is_gentle)? {
                    Some(reply) => reply,
                    // The answer is lost with the connection.
                    None => return Ok(()),
                },
                Request::Ask { ops } => Reply::Known(self.known(number, life, &ops)),
                Request::Mark(mark) => self.mark(life, mark)?,
            };
            let mut answer = serde_json::to_vec(&reply)?;
            answer.push(b'\n');
            (&*stream).write_all(&answer)?;
        }
        Ok(())
    }

    /// Takes a batch. `None` if no answer is given.
    fn write(&self, life: u64, begun: u64, ops: Vec<Op>, is_gentle: bool) -> Result<Option<Reply>, Failure> {
        let (dice, before, after) = {
            let mut state = self.state();
            // Most of the time the destination is slower than the victim.
            let mut pause = || Duration::from_micros(state.random.u64(0..4000));
            let (before, after) = (pause(), pause());
            (state.random.u32(0..100), before, after)
        };
        if is_gentle {
            return self.land(life, begun, ops, 0).map(|verdicts| Some(Reply::Verdicts(verdicts)));
        }
        thread::sleep(before);
        let refusal = match dice {
            0..3 => Some(Some(Reply::Busy)),
            3 => Some(Some(Reply::Throttled)),
            4 if ops.len() > SMALL_BATCH => Some(Some(Reply::TooLarge(SMALL_BATCH))),
            5 => Some(None),
            _ => None,
        };
        if let Some(reply) = refusal {
            let ops = ops.into_iter().map(|op| (op, Fate::NotTaken)).collect();
            self.state().note_call(life, begun, ops)?;
            return Ok(reply);
        }
        let verdicts = self.land(life, begun, ops, 20)?;
        thread::sleep(after);
        Ok((dice != 6).then_some(Reply::Verdicts(verdicts)))
    }

    /// Lands a batch, op by op, but for `failing` in a thousand each that are refused, not taken, or taken in silence.
    fn land(&self, life: u64, begun: u64, ops: Vec<Op>, failing: u32) -> Result<Vec<Verdict>, Failure> {
        let mut state = self.state();
        let seq = state.seq + 1;
        let (mut verdicts, mut called) = (Vec::new(), Vec::new());
        for op in ops {
            let dice = state.random.u32(0..1000);
            let is_silent = (2 * failing..2 * failing + failing / 4).contains(&dice);
            let (verdict, fate) = state.take(&op, seq, (dice < failing, dice < 2 * failing));
            verdicts.push(if is_silent { Verdict::Unclear } else { verdict });
            called.push((op, fate));
        }
        state.note_call(life, begun, called)?;
        Ok(verdicts)
    }

    /// Answers about ops of earlier lives, when their calls are over.
    fn known(&self, number: u64, life: u64, ops: &[Op]) -> Vec<Known> {
        let is_over = |open: &BTreeMap<u64, Option<u64>>| open.range(..number).all(|(_, of)| *of == Some(life));
        let mut state = self.state();
        while !is_over(&state.open) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        ops.iter().map(|op| state.known(op)).collect()
    }

    fn mark(&self, life: u64, mark: Mark) -> Result<Reply, Failure> {
        let mut state = self.state();
        state.seq += 1;
        let seq = state.seq;
        state.note(&Line::Mark { seq, life, mark })?;
        Ok(Reply::Noted)
    }
}

impl State {
    /// Takes one op, refuses it, or is too busy for it.
    fn take(&mut self, op: &Op, seq: u64, (is_refused, is_not_taken): (bool, bool)) -> (Verdict, Fate) {
        if let Some((_, at)) = self.landed.get(&op.first()).filter(|_| self.sort == Sort::Idempotent) {
            return (Verdict::Landed(*at), Fate::Repeated);
        }
        if is_refused {
            self.refused.insert(op.first());
            return (Verdict::Refused, Fate::Refused);
        }
        if is_not_taken {
            return (Verdict::Busy, Fate::NotTaken);
        }
        self.landed.insert(op.first(), (op.numbers.clone(), seq));
        (Verdict::Landed(seq), Fate::Landed)
    }

    fn known(&mut self, op: &Op) -> Known {
        if self.random.u32(0..10) == 0 {
            return Known::Unknown;
        }
        match self.landed.get(&op.first()) {
            Some((numbers, at)) if *numbers == op.numbers => Known::Landed(*at),
            _ if self.refused.contains(&op.first()) => Known::Refused,
            _ => Known::Never,
        }
    }

    fn note_call(&mut self, life: u64, begun: u64, ops: Vec<(Op, Fate)>) -> Result<(), Failure> {
        self.seq += 1;
        let seq = self.seq;
        self.note(&Line::Call { seq, life, begun, ops })
    }

    fn note(&mut self, line: &Line) -> Result<(), Failure> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.journal.write_all(&bytes)?;
        self.journal.sync_data()?;
        Ok(())
    }
}
