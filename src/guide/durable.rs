//! Operations that survive the process: what a log promises, what it costs, and what to do when something is in doubt.
//!
//! A [`Batcher`](crate::Batcher) keeps its ops in memory, and an op that was accepted and not yet written is gone with the process.
//! A [`Durable`](crate::durable::Durable) batcher accepts an op when it is in a log. After a crash the next process finds it there,
//! and all rules hold for it again: it is merged, netted, prioritized, expired and withdrawn like any other.
//!
//! # What survives
//!
//! | setting | the process is killed | the machine loses power | the disk is lost |
//! |---|---|---|---|
//! | [`Batcher`](crate::Batcher) | lost | lost | lost |
//! | `Durable` on a `File` (feature `durable-file`) | survives | survives, if the disk keeps what it has synced | lost |
//! | `Durable` on a `File` with a ledger in PostgreSQL (`File::ledger`, with feature `postgres`) | survives | survives, if both disks keep what they have synced | ops that wait are lost with the file; settlements, outcomes and dead letters with the database |
//! | `Durable` on a `PostgreSql` (feature `durable-postgres`) | survives | survives, if the server's disk keeps what it has synced | lost, unless a synchronous standby has it |
//! | `Durable` on a `Nats` (feature `durable-nats`) | survives | survives, if the disks of most servers keep what they have synced | ops that wait are lost with most of the servers, the rest with the database |
//! | `Durable` on a `testing::MemoryLog` | survives in tests, as long as the log itself | lost | lost |
//!
//! What survives is what a call confirmed: an op when [`send`](crate::durable::Handle::send) has returned, an outcome when its
//! [`Ack`](crate::durable::Ack) has resolved, a pause when [`pause`](crate::durable::Handle::pause) has returned, and withdrawn ops
//! when they are handed back.
//!
//! The repository tests this by two programs. `tests/campaign` kills processes at random and at each step of the protocol.
//! `tests/power` cuts a recorded run at its writes, keeps, loses or tears what was not synced, fills the disk, and flips bits. A file that
//! was changed behind the back of the log is refused by `join`, as far as checksums tell.
//!
//! # What a sink promises
//!
//! A write to another system can't be one step with the log's record of it, so a crash may come between the two. What happens then
//! depends on the sink, which says so by [`Sink::guarantee`](crate::Sink::guarantee):
//!
//! | sink | `File`, `MemoryLog` | after a crash during a write |
//! |---|---|---|
//! | [`Transactional`](crate::sink::Guarantee::Transactional): rows in the log's own file, by [`Term::transaction`](crate::durable::Term::transaction) or `sqlite::LogTable`; rows in the database of its ledger, by `Term::postgres` or `postgres::LedgerTable` | exactly once | the rows are there and their ops settled, or neither |
//! | [`Idempotent`](crate::sink::Guarantee::Idempotent): upserts, sets of values, client order ids that the venue checks | at least once, with the effect of once | the ops are written again, before anything newer of their key |
//! | [`Unknown`](crate::sink::Guarantee::Unknown) with [`reconcile`](crate::Sink::reconcile) | exactly once, as far as the destination can tell what has landed | the destination is asked |
//! | [`Unknown`](crate::sink::Guarantee::Unknown), the default | at most once | the ops end in doubt, as dead letters, and are never written again |
//!
//! All of them hold for a write without an answer, too: an [`Ambiguous`](crate::ErrorKind::Ambiguous) error is tried again only if
//! the sink is idempotent. A transactional sink knows what has landed, so nothing of it is ever in doubt.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # mod example {
//! use roundlot::{Batch, Settled, Sink, SinkError, sink::Guarantee};
//!
//! struct Order { client_id: u64, quantity: u32 }
//! struct Venue;
//!
//! impl Sink<Order, u64> for Venue {
//!     async fn write(&self, batch: &mut Batch<Order, u64>) -> Result<Settled, SinkError> {
//!         // ...
//!         # Ok(batch.accept_all_with(|_, order| order.client_id))
//!     }
//!
//!     // The venue does not check client order ids, but can be asked for them.
//!     fn guarantee(&self) -> Guarantee {
//!         Guarantee::Unknown
//!     }
//!
//!     async fn reconcile(&self, batch: &mut Batch<Order, u64>) -> Result<(), SinkError> {
//!         for i in batch.pending_indexes() {
//!             let client_id = batch[i].client_id;
//!             match find(client_id).await.map_err(SinkError::outage)? {
//!                 Some(venue_id) => batch.accept(i, venue_id),
//!                 // Right only if a call of the dead process can't arrive any more; else leave it without a verdict.
//!                 None => batch.retry(i, SinkError::transient("not at the venue")),
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//! # async fn find(client_id: u64) -> Result<Option<u64>, String> { Ok((client_id > 7).then_some(client_id)) }
//! # }
//! ```
//!
//! # Exactly once in PostgreSQL
//!
//! A log in a file can leave its settlements to a database: `File::at("orders.db").ledger("postgres://..")`. Ops are accepted into the
//! file, whether or not the server is there. Everything that says what became of them is in tables `roundlot_..` of the database: the
//! fence, settlements, intents, outcomes, dead letters and the pause. A transactional sink writes its rows in the same transaction, by
//! `Term::postgres` with any SQL, or as a `postgres::LedgerTable`. The server must sync what it commits. `join` refuses one with
//! `fsync = off`, and each transaction of the log sets `synchronous_commit` to `on` if it is off.
//!
//! A log can be in the database as a whole: see [Several machines](crate::guide::nodes).
//!
//! While the server is away, nothing is sent and nothing ends, and sends wait once `max_pending` ops do. Each batch takes one
//! transaction of the server, and one of the file that removes what is settled; a crash between the two loses nothing.
//!
//! File and database belong together for the life of the log: move, back up and restore both. `join` refuses a pair of which one is
//! older than the other, as far as positions and terms tell. Let no other program change tables that begin with `roundlot_`.
//!
//! # In doubt
//!
//! An op is in doubt if it may or may not have landed. It is never merged, netted or called expired, as its first attempt may have
//! taken effect. An op that ends in doubt is a dead letter: look it up at the destination, and then call
//! [`discard`](crate::durable::DeadLetters::discard), or [`requeue`](crate::durable::DeadLetters::requeue) to send it again under a
//! new id.
//!
//! A *call* is in doubt if `send` returns [`InDoubt`](crate::durable::SendError::InDoubt) or its future was dropped: the op may or may
//! not be in the log. Ask by its id with [`outcome`](crate::durable::Handle::outcome), or send it again with
//! [`send_as`](crate::durable::Handle::send_as): an id is accepted once. To be able to do so after a crash, take the id first and
//! keep it:
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use roundlot::{durable::Durable, testing::{MemoryLog, Recorder}};
//! # let (log, recorder) = (MemoryLog::new(), Recorder::new());
//! # let sink = recorder.clone();
//! let orders = Durable::new("orders", log).sink(move |_| sink.clone()).join().await?;
//! let desk = orders.handle();
//! let order = "buy 5".to_owned();
//! let id = desk.next_id(&order); // kept beside the order, where it survives
//! desk.send_as(id, order.clone()).await?;
//! desk.send_as(id, order).await?; // after a crash, a timeout or any doubt: accepted once
//! desk.flush().await?;
//! assert_eq!(recorder.len(), 1);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```
//!
//! Outcomes are kept for the [`horizon`](crate::durable::Durable::horizon), one hour by default. An older id is refused as
//! [`Forgotten`](crate::durable::SendError::Forgotten), and never accepted anew.
//!
//! # Dead letters
//!
//! Refused, exhausted and doubtful ops are recorded with their outcome, and stay in the log until they are discarded or requeued:
//! [`Joined::dead_letters`](crate::durable::Joined::dead_letters), or until the sink of
//! [`Durable::dead_letters`](crate::durable::Durable::dead_letters) has accepted them. An op that kills its process each time it is written becomes one,
//! too: from the third start without progress on, ops found in the log are written one by one. A process that has left in order does not
//! count. One that is killed by something else just then, with one op under way, leaves that op as a dead letter: requeue it.
//!
//! # Expiry and time
//!
//! [`Stages::expire_at`](crate::Stages::expire_at) takes the place of `expire_by`, since no log can carry an `Instant`. It is checked at
//! the cut, and again when the intent has been synced and the write is about to begin: a disk may take a second for that. What has
//! expired by then is left out of the batch. A transactional sink is called at the cut. Its rows are
//! there when the log has come to their transaction and has synced it, so that they may be as late as two syncs. Age counts from the time at which an op was accepted, also over a
//! restart.
//!
//! A wall clock that jumps against the machine's own progress is in doubt until both have agreed for ten seconds; then the new time
//! counts. One that is more than [`max_skew`](crate::durable::Durable::max_skew) behind the newest op in the log is in doubt until it
//! has caught up. Meanwhile a shard sends nothing if its stages use `expire_at`. Ops are still taken in.
//!
//! # Quotas
//!
//! [`Durable::quota`](crate::durable::Durable::quota) takes the limits of the destination. What a batch draws is recorded with its intent
//! or its transaction, so that a process that crashes and starts again at once sends no more than the venue allows. A bucket that is
//! shared with other batchers belongs to the process, and begins anew with it.
//!
//! # Watching it
//!
//! [`Handle::is_leading`](crate::durable::Handle::is_leading) and [`Handle::lag`](crate::durable::Handle::lag), the age of the oldest op
//! that has not ended, are for a health check. [The page of telemetry](crate::telemetry) has the metrics `roundlot_durable_...` and all
//! events. A trace of the target `roundlot::durable::step` tells which step takes the time.
//!
//! # Moving, backing up, restoring
//!
//! A log in a file is four files: the database, its `-wal`, its `-lock` and its `-mark`. Move all of them while no process has joined. The
//! folder `-nodes` stays behind: processes make it anew.
//! For a backup use SQLite's own (`.backup`, `VACUUM INTO`), at any time. A backup that is put in the place of the file lacks what
//! was confirmed since, and its waiting ops may have been sent since. `join` refuses it by the mark, with the reason;
//! `File::restored` goes on, and puts all that waits in doubt. A mark that was restored along with the database can't tell.
//!
//! # Looking into the file
//!
//! People can read the file with nothing but the shell of SQLite, while a process has it open and after it has died. Start with
//! `roundlot_summary`, which answers at once however large the log is. This process was killed while it wrote a batch of two:
//!
//! ```text
//! $ sqlite3 -box orders.db
//! sqlite> SELECT * FROM roundlot_summary;
//! ┌────────┬───────┬────────┬─────────┬──────────────────┬───────┬──────────────┬────────┬───────┐
//! │  log   │ shard │ paused │ waiting │ batches_in_doubt │ ended │ dead_letters │ frames │ bytes │
//! ├────────┼───────┼────────┼─────────┼──────────────────┼───────┼──────────────┼────────┼───────┤
//! │ orders │ 0     │ 0      │ 4       │ 1                │ 4     │ 1            │ 1      │ 78    │
//! └────────┴───────┴────────┴─────────┴──────────────────┴───────┴──────────────┴────────┴───────┘
//! sqlite> SELECT * FROM roundlot_waiting;
//! ┌────────┬───────┬──────────┬───────┬─────────────────────────┬──────────┬───────────────┐
//! │  log   │ shard │ position │  id   │        accepted         │ in_doubt │      op       │
//! ├────────┼───────┼──────────┼───────┼─────────────────────────┼──────────┼───────────────┤
//! │ orders │ 0     │ 4        │ 1-0-5 │ 2026-11-29 21:04:31.461 │ 1        │ "sell 3 AMD"  │
//! │ orders │ 0     │ 5        │ 1-0-6 │ 2026-11-29 21:04:31.461 │ 1        │ "buy 4 AMD"   │
//! │ orders │ 0     │ 6        │ 1-0-7 │ 2026-11-29 21:04:31.461 │ 0        │ "buy 9 IBM"   │
//! │ orders │ 0     │ 7        │ 1-0-8 │ 2026-11-29 21:04:31.461 │ 0        │ "sell 1 MSFT" │
//! └────────┴───────┴──────────┴───────┴─────────────────────────┴──────────┴───────────────┘
//! sqlite> SELECT * FROM roundlot_in_doubt;
//! ┌────────┬───────┬────────┬───────┬───────────┬──────────┬──────────────┐
//! │  log   │ shard │ intent │  ids  │ positions │ attempts │      op      │
//! ├────────┼───────┼────────┼───────┼───────────┼──────────┼──────────────┤
//! │ orders │ 0     │ 4      │ 1-0-5 │ 4         │ 1        │ "sell 3 AMD" │
//! │ orders │ 0     │ 4      │ 1-0-6 │ 5         │ 1        │ "buy 4 AMD"  │
//! └────────┴───────┴────────┴───────┴───────────┴──────────┴──────────────┘
//! sqlite> SELECT id, ended, attempts, at, result FROM roundlot_ended WHERE id = '1-0-2';
//! ┌───────┬───────────┬──────────┬─────────────────────────┬────────┐
//! │  id   │   ended   │ attempts │           at            │ result │
//! ├───────┼───────────┼──────────┼─────────────────────────┼────────┤
//! │ 1-0-2 │ delivered │ 1        │ 2026-11-29 21:04:31.444 │ 4710   │
//! └───────┴───────────┴──────────┴─────────────────────────┴────────┘
//! sqlite> SELECT id, ended, op FROM roundlot_dead_letters;
//! ┌───────┬─────────┬─────────────┐
//! │  id   │  ended  │     op      │
//! ├───────┼─────────┼─────────────┤
//! │ 1-0-3 │ refused │ "buy 1 XYZ" │
//! └───────┴─────────┴─────────────┘
//! ```
//!
//! An op in doubt may have been sent: while a process runs, it is being written or tried again. After a crash the destination is
//! what to ask, with the op of this view. An op that others were merged into has the ids and positions of all of them.
//!
//! The views read what was written for the log, so they take about 10 s per million ops. A reader that stays open keeps the WAL
//! from being reset, and the WAL counts against the cap of the file. A warning names its process. At the cap sends wait, all that
//! was accepted still ends, and once the reader has gone the WAL is cut down. With a ledger in PostgreSQL, what is in doubt, has
//! ended or is dead is in the tables of the ledger, and the file has the ops that wait.
//!
//! # What it costs
//!
//! One sync per group of sends, and for a sink that is not transactional one more per batch before it is written. An outcome that no
//! caller waits for shares the next record, within 20 ms. The buffer's memory is the same as without a log: all that waits in the
//! log waits in memory, too, and `max_pending` bounds both.
//!
//! A sink that is stuck makes callers wait. Ops that were merged hold no permit, and stand for positions of the log that are not
//! settled: at most 8 x `max_pending` of these, and `max_pending` ops on their way into the log. With `max_pending` at 1,000,000 and
//! 10,000,000 prices of 100 symbols, 8,999,800 were accepted, at some 220,000 per second; then memory stood at 429 MiB and the file at
//! 125 MiB. When the sink went on, 100 ops settled the nine million positions in one record, which took 2.0 GiB for a moment, 230 bytes
//! for each position. `cargo run --release -p roundlot-bench --bin stuck` shows it.
//!
//! With a sync of 1 ms, 64 senders with one op outstanding each get some 49,000 ops/s into the log, 62 per sync, and `send_all` some
//! 670,000: nine tenths of the rows that a loop by hand inserts in groups of the same size. A lone `send` takes 1.4 times a bare commit. The
//! row `durable` of the bench has the figures and their method.
//!
//! # Several processes
//!
//! Any number of processes on one machine may join the same log of a [`File`](crate::durable::File), and each sends through its own
//! handle. One of them leads a shard: it reads what all of them have sent, and so conflates, nets, expires and orders it together. The
//! others follow: an op is in the log when their `send` returns, and its outcome comes back to their ack. Nothing has to be set up.
//!
//! ```text
//!  process A  send --> log <-- send  process B
//!                       |
//!                       v
//!  A leads shard 0: accumulator -> sink, and the record of what ended --> log --> acks of A and B
//!  B leads shard 1: accumulator -> sink, ...
//! ```
//!
//! * **Who leads** is decided by the kernel's locks in the folder `<file>-nodes`. They end with their process, so no clock is involved:
//!   when a process dies, another one leads within 50 ms, and recovers as after a restart. Each term has a higher epoch, and nothing of an
//!   older one is recorded.
//! * **Shards spread**: of n processes each leads every n-th shard, a second after one has joined. A process that
//!   [`leave`](crate::durable::Joined::leave)s hands each shard over when its writes have ended, and the next one leads a quarter of a second
//!   later at most. That is how a program is restarted while others go on.
//! * **A process that is stopped** (SIGSTOP, a debugger) keeps its shards, since it is not dead. One that is stopped in its turn to write
//!   keeps all others from the file: sends wait, or end in doubt after `append_timeout`, and a warning names the process.
//! * **A process that can't read** what another one has sent, since it is of an older version, leaves the shard to that for a minute. A
//!   program is upgraded by restarting one process after the other.
//! * **Notices**: a process tells the others by a socket in the folder that it has stored something. One that is lost costs a second.
//! * **Turns**: processes queue for the file, so that one that writes without a pause does not keep another one from it.
//! * **Permits**: each process has [`max_pending`](crate::Limits::max_pending) of its own. An op that another process leads holds its permit
//!   until its outcome is known, also if it is merged into another one.
//! * [`pause`](crate::durable::Handle::pause), [`flush`](crate::durable::Handle::flush) and
//!   [`outcome`](crate::durable::Handle::outcome) work in each process.
//! * **Withdrawing**: [`withdraw_key`](crate::durable::Handle::withdraw_key) works in each process. Where another one leads, the log takes
//!   a request: what was accepted before it and waits is handed back, and whichever process leads next finds it at the same place. All
//!   processes must hash a key alike, so build them alike. A version that does not know requests holds a shard that has one.
//!   [`withdraw`](crate::durable::Handle::withdraw) works while one process has joined, since no log can carry a closure.
//! * Limits, retries, stages and quotas are those of the process that leads: give all of them the same. A bucket of a quota that is
//!   shared with other batchers is of one process.
//! * [`File::exclusive`](crate::durable::File::exclusive) keeps a file for one process. One with a
//!   [`ledger`](crate::durable::File::ledger) is of one process in any case.
//!
//! Faults, and what an operator sees and does:
//!
//! | fault | what happens | what is seen | what to do |
//! |---|---|---|---|
//! | a process dies | others lead its shards; its ops stay in the log, and its acks are gone with it | `a term begins` in others; `roundlot_durable_leads` and `roundlot_durable_terms_total` | start it again; ask for outcomes by [id](crate::durable::Handle::outcome) |
//! | a process is stopped | its shards wait, the others go on | `roundlot_durable_lag_seconds` of its shards grows in all processes that have sent to them | let it go on, or kill it |
//! | a process is stopped in its turn to write | nobody writes; sends wait | the warning `another process keeps a log from being written`, which names it | let it go on, or kill it |
//! | the file is at its cap, or the disk is full | sends wait; what was accepted still ends | the warning `a frame is tried again`; `roundlot_durable_log_bytes` | make room, or drain the log |
//! | a reader stays open | the WAL grows up to the cap | a warning with its process | end the reader |
//! | a process can't read the log | another one leads the shard, if it can | the error `the shard is held: its log can't be read` | upgrade the process |
//! | the wall clock jumps | with `expire_at`, nothing is sent for ten seconds | the warning `the wall clock is in doubt: nothing is sent` | set the clock |
//! | the folder `-nodes` is removed while processes run | a second process may lead; the epoch in the file fences the first one off | the warning `the term has ended` again and again | restart the processes |
//!
//! `cargo run --release -p nodes` shows it: three processes whose leaders are killed, stopped and restarted, and a journal of what arrived.
//! With `--faults 300 --every 400ms --controls`, on two busy cores, a takeover took 21 ms (p50) and 1.8 s (p99, of 467) from the kill to the
//! next term. Among the faults are some after which a shard waits for a process that is started again. `--without-locks` takes the locks
//! away: rows in transactions of the log stay right, and a venue that is not fenced gets stale calls. A node without anything to do commits
//! nothing, and looks 20 times a second for the lead of each shard that another one has (`--idle 10m`).
//!
//! In tests [`MemoryLog::another_process`](crate::testing::MemoryLog::another_process) stands for another process.
//!
//! # When not to use it
//!
//! * Where the op is worth nothing after a restart, as most prices are: conflate in memory.
//! * Where the source can be asked again from a position, as a message broker can: remember the position instead.
//! * Where several machines must share the work and there is no server: a file is of one machine.
//! * On a network file system. `join` refuses those that it knows.
