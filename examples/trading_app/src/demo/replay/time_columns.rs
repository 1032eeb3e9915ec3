//! The search for the column and format of the time: by the settings, or by column names that the first rows confirm. A
//! file is refused with the setting to make if its times could mean two things, or nothing.

use csv::StringRecord;

use super::{
    age::Age,
    calendar::{self, day_and_month, digit_clock, stamp},
    decimals::Decimals,
    header::Header,
    names,
    row::{is_no_value, quoted},
    times::{Date, Times, counted, name},
};
use crate::demo::settings::{DateOrder, Replay, Unit};

/// The input of the search.
pub struct Sample<'a> {
    pub settings: &'a Replay,
    pub header: &'a Header<'a>,
    /// The first rows of data.
    pub rows: &'a [StringRecord],
    pub decimals: Decimals,
    pub age: Age,
}

/// A guess, and its result for the first rows.
struct Tried {
    times: Times,
    /// Number of values that are present.
    all: usize,
    readable: usize,
    of_age: usize,
    problem: Option<(usize, String, String)>,
}

impl Sample<'_> {
    /// Finds the times of the file. `shape` is the time column of a dump that is known by its shape.
    pub fn times(&self, shape: Option<usize>) -> Result<Times, String> {
        let said = self.header.said("time", &self.settings.time)?;
        let columns = match said.or(shape) {
            Some(column) => vec![column],
            None => self.header.all("time", names::TIME, |name| names::without_unit(name).0)?,
        };
        let dates = self.header.all("date", names::DATE, |name| name)?;
        if let Some(date) = self.said_date()? {
            let column = columns.first().ok_or_else(|| self.header.missing("time"))?;
            return self.of_day(*column, date).and_then(|tried| tried.accepted(self.header));
        }
        if columns.is_empty() {
            let date = dates.first().ok_or_else(|| self.header.missing("time"))?;
            let found = self.try_full(*date)?.accepted(self.header)?;
            return self.no_clock_beside(found);
        }
        let mut tried = Vec::new();
        for column in &columns {
            let full = self.try_full(*column)?;
            if full.is_borne_out() {
                return self.no_clock_beside(full.times);
            }
            tried.push(full);
        }
        for (column, date) in columns.iter().flat_map(|column| dates.iter().map(move |date| (*column, *date))) {
            if column != date && self.holds_dates(date) {
                return self.of_day(column, Date::Column(date)).and_then(|tried| tried.accepted(self.header));
            }
        }
        // Some files are old archives, or count from their own beginning.
        let first = tried.swap_remove(0);
        self.contradicted(&first)?;
        let found = first.accepted(self.header).map_err(|problem| match dates.first() {
            Some(date) => format!("{problem}; column {} holds no dates that are known", self.header.name(*date)),
            None => problem,
        })?;
        self.no_clock_beside(found)
    }

    fn said_date(&self) -> Result<Option<Date>, String> {
        let column = self.header.said("date", &self.settings.date)?.map(Date::Column);
        match &self.settings.constant_date {
            Some(date) => {
                let day = calendar::day(date, self.settings.date_order);
                Ok(Some(Date::Constant(day.map_err(|problem| format!("replay.constant_date = {date:?} {problem}"))?)))
            }
            None => Ok(column),
        }
    }

    fn unit(&self, column: usize) -> Option<Unit> {
        self.settings.time_unit.or(names::without_unit(self.header.snake(column)).1)
    }

    fn values(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(column)).filter(|text| !is_no_value(text))
    }

    fn try_full(&self, column: usize) -> Result<Tried, String> {
        let order = self.order(column)?;
        Ok(self.tried(Times { unit: self.unit(column), ..self.plain(column, Date::Said, order)? }))
    }

    /// Tries the column as a time of day.
    fn of_day(&self, column: usize, date: Date) -> Result<Tried, String> {
        let order = match date {
            Date::Column(date) => self.order(date)?,
            _ => None,
        };
        let unit = match self.unit(column) {
            Some(unit) => Some(unit),
            None => self.clock_unit(column)?,
        };
        Ok(self.tried(Times { unit, ..self.plain(column, date, order)? }))
    }

    fn plain(&self, column: usize, date: Date, order: Option<DateOrder>) -> Result<Times, String> {
        let offset = &self.settings.utc_offset;
        let offset = calendar::offset(offset).ok_or_else(|| format!("replay.utc_offset = {offset:?}: it is +hh:mm"))?;
        Ok(Times { column, date, unit: None, order, offset, decimals: self.decimals, age: self.age })
    }

    fn tried(&self, times: Times) -> Tried {
        let mut tried = Tried { times, all: 0, readable: 0, of_age: 0, problem: None };
        for row in self.rows.iter().filter(|row| row.get(tried.times.column).is_some_and(|text| !is_no_value(text))) {
            tried.all += 1;
            match tried.times.read(row) {
                Ok(time) => {
                    tried.readable += 1;
                    tried.of_age += usize::from(self.age.contains(time));
                }
                Err((column, problem)) => {
                    let value = row.get(column).unwrap_or_default();
                    tried.problem.get_or_insert((column, quoted(value), problem));
                }
            }
        }
        tried
    }

    /// Finds the order of day and month in dates with slashes, from the setting or else the first rows.
    fn order(&self, column: usize) -> Result<Option<DateOrder>, String> {
        let said = self.settings.date_order;
        let dates: Vec<(u32, u32)> = self.values(column).filter_map(day_and_month).collect();
        if said.is_some() || dates.is_empty() {
            return Ok(said);
        }
        let has_days = (dates.iter().any(|(first, _)| *first > 12), dates.iter().any(|(_, second)| *second > 12));
        match has_days {
            (true, false) => Ok(Some(DateOrder::Dmy)),
            (false, true) => Ok(Some(DateOrder::Mdy)),
            _ => Err(format!(
                "the dates of column {} may have the month or the day first: set replay.date_order to \"mdy\" or \"dmy\"",
                self.header.name(column)
            )),
        }
    }

    /// Whether most values of the column are days without a time.
    fn holds_dates(&self, column: usize) -> bool {
        let order = self.order(column).ok().flatten().or(Some(DateOrder::Mdy));
        let Ok(times) = self.plain(column, Date::Said, order) else {
            return false;
        };
        let days = self.values(column).filter(|text| times.day(text).is_ok()).count();
        days * 2 > self.values(column).count()
    }

    /// Finds the unit of the numbers of a time of day. The usual spelling is `hhmmss`, chosen for numbers that are too
    /// large for counts since midnight, or have a leading zero.
    fn clock_unit(&self, column: usize) -> Result<Option<Unit>, String> {
        let numbers: Vec<&str> = self.values(column).filter(|text| !text.contains(':')).collect();
        let whole = |text: &'_ str| text.split('.').next().unwrap_or_default().to_owned();
        let is_clock = |text: &&str| digit_clock(&whole(text)).is_some();
        let is_no_count = |text: &&str| {
            let whole = whole(text);
            let unit = match whole.len() {
                0..=6 => Unit::S,
                7..=9 => Unit::Ms,
                10..=12 => Unit::Us,
                _ => Unit::Ns,
            };
            let is_padded = whole.len() >= 4 && whole.starts_with('0');
            is_padded || counted(&whole, unit).is_ok_and(|clock| clock >= calendar::DAY)
        };
        if numbers.is_empty() {
            return Ok(None);
        }
        let is_zero = |text: &&str| text.bytes().all(|byte| byte == b'0');
        if numbers.iter().all(is_clock) && (numbers.iter().any(is_no_count) || numbers.iter().all(is_zero)) {
            return Ok(Some(Unit::Digits));
        }
        Err(format!(
            "the times of day in column {},{}, may be hhmmss or a count since midnight: set replay.time_unit to \
             \"digits\", \"s\", \"ms\", \"us\" or \"ns\"",
            self.header.name(column),
            quoted(numbers[0])
        ))
    }

    /// Refuses the unit in a column's name if the numbers are plausible times in one other unit alone.
    fn contradicted(&self, tried: &Tried) -> Result<(), String> {
        let (Some(named), None) = (tried.times.unit, self.settings.time_unit) else {
            return Ok(());
        };
        let guess = Times { unit: None, ..tried.times.clone() };
        let mut others = self.values(guess.column).map(|text| guess.guessed(text).ok().map(|(_, unit)| unit));
        match others.next().flatten() {
            Some(unit) if tried.of_age == 0 && others.all(|other| other == Some(unit)) => Err(format!(
                "the column {} says {}, but its times are of our age in {} alone: set replay.time_unit",
                self.header.name(guess.column),
                name(named),
                name(unit)
            )),
            _ => Ok(()),
        }
    }

    /// Refuses dates beside a column with times of day, so that half of a time is never taken for a whole one.
    fn no_clock_beside(&self, times: Times) -> Result<Times, String> {
        let all = |column: usize, is: &dyn Fn(&str) -> bool| {
            self.values(column).next().is_some() && self.values(column).all(is)
        };
        if times.date != Date::Said || !all(times.column, &|text| times.day(text).is_ok()) {
            return Ok(times);
        }
        // Digits are times of day only if the name of their column says so.
        let clock = |text: &str| match text.contains(':') {
            true => stamp(text, None).ok().filter(|stamp| stamp.day.is_none())?.clock,
            false => digit_clock(text),
        };
        let is_named = |column: usize| names::TIME.contains(&names::without_unit(self.header.snake(column)).0);
        let is_clock = |column: usize, text: &str| clock(text).is_some() && (text.contains(':') || is_named(column));
        let is_late = |column: usize| self.values(column).any(|text| clock(text) != Some(0));
        let mut others = (0..self.header.width).filter(|column| *column != times.column);
        match others.find(|column| all(*column, &|text| is_clock(*column, text)) && is_late(*column)) {
            None => Ok(times),
            Some(clock) => Err(format!(
                "the column {} holds dates alone, and {} times of day: set replay.date and replay.time",
                self.header.name(times.column),
                self.header.name(clock)
            )),
        }
    }
}

impl Tried {
    /// Whether at least half of the values are plausible times.
    fn is_borne_out(&self) -> bool {
        self.of_age * 2 >= self.all
    }

    /// Returns the times. Refuses a guess that fewer than half of the values confirm.
    fn accepted(self, header: &Header<'_>) -> Result<Times, String> {
        let is_said = self.times.unit.is_some() && self.times.date == Date::Said;
        match self.problem {
            Some((column, value, problem)) if !is_said && self.readable * 2 < self.all => {
                Err(format!("the times of its first rows cannot be read: {}{value} {problem}", header.name(column)))
            }
            _ => Ok(self.times),
        }
    }
}
