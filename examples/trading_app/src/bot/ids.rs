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
    /// The same, and the number of the process in the log: unique over all processes and their runs. Holds the last time, and the
    /// number.
    ByProcess(u64, u64),
}

/// The first number that is a time: in 2001. A run has no so many orders.
const FIRST_TIME: u64 = 1_000_000_000_000_000;

impl Ids {
    pub fn next(&mut self) -> ClientOrderId {
        let (last, floor) = match self {
            Self::Counted(last) => (last, 0),
            Self::ByTime(last) | Self::ByProcess(last, _) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                (last, u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
            }
        };
        *last = (*last + 1).max(floor);
        let time = *last;
        match self {
            // A log that had so many processes that the number does not fit is beyond what a file can hold.
            Self::ByProcess(_, process) => format!("{time}-{process}").parse().unwrap_or_else(|_| time.into()),
            Self::Counted(_) | Self::ByTime(_) => time.into(),
        }
    }
}

/// When the order with this id was placed; `None` for an id without a time.
pub fn placed_at(id: ClientOrderId) -> Option<SystemTime> {
    let text = id.as_str();
    let time = text.split_once('-').map_or(text, |(time, _)| time);
    let micros = time.parse().ok().filter(|micros| *micros >= FIRST_TIME)?;
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
        // Two processes may place an order in the same microsecond.
        let [one, two] = [3, 4].map(|process| Ids::ByProcess(late, process).next());
        assert_ne!(one, two);
        assert_eq!((one.as_str(), placed_at(one)), (format!("{}-3", late + 1).as_str(), placed_at((late + 1).into())));
        let last = Ids::ByProcess(FIRST_TIME, u64::MAX / 2).next();
        assert!(last.as_str().ends_with("-9223372036854775807"), "{last}");
    }
}
