//! Files that people write, read so that every mistake is found at once and none is guessed over.
//!
//! [`Source`] parses a TOML text, [`Table`] and [`Input`] read typed values out of it and note
//! what is wrong, [`Report`] shows the notes by line. The configuration and the catalog share it.

mod path;
mod report;
mod source;
mod suggest;
mod table;
pub mod units;
mod value;

pub use path::Path;
pub use report::{Complaint, Mistake, Origin, Report, Severity};
pub use source::Source;
pub use suggest::{closest, did_you_mean};
pub use table::Table;
pub use value::{Input, one_of};

#[cfg(test)]
mod tests;
