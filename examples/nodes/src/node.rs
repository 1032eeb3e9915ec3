//! A node: a process that joins the log, sends orders and prices, and leads the shards that fall to it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use clap::Args;
use roundlot::{
    Limits,
    durable::{Durable, Engine, File, Handle, Joined, Nats, PostgreSql, Term},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Failure,
    op::{Kind, NodeSink, Op, PostgresRows, Rows, STOPS, SYMBOLS, Venue, stages},
    place::Place,
    word::{FINISH, LEAVE, STOP_IN_TRANSACTION, Word},
};

/// Tasks of a node that send orders.
const SENDERS: u64 = 8;

/// A number is the life of its node times this, and a count. A node that begins again so goes on above.
const NUMBERS_PER_LIFE: u64 = 1_000_000_000;

/// Prices of all symbols are sent so often.
const PRICE_PERIOD: Duration = Duration::from_millis(10);

/// The variable that names the database of the log. An argument could be read by others.
pub(crate) const DATABASE: &str = "ROUNDLOT_NODES_DATABASE";

/// The variable that names NATS servers. Then the database has only the ledger of the log.
pub(crate) const NATS: &str = "ROUNDLOT_NODES_NATS";

/// The variable that names the monitoring ports of NATS servers.
pub(crate) const MONITORING: &str = "ROUNDLOT_NODES_NATS_MONITORING";

/// The variable that names a folder in which each node writes what the log tells of.
const EVENTS: &str = "ROUNDLOT_NODES_EVENTS";

/// How long the transaction of a sink may take.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The board shows what nodes lead so often.
const REPORT_PERIOD: Duration = Duration::from_millis(200);

/// The life of the node that a sender of orders belongs to.
pub(crate) fn life_of(source: u64) -> u64 {
    source / SENDERS
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// File of the log. Without one it is in the database that the environment names.
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,

    /// Name of the log.
    #[arg(long)]
    pub(crate) name: String,

    /// Number of shards of the log.
    #[arg(long)]
    pub(crate) shards: u16,

    /// Which of the nodes it is.
    #[arg(long)]
    pub(crate) slot: u64,

    /// How many nodes began before it.
    #[arg(long)]
    pub(crate) life: u64,

    /// Orders per second.
    #[arg(long)]
    pub(crate) orders: u64,

    /// How long a node must be silent before others lead its shards, in a database; in milliseconds.
    #[arg(long)]
    pub(crate) lease_ms: u64,

    /// File of the venue; without one, rows are written in transactions of the log.
    #[arg(long)]
    pub(crate) venue: Option<PathBuf>,
}

/// Sends until it is told to end, or is killed.
pub(crate) async fn run(args: NodeArgs) -> Result<(), Failure> {
    if let Some(folder) = std::env::var_os(EVENTS) {
        let name = format!("node-{}-{}.log", args.slot, args.life);
        let file = Mutex::new(std::fs::File::create(PathBuf::from(folder).join(name))?);
        tracing_subscriber::fmt().with_ansi(false).with_writer(file).init();
    }
    let joined = join(&args).await?;
    let (stop, senders, acks) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
    for sender in 0..SENDERS {
        let source = args.life * SENDERS + sender;
        senders.spawn(send_orders(joined.handle(), source, args.orders, acks.clone(), stop.clone()));
    }
    senders.spawn(send_prices(joined.handle(), args.slot, args.life * NUMBERS_PER_LIFE, stop.clone()));
    senders.close();
    acks.close();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let (mut reports, mut is_finished) = (interval(REPORT_PERIOD), false);
    loop {
        tokio::select! {
            line = lines.next_line() => match line?.as_deref() {
                Some(FINISH) => {
                    stop.cancel();
                    senders.wait().await;
                    acks.wait().await;
                    joined.handle().flush().await?;
                    is_finished = true;
                    Word::Finished.say();
                }
                Some(STOP_IN_TRANSACTION) => STOPS.store(true, SeqCst),
                Some(LEAVE) | None => break,
                Some(other) => return Err(format!("the node does not know {other}").into()),
            },
            _ = reports.tick(), if !is_finished => {
                let stats = joined.stats();
                Word::Leading { waiting: stats.waiting + stats.in_flight, in_doubt: stats.in_doubt }.say();
            }
        }
    }
    stop.cancel();
    joined.leave().await?;
    Ok(())
}

impl NodeArgs {
    fn place(&self) -> Result<Place, Failure> {
        Ok(match &self.log {
            Some(path) => Place::File(path.clone()),
            None => Place::Database(std::env::var(DATABASE)?),
        })
    }
}

async fn join(args: &NodeArgs) -> Result<Joined<Op>, Failure> {
    match args.place()? {
        Place::File(path) => join_in(File::at(path), args, |term| NodeSink::Rows(Rows(term))).await,
        Place::Database(url) => {
            let lease = Duration::from_millis(args.lease_ms);
            let rows = |term| NodeSink::PostgresRows(PostgresRows(term));
            match std::env::var(NATS) {
                Ok(servers) => join_in(nats(&servers, &url, lease), args, rows).await,
                Err(_) => join_in(PostgreSql::at(url).lease(lease), args, rows).await,
            }
        }
    }
}

/// A log on NATS servers, with its ledger in a database.
fn nats(servers: &str, ledger: &str, lease: Duration) -> Nats {
    let log = Nats::at(servers).ledger(ledger).lease(lease);
    let urls = std::env::var(MONITORING).unwrap_or_default();
    let urls: Vec<String> = urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
    if urls.is_empty() { log } else { log.monitoring(urls) }
}

async fn join_in(
    log: impl Engine,
    args: &NodeArgs,
    rows: impl Fn(Term) -> NodeSink + Clone + Send + Sync + 'static,
) -> Result<Joined<Op>, Failure> {
    let orders = Durable::new(args.name.as_str(), log).stages(stages).transaction_timeout(TRANSACTION_TIMEOUT);
    let orders = orders.shards(args.shards, |symbol: &u32| symbol.to_le_bytes()).limits(Limits::new(200));
    let venue = args.venue.as_deref().map(Venue::open).transpose()?;
    let venue = venue.map(|database| Arc::new(Mutex::new(database)));
    let leads = move |term: Term| {
        Word::Leads { shard: term.shard(), epoch: term.epoch() }.say();
        match &venue {
            Some(database) => NodeSink::Venue(Venue { term, database: Arc::clone(database) }),
            None => rows(term),
        }
    };
    Ok(orders.sink(leads).join().await?)
}

/// Sends orders of all symbols in turn, and says what becomes of them. Ends when it is stopped, or the log has been left.
async fn send_orders(desk: Handle<Op>, source: u64, per_second: u64, acks: TaskTracker, stop: CancellationToken) {
    let mut ticks = interval(Duration::from_secs(SENDERS) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let symbol = ((source + number) % u64::from(SYMBOLS)) as u32;
        // An error says that it may be in the log, or is not. The rows tell, and nothing was promised.
        let Ok(ack) = desk.submit(Op { kind: Kind::Order, symbol, source, number }).await else { continue };
        Word::Accepted { source, symbol, number }.say();
        acks.spawn(async move {
            match ack.await {
                // The node has left, and the order is in the log.
                Err(roundlot::AckError::Detached { .. }) => {}
                result => Word::Ended { source, number, delivered: result.is_ok() }.say(),
            }
        });
    }
}

/// Sends a price of each symbol again and again.
async fn send_prices(desk: Handle<Op>, feed: u64, base: u64, stop: CancellationToken) {
    let mut ticks = interval(PRICE_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in base + 1.. {
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let prices = (0..SYMBOLS).map(move |symbol| Op { kind: Kind::Price, symbol, source: feed, number });
        if desk.send_all(prices).await.is_ok() {
            Word::Priced { feed, number }.say();
        }
    }
}
