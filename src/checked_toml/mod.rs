//! Files that people write, read so that every mistake is found at once and none is guessed over.
//!
//! [`Source`] parses a text in TOML, or in JSON of the same shape, [`Table`] and [`Input`] read typed values out of it and note
//! what is wrong, [`Report`] shows the notes by line. The configuration and the catalog share it.

mod moments;
mod path;
mod read_json;
mod read_toml;
mod report;
mod source;
mod suggest;
mod table;
pub mod tree;
pub mod units;
mod value;
mod write;

pub use moments::{end_ms, start_ms};
pub use path::Path;
pub use report::{Complaint, Mistake, Origin, Report, Severity};
pub use source::{Format, Source, read_text};
pub use suggest::{closest, did_you_mean};
pub use table::Table;
pub use value::{Input, one_of};
pub use write::{to_json, to_toml};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree_tests;
