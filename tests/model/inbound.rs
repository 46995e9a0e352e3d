//! What must hold of the log of postbacks, whenever the disk is looked at: a conversion and each
//! step that a postback made in it are there with the postback, or neither is.

use std::collections::BTreeMap;

use postbackd::model::reasons::PostbackResult;
use postbackd::store::keys;
use postbackd::store::records::{ConversionRecord, decode_inbound_page};
use postbackd::store::schema::Table;

use crate::disk::Tables;

pub fn audit(disk: &Tables) {
    let mut written: BTreeMap<[u8; 16], (usize, usize)> = BTreeMap::new();
    for (key, value) in disk.of(Table::Inbound) {
        if keys::inbound_page_of(key).is_none() {
            let (_, row) = keys::inbound_click_of(key).expect("leads to a row");
            let page = disk.of(Table::Inbound).get(&keys::inbound_page(&row.page)[..]);
            assert!(page.is_some(), "a page came later than what leads to it");
            continue;
        }
        for row in decode_inbound_page(value).expect("decodes") {
            let conversion = row.head.conversion;
            match row.head.result() {
                Some(PostbackResult::Accepted) => {
                    written.entry(conversion.expect("a conversion")).or_default().0 += 1;
                }
                Some(PostbackResult::Updated) => {
                    written.entry(conversion.expect("a conversion")).or_default().1 += 1;
                }
                _ => {}
            }
        }
    }
    let conversions = disk.of(Table::Conversions);
    assert_eq!(written.len(), conversions.len(), "postbacks without conversion, or the reverse");
    for (key, value) in conversions {
        let record = ConversionRecord::decode(value).expect("decodes");
        let word = |reason: &str| reason.split('@').next() == Some("postback");
        let later = record.history.iter().skip(1).filter(|step| word(step.reason)).count();
        let written = written.get(&key[..]).copied();
        assert_eq!(written, Some((1, later)), "{:?}", record.history);
    }
}
