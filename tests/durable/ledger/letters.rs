//! Dead letters in a ledger, and their way back into the file.

use super::*;

/// Refuses what is not allowed.
struct Strict(Term);

impl Sink<i64> for Strict {
    async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
        let work = async |transaction: &mut Transaction<'_>, batch: &mut Batch<i64>| {
            for i in batch.pending_indexes() {
                let op = batch[i];
                let allowed = transaction.query("SELECT op FROM allowed WHERE op = $1", &[&op]).await?;
                if allowed.is_empty() {
                    batch.refuse(i, SinkError::refused("not allowed"));
                } else {
                    transaction.execute("INSERT INTO landed VALUES ($1)", &[&op]).await?;
                }
            }
            Ok(batch.accept_all())
        };
        self.0.postgres(batch, work).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

async fn strict(place: &Place) -> Joined<i64> {
    Durable::new("orders", place.file()).sink(Strict).join().await.unwrap()
}

/// Goal: a letter has its op, comes back once, and is gone then, also if a crash came between the two stores. Method: the row of a
/// letter is put back as it was before each step.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_letter_comes_back_once() {
    let place = Place::new().await;
    place.execute("CREATE TABLE allowed (op bigint)").await;
    let orders = strict(&place).await;
    let ack = orders.handle().submit(7).await.unwrap();
    let id = ack.id();
    assert!(matches!(ack.await, Err(AckError::Refused(_))));
    orders.leave().await.unwrap();

    let orders = strict(&place).await;
    let letters = orders.dead_letters().list(9).await.unwrap();
    assert_eq!(letters.iter().map(|(id, letter)| (*id, letter.op)).collect::<Vec<_>>(), [(id, 7)]);
    place.execute("INSERT INTO allowed VALUES (7); CREATE TABLE kept AS SELECT * FROM roundlot_letters").await;
    let new = orders.dead_letters().requeue(id).await.unwrap().unwrap();
    orders.handle().flush().await.unwrap();
    let OpStatus::Ended(outcome) = orders.handle().outcome(new).await.unwrap() else { panic!("it has ended") };
    assert_eq!((outcome.end, orders.dead_letters().requeue(id).await.unwrap()), (End::Delivered, None));
    assert_eq!(place.landed().await, [7]);
    orders.leave().await.unwrap();

    // Dead before the letter was removed: the op is in the log, and has ended.
    let (producer, number) = (new.producer(), new.number());
    place
        .execute(&format!(
            "INSERT INTO roundlot_letters SELECT * FROM kept; \
             UPDATE roundlot_letters SET to_producer = {producer}, to_number = {number}"
        ))
        .await;
    let orders = strict(&place).await;
    orders.handle().flush().await.unwrap();
    assert_eq!((orders.stats().repeats, orders.dead_letters().list(9).await.unwrap().len()), (1, 0));
    assert_eq!(place.landed().await, [7]);
    orders.leave().await.unwrap();

    // Dead before the op was appended.
    place
        .execute(&format!(
            "INSERT INTO roundlot_letters SELECT * FROM kept; \
             UPDATE roundlot_letters SET to_producer = {producer}, to_number = {number} + 1"
        ))
        .await;
    let orders = strict(&place).await;
    orders.handle().flush().await.unwrap();
    assert_eq!((orders.stats().repeats, orders.dead_letters().list(9).await.unwrap().len()), (0, 0));
    assert_eq!(place.landed().await, [7, 7], "under another id it is another op");

    assert!(!orders.dead_letters().discard(id).await.unwrap());
    orders.leave().await.unwrap();
}

/// Goal: a sink without a transaction has its intents in the ledger. Method: a write that hangs when its process leaves, and a sink
/// that does not know what became of it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn an_intent_survives_in_the_ledger() {
    let place = Place::new().await;
    let gate = roundlot::testing::Gate::new(roundlot::testing::Recorder::new());
    gate.shut();
    let sink = gate.clone();
    let orders = Durable::new("orders", place.file()).sink(move |_| sink.clone()).join().await.unwrap();
    let id = orders.handle().submit(7_i64).await.unwrap().id();
    place.until("SELECT 1 FROM roundlot_intents").await;
    let stats = orders.leave().within(Duration::ZERO).await.unwrap();
    assert_eq!(stats.outcomes.total(), 0);
    gate.open();
    let orders = Durable::new("orders", place.file()).sink(move |_| gate.clone()).join().await.unwrap();
    orders.handle().flush().await.unwrap();
    let OpStatus::Ended(outcome) = orders.handle().outcome(id).await.unwrap() else { panic!("it has ended") };
    assert_eq!((outcome.end, orders.stats().recovered_in_doubt), (End::InDoubt, 1));
    assert_eq!(orders.dead_letters().list(9).await.unwrap()[0].1.op, 7);
    assert!(orders.dead_letters().discard(id).await.unwrap());
    orders.handle().submit(8).await.unwrap().await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(place.numbers("SELECT count(*) FROM roundlot_intents").await, [0]);
}

/// Goal: an id whose outcome is purged is forgotten, and never new. Method: a horizon of nothing.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_purged_id_is_forgotten() {
    let place = Place::new().await;
    place.execute("CREATE TABLE allowed AS SELECT 7::bigint AS op").await;
    let orders = strict(&place).await;
    let ack = orders.handle().submit(7).await.unwrap();
    let id = ack.id();
    ack.await.unwrap();
    orders.leave().await.unwrap();
    let orders = Durable::new("orders", place.file()).horizon(Duration::ZERO).sink(Strict).join().await.unwrap();
    place.until("SELECT 1 FROM roundlot_outcomes HAVING count(*) = 0").await;
    assert!(matches!(orders.handle().outcome(id).await.unwrap(), OpStatus::Forgotten));
    assert!(matches!(orders.handle().send_as(id, 7).await, Err(SendError::Forgotten { .. })));
    orders.handle().flush().await.unwrap();
    assert_eq!(place.landed().await, [7]);
    orders.leave().await.unwrap();
}

/// Goal: dead letters have a share of the file's cap in the ledger, too, and what they hold up goes on when some are discarded.
/// Method: more than the share, refused by a sink that is transactional and one that is not.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn dead_letters_have_a_share_of_the_cap() {
    struct Refuses(Option<Term>);

    impl Sink<String> for Refuses {
        async fn write(&self, batch: &mut Batch<String>) -> Result<Settled, SinkError> {
            let refuse = |batch: &mut Batch<String>| batch.settle_each(|_| Err(SinkError::refused("no")));
            match &self.0 {
                Some(term) => {
                    let work = async |_: &mut Transaction<'_>, batch: &mut Batch<String>| Ok(refuse(batch));
                    term.postgres(batch, work).await
                }
                None => Ok(refuse(batch)),
            }
        }

        fn guarantee(&self) -> Guarantee {
            self.0.as_ref().map(|_| Guarantee::Transactional).unwrap_or_default()
        }
    }

    for is_transactional in [false, true] {
        let place = Place::new().await;
        let sink = move |term| Refuses(Some(term).filter(|_| is_transactional));
        let file = place.file().max_bytes(1);
        let orders = Durable::new("orders", file).limits(Limits::new(1)).sink(sink).join().await.unwrap();
        let desk = orders.handle();
        desk.send_all((0..20).map(|_| "x".repeat(100_000))).await.unwrap();
        // A share of 1 MiB holds ten of them, and the eleventh goes over it.
        let letters = orders.dead_letters();
        place.until("SELECT count(*) FROM roundlot_letters HAVING count(*) = 11").await;
        assert!(tokio::time::timeout(Duration::from_millis(300), desk.flush()).await.is_err());
        let first: Vec<_> = letters.list(20).await.unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(first.len(), 11);
        for id in first {
            assert!(letters.discard(id).await.unwrap());
        }
        desk.flush().await.unwrap();
        assert_eq!(desk.stats().outcomes[End::Refused], 20);
        assert_eq!(letters.list(20).await.unwrap().len(), 9);
        orders.leave().await.unwrap();
    }
}
