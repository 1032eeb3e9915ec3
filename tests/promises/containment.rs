//! Proves promise 9: no panic and no hang of the user's code reaches further than the ops it touched.

use roundlot::{
    Batch, Batcher, End, Limits, SinkError, sink_fn,
    testing::{Flaky, Recorder, until_idle},
};

use crate::ms;

/// Panics when a write that was given up on is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped in the middle of a write");
    }
}

/// Goal: a sink whose future panics when it is dropped takes nobody with it. Method: its first write exceeds the write
/// timeout; the next op must be written.
#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_when_its_late_write_is_dropped_kills_nobody() {
    // Guards: only polls are guarded. The panic of the drop unwinds through the batcher's task, which is gone.
    let sink = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            if batch[0] == 1 {
                let _bomb = Bomb;
                std::future::pending::<()>().await;
            }
            Ok(batch.accept_all())
        })
    });
    let (desk, _worker) = Batcher::new(sink).limits(Limits::new(1).write_timeout(ms(10))).spawn();
    let first = desk.submit(1).await.unwrap().outcome().await;
    assert_eq!(first.end, End::InDoubt);
    let second = desk.submit(2).await.expect("the batcher lives").outcome().await;
    assert_eq!(second.end, End::Delivered);
}

/// Goal: a dead letter that its own sink does not take is not lost in silence: it is in the summary, or counted.
/// Method: a sink for letters that refuses, and one that panics.
#[tokio::test(start_paused = true)]
async fn letters_that_their_sink_refuses_are_accounted_for() {
    // Guards: the letters' batcher has no letters of its own, so what its sink refuses is dropped: neither in
    // `Summary::letters` ("dead letters that their own sink did not take") nor in `letters_lost` ("no room or no taker").
    for panics in [false, true] {
        let post = Flaky::new(Recorder::new());
        let post = if panics { post.panic() } else { post.fail(SinkError::refused("no such table")) };
        let main = Flaky::new(Recorder::<u32>::new()).fail(SinkError::refused("no"));
        let post = post.fail_ops(|_: &u32| None);
        let letters = roundlot::Sink::map(post, |letter: &roundlot::DeadLetter<u32>| letter.op);
        let (desk, worker) = Batcher::new(main).dead_letters(letters).spawn();
        desk.send(7).await.unwrap();
        until_idle().await;
        let lost = desk.stats().letters_lost;
        let summary = worker.shutdown().await.unwrap();
        let told = summary.letters.len() as u64 + lost.max(summary.stats.letters_lost);
        assert_eq!((summary.stats.refused, told), (1, 1), "panics: {panics}");
    }
}

/// Goal: a sink cannot claim success for ops without a verdict. Method: it returns the proof that another batch gave.
#[tokio::test(start_paused = true)]
async fn a_borrowed_proof_delivers_nothing() {
    let sink = sink_fn(|_: &mut Batch<u32>| Box::pin(async move { Ok(Batch::<u32>::for_test(vec![1]).accept_all()) }));
    let (desk, _worker) = Batcher::new(sink).limits(1).spawn();
    assert_eq!(desk.submit(1).await.unwrap().outcome().await.end, End::InDoubt);
    assert_eq!(desk.stats().delivered, 0);
}
