//! The victim: a process that joins the log and loads it until it is killed, by the driver or by itself at a step. It tells the
//! driver what it is about to do, and what its calls returned.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use roundlot::{
    End, Limits, Retry,
    durable::{Ack, Durable, File, Handle, Joined, OpStatus, SendError},
};
use tokio::{runtime::Builder, time::sleep};

use crate::{
    Failure,
    control::control,
    failpoint::Killer,
    op::{Kind, Op, now, number, stages},
    plan::{Again, LOG, Plan},
    said::{Said, say},
    venue::Venue,
    wire::Mark,
};

/// Senders of single ops. One more sends many at a time.
const SENDERS: u64 = 10;

/// Ops accepted and not ended, at most. Most of the time there are as many, since the destination is slow.
const MAX_PENDING: usize = 600;

/// Lives one life, by a plan in a file.
pub(crate) fn run(plan: &Path) -> Result<(), Failure> {
    let plan: Plan = serde_json::from_slice(&std::fs::read(plan)?)?;
    tracing::subscriber::set_global_default(Killer::new(plan.failpoint.clone()))?;
    let is_alone = plan.ids.is_none() && plan.seed.is_multiple_of(4);
    let mut builder = if is_alone { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(live(Arc::new(plan)))
}

async fn live(plan: Arc<Plan>) -> Result<(), Failure> {
    let venue = Venue::new(&plan.folder, plan.sort, plan.life, plan.ids.is_some());
    let of_terms = venue.clone();
    // A short time lets calls end in doubt, whose ops are then sent again.
    let append_timeout = if plan.seed.is_multiple_of(3) { 20 } else { 5000 };
    let orders = Durable::new("orders", File::at(plan.folder.join(LOG)))
        .stages(stages)
        .shards(plan.shards, |partition: &u8| [*partition])
        .limits(Limits::new(12).max_in_flight(3).max_pending(MAX_PENDING))
        .retry(Retry::exponential(Duration::from_millis(2), Duration::from_millis(20)).max_attempts(4))
        .append_timeout(Duration::from_millis(append_timeout))
        .horizon(Duration::from_millis(plan.horizon))
        .sink(move |term| of_terms.of_term(term))
        .join()
        .await?;
    let stats = orders.stats();
    say(&Said::Joined {
        recovered: stats.recovered,
        in_doubt: stats.recovered_in_doubt,
        paused: stats.paused,
        at: now(),
    });
    if stats.paused {
        venue.mark(Mark::FoundPaused).await?;
    }
    if let Some(ids) = &plan.ids {
        return finish(orders, &venue, ids, stats.paused).await;
    }
    let (desk, is_over) = (orders.handle(), Arc::new(AtomicBool::new(false)));
    let (of_senders, until) = (plan.clone(), Arc::clone(&is_over));
    let sending = tokio::spawn(async move {
        // Ops in doubt come before those that their senders send next.
        join_all(of_senders.again.iter().map(|again| send_again(&desk, again.clone()))).await;
        let senders = (0..SENDERS).map(|sender| send(desk.clone(), of_senders.clone(), sender, Arc::clone(&until)));
        let senders = senders.map(tokio::spawn).collect::<Vec<_>>();
        send_many(&desk, &of_senders, &until).await;
        join_all(senders).await;
    });
    control(orders, &venue, &plan, &is_over).await?;
    sending.abort();
    Ok(())
}

/// Draws the ops of one sender.
struct Draw {
    random: fastrand::Rng,
    life: u64,
    sender: u64,
    count: u64,
    /// The order that may be canceled.
    order: Option<Op>,
}

impl Draw {
    fn new(plan: &Plan, sender: u64) -> Self {
        let random = fastrand::Rng::with_seed(plan.seed.wrapping_mul(31).wrapping_add(sender));
        Self { random, life: plan.life, sender, count: 0, order: None }
    }

    fn plain(&mut self) -> Op {
        let number = number(self.life, self.sender, self.count);
        self.count += 1;
        let (partition, level) = (self.random.u8(0..3), self.random.u8(0..2));
        Op { numbers: vec![number], kind: Kind::Plain, partition, key: 0, level, tag: 0, expires: None }
    }

    fn next(&mut self) -> Op {
        let plain = self.plain();
        let number = plain.first();
        let expires = (self.random.u8(0..6) == 0).then(|| now() + self.random.u64(5..1500));
        match self.random.u8(0..10) {
            0..4 => Op { tag: self.random.u8(0..5), expires, ..plain },
            4..6 => {
                let key = self.sender * 2 + self.random.u64(0..2);
                Op { kind: Kind::Price, key, partition: (key % 3) as u8, level: (key % 2) as u8, expires, ..plain }
            }
            6..8 => match self.order.take().filter(|_| self.random.bool()) {
                Some(order) => Op { numbers: vec![number], kind: Kind::Cancel, ..order },
                None => {
                    let order = Op { kind: Kind::New, key: number, ..plain };
                    self.order = Some(order.clone());
                    order
                }
            },
            _ => {
                let key = self.sender;
                let tag = self.random.u8(0..3);
                Op { kind: Kind::Sum, key, partition: (key % 3) as u8, level: (key % 2) as u8, tag, ..plain }
            }
        }
    }
}

async fn send(desk: Handle<Op, u64>, plan: Arc<Plan>, sender: u64, is_over: Arc<AtomicBool>) {
    let mut draw = Draw::new(&plan, sender);
    while !is_over.load(Ordering::Relaxed) {
        let op = draw.next();
        match draw.random.u8(0..3) {
            0 if op.tag == 0 && op.kind == Kind::Plain && op.expires.is_none() => send_nameless(&desk, op).await,
            1 => {
                let id = desk.next_id(&op);
                say(&Said::Sending { op: op.clone(), id: Some(id.to_string()) });
                accepted(&desk, op.clone(), desk.submit_as(id, op).await).await;
            }
            _ => {
                say(&Said::Sending { op: op.clone(), id: None });
                accepted(&desk, op.clone(), desk.submit(op).await).await;
            }
        }
        if draw.random.u8(0..8) == 0 {
            sleep(Duration::from_millis(draw.random.u64(0..5))).await;
        }
    }
}

/// Sends an op of which no id is known: the destination and the dead letters tell what became of it.
async fn send_nameless(desk: &Handle<Op, u64>, op: Op) {
    let number = op.first();
    say(&Said::Sending { op: op.clone(), id: None });
    match desk.send(op).await {
        Ok(()) => say(&Said::Accepted { number, id: None }),
        Err(error) if error.is_in_doubt() => {}
        Err(error) => say(&Said::NotAccepted { number, why: error.to_string() }),
    }
}

/// Sends many ops at a time, of which no ids are known.
async fn send_many(desk: &Handle<Op, u64>, plan: &Plan, is_over: &AtomicBool) {
    let mut draw = Draw::new(plan, SENDERS);
    while !is_over.load(Ordering::Relaxed) {
        // Long frames of which little is left are compacted.
        let most = if draw.random.u8(0..4) == 0 { 400 } else { 60 };
        let count = draw.random.usize(1..most);
        let ops: Vec<Op> = (0..count).map(|_| draw.plain()).collect();
        let numbers: Vec<u64> = ops.iter().map(Op::first).collect();
        ops.iter().for_each(|op| say(&Said::Sending { op: op.clone(), id: None }));
        match desk.send_all(ops).await {
            Ok(()) => numbers.into_iter().for_each(|number| say(&Said::Accepted { number, id: None })),
            Err(error) => {
                let (in_doubt, rest) = error.into_parts();
                let not_accepted: Vec<u64> = rest.iter().map(Op::first).collect();
                let doubtful: Vec<u64> = in_doubt.iter().map(|(_, op)| op.first()).collect();
                for number in numbers {
                    if not_accepted.contains(&number) {
                        say(&Said::NotAccepted { number, why: "given back".to_owned() });
                    } else if !doubtful.contains(&number) {
                        say(&Said::Accepted { number, id: None });
                    }
                }
            }
        }
        sleep(Duration::from_millis(draw.random.u64(0..30))).await;
    }
}

/// Tells what a call returned. An op in doubt is sent again under its id until that is known.
async fn accepted(desk: &Handle<Op, u64>, op: Op, mut result: Result<Ack<u64>, SendError<Op>>) {
    let number = op.first();
    loop {
        match result {
            Ok(ack) => {
                say(&Said::Accepted { number, id: Some(ack.id().to_string()) });
                tokio::spawn(tell(ack));
                return;
            }
            Err(SendError::InDoubt { op, id }) => {
                say(&Said::SendingAgain { number, id: id.to_string() });
                result = desk.submit_as(id, op).await;
            }
            Err(SendError::Forgotten { id, .. }) => return say(&Said::Forgotten { number, id: id.to_string() }),
            Err(error) => return say(&Said::NotAccepted { number, why: error.to_string() }),
        }
    }
}

/// Tells how an op ended.
async fn tell(ack: Ack<u64>) {
    let id = ack.id().to_string();
    let end = ack.outcome().await.end;
    // A process that leaves has no outcomes to tell of ops that stay in the log.
    if end != End::Returned {
        say(&Said::Ended { id, end: end.name().to_owned() });
    }
}

async fn send_again(desk: &Handle<Op, u64>, Again { id, op }: Again) {
    let Ok(known) = id.parse() else {
        return;
    };
    say(&Said::SendingAgain { number: op.first(), id });
    accepted(desk, op.clone(), desk.submit_as(known, op).await).await;
}

/// Ends all that waits, and tells what became of each op.
async fn finish(orders: Joined<Op, u64>, venue: &Venue, ids: &[String], is_paused: bool) -> Result<(), Failure> {
    let desk = orders.handle();
    if is_paused {
        say(&Said::Resuming { at: now() });
        venue.mark(Mark::Resuming).await?;
        desk.resume().await?;
    }
    let stats = loop {
        desk.flush().await?;
        let stats = desk.stats();
        if stats.waiting + stats.in_flight == 0 {
            break stats;
        }
    };
    let mut answers = stream::iter(ids).map(|id| ask(&desk, id)).buffered(64);
    while let Some(said) = answers.next().await {
        say(&said?);
    }
    for (id, letter) in orders.dead_letters().list(usize::MAX).await? {
        let (numbers, end) = (letter.op.numbers.clone(), letter.end().name().to_owned());
        say(&Said::Letter { id: id.to_string(), numbers, end });
    }
    let (accepted, recovered, repeats) = (stats.accepted, stats.recovered, stats.repeats);
    say(&Said::Drained { accepted, recovered, ended: stats.outcomes.total(), repeats });
    orders.leave().await?;
    say(&Said::Left);
    Ok(())
}

async fn ask(desk: &Handle<Op, u64>, id: &str) -> Result<Said, Failure> {
    let status = desk.outcome(id.parse()?).await?;
    let has_ended = status.is_ended();
    let status = match status {
        OpStatus::Ended(outcome) => outcome.end.name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    Ok(Said::Became { id: id.to_owned(), status, has_ended })
}
