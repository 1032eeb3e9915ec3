//! Partitions of which nothing waits. In comes each as it becomes idle; out go those that were the first to rest, so that a
//! million symbols seen once cost nothing afterwards, and a few that come again and again cost no new partition each time.

use super::Accumulator;

/// So many may rest.
const RESTING: usize = if cfg!(test) { 2 } else { 128 };

impl<T, R> Accumulator<T, R> {
    /// Lets a partition rest that has become idle.
    pub(super) fn rest(&mut self, id: u32) {
        let partition = &mut self.partitions[id as usize];
        if partition.hash.is_none() || std::mem::replace(&mut partition.rests, true) {
            return;
        }
        self.resting.push_back(id);
        if self.resting.len() > RESTING {
            self.forget_eldest();
        }
    }

    /// Forgets all that are idle.
    pub(super) fn forget_resting(&mut self) {
        while !self.resting.is_empty() {
            self.forget_eldest();
        }
    }

    /// Forgets the one that was the first to rest, unless it is in use by now: then it will rest again.
    fn forget_eldest(&mut self) {
        let Some(id) = self.resting.pop_front() else {
            return;
        };
        let partition = &mut self.partitions[id as usize];
        partition.rests = false;
        if !partition.is_idle() {
            return;
        }
        let forgotten = self.partitions.remove(id as usize);
        if let (Some(index), Some(hash)) = (&mut self.rules.partition, forgotten.hash) {
            index.unbind(hash, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn buffer() -> Accumulator<u32, ()> {
        Accumulator::new(Stages::new().partition_by(|op: &u32| *op), Limits::new(10), Policy::default())
    }

    /// Sends one op all the way.
    fn pass(buffer: &mut Accumulator<u32, ()>, op: u32) {
        let now = Moment::now();
        buffer.push(Arrival { op, at: now, ack: None }, now);
        assert_eq!(buffer.hand_over(now), Some(vec![op]));
    }

    /// Goal: keys seen once cost nothing afterwards. Method: many of them, one after the other.
    #[test]
    fn few_rest() {
        let mut buffer = buffer();
        (0..1000).for_each(|op| pass(&mut buffer, op));
        assert_eq!(buffer.partitions.len(), RESTING);
        buffer.trim();
        assert_eq!((buffer.partitions.len(), buffer.resting.len()), (0, 0));
    }

    /// Goal: a partition that is in use is not forgotten, although it rested. Method: one is, while others come and go.
    #[test]
    fn who_is_in_use_stays() {
        let (mut buffer, now) = (buffer(), Moment::now());
        pass(&mut buffer, 0);
        buffer.set_paused(true);
        buffer.push(Arrival { op: 0, at: now, ack: None }, now);
        let others = 1..=2 * RESTING as u32;
        others.clone().for_each(|op| buffer.push(Arrival { op, at: now, ack: None }, now));
        assert_eq!(buffer.withdraw(|op| *op > 0, now).len(), others.count());
        buffer.set_paused(false);
        assert_eq!(buffer.hand_over(now), Some(vec![0]));
        assert_eq!(buffer.partitions.len(), RESTING);
    }
}
