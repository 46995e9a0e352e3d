//! Records that stand for themselves: clicks, the catalog with its numbers and rates, `meta` and
//! the audit log in it.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use serde_json::value::RawValue;

use super::{Report, VerifyError};
use crate::model::ids::is_id;
use crate::store::keys::{self, AuditKey, Numbered};
use crate::store::records::{
    AuditRecord, CatalogRecord, ClickRecord, ErasureRecord, RatesRecord, RecordError,
};
use crate::store::schema::Table;
use crate::store::{View, days_to_price};

const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

pub fn walk(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let clicks = (Table::Clicks, &[][..], &keys::KEY_END[..]);
    rows(view, report, Table::Clicks.name(), clicks, |key, value| {
        let is_key = keys::record(key).is_some();
        [unless(is_key, "the key is no record ID"), error(ClickRecord::decode(value))]
    })?;
    catalog(view, report)?;
    for of in [Numbered::Offer, Numbered::Affiliate] {
        numbers(view, of, report)?;
    }
    let (from, to) = keys::owners();
    of_offers(view, report, (&from, &to), keys::owned_offer, |value| {
        unless(std::str::from_utf8(value).is_ok_and(is_id), "the value names no advertiser")
    })?;
    let (from, to) = keys::customer_windows();
    of_offers(view, report, (&from, &to), keys::windowed_offer, |value| {
        unless(value.len() == 8, "the value is no time")
    })?;
    meta(view, report)
}

/// Counts the rows of a range; `faults` says what is wrong with the key and the value of one.
fn rows(
    view: &View<'_>,
    report: &mut Report,
    what: &'static str,
    (table, from, to): (Table, &[u8], &[u8]),
    mut faults: impl FnMut(&[u8], &[u8]) -> [Option<String>; 2],
) -> Result<(), VerifyError> {
    view.scan(table, from, to, &mut |key, value| {
        report.count(what);
        faults(key, value).into_iter().flatten().for_each(|fault| report.fault(table, key, fault));
        CONTINUE
    })?;
    Ok(())
}

fn unless(is_right: bool, fault: &str) -> Option<String> {
    (!is_right).then(|| fault.to_owned())
}

fn error<T>(decoded: Result<T, RecordError>) -> Option<String> {
    decoded.err().map(|error| error.to_string())
}

fn catalog(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let (table, (from, to)) = (Table::Catalog, keys::catalog_versions());
    let mut versions = Versions::new();
    rows(view, report, table.name(), (table, &from, &to), |key, value| {
        let (sequence, record) = (keys::catalog_version_of(key), CatalogRecord::decode(value));
        versions.extend(sequence.map(|sequence| (sequence, record.ok())));
        [unless(sequence.is_some(), "the key names no version"), error(record)]
    })?;
    texts(view, &versions, report)?;
    let (from, to) = keys::rates_range();
    rows(view, report, table.name(), (table, &from, &to), |key, value| {
        let is_key = keys::rates_day(key).is_some();
        [unless(is_key, "the key names no day"), error(RatesRecord::decode(value))]
    })
}

/// What is known of each version, if it decodes, by the order in which they came.
type Versions = BTreeMap<u64, Option<CatalogRecord>>;

/// The version of a catalog is the hash of its text. The oldest may have lost theirs; from the first
/// that is there on, each has its own.
fn texts(view: &View<'_>, versions: &Versions, report: &mut Report) -> Result<(), VerifyError> {
    let newest = versions.last_key_value().map(|(sequence, _)| *sequence);
    let mut texts: BTreeMap<u64, blake3::Hasher> =
        newest.map(|it| (it, <_>::default())).into_iter().collect();
    let (from, to) = (keys::catalog_chunk(0, 0), keys::catalog_chunk(u64::MAX, u32::MAX));
    view.scan(Table::Catalog, &from, &to, &mut |key, piece| {
        report.count(Table::Catalog.name());
        match keys::catalog_chunk_of(key) {
            None => report.fault(Table::Catalog, key, "the key names no version"),
            Some(sequence) if versions.contains_key(&sequence) => {
                texts.entry(sequence).or_default().update(piece);
            }
            // An attempt that was cut short has left it; the next one begins with its removal.
            Some(sequence) if newest.is_none_or(|newest| newest < sequence) => {}
            Some(_) => report.fault(Table::Catalog, key, "there is no such version"),
        }
        CONTINUE
    })?;
    let first = texts.first_key_value().map_or(u64::MAX, |(sequence, _)| *sequence);
    for (sequence, record) in versions.range(first..) {
        let text = texts.remove(sequence).unwrap_or_default();
        // One that does not decode is named already.
        let Some(record) = record else { continue };
        if (text.count(), CatalogRecord::version_of(&text)) != (record.text_bytes, record.version) {
            let key = keys::catalog_version(*sequence);
            report.fault(Table::Catalog, &key, "its text is not there, or another one");
        }
    }
    Ok(())
}

/// Each number stands for one ID. There are no more than fit a click ID, so they fit into memory.
fn numbers(view: &View<'_>, of: Numbered, report: &mut Report) -> Result<(), VerifyError> {
    let (table, (from, to)) = (Table::Catalog, keys::number_range(of));
    let mut taken = HashSet::new();
    rows(view, report, table.name(), (table, &from, &to), |key, value| {
        let is_key = keys::numbered_id(key).is_some();
        let number = match <[u8; 4]>::try_from(value) {
            Ok(number) => unless(taken.insert(number), "the number stands for another ID, too"),
            Err(_) => Some("the value is no number".to_owned()),
        };
        [unless(is_key, "the key holds no ID"), number]
    })
}

/// What is kept by offer is kept of offers that have a number; `wrong` says what is wrong with a
/// value.
fn of_offers(
    view: &View<'_>,
    report: &mut Report,
    (from, to): (&[u8], &[u8]),
    offer_of: fn(&[u8]) -> Option<&str>,
    wrong: fn(&[u8]) -> Option<String>,
) -> Result<(), VerifyError> {
    let (table, mut keys) = (Table::Catalog, Vec::new());
    rows(view, report, table.name(), (table, from, to), |key, value| {
        keys.push(key.to_vec());
        [wrong(value), None]
    })?;
    for key in keys {
        let number = offer_of(&key).map(|offer| view.offer_number(offer)).transpose()?;
        if number.flatten().is_none() {
            report.fault(table, &key, "the offer has no number");
        }
    }
    Ok(())
}

fn meta(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let wanted = [
        (keys::META_FORMAT, 4, true),
        (keys::META_STARTS, 8, true),
        (keys::META_CLICK_KEY, 32, true),
        (keys::META_FILED, 16, true),
        (keys::META_EXPIRED, 16, false),
        (keys::META_EXPIRED_CLICKS, 16, false),
        (keys::META_RETENTION_TIME, 16, false),
        (keys::META_NUMBERS_FROM, 8, false),
        (keys::META_UNSEALED, 4, false),
    ];
    for (key, bytes, required) in wanted {
        match view.get(Table::Meta, key)? {
            Some(value) => {
                report.count(Table::Meta.name());
                if value.len() != bytes {
                    report.fault(Table::Meta, key, format!("the value has not {bytes} bytes"));
                }
            }
            None if required => report.fault(Table::Meta, key, "is missing"),
            None => {}
        }
    }
    let (table, (from, to)) = (Table::Meta, keys::erasures());
    rows(view, report, table.name(), (table, from, to), |key, value| {
        let is_key = keys::erasure_of(key).is_some();
        let wrong_key = unless(is_key, "the key names nobody whose data are erased");
        [wrong_key, error(ErasureRecord::decode(value))]
    })?;
    let (from, to) = keys::all_to_price();
    rows(view, report, table.name(), (table, from, to), |key, value| {
        let is_key = keys::to_price_of(key).is_some();
        let days = unless(days_to_price(value).is_some(), "the value is no list of days");
        [unless(is_key, "the key names no commit of rates"), days]
    })?;
    let (from, to) = keys::all_audit();
    rows(view, report, "audit", (table, &from, &to), |key, value| {
        let is_json = |text| serde_json::from_str::<&RawValue>(text).is_ok();
        let wrong = match AuditRecord::decode(value) {
            Ok(record) => unless(is_json(record.details), "the details are no JSON"),
            Err(error) => Some(error.to_string()),
        };
        [unless(AuditKey::decode(key).is_some(), "the key is none of the audit log"), wrong]
    })
}
