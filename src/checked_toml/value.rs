//! One value, from a file or from an environment variable, read as a type.

use std::ops::RangeInclusive;

use super::report::Complaint;
use super::suggest::did_you_mean;
use super::tree::Value;

/// A value as given.
#[derive(Clone, Copy, Debug)]
pub enum Input<'t> {
    /// From a file.
    File(&'t Value<'t>),
    /// From the environment: texts as they are, numbers in digits, lists separated by commas.
    Text(&'t str),
}

impl<'t> Input<'t> {
    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(self) -> Result<&'t str, Complaint> {
        match self {
            Self::Text(text) => Ok(text),
            Self::File(Value::Text(text)) => Ok(text),
            Self::File(other) => Err(self.expected(match other {
                Value::Integer(_) | Value::Float(_) => "a string: write it in quotes",
                _ => "a string",
            })),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is something else or out of range.
    pub fn integer(self, range: RangeInclusive<u64>) -> Result<u64, Complaint> {
        let number = match self {
            Self::Text(text) => text.parse::<u64>().ok(),
            Self::File(Value::Integer(number)) => u64::try_from(*number).ok(),
            Self::File(_) => return Err(self.expected("a number without quotes")),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            Complaint::new(format!("must be a whole number from {low} to {high}"))
        })
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn boolean(self) -> Result<bool, Complaint> {
        match self {
            Self::File(Value::Boolean(value)) => Ok(*value),
            Self::Text("true") => Ok(true),
            Self::Text("false") => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// A list.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(self) -> Result<Vec<Self>, Complaint> {
        match self {
            Self::Text("") => Ok(Vec::new()),
            Self::Text(text) => Ok(text.split(',').map(|item| Self::Text(item.trim())).collect()),
            Self::File(Value::List(list)) => {
                Ok(list.items.iter().map(|item| Self::File(&item.value)).collect())
            }
            Self::File(_) => Err(self.expected("a list in [brackets]")),
        }
    }

    fn expected(self, what: &str) -> Complaint {
        match self {
            Self::Text(_) => Complaint::new(format!("must be {what}")),
            Self::File(value) => {
                Complaint::new(format!("must be {what}, not of type {}", value.type_str()))
            }
        }
    }
}

/// Reads one word of a fixed list.
///
/// # Errors
/// When the word is not in the list.
pub fn one_of<T: Copy>(word: &str, list: &[(&str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = list.iter().find(|(known, _)| *known == word) {
        return Ok(*value);
    }
    let known = || list.iter().map(|(known, _)| *known);
    let quoted: Vec<String> = known().map(|known| format!("{known:?}")).collect();
    let hint = did_you_mean(word, known());
    Err(Complaint::new(format!("{word:?} is not one of {}{hint}", quoted.join(", "))))
}
