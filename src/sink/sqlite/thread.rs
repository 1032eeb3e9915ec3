//! The thread that owns the connection. It does one job at a time, in order, and opens another connection before the
//! next write when the present one became doubtful. The sink starts it and sends jobs.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread::Builder,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    OpenError, Sqlite,
    classify::{classify, moved, verdict},
    open,
    place::Place,
    plan::Plan,
    rows::{Block, Rows},
    writer::Writer,
};
use crate::sink::{
    SinkError,
    table::classified::{Failed, Phase},
};

/// Jobs that wait while one is done. One keeps the thread busy; more would wait here instead of the buffer, where they
/// can still be superseded.
const QUEUE: usize = 1;

pub(super) enum Job {
    /// A batch, whose blocks arrive while it is written.
    Write(Receiver<Block>, oneshot::Sender<(Rows, Failed)>),
    Close(oneshot::Sender<Result<(), SinkError>>),
}

/// Handle of the thread. The thread ends on a close, or when all senders are gone.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) jobs: mpsc::Sender<Job>,
    /// Tells a thread that was told to end from one that died.
    pub(super) closed: Arc<AtomicBool>,
}

/// Starts the thread, which opens the database; the second value tells whether that succeeded. The thread is not
/// joined: its last action is the answer to a close.
pub(super) fn start(options: Sqlite, plan: Plan) -> io::Result<(Thread, oneshot::Receiver<Result<(), OpenError>>)> {
    let (jobs, inbox) = mpsc::channel(QUEUE);
    let (opened, is_open) = oneshot::channel();
    let closed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&closed);
    Builder::new().name("roundlot-sqlite".into()).spawn(move || run(&options, &plan, opened, inbox, &flag))?;
    Ok((Thread { jobs, closed }, is_open))
}

/// Why a connection is closed.
enum End {
    /// A close asked for it.
    Asked(oneshot::Sender<Result<(), SinkError>>),
    /// The sink was dropped.
    Dropped,
    /// The connection is doubtful, and the next write needs another one.
    Doubtful,
}

fn run(
    options: &Sqlite,
    plan: &Plan,
    opened: oneshot::Sender<Result<(), OpenError>>,
    mut inbox: mpsc::Receiver<Job>,
    closed: &AtomicBool,
) {
    let connection = match open::connect(options, plan, true, || opened.is_closed()) {
        Ok(connection) => connection,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let mut writer = match Writer::prepare(&connection, options, plan) {
        Ok(writer) => writer,
        Err(error) => return drop(opened.send(Err(error))),
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    let mut end = serve(&mut writer, &mut inbox);
    let place = writer.into_place();
    let mut result = close(connection, &place, &end);
    while let End::Doubtful = end {
        (end, result) = open_again(options, plan, &mut inbox, result);
    }
    // Set before the inbox is dropped, so a sender that finds it gone can tell why.
    closed.store(true, Ordering::Release);
    drop(inbox);
    match (end, result) {
        (End::Asked(asked), result) => drop(asked.send(result)),
        (_, Ok(())) => {}
        (_, Err(error)) => tracing::warn!(error = error.chain(), "a dropped SQLite sink did not close its file"),
    }
}

/// Serves with a new connection, once there is a write for it. Returns why it was closed and with what result, or
/// `last`, the result of the one before.
fn open_again(
    options: &Sqlite,
    plan: &Plan,
    inbox: &mut mpsc::Receiver<Job>,
    last: Result<(), SinkError>,
) -> (End, Result<(), SinkError>) {
    let (arriving, reply) = match inbox.blocking_recv() {
        None => return (End::Dropped, last),
        Some(Job::Close(asked)) => return (End::Asked(asked), last),
        Some(Job::Write(arriving, reply)) => (arriving, reply),
    };
    let connection = match open::connect(options, plan, false, || reply.is_closed()) {
        Ok(connection) => connection,
        Err(error) => {
            fail_all(error, &arriving, reply);
            return (End::Doubtful, last);
        }
    };
    let (end, place) = match Writer::prepare(&connection, options, plan) {
        Ok(mut writer) => {
            tracing::debug!(path = %options.path.display(), "SQLite sink: the database was opened again");
            write(&mut writer, &arriving, reply);
            let end = if writer.is_doubtful() { End::Doubtful } else { serve(&mut writer, inbox) };
            (end, writer.into_place())
        }
        Err(error) => {
            fail_all(error, &arriving, reply);
            (End::Doubtful, Place::of(&options.path))
        }
    };
    let closed = close(connection, &place, &end);
    (end, closed)
}

/// Answers a write that there is no file to write to.
fn fail_all(error: OpenError, arriving: &Receiver<Block>, reply: oneshot::Sender<(Rows, Failed)>) {
    let mut rows = Rows::default();
    if rows.receive_all(arriving) {
        let error = SinkError::outage(error);
        let failed = (0..rows.len()).map(|row| (row, error.clone())).collect();
        let _unheard = reply.send((rows, failed));
    }
}

/// Does jobs until the connection is done with.
fn serve(writer: &mut Writer<'_>, inbox: &mut mpsc::Receiver<Job>) -> End {
    loop {
        match inbox.blocking_recv() {
            None => return End::Dropped,
            // The write was given up before it began. Its ops are in doubt, so skipping it is better than writing
            // twice.
            Some(Job::Write(_, reply)) if reply.is_closed() => {}
            Some(Job::Write(arriving, reply)) => write(writer, &arriving, reply),
            Some(Job::Close(asked)) => return End::Asked(asked),
        }
        if writer.is_doubtful() {
            return End::Doubtful;
        }
    }
}

fn write(writer: &mut Writer<'_>, arriving: &Receiver<Block>, reply: oneshot::Sender<(Rows, Failed)>) {
    if let Some(written) = writer.write(arriving) {
        // An error means that the write was given up meanwhile.
        let _unheard = reply.send(written);
    }
}

/// Moves the log into the database, which also waits for the disk: a clean end then survives a loss of power. The log
/// of a file that was moved goes with it and is left empty; SQLite would take it for that of a new file at the path.
fn close(connection: Connection, place: &Place, end: &End) -> Result<(), SinkError> {
    let is_left = place.is_left();
    let empties = is_left || matches!(end, End::Doubtful);
    if empties {
        // Emptying the log would wait for readers, copying it does not.
        connection.busy_timeout(Duration::ZERO).map_err(failed)?;
    }
    let kind = if empties { "TRUNCATE" } else { "PASSIVE" };
    let checkpoint = connection.query_row(&format!("PRAGMA wal_checkpoint({kind})"), [], |_| Ok(()));
    let closed = connection.close().map_err(|(_, error)| error);
    checkpoint.and(closed).map_err(failed)?;
    if is_left { Err(failed(moved())) } else { Ok(()) }
}

fn failed(error: rusqlite::Error) -> SinkError {
    verdict(classify(Phase::Statement, error))
}
