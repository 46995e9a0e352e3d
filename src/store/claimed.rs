//! Who holds a claim, and what a customer is bound to.

use super::claim::Claim;
use super::engine::Lookup;
use super::records::{self, Binding, RecordError};
use super::schema::Table;
use super::{ReadError, Store};
use crate::click_id::RecordId;

impl Store {
    /// The conversion that holds a claim.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn find_claim(&self, claim: &Claim<'_>) -> Result<Option<RecordId>, ReadError> {
        if claim.is_soft() {
            return Ok(self.binding(claim).await?.map(|binding| binding.conversion));
        }
        let key = claim.store_key().0;
        Ok(self.read(claim.table(), key, records::decode_dedupe).await?.transpose()?)
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
}
