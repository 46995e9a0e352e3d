//! Whose each offer is: kept for as long as its number. Claims, transactions and customers are an
//! advertiser's own, so under another one everything sent again would count anew, however long the
//! offer was out of the catalog. And how long its customers stay bound to it, by the last catalog that
//! had it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Engine, EngineError};
use super::keys;
use super::schema::Table;
use super::{ChangeError, ReadError, Store, View};
use crate::limits::NUMBERS_PER_COMMIT_MAX;

/// The advertiser of each offer that is or was in the catalog, by their IDs.
pub type OfferOwners = HashMap<String, String>;

/// How long customers stay bound to each offer that is or was in the catalog, milliseconds, by its
/// ID; for ever, if it is not in here.
pub type CustomerWindows = HashMap<String, u64>;

impl Store {
    /// Whose the offers are. Builds before this was kept have left none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn offer_owners(&self) -> Result<OfferOwners, ReadError> {
        Ok(self.readers.run(|engine| read(engine, |_| true)).await??)
    }

    /// Keeps whose the `offers` are, as (offer, advertiser), where `known` does not say so; durable
    /// before this returns. Callers take turns.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_offer_owners<'i>(
        &self,
        known: &OfferOwners,
        offers: impl Iterator<Item = (&'i str, &'i str)>,
    ) -> Result<(), ChangeError> {
        let is_new = |(offer, owner): &(&str, &str)| known.get(*offer).is_none_or(|o| o != owner);
        let new: Vec<_> = offers.filter(is_new).collect();
        for rows in new.chunks(NUMBERS_PER_COMMIT_MAX) {
            self.change(|batch| {
                for (offer, owner) in rows {
                    let key = keys::owner(offer);
                    batch.put(Table::Catalog, &key, |out| out.extend_from_slice(owner.as_bytes()));
                }
            })
            .await?;
        }
        Ok(())
    }

    /// How long customers stay bound. Builds before this was kept have left none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn customer_windows(&self) -> Result<CustomerWindows, ReadError> {
        Ok(self.readers.run(read_windows).await??)
    }

    /// Keeps how long customers stay bound to `offers`, where `known` does not say so, as
    /// [`Store::keep_offer_owners`] does.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_customer_windows<'i>(
        &self,
        known: &CustomerWindows,
        offers: impl Iterator<Item = (&'i str, Option<u64>)>,
    ) -> Result<(), ChangeError> {
        let new = offers.filter(|(offer, window_ms)| known.get(*offer) != window_ms.as_ref());
        let new: Vec<_> = new.collect();
        for rows in new.chunks(NUMBERS_PER_COMMIT_MAX) {
            self.change(|batch| {
                for (offer, window_ms) in rows {
                    let key = keys::customer_window(offer);
                    match window_ms {
                        Some(ms) => {
                            batch.put(Table::Catalog, &key, |out| out.extend(ms.to_be_bytes()))
                        }
                        None => batch.delete(Table::Catalog, &key),
                    }
                }
            })
            .await?;
        }
        Ok(())
    }
}

impl View<'_> {
    /// Whose those offers are that `is_wanted`, as [`Store::offer_owners`] says it.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn offer_owners(
        &self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<OfferOwners, EngineError> {
        read(self.engine(), is_wanted)
    }
}

fn read(engine: &dyn Engine, is_wanted: impl Fn(&str) -> bool) -> Result<OfferOwners, EngineError> {
    let (mut owners, (from, to)) = (OfferOwners::new(), keys::owners());
    engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |key, value| {
        // What is damaged is for `verify` to name, and written anew with the next catalog.
        if let (Some(offer), Ok(owner)) = (keys::owned_offer(key), std::str::from_utf8(value))
            && is_wanted(offer)
        {
            owners.insert(offer.to_owned(), owner.to_owned());
        }
        ControlFlow::Continue(())
    })?;
    Ok(owners)
}

fn read_windows(engine: &dyn Engine) -> Result<CustomerWindows, EngineError> {
    let (mut windows, (from, to)) = (CustomerWindows::new(), keys::customer_windows());
    engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |key, value| {
        // What is damaged is for `verify` to name.
        if let (Some(offer), Ok(ms)) = (keys::windowed_offer(key), value.try_into()) {
            windows.insert(offer.to_owned(), u64::from_be_bytes(ms));
        }
        ControlFlow::Continue(())
    })?;
    Ok(windows)
}
