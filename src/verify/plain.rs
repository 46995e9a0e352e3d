//! Records that stand for themselves: clicks, the catalog with its numbers and rates, `meta` and
//! the audit log in it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use serde_json::value::RawValue;

use super::{Report, VerifyError};
use crate::model::ids::is_id;
use crate::store::keys::{self, AuditKey, Numbered};
use crate::store::records::{AuditRecord, CatalogRecord, ClickRecord, ErasureRecord, RatesRecord};
use crate::store::schema::Table;
use crate::store::{View, days_to_price};

const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

pub fn walk(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    clicks(view, report)?;
    catalog(view, report)?;
    for of in [Numbered::Offer, Numbered::Affiliate] {
        numbers(view, of, report)?;
    }
    owners(view, report)?;
    meta(view, report)
}

fn clicks(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    view.scan(Table::Clicks, &[], &keys::KEY_END, &mut |key, value| {
        report.count(Table::Clicks.name());
        if keys::record(key).is_none() {
            report.fault(Table::Clicks, key, "the key is no record ID");
        }
        if let Err(error) = ClickRecord::decode(value) {
            report.fault(Table::Clicks, key, error.to_string());
        }
        CONTINUE
    })?;
    Ok(())
}

fn catalog(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let (versions, rates) = (keys::catalog_versions(), keys::rates_range());
    view.scan(Table::Catalog, &versions.0, &versions.1, &mut |key, value| {
        report.count(Table::Catalog.name());
        if keys::catalog_version_of(key).is_none() {
            report.fault(Table::Catalog, key, "the key names no version");
        }
        if let Err(error) = CatalogRecord::decode(value) {
            report.fault(Table::Catalog, key, error.to_string());
        }
        CONTINUE
    })?;
    view.scan(Table::Catalog, &rates.0, &rates.1, &mut |key, value| {
        report.count(Table::Catalog.name());
        if keys::rates_day(key).is_none() {
            report.fault(Table::Catalog, key, "the key names no day");
        }
        if let Err(error) = RatesRecord::decode(value) {
            report.fault(Table::Catalog, key, error.to_string());
        }
        CONTINUE
    })?;
    Ok(())
}

/// Each number stands for one ID. There are no more than fit a click ID, so they fit into memory.
fn numbers(view: &View<'_>, of: Numbered, report: &mut Report) -> Result<(), VerifyError> {
    let (from, to) = keys::number_range(of);
    let mut taken = HashSet::new();
    view.scan(Table::Catalog, &from, &to, &mut |key, value| {
        report.count(Table::Catalog.name());
        if keys::numbered_id(key).is_none() {
            report.fault(Table::Catalog, key, "the key holds no ID");
        }
        match <[u8; 4]>::try_from(value) {
            Ok(number) if taken.insert(number) => {}
            Ok(_) => report.fault(Table::Catalog, key, "the number stands for another ID, too"),
            Err(_) => report.fault(Table::Catalog, key, "the value is no number"),
        }
        CONTINUE
    })?;
    Ok(())
}

/// Whose an offer is, is kept of offers that have a number.
fn owners(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let (from, to) = keys::owners();
    let mut offers = Vec::new();
    view.scan(Table::Catalog, &from, &to, &mut |key, value| {
        report.count(Table::Catalog.name());
        if !std::str::from_utf8(value).is_ok_and(is_id) {
            report.fault(Table::Catalog, key, "the value names no advertiser");
        }
        offers.push(key.to_vec());
        CONTINUE
    })?;
    for key in offers {
        let number = keys::owned_offer(&key).map(|offer| view.offer_number(offer)).transpose()?;
        if number.flatten().is_none() {
            report.fault(Table::Catalog, &key, "the offer has no number");
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
    erasures(view, report)?;
    to_price(view, report)?;
    audit(view, report)
}

fn to_price(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let (from, to) = keys::all_to_price();
    view.scan(Table::Meta, from, to, &mut |key, value| {
        report.count(Table::Meta.name());
        if keys::to_price_of(key).is_none() {
            report.fault(Table::Meta, key, "the key names no commit of rates");
        }
        if days_to_price(value).is_none() {
            report.fault(Table::Meta, key, "the value is no list of days");
        }
        CONTINUE
    })?;
    Ok(())
}

fn erasures(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let (from, to) = keys::erasures();
    view.scan(Table::Meta, from, to, &mut |key, value| {
        report.count(Table::Meta.name());
        if keys::erasure_of(key).is_none() {
            report.fault(Table::Meta, key, "the key names nobody whose data are erased");
        }
        if let Err(error) = ErasureRecord::decode(value) {
            report.fault(Table::Meta, key, error.to_string());
        }
        CONTINUE
    })?;
    Ok(())
}

fn audit(view: &View<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let (from, to) = keys::all_audit();
    view.scan(Table::Meta, &from, &to, &mut |key, value| {
        report.count("audit");
        if AuditKey::decode(key).is_none() {
            report.fault(Table::Meta, key, "the key is none of the audit log");
        }
        match AuditRecord::decode(value) {
            Ok(record) if serde_json::from_str::<&RawValue>(record.details).is_err() => {
                report.fault(Table::Meta, key, "the details are no JSON");
            }
            Ok(_) => {}
            Err(error) => report.fault(Table::Meta, key, error.to_string()),
        }
        CONTINUE
    })?;
    Ok(())
}
