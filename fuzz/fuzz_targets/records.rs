//! Reads any bytes as each of the store's values; what can be read is written and read again.
//!
//! Run with `cargo fuzz run records`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::click_id::RecordId;
use postbackd::store::claim::ClaimSet;
use postbackd::store::keys;
use postbackd::store::postings::{Balances, postings};
use postbackd::store::records::{
    AuditRecord, Binding, CapsRecord, CatalogRecord, ChangeRecord, ClickRecord, ConversionRecord, Counted,
    ErasureRecord, LateClickRecord, PlaceRecord, PostingRecord, RatesRecord, RefusedRecord, SealRecord, SubRecord,
    begin_inbound_page, click_flags, click_of, decode_dedupe, decode_inbound_page, dedupe_minted_ms, encode_dedupe,
    encode_inbound, has_base_booked,
};

/// Those of an older version are written as of this one.
macro_rules! written_and_read_again {
    ($input:ident: $($record:ident)*) => {$(
        if let Ok(record) = $record::decode($input) {
            let mut again = Vec::new();
            record.encode(&mut again);
            assert_eq!($record::decode(&again), Ok(record));
        }
    )*};
}

fuzz_target!(|input: &[u8]| {
    written_and_read_again! {
        input: ClickRecord ConversionRecord RatesRecord CatalogRecord AuditRecord ErasureRecord
        PostingRecord SealRecord
        // What a conversion contributes is in the changes.
        PlaceRecord SubRecord CapsRecord ChangeRecord LateClickRecord RefusedRecord Counted
    }
    if let Ok(record) = ConversionRecord::decode(input) {
        let _ = (record.status(), record.flags().count(), ClaimSet::of_record(&record).bits(true));
        let (id, mut balances) = (RecordId::from_bytes(record.click), Balances::default());
        postings(id, &record).for_each(|posting| balances.add(&posting.record));
        let _ = (record.earned_in(*b"USD"), balances.total(*b"USD"));
    }
    if let Ok(rows) = decode_inbound_page(input) {
        let mut again = Vec::new();
        begin_inbound_page(&mut again);
        for row in &rows {
            let text = |out: &mut Vec<u8>| {
                out.extend_from_slice(row.text.as_bytes());
                row.flags
            };
            encode_inbound(&row.head, text, &mut again);
        }
        assert_eq!(decode_inbound_page(&again), Ok(rows));
    }
    if let Ok(conversion) = decode_dedupe(input) {
        assert_eq!(encode_dedupe(conversion), input);
        assert_eq!(dedupe_minted_ms(input), Some(conversion.time_ms()));
    }
    if let Ok(binding) = Binding::decode(input) {
        assert_eq!(binding.encode(), input);
    }
    let _ = (click_flags(input), has_base_booked(input), click_of(input), Counted::has_cap_sums(input));
    if let Some(key) = keys::AuditKey::decode(input) {
        assert_eq!(key.encode(), input);
    }
    if let Some(subject) = keys::erasure_of(input) {
        assert_eq!(keys::erasure(subject), input);
    }
    let _ = keys::customer_and_conversion(input);
    let _ = (keys::record(input), keys::conversion_of(input), keys::numbered_id(input));
    let _ = keys::owned_offer(input);
    let _ = (keys::rates_day(input), keys::PostingKey::decode(input), keys::seal_of(input));
    let _ = (keys::place_of(input), keys::sub_of(input), keys::cap_sums_of(input), keys::refused_of(input));
    let _ = (keys::change_of(input), keys::late_click_of(input), keys::to_price_of(input));
    let _ = (keys::catalog_version_of(input), keys::catalog_chunk_of(input));
    let _ = (keys::inbound_page_of(input), keys::inbound_click_of(input));
});
