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

#[cfg(test)]
mod tests {
    use super::super::RocksEngine;
    use super::super::engine::Direction;
    use super::super::keys;
    use super::super::records::{Earned, HistoryEntry};
    use super::*;
    use crate::model::reasons::NEGATIVE_EVENT;
    use crate::model::status::Status;

    /// More refunds than one commit changes.
    const REFUNDS: u64 = OWN_IDS_CHANGES_PER_COMMIT_MAX as u64;

    fn of<'a>(event: &'static str, txn_id: &'a str) -> ConversionRecord<'a> {
        let claim = Claim::Transaction { advertiser: "acme", event, txn_id };
        let claims = ClaimSet::new(claim, None).bits(false);
        ConversionRecord { advertiser: "acme", event, txn_id, claims, ..Default::default() }
    }

    /// A sale with a transaction, and refunds of it as builds of format 3 kept them: one by the
    /// sale's transaction, the others by their own IDs.
    fn store_of_then(engine: &RocksEngine) {
        let mut batch = Batch::default();
        let mut put = |id: RecordId, record: &ConversionRecord<'_>| {
            for claim in ClaimSet::of_record(record).hard() {
                let value = id.as_bytes();
                batch.put(Table::Dedupe, &claim.store_key().0, |out| out.extend(value));
            }
            batch.put(Table::Conversions, id.as_bytes(), |out| record.encode(out));
        };
        let sale = RecordId::from_bytes(keys::first_at(1));
        put(sale, &of("sale", "T-1"));
        let sale = sale.to_text();
        let earned = Earned::default();
        let step = HistoryEntry::new(Status::Approved, 1, None, earned, NEGATIVE_EVENT);
        for number in 1..=REFUNDS {
            let txn_id = format!("T-{number}");
            let mut refund = of("refund", &txn_id);
            refund.params = vec![("note", "x"), ("reverses", sale.as_str())];
            refund.history.push(step);
            put(RecordId::from_bytes(keys::first_at(1 + number)), &refund);
        }
        engine.append(&batch).expect("written");
    }

    fn all(engine: &RocksEngine, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let scanned =
            engine.scan(table, &[], &keys::KEY_END, Direction::Ascending, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            });
        scanned.expect("readable");
        rows
    }

    #[test]
    fn own_ids_are_set_apart_in_several_commits_and_by_several_starts_the_same() {
        let engine = |folder: &tempfile::TempDir| {
            let engine = RocksEngine::open(folder.path(), 8 << 20).expect("opens");
            store_of_then(&engine);
            engine
        };
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [at_once, in_pieces] = folders.each_ref().map(engine);
        let end = keys::first_at(2 + REFUNDS);
        set_apart(&at_once, &end).expect("set apart");
        for ended_at in [1, REFUNDS / 3, REFUNDS, 2 + REFUNDS] {
            set_apart(&in_pieces, &keys::first_at(ended_at)).expect("set apart");
        }
        for table in [Table::Conversions, Table::Dedupe] {
            assert_eq!(all(&at_once, table), all(&in_pieces, table));
        }
        let mut own = 0;
        for (_, value) in all(&at_once, Table::Conversions) {
            let record = ConversionRecord::decode(&value).expect("readable");
            let claim = ClaimSet::of_record(&record).hard().next().expect("a claim");
            let is_own = matches!(claim, Claim::Reversal { .. });
            assert_eq!(is_own, record.is_negative() && record.txn_id != "T-1", "{record:?}");
            own += u64::from(is_own);
        }
        assert_eq!(own, REFUNDS - 1);
        // Those of the sale and of the refund by its transaction; others are filed afterwards.
        assert_eq!(all(&at_once, Table::Dedupe).len(), 2);
    }
}
