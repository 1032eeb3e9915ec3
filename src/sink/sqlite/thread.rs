//! The thread that owns the connection: in come jobs, one at a time and in order, out go their answers. Next room:
//! `writer`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread::Builder,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    OpenError, Sqlite,
    classify::classify,
    open,
    plan::Plan,
    rows::{Block, Rows},
    writer::Writer,
};
use crate::sink::{
    SinkError,
    table::fault::{Doing, Failed},
};

/// Jobs that wait while one is done. One keeps the thread busy; more would wait here rather than in the buffer, where
/// they can still be superseded.
const QUEUE: usize = 1;

pub(super) enum Job {
    /// A batch, of which the blocks arrive while it is written.
    Write(Receiver<Block>, oneshot::Sender<(Rows, Failed)>),
    Close(oneshot::Sender<Result<(), SinkError>>),
}

/// Our end of the thread. It ends when it was told to close, or when all senders are gone.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) jobs: mpsc::Sender<Job>,
    /// Tells a thread that was told to end from one that died.
    pub(super) closed: Arc<AtomicBool>,
}

/// Starts the thread and has it open the database; the second value says how that went. Nobody joins it: the answer to
/// a close is the last thing that it does.
pub(super) fn start(options: Sqlite, plan: Plan) -> io::Result<(Thread, oneshot::Receiver<Result<(), OpenError>>)> {
    let (jobs, inbox) = mpsc::channel(QUEUE);
    let (opened, is_open) = oneshot::channel();
    let closed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&closed);
    Builder::new().name("roundlot-sqlite".into()).spawn(move || run(&options, &plan, opened, inbox, &flag))?;
    Ok((Thread { jobs, closed }, is_open))
}

fn run(
    options: &Sqlite,
    plan: &Plan,
    opened: oneshot::Sender<Result<(), OpenError>>,
    mut inbox: mpsc::Receiver<Job>,
    closed: &AtomicBool,
) {
    let connection = match open::connect(options, plan, || opened.is_closed()) {
        Ok(connection) => connection,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let mut writer = match open::prepare(&connection, options, plan) {
        Ok(writer) => writer,
        Err(error) => return drop(opened.send(Err(error))),
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    let asked = serve(&mut writer, &mut inbox);
    drop(writer);
    let result = close(connection);
    // Set before the inbox goes, so that whoever finds it gone can tell why.
    closed.store(true, Ordering::Release);
    drop(inbox);
    match (asked, result) {
        (Some(asked), result) => drop(asked.send(result)),
        (None, Ok(())) => {}
        (None, Err(error)) => tracing::warn!(error = error.chain(), "a dropped SQLite sink did not close its file"),
    }
}

/// Does jobs until one asks for the end, and returns who asked.
fn serve(writer: &mut Writer<'_>, inbox: &mut mpsc::Receiver<Job>) -> Option<oneshot::Sender<Result<(), SinkError>>> {
    loop {
        match inbox.blocking_recv()? {
            // Its write was given up before it began: its ops are in doubt, and better not written than written twice.
            Job::Write(_, reply) if reply.is_closed() => {}
            Job::Write(arriving, reply) => {
                let Some((rows, failed)) = writer.write(&arriving) else { continue };
                // A write that was given up meanwhile has nobody to tell.
                let _unheard = reply.send((rows, failed));
            }
            Job::Close(reply) => return Some(reply),
        }
    }
}

/// Brings the log into the database, which also waits for the disk, so that a clean end outlives a loss of power.
fn close(connection: Connection) -> Result<(), SinkError> {
    let checkpoint = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    let closed = connection.close().map_err(|(_, error)| error);
    checkpoint.and(closed).map_err(|error| classify(Doing::Statement, error).into())
}
