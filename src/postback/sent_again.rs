//! Whether what was signed, refused and is judged again may have been taken as it was sent again:
//! by what a conversion keeps of what its sender said.

use super::flow::Received;
use super::timestamp;
use crate::click_id::RecordId;
use crate::dedup::{Receipt, Signed};
use crate::limits::{TS_WINDOW_DEFAULT_MS, TS_WINDOW_MS_MAX};
use crate::model::currency::Currency;
use crate::model::fields::Field;
use crate::model::mask::is_masked;
use crate::model::money::Micros;
use crate::model::reasons::{AuthCheck, AuthResult, Flag};
use crate::store::records::{ConversionRecord, Exchanged};

impl Received<'_> {
    /// By when its claims are judged, and whether others may have come since.
    pub(super) fn receipt(&self) -> Receipt<'_> {
        let request = self.as_received.request;
        let Some(again) = request.again else { return Receipt::Now(self.counts_ms) };
        // The log says whether it was signed, whatever the catalog asks for by now.
        let was_signed = again.auth[AuthCheck::Signature.index()] == Some(AuthResult::Passed);
        Receipt::Past { ms: request.now_ms, signed: was_signed.then_some(self as _) }
    }

    /// As [`Signed::may_have_made`]; `is_as_it_came`: no news has changed its amounts.
    ///
    /// One that was made of the very same keeps nothing that is not said here. The same name may
    /// have had another meaning when it was made, so that what it keeps may stand under any name.
    pub(super) fn may_have_said(&self, record: &ConversionRecord<'_>, is_as_it_came: bool) -> bool {
        let has_same_names = is_as_it_came
            && record.history.len() == 1
            && record.catalog_version == self.catalog.version();
        let says = |field: Field, is_it: &dyn Fn(&str) -> bool| {
            let value = self.fields.get(field).filter(|_| has_same_names);
            value.map_or_else(|| self.says(is_it), is_it)
        };
        let says_amount = |field: Field, kept: Option<i64>| {
            let is_it = |value: &str, kept| Micros::parse(value).is_ok_and(|it| it.get() == kept);
            kept.is_none_or(|kept| says(field, &|value| is_it(value, kept)))
        };
        let says_currency = |kept| {
            let is_it = |value: &str| Currency::parse(value).is_ok_and(|it| it.to_bytes() == kept);
            says(Field::Currency, &is_it)
        };
        let says_amounts = || {
            let Exchanged { own_payout, own_revenue, .. } =
                record.exchanged.as_deref().copied().unwrap_or_default();
            says_amount(Field::Amount, record.amount)
                && says_amount(Field::Payout, own_payout)
                && says_amount(Field::Revenue, own_revenue)
                && record.amount_currency.is_none_or(says_currency)
                && record
                    .quantity
                    .is_none_or(|kept| says(Field::Quantity, &|value| value.parse() == Ok(kept)))
        };
        let said_ms = record.history.first().and_then(|first| first.said_ms());
        let is_time = |value: &str| timestamp::parse(value, record.received_ms) == said_ms;
        (!is_as_it_came || says_amounts())
            && (record.customer_id.is_empty()
                || says(Field::CustomerId, &|value| value == record.customer_id))
            && (said_ms.is_none() || says(Field::Timestamp, &is_time))
            && self.may_have_said_params(record)
    }

    /// Whether nothing in a conversion's parameters contradicts those here. One that is missing on
    /// either side may have been left out there.
    fn may_have_said_params(&self, record: &ConversionRecord<'_>) -> bool {
        // What is left of a value that was cut is another one; what was taken back is no parameter.
        if record.flags & Flag::ParametersLeftOut.bit() != 0 || record.is_negative() {
            return true;
        }
        record.params.iter().all(|(name, kept)| {
            if is_masked(kept) {
                return true;
            }
            let sub = Field::SUBS.iter().find(|sub| sub.as_str() == *name);
            if let Some(sub) = sub {
                return self.fields.get(*sub).is_none() || self.says(&|value| value == *kept);
            }
            let (mut is_said, mut is_other) = (false, false);
            self.each_said(|theirs, value| {
                let is_it = value == *kept || is_masked(value);
                is_said |= theirs == *name && is_it;
                is_other |= theirs == *name && !is_it;
            });
            is_said || !is_other
        })
    }

    /// Whether a value is among those that were said, or may be behind what was masked.
    fn says(&self, is_it: &dyn Fn(&str) -> bool) -> bool {
        let mut is_said = false;
        self.each_said(|_, value| is_said |= is_masked(value) || is_it(value));
        is_said
    }

    fn each_said(&self, mut see: impl FnMut(&str, &str)) {
        let all = self.as_received.request.each(|name, value| {
            see(&name, &value);
            Ok(())
        });
        debug_assert!(all.is_ok(), "it was read before");
    }
}

impl Signed for Received<'_> {
    /// What is signed is good for so long before the time of signing, and for so long after. The
    /// catalog of then may have had a longer time than that of today: one as long as usual, or, where
    /// nobody signs any more, any that there may be.
    fn again_within_ms(&self) -> u64 {
        let advertiser = self.catalog.advertiser(self.as_received.advertiser);
        let signatures = advertiser.and_then(|it| it.auth.as_ref()?.signatures.as_ref());
        let window_ms = signatures.map(|it| it.ts_window_ms.max(TS_WINDOW_DEFAULT_MS));
        2 * window_ms.unwrap_or(TS_WINDOW_MS_MAX)
    }

    fn may_have_made(&self, conversion: RecordId, record: &ConversionRecord<'_>) -> bool {
        self.may_have_said(record, record.is_as_it_came() && !self.would_have_changed(conversion))
    }
}
