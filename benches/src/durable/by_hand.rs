//! A bare loop over rusqlite, and a group commit as one writes it by hand.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{Order, SENDERS, Watch, confirm, file, open, runtime, warm};
use crate::Error;

const INSERT: &str = "INSERT INTO rows VALUES (?1, ?2)";

/// Creates an empty table.
pub(super) fn create() -> Result<Connection, Error> {
    let path = file("rows.db")?;
    let connection = open(&path)?;
    connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, op BLOB NOT NULL)")?;
    warm(&path)?;
    Ok(connection)
}

/// Inserts rows in groups, a transaction each. If `deletes`, a transaction deletes the rows of the one before.
pub(super) fn rows(time: Duration, group: u64, deletes: bool) -> Result<Vec<f64>, Error> {
    let mut connection = create()?;
    let watch = Watch::start(time);
    let mut next = 0;
    while !watch.is_over() {
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for id in next..next + group {
            insert.execute(params![id as i64, &Order::numbered(id).bytes()[..]])?;
        }
        if deletes {
            transaction.prepare_cached("DELETE FROM rows WHERE id < ?1")?.execute([next as i64])?;
        }
        drop(insert);
        transaction.commit()?;
        confirm(group);
        next += group;
    }
    Ok(watch.stop())
}

/// A channel, one thread, one transaction for all that waits.
pub(super) fn group_commit(time: Duration) -> Result<Vec<f64>, Error> {
    let mut connection = create()?;
    let (ops, inbox) = mpsc::channel::<(Order, oneshot::Sender<()>)>();
    let writer = thread::spawn(move || -> Result<(), Error> {
        while let Ok(first) = inbox.recv() {
            let group: Vec<_> = std::iter::once(first).chain(inbox.try_iter()).collect();
            let transaction = connection.transaction()?;
            let mut insert = transaction.prepare_cached(INSERT)?;
            for (op, _) in &group {
                insert.execute(params![op.id as i64, &op.bytes()[..]])?;
            }
            drop(insert);
            transaction.commit()?;
            for (_, reply) in group {
                let _ = reply.send(());
            }
        }
        Ok(())
    });
    let runtime = runtime(2)?;
    let watch = Arc::new(Watch::start(time));
    runtime.block_on(async {
        let senders = (0..SENDERS).map(|sender| {
            let (ops, watch) = (ops.clone(), Arc::clone(&watch));
            tokio::spawn(async move {
                let mut id = sender << 32;
                while !watch.is_over() {
                    let (reply, answer) = oneshot::channel();
                    ops.send((Order::numbered(id), reply)).map_err(|_| "the writer is gone")?;
                    answer.await?;
                    confirm(1);
                    id += 1;
                }
                Ok::<_, Error>(())
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await??;
        }
        Ok::<_, Error>(())
    })?;
    let results = Arc::into_inner(watch).ok_or("a sender still runs")?.stop();
    drop(ops);
    writer.join().map_err(|_| "the writer panicked")??;
    Ok(results)
}

/// Counts the rows in the file of a job that was killed; if it `deleted`, by the last one.
pub(super) fn find(deleted: bool) -> Result<Vec<f64>, Error> {
    let sql = if deleted { "SELECT coalesce(max(id) + 1, 0) FROM rows" } else { "SELECT count(*) FROM rows" };
    let count: i64 = open(&file("rows.db")?)?.query_row(sql, [], |row| row.get(0))?;
    Ok(vec![count as f64])
}
