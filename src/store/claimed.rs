//! Who holds a claim, and what a customer is bound to.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::claim::Claim;
use super::engine::{Direction, Engine, Lookup};
use super::records::{self, Binding, ConversionRecord, RecordError};
use super::schema::Table;
use super::{ReadError, Store, StoredConversion, keys};
use crate::click_id::RecordId;

impl Store {
    /// The conversion that holds a claim.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn find_claim(&self, claim: &Claim<'_>) -> Result<Option<RecordId>, ReadError> {
        let key = claim.store_key().0;
        let found = match claim.table() {
            Table::Customers => self.read(Table::Customers, key, conversion_of_binding).await?,
            table => self.read(table, key, records::decode_dedupe).await?,
        };
        Ok(found.transpose()?)
    }

    /// Whether a conversion holds a claim, as far as memory knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find_claim_now(&self, claim: &Claim<'_>) -> Result<Lookup<()>, ReadError> {
        self.look(claim.table(), &claim.store_key().0, |_| ())
    }

    /// What a customer is bound to, once that is filed.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn binding(&self, customer: &Claim<'_>) -> Result<Option<Binding>, ReadError> {
        let key = customer.store_key().0;
        Ok(self.read(Table::Customers, key, Binding::decode).await?.transpose()?)
    }

    /// A conversion's click, as far as memory knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn click_of_conversion_now(&self, id: RecordId) -> Result<Lookup<RecordId>, ReadError> {
        Ok(match self.look(Table::Conversions, id.as_bytes(), records::click_of)? {
            Lookup::Found(Some(click)) => Lookup::Found(click),
            Lookup::Found(None) => return Err(RecordError::Corrupt.into()),
            Lookup::Absent => Lookup::Absent,
            Lookup::Unknown => Lookup::Unknown,
        })
    }

    /// The conversions of one or more customers, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn conversions_of_customers(
        &self,
        customers: impl Iterator<Item = Claim<'_>>,
        limit: usize,
    ) -> Result<Vec<StoredConversion>, ReadError> {
        let customers: BTreeSet<_> = customers.map(|customer| customer.store_key()).collect();
        // Rows of conversions that were let go stay until they are compacted.
        let gone_below = self.expired().conversions;
        // Looked at before the index: what is filed meanwhile is seen twice, never not at all.
        let filed_below = self.filing.below();
        let read = move |engine: &dyn Engine| {
            let mut ids = BTreeSet::new();
            let until_full = |ids: &BTreeSet<RecordId>| {
                if ids.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            for customer in &customers {
                let (_, to) = keys::of_customer_range(*customer);
                let from = keys::of_customer(*customer, RecordId::from_bytes(gone_below));
                engine.scan(
                    Table::Customers,
                    &from,
                    &to,
                    Direction::Ascending,
                    &mut |key, _| {
                        let found = keys::customer_and_conversion(key);
                        ids.extend(found.map(|(_, conversion)| conversion));
                        until_full(&ids)
                    },
                )?;
            }
            // What the index does not know yet.
            let (table, to) = (Table::Conversions, keys::KEY_END);
            engine.scan(table, &filed_below, &to, Direction::Ascending, &mut |key, value| {
                // One that does not decode is nobody's.
                let record = ConversionRecord::decode(value);
                let named =
                    record.ok().and_then(|it| Claim::customer_of(&it).map(|it| it.store_key()));
                if named.is_some_and(|named| customers.contains(&named)) {
                    ids.extend(keys::record(key));
                }
                until_full(&ids)
            })?;
            Ok::<_, ReadError>(ids)
        };
        let mut conversions = Vec::new();
        for id in self.readers.run(read).await?? {
            // Gone, if its time is over.
            conversions.extend(self.conversion(id).await?);
        }
        Ok(conversions)
    }
}

fn conversion_of_binding(bytes: &[u8]) -> Result<RecordId, RecordError> {
    Binding::decode(bytes).map(|binding| binding.conversion)
}
