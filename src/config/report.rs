//! All mistakes of a file at once: where, which key, what is wrong, what to write instead.

use std::fmt;

/// One mistake, or one thing to think about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line in the file, from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    /// The key, dotted; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to write instead.
    pub what: String,
    /// Only worth a thought: does not refuse the file.
    pub warning: bool,
}

/// The mistakes of one file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The file's name as it was given.
    pub file: String,
    /// The mistakes.
    pub mistakes: Vec<Mistake>,
}

impl Report {
    /// Whether anything in it refuses the file.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.mistakes.iter().any(|mistake| !mistake.warning)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mistake) in self.mistakes.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            f.write_str(&self.file)?;
            if let Some(line) = mistake.line {
                write!(f, ":{line}")?;
            }
            let warning = if mistake.warning { "warning: " } else { "" };
            let separator = if mistake.key.is_empty() { "" } else { ": " };
            write!(f, ": {warning}{}{separator}{}", mistake.key, mistake.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// The candidate that was probably meant: the nearest one, at most a third of its letters away.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?`, or nothing.
#[must_use]
pub fn did_you_mean<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

/// Levenshtein distance in bytes, with one row. Longer words than any key are not compared.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return LONGEST;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["listen", "workers", "node"];
        let check =
            |word, expected| assert_eq!(nearest(word, words.into_iter()), expected, "{word}");
        check("lisen", Some("listen"));
        check("worker", Some("workers"));
        check("nodes", Some("node"));
        check("banana", None);
    }
}
