//! Durable batchers: an op is accepted when it is in a log, and settled when its outcome is. **The log is the durable image of
//! the buffer.** See [the guide](crate::guide::durable) for what each setting survives, and what to do about ops in doubt.
//!
//! ```text
//!  desk.submit(op) -> ingress -> frame --> log --> reader --> accumulator (stages) --> intent --> sink
//!      |  first await: it is in the log                                   ^                                 |
//!      `- second await: its outcome <------- commit <------- record (settlement, outcome, dead letter) <----'
//! ```
//!
//! # The protocol
//!
//! 1. **Accept.** A caller encodes its op, takes a permit and a number, and puts both into the open frame of the ingress. The log
//!    seals the frame when it has a transaction for it. There is one on the way per shard, which comes again unchanged until the
//!    log answers. Frames are numbered, so that one that comes twice is stored once; the log gives each op the next position of
//!    its shard. Before a transaction the log waits a moment for callers that it has just answered.
//! 2. **Lead.** A term begins with a higher epoch, which fences off all earlier ones. Its leader reads what is not settled and
//!    then follows the log, position by position. Each op goes through an accumulator with a token that holds position and id.
//! 3. **Write.** A batch that is cut gets an *intent*: a record of the positions that each of its ops stands for, and of the op
//!    as it is sent if it may have been merged. The write begins when the intent has committed. What has expired by then is left
//!    out, and the next record settles it. While the wall clock is in doubt, the batch goes back instead.
//!    A sink that is [`Transactional`](crate::sink::Guarantee::Transactional) needs none: what it writes and the record of what
//!    it settles are one transaction of the log, by [`Term::transaction`].
//! 4. **Settle.** All that ends, in whatever way, goes into the next record: positions settled, outcomes by id, dead letters, and
//!    the intents of which all is known. An op that may have landed and waits to be tried again keeps an intent. A record is
//!    one transaction under the fence, and a term has one on the way. **No outcome, permit, withdrawn op or pause leaves the
//!    leader before its record has committed.**
//! 5. **Recover.** What an intent names and no settlement does may have landed. A sink that is
//!    [`Idempotent`](crate::sink::Guarantee::Idempotent) gets it again, as it was sent and before anything newer of its key. Any
//!    other one is asked by [`reconcile`](crate::Sink::reconcile), and what it does not know ends in doubt.
//! 6. **Fail.** A record that was certainly not stored is tried again. A commit of unknown result ends the term; the next one
//!    learns from the log whether it was stored, and tells those who wait.
//! 7. **Repeat.** An op whose id may be known, by `send_as`, is flagged in its frame. If the id is that of another process, the log flags
//!    what comes under it from there later, since a frame of that process may still be on its way. The leader settles it with the op that it
//!    repeats, waiting or ended, so that its id takes effect once. An id below the floor of its producer is forgotten.
//!    The floor does not pass a flagged op that is not settled, since the next term asks for its id again.
//! 8. **Withdraw.** A process that does not lead puts a request into a frame, which names a key by its hash. The leader executes it
//!    when it has pushed all that came before. The next record settles the request with its ops, and its outcome holds their bytes. A
//!    term that finds it in the log executes it at the same place.
//!
//! Files: `builder` joins; `handle`, `send`, `send_all`, `withdraw`, `letters`, `joined` are what callers hold; `ingress` and `frame` lead into
//! the log; `log` is the engine's side, with its rules; `term` is the leader, `transaction` what it
//! lends to sinks; `memory` and `file` are the engines, and `ledger` settles the log of another engine in PostgreSQL.

mod builder;
mod bytes;
mod codec;
mod command;
mod engine;
mod error;
mod fate;
#[cfg(feature = "durable-file")]
mod file;
mod frame;
#[cfg(all(any(test, fuzzing), feature = "durable-file", feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod ingress;
mod intent;
mod joined;
mod json;
#[cfg(feature = "postgres")]
mod ledger;
mod letters;
mod log;
#[cfg(feature = "postgres")]
mod members;
#[cfg(feature = "testing")]
pub(crate) mod memory;
mod meter;
#[cfg(feature = "durable-nats")]
mod nats;
mod op_status;
mod outcomes;
mod permits;
#[cfg(feature = "postgres")]
mod postgres;
mod send;
mod send_all;
mod settings;
mod settled;
mod shard_quota;
mod shared;
mod stats;
mod step;
mod tally;
mod term;
mod transaction;
mod waiters;
mod withdraw;

pub use builder::Durable;
pub use codec::{Codec, CodecError, Json, Raw, RawBytes};
pub use engine::Engine;
pub use error::{JoinError, Left, SendAllError, SendError, WithdrawError, WithdrawKeyError};
#[cfg(feature = "durable-file")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable-file")))]
pub use file::File;
pub use handle::Handle;
pub use joined::{Joined, Leave};
pub use letters::DeadLetters;
#[cfg(feature = "durable-nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable-nats")))]
pub use nats::Nats;
pub use op_status::OpStatus;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable-postgres")))]
pub use postgres::PostgreSql;
pub use settings::OnUndecodable;
pub use stats::Stats;
pub use tally::FlushReport;
pub use term::Term;
pub use transaction::Transaction;
pub use waiters::Ack;
