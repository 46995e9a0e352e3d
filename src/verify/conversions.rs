//! Conversions, and the rows that lead to them: each has its rows, and each row its conversion.

use std::ops::ControlFlow;

use super::{Report, VerifyError};
use crate::click_id::RecordId;
use crate::model::currency::Currency;
use crate::store::claim::{Claim, ClaimSet};
use crate::store::engine::EngineError;
use crate::store::keys::{self, DedupeKey};
use crate::store::postings::{Balances, postings};
use crate::store::records::{
    Binding, ConversionRecord, EarnedInBase, HistoryEntry, RecordError, decode_dedupe,
    has_base_booked,
};
use crate::store::schema::Table;
use crate::store::{Expired, View};

/// What a row leads to.
enum Led {
    /// A conversion that leads back to it.
    Right,
    /// Nothing any more, because retention has let it go.
    Expired,
    /// Something else.
    Wrong(&'static str),
}

/// Walks over the conversions; returns the balances that they come to by their histories, as far
/// as they must be in the ledger.
pub fn walk(view: &View<'_>, report: &mut Report) -> Result<Balances, VerifyError> {
    let mut walk = Walk { view, report, booked: Balances::default() };
    each(view, Table::Conversions, &mut |key, value| {
        walk.report.count(Table::Conversions.name());
        let Some(id) = keys::record(key) else {
            walk.report.fault(Table::Conversions, key, "the key is no record ID");
            return Ok(());
        };
        match ConversionRecord::decode(value) {
            Err(error) => walk.report.fault_of(id, error.to_string()),
            Ok(record) => {
                if !is_worth_what_is_pinned(&record, has_base_booked(value)) {
                    let fault =
                        "its worth in the network's currency is not that by its pinned rate";
                    walk.report.fault_of(id, fault);
                }
                walk.conversion(id, &record)?;
            }
        }
        Ok(())
    })?;
    Ok(walk.booked)
}

struct Walk<'w> {
    view: &'w View<'w>,
    report: &'w mut Report,
    booked: Balances,
}

impl Walk<'_> {
    fn conversion(
        &mut self,
        id: RecordId,
        record: &ConversionRecord<'_>,
    ) -> Result<(), EngineError> {
        let is_filed = *id.as_bytes() < self.view.filed_below();
        self.report.unfiled += u64::from(!is_filed);
        if record.status().is_none() {
            self.report.fault_of(id, "the status is unknown");
        }
        if record.history.last().is_some_and(|last| last.status != record.status) {
            self.report.fault_of(id, "the status is not the last of its history");
        }
        if Currency::from_bytes(record.currency).is_none() {
            self.report.fault_of(id, "the currency is unknown");
        }
        if is_filed {
            self.rows(id, record)?;
        }
        for posting in postings(id, record) {
            let is_there = self.view.get(Table::Ledger, &posting.key.encode())?.is_some();
            if is_there {
                self.booked.add(&posting.record);
            } else if is_filed {
                let fault = format!("step {} is not in the ledger", posting.key.step);
                self.report.fault_of(id, fault);
                self.booked.add(&posting.record);
            }
        }
        Ok(())
    }

    /// The rows that lead to a conversion once it is filed.
    fn rows(&mut self, id: RecordId, record: &ConversionRecord<'_>) -> Result<(), EngineError> {
        for claim in ClaimSet::of_record(record).hard() {
            let found = self.view.get(Table::Dedupe, &claim.store_key().0)?;
            match found.map(|value| decode_dedupe(&value)) {
                None => self.report.fault_of(id, "has no dedupe entry"),
                Some(Ok(named)) if named < id && !self.is_hidden_by(named, &claim, record)? => {
                    self.report.fault_of(id, "its dedupe entry names an older conversion");
                }
                // Whether a newer one holds the claim, and whether it decodes, its row will say.
                Some(_) => {}
            }
        }
        let click = RecordId::from_bytes(record.click);
        if self.view.get(Table::ByClick, &keys::by_click(click, id))?.is_none() {
            self.report.fault_of(id, "has no row in by_click");
        }
        let Some(customer) = Claim::customer_of(record) else { return Ok(()) };
        let key = keys::of_customer(customer.store_key(), id);
        if self.view.get(Table::Customers, &key)?.is_none() {
            self.report.fault_of(id, "has no row in customers");
        }
        if ClaimSet::of_record(record).binds() {
            let found = self.view.get(Table::Customers, &customer.store_key().0)?;
            match found.map(|value| Binding::decode(&value)) {
                None => self.report.fault_of(id, "has bound its customer, and there is no binding"),
                Some(Ok(named)) if named.conversion < id => {
                    self.report.fault_of(id, "its customer's binding names an older conversion");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether a conversion that was judged again leaves the claim of an event that may be repeated
    /// to an older one, which was received later and committed later.
    fn is_hidden_by(
        &self,
        older: RecordId,
        claim: &Claim<'_>,
        record: &ConversionRecord<'_>,
    ) -> Result<bool, EngineError> {
        if !matches!(claim, Claim::Event { .. }) || !record.is_from_log() {
            return Ok(false);
        }
        let older = self.view.conversion(older)?;
        let received_ms = older.and_then(|older| Some(older.record().ok()?.received_ms));
        Ok(received_ms.is_some_and(|received_ms| received_ms > record.received_ms))
    }
}

/// Whether what a conversion has earned and what its last step has booked are, in the network's
/// currency, what the pinned rate makes of them. Older records have nothing booked in it.
fn is_worth_what_is_pinned(record: &ConversionRecord<'_>, is_base_booked: bool) -> bool {
    let base = record.exchanged.as_ref().and_then(|exchanged| exchanged.base);
    let worth = |revenue, payout| base.and_then(|base| base.of(revenue, payout));
    let priced = base.map(|base| EarnedInBase {
        currency: base.currency,
        revenue: base.revenue,
        payout: base.payout,
    });
    let is_booked = |last: &HistoryEntry<'_>| {
        last.booked_base == worth(last.booked_revenue, last.booked_payout)
    };
    priced == worth(record.revenue, record.payout)
        && (!is_base_booked || record.history.last().is_none_or(is_booked))
}

/// Walks over the dedupe entries.
pub fn walk_dedupe(
    view: &View<'_>,
    expired: &Expired,
    report: &mut Report,
) -> Result<(), VerifyError> {
    each(view, Table::Dedupe, &mut |key, value| {
        report.count(Table::Dedupe.name());
        let led = match (key.try_into().map(DedupeKey), decode_dedupe(value)) {
            (Err(_), _) => Led::Wrong("the key is no claim"),
            (_, Err(_)) => Led::Wrong("the value names no conversion"),
            (Ok(claim), Ok(id)) => {
                leads_to(view, expired, id, &mut |record| {
                    // Records of version 1 do not say what they claim.
                    let claims = ClaimSet::of_record(record);
                    record.claims == 0 || claims.hard().any(|held| held.store_key() == claim)
                })?
            }
        };
        report.led(Table::Dedupe, key, &led);
        Ok(())
    })
}

/// Walks over the index from clicks to conversions.
pub fn walk_by_click(
    view: &View<'_>,
    expired: &Expired,
    report: &mut Report,
) -> Result<(), VerifyError> {
    each(view, Table::ByClick, &mut |key, value| {
        report.count(Table::ByClick.name());
        let click = key.get(..keys::RECORD_KEY_BYTES).and_then(keys::record);
        let led = match (click, keys::conversion_of(key)) {
            (Some(click), Some(id)) if value.is_empty() => {
                leads_to(view, expired, id, &mut |record| record.click == *click.as_bytes())?
            }
            _ => Led::Wrong("is no row from a click to a conversion"),
        };
        report.led(Table::ByClick, key, &led);
        Ok(())
    })
}

/// Walks over customers: their bindings, and the index from them to conversions.
pub fn walk_customers(
    view: &View<'_>,
    expired: &Expired,
    report: &mut Report,
) -> Result<(), VerifyError> {
    each(view, Table::Customers, &mut |key, value| {
        report.count(Table::Customers.name());
        let names = |record: &ConversionRecord<'_>, customer: DedupeKey| {
            Claim::customer_of(record).is_some_and(|named| named.store_key() == customer)
        };
        let led = if let Some((customer, id)) = keys::customer_and_conversion(key) {
            if value.is_empty() {
                leads_to(view, expired, id, &mut |record| names(record, customer))?
            } else {
                Led::Wrong("is no row from a customer to a conversion")
            }
        } else {
            match (key.try_into().map(DedupeKey), Binding::decode(value)) {
                (Err(_), _) => Led::Wrong("the key is no customer"),
                (_, Err(_)) => Led::Wrong("the value is no binding"),
                (Ok(customer), Ok(Binding { conversion, click })) => {
                    leads_to(view, expired, conversion, &mut |record| {
                        names(record, customer)
                            && ClaimSet::of_record(record).binds()
                            && record.click == *click.as_bytes()
                    })?
                }
            }
        };
        report.led(Table::Customers, key, &led);
        Ok(())
    })
}

impl Report {
    fn led(&mut self, table: Table, key: &[u8], led: &Led) {
        match led {
            Led::Right => {}
            Led::Expired => self.expired += 1,
            Led::Wrong(fault) => self.fault(table, key, *fault),
        }
    }
}

/// Whether a row leads to a conversion that leads back to it.
fn leads_to(
    view: &View<'_>,
    expired: &Expired,
    id: RecordId,
    leads_back: &mut dyn FnMut(&ConversionRecord<'_>) -> bool,
) -> Result<Led, EngineError> {
    let Some(stored) = view.conversion(id)? else {
        let let_go = *id.as_bytes() < expired.conversions;
        return Ok(if let_go { Led::Expired } else { Led::Wrong("there is no such conversion") });
    };
    Ok(match stored.record() {
        Ok(record) if leads_back(&record) => Led::Right,
        Ok(_) => Led::Wrong("its conversion does not lead back to it"),
        // The conversion is named for it already.
        Err(RecordError::Corrupt | RecordError::Version(_)) => Led::Right,
    })
}

/// Looks at a row.
type Look<'l> = &'l mut dyn FnMut(&[u8], &[u8]) -> Result<(), EngineError>;

/// Shows `visit` every row of a table; its first failure ends the walk.
pub fn each(view: &View<'_>, table: Table, visit: Look<'_>) -> Result<(), VerifyError> {
    view.engine().walk(table, &[], &keys::KEY_END, |key, value| {
        visit(key, value).map(|()| ControlFlow::Continue(()))
    })?;
    Ok(())
}
