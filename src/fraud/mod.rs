//! Fraud rules: conversions that look wrong are flagged or rejected, as their offer says.
//!
//! `rules` is what the catalog says and judges by it; `agents` knows programs by their user
//! agents. What has to be counted over some time is counted in memory (`watch`), in tables of a
//! fixed size (`table`) of counts that slide (`sliding`): visitors choose the keys, so a table that
//! is full forgets, and what is forgotten is not suspected. `report` sums up what the rules have
//! hit.

mod agents;
mod report;
mod rules;
mod sliding;
mod table;
mod watch;

pub use report::{Outcomes, Report, Row, Worth};
pub use rules::{ConversionRate, Flood, Fraud};
pub use sliding::{SLICES, Sliding, slice_ms};
pub use table::{Kept, Table};
pub use watch::{Converting, Visit, Watch};
