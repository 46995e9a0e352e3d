//! The list of everything that is wrong with a file.

use std::fmt;

/// Mistakes of each severity that are kept; the rest is only counted. Nobody reads more, and a
/// broken catalog of a million entries must not fill the memory.
pub const MISTAKES_KEPT_MAX: usize = 1000;

/// What is wrong with one value, and what to write instead, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint(String);

impl Complaint {
    /// From a sentence without capital and full stop.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Complaint {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Whether a mistake refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is not taken.
    Error,
    /// The file is taken only where there is none before it that could stay; elsewhere it is not.
    Lacking,
    /// The file is taken, but someone should look.
    Warning,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of the file, from 1; `None` if something is absent.
    File(Option<usize>),
    /// An environment variable, by name.
    Environment(String),
}

impl Origin {
    /// The line of the file, if there is one.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        if let Self::File(line) = self { *line } else { None }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Whether it refuses the file.
    pub severity: Severity,
    /// Where it was made.
    pub origin: Origin,
    /// The dotted key; empty for a mistake in the syntax.
    pub key: String,
    /// What is wrong and what to write instead.
    pub complaint: Complaint,
}

/// All mistakes of one file. Displays one a line: by line, then by environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    file_name: String,
    mistakes: Vec<Mistake>,
    errors: usize,
    lacking: usize,
    warnings: usize,
}

impl Report {
    /// An empty report on the file with this name.
    #[must_use]
    pub fn new(file_name: &str) -> Self {
        let (file_name, mistakes) = (file_name.to_owned(), Vec::new());
        Self { file_name, mistakes, errors: 0, lacking: 0, warnings: 0 }
    }

    /// Notes a mistake.
    pub fn note(&mut self, mistake: Mistake) {
        let count = match mistake.severity {
            Severity::Error => &mut self.errors,
            Severity::Lacking => &mut self.lacking,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MISTAKES_KEPT_MAX {
            self.mistakes.push(mistake);
        }
    }

    /// Notes the mistakes that another report on the file has kept.
    pub fn add(&mut self, other: Self) {
        other.mistakes.into_iter().for_each(|mistake| self.note(mistake));
    }

    /// Whether something is lacking, so that a file before this one stays.
    #[must_use]
    pub const fn lacks_something(&self) -> bool {
        self.lacking > 0
    }

    /// As it is where another file stays: what is lacking refuses this one.
    #[must_use]
    pub fn refusing_what_lacks(mut self) -> Self {
        let lacking = |mistake: &&mut Mistake| mistake.severity == Severity::Lacking;
        for mistake in self.mistakes.iter_mut().filter(lacking) {
            mistake.severity = Severity::Error;
        }
        self.errors += std::mem::take(&mut self.lacking);
        self
    }

    /// Whether the file must be refused.
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.errors + self.lacking + self.warnings == 0
    }

    /// The mistakes kept, as displayed: by place.
    #[must_use]
    pub fn mistakes(&self) -> Vec<&Mistake> {
        let mut sorted: Vec<&Mistake> = self.mistakes.iter().collect();
        sorted.sort_by(|a, b| a.origin.cmp(&b.origin));
        sorted
    }

    /// How many were not kept.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.errors + self.lacking + self.warnings - self.mistakes.len()
    }

    fn write_line(&self, mistake: &Mistake, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if mistake.severity != Severity::Error {
            f.write_str("warning: ")?;
        }
        match &mistake.origin {
            Origin::File(Some(line)) => write!(f, "{}:{line}: ", self.file_name)?,
            Origin::File(None) => write!(f, "{}: ", self.file_name)?,
            Origin::Environment(name) => write!(f, "{name}: ")?,
        }
        if !mistake.key.is_empty() {
            write!(f, "{}: ", mistake.key)?;
        }
        writeln!(f, "{}", mistake.complaint)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.mistakes() {
            self.write_line(mistake, f)?;
        }
        match self.left_out() {
            0 => Ok(()),
            more => writeln!(f, "{}: and {more} more", self.file_name),
        }
    }
}

impl std::error::Error for Report {}
