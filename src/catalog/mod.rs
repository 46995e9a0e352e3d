//! The catalog: advertisers, offers, affiliates and links. [`parse`] checks a file whole,
//! [`Checked::into_catalog`] gives its offers and affiliates their numbers, and [`Catalog`] is
//! what flows look things up in. [`CatalogSource`] brings one into force. `docs/catalog.md` lists
//! the keys.

mod check;
mod departed;
mod diff;
mod document;
mod events;
mod file;
mod file_auth;
mod file_caps;
mod file_fraud;
mod file_money;
mod file_offer;
mod listed;
mod once;
mod owners;
mod removed;
mod reopened;
mod retire;
mod secrets;
mod snapshot;
mod source;
mod statuses;
mod template;

#[cfg(test)]
mod tests;

pub use check::parse;
pub use diff::Diff;
pub use document::Document;
pub use file_offer::{NetworkDefaults, PASS_PARAMS_MAX};
pub use snapshot::{
    Advertiser, Affiliate, Catalog, Checked, Counts, Event, Late, Numbers, NumbersError, Offer,
    OfferAndAffiliate, Override, Repeat, Terms, Trust,
};
pub use source::{CatalogSource, Comparison, LoadError, Origin, Replaces, compared, version_text};
pub use template::{Macro, MacroValues, Slot, Template, TemplateError};
