//! A text, parsed, with the notes made about it.

use std::cell::{Cell, OnceCell, RefCell};

use toml_parser::{Expected, ParseError};

use super::path::Path;
use super::report::{Complaint, Mistake, Origin, Report, Severity};
use super::suggest::did_you_mean;
use super::table::Table;
use super::tree::{Entries, Node};
use super::{read_json, read_toml};

/// Names compared for suggestions over a whole file: about a second's work, so that a list of a
/// million wrong references is reported in time, if without suggestions for the last ones.
const COMPARISONS_MAX: usize = 2_000_000;

/// The language of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML.
    Toml,
    /// JSON of the same shape.
    Json,
}

/// A parsed file and what is wrong with it so far.
#[derive(Debug)]
pub struct Source<'t> {
    tree: Entries<'t>,
    notes: Notes<'t>,
    comparisons_left: Cell<usize>,
}

#[derive(Debug)]
struct Notes<'t> {
    text: &'t str,
    /// Where lines end; most files have no mistakes and need no lines.
    line_ends: OnceCell<Vec<usize>>,
    report: RefCell<Report>,
}

impl<'t> Source<'t> {
    /// Parses a TOML text; `file_name` is for the report only.
    ///
    /// # Errors
    /// All mistakes of syntax. What the values mean is not looked at then.
    pub fn parse(text: &'t str, file_name: &str) -> Result<Self, Report> {
        Self::parse_as(Format::Toml, text, file_name)
    }

    /// As [`Self::parse`], in either language.
    ///
    /// # Errors
    /// All mistakes of syntax; of JSON, the first that ends the text.
    pub fn parse_as(format: Format, text: &'t str, file_name: &str) -> Result<Self, Report> {
        let notes = Notes {
            text,
            line_ends: OnceCell::new(),
            report: RefCell::new(Report::new(file_name)),
        };
        let tree = match format {
            Format::Toml => read_toml::parse(text, &mut |error: ParseError| {
                let at = error.unexpected().map(|span| span.start());
                notes.note(Severity::Error, at, String::new(), Complaint::new(in_words(&error)));
            }),
            Format::Json => read_json::parse(text, &mut |at, what| {
                notes.note(Severity::Error, Some(at), String::new(), Complaint::new(what));
            }),
        };
        let source = Self { tree, notes, comparisons_left: Cell::new(COMPARISONS_MAX) };
        if source.has_errors() { Err(source.into_report()) } else { Ok(source) }
    }

    /// The file's top level, which may have the keys `known`.
    #[must_use]
    pub fn root(&self, known: &'static [&'static str]) -> Table<'_> {
        Table::open(self, Path::ROOT, &self.tree, 0, known)
    }

    /// The tables of a list, which may have the keys `known`; each is named after its key `name`
    /// in reports, the list is called `key`.
    pub fn tables<'s>(
        &'s self,
        key: &'s str,
        list: &'s Node<'t>,
        name: &'static str,
        known: &'static [&'static str],
    ) -> Vec<Table<'s>> {
        self.each_table(&Path::ROOT, key, list, name, known).collect()
    }

    /// As [`Self::tables`], of a list that is somewhere.
    pub(super) fn each_table<'s>(
        &'s self,
        around: &'s Path<'s>,
        key: &'s str,
        list: &'s Node<'t>,
        name: &'static str,
        known: &'static [&'static str],
    ) -> impl Iterator<Item = Table<'s>> {
        let items = list.value.as_list();
        if items.is_none() {
            let complaint = Complaint::new(format!("must be a list of tables: write [[{key}]]"));
            self.error(&around.key(key), Some(list.at), complaint);
        }
        let open = move |(place, item): (usize, &'s Node<'t>)| {
            let Some(entries) = item.value.as_table() else {
                let complaint = Complaint::new("must be a table");
                self.error(&around.item(key, place, None), Some(item.at), complaint);
                return None;
            };
            let named = entries.get(name).and_then(|named| named.value.as_text());
            let path = around.item(key, place, named);
            Some(Table::open(self, path, entries, item.at, known))
        };
        items.unwrap_or_default().iter().enumerate().filter_map(open)
    }

    /// The file's top level as parsed.
    #[must_use]
    pub const fn tree(&self) -> &Entries<'t> {
        &self.tree
    }

    /// Whether a mistake has been noted.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.notes.report.borrow().has_errors()
    }

    /// Whether something is lacking.
    #[must_use]
    pub fn lacks_something(&self) -> bool {
        self.notes.report.borrow().lacks_something()
    }

    /// Ends reading.
    #[must_use]
    pub fn into_report(self) -> Report {
        self.notes.report.into_inner()
    }

    /// Notes an error about the value that begins at a byte; `None` if it is absent.
    pub fn error(&self, path: &Path<'_>, at: Option<usize>, complaint: Complaint) {
        self.notes.note(Severity::Error, at, path.to_string(), complaint);
    }

    /// Notes a warning about the value that begins at a byte.
    pub fn warning(&self, path: &Path<'_>, at: Option<usize>, complaint: Complaint) {
        self.notes.note(Severity::Warning, at, path.to_string(), complaint);
    }

    /// Notes that what the value that begins at a byte leads to is lacking.
    pub fn lacking(&self, path: &Path<'_>, at: Option<usize>, complaint: Complaint) {
        self.notes.note(Severity::Lacking, at, path.to_string(), complaint);
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
        self.notes.report.borrow_mut().note(Mistake { severity, origin, key, complaint });
    }
}

impl Notes<'_> {
    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let ends = self
            .line_ends
            .get_or_init(|| memchr::memchr_iter(b'\n', self.text.as_bytes()).collect());
        ends.partition_point(|end| *end < at) + 1
    }

    fn note(&self, severity: Severity, at: Option<usize>, key: String, complaint: Complaint) {
        let origin = Origin::File(at.map(|at| self.line(at)));
        self.report.borrow_mut().note(Mistake { severity, origin, key, complaint });
    }
}

/// The parser's words; they never quote a value, which may be a secret.
fn in_words(error: &ParseError) -> String {
    let mut words = error.description().trim().to_owned();
    let Some(expected) = error.expected() else { return words };
    let expected = expected.iter().map(|expected| match expected {
        Expected::Literal("\n") => "newline".to_owned(),
        Expected::Literal(literal) => format!("`{literal}`"),
        Expected::Description(what) => (*what).to_owned(),
        _ => "something else".to_owned(),
    });
    let expected = expected.collect::<Vec<_>>().join(", ");
    words.push_str(", expected ");
    words.push_str(if expected.is_empty() { "nothing" } else { &expected });
    words
}

/// Reads the text of a file that people write: `what`, of at most so many bytes. Blocks.
///
/// # Errors
/// When the file cannot be read or is larger.
pub fn read_text(path: &std::path::Path, what: &str, bytes_max: u64) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > bytes_max {
        let error = format!("it has {length} bytes, {what} at most {bytes_max}");
        return Err(std::io::Error::other(error));
    }
    std::fs::read_to_string(path)
}
