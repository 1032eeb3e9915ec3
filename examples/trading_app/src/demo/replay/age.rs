//! The range of plausible times of a recording. [`Age`] knows the range of times since 1990, [`Neighbors`] the times of
//! the adjacent rows. `times` and the reader ask both, so that an impossible time is a bad row and never stored.

use std::time::{SystemTime, UNIX_EPOCH};

use super::calendar::{DAY, year_of};

const YEAR: i64 = 365 * DAY + DAY / 4;

/// Earliest plausible time: 1990, before which no market was recorded tick by tick.
const FROM: i64 = 7305 * DAY;

/// Maximum lead of a plausible time over now: ten years, enough for wrong clocks and for tests with future times.
const AHEAD: i64 = 10 * YEAR;

/// Maximum distance between the times of adjacent rows. Joined archives may exceed it, which costs one reported row.
const APART: i64 = 5 * YEAR;

/// The times that a number may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    pub now: i64,
}

impl Age {
    pub fn ours() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) }
    }

    pub fn contains(&self, time_ns: i64) -> bool {
        (FROM..=self.now.saturating_add(AHEAD)).contains(&time_ns)
    }
}

/// Compares each time of a file with our age and with the times around it.
#[derive(Debug)]
pub struct Neighbors {
    age: Age,
    /// Whether the whole file is older than the plausible age, or counts from its own beginning. The reader says so at
    /// the start.
    is_old: bool,
    /// The last good time. Before the first one, a time of the first rows, preferably one that its successor agrees
    /// with.
    good: Option<i64>,
    /// Whether the file has one date, set for all its rows.
    is_one_day: bool,
    /// Whether the clocks have passed midnight, so that the date is wrong for later rows.
    is_past_midnight: bool,
    /// The last time, good or not. A time that two rows agree on is no error of one of them.
    last: Option<i64>,
}

impl Neighbors {
    /// Starts with the times of the first rows.
    pub fn new(age: Age, sample: &[i64]) -> Self {
        let is_old = !sample.is_empty() && sample.iter().all(|time| *time < FROM);
        let possible: Vec<i64> = sample.iter().copied().filter(|time| is_old || age.contains(*time)).collect();
        let pair = possible.windows(2).find(|pair| is_near(pair[0], pair[1])).map(|pair| pair[0]);
        Self {
            age,
            is_old,
            good: pair.or(possible.first().copied()),
            last: None,
            is_one_day: false,
            is_past_midnight: false,
        }
    }

    /// Sets whether all times are of one day.
    pub fn of_one_day(self, is_one_day: bool) -> Self {
        Self { is_one_day, ..self }
    }

    pub fn is_old(&self) -> bool {
        self.is_old
    }

    /// Checks whether the next row may have this time.
    pub fn check(&mut self, time_ns: i64) -> Result<(), String> {
        let agrees = |other: i64| is_near(time_ns, other);
        let agrees = self.good.is_none_or(agrees) || self.last.is_some_and(agrees);
        self.last = Some(time_ns);
        self.is_past_midnight |= self.is_one_day && self.good.is_some_and(|good| good - time_ns > DAY / 2);
        if self.is_past_midnight {
            return Err(
                "is past midnight, where replay.constant_date has ended: split the file, or set replay.date".to_owned()
            );
        }
        let year = year_of(time_ns);
        let is_of_age = if self.is_old { time_ns <= self.age.now } else { self.age.contains(time_ns) };
        if !is_of_age {
            return Err(format!("lies in {year}, outside of 1990 to ten years ahead"));
        }
        if !agrees {
            return Err(format!("lies in {year}, years away from the rows around it"));
        }
        self.good = Some(time_ns);
        Ok(())
    }
}

fn is_near(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= APART.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Age = Age { now: 56 * YEAR };

    fn checked(years: &[i64]) -> Vec<bool> {
        let times: Vec<i64> = years.iter().map(|year| (year - 1970) * YEAR + DAY).collect();
        let mut neighbors = Neighbors::new(AGE, &times);
        times.iter().map(|time| neighbors.check(*time).is_ok()).collect()
    }

    #[test]
    fn an_outlying_time_is_found_at_any_position() {
        for (years, expected) in [
            (&[2024, 2024, 2024, 2024][..], [true, true, true, true]),
            (&[1970, 2024, 2024, 2024], [false, true, true, true]),
            (&[2024, 2055, 2024, 2024], [true, false, true, true]),
            (&[2003, 2024, 2024, 2024], [false, true, true, true]),
            (&[2024, 2024, 2003, 2024], [true, true, false, true]),
            (&[2024, 1970, 1970, 2024], [true, false, false, true]),
            (&[1995, 1996, 2024, 2024], [true, true, false, true]),
            (&[2024, 2024, 2014, 2024], [true, true, false, true]),
            (&[2033, 2034, 2035, 2035], [true, true, true, true]),
        ] {
            assert_eq!(checked(years), expected, "{years:?}");
        }
    }

    #[test]
    fn a_file_may_be_older_as_a_whole() {
        assert_eq!(checked(&[1926, 1927, 1975, 1928, 1988, 1989]), [true, true, false, true, false, true]);
        assert!(Neighbors::new(AGE, &[0, 5]).is_old());
        assert!(!Neighbors::new(AGE, &[0, AGE.now]).is_old());
        assert!(!Neighbors::new(AGE, &[]).is_old());
    }
}
