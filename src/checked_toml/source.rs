//! A TOML text, parsed, with the notes made about it.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::path::Path;
use super::report::{Complaint, Mistake, Origin, Report, Severity};
use super::suggest::did_you_mean;
use super::table::Table;

/// Names compared for suggestions over a whole file: about a second's work, so that a list of a
/// million wrong references is reported in time, if without suggestions for the last ones.
const COMPARISONS_MAX: usize = 2_000_000;

/// A parsed file and what is wrong with it so far.
#[derive(Debug)]
pub struct Source<'t> {
    tree: Spanned<DeTable<'t>>,
    line_ends: Vec<usize>,
    report: RefCell<Report>,
    comparisons_left: Cell<usize>,
}

impl<'t> Source<'t> {
    /// Parses `text`; `file_name` is for the report only.
    ///
    /// # Errors
    /// All mistakes of syntax. What the values mean is not looked at then.
    pub fn parse(text: &'t str, file_name: &str) -> Result<Self, Report> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let source = Self {
            tree,
            line_ends: text.match_indices('\n').map(|(end, _)| end).collect(),
            report: RefCell::new(Report::new(file_name)),
            comparisons_left: Cell::new(COMPARISONS_MAX),
        };
        for error in &errors {
            let line = error.span().map(|span| source.line(span.start));
            // The parser's words; they never quote a value, which may be a secret.
            let complaint = Complaint::new(error.message().trim());
            source.note(Severity::Error, line, String::new(), complaint);
        }
        if errors.is_empty() { Ok(source) } else { Err(source.into_report()) }
    }

    /// The file's top level, which may have the keys `known`.
    #[must_use]
    pub fn root(&self, known: &'static [&'static str]) -> Table<'_> {
        Table::open(self, Path::ROOT, self.tree.get_ref(), 0..0, known, &[])
    }

    /// The file's top level as parsed.
    pub(crate) fn tree(&self) -> &DeTable<'t> {
        self.tree.get_ref()
    }

    /// Ends reading.
    #[must_use]
    pub fn into_report(self) -> Report {
        self.report.into_inner()
    }

    /// Notes an error about the value at `span`; `None` if it is absent.
    pub fn error(&self, path: &Path<'_>, span: Option<Range<usize>>, complaint: Complaint) {
        let line = span.map(|span| self.line(span.start));
        self.note(Severity::Error, line, path.to_string(), complaint);
    }

    /// Notes a warning about the value at `span`.
    pub fn warning(&self, path: &Path<'_>, span: Option<Range<usize>>, complaint: Complaint) {
        let line = span.map(|span| self.line(span.start));
        self.note(Severity::Warning, line, path.to_string(), complaint);
    }

    /// [`did_you_mean`] within the file's budget of comparisons.
    #[must_use]
    pub fn suggest<'c>(
        &self,
        written: &str,
        known: impl ExactSizeIterator<Item = &'c str>,
    ) -> String {
        match self.comparisons_left.get().checked_sub(known.len()) {
            Some(left) => {
                self.comparisons_left.set(left);
                did_you_mean(written, known)
            }
            None => String::new(),
        }
    }

    /// Notes an error about a value that an environment variable gave.
    pub fn error_in_environment(&self, name: &str, key: &str, complaint: Complaint) {
        let origin = Origin::Environment(name.to_owned());
        let (severity, key) = (Severity::Error, key.to_owned());
        self.report.borrow_mut().note(Mistake { severity, origin, key, complaint });
    }

    /// The line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }

    fn note(&self, severity: Severity, line: Option<usize>, key: String, complaint: Complaint) {
        let origin = Origin::File(line);
        self.report.borrow_mut().note(Mistake { severity, origin, key, complaint });
    }
}
