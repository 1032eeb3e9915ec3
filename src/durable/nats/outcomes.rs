//! [`Outcomes`]: how ops ended, told by the leader of a shard to the processes that have sent them. A message that is lost costs its
//! callers a second: so often a process looks into the ledger. No stream holds these messages.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use async_nats::Message;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::streams::{Streams, away, no_answer};
use crate::durable::{
    bytes::{Reader, put_bytes, put_varint},
    log::{
        Record,
        store::{OutcomeRow, Stored},
    },
    members::Members,
    outcomes::row_end,
};

/// The first byte of a message, and the only format that is read.
const FORMAT: u8 = 1;

/// Bytes of a message, at most.
const MESSAGE: usize = 256 << 10;

/// Ops of this process in a message, at most: it looks at each.
const MAX_OPS: u64 = 1 << 20;

/// Messages that wait to be published. With more of them, the other processes are told to look.
const WAITING: usize = 256;

/// The pause before outcomes are listened to again.
const PAUSE: Duration = Duration::from_millis(100);

/// The way of outcomes to the other processes.
pub(super) struct Outcomes {
    members: Arc<Members>,
    messages: mpsc::Sender<(u16, Bytes)>,
}

/// The task that publishes outcomes and hears those that other processes publish.
pub(super) struct Relay {
    members: Arc<Members>,
    streams: Streams,
    messages: mpsc::Receiver<(u16, Bytes)>,
}

impl Outcomes {
    pub(super) fn new(members: &Arc<Members>, streams: &Streams) -> (Self, Relay) {
        let (sender, messages) = mpsc::channel(WAITING);
        let relay = Relay { members: Arc::clone(members), streams: streams.clone(), messages };
        (Self { members: Arc::clone(members), messages: sender }, relay)
    }

    /// Tells the other processes of a record that has committed, or at least that there is one.
    pub(super) fn recorded(&self, record: &Record) {
        let shard = record.shard;
        let is_told = self.members.has_company()
            && record.paused.is_none()
            && encode(&record.outcomes, self.members.me)
                .is_some_and(|message| self.messages.try_send((shard, message.into())).is_ok());
        if !is_told {
            self.members.recorded(shard);
        }
    }
}

impl Relay {
    /// Runs until the log is left.
    pub(super) async fn run(mut self, closed: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                // Outcomes that were not told of are found in the ledger.
                Err(_) = self.relay() => {}
            }
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn relay(&mut self) -> Stored<Infallible> {
        let client = self.streams.context.client();
        let mut told = client.subscribe(self.streams.names.outcomes()).await.map_err(away)?;
        loop {
            tokio::select! {
                message = told.next() => self.hear(&message.ok_or_else(no_answer)?),
                Some((shard, message)) = self.messages.recv() => {
                    client.publish(self.streams.names.outcomes_of(shard), message).await.map_err(away)?;
                }
            }
        }
    }

    fn hear(&self, message: &Message) {
        let Some(shard) = self.streams.names.shard_of_outcomes(&message.subject) else { return };
        match decode(&message.payload, self.members.me) {
            Some(rows) => self.members.told(shard, rows),
            None => self.members.changed(shard),
        }
    }
}

/// A message of all outcomes but those of this process. `None` if it would be too large.
fn encode(rows: &[OutcomeRow], me: u64) -> Option<Vec<u8>> {
    // As in the ledger, the last one counts where an id stands twice.
    let others = rows.iter().filter(|row| row.producer != me);
    let others: BTreeMap<_, _> = others.map(|row| ((row.producer, row.first), row)).collect();
    let mut message = vec![FORMAT];
    for row in others.values() {
        for number in [row.producer, row.first, row.count, u64::from(row.attempts), u64::from(row.schema)] {
            put_varint(&mut message, number);
        }
        for bytes in [row.end.as_bytes(), &row.result, &row.lengths] {
            put_bytes(&mut message, bytes);
        }
        if message.len() > MESSAGE {
            return None;
        }
    }
    Some(message)
}

/// The outcomes of this process in a message. `None` if it is of another format, or damaged.
fn decode(message: &[u8], me: u64) -> Option<Vec<OutcomeRow>> {
    let mut reader = Reader::new(message);
    if reader.byte()? != FORMAT {
        return None;
    }
    let (mut rows, mut ops) = (Vec::new(), 0_u64);
    while !reader.is_at_end() {
        let (producer, first, count) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let (attempts, schema) = (reader.varint()?, reader.varint()?);
        let name = reader.bytes()?.1;
        let (result, lengths) = (reader.bytes()?.1.to_vec(), reader.bytes()?.1.to_vec());
        if producer != me {
            continue;
        }
        let name = std::str::from_utf8(name).ok()?;
        // A newer version may know other ends.
        let end = Some(row_end(name)).filter(|end| *end == name)?;
        ops = ops.checked_add(count).filter(|ops| *ops <= MAX_OPS)?;
        first.checked_add(count)?;
        rows.push(OutcomeRow {
            producer,
            first,
            count,
            end,
            attempts: attempts.try_into().ok()?,
            at: 0,
            schema: schema.try_into().ok()?,
            result,
            lengths,
        });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::outcome::End;

    fn row() -> impl Strategy<Value = OutcomeRow> {
        let numbers = (1..4_u64, any::<u32>(), 1..=MAX_OPS / 20, 0..End::ALL.len(), any::<u32>(), any::<u32>());
        let bytes = || prop::collection::vec(any::<u8>(), 0..50);
        (numbers, bytes(), bytes()).prop_map(|((producer, first, count, end, attempts, schema), result, lengths)| {
            let (first, end) = (u64::from(first), End::ALL[end].name());
            OutcomeRow { producer, first, count, end, attempts, at: 0, schema, result, lengths }
        })
    }

    proptest! {
        /// Goal: a process reads the outcomes of its own ops and no others, and damaged messages make it look. Method: rows of three
        /// processes, of which one sends them; then each message is cut short, and any bytes are read.
        #[test]
        fn outcomes_come_back(rows in prop::collection::vec(row(), 0..20), cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let message = encode(&rows, 1).unwrap();
            let last: BTreeMap<_, _> = rows.iter().map(|row| ((row.producer, row.first), row.clone())).collect();
            for me in 2..4 {
                let own: Vec<_> = last.values().filter(|row| row.producer == me).cloned().collect();
                prop_assert_eq!(decode(&message, me), Some(own));
            }
            prop_assert_eq!(decode(&message, 1), Some(Vec::new()));
            let cut = &message[..cut.index(message.len())];
            prop_assert!(decode(cut, 2).is_none_or(|rows| rows.len() < last.len()));
            let _ = decode(&noise, 2);
        }
    }

    /// Goal: a message of a newer version, a run without an end and a large result make others look. Method: each of them.
    #[test]
    fn what_is_not_told_is_looked_for() {
        let row = |count, bytes| OutcomeRow {
            producer: 2,
            first: 1,
            count,
            end: End::Delivered.name(),
            attempts: 1,
            at: 0,
            schema: 0,
            result: vec![0; bytes],
            lengths: Vec::new(),
        };
        let message = encode(&[row(1, 9)], 1).unwrap();
        assert_eq!(decode(&message, 2).unwrap().len(), 1);
        assert_eq!(decode(&[&[FORMAT + 1], &message[1..]].concat(), 2), None);
        assert_eq!(decode(&encode(&[row(u64::MAX, 9)], 1).unwrap(), 2), None);
        let many = [row(MAX_OPS / 2 + 1, 9), OutcomeRow { first: MAX_OPS, ..row(MAX_OPS / 2 + 1, 9) }];
        assert_eq!(decode(&encode(&many, 1).unwrap(), 2), None);
        assert_eq!(encode(&[row(1, MESSAGE)], 1), None);
    }
}
