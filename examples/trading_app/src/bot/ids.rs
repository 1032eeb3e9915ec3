//! Client ids of orders. [`Ids`] gives them out; [`placed_at`] tells the time from one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roundlot::market::ClientOrderId;

/// A source of ids that are unique.
#[derive(Debug)]
pub enum Ids {
    /// 1, 2, 3 and so on: the same ids in each run, for a venue that ends with the run.
    Counted(u64),
    /// Microseconds since 1970: unique over all runs, for a venue that remembers orders. Holds the last one.
    ByTime(u64),
}

/// The first number that is a time: in 2001. A run has no so many orders.
const FIRST_TIME: u64 = 1_000_000_000_000_000;

impl Ids {
    pub fn next(&mut self) -> ClientOrderId {
        let (last, floor) = match self {
            Self::Counted(last) => (last, 0),
            Self::ByTime(last) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                (last, u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
            }
        };
        *last = (*last + 1).max(floor);
        (*last).into()
    }
}

/// When the order with this id was placed; `None` for an id without a time.
pub fn placed_at(id: ClientOrderId) -> Option<SystemTime> {
    let micros = id.as_str().parse().ok().filter(|micros| *micros >= FIRST_TIME)?;
    UNIX_EPOCH.checked_add(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_have_their_time() {
        let mut counted = Ids::Counted(0);
        assert_eq!([counted.next(), counted.next()], [1.into(), 2.into()]);
        assert_eq!(placed_at(2.into()), None);
        let mut by_time = Ids::ByTime(0);
        let ids: Vec<_> = (0..1000).map(|_| by_time.next()).collect();
        assert!(ids.is_sorted_by(|a, b| placed_at(*a).unwrap() < placed_at(*b).unwrap()));
        // The clock may be set back between two runs. The id is later all the same.
        let late = u64::MAX / 2;
        assert_eq!(Ids::ByTime(late).next(), (late + 1).into());
    }
}
