//! The lines of a status upload: CSV with a header, or a JSON object each.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::limits::UPLOAD_LINES_MAX;
use crate::postback::json_scalar;

/// What one line says. An empty value counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Line {
    /// Its number in the file, from 1.
    #[serde(skip)]
    pub number: usize,
    /// Why it cannot be read.
    #[serde(skip)]
    pub mistake: Option<String>,
    /// The conversion's ID,
    #[serde(deserialize_with = "written")]
    pub conversion_id: Option<String>,
    /// or its advertiser's,
    #[serde(deserialize_with = "written")]
    pub advertiser: Option<String>,
    /// its event's,
    #[serde(deserialize_with = "written")]
    pub event: Option<String>,
    /// and its transaction's.
    #[serde(deserialize_with = "written")]
    pub txn_id: Option<String>,
    /// The status it has.
    #[serde(deserialize_with = "written")]
    pub status: Option<String>,
    /// Another amount.
    #[serde(deserialize_with = "written")]
    pub amount: Option<String>,
    /// The amount's currency.
    #[serde(deserialize_with = "written")]
    pub currency: Option<String>,
    /// When it happened.
    #[serde(deserialize_with = "written")]
    pub event_time: Option<String>,
}

/// A text, or a number in the digits it was written in: through a float it would be another. An
/// empty one counts as absent.
fn written<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let Some(json) = Option::<&RawValue>::deserialize(value)? else { return Ok(None) };
    let value = json_scalar(json.get()).map_err(|_| D::Error::custom("neither text nor number"))?;
    Ok(value.filter(|value| !value.is_empty()).map(Cow::into_owned))
}

impl Line {
    fn wrong(number: usize, mistake: impl Into<String>) -> Self {
        Self { number, mistake: Some(mistake.into()), ..Self::default() }
    }

    fn place(&mut self, column: &str) -> Option<&mut Option<String>> {
        Some(match column {
            "conversion_id" => &mut self.conversion_id,
            "advertiser" => &mut self.advertiser,
            "event" => &mut self.event,
            "txn_id" => &mut self.txn_id,
            "status" => &mut self.status,
            "amount" => &mut self.amount,
            "currency" => &mut self.currency,
            "event_time" => &mut self.event_time,
            _ => return None,
        })
    }
}

/// Reads a JSON object a line; empty lines are passed over.
///
/// # Errors
/// When there are too many lines. A line that is wrong says so itself.
pub fn json_lines(text: &str) -> Result<Vec<Line>, String> {
    let full = lines(text).filter(|(_, line)| !line.trim().is_empty());
    let lines = full.map(|(number, line)| match serde_json::from_str::<Line>(line) {
        // A list would be read, too, by the order of the members.
        Ok(_) if !line.trim_start().starts_with('{') => Line::wrong(number, "not an object"),
        Ok(read) => Line { number, ..read },
        Err(error) => Line::wrong(number, error.to_string()),
    });
    bounded(lines)
}

/// Reads CSV: a header with the columns' names, then a record a line; values may be in quotes,
/// within which two are one, but no value goes over several lines.
///
/// # Errors
/// When the header has an unknown column or one twice, or there are too many lines. A line that
/// is wrong says so itself.
pub fn csv_lines(text: &str) -> Result<Vec<Line>, String> {
    let mut full = lines(text).filter(|(_, line)| !line.trim().is_empty());
    let Some((_, header)) = full.next() else { return Ok(Vec::new()) };
    let columns = values(header).ok_or("a quote in the header is not closed")?;
    for (place, column) in columns.iter().enumerate() {
        if Line::default().place(column).is_none() {
            return Err(format!("the header has an unknown column {column:?}"));
        }
        if columns[..place].contains(column) {
            return Err(format!("the header has the column {column:?} twice"));
        }
    }
    bounded(full.map(|(number, line)| record(number, line, &columns)))
}

/// The lines with their numbers, without the mark that some programs begin a file with.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines())
}

fn bounded(lines: impl Iterator<Item = Line>) -> Result<Vec<Line>, String> {
    let lines: Vec<_> = lines.take(UPLOAD_LINES_MAX + 1).collect();
    if lines.len() > UPLOAD_LINES_MAX {
        return Err(format!("a file has at most {UPLOAD_LINES_MAX} lines"));
    }
    Ok(lines)
}

fn record(number: usize, line: &str, columns: &[String]) -> Line {
    let Some(values) = values(line) else {
        return Line::wrong(number, "a quote is not closed, or not where a value begins");
    };
    if values.len() != columns.len() {
        let what = format!("{} values for {} columns", values.len(), columns.len());
        return Line::wrong(number, what);
    }
    let mut read = Line { number, ..Line::default() };
    for (column, value) in columns.iter().zip(values) {
        if let Some(place) = read.place(column) {
            *place = (!value.is_empty()).then_some(value);
        }
    }
    read
}

/// The values of one line; `None` if a quote is where it cannot be.
fn values(line: &str) -> Option<Vec<String>> {
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let value = rest[..end].trim();
                if value.contains('"') {
                    return None;
                }
                (value.to_owned(), &rest[end..])
            }
        };
        values.push(value);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(values),
            None => return None,
        }
    }
}

/// A value up to its closing quote, and what comes after that.
fn quoted_value(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                value.push('"');
                rest = next;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let read = values(line);
            let read =
                read.as_ref().map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(read.as_deref(), expected, "{line}");
        };
        check("a,b", Some(&["a", "b"]));
        check("a, b ,", Some(&["a", "b", ""]));
        check("", Some(&[""]));
        check("\"a,\"\"b\"\"\",c", Some(&["a,\"b\"", "c"]));
        check("\"\"", Some(&[""]));
        check("\"a", None);
        check("\"a\"b", None);
        check("a\"b\"", None);
    }

    #[test]
    fn both_languages_say_the_same() {
        let csv = "\u{feff}txn_id,status,amount\r\n\r\nT,approved,\r\n\"U,1\",rejected,5\r\n";
        let json = "\u{feff}\n\n{\"txn_id\":\"T\",\"status\":\"approved\",\"amount\":\"\"}\n\
                    {\"txn_id\":\"U,1\",\"status\":\"rejected\",\"amount\":\"5\"}\n";
        let lines = csv_lines(csv).expect("a header");
        assert_eq!(lines, json_lines(json).expect("few lines"));
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(lines[1].txn_id.as_deref(), Some("U,1"));
    }

    #[test]
    fn numbers_are_what_was_written() {
        let amount = |json: &str| {
            let lines = json_lines(&format!("{{\"amount\":{json},\"txn_id\":1e3}}"));
            let line = lines.expect("few lines").remove(0);
            assert_eq!((line.mistake, line.txn_id.as_deref()), (None, Some("1e3")));
            line.amount
        };
        for number in ["3", "-0.10", "12345678901234567890.000001", "1e-7"] {
            assert_eq!(amount(number).as_deref(), Some(number));
        }
        assert_eq!(amount("null"), None);
    }

    #[test]
    fn a_wrong_line_says_so_and_a_wrong_header_ends_all() {
        for text in ["id,status\n", "status,status\n", "\"status\n"] {
            assert!(csv_lines(text).is_err(), "{text}");
        }
        let wrong = |lines: Result<Vec<Line>, String>| {
            let lines = lines.expect("few lines");
            lines.iter().map(|line| line.mistake.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(wrong(csv_lines("status\na\na,b\n\"a\n")), [false, true, true]);
        assert_eq!(
            wrong(json_lines("{}\n[]\n{\"stats\":1}\n{\"amount\":[5]}\n{\"amount\":}\n")),
            [false, true, true, true, true]
        );
        assert_eq!(csv_lines(""), Ok(Vec::new()));
    }

    #[test]
    fn the_lines_are_bounded() {
        assert!(json_lines(&"{}\n".repeat(UPLOAD_LINES_MAX)).is_ok());
        assert!(json_lines(&"{}\n".repeat(UPLOAD_LINES_MAX + 1)).is_err());
    }
}
