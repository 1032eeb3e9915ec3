//! Columns of type `uuid`: 16 bytes and canonical text go in exactly, anything else is refused alone.

use roundlot::sink::table::{ColumnType, Conflict, Table, Value};

use crate::{db, refused, write};

const IDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000000",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

type Fill = (Option<&'static str>, i64);

fn by_text() -> Table<Fill> {
    Table::new("fills")
        .column("order_id", ColumnType::Text, |fill: &Fill| fill.0.into())
        .integer("price", |fill| fill.1)
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn text_and_bytes_are_exact_and_other_text_is_refused_alone() {
    let db = db().await;
    db.execute("CREATE DOMAIN order_id AS uuid; CREATE TABLE t (a uuid, b uuid, c order_id)").await;
    type Op = (&'static str, Vec<u8>);
    let table = || {
        Table::new("t")
            .text("a", |op: &Op| op.0)
            .bytes("b", |op| &op.1)
            .column("c", ColumnType::Text, |op| if op.0 == IDS[0] { Value::Null } else { op.0.into() })
    };
    let bytes =
        |text: &str| (0..16).map(|i| u8::from_str_radix(&text.replace('-', "")[i * 2..][..2], 16).unwrap()).collect();
    let mut ops: Vec<Op> = IDS.map(|id| (id, bytes(id))).to_vec();
    ops.extend([
        ("order 7", bytes(IDS[1])),
        ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", bytes(IDS[1])),
        ("", bytes(IDS[1])),
        (IDS[1], vec![1; 15]),
        (IDS[1], vec![]),
        ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", bytes(IDS[1])),
    ]);
    for from in [usize::MAX, 1] {
        db.execute("TRUNCATE t").await;
        let sink = db.settings().copy_from(from).stage_from(from).open(table()).await.unwrap();
        let failed = write(&sink, ops.clone()).await;
        assert_eq!(refused(&failed), [3, 4, 5, 6, 7]);
        assert!(failed[0].story.contains(r#"column "a" is no UUID in the form"#), "{failed:?}");
        assert!(failed[3].story.contains(r#"column "b" is no UUID, which has 16 bytes"#), "{failed:?}");
        let expected =
            [IDS[0], IDS[1], IDS[2], IDS[1]].map(|id| format!("{id}|{id}|{}", if id == IDS[0] { "NULL" } else { id }));
        assert_eq!(db.query("SELECT * FROM t").await, expected);
    }
}

/// Goal: a uuid may be what tells rows apart. Method: each rule, by each way, with repeats in the batch and in the table.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_uuid_may_be_the_key() {
    let db = db().await;
    db.execute("CREATE TABLE fills (order_id uuid PRIMARY KEY, price numeric)").await;
    type Rule = (fn() -> Table<Fill>, &'static [usize], [&'static str; 2]);
    let rules: [Rule; 4] = [
        (|| by_text().key(["order_id"]), &[1, 2, 3, 4], ["0", "3"]),
        (|| by_text().key(["order_id"]).on_conflict(Conflict::Ignore), &[3, 4], ["0", "3"]),
        (|| by_text().key(["order_id"]).on_conflict(Conflict::Update), &[3, 4], ["1", "4"]),
        (|| by_text().once_by("order_id"), &[3, 4], ["0", "3"]),
    ];
    for (table, failed, prices) in rules {
        for from in [usize::MAX, 1] {
            db.execute("TRUNCATE fills").await;
            let sink = db.settings().copy_from(from).stage_from(from).open(table()).await.unwrap();
            assert!(write(&sink, vec![(Some(IDS[1]), 0)]).await.is_empty());
            let ops = vec![(Some(IDS[2]), 3), (Some(IDS[1]), 1), (Some(IDS[2]), 4), (None, 5), (Some("none"), 6)];
            assert_eq!(refused(&write(&sink, ops).await), failed);
            assert_eq!(db.query("SELECT price FROM fills ORDER BY order_id").await, prices);
        }
    }
}
