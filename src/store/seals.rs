//! Keeping the ledger's seals.

use super::engine::Batch;
use super::records::SealRecord;
use super::schema::Table;
use super::{Store, keys, rates::ChangeError};
use crate::model::ids::AffiliateNumber;
use crate::model::rate::Day;

impl Store {
    /// Keeps seals; durable when this returns. The same seals again change nothing.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn keep_seals(
        &self,
        seals: &[(AffiliateNumber, Day, SealRecord)],
    ) -> Result<(), ChangeError> {
        let put = |batch: &mut Batch| {
            for (affiliate, day, seal) in seals {
                batch.put(Table::Ledger, &keys::seal(*affiliate, *day), |out| seal.encode(out));
            }
        };
        self.change(put).await
    }
}
