//! The click that a customer is bound to.

use super::answer::Answer;
use super::decide::{Bound, Named, Refused, Verdict};
use super::flow::{PostbackRequest, Postbacks};
use crate::catalog::Catalog;
use crate::dedup::{Claim, ClaimSet, CustomerWindows};
use crate::limits::TRACE_CONVERSIONS_MAX;
use crate::model::ids::OfferNumber;
use crate::model::reasons::{Flag, Refusal};
use crate::store::ReadError;
use crate::store::engine::Lookup;
use crate::store::records::Binding;

impl CustomerWindows for Catalog {
    /// While the offer is not in the catalog, as it was last.
    fn customer_window_ms(&self, offer: OfferNumber) -> Option<u64> {
        match self.offer_by_number(offer) {
            Some(offer) => offer.customer_window_ms,
            None => self.departed(offer)?.customer_window_ms,
        }
    }
}

impl Verdict<'_> {
    /// Flags that say how the click was found, and whether its record was.
    pub(super) const fn flags_of_click(&self, has_click: bool) -> u32 {
        match (self.is_by_customer, has_click) {
            (true, _) => Flag::ByCustomer.bit(),
            (false, true) => 0,
            (false, false) => Flag::ClickRecordMissing.bit(),
        }
    }
}

impl Postbacks {
    /// The click of the customer that is named instead of one; [`Lookup::Unknown`] if memory
    /// cannot tell.
    pub(super) fn click_of_customer_now(
        &self,
        customer: &Claim<'_>,
        now_ms: u64,
    ) -> Result<Lookup<Bound>, Answer> {
        let holder = self.dedup.holder_now(customer, now_ms);
        let Some(holder) = holder else { return Ok(Lookup::Unknown) };
        let click = self.store.click_of_conversion_now(holder)?;
        Ok(match click {
            Lookup::Found(click) => {
                let click = self.keyring.sign(click);
                let named = Named::Customer { is_over: false };
                Lookup::Found(Bound { click, named, takes_back: None })
            }
            Lookup::Absent | Lookup::Unknown => Lookup::Unknown,
        })
    }

    /// As [`Postbacks::click_of_customer_now`], whatever has to be waited for, and also if the
    /// customer's window is over; `None` if it was never bound.
    pub(super) async fn click_of_customer(
        &self,
        customer: &Claim<'_>,
        request: &PostbackRequest<'_>,
    ) -> Result<Option<Bound>, Answer> {
        let now_ms = request.now_ms;
        let Some(binding) = self.dedup.binding(&self.store, customer, now_ms).await? else {
            return Ok(None);
        };
        if request.again.is_some() && self.is_bound_anew(customer, binding, now_ms).await? {
            let hint = "the customer was bound anew since this postback was received";
            return Err(Refused::with(Refusal::UnknownCustomer, hint).into());
        }
        let is_over = !customer.is_held(binding.conversion, now_ms);
        let click = self.keyring.sign(binding.click);
        Ok(Some(Bound { click, named: Named::Customer { is_over }, takes_back: None }))
    }

    /// Whether a customer was bound anew since the time given: then it was bound to something else
    /// before, if only for a time in between.
    async fn is_bound_anew(
        &self,
        customer: &Claim<'_>,
        binding: Binding,
        then_ms: u64,
    ) -> Result<bool, ReadError> {
        let Some(stored) = self.store.conversion(binding.conversion).await? else {
            return Ok(false);
        };
        if stored.record()?.received_ms <= then_ms {
            return Ok(false);
        }
        // The one that binds is nearly always the first of them.
        let limit = TRACE_CONVERSIONS_MAX;
        let all = self.store.conversions_of_customers([*customer].into_iter(), limit).await?.rows;
        for older in all.iter().take_while(|older| older.id < binding.conversion) {
            if ClaimSet::of_record(&older.record()?).binds() {
                return Ok(true);
            }
        }
        // Of more nobody looks at each.
        Ok(all.len() >= limit && all.last().is_some_and(|last| last.id < binding.conversion))
    }
}
