//! Tables in the database of a ledger.

use roundlot::sink::{postgres::LedgerTable, table::Table};

use super::*;

fn prices() -> Table<(i64, i64)> {
    Table::new("prices").integer("id", |op: &(i64, i64)| op.0).integer("price", |op| op.1)
}

async fn join(place: &Place, table: Table<(i64, i64)>) -> Joined<(i64, i64)> {
    let table = LedgerTable::new(table).unwrap();
    Durable::new("prices", place.file())
        .limits(Limits::new(100))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)).max_attempts(3))
        .sink(move |term| table.sink(term))
        .join()
        .await
        .unwrap()
}

/// Goal: a row that can't be inserted costs no other its place, and each op that ended has its record with the row. Method: a
/// constraint, a deferred foreign key, a trigger and a rule, each broken by one row among many.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_row_that_is_refused_is_refused_alone() {
    let tables = [
        "CREATE TABLE prices (id bigint PRIMARY KEY, price bigint CHECK (price < 100))",
        "CREATE TABLE prices (id bigint PRIMARY KEY, price bigint CHECK (price < 100)); \
         CREATE RULE nothing AS ON INSERT TO prices WHERE NEW.id > 1000 DO INSTEAD NOTHING",
        "CREATE TABLE known AS SELECT generate_series(0, 99)::bigint AS price; ALTER TABLE known ADD PRIMARY KEY (price); \
         CREATE TABLE prices (id bigint, price bigint REFERENCES known (price) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE prices (id bigint, price bigint); CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS \
            $$ BEGIN IF NEW.price = 100 THEN RAISE 'no hundreds'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER no BEFORE INSERT ON prices FOR EACH ROW EXECUTE FUNCTION no()",
    ];
    for sql in tables {
        let place = Place::new().await;
        place.execute(sql).await;
        let orders = join(&place, prices()).await;
        let desk = orders.handle();
        desk.pause().await.unwrap();
        let mut acks = Vec::new();
        for id in 0..20 {
            acks.push(desk.submit((id, if id == 13 { 100 } else { id })).await.unwrap());
        }
        desk.resume().await.unwrap();
        for (id, ack) in (0..).zip(acks) {
            let expected = if id == 13 { End::Refused } else { End::Delivered };
            assert_eq!(ack.outcome().await.end, expected, "{id} {sql}");
        }
        let letters = orders.dead_letters().list(9).await.unwrap();
        assert_eq!(letters.iter().map(|(_, letter)| letter.op.0).collect::<Vec<_>>(), [13], "{sql}");
        orders.leave().await.unwrap();
        let rows: Vec<i64> = (0..20).filter(|id| *id != 13).collect();
        assert_eq!(place.numbers("SELECT id FROM prices ORDER BY id").await, rows, "{sql}");
    }
}

/// Goal: a table that does not suit the mapping loses no op, and one that is replaced is looked at again. Method: none at first, then
/// one with a wrong type, a right one, and another one.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn ops_wait_for_a_table_that_suits() {
    let place = Place::new().await;
    let orders = join(&place, prices()).await;
    let ack = orders.handle().submit((1, 5)).await.unwrap();
    place.execute("CREATE TABLE prices (id bigint, price text)").await;
    place.execute("DROP TABLE prices; CREATE TABLE prices (id bigint, price bigint)").await;
    ack.await.unwrap();
    place.execute("ALTER TABLE prices RENAME TO older").await;
    let ack = orders.handle().submit((2, 6)).await.unwrap();
    place.execute("CREATE TABLE prices (id int, price numeric)").await;
    ack.await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(place.numbers("SELECT price FROM older UNION ALL SELECT price FROM prices").await, [5, 6]);
}

/// Goal: a table is made if it is missing, and the conflict rules hold. Method: an upsert of repeated keys.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_table_is_made_and_rows_are_updated() {
    let place = Place::new().await;
    let table = prices().key(["id"]).on_conflict(roundlot::sink::table::Conflict::Update).create_if_missing();
    let orders = join(&place, table).await;
    for price in 0..250 {
        orders.handle().send((price % 3, price)).await.unwrap();
    }
    orders.handle().flush().await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(place.numbers("SELECT price FROM prices ORDER BY id").await, [249, 247, 248]);
}
