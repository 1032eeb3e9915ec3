//! [`withdraw_key`]: takes ops back out by their key, in each shard. A command does so where this process leads the shard. Where
//! another one does, a request in the log does, which whichever process leads executes in the order of the log.
//!
//! | file | holds |
//! |---|---|
//! | `requests` | the requests of this process that are not answered |
//! | `withdrawn` | the answer to one: the ops, as bytes |

mod requests;
mod withdrawn;

use std::{any::Any, hash::Hash, sync::Arc};

use futures::future::join_all;
use tokio::sync::oneshot;

use super::{
    command::Command,
    error::{Left, WithdrawKeyError},
    frame::{Entry, Packer},
    handle::Handle,
};
use crate::rules::stable_hash::wide_hash;
pub(crate) use requests::Requests;
pub(crate) use withdrawn::{Answered, Withdrawn};

/// Withdraws the ops that wait under a key, in all shards at once.
pub(super) async fn withdraw_key<T, R, K>(handle: &Handle<T, R>, key: K) -> Result<Vec<T>, WithdrawKeyError>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    K: Hash + Eq + Send + Sync + 'static,
{
    let key = Arc::new(key);
    let shards = 0..handle.shared.shards.len() as u16;
    let answers = join_all(shards.map(|shard| withdraw_from(handle, shard, &key))).await;
    let ops: Vec<Vec<T>> = answers.into_iter().collect::<Result<_, _>>()?;
    Ok(ops.into_iter().flatten().collect())
}

async fn withdraw_from<T, R, K>(handle: &Handle<T, R>, shard: u16, key: &Arc<K>) -> Result<Vec<T>, WithdrawKeyError>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    K: Hash + Eq + Send + Sync + 'static,
{
    let (reply, answer) = oneshot::channel();
    let wanted = Arc::clone(key);
    let is_it = move |other: &dyn Any| other.downcast_ref() == Some(&*wanted);
    let command = Command::WithdrawKey { is_it: Box::new(is_it), reply };
    handle.shared.shard(shard).commands.send(command).map_err(|_| Left)?;
    match answer.await.map_err(|_| Left)? {
        Some(ops) => Ok(ops),
        None => request(handle, shard, wide_hash(&**key)).await,
    }
}

/// Withdraws ops by a request in the log, or by several if the ops are more than one answer holds.
async fn request<T, R>(handle: &Handle<T, R>, shard: u16, key: u128) -> Result<Vec<T>, WithdrawKeyError>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let (shared, of_shard) = (&handle.shared, handle.shared.shard(shard));
    let (mut all, mut are_readable) = (Vec::new(), true);
    loop {
        let place = of_shard.requests.place().await.ok_or(Left)?;
        let id = shared.next_id(shard);
        let (producer, number) = (id.producer(), id.number());
        let answer = of_shard.requests.add(number, place);
        let mut call = Packer::new(producer);
        let entry = Entry { producer, number, handle: handle.number, may_repeat: false, withdraws: true };
        call.push(entry, &key.to_le_bytes());
        // A request holds no permit, as a full buffer must not keep it out.
        let stored = match of_shard.ingress.submit(call, &shared.permits.take_up_to(0)) {
            Ok(stored) => stored.await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            of_shard.requests.forget(number);
            return Err(Left.into());
        }
        let withdrawn = answer.await.map_err(|_| Left)?;
        let Answered { ops, is_whole, is_last } = withdrawn.decode(&*shared.codec);
        all.extend(ops);
        are_readable &= is_whole;
        if is_last {
            return if are_readable { Ok(all) } else { Err(WithdrawKeyError::Unreadable) };
        }
    }
}
