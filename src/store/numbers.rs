//! Offer and affiliate numbers: assigned once, kept forever, never given to another.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Engine, EngineError};
use super::keys::{self, Numbered};
use super::schema::Table;
use super::{ChangeError, ReadError, Store};
use crate::limits::{RESTORE_NUMBERS_SKIPPED, RESTORE_NUMBERS_SPREAD};
use crate::model::ids::{AffiliateNumber, NUMBER_MAX, OfferNumber};

/// Why numbers could not be assigned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NumbersError {
    /// The store could not be read or written.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// More than 16,777,215 of one kind.
    #[error("there are no numbers left")]
    Exhausted,
}

/// The numbers of all offers and affiliates that ever were in the catalog.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    offers: HashMap<String, u32>,
    affiliates: HashMap<String, u32>,
    from: NumbersFrom,
}

/// The lowest numbers that may be given, of offers and of affiliates: those below may have been
/// given in a time of which a restored store knows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumbersFrom([u32; 2]);

impl NumbersFrom {
    pub(super) fn encode(self) -> [u8; 8] {
        let [offers, affiliates] = self.0;
        (u64::from(offers) << 32 | u64::from(affiliates)).to_be_bytes()
    }

    fn decode(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, rest @ ..] = bytes;
        Self([u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(rest)])
    }
}

impl Numbers {
    /// The number of an offer, if it has one.
    #[must_use]
    pub fn offer(&self, id: &str) -> Option<OfferNumber> {
        self.offers.get(id).copied().and_then(OfferNumber::new)
    }

    /// The number of an affiliate, if it has one.
    #[must_use]
    pub fn affiliate(&self, id: &str) -> Option<AffiliateNumber> {
        self.affiliates.get(id).copied().and_then(AffiliateNumber::new)
    }

    /// The numbers that a new store gives, for those who have none.
    #[must_use]
    pub fn assigned<'i>(
        offers: impl Iterator<Item = &'i str>,
        affiliates: impl Iterator<Item = &'i str>,
    ) -> Self {
        let number = |ids: &mut dyn Iterator<Item = &'i str>| {
            ids.zip(1..=NUMBER_MAX).map(|(id, number)| (id.to_owned(), number)).collect()
        };
        let (mut offers, mut affiliates) = (offers, affiliates);
        let (offers, affiliates) = (number(&mut offers), number(&mut affiliates));
        Self { offers, affiliates, from: NumbersFrom::default() }
    }

    fn of(&mut self, kind: Numbered) -> &mut HashMap<String, u32> {
        match kind {
            Numbered::Offer => &mut self.offers,
            Numbered::Affiliate => &mut self.affiliates,
        }
    }

    pub(super) fn read(engine: &dyn Engine) -> Result<Self, EngineError> {
        let from = engine.value(Table::Meta, keys::META_NUMBERS_FROM)?;
        let from = match from.map(|bytes| bytes.try_into()) {
            None => NumbersFrom::default(),
            Some(Ok(bytes)) => NumbersFrom::decode(bytes),
            Some(Err(_)) => return Err(EngineError("meta is damaged at numbers_from".into())),
        };
        let mut numbers = Self { from, ..Self::default() };
        for kind in [Numbered::Offer, Numbered::Affiliate] {
            let (from, to) = keys::number_range(kind);
            engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |key, value| {
                if let (Some(id), Ok(number)) = (keys::numbered_id(key), value.try_into()) {
                    numbers.of(kind).insert(id.to_owned(), u32::from_be_bytes(number));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(numbers)
    }

    /// The lowest number that nobody of this kind has or had.
    fn next(&self, kind: Numbered) -> u32 {
        let (known, from) = match kind {
            Numbered::Offer => (&self.offers, self.from.0[0]),
            Numbered::Affiliate => (&self.affiliates, self.from.0[1]),
        };
        known.values().max().map_or(1, |highest| highest + 1).max(from)
    }

    /// As many numbers further on as may have been given since, or half of those that are left, if
    /// that is less; and by `chance` further still, for another store may go on from there, too.
    pub(super) fn skipped(&self, chance: u32) -> NumbersFrom {
        let beyond = |kind| {
            let next = self.next(kind);
            let next = next + RESTORE_NUMBERS_SKIPPED.min(NUMBER_MAX.saturating_sub(next) / 2);
            let spread = NUMBER_MAX.saturating_sub(next) / RESTORE_NUMBERS_SPREAD;
            next + chance % (spread + 1)
        };
        NumbersFrom([beyond(Numbered::Offer), beyond(Numbered::Affiliate)])
    }

    /// Gives each of `ids` that has none the next number; returns the new pairs.
    fn assign<'i>(
        &mut self,
        kind: Numbered,
        ids: impl Iterator<Item = &'i str>,
    ) -> Result<Vec<(&'i str, u32)>, NumbersError> {
        let mut next = self.next(kind);
        let known = self.of(kind);
        let mut assigned = Vec::new();
        for id in ids {
            if known.contains_key(id) {
                continue;
            }
            if next > NUMBER_MAX {
                return Err(NumbersError::Exhausted);
            }
            known.insert(id.to_owned(), next);
            assigned.push((id, next));
            next += 1;
        }
        Ok(assigned)
    }
}

impl Store {
    /// The numbers of these offers and affiliates and of all earlier ones; new ones are durable
    /// before this returns. Callers take turns: two catalogs are never numbered at once.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the numbers are used up.
    pub async fn assign_numbers<'i>(
        &self,
        offers: impl Iterator<Item = &'i str>,
        affiliates: impl Iterator<Item = &'i str>,
    ) -> Result<Numbers, NumbersError> {
        let read = self.readers.run(Numbers::read).await.map_err(ReadError::from);
        let mut numbers = read.map_err(ChangeError::from)?.map_err(ChangeError::from)?;
        for (kind, assigned) in [
            (Numbered::Offer, numbers.assign(Numbered::Offer, offers)?),
            (Numbered::Affiliate, numbers.assign(Numbered::Affiliate, affiliates)?),
        ] {
            self.change_each(&assigned, |batch, (id, number)| {
                let key = keys::number(kind, id);
                batch.put(Table::Catalog, &key, |out| out.extend(number.to_be_bytes()));
            })
            .await?;
        }
        Ok(numbers)
    }
}
