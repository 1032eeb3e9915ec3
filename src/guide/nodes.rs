//! Several machines that share a log: one leads each shard and submits, another takes over, and nothing is lost, doubled or stale.
//!
//! A [`Durable`](crate::durable::Durable) batcher on a [`PostgreSql`](crate::durable::PostgreSql) or a [`Nats`](crate::durable::Nats) may be
//! joined by any number of nodes under one name. [Several processes](crate::guide::durable#several-processes) on one machine do the same
//! on a [`File`](crate::durable::File), and that chapter holds here, too.
//!
//! ```text
//!  node A  send --> +-------------------------+ <-- send  node B
//!                   |  the log                |
//!                   |  frames of shard 0, 1.. |
//!  node A  leads 0  |  leases                 |  node B  leads 1
//!    lease 0 -----> |                         | <----- lease 1
//!        ^          +-------------------------+            ^
//!        | reads      PostgreSQL or NATS                   | reads
//!        v                                                 v
//!    accumulator    +-------------------------+        accumulator
//!    batch -------> |  the ledger, PostgreSQL | <------- batch
//!                   |  epoch = mine?          |
//!                   |  rows, settlements      |
//!                   |  outcomes               | -------> acks of A and B
//!                   +-------------------------+
//! ```
//!
//! # What is promised
//!
//! * An op that was accepted ends, whichever nodes die. Its submitter is told once, if that lives.
//! * **Through a transactional sink** ([`Term::postgres`](crate::durable::Term::postgres), [`LedgerTable`](crate::sink::postgres::LedgerTable)) each op
//!   takes effect exactly once, the ops of a key in their order, and no older price after a newer one.
//! * **Through any other sink** a node that was replaced without knowing finishes the one call per shard that it was in, at most.
//! * An op stays where it can still be merged, netted, expired or withdrawn until the leader's sink takes it, whichever node has sent it.
//!
//! Not promised: an order of ops in different shards; exactly once at a venue that knows no ids; and that a server which has lost what it had
//! confirmed is repaired. It is noticed where that can be told, and the shard is held.
//!
//! The epoch in the ledger makes this right, and not the lease: it goes up when a term begins, and is compared under a lock in each
//! transaction of a sink and before each call of a venue. A lease that two nodes believe to have costs time alone.
//!
//! # Which engine
//!
//! | | [`File`](crate::durable::File) | [`PostgreSql`](crate::durable::PostgreSql) | [`Nats`](crate::durable::Nats) |
//! |---|---|---|---|
//! | needs | nothing | a server | NATS with JetStream, three servers of it for one to fail, and a PostgreSQL server |
//! | nodes | processes of one machine | any machines | any machines |
//! | from `kill -9` to the next term (p50, p99) | 12 ms, 59 ms | 1.2 s, 1.4 s with a lease of 1 s | 1.3 s, 1.5 s with a lease of 1 s |
//! | from the request to leave to the next term (p50, p99) | 16 ms, 99 ms | 120 ms, 253 ms | 140 ms, 336 ms |
//! | three nodes without work | write nothing | send 4 statements each per lease, and a query per second and shard that they follow | store 4 records each per lease, look at each stream once in 5 s, and send a query per second and shard that they follow |
//! | throughput | `send_all`: 0.92 of rusqlite's rows, in groups as large | three nodes, accepted and settled: 0.41 of the rows/s of `psql \copy` | three nodes and all servers on two cores: 124,000 ops/s accepted and settled with one server, 83,000 with three; 98 % of the prices are merged |
//! | when the database is away | - | nothing is accepted | ops are accepted, and sent when it is back |
//! | when a server of the log dies | no node goes on | no node goes on | with three servers: nothing is accepted for some seconds, and no shard moves |
//!
//! The times and the costs of nodes without work are from `examples/nodes` (`--faults 30` with `--only kill` or `--only restart`, and `--idle`); the throughput is
//! from the rows `durable` and `postgres` of the bench and from its program `nodes_load`. Take a file if the nodes are on one machine. Take PostgreSQL if it is there anyway:
//! one system is easier to be right with than two. Take NATS if ops must be accepted while the database is away, or while one of the servers is lost.
//!
//! # On PostgreSQL
//!
//! Everything is in one database: the ops that wait, who leads, the fence, settlements, outcomes and dead letters.
//!
//! * **Who leads** is decided by leases in a table. Each process shows four times per lease that it is alive, and reads in the same
//!   statement who else is; with a long lease it does so once a second. That is all that a process without work sends, besides one query a second for each shard that it follows.
//! * **A process that dies** is replaced one and a half leases later at most; the lease is 3 s by default, and `PostgreSql::lease` sets
//!   it. Silence counts only while another process can read the database without a gap. So an outage of the server moves no shard.
//! * **A process that is stopped** loses its shards, but nothing that it does later is recorded: each transaction and each intent
//!   compares the epoch under a lock. If it is stopped inside a transaction, the server ends that first, after
//!   `transaction_timeout` and a lease.
//! * **A process that leaves** frees its leases, and tells the others.
//! * **Acceptance is one transaction** for all frames that wait in a process, whatever their shard. It does not wait for transactions of
//!   sinks. While the server is away nothing is accepted: calls wait, or end in doubt after `append_timeout`.
//! * **Time** is the server's, as of each renewal. So the clocks of the nodes may differ.
//! * **An id of a process that has died** is known to be never accepted an hour after its death: then the process is removed, and a
//!   frame of it that is still on its way is refused.
//! * **Replication** is the server's. A standby that takes over must have all that was confirmed (`synchronous_standby_names`), or ops and
//!   settlements are lost with the first server, which the log can't tell. A backup in the place of the database can't be told either.
//!
//! A process has five connections and one more for each shard that it leads. They must be its own: `join` refuses a pooler that shares
//! them.
//!
//! # On NATS
//!
//! Ops wait in streams of JetStream, one for each shard, and the ledger is in a database.
//!
//! * **Each node reads all streams** and decides alike what counts: a frame that stands in a stream twice, or that comes an hour after it
//!   was made, counts for nothing. No dedupe window of the server and no clock is part of that.
//! * **An op is accepted** when most servers have synced its frame and its node has read it. The database is not asked. While most
//!   servers are away nothing is accepted, and what was accepted is sent all the same.
//! * **Servers must sync what they confirm** (`sync_interval: always`). They tell no client, so `join` asks their monitoring ports or an
//!   account of the system, or the program declares it. 2.15 syncs many messages at once and is faster than 2.14, the least version.
//! * **Outcomes** reach the node that has sent an op by a message of the leader, which no stream keeps. One that is lost costs its callers a
//!   second: so often a node looks into the ledger.
//! * **Leases** are messages of a stream, taken by compare-and-set. A node observes that another one is silent only between two renewals
//!   of its own that were delivered back to it. So a server that dies ends no term: for 4 to 7 s nothing is accepted, and no node looks dead.
//! * **Messages are removed** from the beginning of a stream when the ledger says that they are settled. An op that waits for long does
//!   not keep the stream: it is copied into the ledger when 512 frames stand behind it.
//! * **Time** is that of the servers, as of each renewal.
//! * **A stream that has lost messages**, was made anew, or went back is noticed by the checksum of the message at which reading begins,
//!   and by nodes that have read more. Then the shard is held. A ledger that is a backup is noticed, too.
//! * **Replacing servers** is NATS's: restart one after the other (`SIGUSR2` for lame duck), each when the one before is healthy.
//!
//! A process has one connection with NATS, four with the database, and one more there for each shard that it leads.
//!
//! # How long a lease
//!
//! A takeover takes 1 to 1.4 leases. A shorter lease moves shards for a pause that is not a crash: a machine that is busy, a garbage
//! collector beside it, a switch of the network. Nothing is lost by that, and nothing doubled in the same database; but each move reads what waits
//! again, and a call to a venue may be finished by a node that has been replaced. Take at least four times the longest pause that you know
//! of, and at least twenty round trips to the server. 1 s suits nodes beside the server, and 3 s, the default, anything else. A node renews
//! four times per lease and at least once a second, so a lease of 200 ms with ten nodes is 200 statements a second.
//!
//! # What a destination must offer
//!
//! | destination | what a node that has been replaced can still do | to be right |
//! |---|---|---|
//! | a table in the same database, by [`Term::postgres`](crate::durable::Term::postgres) or a [`LedgerTable`](crate::sink::postgres::LedgerTable) | nothing | nothing |
//! | one that knows ids, [`Guarantee::Idempotent`](crate::sink::Guarantee::Idempotent) | finish the one call per shard that it was in | it takes an id once |
//! | one that can end the session of an older term, as the trading app's venue does | nothing, once the newer term has begun its session | a session per shard, begun with [`Term::epoch`](crate::durable::Term::epoch) |
//! | any other one | finish the one call per shard that it was in: late, and after calls of the newer term | it must bear that |
//!
//! # Faults, and what an operator sees and does
//!
//! | fault | what happens | what is seen | what to do |
//! |---|---|---|---|
//! | a node dies, or its machine | others lead its shards after a lease | `a term begins` in others, `roundlot_durable_leads` | start it again |
//! | a node is stopped, or cut off from the server | the same; when it is back, its records are refused and it follows | the warning `the term has ended` there | nothing |
//! | the server of `PostgreSql` is away | nothing is accepted or sent; no shard moves | the warning `a process can't renew its leases` in all nodes | bring it back |
//! | the ledger of `Nats` is away | ops are accepted up to the cap and the permits, and none is sent; no shard moves | the warning `a record is tried again`; `roundlot_durable_lag_seconds` | bring it back |
//! | a server of NATS dies | for some seconds nothing is accepted; no shard moves | the warning `a process can't renew its leases` | start it again, or replace it |
//! | most servers of NATS are away | nothing is accepted; what was accepted is sent | the same, and `a frame is tried again` | bring them back |
//! | a stream was purged, made anew, or went back | the shard is held | the errors `the stream of a shard can't be read`, `the log went back` | bring the stream back; what is lost is known to its senders |
//! | the server is slow | terms go on; deaths are noticed later | `roundlot_durable_lag_seconds` | give it what it needs |
//! | a failover to a standby that has all | sessions connect again | the same as for a short outage | nothing |
//! | a failover to a standby that lacks something | what it lacks is lost; the log stops where it can tell | the error `the log went back` | resend what its senders know of; make replication synchronous |
//! | a node was silent for an hour | it is removed, and takes and leads nothing | the error `this process was silent for an hour` | restart it |
//! | ops wait up to the cap | sends wait | `roundlot_durable_log_bytes`, the warning `a frame is tried again` | raise [`max_bytes`](crate::durable::PostgreSql::max_bytes), or help the sink |
//! | a shard is held | the node can't read its log | the error `the shard is held: its log can't be read`, with the reason | upgrade the node; or remove what is not roundlot's |
//! | dead letters are full | the shard waits that has another one | the warning `a record is tried again, and the shard waits for it` | look at the letters, and discard or requeue them |
//!
//! A program is upgraded by restarting one node after the other: each hands its shards over. A version with another format of the tables is
//! refused by `join`, with the reason.
//!
//! `cargo run --release -p nodes -- --postgres` and `-- --nats` show it on private servers, which they kill and cut off. In 300 faults nothing was lost, doubled,
//! reordered or stale. With `--without-fence` calls of replaced leaders arrive. On NATS 97 faults of 19 kinds were shown so far, 40 of them with a lease of 400 ms.
