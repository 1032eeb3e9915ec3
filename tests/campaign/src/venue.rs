//! [`Venue`]: the victim's sink, which hands batches to the destination.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use roundlot::{Batch, Settled, Sink, SinkError, durable::Term, sink::Guarantee};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use crate::{
    Failure,
    op::{Op, now},
    plan::Sort,
    rows,
    wire::{Known, Mark, Reply, Request, Verdict},
};

#[derive(Clone)]
pub(crate) struct Venue(Arc<Inner>);

struct Inner {
    socket: PathBuf,
    sort: Sort,
    life: u64,
    is_gentle: bool,
    /// Connections that no call has.
    idle: Mutex<Vec<BufReader<UnixStream>>>,
}

/// The sink of one term.
#[derive(Clone)]
pub(crate) struct OfTerm {
    venue: Venue,
    term: Term,
}

impl Venue {
    pub(crate) fn new(folder: &Path, sort: Sort, life: u64, is_gentle: bool) -> Self {
        let socket = folder.join("venue.sock");
        Self(Arc::new(Inner { socket, sort, life, is_gentle, idle: Mutex::new(Vec::new()) }))
    }

    async fn connect(&self) -> Result<BufReader<UnixStream>, Failure> {
        let mut stream = UnixStream::connect(&self.0.socket).await?;
        put(&mut stream, &Request::Hello { life: self.0.life, is_gentle: self.0.is_gentle }).await?;
        Ok(BufReader::new(stream))
    }

    /// Sends a request and waits for its answer.
    async fn call(&self, request: &Request) -> Result<Reply, Failure> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        put(connection.get_mut(), request).await?;
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Err("the connection ended".into());
        }
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(serde_json::from_str(&line)?)
    }

    /// Notes something between the arrivals.
    pub(crate) async fn mark(&self, mark: Mark) -> Result<(), Failure> {
        match self.call(&Request::Mark(mark)).await? {
            Reply::Noted => Ok(()),
            other => Err(format!("a mark was answered by {other:?}").into()),
        }
    }
}

async fn put(stream: &mut UnixStream, request: &Request) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(())
}

impl OfTerm {
    /// Writes rows in the transaction that settles the batch, after a while.
    async fn transact(&self, batch: &mut Batch<Op, u64>) -> Result<Settled, SinkError> {
        let Inner { life, is_gentle, .. } = *self.venue.0;
        let (begun, mut random) = (now(), fastrand::Rng::new());
        if !is_gentle {
            tokio::time::sleep(Duration::from_micros(random.u64(0..6000))).await;
        }
        let mut write = rows::Write { life, begun, random, is_gentle };
        self.term.transaction(batch, move |transaction, batch| write.run(transaction, batch)).await
    }
}

impl Sink<Op, u64> for OfTerm {
    async fn write(&self, batch: &mut Batch<Op, u64>) -> Result<Settled, SinkError> {
        match self.venue.0.sort {
            Sort::Transactional => self.transact(batch).await,
            _ => self.venue.write(batch).await,
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self.venue.0.sort {
            Sort::Transactional => Guarantee::Transactional,
            Sort::Idempotent => Guarantee::Idempotent,
            Sort::Unknown | Sort::Asked => Guarantee::Unknown,
        }
    }

    async fn reconcile(&self, batch: &mut Batch<Op, u64>) -> Result<(), SinkError> {
        self.venue.reconcile(batch).await
    }
}

impl Venue {
    pub(crate) fn of_term(&self, term: Term) -> OfTerm {
        OfTerm { venue: self.clone(), term }
    }

    async fn write(&self, batch: &mut Batch<Op, u64>) -> Result<Settled, SinkError> {
        let (indexes, ops): (Vec<usize>, Vec<Op>) = batch.pending().indexed().map(|(i, op)| (i, op.clone())).unzip();
        let begun = now();
        let reply = self.call(&Request::Write { begun, ops }).await;
        let verdicts = match reply.map_err(SinkError::ambiguous)? {
            Reply::Verdicts(verdicts) if verdicts.len() == indexes.len() => verdicts,
            Reply::Busy => return Err(SinkError::transient("busy")),
            Reply::Throttled => return Err(SinkError::throttled(Duration::from_millis(5))),
            Reply::TooLarge(max) => return Err(SinkError::too_large_over(max)),
            other => return Err(SinkError::ambiguous(format!("a batch was answered by {other:?}"))),
        };
        for (i, verdict) in indexes.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Landed(at) => batch.accept(i, at),
                Verdict::Busy => batch.retry(i, SinkError::transient("busy")),
                Verdict::Refused => batch.refuse(i, SinkError::refused("no")),
                // The kind of the error decides: an idempotent sink gets it again.
                Verdict::Unclear => batch.refuse(i, SinkError::ambiguous("no word")),
            }
        }
        batch.settled()
    }

    async fn reconcile(&self, batch: &mut Batch<Op, u64>) -> Result<(), SinkError> {
        if self.0.sort != Sort::Asked {
            return Ok(());
        }
        let ops = batch.ops().to_vec();
        let reply = self.call(&Request::Ask { ops }).await.map_err(SinkError::outage)?;
        let Reply::Known(known) = reply else {
            return Err(SinkError::outage(format!("a question was answered by {reply:?}")));
        };
        for (i, known) in known.into_iter().enumerate() {
            match known {
                Known::Landed(at) => batch.accept(i, at),
                Known::Never => batch.retry(i, SinkError::transient("not there")),
                Known::Refused => batch.refuse(i, SinkError::refused("no")),
                Known::Unknown => {}
            }
        }
        Ok(())
    }
}
