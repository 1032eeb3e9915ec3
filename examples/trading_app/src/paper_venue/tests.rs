//! Tests of the venue as a program with its client, over HTTP.

use std::{net::SocketAddr, path::Path, time::Duration};

use roundlot::{
    Batch, ErrorKind, Sink,
    market::{Order, PriceUpdate, Side, Symbol, TradeOp},
    sink::Guarantee,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::bot::{
    settings::{self, VenueLimits},
    venue::{RemoteVenue, VenueOrderId},
};

const BTC: Symbol = Symbol::from_static("BTC");

fn order(id: u64, side: Side, price: &str) -> Order {
    Order::limit(id.into(), BTC, side, price.parse().unwrap(), "1".parse().unwrap()).unwrap()
}

fn price(price: &str) -> PriceUpdate {
    PriceUpdate::new(BTC, price.parse().unwrap(), 0)
}

/// Serves a venue with calls that take no time.
async fn serve(journal: Option<&Path>, change: impl FnOnce(&mut settings::Venue)) -> SocketAddr {
    let mut settings = settings::Venue { latency: Duration::ZERO, ..settings::Venue::reliable_for_test() };
    change(&mut settings);
    let (mut state, checks_client_ids) = (State::default(), settings.checks_client_ids);
    state.ledger = Some(Ledger::open(journal, checks_client_ids, &mut state.book).unwrap());
    let health = Health { program: PROGRAM.to_owned(), journal: None, checks_client_ids };
    let server = Server::new(PaperVenue::with(settings, 1, state), health, CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, server.router()).into_future());
    address
}

async fn client(address: SocketAddr) -> RemoteVenue {
    RemoteVenue::find(&format!("http://{address}")).await.unwrap()
}

/// Writes ops in one call, and returns the verdict of each, or the error of the call.
async fn write(venue: &RemoteVenue, ops: &[TradeOp]) -> Vec<Result<u64, String>> {
    let mut batch = Batch::for_test(ops.to_vec());
    let written = venue.write(&mut batch).await;
    let verdict = |i| match (batch.verdict(i), &written) {
        (Some(Ok(VenueOrderId(id))), _) => Ok(*id),
        (Some(Err(error)), _) | (None, Err(error)) => Err(error.chain()),
        (None, Ok(_)) => unreachable!("a settled op has a verdict"),
    };
    (0..ops.len()).map(verdict).collect()
}

/// Asks what became of ops. `None` for an op that has not landed.
async fn reconcile(venue: &RemoteVenue, ops: &[TradeOp]) -> Vec<Option<Result<u64, String>>> {
    let mut batch = Batch::for_test(ops.to_vec());
    venue.reconcile(&mut batch).await.unwrap();
    let verdict = |i| match batch.verdict(i)? {
        Ok(VenueOrderId(id)) => Some(Ok(*id)),
        Err(error) if error.kind() == ErrorKind::Transient => None,
        Err(error) => Some(Err(error.chain())),
    };
    (0..ops.len()).map(verdict).collect()
}

/// Goal: an order that comes again gets its first answer, whatever has become of it, over a restart of the venue, too. Method: an order
/// that fills, one that is canceled, one that is refused, and their repetitions at a second venue with the same journal.
#[tokio::test]
async fn a_repeated_order_gets_its_first_answer() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("it.journal");
    let copy = folder.path().join("copy.journal");
    let venue = client(serve(Some(&journal), |_| {}).await).await;
    assert_eq!(venue.guarantee(), Guarantee::Idempotent);
    let ops: [TradeOp; 4] = [
        order(1, Side::Buy, "100").into(),
        order(2, Side::Buy, "10").into(),
        order(2, Side::Buy, "10").cancel().into(),
        order(3, Side::Buy, "11").into(),
    ];
    let first = write(&venue, &ops).await;
    assert_eq!(first, [Ok(1), Ok(2), Ok(2), Ok(3)]);
    let fills = venue.on_prices(&[price("99")]).await.unwrap();
    assert_eq!(fills.last, 1);
    assert_eq!(fills.fills.iter().map(|fill| fill.order_id).collect::<Vec<_>>(), [1.into()]);
    assert_eq!(write(&venue, &ops).await, first);
    let statement = venue.statement().await.unwrap();
    assert_eq!((statement.fills, statement.cash), (1, (-100).into()));
    assert_eq!(statement.resting, [order(3, Side::Buy, "11")]);

    // The journal itself is locked.
    std::fs::copy(&journal, &copy).unwrap();
    let again = client(serve(Some(&copy), |_| {}).await).await;
    assert_eq!(again.begin().await.unwrap(), statement);
    assert_eq!(write(&again, &ops).await, first);
    assert_eq!(write(&again, &[order(4, Side::Buy, "12").into()]).await, [Ok(4)], "ids of the venue go on");
    assert!(
        again.on_prices(&[price("50")]).await.unwrap().fills.is_empty(),
        "the fill of the account is not told again"
    );
    assert_eq!(again.statement().await.unwrap().positions, statement.positions);
}

/// Goal: a venue that does not check client ids is asked, and its answers are exact. Method: one op of each kind that has landed, and one
/// that has not.
#[tokio::test]
async fn a_venue_that_executes_again_is_asked() {
    let address = serve(None, |settings| (settings.checks_client_ids, settings.reject_percent) = (false, 100)).await;
    let venue = client(address).await;
    assert_eq!(venue.guarantee(), Guarantee::Unknown);
    let stop = |id: u64| Order::stop(id.into(), BTC, Side::Sell, "50".parse().unwrap(), "1".parse().unwrap()).unwrap();
    let moved = |id: u64, to: &str| TradeOp::from(stop(id).move_stop(to.parse().unwrap()).unwrap());
    let landed: [TradeOp; 5] =
        [stop(1).into(), moved(1, "60"), stop(2).into(), stop(2).cancel().into(), order(3, Side::Buy, "10").into()];
    let results = write(&venue, &landed).await;
    assert_eq!(results[..4], [Ok(1), Ok(1), Ok(2), Ok(2)]);
    assert!(results[4].is_err());

    let asked = client(address).await;
    let known: Vec<_> = results.into_iter().map(Some).collect();
    assert_eq!(reconcile(&asked, &landed).await, known);
    let lost: [TradeOp; 4] = [stop(4).into(), moved(1, "61"), stop(1).cancel().into(), stop(4).cancel().into()];
    assert_eq!(reconcile(&asked, &lost).await, [const { None }; 4]);
    // Such a venue takes a client id again once the first order has ended.
    assert_eq!(write(&asked, &[stop(2).into()]).await, [Ok(3)]);
}

/// Goal: calls of an earlier session do not land any more. Method: a second client opens a session; then a venue that has begun anew.
#[tokio::test]
async fn a_new_session_ends_the_earlier_one() {
    let address = serve(None, |_| {}).await;
    let (old, new) = (client(address).await, client(address).await);
    assert_eq!(write(&old, &[order(1, Side::Buy, "10").into()]).await, [Ok(1)]);
    assert_eq!(write(&new, &[order(2, Side::Buy, "10").into()]).await, [Ok(2)]);
    let said = write(&old, &[order(3, Side::Buy, "10").into()]).await;
    assert!(said[0].as_ref().unwrap_err().contains("a newer session"), "{said:?}");
    assert_eq!(new.statement().await.unwrap().resting.len(), 2);

    // Another lane has a session of its own, and a client that opens the lane again ends that one alone.
    let (lane, again) = (old.of_lane(7, 9), old.of_lane(7, 9));
    assert_eq!(write(&lane, &[order(3, Side::Buy, "10").into()]).await, [Ok(3)]);
    assert_eq!(write(&new, &[order(4, Side::Buy, "10").into()]).await, [Ok(4)]);
    again.open().await.unwrap();
    let said = write(&lane, &[order(5, Side::Buy, "10").into()]).await;
    assert!(said[0].as_ref().unwrap_err().contains("a newer session"), "{said:?}");
    let resting = new.statement().await.unwrap().resting;
    assert_eq!(again.cancel(&resting[..1]).await.unwrap().len(), 1);
    assert_eq!(write(&new, &[order(6, Side::Buy, "10").into()]).await, [Ok(5)]);
    assert_eq!(new.statement().await.unwrap().resting.len(), 4);

    let unknown =
        ask(serve(None, |_| {}).await, "Content-Type: application/json", r#"{"lane":0,"session":7,"ops":[]}"#).await;
    assert!(unknown.starts_with("HTTP/1.1 401"), "{unknown}");
}

/// Goal: a page of another site can't give orders. Method: a question as such a page may send it without being asked.
#[tokio::test]
async fn a_question_is_json_by_its_header() {
    let address = serve(None, |_| {}).await;
    let answer = ask(address, "Content-Type: text/plain", r#"{"lane":0,"session":0,"ops":[]}"#).await;
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
}

/// Sends a batch of orders as it is.
async fn ask(address: SocketAddr, header: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("POST /orders HTTP/1.1\r\nHost: {address}\r\n{header}\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Goal: a call that is refused as a whole says what it means for the ops. Method: a venue with a limit of one order, and one that is not
/// available.
#[tokio::test]
async fn a_refused_call_has_its_kind() {
    let kind = async |venue: &RemoteVenue, id| {
        let mut batch = Batch::for_test(vec![TradeOp::from(order(id, Side::Buy, "10"))]);
        let error = venue.write(&mut batch).await.err();
        (error.map(|error| error.kind()), format!("{:?}", batch.quota()))
    };
    let limits = VenueLimits {
        orders_per_10s: 1,
        calls_per_minute: 100,
        weight_per_minute: 100,
        ignored_before_ban: 3,
        ban: Duration::from_secs(120),
    };
    let venue = client(serve(None, |settings| settings.limits = Some(limits)).await).await;
    assert_eq!(kind(&venue, 1).await.0, None);
    let (error, used) = kind(&venue, 2).await;
    let Some(ErrorKind::Throttled { retry_after }) = error else { panic!("{error:?}") };
    assert!(retry_after > Duration::from_secs(5) && retry_after <= Duration::from_secs(10), "{retry_after:?}");
    assert!(used.contains(r#"bucket: "orders_10s", used: Some(1)"#), "{used}");
    assert_eq!(venue.counts().await.unwrap().too_many, 1);

    let venue = client(serve(None, |settings| settings.unavailable_percent = 100).await).await;
    assert_eq!(kind(&venue, 1).await.0, Some(ErrorKind::Transient));
    assert_eq!(venue.counts().await, None, "it has no limits");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(RemoteVenue::find(&format!("http://{free}")).await.is_err());
}
