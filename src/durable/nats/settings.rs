//! [`Nats`]: settings of the engine, and how it is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{
    access::{Access, Proof},
    log::NatsLog,
    syncs::Syncs,
};
use crate::{
    durable::{
        engine::{Engine, Open, Opened},
        error::JoinError,
        members::{DEFAULT_LEASE, check_lease},
    },
    sink::postgres::Postgres,
};

/// Bytes of a log at which no more ops are accepted, by default: 4 GiB.
const MAX_BYTES: u64 = 4 << 30;

/// The least cap of one shard, in bytes: some frames of the largest size for each of a few processes.
const MIN_SHARD_BYTES: u64 = 16 << 20;

/// The part of the cap that dead letters may take in the ledger: one of so many.
const LETTERS: u64 = 16;

/// A log in NATS JetStream, for several processes on several machines. Its ledger is in a PostgreSQL database.
///
/// Ops wait in streams, which three servers hold that agree on each message; fence, settlements, outcomes and dead letters are in the
/// database. A sink that writes into the same database is exactly-once, by [`Term::postgres`](crate::durable::Term::postgres) or as a
/// [`LedgerTable`](crate::sink::postgres::LedgerTable). Ops are accepted while the database is away, and survive the loss of one of three
/// servers. While most of the servers are away nothing is accepted, and what was accepted is sent all the same.
///
/// [`join`](crate::durable::Durable::join) makes the streams `roundlot-frames-<shard>-<log>` and `roundlot-members-<log>` unless there
/// are any. It refuses servers before 2.14 or with a `max_payload` below 1 MiB, streams that are set to drop messages, and servers
/// that are not known to sync what they confirm: a loss of power would lose ops that were accepted. See
/// [`monitoring`](Self::monitoring), [`system`](Self::system) and [`servers_sync`](Self::servers_sync).
///
/// # Leases
///
/// They are those of [`PostgreSql`](crate::durable::PostgreSql#leases), kept in a stream. The kill of a server that leads a stream ends no
/// term: for some seconds nothing is accepted, and no process looks dead meanwhile, since none is observed.
///
/// # Permissions
///
/// With the accounts of NATS, a process of the log `orders` needs these and no others, those with a 0 for each of its shards:
///
/// ```text
/// publish:   roundlot.orders.>
///            $JS.API.STREAM.INFO.roundlot-frames-0-orders      $JS.API.STREAM.INFO.roundlot-members-orders
///            $JS.API.STREAM.CREATE.roundlot-frames-0-orders    $JS.API.STREAM.CREATE.roundlot-members-orders   (the first process alone)
///            $JS.API.STREAM.PURGE.roundlot-frames-0-orders     $JS.API.STREAM.MSG.DELETE.roundlot-members-orders
///            $JS.API.STREAM.MSG.GET.roundlot-frames-0-orders   $JS.API.DIRECT.GET.roundlot-frames-0-orders
///            $JS.API.CONSUMER.CREATE.>                         $JS.API.CONSUMER.DELETE.>                       $JS.FC.>
/// subscribe: _INBOX.>                                          roundlot.orders.news                           roundlot.orders.outcomes.*
/// ```
///
/// # Examples
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{durable::{Durable, Nats}, sink::{postgres::LedgerTable, table::Table}};
///
/// let table = Table::<i64>::new("amounts").integer("amount", |amount| *amount).create_if_missing();
/// let table = LedgerTable::new(table)?;
/// let log = Nats::at("nats://n1.example, nats://n2.example, nats://n3.example")
///     .monitoring(["http://n1.example:8222", "http://n2.example:8222", "http://n3.example:8222"])
///     .ledger("postgres://bob@db.example/books?sslmode=verify-full");
/// // The same on each node.
/// let amounts = Durable::new("amounts", log).sink(move |term| table.sink(term)).join().await?;
/// amounts.handle().submit(7).await?.await?; // the row is in the table, once, whichever node leads
/// amounts.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a log does nothing until a durable batcher joins it"]
pub struct Nats {
    access: Access,
    ledger: Option<Postgres>,
    syncs: Syncs,
    replicas: Option<usize>,
    lease: Duration,
    max_bytes: u64,
}

/// Settings of `Nats`, as a log needs them.
pub(super) struct Settings {
    pub(super) access: Access,
    pub(super) ledger: Postgres,
    pub(super) syncs: Syncs,
    pub(super) replicas: Option<usize>,
    pub(super) lease: Duration,
    /// Bytes of frames above which none is stored.
    pub(super) room: u64,
    /// Bytes of dead letters above which none is stored.
    pub(super) letter_room: u64,
}

impl Nats {
    /// The servers of these URLs, with commas between them, such as `nats://n1.example:4222` or `tls://bob:secret@n1.example`. They are of
    /// one cluster; a process connects with one of them, and with another one if that fails.
    pub fn at(urls: impl Into<String>) -> Self {
        let access = Access { servers: urls.into(), ..Access::default() };
        Self {
            access,
            ledger: None,
            syncs: Syncs::default(),
            replicas: None,
            lease: DEFAULT_LEASE,
            max_bytes: MAX_BYTES,
        }
    }

    /// The database of the ledger, by a URL that is read as [`Postgres::url`] does. There is none by default, and a log needs one.
    pub fn ledger(self, url: impl AsRef<str>) -> Self {
        self.ledger_with(Postgres::url(url))
    }

    /// The same with the server of these settings. Only the address counts.
    pub fn ledger_with(self, server: Postgres) -> Self {
        Self { ledger: Some(server), ..self }
    }

    /// The file with the credentials of a user, as `nsc` makes it: a JWT and the seed of an NKey.
    pub fn credentials(self, path: impl Into<PathBuf>) -> Self {
        self.proof(Proof::Credentials(path.into()))
    }

    /// The seed of a user's NKey.
    pub fn nkey(self, seed: impl Into<String>) -> Self {
        self.proof(Proof::NKey(seed.into()))
    }

    /// The token that the servers ask for.
    pub fn token(self, token: impl Into<String>) -> Self {
        self.proof(Proof::Token(token.into()))
    }

    fn proof(self, proof: Proof) -> Self {
        Self { access: Access { proof, ..self.access }, ..self }
    }

    /// A file of certificates, in the form PEM, that certificates of servers must be signed by, instead of those that the system trusts.
    /// It counts where TLS is used: with `tls://` in a URL, or when a server asks for it.
    pub fn root_certificates(self, path: impl Into<PathBuf>) -> Self {
        Self { access: Access { roots: Some(path.into()), ..self.access }, ..self }
    }

    /// The monitoring URLs of the servers, such as `http://n1.example:8222`. [`join`](crate::durable::Durable::join) asks there whether each
    /// server that holds the log syncs what it confirms (`sync_interval: always`), and refuses the log if one does not.
    pub fn monitoring<U: Into<String>>(self, urls: impl IntoIterator<Item = U>) -> Self {
        Self { syncs: Syncs::Monitoring(urls.into_iter().map(Into::into).collect()), ..self }
    }

    /// An account of the system that is asked the same: the URLs of servers with its user and password.
    pub fn system(self, urls: impl Into<String>) -> Self {
        let access = Access { servers: urls.into(), proof: Proof::None, roots: self.access.roots.clone() };
        Self { syncs: Syncs::System(Box::new(access)), ..self }
    }

    /// Declares that each server syncs what it confirms, which is not looked at then.
    pub fn servers_sync(self) -> Self {
        Self { syncs: Syncs::Declared, ..self }
    }

    /// Says that the servers need not: a loss of power of most of them at once may lose ops that were accepted. Settlements are not
    /// concerned.
    pub fn power_loss_is_acceptable(self) -> Self {
        Self { syncs: Syncs::Waived, ..self }
    }

    /// How many servers hold each stream, from 1 to 5. By default it is 3 in a cluster, and 1 with a server of its own. It counts when the
    /// streams are made.
    pub fn replicas(self, replicas: u8) -> Self {
        Self { replicas: Some(usize::from(replicas)), ..self }
    }

    /// How long the silence of a process must have been observed before others lead its shards: 3 s by default, from 200 ms to one
    /// minute. A process with a longer lease than the one that observes it is judged by its own. A takeover takes at most one and a half
    /// times as long if the servers answer at once.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// The cap of the messages that wait, in bytes, a part for each shard: 4 GiB by default, and 16 MiB a shard at least. It counts when the
    /// streams are made. Dead letters take a sixteenth at most besides, in the ledger: then a shard holds that has another one, until
    /// some are discarded.
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }
}

impl Open for Nats {
    fn open(self, name: String, shards: u16) -> BoxFuture<'static, Result<Opened, JoinError>> {
        Box::pin(async move {
            let Self { access, ledger, syncs, replicas, lease, max_bytes } = self;
            check_lease(lease)?;
            if replicas.is_some_and(|replicas| !(1..=5).contains(&replicas)) {
                return Err(JoinError::Open("1 to 5 servers hold a stream".to_owned()));
            }
            let none = || JoinError::Open("a log in NATS needs a ledger: see Nats::ledger".to_owned());
            let (ledger, room) = (ledger.ok_or_else(none)?, max_bytes.max(MIN_SHARD_BYTES * u64::from(shards)));
            let settings = Settings { access, ledger, syncs, replicas, lease, room, letter_room: room / LETTERS };
            let log = NatsLog::join(&settings, &name, shards).await?;
            Ok(Opened::new(Arc::new(log)))
        })
    }
}

impl Engine for Nats {}
