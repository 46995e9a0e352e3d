//! Postbacks as received: each decodes and names a conversion that is there or was let go, and
//! what leads to one leads to one that names the click.

use super::conversions::each;
use super::{Report, VerifyError};
use crate::store::engine::{Direction, EngineError};
use crate::store::keys::{self, RecordKey};
use crate::store::records::{InboundForm, InboundHead, decode_inbound_page};
use crate::store::schema::Table;
use crate::store::{Expired, View};

/// Pages, and what leads to their rows, counted apart.
const ROWS: &str = "inbound_postbacks";

/// Walks over the log of postbacks.
pub fn walk(view: &View<'_>, expired: &Expired, report: &mut Report) -> Result<(), VerifyError> {
    let oldest = oldest_page(view)?;
    each(view, Table::Inbound, &mut |key, value| {
        report.count(Table::Inbound.name());
        if keys::inbound_page_of(key).is_some() {
            return page(view, expired, report, key, value);
        }
        let Some((click, row)) = keys::inbound_click_of(key).filter(|_| value.is_empty()) else {
            report.fault(Table::Inbound, key, "is neither a page nor a row that leads to one");
            return Ok(());
        };
        let Some(led) = view.get(Table::Inbound, &keys::inbound_page(&row.page))? else {
            // Pages go by the moment, what leads to them by the day.
            if oldest.is_none_or(|oldest| row.page < oldest) {
                report.expired += 1;
            } else {
                report.fault(Table::Inbound, key, "its page is not there");
            }
            return Ok(());
        };
        // A page that does not decode is named for it already; one that was is emptied by erasures.
        let names = decode_inbound_page(&led).map(|rows| {
            let led = rows.get(usize::from(row.row));
            rows.is_empty() || led.is_some_and(|led| led.head.click == Some(*click.as_bytes()))
        });
        if names == Ok(false) {
            report.fault(Table::Inbound, key, "the postback there names another click");
        }
        Ok(())
    })
}

fn oldest_page(view: &View<'_>) -> Result<Option<RecordKey>, EngineError> {
    let (from, to) = (keys::inbound_page(&[0; 16]), keys::inbound_pages_end());
    let read = |key: &[u8], _: &[u8]| keys::inbound_page_of(key);
    Ok(view.engine().first(Table::Inbound, &from, &to, Direction::Ascending, read)?.flatten())
}

fn page(
    view: &View<'_>,
    expired: &Expired,
    report: &mut Report,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    let rows = match decode_inbound_page(value) {
        Ok(rows) => rows,
        Err(error) => {
            report.fault(Table::Inbound, key, error.to_string());
            return Ok(());
        }
    };
    for row in rows {
        report.count(ROWS);
        if let Some(fault) = fault(view, expired, &row.head)? {
            report.fault(Table::Inbound, key, fault);
        }
    }
    Ok(())
}

fn fault(
    view: &View<'_>,
    expired: &Expired,
    head: &InboundHead<'_>,
) -> Result<Option<&'static str>, EngineError> {
    let Some(result) = head.result() else { return Ok(Some("a result is unknown")) };
    if InboundForm::from_code(head.form).is_none() {
        return Ok(Some("a method is unknown"));
    }
    let Some(conversion) = head.conversion else {
        return Ok(result.is_effective().then_some("a postback names no conversion that it made"));
    };
    if conversion < expired.conversions {
        return Ok(None);
    }
    let is_there = view.get(Table::Conversions, &conversion)?.is_some();
    Ok((!is_there).then_some("a postback names a conversion that is not there"))
}
