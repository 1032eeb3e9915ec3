//! Tests of orders, cancels and amends with reused ids. A random program ends at a model venue as it does when each op
//! is sent alone, whether ops wait together, are in flight, or fail and are tried again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use roundlot::{
    AckError, Batch, Batcher, Handle, Limits, Retry, Settled, Sink, SinkError, Stages, Worker,
    market::{Amend, ClientOrderId, Order, OrderKind, Price, PriceUpdate, Side, Symbol, TimeInForce, TradeOp},
    stage::Merge,
    testing::until_idle,
};

const BTC: Symbol = Symbol::from_static("BTCUSDT");

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The orders that rest at the venue: at most one of an id.
#[derive(Debug, Default)]
struct Book {
    resting: BTreeMap<ClientOrderId, Order>,
    /// Times at which the orders that came expire. The test uses them as serial numbers.
    seen: BTreeSet<i64>,
    cancels: u64,
    /// Whether an amend changes the fields that it can, instead of all or none. Amends that were merged by
    /// `TradeOp::merge` are taken or refused as one, so the end is the same only at such a venue.
    is_lenient: bool,
}

impl Book {
    fn take(&mut self, op: &TradeOp) -> Result<u64, &'static str> {
        match op {
            TradeOp::Order(order) => {
                self.seen.extend(order.time_in_force().until_ns());
                if self.resting.contains_key(&order.id()) {
                    return Err("the order id is in use");
                }
                self.resting.insert(order.id(), order.clone());
            }
            TradeOp::Cancel(cancel) => {
                self.cancels += 1;
                self.resting.remove(&cancel.order_id).ok_or("there is no such order")?;
            }
            TradeOp::Amend(amend) => {
                let order = self.resting.get_mut(&amend.order_id).ok_or("there is no such order")?;
                let mut amend = *amend;
                if self.is_lenient {
                    amend.price = amend.price.filter(|_| order.price().is_some());
                    amend.stop_price = amend.stop_price.filter(|_| order.stop_price().is_some());
                }
                *order = order.amended(&amend).map_err(|_| "the order does not have what is amended")?;
            }
            _ => {}
        }
        Ok(0)
    }
}

/// The fate of a write.
#[derive(Debug, Clone, Copy)]
enum Call {
    Works,
    /// Nothing lands.
    Fails,
    /// Number of ops with a verdict; the rest is to be tried again.
    Breaks(usize),
}

#[derive(Clone, Default)]
struct Venue {
    book: Arc<Mutex<Book>>,
    /// The calls to come, each with its time in milliseconds; all later ones work.
    calls: Arc<Mutex<VecDeque<(Call, u64)>>>,
}

impl Venue {
    fn new(is_lenient: bool, calls: Vec<(Call, u64)>) -> Self {
        let book = Book { is_lenient, ..Book::default() };
        Self { book: Arc::new(Mutex::new(book)), calls: Arc::new(Mutex::new(calls.into())) }
    }
}

impl Sink<TradeOp, u64> for Venue {
    async fn write(&self, batch: &mut Batch<TradeOp, u64>) -> Result<Settled, SinkError> {
        let (call, time) = self.calls.lock().unwrap().pop_front().unwrap_or((Call::Works, 1));
        tokio::time::sleep(ms(time)).await;
        let lands = match call {
            Call::Works => batch.len(),
            Call::Fails => return Err(SinkError::transient("away")),
            Call::Breaks(lands) => lands.min(batch.len()),
        };
        let mut book = self.book.lock().unwrap();
        for i in 0..lands {
            match book.take(&batch[i]) {
                Ok(id) => batch.accept(i, id),
                Err(reason) => batch.refuse(i, SinkError::refused(reason)),
            }
        }
        if lands < batch.len() { Err(SinkError::transient("away")) } else { batch.settled() }
    }
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Limit,
    Stop,
    StopLimit,
    /// The last order of the id, handed in once more.
    Again,
    /// Price, quantity and stop price, each if it changes.
    Amend([Option<u8>; 3]),
    Cancel,
    Price,
}

/// One op, and how long the program waits before it, in milliseconds.
type Step = (u8, Ask, u64);

/// Ops that wait together, since the batcher is paused meanwhile, and how long the program waits behind them.
type Window = (Vec<(u8, Ask)>, u64);

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        2 => Just(Ask::Limit),
        1 => Just(Ask::Stop),
        1 => Just(Ask::StopLimit),
        1 => Just(Ask::Again),
        3 => prop::array::uniform3(prop::option::of(1_u8..20)).prop_map(Ask::Amend),
        3 => Just(Ask::Cancel),
        1 => Just(Ask::Price),
    ]
}

fn calls() -> impl Strategy<Value = Vec<(Call, u64)>> {
    let call = prop_oneof![
        3 => Just(Call::Works),
        2 => Just(Call::Fails),
        2 => (0_usize..4).prop_map(Call::Breaks),
    ];
    prop::collection::vec((call, 0_u64..40), 0..12)
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    prop::collection::vec((prop::collection::vec((0_u8..2, ask()), 0..8), 0_u64..40), 1..6)
}

/// Makes ops from the asks of a program.
#[derive(Default)]
struct Program {
    serial: u64,
    /// The order of each id since its last cancel.
    last: BTreeMap<u8, Order>,
    /// Ids of orders that may have left the buffer.
    out: BTreeSet<u8>,
    /// All ops handed in, in order.
    sent: Vec<TradeOp>,
}

impl Program {
    fn price(number: u64) -> Price {
        format!("{number}").parse().unwrap()
    }

    /// Returns the op; `None` where a careful program must not ask for it.
    fn op(&mut self, id: u8, ask: Ask, careful: bool) -> Option<TradeOp> {
        self.serial += 1;
        let (serial, price) = (self.serial, Self::price(1000 + self.serial));
        let name = ClientOrderId::from(u64::from(id));
        let is_order = matches!(ask, Ask::Limit | Ask::Stop | Ask::StopLimit | Ask::Again);
        if careful && is_order && self.out.contains(&id) {
            return None;
        }
        let quantity = serial.to_string().parse().unwrap();
        let order = |kind| {
            let time_in_force = TimeInForce::Gtd { until_ns: i64::try_from(serial).unwrap() };
            let order = Order::new(name, BTC, Side::Sell, kind, quantity).unwrap();
            TradeOp::from(order.with_time_in_force(time_in_force).unwrap())
        };
        let op: TradeOp = match ask {
            Ask::Limit => order(OrderKind::Limit { price }),
            Ask::Stop => order(OrderKind::Stop { stop_price: price }),
            Ask::StopLimit => order(OrderKind::StopLimit { stop_price: price, price }),
            Ask::Again => self.last.get(&id)?.clone().into(),
            Ask::Amend(to) => {
                let [price, quantity, stop_price] = to.map(|to| to.map(u64::from));
                let mut amend = Amend::new(name, BTC, Side::Sell);
                amend.price = price.map(Self::price);
                amend.quantity = quantity.map(|to| to.to_string().parse().unwrap());
                amend.stop_price = stop_price.map(Self::price);
                amend.into()
            }
            Ask::Cancel => {
                self.out.remove(&id);
                self.last.remove(&id);
                let any = Order::market(name, BTC, Side::Sell, quantity).unwrap();
                any.cancel().into()
            }
            Ask::Price => PriceUpdate::new(BTC, price, i64::try_from(serial).unwrap()).into(),
        };
        if let TradeOp::Order(order) = &op {
            self.last.insert(id, order.clone());
        }
        self.sent.push(op.clone());
        Some(op)
    }

    /// Notes that no op handed in so far needs to wait any more.
    fn cut(&mut self) {
        self.out.extend(self.last.keys());
    }

    /// Compares the venue with one that got each op alone, and the outcomes with the ops that the venue got.
    fn check(&self, venue: &Venue, outcomes: &[(TradeOp, Result<u64, AckError>)]) -> Result<(), TestCaseError> {
        let book = venue.book.lock().unwrap();
        let mut alone = Book { is_lenient: book.is_lenient, ..Book::default() };
        for op in &self.sent {
            let _ = alone.take(op);
        }
        prop_assert_eq!(&book.resting, &alone.resting, "sent: {:#?}", self.sent);
        let mut cancels = 0;
        for (op, result) in outcomes {
            match op {
                TradeOp::Order(order) if matches!(result, Err(AckError::Netted)) => {
                    prop_assert!(
                        !book.seen.contains(&order.time_in_force().until_ns().unwrap()),
                        "netted, and sent: {:?}",
                        order
                    );
                }
                TradeOp::Cancel(_) if !matches!(result, Err(AckError::Netted)) => cancels += 1,
                _ => {}
            }
        }
        // Cancels that were conflated left as one; those that were netted did not leave.
        prop_assert!(book.cancels <= cancels, "{} cancels for {} that were not netted", book.cancels, cancels);
        Ok(())
    }
}

type Desk = Handle<TradeOp, u64>;

fn desk(venue: &Venue, merge: fn(TradeOp, TradeOp) -> Merge<TradeOp>, limits: Limits) -> (Desk, Worker<TradeOp>) {
    let stages = Stages::new()
        .partition_by(|op: &TradeOp| op.symbol())
        .conflate_by(TradeOp::conflation_key, merge)
        .priority_by(TradeOp::priority);
    let retry = Retry::exponential(ms(1), ms(20)).max_attempts(1000).seed(1);
    Batcher::new(venue.clone()).stages(stages).limits(limits).retry(retry).spawn()
}

fn run<F: Future<Output = Result<(), TestCaseError>>>(test: F) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// Runs a program that uses ids again only while their orders wait, or after a cancel.
async fn careful(windows: Vec<Window>, calls: Vec<(Call, u64)>, max_items: usize) -> Result<(), TestCaseError> {
    let venue = Venue::new(true, calls);
    let (desk, worker) = desk(&venue, TradeOp::merge, Limits::new(max_items).linger(ms(5)).max_in_flight(2));
    let (mut program, mut acks) = (Program::default(), Vec::new());
    for (asks, wait) in windows {
        desk.pause().await.unwrap();
        for (id, ask) in asks {
            if let Some(op) = program.op(id, ask, true) {
                acks.push((op.clone(), desk.submit(op).await.unwrap()));
            }
        }
        until_idle().await;
        program.cut();
        desk.resume().await.unwrap();
        tokio::time::sleep(ms(wait)).await;
    }
    let _ = worker.shutdown().await.unwrap();
    let mut outcomes = Vec::new();
    for (op, ack) in acks {
        outcomes.push((op, ack.outcome().await.result));
    }
    program.check(&venue, &outcomes)
}

/// Runs a program that uses any id at any time: while its order waits, is in flight, backs off or rests at the venue.
async fn careless(steps: Vec<Step>, calls: Vec<(Call, u64)>, max_items: usize) -> Result<(), TestCaseError> {
    let venue = Venue::new(false, calls);
    let limits = Limits::new(max_items).linger(ms(5)).max_in_flight(2);
    let (desk, worker) = desk(&venue, TradeOp::merge_reused, limits);
    let (mut program, mut acks) = (Program::default(), Vec::new());
    for (id, ask, wait) in steps {
        tokio::time::sleep(ms(wait)).await;
        if let Some(op) = program.op(id, ask, false) {
            acks.push((op.clone(), desk.submit(op).await.unwrap()));
        }
    }
    let _ = worker.shutdown().await.unwrap();
    let mut outcomes = Vec::new();
    for (op, ack) in acks {
        outcomes.push((op, ack.outcome().await.result));
    }
    let netted = outcomes.iter().filter(|(_, result)| matches!(result, Err(AckError::Netted))).count();
    prop_assert_eq!(netted, 0);
    program.check(&venue, &outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn ids_that_wait_twice_end_as_if_sent_alone(windows in windows(), calls in calls(), max_items in 1_usize..6) {
        run(careful(windows, calls, max_items))?;
    }

    #[test]
    fn ids_that_are_reused_at_any_time_end_as_if_sent_alone(
        steps in prop::collection::vec((0_u8..2, ask(), prop_oneof![3 => Just(0_u64), 1 => 0_u64..30]), 0..30),
        calls in calls(),
        max_items in 1_usize..6,
    ) {
        run(careless(steps, calls, max_items))?;
    }
}

/// Test of a case that was found: two orders of one id, and its cancel, within one linger.
#[tokio::test(start_paused = true)]
async fn a_cancel_takes_no_order_of_two_with_it() {
    let venue = Venue::default();
    let (desk, worker) = desk(&venue, TradeOp::merge, Limits::new(500).linger(ms(5)));
    let order = |quantity: &str| {
        Order::limit(7.into(), BTC, Side::Buy, "100".parse().unwrap(), quantity.parse().unwrap()).unwrap()
    };
    let first = desk.submit(order("7").into()).await.unwrap();
    let second = desk.submit(order("4").into()).await.unwrap();
    let cancel = desk.submit(order("7").cancel().into()).await.unwrap();
    let _ = worker.shutdown().await.unwrap();
    assert_eq!((first.await.unwrap(), cancel.await.unwrap()), (0, 0));
    assert!(
        matches!(second.await.unwrap_err(), AckError::Refused(error) if error.chain().ends_with("the order id is in use"))
    );
    assert!(venue.book.lock().unwrap().resting.is_empty());
}
