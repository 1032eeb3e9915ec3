//! Load for a log that three nodes share: orders and prices, sent by many callers at once, into rows of the log's database. Prints how
//! many ops a second are settled, how long each takes, and what was conflated.
//!
//! The load is that of the prototype which `benches/README.md` names: a quarter of the ops are prices, and each symbol has a window of
//! ops that are under way. `cargo run --release -p benches --bin nodes_load -- --help` lists the options.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use futures::{StreamExt, stream::FuturesUnordered};
use roundlot::{
    Batch, End, Limits, Settled, Sink, SinkError, Stages,
    durable::{CodecError, Durable, Engine, Joined, Nats, PostgreSql, Raw, RawBytes, Term},
    sink::Guarantee,
    stage,
};
use tokio_postgres::{NoTls, Transaction};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of an op besides its numbers.
const PAYLOAD: usize = 64;

#[derive(Debug, Clone, Parser)]
#[command(about = "Load for a log that three nodes share")]
struct Options {
    /// Servers of NATS, one of which each node reaches. Without them the log is in the database.
    #[arg(long)]
    nats: Option<String>,
    /// The database of the rows, and of the ledger or the log.
    #[arg(long)]
    database: String,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Symbols of each node.
    #[arg(long, default_value_t = 16)]
    symbols: u16,
    /// Ops of a symbol that are under way.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// One op of so many is a price.
    #[arg(long, default_value_t = 4)]
    prices: u64,
    #[arg(long, default_value_t = 500)]
    batch: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Op {
    is_price: bool,
    symbol: u16,
    number: u64,
}

impl RawBytes for Op {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(self.is_price));
        to.extend_from_slice(&self.symbol.to_le_bytes());
        to.extend_from_slice(&self.number.to_le_bytes());
        to.extend_from_slice(&[b'x'; PAYLOAD]);
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let (kind, rest) = bytes.split_first().ok_or("too short")?;
        let (symbol, rest) = rest.split_first_chunk().ok_or("too short")?;
        let (number, _) = rest.split_first_chunk().ok_or("too short")?;
        let (symbol, number) = (u16::from_le_bytes(*symbol), u64::from_le_bytes(*number));
        Ok(Self { is_price: *kind == 1, symbol, number })
    }
}

/// Rows in transactions of the log.
struct Rows(Term);

impl Sink<Op> for Rows {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (i32::from(self.0.shard()), self.0.epoch() as i64);
        let work = async |transaction: &mut Transaction<'_>, batch: &mut Batch<Op>| {
            let symbols: Vec<i32> = batch.pending().map(|op| i32::from(op.symbol)).collect();
            let numbers: Vec<i64> = batch.pending().map(|op| op.number as i64).collect();
            let prices: Vec<bool> = batch.pending().map(|op| op.is_price).collect();
            let insert = "INSERT INTO orders (symbol, number, is_price, shard, epoch) \
                SELECT *, $4, $5 FROM unnest($1::integer[], $2::bigint[], $3::boolean[])";
            transaction.execute(insert, &[&symbols, &numbers, &prices, &shard, &epoch]).await?;
            Ok(batch.accept_all())
        };
        self.0.postgres(batch, work).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// Counts of all callers.
#[derive(Default)]
struct Counts {
    ended: AtomicU64,
    prices: AtomicU64,
    conflated: AtomicU64,
    is_over: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let (client, connection) = tokio_postgres::connect(&options.database, NoTls).await?;
    tokio::spawn(connection);
    let table = "DROP TABLE IF EXISTS orders; CREATE TABLE orders (id bigserial PRIMARY KEY, symbol integer, number bigint, \
        is_price boolean, shard integer, epoch bigint)";
    client.batch_execute(table).await?;
    let mut nodes = Vec::new();
    for _ in 0..options.nodes {
        nodes.push(match &options.nats {
            Some(urls) => join(&options, Nats::at(urls).servers_sync().ledger(&options.database)).await?,
            None => join(&options, PostgreSql::at(&options.database)).await?,
        });
    }
    // Each leads some shards a second after the last one has joined.
    while !nodes.iter().all(|node| node.handle().is_leading()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counts = Arc::new(Counts::default());
    let mut callers = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        for symbol in 0..options.symbols {
            let symbol = number as u16 * options.symbols + symbol;
            callers.push(tokio::spawn(call(node.handle(), symbol, options.clone(), Arc::clone(&counts))));
        }
    }
    // The first seconds are of no account.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, before) = (Instant::now(), counts.ended.load(Relaxed));
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let ended = counts.ended.load(Relaxed) - before;
    println!("settled {:.0} ops/s", ended as f64 / began.elapsed().as_secs_f64());
    counts.is_over.store(true, Relaxed);
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default().as_millis();
    println!("from submit to outcome p50 {} ms, p99 {} ms", at(50), at(99));
    let (prices, conflated) = (counts.prices.load(Relaxed), counts.conflated.load(Relaxed));
    println!("conflated {:.1} % of {prices} prices", 100.0 * conflated as f64 / prices.max(1) as f64);
    for node in nodes {
        node.leave().await?;
    }
    Ok(())
}

async fn join(options: &Options, log: impl Engine) -> Result<Joined<Op>, Failure> {
    let durable = Durable::new("load", log)
        .codec(Raw)
        .stages(|| {
            let stages = Stages::new().partition_by(|op: &Op| u64::from(op.symbol));
            stages.conflate_by(|op: &Op| op.is_price.then_some(op.symbol), stage::latest)
        })
        .shards(options.shards, |symbol: &u64| symbol.to_le_bytes())
        .limits(Limits::new(options.batch).max_pending(100_000))
        .sink(Rows);
    Ok(durable.join().await?)
}

/// Sends ops of a symbol, as many at once as its window allows.
async fn call(
    handle: roundlot::durable::Handle<Op>,
    symbol: u16,
    options: Options,
    counts: Arc<Counts>,
) -> Result<Vec<Duration>, Failure> {
    let (handle, mut under_way, mut times, mut number) = (&handle, FuturesUnordered::new(), Vec::new(), 0);
    loop {
        while !counts.is_over.load(Relaxed) && under_way.len() < options.window {
            number += 1;
            let op = Op { is_price: number % options.prices == 0, symbol, number };
            // Each is in a frame when it is first polled, and they are polled in their order.
            under_way.push(async move {
                let sent = Instant::now();
                let outcome = handle.submit(op).await.map_err(|error| error.to_string())?.outcome().await;
                Ok::<_, String>((op.is_price, outcome.end, sent.elapsed()))
            });
        }
        let Some(ended) = under_way.next().await else { return Ok(times) };
        let (is_price, end, time) = ended?;
        times.push(time);
        counts.ended.fetch_add(1, Relaxed);
        counts.prices.fetch_add(u64::from(is_price), Relaxed);
        counts.conflated.fetch_add(u64::from(end == End::Conflated), Relaxed);
    }
}
