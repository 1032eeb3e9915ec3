//! Sinks of these tests.

use roundlot::{Batch, Settled, Sink, SinkError, sink::Guarantee};

/// A sink that says that it is idempotent.
#[derive(Clone)]
pub(crate) struct Keyed<S>(pub(crate) S);

impl<T: Send, R: Send, S: Sink<T, R>> Sink<T, R> for Keyed<S> {
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        self.0.write(batch).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }
}
