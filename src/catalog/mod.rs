//! Advertisers, offers, affiliates and links: read from a file, checked whole, swapped whole.

mod check;
mod snapshot;
mod source;
mod template;

pub use check::{Checked, NetworkDefaults, parse};
pub use snapshot::{
    Advertiser, Affiliate, Catalog, Counts, Event, Late, MissingNumber, Offer, Repeat,
};
pub use source::{CatalogSource, LoadError};
pub use template::{Macro, MacroValues, Template, TemplateError};
