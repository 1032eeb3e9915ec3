//! A destination with pages gets whole ones, where more than one waits.

use std::sync::{Arc, Mutex};

use roundlot::{Batch, Batcher, Limits, Settled, Sink, SinkError};

/// A sink with pages of ten ops, which notes the sizes of batches.
#[derive(Clone, Default)]
struct Paged(Arc<Mutex<Vec<usize>>>);

impl Sink<u32> for Paged {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        self.0.lock().unwrap().push(batch.len());
        Ok(batch.accept_all())
    }

    fn page(&self) -> Option<usize> {
        Some(10)
    }
}

/// Goal: no call pays for a page that is nearly empty while a full one could go. Method: 37 ops, then 7; the sink is
/// wrapped, too.
#[tokio::test(start_paused = true)]
async fn more_than_a_page_is_cut_down_to_whole_pages() {
    let sizes = Paged::default();
    let sink = sizes.clone().timeout(std::time::Duration::from_secs(1)).boxed();
    let (desk, worker) = Batcher::new(sink).limits(Limits::new(25)).spawn();
    desk.send_all(0..37).await.unwrap();
    desk.flush().await.unwrap();
    desk.send_all(0..7).await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!(*sizes.0.lock().unwrap(), [20, 10, 7, 7]);
}
