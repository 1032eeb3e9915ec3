//! The time of a row. [`Times`] holds its column and format; `time_columns` finds both by the first rows, and each row
//! is then read by them alone.

use std::borrow::Cow;

use csv::StringRecord;
use roundlot::market::Price;
use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::{
    age::Age,
    calendar::{self, DAY, SECOND, Stamp, digit_clock},
    decimals::Decimals,
    row::read,
};
use crate::demo::settings::{DateOrder, Unit};

/// Column and format of the time of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    pub column: usize,
    pub date: Date,
    /// Unit of all numbers. With `None`, a number is read in the one unit in which it is a plausible time.
    pub unit: Option<Unit>,
    pub order: Option<DateOrder>,
    /// Offset from UTC of times without one, in nanoseconds.
    pub offset: i64,
    pub decimals: Decimals,
    pub age: Age,
}

/// The day that a time belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Date {
    /// Part of the time itself.
    Said,
    /// In another column.
    Column(usize),
    /// A constant date for all rows, in days since 1970.
    Constant(i64),
}

/// Days between 1899-12-30, from which spreadsheets count, and 1970.
const SPREADSHEET: i64 = 25_569;

impl Times {
    /// Returns nanoseconds since 1970. An error comes with the column it is about.
    pub fn read(&self, row: &StringRecord) -> Result<i64, (usize, String)> {
        let text = |column: usize| row.get(column).unwrap_or_default();
        let wrong = |column: usize| move |problem: String| (column, problem);
        let day = match self.date {
            Date::Said => return self.full(text(self.column)).map_err(wrong(self.column)),
            Date::Column(column) => self.day(text(column)).map_err(wrong(column))?,
            Date::Constant(day) => day,
        };
        let clock = self.clock(text(self.column)).map_err(wrong(self.column))?;
        day.checked_mul(DAY).and_then(|day| day.checked_add(clock)).ok_or_else(|| (self.column, TOO_LARGE.to_owned()))
    }

    /// Reads a time that includes its day.
    fn full(&self, text: &str) -> Result<i64, String> {
        match self.unit {
            Some(Unit::Iso) => self.stamp(text),
            Some(Unit::Digits) => self.digits(text).ok_or_else(|| "is not yyyymmddhhmmss or a part of it".to_owned()),
            Some(Unit::Excel) => self.spreadsheet(text),
            Some(unit) => counted(&self.decimals.plain(text)?, unit),
            None => self.guessed(text).map(|(time, _)| time),
        }
    }

    /// Returns the time and the one unit in which it is plausible. A text of the calendar may have any age.
    pub fn guessed(&self, text: &str) -> Result<(i64, Unit), String> {
        let number = match self.decimals.plain(text) {
            Ok(number) if read::<Price>(&number).is_ok() => number,
            _ if text.is_empty() => return Err("is empty".to_owned()),
            _ => return self.stamp(text).map(|time| (time, Unit::Iso)),
        };
        let is_of_age = |(time, _): &(i64, Unit)| self.age.contains(*time);
        let units = [Unit::S, Unit::Ms, Unit::Us, Unit::Ns];
        let counted = units.iter().filter_map(|unit| Some((counted(&number, *unit).ok()?, *unit))).find(is_of_age);
        let digits = self.digits(text).map(|time| (time, Unit::Digits)).filter(is_of_age);
        match (counted, digits) {
            // The number 2024010809 is an hour of 2024 or a second of 2034, and 2034 has not been recorded yet.
            (Some((time, _)), Some(_)) if time > self.age.now => {
                Err("may count seconds, or be a date and an hour: set replay.time_unit".to_owned())
            }
            (Some((time, Unit::Us | Unit::Ns)), _) if time < FINE_FROM => Err(OTHER_EPOCH.to_owned()),
            (Some(found), _) | (None, Some(found)) => Ok(found),
            (None, None) => match counted_rounded(&number) {
                true => Err(ROUNDED.to_owned()),
                false if self.spreadsheet(text).is_ok_and(|time| self.age.contains(time)) => {
                    Err("may be days of a spreadsheet or seconds of a day: set replay.time_unit to \"excel\", or replay.date".to_owned())
                }
                false => Err("is no time of 1990 to ten years ahead in any unit: set replay.time_unit".to_owned()),
            },
        }
    }

    fn stamp(&self, text: &str) -> Result<i64, String> {
        let Stamp { day, clock, offset } = calendar::stamp(text, self.order)?;
        let day = day.ok_or("is a time of day: set replay.date, or replay.constant_date")?;
        let nanos = i128::from(day) * i128::from(DAY) + i128::from(clock.unwrap_or(0));
        i64::try_from(nanos - i128::from(offset.unwrap_or(self.offset))).map_err(|_| TOO_LARGE.to_owned())
    }

    /// Reads `20240108`, `20240108093000`, and further digits of the second, with a point before them or without.
    fn digits(&self, text: &str) -> Option<i64> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !text.is_ascii() || whole.len() < 8 || (!fraction.is_empty() && whole.len() != 14) {
            return None;
        }
        let (date, clock) = whole.split_at(8);
        let clock = match clock.len() {
            0 => 0,
            2 => digit_clock(&format!("{clock}00"))?,
            4.. => digit_clock(clock)?,
            _ => return None,
        };
        let fraction = if fraction.is_empty() { 0 } else { counted(&format!("0.{fraction}"), Unit::S).ok()? };
        calendar::day(date, None).ok()?.checked_mul(DAY)?.checked_add(clock + fraction - self.offset)
    }

    /// Reads days since 1899-12-30, to the millisecond, which is the precision of spreadsheets.
    fn spreadsheet(&self, text: &str) -> Result<i64, String> {
        let days = read::<Price>(&self.decimals.plain(text)?)?.to_decimal();
        let millis = days.checked_mul(Decimal::from(DAY / 1_000_000)).and_then(|millis| millis.round().to_i64());
        let nanos = millis.and_then(|millis| (millis - SPREADSHEET * (DAY / 1_000_000)).checked_mul(1_000_000));
        nanos.and_then(|nanos| nanos.checked_sub(self.offset)).ok_or_else(|| TOO_LARGE.to_owned())
    }

    /// Reads the day of a column that holds dates, in days since 1970.
    pub fn day(&self, text: &str) -> Result<i64, String> {
        match calendar::stamp(text, self.order)? {
            Stamp { day: Some(day), clock: None | Some(0), offset: None } => Ok(day),
            _ => Err("is no date, or more than that".to_owned()),
        }
    }

    /// Reads nanoseconds since midnight UTC, which may be of the day before or after.
    fn clock(&self, text: &str) -> Result<i64, String> {
        let (clock, offset) = match self.unit {
            Some(Unit::Digits) => (self.digits_of_day(text)?, None),
            Some(unit @ (Unit::S | Unit::Ms | Unit::Us | Unit::Ns)) => {
                (counted(&self.decimals.plain(text)?, unit)?, None)
            }
            _ => match calendar::stamp(text, None)? {
                Stamp { day: None, clock: Some(clock), offset } => (clock, offset),
                _ => return Err("is no time of day: see replay.time_unit".to_owned()),
            },
        };
        if !(0..=DAY).contains(&clock) {
            return Err("is no time of day".to_owned());
        }
        Ok(clock - offset.unwrap_or(self.offset))
    }

    fn digits_of_day(&self, text: &str) -> Result<i64, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let fraction = if fraction.is_empty() { 0 } else { counted(&format!("0.{fraction}"), Unit::S)? };
        digit_clock(whole).map(|clock| clock + fraction).ok_or_else(|| "is not hhmmss".to_owned())
    }
}

/// First time of a plausible count in micro- or nanoseconds: 2001-09-09, since when seconds have ten digits. An earlier
/// one counts from another day, as .NET (from year 1) and kdb+ (from 2000) do.
const FINE_FROM: i64 = 1_000_000_000 * SECOND;
const OTHER_EPOCH: &str = "may count from another day than 1970, as .NET's ticks and kdb's times do: convert it, or set \
                           replay.time_unit to \"ns\" or \"us\" if it counts from 1970";
const TOO_LARGE: &str = "is too large for a time";
const ROUNDED: &str = "has lost digits, as spreadsheets do it to large numbers";

/// Converts a number of units to nanoseconds, exactly; finer digits are cut off.
pub fn counted(number: &str, unit: Unit) -> Result<i64, String> {
    let per_unit = match unit {
        Unit::S => SECOND,
        Unit::Ms => 1_000_000,
        Unit::Us => 1_000,
        Unit::Ns | Unit::Iso | Unit::Digits | Unit::Excel => 1,
    };
    if counted_rounded(number) {
        return Err(ROUNDED.to_owned());
    }
    // The crate's own rules read a decimal exactly, in any notation.
    let time = read::<Price>(number)?.to_decimal();
    let nanos = time.checked_mul(Decimal::from(per_unit)).and_then(|nanos| nanos.trunc().to_i64());
    nanos.ok_or_else(|| TOO_LARGE.to_owned())
}

/// Whether a number in scientific notation, such as 1.7047E+12, has fewer digits than its units need.
fn counted_rounded(number: &str) -> bool {
    let Some((mantissa, _)) = number.split_once(['e', 'E']) else {
        return false;
    };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let whole = read::<Price>(number).map(|number| number.to_decimal().abs().trunc().to_string().len());
    whole.is_ok_and(|whole| whole > digits)
}

/// Returns a unit as the settings spell it.
pub fn name(unit: Unit) -> Cow<'static, str> {
    Cow::Owned(format!("{unit:?}").to_lowercase())
}

#[cfg(test)]
#[path = "times_tests.rs"]
mod tests;
