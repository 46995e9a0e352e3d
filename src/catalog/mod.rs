//! The catalog: advertisers, offers, affiliates and links. [`parse`] checks a file whole,
//! [`Checked::into_catalog`] gives its offers and affiliates their numbers, and [`Catalog`] is
//! what flows look things up in. `docs/catalog.md` lists the keys.

mod check;
mod file;
mod file_money;
mod file_offer;
mod snapshot;
mod source;
mod template;

#[cfg(test)]
mod tests;

pub use check::parse;
pub use file_offer::{NetworkDefaults, PASS_PARAMS_MAX};
pub use snapshot::{
    Advertiser, Affiliate, Catalog, Checked, Counts, Event, Late, Numbers, NumbersError, Offer,
    Override, Repeat, Terms, Trust,
};
pub use source::{CatalogSource, LoadError};
pub use template::{Macro, MacroValues, Slot, Template, TemplateError};
