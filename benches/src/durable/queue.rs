//! `persistent-queue` on redb: pushes in groups by threads, and a consumer that acknowledges without a sync of its own.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use persistent_queue::{Builder, Durability, RedbStore};

use super::{Order, SENDERS, TELL, Watch, confirm, file};
use crate::Error;

const FILE: &str = "queue.redb";

/// Pushes by threads, since the queue blocks. A run that is to be killed has no consumer, so that all ops stay in the file.
pub(super) fn run(time: Duration) -> Result<Vec<f64>, Error> {
    let store = RedbStore::open(file(FILE)?)?;
    let builder = Builder::new(store).capacity(1 << 30).durability(Durability::Group).durable_acks(false);
    let (pushes, items) = builder.open()?;
    let has_consumer = env::var_os(TELL).is_none();
    let is_over = Arc::new(AtomicBool::new(false));
    let consumer = has_consumer.then(|| {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || -> Result<(), Error> {
            while !is_over.load(Ordering::Relaxed) {
                match items.reserve()? {
                    Some(item) => drop(item.ack()?),
                    None => thread::sleep(Duration::from_micros(200)),
                }
            }
            Ok(())
        })
    });
    let watch = Watch::start(time);
    thread::scope(|scope| {
        let sending = (0..SENDERS).map(|sender| {
            let (pushes, watch) = (pushes.clone(), &watch);
            scope.spawn(move || -> Result<(), Error> {
                let mut id = sender << 32;
                while !watch.is_over() {
                    pushes.push(&Order::numbered(id).bytes())?;
                    confirm(1);
                    id += 1;
                }
                Ok(())
            })
        });
        let sending: Vec<_> = sending.collect();
        sending.into_iter().try_for_each(|sender| sender.join().map_err(|_| "a sender panicked")?)
    })?;
    let results = watch.stop();
    is_over.store(true, Ordering::Relaxed);
    if let Some(consumer) = consumer {
        consumer.join().map_err(|_| "the consumer panicked")??;
    }
    Ok(results)
}

/// Counts the items in the file of a job that was killed.
pub(super) fn find() -> Result<Vec<f64>, Error> {
    let (_pushes, items) = Builder::new(RedbStore::open(file(FILE)?)?).capacity(1 << 30).open()?;
    let mut count = 0;
    while let Some(item) = items.reserve()? {
        item.ack()?;
        count += 1;
    }
    Ok(vec![f64::from(count)])
}
