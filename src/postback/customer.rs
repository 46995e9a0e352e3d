//! Postbacks that name a customer and no click: the customer's binding says which click it is.

use super::answer::Answer;
use super::decide::{Bound, Refused, Verdict, refuse_unresolved};
use super::flow::{PostbackRequest, Postbacks};
use super::hints;
use super::mapping::Fields;
use super::sender::Sender;
use crate::catalog::Catalog;
use crate::click_id::ClickId;
use crate::dedup::{Claim, CustomerWindows};
use crate::model::fields::Field;
use crate::model::ids::OfferNumber;
use crate::model::reasons::{Flag, Refusal};
use crate::store::ReadError;
use crate::store::engine::Lookup;
use crate::store::records::Binding;

impl CustomerWindows for Catalog {
    /// While the offer is not in the catalog, its customers stay where they are.
    fn customer_window_ms(&self, offer: OfferNumber) -> Option<u64> {
        self.offer_by_number(offer)?.customer_window_ms
    }
}

/// The customer that stands for the click, if none is named. An advertiser's customers are its
/// own, so the path must say who sends.
fn alone<'a>(
    fields: &'a Fields<'_>,
    sender: &'a Sender<'_>,
    catalog: &'a Catalog,
) -> Option<Claim<'a>> {
    if fields.get(Field::ClickId).is_some() {
        return None;
    }
    let customer_id = fields.get(Field::CustomerId).filter(|id| !id.is_empty())?;
    let advertiser = &sender.advertiser?.id;
    Some(Claim::Customer { advertiser, customer_id, windows: Some(catalog) })
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
    /// The click of the customer that is named instead of one; [`Lookup::Absent`] if a click is
    /// named, or nobody; [`Lookup::Unknown`] if memory cannot tell.
    pub(super) fn click_of_customer_now(
        &self,
        fields: &Fields<'_>,
        sender: &Sender<'_>,
        catalog: &Catalog,
        now_ms: u64,
    ) -> Result<Lookup<ClickId>, Answer> {
        let Some(customer) = alone(fields, sender, catalog) else { return Ok(Lookup::Absent) };
        refuse_unresolved(fields, sender)?;
        let holder = self.dedup.holder_now(&customer, now_ms);
        let Some(holder) = holder else { return Ok(Lookup::Unknown) };
        let click = self.store.click_of_conversion_now(holder)?;
        Ok(match click {
            Lookup::Found(click) => Lookup::Found(self.keyring.sign(click)),
            Lookup::Absent | Lookup::Unknown => Lookup::Unknown,
        })
    }

    /// As [`Postbacks::click_of_customer_now`], whatever has to be waited for, and also if the
    /// customer's window is over.
    pub(super) async fn click_of_customer(
        &self,
        fields: &Fields<'_>,
        sender: &Sender<'_>,
        catalog: &Catalog,
        request: &PostbackRequest<'_>,
    ) -> Result<Option<Bound>, Answer> {
        let now_ms = request.now_ms;
        let Some(customer) = alone(fields, sender, catalog) else { return Ok(None) };
        refuse_unresolved(fields, sender)?;
        let Some(binding) = self.dedup.binding(&self.store, &customer, now_ms).await? else {
            return Err(hints::unknown_customer(fields, sender, &self.keyring).into());
        };
        if request.again.is_some() && self.is_bound_anew(&customer, binding, now_ms).await? {
            let hint = "the customer was bound anew since this postback was received";
            return Err(Refused::with(Refusal::UnknownCustomer, hint).into());
        }
        let is_over = !customer.is_held(binding.conversion, now_ms);
        Ok(Some(Bound { click: self.keyring.sign(binding.click), is_over }))
    }

    /// Whether a customer was bound to something else before, at the time given. Of that, nothing
    /// is left.
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
        let first = self.store.conversions_of_customers([*customer].into_iter(), 1).await?;
        Ok(first
            .first()
            .is_some_and(|first| first.record().is_ok_and(|record| record.received_ms <= then_ms)))
    }
}
