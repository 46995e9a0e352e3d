//! The configuration: one TOML file, every key with a default, every key overridable by an
//! environment variable, all mistakes reported at once.

mod parse;
pub mod reader;
pub mod report;
mod types;

pub use parse::{all_keys, load};
pub use types::*;
