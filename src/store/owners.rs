//! Whose each offer is: kept for as long as its number. Claims, transactions and customers are an
//! advertiser's own, so under another one everything sent again would count anew, however long the
//! offer was out of the catalog. And how long its customers stay bound to it, by the last catalog that
//! had it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Engine, EngineError};
use super::keys;
use super::schema::Table;
use super::{ChangeError, ReadError, Store};

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
        Ok(self.readers.run(|engine| read(engine, keys::owners(), owner)).await??)
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
        self.change_each(&new, |batch, (offer, owner)| {
            let key = keys::owner(offer);
            batch.put(Table::Catalog, &key, |out| out.extend_from_slice(owner.as_bytes()));
        })
        .await
    }

    /// How long customers stay bound. Builds before this was kept have left none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn customer_windows(&self) -> Result<CustomerWindows, ReadError> {
        Ok(self.readers.run(|engine| read(engine, keys::customer_windows(), window)).await??)
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
        self.change_each(&new, |batch, (offer, window_ms)| {
            let key = keys::customer_window(offer);
            match window_ms {
                Some(ms) => batch.put(Table::Catalog, &key, |out| out.extend(ms.to_be_bytes())),
                None => batch.delete(Table::Catalog, &key),
            }
        })
        .await
    }
}

/// What is kept of offers, by their IDs, as `of` finds it in a row.
fn read<T>(
    engine: &dyn Engine,
    (from, to): ([u8; 1], [u8; 1]),
    of: impl Fn(&[u8], &[u8]) -> Option<(String, T)>,
) -> Result<HashMap<String, T>, EngineError> {
    let mut kept = HashMap::new();
    engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |key, value| {
        // What is damaged is for `verify` to name, and written anew with the next catalog.
        kept.extend(of(key, value));
        ControlFlow::Continue(())
    })?;
    Ok(kept)
}

fn owner(key: &[u8], value: &[u8]) -> Option<(String, String)> {
    let owner = std::str::from_utf8(value).ok()?;
    Some((keys::owned_offer(key)?.to_owned(), owner.to_owned()))
}

fn window(key: &[u8], value: &[u8]) -> Option<(String, u64)> {
    let window_ms = u64::from_be_bytes(value.try_into().ok()?);
    Some((keys::windowed_offer(key)?.to_owned(), window_ms))
}
