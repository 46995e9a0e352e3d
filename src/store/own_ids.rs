//! Negative events of stores of earlier formats: what they are counted once by.

use std::ops::ControlFlow;

use super::claim::{Claim, ClaimSet};
use super::engine::{Batch, Engine, EngineError};
use super::keys::RecordKey;
use super::records::ConversionRecord;
use super::schema::Table;
use crate::click_id::RecordId;
use crate::limits::OWN_IDS_CHANGES_PER_COMMIT_MAX;

/// Has the records of negative events below `to` say that they hold their own IDs. Builds of
/// format 3 had these be transactions, so that a refund sent again would be another one. Their rows
/// are to be filed anew; done twice, it changes nothing.
pub(super) fn set_apart(engine: &dyn Engine, to: &RecordKey) -> Result<(), EngineError> {
    let mut from = RecordKey::default();
    while from < *to {
        let (mut batch, mut next) = (Batch::default(), *to);
        engine.walk(Table::Conversions, &from, to, |key, value| {
            let Ok(key) = <RecordKey>::try_from(key) else { return Ok(ControlFlow::Continue(())) };
            if batch.len() >= OWN_IDS_CHANGES_PER_COMMIT_MAX {
                next = key;
                return Ok(ControlFlow::Break(()));
            }
            // What cannot be read is named by the filing that follows.
            let record = ConversionRecord::decode(value).ok();
            if let Some(record) = record.filter(|record| record.is_negative()) {
                set_apart_one(engine, &key, record, &mut batch)?;
            }
            Ok::<_, EngineError>(ControlFlow::Continue(()))
        })?;
        engine.append(&batch)?;
        from = next;
    }
    Ok(())
}

fn set_apart_one(
    engine: &dyn Engine,
    key: &RecordKey,
    mut record: ConversionRecord<'_>,
    batch: &mut Batch,
) -> Result<(), EngineError> {
    let Some(claimed @ Claim::Transaction { advertiser, event, txn_id }) =
        ClaimSet::of_record(&record).hard().next()
    else {
        return Ok(());
    };
    // What it has taken back comes behind what was sent, and was one conversion then.
    let reversed = record.params.last().and_then(|(_, id)| RecordId::parse(id.as_bytes()));
    let Some(reversed) = reversed else { return Ok(()) };
    let reversed = engine.value(Table::Conversions, reversed.as_bytes())?;
    let reversed = reversed.as_deref().and_then(|value| ConversionRecord::decode(value).ok());
    // One without an ID of its own has the transaction of what it takes back.
    if reversed.is_some_and(|reversed| reversed.txn_id != txn_id) {
        let own = Claim::Reversal { advertiser, event, reversal_id: txn_id };
        record.claims = ClaimSet::new(own, None).bits(false);
        batch.delete(Table::Dedupe, &claimed.store_key().0);
        batch.put(Table::Conversions, key, |out| record.encode(out));
    }
    Ok(())
}
