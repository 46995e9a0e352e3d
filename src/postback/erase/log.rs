//! Erasing a person from the log of postbacks as received.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::garbled::says;
use super::{ChangeError, Erasing, patiently};
use crate::catalog::Catalog;
use crate::click_id::RecordId;
use crate::dedup::Claim;
use crate::limits::{
    ERASED_AT_ONCE_MAX, ERASED_CLICKS_KEPT_MAX, ERASED_CONVERSIONS_KEPT_MAX, PAGE_ROWS_MAX,
    REPROCESS_REST, TXN_ID_BYTES_MAX,
};
use crate::model::fields::Field;
use crate::model::hex::hex;
use crate::store::keys::{self, DedupeKey, Subject};
use crate::store::records::{ConversionRecord, InboundRow, inbound_flags};
use crate::store::schema::Table;
use crate::store::{FoundInbound, InboundFilter};

impl Erasing<'_> {
    /// The postbacks that made and changed conversions. What has had no further step since it was
    /// looked for needs no second look.
    pub(super) async fn behind(
        &mut self,
        conversions: &[(RecordId, ConversionRecord<'_>)],
    ) -> Result<(), ChangeError> {
        let mut wanted = Vec::with_capacity(conversions.len());
        for (id, record) in conversions {
            let steps_ms = record.steps_by_postback_ms();
            let steps: usize = steps_ms.values().sum();
            let before = self.looked_for.get(id);
            if before == Some(&steps) {
                continue;
            }
            if before.is_some() || self.looked_for.len() < ERASED_CONVERSIONS_KEPT_MAX {
                self.looked_for.insert(*id, steps);
            }
            wanted.push((*id, steps_ms));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let store = &self.postbacks.store;
        let find = async || store.inbound_of_conversions(wanted.clone()).await;
        self.found.extend(patiently(find).await?);
        match self.found.rows.len() < ERASED_AT_ONCE_MAX {
            true => Ok(()),
            false => self.blank().await,
        }
    }

    /// Has the postbacks that name a click looked for: once, however many conversions it has.
    pub(super) async fn look_for(&mut self, click: RecordId) -> Result<(), ChangeError> {
        self.named.insert(click);
        match self.named.len() < ERASED_CLICKS_KEPT_MAX {
            true => Ok(()),
            false => self.by_clicks().await,
        }
    }

    /// The postbacks that made nothing and name a click: those that were refused, and those that
    /// repeated a conversion which is meant.
    pub(super) async fn by_clicks(&mut self) -> Result<(), ChangeError> {
        let store = &self.postbacks.store;
        for click in std::mem::take(&mut self.named) {
            if self.at_ms.is_none() {
                break;
            }
            let mut found = patiently(async || store.inbound_of_click(click).await).await?;
            let rows = std::mem::take(&mut found.rows);
            self.found.extend(found);
            let mut judged = HashMap::new();
            for stored in rows {
                let is_meant = match stored.row()?.head.conversion {
                    None => true,
                    Some(id) => match judged.get(&id) {
                        Some(is_meant) => *is_meant,
                        None => {
                            let is_meant = self.means(RecordId::from_bytes(id)).await?;
                            judged.insert(id, is_meant);
                            is_meant
                        }
                    },
                };
                if is_meant {
                    self.found.rows.push(stored);
                }
            }
            if self.found.rows.len() >= ERASED_AT_ONCE_MAX {
                self.blank().await?;
            }
        }
        self.blank().await
    }

    /// Whether a conversion of a click that is looked at is one that is erased with it. One that
    /// is gone or does not decode may have been: what repeated it proves little without it.
    async fn means(&mut self, conversion: RecordId) -> Result<bool, ChangeError> {
        let Subject::Customer(customer) = self.subject else { return Ok(true) };
        let store = &self.postbacks.store;
        let Some(stored) = patiently(async || store.conversion(conversion).await).await? else {
            return Ok(true);
        };
        let record = self.readable(&stored);
        let named = record.and_then(|record| record.customer_key());
        Ok(named.is_none_or(|named| named == customer))
    }

    /// Postbacks that name a customer, whatever click they name and whatever came of them, such as
    /// news of a conversion that names nobody: the log is looked through as a whole. Where one was
    /// blanked before, what was cut short has to be written out.
    pub(super) async fn log(
        &mut self,
        customer: DedupeKey,
        again: bool,
    ) -> Result<(), ChangeError> {
        let mut after = None;
        loop {
            // Anew for each page: caps that a new catalog brings are counted once the old one has gone.
            let catalog = self.postbacks.catalog.load_full();
            let filter: InboundFilter = Arc::new(move |row: &InboundRow<'_>| {
                let is_blank = row.flags & inbound_flags::ERASED != 0;
                if is_blank { again } else { names(row, customer, &catalog) }
            });
            let store = &self.postbacks.store;
            let read = async || {
                store.inbound(0, u64::MAX, after, PAGE_ROWS_MAX, Arc::clone(&filter)).await
            };
            let page = patiently(read).await?;
            self.found.rows = page.rows;
            self.found.damaged.extend(page.damaged);
            self.found.emptied.extend(page.emptied);
            self.blank().await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
            tokio::time::sleep(REPROCESS_REST).await;
        }
    }

    /// Blanks what was found. What does not decode may be of the person, and tells nobody
    /// anything.
    pub(super) async fn blank(&mut self) -> Result<(), ChangeError> {
        let FoundInbound { rows, damaged, emptied } = std::mem::take(&mut self.found);
        let store = &self.postbacks.store;
        // Those that were emptied before, too: a crash may have come before they were written out.
        emptied.iter().for_each(|page| self.touched.inbound(page));
        rows.iter().for_each(|stored| self.touched.inbound(&stored.id.page));
        self.arrivals += patiently(async || store.erase_inbound(&rows).await).await?;
        for page in damaged {
            if patiently(async || store.empty_inbound(page).await).await? {
                self.touched.inbound(&page);
            }
            self.damaged(Table::Inbound, hex(&keys::inbound_page(&page)));
        }
        Ok(())
    }
}

/// Whether a postback names a customer of the advertiser that it spoke for, by the names of today:
/// by any of its parameters, also behind one that cannot be read.
fn names(row: &InboundRow<'_>, customer: DedupeKey, catalog: &Catalog) -> bool {
    says(row, Field::CustomerId, catalog, |customer_id| {
        let advertiser = row.head.advertiser;
        let claim = Claim::Customer { advertiser, customer_id, windows: None };
        // Nobody has a longer one.
        customer_id.len() <= TXN_ID_BYTES_MAX && claim.store_key() == customer
    })
}
