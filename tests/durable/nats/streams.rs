//! Messages in the streams of a log, and the fate of the log when others have their hands in it.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use async_nats::jetstream::{self, stream::Stream};
use roundlot::{
    Batch, Limits, Retry, Settled, Sink, SinkError, Stages,
    durable::{Durable, JoinError},
};

use super::{node::*, *};

/// The stream of the first shard.
async fn stream(place: &Place) -> Stream {
    let client = async_nats::connect(place.server.url()).await.unwrap();
    jetstream::new(client).get_stream("roundlot-frames-0-orders").await.unwrap()
}

async fn publish(place: &Place, payload: Vec<u8>) {
    let context = jetstream::new(async_nats::connect(place.server.url()).await.unwrap());
    context.publish("roundlot.orders.frames.0", payload.into()).await.unwrap().await.unwrap();
}

async fn refusal(place: &Place) -> JoinError {
    match try_join(place.engine(), 1, None).await {
        Ok(_) => panic!("it was joined"),
        Err(error) => error,
    }
}

/// Waits until a stream has at most so many messages.
pub(super) async fn shrinks(stream: &Stream, messages: u64) {
    for _ in 0..2000 {
        if stream.get_info().await.unwrap().state.messages <= messages {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the stream keeps its messages");
}

/// Goal: messages of settled ops are removed, and a process that joins later reads none of them. Method: ops that are sent one by one,
/// and a restart.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn settled_messages_are_removed() {
    let place = Place::new().await;
    for round in 0..2 {
        let orders = join(&place, 1).await;
        for op in round * 50..round * 50 + 50 {
            orders.handle().submit(op).await.unwrap().await.unwrap();
        }
        // The message of the checkpoint stays.
        shrinks(&stream(&place).await, 1).await;
        orders.leave().await.unwrap();
    }
    assert_eq!(place.landed().await, (0..100).collect::<Vec<_>>());
    assert_eq!(place.number("SELECT next FROM roundlot_tails").await, 100);
}

/// Whether the destination of odd ops is away.
static IS_AWAY: AtomicBool = AtomicBool::new(true);

struct HalfAway;

impl Sink<i64> for HalfAway {
    async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
        let is_odd = batch.ops().first().is_some_and(|op| op % 2 == 1);
        match is_odd && IS_AWAY.load(SeqCst) {
            true => Err(SinkError::transient("away")),
            false => Ok(batch.accept_all()),
        }
    }
}

/// Goal: messages go in the end whose removal has failed, also if nothing is settled afterwards: a full stream waits for that. Method: a server
/// that refuses to remove any, until it begins with other settings.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_removal_that_fails_is_tried_again() {
    let settings = |denied: &str| {
        format!(
            "jetstream {{ store_dir: \"STORE\", sync_interval: always }}\nauthorization {{ users: [{{ user: bob, password: secret, \
             permissions: {{ publish: {{ allow: \">\", deny: \"{denied}\" }} }} }}] }}"
        )
    };
    let mut server = Server::with(&settings("$JS.API.STREAM.PURGE.>")).await;
    let place = Place::new().await;
    let at = server.url().replace("nats://", "nats://bob:secret@");
    let orders = try_join(Nats::at(at).servers_sync().ledger(&place.url), 1, None).await.unwrap();
    for op in 0..10 {
        orders.handle().submit(op).await.unwrap().await.unwrap();
    }
    place.until("SELECT sequence FROM roundlot_checkpoints WHERE sequence = 10").await;
    server.restart_with(&settings("nothing")).await;
    let options = async_nats::ConnectOptions::with_user_and_password("bob".into(), "secret".into());
    let client = async_nats::connect_with_options(server.url(), options).await.unwrap();
    let stream = jetstream::new(client).get_stream("roundlot-frames-0-orders").await.unwrap();
    shrinks(&stream, 1).await;
    orders.leave().await.unwrap();
}

/// Goal: an op that waits for long keeps no stream from being cut, and is not lost. Method: a partition whose sink is away, while
/// another one sends more frames than may stand behind it; then a restart, and the sink comes back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn an_op_that_waits_is_kept() {
    let place = Place::new().await;
    let join = async || {
        let durable =
            Durable::<i64, _>::new("orders", place.engine()).stages(|| Stages::new().partition_by(|op: &i64| op % 2));
        let durable = durable
            .limits(Limits::new(100))
            .retry(Retry::exponential(Duration::from_millis(20), Duration::from_millis(50)).max_attempts(u32::MAX));
        durable.sink(|_| HalfAway).join().await.unwrap()
    };
    let orders = join().await;
    let waits = orders.handle().submit(1).await.unwrap();
    let id = waits.id();
    for op in 1..700 {
        orders.handle().submit(op * 2).await.unwrap().await.unwrap();
    }
    let stream = stream(&place).await;
    shrinks(&stream, 520).await;
    assert_eq!(place.until("SELECT count(*) FROM roundlot_frames HAVING count(*) > 0").await, 1);
    drop(waits);
    orders.leave().await.unwrap();
    let orders = join().await;
    IS_AWAY.store(false, SeqCst);
    orders.handle().flush().await.unwrap();
    let outcome = orders.handle().outcome(id).await.unwrap();
    assert!(matches!(&outcome, roundlot::durable::OpStatus::Ended(ended) if ended.result.is_ok()), "{outcome:?}");
    place.until("SELECT 1 FROM roundlot_frames HAVING count(*) = 0").await;
    orders.leave().await.unwrap();
}

/// Goal: a frame that comes again, whenever that is, takes effect once. Method: each message of the stream is published once more, while
/// its ops wait, and when they are settled and the process has left.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_frame_that_comes_again_counts_once() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    orders.handle().pause().await.unwrap();
    let mut acks = Vec::new();
    for op in 0..5 {
        acks.push(orders.handle().submit(op).await.unwrap());
    }
    let stream_of_frames = stream(&place).await;
    let mut messages = Vec::new();
    for sequence in 1..=5 {
        messages.push(stream_of_frames.get_raw_message(sequence).await.unwrap().payload.to_vec());
    }
    for message in &messages {
        publish(&place, message.clone()).await;
    }
    orders.handle().resume().await.unwrap();
    for ack in acks {
        ack.await.unwrap();
    }
    orders.leave().await.unwrap();
    for message in &messages {
        publish(&place, message.clone()).await;
    }
    let orders = join(&place, 1).await;
    orders.handle().submit(5).await.unwrap().await.unwrap();
    conserved(&orders.leave().await.unwrap());
    assert_eq!(place.landed().await, (0..6).collect::<Vec<_>>());
}

/// Goal: all processes agree which frames count, whichever of them has made the checkpoint. Method: a process sends and leaves at once, another
/// one makes a checkpoint, and a frame of the first comes again, before a third one joins.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_checkpoint_knows_the_frames_of_all_processes() {
    let place = Place::new().await;
    let first = join(&place, 1).await;
    first.handle().pause().await.unwrap();
    let mut acks = Vec::new();
    for op in 0..5 {
        acks.push(first.handle().submit(op).await.unwrap());
    }
    let last = stream(&place).await.get_raw_message(5).await.unwrap().payload.to_vec();
    first.handle().resume().await.unwrap();
    for ack in acks {
        ack.await.unwrap();
    }
    first.leave().await.unwrap();
    let second = join(&place, 1).await;
    second.handle().submit(5).await.unwrap().await.unwrap();
    shrinks(&stream(&place).await, 1).await;
    publish(&place, last).await;
    second.handle().submit(6).await.unwrap().await.unwrap();
    second.leave().await.unwrap();
    let third = join(&place, 1).await;
    third.handle().submit(7).await.unwrap().await.unwrap();
    third.leave().await.unwrap();
    assert_eq!(place.landed().await, (0..8).collect::<Vec<_>>());
}

/// Goal: a message that is not roundlot's holds the shard, and says so. Method: one of a stranger.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_message_of_a_stranger_is_noticed() {
    let place = Place::new().await;
    join(&place, 1).await.leave().await.unwrap();
    publish(&place, b"hello".to_vec()).await;
    let error = refusal(&place).await;
    assert!(matches!(error, JoinError::Unsafe(_)) && error.to_string().contains("is not roundlot's"), "{error}");
}

/// Goal: ops that are missing are never passed over. Method: a stream that was emptied by hand, one that was made anew, and one whose
/// ledger is older.
#[tokio::test]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn messages_that_are_missing_are_noticed() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    for op in 0..20 {
        orders.handle().submit(op).await.unwrap().await.unwrap();
    }
    orders.handle().pause().await.unwrap();
    orders.handle().send(20).await.unwrap();
    shrinks(&stream(&place).await, 2).await;
    orders.leave().await.unwrap();
    stream(&place).await.purge().await.unwrap();
    let error = refusal(&place).await;
    assert!(matches!(error, JoinError::Unsafe(_)) && error.to_string().contains("the stream lacks message"), "{error}");
    let client = async_nats::connect(place.server.url()).await.unwrap();
    jetstream::new(client).delete_stream("roundlot-frames-0-orders").await.unwrap();
    let error = refusal(&place).await;
    assert!(matches!(error, JoinError::Unsafe(_)), "{error}");
}
