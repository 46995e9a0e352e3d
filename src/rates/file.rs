//! A file of rates as finance has it: TOML, or the daily table of a central bank as CSV.
//!
//! It is read whole: with one mistake, nothing of it counts, and every mistake is named.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::civil::Date;

use super::{DayRates, Rates};
use crate::checked_toml::tree::Value;
use crate::checked_toml::{
    Complaint, Input, Mistake, Origin, Report, Severity, Source, Table, read_text,
};
use crate::config::RatesFile;
use crate::limits::{RATE_DAYS_MAX, RATE_GAP_DAYS_MAX, RATES_FILE_BYTES_MAX};
use crate::model::currency::Currency;
use crate::model::period::Day;
use crate::model::rate::Rate;

/// Keys of the file.
const ROOT: &[&str] = &["base", "days"];
/// Keys of `[[days]]`.
const DAY: &[&str] = &["date", "rates"];

/// The days that a file names.
pub type Days = BTreeMap<Day, DayRates>;

/// Why a file of rates does not count.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the rates {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It has mistakes.
    #[error("the rates have mistakes:\n{0}")]
    Mistakes(Report),
}

/// Reads a file of rates and checks it whole. Blocks.
///
/// # Errors
/// When it cannot be read, or with the report of all mistakes.
pub fn read(file: &RatesFile) -> Result<Days, FileError> {
    let text = read_text(&file.path, "a file of rates", RATES_FILE_BYTES_MAX)
        .map_err(|error| FileError::Unreadable { path: file.path.clone(), error })?;
    let name = file.path.display().to_string();
    parse(&text, &name, file.table_base).map_err(FileError::Mistakes)
}

/// Reads a text of rates: a table of what one unit of `table_base` is worth, or TOML without it.
/// `name` is for the report only.
///
/// # Errors
/// The report of all mistakes.
pub fn parse(text: &str, name: &str, table_base: Option<Currency>) -> Result<Days, Report> {
    match table_base {
        Some(base) => read_table(text, name, base),
        None => read_toml(text, name),
    }
}

fn read_toml(text: &str, name: &str) -> Result<Days, Report> {
    let source = Source::parse(text, name)?;
    let days = toml_days(&source.root(ROOT));
    let report = source.into_report();
    if report.has_errors() { Err(report) } else { Ok(days) }
}

fn toml_days(root: &Table<'_>) -> Days {
    let base = root.required("base", |input| Ok(Currency::parse(input.text()?)?));
    let mut days = Days::new();
    for table in root.each_table("days", "date", DAY) {
        let day = table.required("date", date);
        let rates = toml_rates(&table, base);
        let (Some(day), Some(rates)) = (day, rates) else { continue };
        if days.insert(day, rates).is_some() {
            table.error("date", format_args!("{day} is named by an earlier entry"));
        }
    }
    if root.count("days") == 0 {
        root.error("days", "has none: write [[days]]");
    }
    if days.len() > RATE_DAYS_MAX {
        root.error("days", too_many());
    }
    days
}

/// The rates of one day; `None` with mistakes, which are noted, or without a base.
fn toml_rates(table: &Table<'_>, base: Option<Currency>) -> Option<DayRates> {
    if !table.has("rates") {
        table.error("rates", "is missing");
    }
    let mut rates = Vec::new();
    let mut sound = true;
    for (code, text) in table.words("rates") {
        match pair(code, text) {
            Ok(pair) => rates.push(pair),
            Err(complaint) => {
                table.error_in("rates", code, complaint);
                sound = false;
            }
        }
    }
    let base = base.filter(|_| sound)?;
    DayRates::new(base, rates).map_err(|error| table.error("rates", error)).ok()
}

fn date(input: Input<'_>) -> Result<Day, Complaint> {
    let text = match input {
        Input::File(Value::Datetime(date)) => date,
        other => other.text()?,
    };
    day_of(text)
}

fn day_of(text: &str) -> Result<Day, Complaint> {
    let wrong = || Complaint::new(format!("{text:?} is not a date such as \"2027-01-31\""));
    Day::parse(text).ok_or_else(wrong)
}

/// A day of a table: as in TOML, or as the European Central Bank writes that of its daily one,
/// `27 November 2026`.
fn table_day(text: &str) -> Result<Day, Complaint> {
    let written_out = || Day::parse(&Date::strptime("%d %B %Y", text).ok()?.to_string());
    day_of(text).or_else(|complaint| written_out().ok_or(complaint))
}

fn pair(code: &str, text: &str) -> Result<(Currency, Rate), Complaint> {
    let rate = rate(text)?;
    Ok((currency(code)?, rate))
}

fn rate(text: &str) -> Result<Rate, Complaint> {
    Rate::parse(text).map_err(|error| Complaint::new(format!("{text:?} is {error}")))
}

fn currency(code: &str) -> Result<Currency, Complaint> {
    Currency::parse(code).map_err(|error| Complaint::new(format!("{code:?} is {error}")))
}

fn too_many() -> String {
    format!("has more than {RATE_DAYS_MAX} days: leave out the oldest")
}

/// Reads a table: a header of `Date` and currency codes, then a day a line, in any order; an empty
/// value and `N/A` are no rate. Banks publish no rates of weekends and holidays: days without a
/// line between two that have one get the rates of the day before them.
fn read_table(text: &str, name: &str, base: Currency) -> Result<Days, Report> {
    let mut reader =
        TableReader { report: Report::new(name), base, header: 1, columns: Vec::new() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).peekable();
    let mut days = Days::new();
    match lines.next() {
        Some((number, header)) => reader.header(number, header),
        None => reader.note(1, "", "is empty: begin it with a header such as Date,USD,JPY"),
    }
    if lines.peek().is_none() {
        reader.note(1, "", "has no day");
    }
    for (number, line) in lines {
        let Some((day, rates)) = reader.line(number, line) else { continue };
        if days.insert(day, rates).is_some() {
            reader.note(number, "", format!("{day} has an earlier line"));
        }
    }
    fill_gaps(&mut days);
    if days.len() > RATE_DAYS_MAX {
        reader.note(1, "", too_many());
    }
    if reader.report.has_errors() { Err(reader.report) } else { Ok(days) }
}

struct TableReader<'t> {
    report: Report,
    base: Currency,
    /// The header's line.
    header: usize,
    /// What follows the header's date.
    columns: Vec<Column<'t>>,
}

struct Column<'t> {
    code: &'t str,
    /// Whether it was noted that the code is of no currency, which is a mistake once it has a rate.
    is_noted: bool,
}

impl<'t> TableReader<'t> {
    fn header(&mut self, number: usize, line: &'t str) {
        self.header = number;
        let mut cells = cells(line);
        if !cells.next().is_some_and(|first| first.eq_ignore_ascii_case("date")) {
            self.note(number, "", "is no header such as Date,USD,JPY, separated by commas");
        }
        for code in cells {
            let is_same = |other: &Column<'_>| other.code.eq_ignore_ascii_case(code);
            if !code.is_empty() && self.columns.iter().any(is_same) {
                self.note(number, code, "has an earlier column");
            }
            self.columns.push(Column { code, is_noted: false });
        }
    }

    /// A column's currency; that it has none is noted once, where its code is.
    fn currency(&mut self, place: usize) -> Option<Currency> {
        let column = self.columns.get_mut(place)?;
        let code = column.code;
        let complaint = match currency(code) {
            Ok(currency) => return Some(currency),
            Err(complaint) => complaint.to_string(),
        };
        if !std::mem::replace(&mut column.is_noted, true) {
            self.note(self.header, code, complaint);
        }
        None
    }

    fn line(&mut self, number: usize, line: &str) -> Option<(Day, DayRates)> {
        let mut cells = cells(line);
        let day = table_day(cells.next().unwrap_or_default());
        let day = day.map_err(|complaint| self.note(number, "", complaint.to_string())).ok();
        let (mut rates, mut sound, mut count) = (Vec::new(), true, 0);
        for (place, text) in cells.enumerate() {
            count = place + 1;
            // What has no column is told below.
            let Some(code) = self.columns.get(place).map(|column| column.code) else { continue };
            if text.is_empty() || text.eq_ignore_ascii_case("n/a") {
                continue;
            }
            let rate =
                rate(text).map_err(|complaint| self.note(number, code, complaint.to_string()));
            match (self.currency(place), rate) {
                (Some(currency), Ok(rate)) => rates.push((currency, rate)),
                _ => sound = false,
            }
        }
        if count != self.columns.len() {
            let what = format!("has {count} values for {} currencies", self.columns.len());
            self.note(number, "", what);
            sound = false;
        }
        let (day, base) = (day.filter(|_| sound)?, self.base);
        let rates = DayRates::new(base, rates);
        let rates = rates.map_err(|error| self.note(number, base.as_str(), error.to_string()));
        Some((day, rates.ok()?))
    }

    fn note(&mut self, line: usize, key: &str, complaint: impl Into<String>) {
        let (severity, origin) = (Severity::Error, Origin::File(Some(line)));
        let complaint = Complaint::new(complaint);
        self.report.note(Mistake { severity, origin, key: key.to_owned(), complaint });
    }
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"'))
}

/// Gives the last days before a table's first one that have no rates those of the day before them:
/// a table of one day lists no day before a weekend. They are none of the file's days.
pub(super) fn fill_before(days: &mut Days, known: &Rates) {
    let Some(first) = days.keys().next().map(|day| day.get()) else { return };
    let mut before = None;
    for day in (first.saturating_sub(RATE_GAP_DAYS_MAX + 1)..first).map(Day::new) {
        match (known.of(day), before) {
            (Some(rates), _) => before = Some(rates),
            (None, Some(rates)) => drop(days.insert(day, DayRates::clone(rates))),
            (None, None) => {}
        }
    }
}

fn fill_gaps(days: &mut Days) {
    let listed: Vec<_> = days.keys().map(|day| day.get()).collect();
    for (before, next) in listed.iter().zip(listed.iter().skip(1)) {
        if next - before - 1 > RATE_GAP_DAYS_MAX {
            continue;
        }
        let rates = days[&Day::new(*before)].clone();
        days.extend((before + 1..*next).map(|day| (Day::new(day), rates.clone())));
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
